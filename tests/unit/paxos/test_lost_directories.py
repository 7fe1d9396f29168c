"""A replica that begins anew with an empty directory is refused by whoever has ever heard of it, even when all were
restarted meanwhile; and a replica of another cell of the same name ends nobody."""

from __future__ import annotations

from copy import deepcopy

from coordd.paxos import messages as m
from coordd.paxos.ballot import ZERO, Ballot
from coordd.paxos.effects import PeersRecord
from coordd.paxos.starts import COUNT_MAX, MARK_MAX, count_of, mark_of, start_number, start_text
from coordd.paxos.state import PEERS_MAX
from coordd.transport.wire import decode_message, encode_message
from tests.unit.paxos.cell import LEASE_MS, Cell
from tests.unit.paxos.test_late_messages import kinds, told
from tests.unit.paxos.test_membership_edges import add


def restart(cell: Cell, *replicas: int) -> None:
    for replica in tuple(cell.replicas):
        cell.crash(replica)
    cell.wire.clear()
    for replica in replicas:
        cell.boot(replica)


def run(cell: Cell, *replicas: int, for_ms: int) -> None:
    """Time passes; a replica that must stop has ended."""
    alive = list(replicas)
    for _ in range(for_ms // 50):
        cell.run(*alive, for_ms=50)
        for replica in [one for one in alive if one in cell.stopped]:
            cell.crash(replica)
            alive.remove(replica)


# ---- a directory is lost at a restart of all ----


def test_a_directory_lost_at_a_restart_of_all_is_refused_and_nothing_acknowledged_is_lost() -> None:
    """2 has heard the Hello of 3 and nothing else of it: what 3 accepted it said to the master alone."""
    cell = Cell(3)
    cell.elect(1)
    slot = cell.propose(1, b"acknowledged")
    cell.settle(1, 3)
    assert cell[1].chosen_upto == slot and cell[2].chosen_upto < slot
    restart(cell)
    cell.lose_disk(3)
    for replica in (2, 3):
        cell.boot(replica)
    run(cell, 2, 3, for_ms=LEASE_MS * 4)
    assert "went back in time: replica 2 remembers start 1 with directory 00000000" in cell.stopped[3]
    assert "here are start 1 with directory 00000001" in cell.stopped[3] and "mount" in cell.stopped[3]
    assert not cell.serves(2)
    cell.boot(1)
    cell.run(1, 2, for_ms=LEASE_MS * 4)
    assert cell.value(2, slot) == b"acknowledged"


def test_an_empty_directory_is_refused_however_often_it_was_started_before_anybody_heard_of_it() -> None:
    cell = Cell(3)
    cell.elect(1)
    restart(cell)
    cell.lose_disk(3)
    for _ in range(5):
        cell.boot(3)
        cell.tick(3)
        cell.crash(3)
    restart(cell, 1, 2, 3)
    assert count_of(cell[3].state.start) > count_of(cell[1].state.known_start(3))
    run(cell, 1, 2, 3, for_ms=1000)
    assert 3 in cell.stopped


def test_an_old_copy_of_a_directory_is_refused_after_a_restart_of_all() -> None:
    cell = Cell(3)
    cell.elect(1)
    copy = deepcopy(cell.disks[3])
    for _ in range(3):
        restart(cell, 1, 2, 3)
        cell.run(for_ms=1000)
    restart(cell)
    cell.disks[3] = copy
    del cell._summaries[3]
    for replica in (1, 2, 3):
        cell.boot(replica)
    run(cell, 1, 2, 3, for_ms=1000)
    assert "went back in time" in cell.stopped[3] and "mount" not in cell.stopped[3]


def test_a_new_cell_begins_whenever_its_replicas_are_first_started() -> None:
    cell = Cell(3)
    for replica in (2, 3):
        cell.crash(replica)
        cell.lose_disk(replica)  # was never there
    cell.run(1, for_ms=LEASE_MS)
    cell.boot(2)
    for _ in range(4):
        cell.boot(3)  # many starts, of which nobody hears
        cell.tick(3)
        cell.wire.clear()
    cell.run(1, 2, for_ms=LEASE_MS * 3)
    assert cell.serves(1) or cell.serves(2)
    cell.run(for_ms=LEASE_MS * 3)
    assert not cell.stopped and cell[3].chosen_upto == cell[1].chosen_upto


def test_a_restart_of_one_or_of_all_with_their_own_directories_refuses_nobody() -> None:
    cell = Cell(3)
    cell.elect(1)
    for replica in (2, 1):
        cell.crash(replica)
        cell.boot(replica)
        cell.run(for_ms=LEASE_MS * 3)
    for _ in range(2):
        restart(cell, 1, 2, 3)
        cell.run(for_ms=LEASE_MS * 4)
        assert any(cell.serves(replica) for replica in (1, 2, 3))
    assert not cell.stopped


# ---- how it is remembered ----


def test_a_peer_is_remembered_once_per_start_and_never_along_with_a_command() -> None:
    cell = Cell(3, sync=False)
    written: list[PeersRecord] = []

    def sync() -> None:
        for replica in (1, 2, 3):
            if replica == 1:
                effects = [record for batch in cell.unsynced[1] for record in batch.persist]
                written.extend(record for record in effects if isinstance(record, PeersRecord))
            cell.sync_disk(replica)

    for _ in range(80):
        cell.tick(after_ms=50)
        for _ in range(6):
            cell.deliver()
            sync()
    master = next(replica for replica in (1, 2, 3) if cell.serves(replica))
    before = len(written)
    assert 1 <= before <= 2, "both peers, together or one after the other"
    for number in range(20):
        cell.propose(master, b"%d" % number)
        for _ in range(6):
            cell.deliver()
            sync()
    assert len(written) == before and cell[1].chosen_upto >= 20
    cell.crash(2)
    cell.boot(2)
    for _ in range(6):
        cell.tick()
        cell.deliver()
        sync()
    assert len(written) == before + 1 and dict(written[-1].peers) == {2: 2, 3: 1}


def test_an_own_restart_writes_nothing_anew_of_peers_that_went_on() -> None:
    cell = Cell(3)
    cell.run(for_ms=600)
    cell.crash(1)
    cell.boot(1)
    cell.sync = False
    cell.tick(1)
    while cell.wire:
        cell.deliver()
        for replica in (2, 3):
            cell.sync_disk(replica)
    assert cell[1].state.known[2].heard == cell[1].state.known[3].heard == 1
    assert not [record for batch in cell.unsynced[1] for record in batch.persist if isinstance(record, PeersRecord)]


def test_nothing_of_a_directory_counts_before_it_is_remembered_durably() -> None:
    cell = Cell(3)
    cell.sync = False
    cell.tick(2)
    cell.sync_disk(2)
    cell.deliver(lambda _, to, message: to == 1)
    told(cell, 1, m.Prepare(2, 1, Ballot(3, 2)))
    assert cell[1].ballot == ZERO
    cell.sync_disk(1)
    told(cell, 1, m.Prepare(2, 1, Ballot(3, 2)))
    assert cell[1].ballot == Ballot(3, 2)


def test_a_peer_that_cannot_be_remembered_for_want_of_room_is_remembered_when_there_is_room() -> None:
    cell = Cell(3)
    cell[1].disk_full(cell.now_ms)
    cell.tick()
    cell.settle()
    assert cell.disks[1].durable.peers == () and cell[1].state.known_start(2) == 1
    cell[1].disk_has_room(cell.now_ms)
    cell.tick()
    assert cell.disks[1].durable.peers == ((2, 1), (3, 1))


def test_who_is_remembered_is_bounded_members_first() -> None:
    cell = Cell(3)
    cell.tick()
    cell.settle()
    state = cell[1].state
    highest = state.membership
    for replica in range(4, 60):
        highest = highest.with_learner(replica).without(replica)
        told(cell, 1, m.Hello(replica, 1, ZERO, log_upto=0, asks=False, remembers=0))
    state.join_membership(highest, 0)
    cell.tick(1)
    peers = cell.disks[1].durable.peers
    assert len(peers) == PEERS_MAX and {2, 3} < {peer for peer, _ in peers}
    assert min(peer for peer, _ in peers if peer > 3) == 60 - (PEERS_MAX - 2)


def test_a_start_number_tells_the_directory_and_the_count() -> None:
    start = start_number(0x1305A40C, 7)
    assert (mark_of(start), count_of(start), start_text(start)) == (0x1305A40C, 7, "7 with directory 1305a40c")


def test_every_message_of_the_largest_start_number_goes_over_the_wire() -> None:
    cell = Cell(3)
    for replica in (1, 2, 3):
        cell.crash(replica)
        cell.disks[replica].durable.start = start_number(MARK_MAX, COUNT_MAX - 1)
        cell.boot(replica)
    seen: set[type[m.Message]] = set()
    for _ in range(60):
        cell.tick(after_ms=50)
        while cell.wire:
            seen |= {type(message) for _, _, message in cell.wire}
            assert all(decode_message(encode_message(message)) == message for _, _, message in cell.wire)
            cell.deliver()
    assert {m.Hello, m.Ask, m.Willing, m.Prepare, m.Promise, m.Accept, m.Accepted, m.Heartbeat} <= seen


# ---- two directories under one id ----


def test_a_message_of_another_directory_is_not_taken_for_one_of_the_start_that_is_known() -> None:
    """It may overtake its Hello; so the number of every start tells of its directory."""
    cell = Cell(3)
    cell.tick()
    cell.settle()
    told(cell, 1, m.Prepare(3, start_number(1, 1), Ballot(9, 3)))
    assert cell[1].ballot == ZERO and not cell.wire
    told(cell, 1, m.Hello(3, start_number(1, 9), ZERO, log_upto=0, asks=False, remembers=0))
    assert kinds(cell) == {m.Regressed}
    told(cell, 1, m.Prepare(3, 1, Ballot(9, 3)))
    assert cell[1].ballot == Ballot(9, 3)


# ---- another cell of the same name and secret ----

STRAY = start_number(77, 4)  # replica 2 of an earlier cell, which is still there


def test_who_knows_another_directory_by_this_id_is_not_listened_to() -> None:
    cell = Cell(3)
    stray = (2, STRAY, Ballot(50, 2))
    told(cell, 1, m.Hello(*stray, log_upto=90, asks=False, remembers=start_number(76, 3)))
    told(cell, 1, m.Learned(*stray, first_slot=1, values=(b"\x02old",), chosen_upto=1))
    assert cell[1].chosen_upto == 0 and cell[1].state.log.upto == 0
    cell.run(for_ms=LEASE_MS)
    assert not cell.stopped and cell[1].state.known_start(2) == 1


def regressed(sender: int, start: int, known: int) -> m.Regressed:
    return m.Regressed(sender, start, ZERO, refused_start=1, known_start=known, known_ballot=ZERO, known_upto=0)


def test_the_stray_replica_of_an_earlier_cell_ends_nobody_of_a_cell_whose_members_know_each_other() -> None:
    cell = Cell(3)
    cell.tick()
    cell.settle()
    told(cell, 1, regressed(2, STRAY, start_number(76, 3)))
    told(cell, 1, regressed(4, STRAY, start_number(76, 3)))
    assert not cell.stopped


def test_a_removal_is_not_believed_of_who_knows_another_directory_by_this_id() -> None:
    cell = Cell(3)
    told(cell, 1, m.Removed(2, STRAY, ZERO, version=9, known_start=start_number(76, 3)))
    cell.tick(1)
    assert not cell.left
    told(cell, 1, m.Removed(2, 1, ZERO, version=9, known_start=1))
    cell.tick(1)
    assert cell.left == {1}


def test_a_removal_is_not_believed_of_who_never_heard_of_this_replica_while_somebody_reigns() -> None:
    cell = Cell(3)
    cell.elect(1)
    for replica in (1, 2):
        told(cell, replica, m.Removed(4, STRAY, ZERO, version=9, known_start=0))
        cell.tick(replica)
    assert not cell.left
    cell.crash(1)
    cell.run(2, for_ms=LEASE_MS * 2)
    told(cell, 2, m.Removed(4, 1, ZERO, version=9, known_start=0))
    cell.tick(2)
    assert cell.left == {2}


def test_a_removed_replica_is_told_in_the_name_of_its_own_directory() -> None:
    cell = Cell(3)
    cell.elect(1)
    add(cell, 4)
    cell.crash(2)
    cell.change_when_possible(1, cell[1].membership.without(2))
    cell.run(for_ms=2000)
    assert cell[1].dismissal(2) == (cell[1].membership.version, 1)
    restart(cell, 1, 3, 4)
    cell.run(for_ms=LEASE_MS * 4)
    assert next(filter(None, (cell[replica].dismissal(2) for replica in (1, 3, 4))))[1] == 1, "remembered durably"
