"""What a slot may hold: whatever else were chosen would end every replica at its apply, again at each start."""

from __future__ import annotations

import pytest

from coordd.paxos.effects import ValueKind, is_value
from coordd.paxos.membership import Membership

MEMBERSHIP = Membership(2, (1, 2, 3), (4,), addresses=((4, "http://d:7420"),)).to_bytes()


@pytest.mark.parametrize(
    ("kind", "payload", "good"),
    [
        (ValueKind.NO_OP, b"", True),
        (ValueKind.BATCH, b"opaque here", True),
        (ValueKind.EPOCH, bytes(8), True),
        (ValueKind.EPOCH, bytes(7), False),
        (ValueKind.EPOCH, bytes(9), False),
        (ValueKind.MEMBERSHIP, MEMBERSHIP, True),
        (ValueKind.MEMBERSHIP, MEMBERSHIP[:-1], False),
        (ValueKind.MEMBERSHIP, MEMBERSHIP + b"\0", False),
        (ValueKind.MEMBERSHIP, b"", False),
    ],
)
def test_a_value_is_of_a_known_kind_and_can_be_applied(kind: ValueKind, payload: bytes, good: bool) -> None:
    assert is_value(bytes([kind.value]) + payload) == good


@pytest.mark.parametrize("data", [b"", b"\x04", b"\xff"])
def test_what_is_of_no_kind_is_no_value(data: bytes) -> None:
    assert not is_value(data)
