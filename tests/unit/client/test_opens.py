"""A node is closed in the cell with the last handle of it here, and never under one that is being opened."""

from __future__ import annotations

from coordclient import opens
from coordclient.opens import Opens


def opened(table: Opens, path: str, instance: int | None) -> None:
    """A handle, from its first word to the cell to the answer."""
    table.begin(path)
    table.opened(path, instance)


def test_the_last_handle_closes_what_the_cell_keeps_alive():
    table = Opens()
    for _ in range(2):
        opened(table, "/a", 7)
    assert table.closed("/a", 7) is None
    assert table.closed("/a", 7) == 7
    opened(table, "/a", 7)
    assert table.closed("/a", 7) == 7, "and so the next time"


def test_a_permanent_node_is_not_closed_in_the_cell_and_keeps_none_alive():
    table = Opens()
    opened(table, "/a", None)
    opened(table, "/a", 7)
    assert table.closed("/a", 7) == 7


def test_a_handle_that_is_being_opened_keeps_the_node_and_closes_it_if_it_fails():
    table = Opens()
    opened(table, "/a", 7)
    table.begin("/a")
    table.begin("/a")
    assert table.closed("/a", 7) is None
    assert table.failed("/a") is None
    assert table.failed("/a") == 7, "nobody else has it open, whether its opening failed or not"


def test_a_handle_that_is_opened_while_the_last_is_closed_closes_it_in_its_turn():
    table = Opens()
    opened(table, "/a", 7)
    table.begin("/a")
    assert table.closed("/a", 7) is None
    table.opened("/a", 7)
    assert table.closed("/a", 7) == 7


def test_a_stale_handle_keeps_no_other_node_of_the_same_path_alive():
    table = Opens()
    opened(table, "/a", 7)
    opened(table, "/a", 9)
    assert table.closed("/a", 9) == 9
    assert table.closed("/a", 7) is None, "that one is gone"
    opened(table, "/a", 11)
    opened(table, "/a", 12)
    assert table.closed("/a", 11) is None
    assert table.closed("/a", 12) == 12


def test_what_was_made_without_a_handle_stays_until_the_session_ends():
    table = Opens()
    table.made("/a", 7)
    opened(table, "/a", 7)
    assert table.closed("/a", 7) is None
    opened(table, "/a", 8)
    assert table.closed("/a", 8) == 8, "it was removed since, and this is another one"


def test_what_was_made_is_remembered_within_bounds(monkeypatch):
    monkeypatch.setattr(opens, "MADE_MAX", 2)
    table = Opens()
    for number in range(3):
        table.made(f"/{number}", 7)
    for number, closed in ((0, 7), (1, None), (2, None)):
        opened(table, f"/{number}", 7)
        assert table.closed(f"/{number}", 7) == closed
