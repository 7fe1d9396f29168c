"""Sequencers: valid exactly while that hold is there, made by nobody else."""

from __future__ import annotations

import contextlib
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordclient.protocol.errors import Refusal
from coordd.machine.sequencer import CODE_BYTES
from tests.fuzz import many
from tests.unit.machine.harness import KEY, Cell


@pytest.fixture
def cell() -> Cell:
    return Cell()


def valid(cell: Cell, text: str) -> bool:
    answer = cell.query("check_sequencer", sequencer=text)
    assert set(answer) == {"valid", "reason", "revision"} and answer["valid"] == (not answer["reason"])
    return bool(answer["valid"])


def reason(cell: Cell, text: str) -> str:
    return str(cell.query("check_sequencer", sequencer=text)["reason"])


def test_it_names_format_cell_path_mode_token_and_hold(cell: Cell) -> None:
    session = cell.open()
    grant = cell.acquire(session, "/a/b", "shared")
    text = grant["sequencer"]
    assert re.fullmatch(rf"coord1:test:/a/b:shared:{grant['token']}:{session}:1:[0-9a-f]{{{2 * CODE_BYTES}}}", text)
    assert valid(cell, text)


def test_it_is_valid_until_the_release(cell: Cell) -> None:
    session = cell.open()
    text = cell.acquire(session, "/a")["sequencer"]
    cell.release(session, "/a")
    assert reason(cell, text) == "the lock was released or lost"
    assert not valid(cell, text) and valid(cell, cell.acquire(session, "/a")["sequencer"])
    assert not valid(cell, text)


def test_it_is_not_valid_once_the_session_has_expired(cell: Cell) -> None:
    session = cell.open()
    text = cell.acquire(session, "/a")["sequencer"]
    cell.expire(session)
    assert "lock-delay" in reason(cell, text)
    cell.end_lock_delay("/a", session, 1)
    assert not valid(cell, text)


def test_that_of_a_shared_holder_who_released_is_not_valid_though_the_period_goes_on(cell: Cell) -> None:
    first, second = cell.open(), cell.open()
    one = cell.acquire(first, "/a", "shared")["sequencer"]
    two = cell.acquire(second, "/a", "shared")["sequencer"]
    cell.release(first, "/a")
    assert not valid(cell, one) and valid(cell, two)


def test_paths_with_odd_characters_survive(cell: Cell) -> None:
    session = cell.open()
    for path in ("/a:b", "/per%3Acent", "/sp ace", "/grün/日本", "/semi;colon"):
        text = cell.acquire(session, path)["sequencer"]
        assert text.isascii() and " " not in text and text.count(":") == 7
        assert valid(cell, text)


def test_every_changed_character_is_noticed(cell: Cell) -> None:
    session = cell.open()
    cell.acquire(session, "/b")
    text = cell.acquire(session, "/a")["sequencer"]
    for position, character in enumerate(text):
        changed = text[:position] + ("0" if character != "0" else "1") + text[position + 1 :]
        assert not valid(cell, changed), changed


@pytest.mark.parametrize(
    "text",
    [
        "coord1",
        "coord2:test:/a:exclusive:1:1:1:00",
        "coord1:test:/a:exclusive:1:1:1",
        "coord1:test:/a:exclusive:x:1:1:00",
        "coord1:test:/a:exclusive:1:-1:1:00",
        "coord1:test:/a:exclusive:1:1:01:00",
        "coord1:test:/a:exclusive:1:1:99999999999999999999999:00",
        "coord1:other:/a:exclusive:1:1:1:00",
        "coord1:test:/a:exclusive:1:1:1:é",
        "coord1:test:/a:exclusive:1:1:1:" + "00" * 16,
        "::::::::",
        "coord1:" + ":" * 3000,
    ],
)
def test_garbage_is_not_valid(cell: Cell, text: str) -> None:
    session = cell.open()
    cell.acquire(session, "/a")
    assert not valid(cell, text)


def test_two_generations_of_keys_are_good(cell: Cell) -> None:
    session = cell.open()
    old = cell.acquire(session, "/a")["sequencer"]
    cell.master("set_sequencer_key", key=bytes(32), epoch=1)
    new = cell.acquire(session, "/b")["sequencer"]
    assert valid(cell, old) and valid(cell, new)
    cell.master("set_sequencer_key", key=b"x" * 32, epoch=1)
    assert not valid(cell, old) and valid(cell, new)


def test_a_key_of_another_cell_is_no_use(cell: Cell) -> None:
    session = cell.open()
    text = cell.acquire(session, "/a")["sequencer"]
    other = Cell(ready=False)
    other.begin_epoch(1)
    other.master("set_sequencer_key", key=KEY[::-1], epoch=1)
    assert other.open() == session
    foreign = other.acquire(session, "/a")["sequencer"]
    assert foreign.rpartition(":")[0] == text.rpartition(":")[0], "all but the code is the same"
    assert not valid(cell, foreign)
    assert not Cell(ready=False).query("check_sequencer", sequencer=text)["valid"]


def somebodys_cell() -> Cell:
    cell = Cell()
    cell.acquire(cell.open(), "/a")
    return cell


SOMEBODYS = somebodys_cell()
PARTS = st.sampled_from(
    ["coord1", "test", "/a", "%2Fa", "%", "exclusive", "shared", "1", "01", "-1", "9" * 16, "", "é"]
)


@many(300)
@given(st.text(max_size=60) | st.lists(PARTS | st.text(max_size=4), max_size=9).map(":".join))
def test_any_text_is_not_valid_and_the_reason_is_told(text: str) -> None:
    with contextlib.suppress(Refusal):  # too short, too long
        assert not valid(SOMEBODYS, text)
