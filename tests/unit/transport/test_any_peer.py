"""Whatever a peer says that is well formed, a replica goes on: it takes it, drops it, or refuses it by name."""

from __future__ import annotations

import contextlib
import random
import struct
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordclient.protocol.codec import Malformed, encode
from coordd.paxos import messages as m
from coordd.paxos.ballot import CHOSEN, ROUND_MAX, Ballot
from coordd.paxos.effects import ValueKind, is_value
from coordd.paxos.membership import Membership
from coordd.transport import wire
from coordd.transport.wire import decode_message
from tests.fuzz import many
from tests.unit.paxos.cell import Cell
from tests.unit.paxos.test_guards import candidate

WHOLES = (0, 1, 2, 3, 4, 5, 6, 7, 8, 100, 255, 256, 300, 2**31, 2**53, 2**62, 2**63 - 1, 2**63, -1)
REPLICAS = (0, 1, 2, 3, 4, 255, 256)
ROUNDS = (0, 1, 2, 3, 4, 5, 9, ROUND_MAX, ROUND_MAX + 1, 2**62, 2**63 - 1)
VALUES = (
    b"",
    b"\x09",
    b"\xff",
    bytes([ValueKind.NO_OP.value]),
    bytes([ValueKind.BATCH.value]) + b"commands",
    bytes([ValueKind.EPOCH.value]) + bytes(8),
    bytes([ValueKind.EPOCH.value]),
    bytes([ValueKind.MEMBERSHIP.value]) + Membership(2, (1, 2)).to_bytes(),
    bytes([ValueKind.MEMBERSHIP.value]) + b"not one",
)


class Chatter:
    """Draws messages in which every field has the right type, and hardly any the right value."""

    def __init__(self, seed: int) -> None:
        self.rng = rng = random.Random(seed)
        self.fields: dict[str, Callable[[], object]] = {
            "_whole": lambda: rng.choice(WHOLES),
            "_replica": lambda: rng.choice(REPLICAS),
            "_flag": lambda: rng.random() < 0.5,
            "_bytes": lambda: rng.choice([b"", b"0123", bytes(16)]),
            "_ballot": self.ballot,
            "_slots": lambda: [rng.choice(WHOLES) for _ in range(rng.randint(0, 3))],
            "_values": lambda: [rng.choice(VALUES) for _ in range(rng.randint(0, 3))],
            "_proposals": lambda: [[rng.choice(WHOLES), rng.choice(VALUES)] for _ in range(rng.randint(0, 3))],
            "_accepted": lambda: [
                [rng.choice(WHOLES), self.ballot(), rng.choice(VALUES)] for _ in range(rng.randint(0, 3))
            ],
        }

    def ballot(self) -> list[int]:
        return self.rng.choice([[self.rng.choice(ROUNDS), self.rng.choice(REPLICAS)], list(CHOSEN)])

    def message(self, cell: Cell) -> list[object]:
        number = self.rng.choice(list(wire._DECODERS))
        _, checks = wire._DECODERS[number]
        own = cell[1].ballot
        ballot = list(own) if self.rng.random() < 0.5 else self.ballot()
        start = self.rng.choice([0, 1, 1, 1, 2, 2**63 - 1])
        return [number, self.rng.choice([1, 2, 3, 4]), start, *ballot, *(self.fields[c.__name__]() for c in checks)]


def beginnings() -> dict[str, Callable[[], Cell]]:
    def elected(size: int) -> Cell:
        cell = Cell(size)
        cell.elect(1)
        return cell

    return {
        "a master of three": lambda: elected(3),
        "a master alone": lambda: elected(1),
        "a candidate of five": lambda: candidate(5),
        "a replica that has just begun": lambda: Cell(3),
    }


@pytest.mark.parametrize("beginning", beginnings())
@many(200)
@given(seed=st.integers(0, 2**64))
def test_whatever_well_formed_messages_come_a_replica_goes_on(beginning, seed):
    """Each in the role it is in by then; the invariants of its state are checked after every one."""
    cell, chatter = beginnings()[beginning](), Chatter(seed)
    for _ in range(40):
        turn = chatter.rng.random()
        if turn < 0.8:
            with contextlib.suppress(Malformed):
                cell[1].receive(decode_message(encode(chatter.message(cell))), cell.now_ms)
                cell.perform(1)
        elif turn < 0.9:
            cell.tick(after_ms=chatter.rng.choice([0, 50, 400, 2_000]))
        else:
            cell.deliver()


# ---- values of slots ----


@many(300)
@given(st.binary(max_size=60))
def test_any_bytes_are_a_membership_or_refused_by_name(data):
    try:
        membership = Membership.from_bytes(data)
    except (AssertionError, ValueError, struct.error):
        assert not is_value(bytes([ValueKind.MEMBERSHIP.value]) + data)
    else:
        assert membership.to_bytes() == data
        assert is_value(bytes([ValueKind.MEMBERSHIP.value]) + data)


@pytest.mark.parametrize(
    ("value", "good"),
    [
        (b"", False),
        (b"\x04", False),
        (b"\xff", False),
        (b"\x00", True),
        (b"\x01" + bytes(8), True),
        (b"\x01" + bytes(7), False),
        (b"\x02", True),
        (b"\x03", False),
        (b"\x03" + Membership(2, (1, 2, 3)).to_bytes(), True),
        (b"\x03" + Membership(2, (1, 2, 3)).to_bytes() + b"\0", False),
    ],
)
def test_a_value_that_no_replica_could_apply_is_malformed_wherever_it_is_carried(value, good):
    """It would be chosen, and end every replica, again at each start."""
    head = [2, 7, 3, 2]
    for array in (
        [6, *head, 40, 0, 1, [[41, [2, 1], value]], 0],
        [7, *head, 10, 40, [[41, value]], False],
        [14, *head, 12, [value], 43],
    ):
        try:
            decode_message(encode(array))
        except Malformed as error:
            assert not good and "no slot holds" in str(error)
        else:
            assert good


@pytest.mark.parametrize("ballot", [Ballot(ROUND_MAX + 1, 1), Ballot(2**62, 1), Ballot(2**63 - 1, 255)])
def test_a_ballot_that_no_election_comes_to_is_malformed(ballot):
    """One above all real ones would keep every later election from being told."""
    for array in (
        [5, 2, 7, *ballot],
        [11, 2, 7, 3, 2, list(ballot)],
        [2, 2, 7, 3, 2, 1, 1, list(ballot), 1],
        [6, 2, 7, 3, 2, 40, 0, 1, [[41, list(ballot), b"\0"]], 0],
    ):
        with pytest.raises(Malformed, match="this round"):
            decode_message(encode(array))
    learnt = decode_message(encode([6, 2, 7, 3, 2, 40, 0, 1, [[41, list(CHOSEN), b"\0"]], 0]))
    assert isinstance(learnt, m.Promise) and learnt.entries[0][1] == CHOSEN
