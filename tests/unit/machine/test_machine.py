"""The machine as a whole: slots, epochs, batches, and what can be logged."""

from __future__ import annotations

from typing import Any

import pytest

from coordclient.protocol.operations import OPERATIONS, Way
from coordd.machine.commands import MASTER_COMMANDS, Command, encode_batch, encode_command
from coordd.machine.machine import HANDLERS, QUERIES, Machine
from tests.unit.machine.harness import Cell


def test_the_tables_cover_every_operation_that_is_logged_or_read() -> None:
    writes = {row.name for row in OPERATIONS.values() if row.way is Way.WRITE}
    assert set(HANDLERS) == writes | set(MASTER_COMMANDS)
    assert set(QUERIES) == {row.name for row in OPERATIONS.values() if row.way is Way.READ}
    for row in OPERATIONS.values():
        if row.way is Way.WRITE:
            assert HANDLERS[row.name].needs_session == row.session, row.name


def test_slots_are_applied_in_order_each_once() -> None:
    machine = Machine("test")
    machine.skip(1)
    machine.begin_epoch(2, 1)
    arguments = {"path": "/a", "ephemeral": False, "parents": False, "if_sequencer": None}
    payload = encode_batch(1, [encode_command(Command("mkdir", 0, 0, 0, "", arguments))])
    for wrong in (1, 2, 4):
        with pytest.raises(AssertionError, match="applied after 2"):
            machine.apply_batch(wrong, payload)
        with pytest.raises(AssertionError):
            machine.skip(wrong)
    assert machine.revision == 0
    machine.apply_batch(3, payload)
    assert (machine.applied_upto, machine.revision, machine.epoch) == (3, 1, 1)


def test_an_epoch_entry_of_an_older_candidate_does_nothing() -> None:
    machine = Machine("test")
    machine.begin_epoch(1, 5)
    machine.begin_epoch(2, 3)
    assert (machine.epoch, machine.applied_upto) == (5, 2)
    machine.begin_epoch(3, 6)
    assert machine.epoch == 6


def test_commands_of_a_batch_apply_in_order_one_answer_each() -> None:
    cell = Cell()
    session, other = cell.open(), cell.open()
    applied = cell.batch(
        cell.command("acquire", session, 1, path="/a"),
        cell.command("acquire", other, 1, path="/a"),
        cell.command("release", session, 2, path="/a", hold=1),
        cell.command("release", session, 3, path="/a", hold=1),
    )
    assert [type(one.reply).__name__ for one in applied] == ["dict", "NoneType", "dict", "Refusal"]
    assert [list(one.woken) != [] for one in applied] == [False, False, True, False]


def test_every_command_that_changes_something_gets_a_revision_of_its_own() -> None:
    cell = Cell()
    revisions = [cell.machine.revision]
    session = cell.open()
    steps: list[tuple[str, dict[str, Any]]] = [
        ("put", {"path": "/a"}),
        ("create", {"path": "/b", "ephemeral": True}),
        ("mkdir", {"path": "/d"}),
        ("acquire", {"path": "/a"}),
        ("acquire", {"path": "/a"}),
        ("cancel", {"target": 5}),
        ("cancel", {"target": 999}),
        ("release", {"path": "/a", "hold": 4}),
        ("delete", {"path": "/b"}),
        ("close_session", {}),
    ]
    for number, (operation, given) in enumerate(steps, 1):
        revisions.append(cell.machine.revision)
        cell.do(operation, session, number, **given)
    revisions.append(cell.machine.revision)
    assert revisions == list(range(revisions[0], revisions[0] + len(revisions)))


def test_a_command_of_a_newer_build_stops_the_replica() -> None:
    machine = Machine("test")
    with pytest.raises(AssertionError, match="newer one wrote it"):
        machine.apply_batch(1, encode_batch(0, [encode_command(Command("fly", 0, 0, 0, "", {}))]))
    with pytest.raises(AssertionError, match="batch format 1"):
        Machine("test").apply_batch(1, b"\x93\x01\x00\x90")


def test_a_kept_refusal_holds_no_frames_in_memory() -> None:
    cell = Cell()
    session = cell.open()
    refusal = cell.refused("delete", session, 1, path="/none")
    assert refusal.__traceback__ is None and refusal.__context__ is None
