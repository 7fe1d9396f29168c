"""Snapshots: when one is taken, what is cut, what a replica that is far behind gets, and what a restart finds."""

from __future__ import annotations

from coordd.engine.effects import TakeSnapshot
from coordd.engine.inputs import (
    HandOverRequest,
    Input,
    PeerMessage,
    SnapshotDropped,
    SnapshotFailed,
    SnapshotReceived,
    SnapshotTaken,
)
from coordd.paxos.messages import Learned
from tests.unit.engine.cell import Cell, Node

KIB = 1_024


def write(cell: Cell, count: int, size: int = KIB) -> None:
    for turn in range(count):
        assert cell.do("put", path=f"/f{turn % 5}", contents=bytes([turn % 251]) * size)["stat"]


def hold_snapshots(node: Node) -> list[TakeSnapshot]:
    """From now on the engine's wish for a snapshot is only noted."""
    node.wishes = []
    return node.wishes


def cell_with_one_behind() -> tuple[Cell, Node]:
    """A cell that has cut away, in memory too, what one of its replicas lacks."""
    cell = Cell(3, snapshot_log_bytes=1_024 * KIB)
    master = cell.master()
    behind = next(node for node in cell.nodes.values() if node is not master)
    cell.isolate(behind.replica)
    write(cell, 28, 200 * KIB)
    return cell, behind


def test_a_snapshot_is_asked_for_once_when_the_log_has_grown_enough():
    cell = Cell(snapshot_log_bytes=10 * KIB)
    asked = hold_snapshots(cell.master())
    write(cell, 8)
    assert asked == []
    write(cell, 40)
    (wish,) = asked
    assert wish.slot <= cell.master().engine.replica.chosen_upto
    assert wish.membership == cell.master().engine.replica.membership


def test_what_was_chosen_before_a_peers_snapshot_in_the_same_turn_is_applied_first():
    cell = Cell(3)
    master = cell.master()
    behind = next(node for node in cell.nodes.values() if node is not master)
    cell.isolate(behind.replica)
    write(cell, 3)
    source, first = master.engine.replica, behind.engine.replica.chosen_upto + 1
    values = (source.state.log.entries[first][1],)
    learned = Learned(*source.state.header(), first_slot=first, values=values, chosen_upto=first)
    received = SnapshotReceived(source.chosen_upto, 100, source.membership, master.engine.machine.snapshot())
    behind.engine.step([PeerMessage(learned), received], cell.now_ms, 0, bytes(32))
    assert behind.engine.machine.applied_upto == source.chosen_upto > first


def test_when_it_is_durable_the_log_is_cut_and_the_next_one_counts_from_there():
    cell = Cell(snapshot_log_bytes=10 * KIB)
    node = cell.master()
    asked = hold_snapshots(node)
    write(cell, 15)
    (wish,) = asked
    effects = node.engine.step([SnapshotTaken(wish.slot, 123)], cell.now_ms, 0, bytes(32))
    assert effects.cut is not None and effects.cut.upto == wish.slot
    assert node.engine.replica.snapshot_slot == wish.slot
    write(cell, 20)
    assert len(asked) == 2 and asked[1].slot > wish.slot


def test_one_that_failed_cuts_nothing_and_a_later_one_is_tried():
    cell = Cell(snapshot_log_bytes=10 * KIB)
    node = cell.master()
    asked = hold_snapshots(node)
    write(cell, 15)
    effects = node.engine.step([SnapshotFailed(asked[0].slot, "no space")], cell.now_ms, 0, bytes(32))
    assert effects.cut is None and node.engine.replica.snapshot_slot == 0
    write(cell, 20)
    assert len(asked) == 2


def test_a_replica_far_behind_gets_a_snapshot_and_goes_on_from_there():
    cell, behind = cell_with_one_behind()
    master = cell.master()
    assert master.engine.replica.log_first_slot > behind.engine.replica.chosen_upto + 1
    cell.heal()
    cell.until(lambda: behind.engine.replica.chosen_upto == cell.master().engine.replica.chosen_upto)
    assert behind.engine.replica.snapshot_slot > 0
    assert behind.engine.machine.digest() == cell.master().engine.machine.digest()
    write(cell, 3)
    cell.run(500)
    assert behind.engine.machine.digest() == cell.master().engine.machine.digest()
    master.inbox.append(HandOverRequest(behind.replica))
    cell.run(100)
    assert cell.master() is behind
    assert len(cell.do("ls", behind, path="/")["entries"]) == 5, "it serves from what it was given"


def test_a_snapshot_overtaken_on_its_way_changes_no_state_but_is_the_one_to_offer():
    cell = Cell(3)
    master = cell.master()
    write(cell, 3)
    follower = next(node for node in cell.nodes.values() if node is not master)
    old_slot, old = follower.engine.machine.applied_upto, follower.engine.snapshot_state()
    write(cell, 3)
    cell.run(500)
    before = follower.engine.machine.digest()
    membership = follower.engine.replica.membership
    follower.disk.snapshot = (old_slot, membership, old)
    effects = follower.step(SnapshotReceived(old_slot, len(old), membership, old))
    assert follower.engine.machine.digest() == before
    # The store keeps one snapshot, and it keeps the newest: what is offered to a peer must be what can be read there.
    assert follower.engine.replica.snapshot_slot == old_slot
    assert effects.cut is not None and effects.cut.upto == old_slot


def test_an_incoming_snapshot_that_is_damaged_is_asked_for_again():
    cell, behind = cell_with_one_behind()
    damaged: list[int] = []

    def damaging(item: Input) -> Input:
        if isinstance(item, SnapshotReceived) and not damaged:
            damaged.append(item.slot)
            return SnapshotDropped(item.slot)
        return item

    behind.rewrite = damaging
    cell.heal()
    cell.until(lambda: behind.engine.replica.chosen_upto == cell.master().engine.replica.chosen_upto)
    assert damaged and behind.engine.machine.digest() == cell.master().engine.machine.digest()


def test_a_restart_begins_at_the_snapshot_and_applies_what_the_log_says_is_chosen():
    cell = Cell(snapshot_log_bytes=10 * KIB)
    client = cell.open()
    client.do("put", path="/mine", contents=b"x")
    number = client.number
    write(cell, 30)
    node = cell.master()
    upto, digest = node.engine.replica.chosen_upto, node.engine.machine.digest()
    assert node.disk.snapshot is not None
    node.crash()
    node.start()
    assert node.engine.machine.applied_upto == node.disk.snapshot[0] < upto
    cell.run(0)
    cell.master()
    client.attach()
    again = client.do("put", number=number, path="/mine", contents=b"y")
    assert again["stat"]["size"] == 1 and cell.do("get", path="/mine")["contents"] == b"x", "once, over a restart"
    assert digest != node.engine.machine.digest(), "the epoch is a new one"
