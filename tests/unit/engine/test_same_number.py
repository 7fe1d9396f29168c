"""A call number that comes again with another operation: what the first was answered is not read as the second's."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.engine.cell import Cell
from tests.unit.engine.test_time import deaf_master_outside_its_lease


@pytest.mark.parametrize(
    ("operation", "fields"),
    [
        ("open_session", {}),
        ("close_session", {}),
        ("leave_session", {}),
        ("acknowledge_kill", {}),
        ("kill_session", {"reason": "r"}),
        ("resume_session", {"secret": "s", "new_secret": "n" * 32}),
        ("unlock", {"path": "/a", "reason": "r"}),
        ("give_up", {"path": "/a", "hold": 1}),
    ],
)
@pytest.mark.parametrize("first", ["put", "acquire"])
def test_a_number_that_comes_again_with_another_operation_is_the_same_call_and_ends_no_replica(
    operation: str, fields: dict[str, Any], first: str
):
    """Outside the lease it goes through the log, and what was answered before has nothing of what this one answers."""
    cell = Cell(3)
    client, victim = cell.open(), cell.open()
    answer = client.do(first, number=7, path="/a")
    master = deaf_master_outside_its_lease(cell)
    if operation in ("kill_session", "resume_session"):
        fields = {**fields, "session": victim.session}
    request = client.cell.call(operation, master, client._about(7), **fields)
    cell.settle()
    cell.heal()
    cell.until(lambda: request in cell.answers)
    assert cell.answers[request] == answer
    assert master.engine.machine.sessions.keys() == {client.session, victim.session}


def test_a_resume_under_the_number_of_a_call_that_waits_holds_nobody_up():
    cell = Cell(3)
    holder, client, victim = cell.open(), cell.open(), cell.open()
    holder.do("acquire", path="/a")
    client.call("acquire", number=7, path="/a")
    cell.settle()
    former = cell.master()
    cell.isolate(former.replica)
    former.paused = True
    master = cell.master()
    for one in (client, victim):
        one.attach()
    deaf_master_outside_its_lease(cell)
    about = {"session": victim.session, "secret": "wrong", "new_secret": "n" * 32}
    cell.call("resume_session", master, client._about(7), **about)
    cell.settle()
    cell.cut = {(a, b) for a, b in cell.cut if former.replica in (a, b)}
    request = victim.call("put", master, path="/b")
    cell.until(lambda: request in cell.answers, 5_000)
    assert cell.answers[request]["stat"]["path"] == "/b"
