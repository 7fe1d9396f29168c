"""A limit on everything: refused with `overloaded`, nothing done, and room again when something has left."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from coordclient.protocol.errors import Refusal
from coordd.engine.inputs import DiskFull, DiskHasRoom, Gone
from coordd.machine.commands import BATCH_BYTES_MAX, BATCH_COMMANDS_MAX, decode_batch
from coordd.machine.limits import LIMITS
from coordd.paxos.effects import AcceptedRecord
from coordd.paxos.state import PaxosSettings
from tests.unit.engine.cell import Cell, Node

WINDOW = PaxosSettings(1).window_slots


def codes(cell: Cell, requests: list[int]) -> list[str | None]:
    found: list[str | None] = []
    for request in requests:
        answer = cell.answers.get(request)
        found.append(answer.code if isinstance(answer, Refusal) else None)
    return found


def stuck(cell: Cell) -> Node:
    """The single replica, its window full of slots that its disk does not finish."""
    node = cell.master()
    node.disk_held = True
    for turn in range(WINDOW):
        cell.call("put", path=f"/w{turn}")
        node.step()
    return node


def test_the_queue_has_a_largest_number_of_commands():
    cell = Cell(queue_commands_max=3)
    node = stuck(cell)
    requests = [cell.call("put", path=f"/q{turn}") for turn in range(4)]
    node.step()
    assert codes(cell, requests) == [None, None, None, "overloaded"]
    node.disk_held = False
    cell.settle()
    assert cell.refused("get", path="/q3") == "not_found"
    assert cell.do("put", path="/q3")["stat"]


def test_the_queue_has_a_largest_number_of_bytes():
    cell = Cell(queue_bytes_max=2_500)
    node = stuck(cell)
    requests = [cell.call("put", path=f"/q{turn}", contents=bytes(1_000)) for turn in range(3)]
    requests.append(cell.call("put", path="/small"))
    node.step()
    assert codes(cell, requests) == [None, None, "overloaded", None]


def test_unanswered_requests_have_a_largest_number_waiting_acquires_included():
    cell = Cell(requests_max=3)
    holder, client = cell.open(), cell.open()
    holder.do("acquire", path="/l")
    waits = [client.call("acquire", path="/l") for _ in range(4)]
    cell.settle()
    assert codes(cell, waits) == [None, None, None, "overloaded"]
    kept = holder.keep_alive()
    cell.settle()
    assert cell.answers[kept]["lease_ms"], "nobody's session ends because others wait"
    assert cell.do("stat", path="/l")["stat"]
    cell.master().inbox.append(Gone((waits[0],)))
    assert client.do("put", path="/a")["stat"]


def test_waiting_acquires_leave_room_for_the_release_that_they_wait_for():
    cell = Cell(requests_max=4)
    holder, client = cell.open(), cell.open()
    hold = holder.do("acquire", path="/l")
    waits = [client.call("acquire", path="/l") for _ in range(4)]
    cell.settle()
    assert codes(cell, waits) == [None, None, None, "overloaded"]
    kept = holder.keep_alive(hold_ms=3_000)
    cell.settle()
    assert cell.answers[kept]["lease_ms"], "a KeepAlive that is held would take that room"
    assert holder.do("release", path="/l", hold=hold["hold"])
    assert cell.answers[waits[0]]["token"]


def test_calls_that_wait_for_a_round_have_a_largest_number_and_size():
    cell = Cell(3, waiting_calls_max=2, waiting_bytes_max=10_000)
    master = cell.master()
    cell.cut |= {(replica, master.replica) for replica in cell.nodes}
    cell.until(lambda: not master.engine.replica.lease_valid(cell.now_ms))
    big = cell.call("put", master, path="/a", contents=bytes(20_000), session=5, call=1, secret="wrong")
    requests = [cell.call("get", master, path="/") for _ in range(3)]
    master.step()
    assert codes(cell, [big, *requests]) == ["overloaded", None, None, "overloaded"]
    cell.heal()
    cell.run(300)
    assert len(master.engine._mastership.waiting) == 0 and not master.engine._mastership.calls.open


def test_a_batch_is_bounded_in_commands_and_in_bytes():
    cell = Cell()
    node = cell.master()
    seen = node.engine.replica.chosen_upto
    requests = [cell.call("put", path=f"/n{turn}") for turn in range(BATCH_COMMANDS_MAX + 10)]
    requests += [cell.call("put", path=f"/b{turn}", contents=bytes(200_000)) for turn in range(12)]
    cell.settle()
    assert all("stat" in cell.answers[request] for request in requests)
    values = [r.value for r in node.disk.records if isinstance(r, AcceptedRecord) and r.slot > seen]
    sizes = [(len(decode_batch(value[1:])[1]), len(value)) for value in values]
    assert max(count for count, _ in sizes) == BATCH_COMMANDS_MAX
    assert all(size <= BATCH_BYTES_MAX for _, size in sizes)
    assert len(sizes) == 4


def work_of_batches(cell: Cell) -> list[list[int]]:
    """For each batch that is made of what comes now and waits for the disk: the steps of its commands."""
    node = cell.master()
    seen = node.engine.replica.chosen_upto + WINDOW
    node.step()
    node.disk_held = False
    cell.settle()
    values = [r.value for r in node.disk.records if isinstance(r, AcceptedRecord) and r.slot > seen]
    batches: list[list[Any]] = [[command.arguments for command in decode_batch(value[1:])[1]] for value in values]
    return [
        [max(1, *(len(args.get(name, ())) for name in ("then", "else", "locks"))) for args in batch]
        for batch in batches
    ]


def test_a_batch_is_bounded_in_steps_of_transactions():
    """A batch is applied in one go: bounded by bytes alone it had 11,000 steps, and the master was deaf for 0.2 s."""
    cell = Cell()
    stuck(cell)
    steps = [{"do": "put", "path": f"/{number}", "contents": b""} for number in range(128)]
    requests = [cell.call("txn", guards=[], then=steps) for _ in range(6)]
    unlikely: dict[str, Any] = {"guards": [{"path": "/", "exists": False}], "then": steps[:1], "else": steps[1:100]}
    requests += [cell.call("txn", **unlikely)]
    requests += [cell.call("txn", guards=[], then=[]), *(cell.call("put", path="/a") for _ in range(300))]
    work = work_of_batches(cell)
    assert all("revision" in cell.answers[request] for request in requests[:8])
    assert work == [[128] * 4, [128, 128, 99, 1] + [1] * 156, [1] * 144], "in their order, and as many as fit"


def test_a_batch_is_bounded_in_locks_that_are_acquired_together():
    cell = Cell()
    clients = [cell.open() for _ in range(12)]
    stuck(cell)
    names = [[{"path": f"/{at}-{number}"} for number in range(64)] for at in range(len(clients))]
    requests = [client.call("acquire_all", locks=locks) for client, locks in zip(clients, names, strict=True)]
    assert work_of_batches(cell) == [[64] * 8, [64] * 4]
    assert all(len(cell.answers[request]["locks"]) == 64 for request in requests)


def test_a_transaction_of_more_steps_than_a_batch_has_is_alone_in_one():
    cell = Cell(batch_commands_max=4, decisions_per_step_max=1)
    stuck(cell)
    steps = [{"do": "put", "path": f"/{number}", "contents": b""} for number in range(9)]
    requests = [cell.call("put", path="/a"), cell.call("txn", guards=[], then=steps), cell.call("put", path="/b")]
    assert work_of_batches(cell) == [[1], [9], [1]]
    assert cell.answers[requests[1]]["succeeded"] and cell.answers[requests[2]]["stat"]


def test_everything_that_queued_meanwhile_goes_into_one_slot():
    cell = Cell()
    node = stuck(cell)
    requests = [cell.call("put", path=f"/q{turn}") for turn in range(100)]
    for _ in range(5):
        node.step()
    before = node.engine.replica.chosen_upto + WINDOW
    node.disk_held = False
    cell.settle()
    assert node.engine.replica.chosen_upto == before + 1
    assert all("stat" in cell.answers[request] for request in requests)


def test_with_a_full_disk_a_single_replica_serves_no_more_and_does_not_fall():
    cell = Cell()
    node = cell.master()
    node.disk_held = True
    flying = cell.call("put", path="/a")
    node.step()
    node.inbox.append(DiskFull())
    after = cell.call("put", path="/b")
    cell.run(10_000)
    assert codes(cell, [flying, after]) == ["outcome_unknown", "not_master"]
    assert cell.refused("put", node, path="/c") == "unavailable"
    node.disk_held = False
    node.inbox.append(DiskHasRoom())
    assert cell.master() is node
    assert cell.do("get", path="/a")["stat"], "it had been proposed, so it may take effect"
    assert cell.refused("get", path="/b") == "not_found"


def test_with_a_full_disk_a_master_hands_over():
    cell = Cell(3)
    cell.do("put", path="/a", contents=b"x")
    old = cell.master()
    old.inbox.append(DiskFull())
    cell.run(1_000)
    new = cell.master()
    assert new is not old
    assert cell.do("put", new, path="/b")["stat"] and cell.do("get", new, path="/a")["contents"] == b"x"


def test_a_retry_a_held_keep_alive_and_a_change_of_the_cell_count_as_unanswered_too():
    cell = Cell(requests_max=4)
    client, dying = cell.open(), cell.open(lease_ms=1_000)
    node = cell.master()
    node.disk_held = True
    cell.run(1_050)
    assert node.engine._mastership.lessor.in_decision(dying.session)
    flying = client.call("put", path="/a")
    waiting = [flying, *(client.call("put", path=f"/{turn}") for turn in range(3))]
    node.step()
    retry = client.call("put", number=client.number - 3, path="/a")
    held = dying.keep_alive()
    change = cell.call("add_member", address="http://b:7420")
    node.step()
    assert codes(cell, [*waiting, retry, held, change]) == [None] * 4 + ["overloaded"] * 3
    node.disk_held = False
    cell.settle()
    assert cell.answers[flying]["stat"] and cell.do("members")["version"] == 1


def test_a_session_over_the_limit_of_sessions_is_refused_and_no_lease_begins():
    cell = Cell()
    node = cell.master()
    node.engine.machine.state.limits = replace(LIMITS, sessions=1)
    cell.open()
    assert cell.refused("open_session") == "limit"
    assert len(node.engine.machine.sessions) == 1
    cell.run(30_000)
    assert cell.open().session, "the first one ended, and nothing of the refused one is left"


def test_changes_of_the_cell_that_wait_have_a_largest_number():
    cell = Cell(addresses={1: "http://a:7420"}, changes_max=2)
    node = stuck(cell)
    requests = [cell.call("add_member", address=f"http://b{turn}:7420") for turn in range(3)]
    node.step()
    assert codes(cell, requests) == [None, None, "overloaded"]
