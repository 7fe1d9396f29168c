"""A node is closed in the cell with the last handle of it here, and never under one that is being opened."""

from __future__ import annotations

from coordclient import opens
from coordclient.opens import Opens


def test_the_last_handle_closes_what_the_cell_keeps_alive():
    table = Opens()
    for _ in range(2):
        table.begin("/a")
        table.opened("/a", 7)
    assert table.end("/a") is None
    assert table.end("/a") == 7


def test_a_permanent_node_is_not_closed_in_the_cell():
    table = Opens()
    table.begin("/a")
    assert table.end("/a") is None


def test_a_handle_that_is_being_opened_keeps_the_node_and_closes_it_if_it_fails():
    table = Opens()
    table.begin("/a")
    table.opened("/a", 7)
    table.begin("/a")
    assert table.end("/a") is None
    assert table.end("/a") == 7, "nobody else has it open, whether its opening failed or not"


def test_what_was_made_without_a_handle_stays_until_the_session_ends():
    table = Opens()
    table.made("/a", 7)
    table.begin("/a")
    table.opened("/a", 7)
    assert table.end("/a") is None
    table.begin("/a")
    table.opened("/a", 8)
    assert table.end("/a") == 8, "it was removed since, and this is another one"


def test_what_was_made_is_remembered_within_bounds(monkeypatch):
    monkeypatch.setattr(opens, "MADE_MAX", 2)
    table = Opens()
    for number in range(3):
        table.made(f"/{number}", 7)
    for number, closed in ((0, 7), (1, None), (2, None)):
        table.begin(f"/{number}")
        table.opened(f"/{number}", 7)
        assert table.end(f"/{number}") == closed
