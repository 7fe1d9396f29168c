"""Replicas compare what came of the log: whoever differs from two others stops, of two both, and a lie stops nobody."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from coordd.engine import digests
from coordd.engine.inputs import PeerMessage
from coordd.paxos.messages import Digest, Message
from tests.unit.engine.cell import Cell, Node

ADDRESS = "http://h{}:7420"
SOON_MS = 6_000


def cell_of(replicas: int, **numbers: Any) -> Cell:
    cell = Cell(replicas, addresses={number: ADDRESS.format(number) for number in range(1, 10)}, **numbers)
    cell.master()
    cell.do("put", path="/a", contents=b"a", parents=False)
    cell.run(2_000)
    return cell


def add(cell: Cell, replica: int) -> Node:
    request = cell.call("add_member", replica=replica, address=ADDRESS.format(replica))
    cell.run(2_000)
    assert cell.answers[request]["changed"]
    node = cell.join(replica)
    cell.run(2_000)
    return node


def another_life(node: Node, life: int = 1) -> None:
    """From now on its history is not that of the others; two with the same `life` go on alike."""
    node.engine.machine.state.history = bytes([life]) * 16


def write(cell: Cell) -> None:
    cell.do("put", path="/a", contents=b"b", parents=False)


def stopped(cell: Cell) -> set[int]:
    return {replica for replica, node in cell.nodes.items() if node.diverged is not None}


def test_a_cell_whose_replicas_agree_goes_on_and_says_little() -> None:
    cell = cell_of(3)
    said: list[Message] = []

    def hear(sender: int, to: int, message: Message) -> bool:
        said.append(message)
        return False

    cell.dropped = hear
    cell.run(60_000)
    assert not stopped(cell) and not any(node.doubts for node in cell.nodes.values())
    assert sum(isinstance(message, Digest) for message in said) <= 3 * 2 * 7, (
        "an idle cell says the same again now and then, no more"
    )


@pytest.mark.parametrize("of_master", [False, True], ids=["a follower", "the master"])
def test_the_one_that_differs_from_two_others_stops_and_they_go_on(of_master: bool) -> None:
    cell = cell_of(3)
    sick = next(node for node in cell.nodes.values() if (node is cell.master()) == of_master)
    another_life(sick)
    write(cell)
    cell.run(SOON_MS)
    assert stopped(cell) == {sick.replica}
    assert sick.diverged is not None
    others = ", ".join(str(replica) for replica in (1, 2, 3) if replica != sick.replica)
    assert f"is not that of replicas {others}: here the history is" in sick.diverged
    assert "remove it from the cell and add it again with an empty directory under a new replica id" in sick.diverged
    assert all(node.doubts for node in cell.nodes.values()), "everybody has told what was seen"
    write(cell)


def test_in_an_idle_cell_a_replica_that_comes_back_different_is_found_too() -> None:
    cell = cell_of(3)
    sick = next(node for node in cell.nodes.values() if node is not cell.master())
    sick.crash()
    cell.run(5_000)
    sick.start()
    cell.dropped = lambda sender, to, message: isinstance(message, Digest)  # nobody hears what it says first
    cell.run(2_500)
    cell.dropped = lambda sender, to, message: False
    another_life(sick)
    sick.engine._digests.applied(sick.engine.machine.applied_upto, sick.engine.machine.history)
    cell.run(30_000)
    assert stopped(cell) == {sick.replica}


def test_of_two_both_stop() -> None:
    cell = cell_of(2)
    another_life(cell.nodes[2])
    write(cell)
    cell.run(SOON_MS)
    assert stopped(cell) == {1, 2}
    for node in cell.nodes.values():
        assert node.diverged is not None and "Nobody can say which of them is right" in node.diverged


def test_of_three_that_all_differ_all_stop() -> None:
    cell = cell_of(3)
    another_life(cell.nodes[2], 2)
    another_life(cell.nodes[3], 3)
    write(cell)
    cell.run(SOON_MS)
    assert stopped(cell) == {1, 2, 3}


def test_two_of_five_with_the_same_wrong_state_stop_not_the_three() -> None:
    cell = cell_of(5)
    for replica in (4, 5):
        another_life(cell.nodes[replica])
    write(cell)
    cell.run(SOON_MS)
    assert stopped(cell) == {4, 5}


def test_two_against_two_all_stop() -> None:
    cell = cell_of(4)
    for replica in (3, 4):
        another_life(cell.nodes[replica])
    write(cell)
    cell.run(SOON_MS)
    assert stopped(cell) == {1, 2, 3, 4}


def test_with_one_of_three_away_nobody_stops_until_it_can_judge() -> None:
    cell = cell_of(3)
    sick, judge = [node for node in cell.nodes.values() if node is not cell.master()]
    judge.crash()
    another_life(sick)
    write(cell)
    cell.run(30_000)
    assert not stopped(cell) and sick.doubts and cell.master().doubts
    assert cell.master().engine.status(cell.now_ms)["differs_from"] == [sick.replica]
    judge.start()
    cell.run(SOON_MS)
    assert stopped(cell) == {sick.replica}
    cell.run(2_000)
    assert cell.master().engine.status(cell.now_ms)["differs_from"] == []


def test_a_learner_that_differs_stops_and_nobody_else() -> None:
    cell = cell_of(1)
    learner = add(cell, 2)
    another_life(learner)
    write(cell)
    cell.run(SOON_MS)
    assert stopped(cell) == {2}
    assert learner.diverged is not None and "It must not serve" in learner.diverged
    assert cell.nodes[1].doubts


def test_a_learner_does_not_take_the_word_of_one_voter_of_three() -> None:
    cell = cell_of(3)
    learner = add(cell, 4)
    one = next(node for node in cell.nodes.values() if node.replica < 4 and node is not cell.master())
    cell.dropped = lambda sender, to, message: isinstance(message, Digest) and one.replica not in (sender, to)
    another_life(learner)
    write(cell)
    cell.run(SOON_MS)
    assert not stopped(cell) and learner.doubts
    cell.dropped = lambda sender, to, message: False
    cell.run(SOON_MS)
    assert stopped(cell) == {4}


def test_two_that_agree_are_enough_though_others_are_away() -> None:
    cell = cell_of(5)
    away = [node for node in cell.nodes.values() if node is not cell.master()][:2]
    sick = next(node for node in cell.nodes.values() if node is not cell.master() and node not in away)
    for node in away:
        node.crash()
    another_life(sick)
    write(cell)
    cell.run(SOON_MS)
    assert stopped(cell) == {sick.replica}


def lie(cell: Cell, sender: Node, to: Node) -> None:
    core = sender.engine.replica
    message = Digest(*core.state.header(), slot=core.chosen_upto, digest=b"x" * 16)
    to.inbox.append(PeerMessage(message))


@pytest.mark.parametrize("replicas", [2, 3])
def test_a_single_wrong_message_stops_nobody(replicas: int) -> None:
    cell = cell_of(replicas)
    for _ in range(5):
        for sender in cell.nodes.values():
            for to in cell.nodes.values():
                if to is not sender:
                    lie(cell, sender, to)
                    cell.run(2 * digests.PERIOD_MS + 500)
    assert not stopped(cell)


def test_a_replica_that_is_behind_compares_when_it_has_come_so_far() -> None:
    cell = cell_of(3)
    sick = next(node for node in cell.nodes.values() if node is not cell.master())
    sick.paused = True
    for _ in range(50):
        write(cell)
    cell.run(3_000)
    another_life(sick)
    sick.paused = False
    cell.run(SOON_MS)
    assert stopped(cell) == {sick.replica}


def test_a_replica_that_takes_a_snapshot_compares_from_there_on() -> None:
    cell = cell_of(3, snapshot_log_bytes=1_000)
    behind = next(node for node in cell.nodes.values() if node is not cell.master())
    behind.crash()
    for _ in range(1_300):  # more than a master keeps for followers that are a little behind
        write(cell)
    behind.start()
    cell.run(5_000)
    assert behind.disk.snapshot is not None
    assert behind.engine.machine.applied_upto == cell.master().engine.machine.applied_upto
    assert behind.engine.machine.history == cell.master().engine.machine.history
    another_life(behind)
    write(cell)
    cell.run(SOON_MS)
    assert stopped(cell) == {behind.replica}


def test_behind_a_snapshot_nothing_older_is_known_or_said() -> None:
    node = cell_of(3).nodes[1]
    books, now_ms = node.engine._digests, node.cell.now_ms
    old = books._upto
    books.restored(old + 100, b"n" * 16)
    books.heard(Digest(2, 1, node.engine.replica.ballot, slot=old, digest=b"x" * 16))
    assert books.look(now_ms + digests.PERIOD_MS) is None and not books._voices
    said = [message for _, message in node.step().send_now if isinstance(message, Digest)]
    assert {(message.slot, message.digest) for message in said} == {(old + 100, b"n" * 16)}


def test_what_no_answer_shows_is_found_within_a_round_of_the_state() -> None:
    cell = cell_of(3)
    sick = next(node for node in cell.nodes.values() if node is not cell.master())
    sick.engine.machine.state.nodes["/a"].created_ms += 1
    for _ in range(200):
        write(cell)
        cell.run(50)
    assert stopped(cell) == {sick.replica}


def test_whoever_is_no_member_is_not_asked() -> None:
    cell = cell_of(3)
    core = cell.nodes[1].engine.replica
    stranger = replace(Digest(*core.state.header(), slot=core.chosen_upto, digest=b"x" * 16), sender=9)
    for node in cell.nodes.values():
        node.inbox.append(PeerMessage(stranger))
    cell.run(3_000)
    assert not any(node.doubts for node in cell.nodes.values())


def test_memory_is_bounded_whatever_a_peer_says() -> None:
    cell = cell_of(3)
    node = cell.nodes[1]
    core = cell.nodes[2].engine.replica
    for slot in range(1, 3_000):
        node.inbox.append(PeerMessage(Digest(*core.state.header(), slot=slot, digest=b"x" * 16)))
    node.step()
    node.step()
    books = node.engine._digests
    assert len(books._voices) <= digests.SLOTS_MAX
    assert all(len(said) <= digests.HEARD_MAX for said in books._early.values())
    for _ in range(5_000):
        books.applied(books._upto + 1, bytes(16))
    assert len(books._histories) == digests.RECENT_SLOTS


def test_about_a_slot_that_lies_too_far_back_at_the_judgement_nobody_is_judged(monkeypatch: pytest.MonkeyPatch) -> None:
    node = cell_of(3).nodes[1]
    books, now_ms = node.engine._digests, node.cell.now_ms
    monkeypatch.setattr(digests, "RECENT_SLOTS", 3)
    slot = books._upto
    books.look(now_ms + digests.PERIOD_MS)
    for peer in (2, 3):
        books.heard(Digest(peer, 1, node.engine.replica.ballot, slot=slot, digest=b"x" * 16))
    books.look(now_ms + digests.PERIOD_MS)
    assert set(books._voices[slot]) == {2, 3}
    for later in range(slot + 1, slot + 5):
        books.applied(later, b"h" * 16)
    assert books.look(now_ms + 2 * digests.PERIOD_MS) is None and books.differing == ()
