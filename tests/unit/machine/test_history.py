"""The history: equal for equal lives, another one for ever after the smallest difference, and cheap."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from coordclient.protocol.errors import Refusal
from coordd.machine import history
from coordd.machine.commands import Command, encode_batch, encode_command
from coordd.machine.machine import Machine
from coordd.machine.state import Applied, State, Woken
from tests.unit.machine.harness import Cell, state_of


@pytest.fixture
def cell() -> Cell:
    """A state with one of everything."""
    cell = Cell()
    gone, holder, waiter = cell.open(host="alpha"), cell.open(host="beta"), cell.open()
    cell.do("put", path="/svc/config", contents=b"a file", parents=True)
    cell.acquire(gone, "/svc/delayed", lock_delay_ms=2_000)
    cell.acquire(holder, "/svc/config", "shared", actor="main")
    cell.acquire(waiter, "/svc/config", actor="worker")
    cell.do("create", waiter, cell.call(waiter), path="/svc/alive", ephemeral=True)
    cell.refused("acquire", holder, cell.call(holder), path="/svc/alive/x", wait=False)
    cell.do("mkdir", holder, cell.call(holder), path="/empty")
    cell.expire(gone)
    cell.acquire(waiter, "/gone")
    cell.release(waiter, "/gone")
    cell.acquire_all(holder, "/one", "/two")
    cell.unlock("/one")
    assert cell.machine.notices(holder)
    return cell


def put(number: int, size: int = 200) -> bytes:
    """A batch that changes nothing but one file, which has the same size ever after."""
    arguments = {"path": "/work", "contents": number.to_bytes(4, "big") * (size // 4), "parents": False}
    arguments |= {"if_generation": None, "if_absent": False, "if_sequencer": None, "if_instance": None}
    command = Command("put", 0, 0, 0, "a", arguments)
    return encode_batch(1_800_000_000_000 + number, [encode_command(command)])


def live(machine: Machine, slots: int) -> None:
    for number in range(slots):
        machine.apply_batch(machine.applied_upto + 1, put(number))


def a_round(machine: Machine) -> int:
    """So many of these slots, and every node, session and path with losses was inspected: they take turns."""
    copy = Machine.restore(machine.snapshot())
    live(copy, slots := 1)
    state = copy.state
    end = state.inspected + history.TURNS * max(len(state.nodes), len(state.sessions), len(state.losses))
    while state.inspected < end:
        live(copy, 1)
        slots += 1
    return slots


def test_whoever_comes_from_a_snapshot_has_the_history_of_those_who_lived_through_it(cell: Cell) -> None:
    other = Machine.restore(cell.machine.snapshot())
    for _ in range(40):
        for machine in (cell.machine, other):
            live(machine, 7)
            machine.skip(machine.applied_upto + 1)
        assert other.history == cell.machine.history
        other = Machine.restore(other.snapshot())
    assert other.state.inspected > 2 * (len(other.state.nodes) + len(other.state.sessions))


def _lose(state: State) -> None:
    del state.nodes["/empty"]
    assert state.nodes["/"].children is not None
    del state.nodes["/"].children["empty"]
    state.bytes -= len("/empty")


def _forget_reply(state: State) -> None:
    session = next(session for session in state.sessions.values() if session.replies)
    session.replies.popitem()


def _forget_hold(state: State) -> None:
    next(session for session in state.sessions.values() if session.holds).holds.popitem()


DAMAGE: dict[str, Callable[[State], Any]] = {
    "contents": lambda state: setattr(state.nodes["/svc/config"], "contents", b"a fjle"),
    "generation": lambda state: setattr(state.nodes["/svc"], "content_generation", 9),
    "a node forgotten": _lose,
    "owner": lambda state: setattr(state.nodes["/empty"], "owner", "mallory"),
    "an opener more": lambda state: state.nodes["/svc/alive"].openers.update({3: None}),  # type: ignore[union-attr]
    "no parent": lambda state: setattr(state.nodes["/svc/config"], "parent", None),
    "a child forgotten": lambda state: state.nodes["/svc"].children.pop("alive"),  # type: ignore[union-attr]
    "token": lambda state: setattr(state.locks["/svc/config"], "token", 99),
    "lock-delay": lambda state: setattr(next(iter(state.delayed.values())), "lock_delay_ms", 1),
    "a revoked hold": lambda state: setattr(next(iter(state.revoked.values())), "revoked", "else"),
    "what a session is told": lambda state: state.sessions[3].notices.clear(),
    "a part forgotten": lambda state: setattr(state.sessions[3], "more", 0),
    "a loss": lambda state: state.losses.update({"/svc/delayed": ()}),
    "a loss of a path without node": lambda state: state.losses.update({"/gone": state.losses["/gone"] * 2}),
    "who waits": lambda state: setattr(next(iter(state.locks["/svc/config"].waiters.values())), "actor", "else"),
    "a lease": lambda state: setattr(next(iter(state.sessions.values())), "lease_ms", 1),
    "a reply forgotten": _forget_reply,
    "a hold forgotten": _forget_hold,
    "the key": lambda state: setattr(state, "key", b"x" * 32),
    "the epoch": lambda state: setattr(state, "epoch", 77),
    "a change forgotten": lambda state: state.changes.popleft(),
    "how far changes reach back": lambda state: setattr(state, "changes_after", 1),
    "the revision": lambda state: setattr(state, "revision", state.revision + 1),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_whatever_is_wrong_in_the_state_is_in_the_history_within_a_round(cell: Cell, name: str) -> None:
    sick = Machine.restore(cell.machine.snapshot())
    DAMAGE[name](sick.state)
    slots = a_round(cell.machine)
    live(cell.machine, slots)
    live(sick, slots)
    assert cell.machine.history != sick.history, f"not seen in {slots} slots"


@pytest.mark.parametrize("index", range(9))
def test_a_change_that_is_remembered_otherwise_is_in_the_history_within_a_round(cell: Cell, index: int) -> None:
    sick = Machine.restore(cell.machine.snapshot())
    assert len(sick.state.changes) == 9
    sick.state.changes[index] = sick.state.changes[index]._replace(principal="anonymoose")
    end = cell.machine.state.inspected + 4 * len(sick.state.changes)
    while cell.machine.state.inspected < end and sick.history == cell.machine.history:
        for machine in (cell.machine, sick):
            machine.skip(machine.applied_upto + 1, bytes(200))
    assert cell.machine.history != sick.history


def test_histories_that_differed_once_differ_for_ever(cell: Cell) -> None:
    live(cell.machine, 1)
    other = Machine.restore(cell.machine.snapshot())
    cell.machine.apply_batch(cell.machine.applied_upto + 1, put(1))
    other.apply_batch(other.applied_upto + 1, put(2))
    for machine in (cell.machine, other):
        machine.apply_batch(machine.applied_upto + 1, put(3))
    *same, changes = state_of(cell.machine)
    *others, theirs = state_of(other)
    assert same == others and changes != theirs, "the same again, but for what is remembered"
    assert cell.machine.history != other.history


GRANT = {"path": "/a", "token": 7}
SEEN = [
    (b"payload", [Applied({"revision": 1})]),
    (b"payload", [Applied({"revision": 2})]),
    (b"other", [Applied({"revision": 1})]),
    (b"payload", [Applied(None)]),
    (b"payload", [Applied({"revision": 1}), Applied(None)]),
    (b"payload", [Applied(Refusal("not_found", "there is nothing at /a"))]),
    (b"payload", [Applied(Refusal("locked", "there is nothing at /a"))]),
    (b"payload", [Applied({"revision": 1}, [Woken(4, 1, GRANT)])]),
    (b"payload", [Applied({"revision": 1}, [Woken(4, 2, GRANT)])]),
    (b"payload", [Applied({"revision": 1}, [Woken(4, 2, {**GRANT, "token": 8})])]),
    (b"payload", [Applied({"revision": 1}, [Woken(4, 2, Refusal("cancelled", ""))])]),
]


def test_what_was_logged_and_answered_and_whom_it_woke_is_in_the_history() -> None:
    histories = set()
    for payload, applied in SEEN:
        state = State("test")
        history.extend(state, payload, applied)
        histories.add(state.history)
    assert len(histories) == len(SEEN)


def test_the_words_of_a_refusal_may_change_with_the_build() -> None:
    histories = set()
    for words in ("there is nothing at /a", "nothing at /a"):
        state = State("test")
        history.extend(state, b"payload", [Applied(Refusal("not_found", words))])
        histories.add(state.history)
    assert len(histories) == 1


def test_a_large_item_is_paid_for_by_many_slots(cell: Cell) -> None:
    cell.do("put", path="/large", contents=bytes(200_000))
    machine = cell.machine
    live(machine, a_round(machine))  # it was inspected
    owed, inspected = machine.state.credit, machine.state.inspected
    while machine.state.credit > -100_000:
        live(machine, 1)
    before = machine.state.inspected
    live(machine, 1_000)
    assert machine.state.inspected == before, "nothing more is inspected until the log has paid for it"
    assert inspected > 0 and owed <= 4096


def test_one_slot_inspects_only_so_much() -> None:
    state = State("test")
    history.extend(state, bytes(1_000_000))
    few = state.inspected
    history.extend(state, bytes(1_000_000))
    assert 0 < state.inspected - few <= few < 100
