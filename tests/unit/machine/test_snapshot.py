"""Snapshots: canonical, versioned, verified, and pinned by a golden file."""

from __future__ import annotations

import contextlib
from hashlib import blake2b
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordclient.protocol.codec import decode, encode, reference_encode
from coordd.machine.invariants import check
from coordd.machine.machine import Machine
from coordd.machine.snapshot import BadSnapshot
from tests.unit.machine.harness import Cell

GOLDEN = Path(__file__).parent / "golden" / "snapshot-6.hex"


def story() -> Cell:
    """A state with one of everything that a snapshot can hold."""
    cell = Cell()
    gone, holder, waiter = cell.open(host="alpha"), cell.open(host="beta", pid="7"), cell.open()
    cell.do("put", path="/svc/config", contents=b"a file", parents=True)
    cell.acquire(gone, "/svc/delayed", lock_delay_ms=2_000)
    cell.acquire(holder, "/svc/config", "shared", actor="main")
    cell.acquire(waiter, "/svc/config", actor="worker", lock_delay_ms=0)
    cell.acquire(waiter, "/made/for/the/lock")
    cell.do("create", waiter, cell.call(waiter), path="/svc/alive", ephemeral=True)
    cell.do("open", holder, cell.call(holder), path="/svc/alive")
    cell.do("mkdir", waiter, cell.call(waiter), path="/svc/shared", ephemeral=True)
    cell.refused("acquire", holder, cell.call(holder), path="/made/for/the/lock", wait=False)
    cell.do("cancel", holder, cell.call(holder), acked=2, target=9)
    cell.expire(gone)
    cell.acquire_all(holder, "/several/b", ("/several/a", 3), lock_delay_ms=0)
    cell.acquire_all(waiter, "/several/free", "/several/b", actor="worker", limited=True)
    cell.unlock("/several/b", reason="wanted")
    cell.acquire(waiter, "/gone")
    cell.unlock("/gone", reason="broken", now=True)
    cell.do("leave_session", cell.open())
    killed = cell.open()
    cell.admin("kill_session", session=killed, reason="runs wild")
    cell.resume(cell.open(), "n" * 32)
    cell.begin_epoch(4)
    cell.master("set_sequencer_key", key=b"k" * 32, epoch=4)
    return cell


STORY = story().machine.snapshot()


def test_the_bytes_are_those_of_the_golden_file() -> None:
    golden = bytes.fromhex(GOLDEN.read_text())
    assert story().machine.snapshot() == golden, "another layout needs another SNAPSHOT_VERSION and a golden file"
    machine = Machine.restore(golden)
    check(machine)
    assert machine.snapshot() == golden


def test_the_digest_ends_the_snapshot_and_tells_states_apart() -> None:
    cell = story()
    assert cell.machine.snapshot().endswith(cell.machine.digest()) and len(cell.machine.digest()) == 16
    digests = [cell.machine.digest()]
    cell.do("put", path="/x")
    digests.append(cell.machine.digest())
    cell.machine.skip(cell.machine.applied_upto + 1)
    digests.append(cell.machine.digest())
    assert len(set(digests)) == 3


def test_the_reference_codec_writes_the_same_bytes() -> None:
    body = story().machine.snapshot()[:-16]
    assert reference_encode(decode(body)) == body


def test_nodes_and_sessions_stand_in_the_order_in_which_they_will_be_inspected() -> None:
    # The order belongs to the state: who was inspected stands at the end, with parents and children in any order.
    cell = story()
    fields = decode(cell.machine.snapshot()[:-16])
    assert [row[0] for row in fields[10]] == list(cell.machine.state.sessions)
    assert [row[0] for row in fields[11]] == list(cell.machine.state.nodes) != sorted(cell.machine.state.nodes)


@pytest.mark.parametrize("cut", [0, 1, 15, 16, 17, 40, -1])
def test_a_cut_snapshot_is_refused(cut: int) -> None:
    with pytest.raises(BadSnapshot, match="digest"):
        Machine.restore(story().machine.snapshot()[:cut])


def test_every_flipped_byte_is_noticed() -> None:
    snapshot = story().machine.snapshot()
    for position in range(0, len(snapshot), 7):
        changed = bytearray(snapshot)
        changed[position] ^= 1
        with pytest.raises(BadSnapshot):
            Machine.restore(bytes(changed))


def replaced(value: Any, path: list[int], by: object) -> Any:
    """A copy of nested lists with another value at some place."""
    if not isinstance(value, list) or not value or not path:
        return by
    place = path[0] % len(value)
    return [*value[:place], replaced(value[place], path[1:], by), *value[place + 1 :]]


@given(
    path=st.lists(st.integers(0, 20), min_size=1, max_size=4),
    by=st.one_of(st.none(), st.booleans(), st.integers(-1, 9), st.text(max_size=3), st.just([]), st.just({})),
)
def test_a_field_of_a_wrong_kind_is_a_bad_snapshot_or_harmless(path: list[int], by: object) -> None:
    body = encode(replaced(decode(STORY[:-16]), path, by))
    with contextlib.suppress(BadSnapshot):
        Machine.restore(body + blake2b(body, digest_size=16).digest())


@pytest.mark.parametrize("body", [encode([1, 1, "test"]), encode([2, 2, "test"]), encode({}), encode([]), b"\xc1"])
def test_an_unknown_version_is_refused_by_name(body: bytes) -> None:
    with pytest.raises(BadSnapshot, match=r"version|msgpack"):
        Machine.restore(body + blake2b(body, digest_size=16).digest())


@pytest.mark.parametrize(
    "rest", [b"", b"\xc1", b"\x91", encode("x" * 300)[:20], b"\xdf\xff\xff\xff\xff", b"\x91" * 200]
)
def test_what_is_no_msgpack_behind_the_versions_is_a_bad_snapshot(rest: bytes) -> None:
    body = STORY[:3] + rest
    with pytest.raises(BadSnapshot, match="msgpack"):
        Machine.restore(body + blake2b(body, digest_size=16).digest())
