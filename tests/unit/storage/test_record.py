"""The bytes on disk are the documented ones, for ever; and whatever the bytes are, reading them never goes wrong."""

from __future__ import annotations

import struct
from dataclasses import replace
from pathlib import Path
from zlib import crc32

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordclient.protocol.paths import cell_id
from coordd.paxos.ballot import CHOSEN, Ballot
from coordd.paxos.effects import AcceptedRecord, ChosenRecord, PeersRecord, PromiseRecord
from coordd.paxos.membership import Membership
from coordd.paxos.starts import MARK_MAX, start_number
from coordd.paxos.state import PEERS_MAX
from coordd.storage import record, segment, snapshots
from coordd.storage.errors import StorageError, UnknownFormatError
from coordd.storage.identity import Identity, decode_identity
from coordd.storage.record import (
    GOES_ON_BYTES,
    RECORD_HEAD_BYTES,
    GoesOnRecord,
    Place,
    StartRecord,
    UnreadableBodyError,
    decode,
    encode_batch,
    synced_beyond,
)
from coordd.storage.segment import Header, decode_header, segment_name, segment_number
from coordd.testing.memory_disk import MemoryDisk
from tests.fuzz import many
from tests.unit.storage.world import DIRECTORY, LATER_MEMBERS, LOG, MEMBERS, SMALL, open_store

GOLDEN = Path(__file__).parent / "golden"
PLACE = Place(cell_id("demo"), 3, 0xABCDEF01)
NUMBERS = st.integers(0, 2**64 - 1)
BALLOTS = st.builds(Ballot, st.integers(0, 2**62), st.integers(0, 255))
RECORDS = st.one_of(
    st.builds(PromiseRecord, BALLOTS),
    st.builds(AcceptedRecord, NUMBERS, BALLOTS, st.binary(max_size=50)),
    st.builds(ChosenRecord, NUMBERS),
    st.builds(StartRecord, NUMBERS),
    st.builds(GoesOnRecord, NUMBERS),
    st.builds(PeersRecord, st.lists(st.tuples(st.integers(1, 255), NUMBERS), max_size=3).map(tuple)),
)


PEERS = ((1, start_number(0x1305A40C, 3)), (3, 1))


def golden_bytes(name: str) -> bytes:
    """Lines of `offset: hex bytes`, zeros where there is none; what stands behind `#` is for the reader."""
    data = bytearray()
    for line in (GOLDEN / name).read_text().splitlines():
        offset, _, digits = line.partition("#")[0].partition(":")
        if digits:
            data.extend(bytes(int(offset) - len(data)))
            data += bytes.fromhex(digits)
    return bytes(data)


def golden_disk() -> MemoryDisk:
    disk = MemoryDisk()
    store = open_store(disk)
    store.append([PromiseRecord(Ballot(7, 3)), AcceptedRecord(1, Ballot(7, 3), b"\x02value")])
    store.sync()
    store.append([AcceptedRecord(2, CHOSEN, b"\x00"), ChosenRecord(2), PeersRecord(PEERS)])
    store.sync()
    store.write_snapshot(1, LATER_MEMBERS, b"state")
    return disk


def test_the_bytes_of_a_log_are_the_golden_ones():
    assert golden_disk().contents(LOG).rstrip(b"\0") == golden_bytes("log-2.hex").rstrip(b"\0")


def test_the_bytes_of_a_snapshot_are_the_golden_ones():
    assert golden_disk().contents(f"{DIRECTORY}/snapshot-{1:020d}") == golden_bytes("snapshot-2.hex")


def test_the_bytes_of_an_identity_are_the_golden_ones():
    assert golden_disk().contents(f"{DIRECTORY}/identity") == (GOLDEN / "identity-2").read_bytes()


def test_the_bytes_of_the_last_record_of_a_segment_are_the_golden_ones():
    data, _ = encode_batch([GoesOnRecord(4)], PLACE, 0, 0, 77)
    assert data == golden_bytes("goes-on.hex") and len(data) == GOES_ON_BYTES


@pytest.mark.parametrize("version", [1, 2])
def test_golden_files_of_a_former_build_are_read(version):
    disk = MemoryDisk()
    disk.replace(LOG, golden_bytes(f"log-{version}.hex").ljust(SMALL, b"\0"))
    disk.replace(f"{DIRECTORY}/snapshot-{1:020d}", golden_bytes(f"snapshot-{version}.hex"))
    disk.replace(f"{DIRECTORY}/identity", (GOLDEN / f"identity-{version}").read_bytes())
    store = open_store(disk, None)
    durable = store.durable
    mark = 3 if version == 2 else 0
    assert (durable.start, durable.promised, durable.chosen_upto) == (start_number(mark, 2), Ballot(7, 3), 2)
    assert durable.entries == {2: (CHOSEN, b"\x00")}
    assert durable.peers == (PEERS if version == 2 else ())
    members = replace(LATER_MEMBERS, founders=(1, 2, 3) if version == 2 else ())
    assert (durable.membership, durable.snapshot_slot, store.snapshot_state) == (members, 1, b"state")


def test_a_log_of_format_1_goes_on_in_segments_that_remember_the_peers():
    disk = MemoryDisk()
    disk.replace(LOG, golden_bytes("log-1.hex").ljust(SMALL, b"\0"))
    disk.replace(f"{DIRECTORY}/snapshot-{1:020d}", golden_bytes("snapshot-1.hex"))
    disk.replace(f"{DIRECTORY}/identity", (GOLDEN / "identity-1").read_bytes())
    store = open_store(disk, None)
    store.append([PeersRecord(PEERS)])
    for slot in range(3, 9):
        store.append([AcceptedRecord(slot, CHOSEN, bytes(1500))])
    store.sync()
    disk.kill()
    assert open_store(disk, None).durable.peers == PEERS
    first, second = (decode_header(disk.contents(f"{DIRECTORY}/{segment_name(number)}")) for number in (1, 2))
    assert first is not None and first.peers is None
    assert second is not None and second.peers == PEERS


@many(200)
@given(st.lists(RECORDS, min_size=1, max_size=5), st.integers(0, 600))
def test_records_are_read_back_as_they_were_written(records, offset):
    data, last = encode_batch(records, PLACE, offset, offset, 77)
    segment = bytes(offset) + data + bytes(20)
    previous, at, read = 77, offset, []
    for _ in records:
        found = decode(segment, at, PLACE)
        assert found is not None and (found.previous, found.synced) == (previous, offset)
        read.append(found.record)
        previous, at = found.crc, found.end
    assert (read, at, previous) == (records, offset + len(data), last)
    assert decode(segment, at, PLACE) is None


@many(500)
@given(st.binary(max_size=120), st.integers(-5, 130))
def test_random_bytes_are_no_record(data, offset):
    assert decode(data, offset, PLACE) is None
    assert synced_beyond(data, 0, PLACE) == 0


@many(500)
@given(RECORDS, st.integers(0, 400), st.integers(1, 255), st.booleans())
def test_a_changed_byte_or_a_shorter_file_is_no_record(record, at, mask, cut):
    data, _ = encode_batch([record], PLACE, 0, 0, 0)
    at %= len(data)
    changed = data[:at] if cut else data[:at] + bytes([data[at] ^ mask]) + data[at + 1 :]
    assert decode(changed, 0, PLACE) is None


@pytest.mark.parametrize(
    "other", [replace(PLACE, cell=cell_id("other")), replace(PLACE, segment=4), replace(PLACE, seed=1)]
)
def test_a_record_of_another_cell_segment_or_file_is_none(other):
    data, _ = encode_batch([ChosenRecord(1)], PLACE, 0, 0, 0)
    assert decode(data, 0, PLACE) is not None
    assert decode(data, 0, other) is None


def test_a_record_at_another_place_is_none():
    data, _ = encode_batch([ChosenRecord(1)], PLACE, 8, 0, 0)
    assert decode(data, 0, PLACE) is None
    assert decode(bytes(8) + data, 8, PLACE) is not None


@pytest.mark.parametrize(
    ("version", "kind", "body", "what"),
    [(2, 1, bytes(12), "format 2"), (1, 9, b"", "type 9"), (1, 1, bytes(11), "11 bytes"), (1, 2, b"", "0 bytes")],
)
def test_a_record_of_another_build_is_refused_by_name(version, kind, body, what):
    """The checksum is right: it was written on purpose, by a build that knows more."""
    disk = MemoryDisk()
    store = open_store(disk)
    store.close()
    data = disk.contents(LOG)
    header = decode_header(data)
    assert header is not None
    end = 512 + 2 * (RECORD_HEAD_BYTES + 8)  # behind two start records
    place = header.place
    rest = struct.pack("<I3sB8sIIIIB", len(body), b"crd", version, place.cell, 1, end, 512, 0, kind) + body
    disk.replace(LOG, (data[:end] + struct.pack("<I", crc32(rest, place.seed)) + rest).ljust(SMALL, b"\0"))
    with pytest.raises(UnreadableBodyError, match=what):
        decode(disk.contents(LOG), end, place)
    with pytest.raises(UnknownFormatError, match=f"{LOG}, byte {end}: .*{what}.*Way out"):
        open_store(disk)
    disk.flip(LOG, end - 1, 1)  # not even behind a torn tail is it passed over
    if version == 1:
        with pytest.raises(UnknownFormatError, match=what):
            open_store(disk)


def test_a_log_or_snapshot_or_identity_of_another_format_is_refused_by_name():
    disk = golden_disk()
    disk.kill()
    header = disk.contents(LOG)[:76]
    header = header[:8] + struct.pack("<I", 3) + header[12:]
    log = disk.copy()
    log.replace(LOG, header + struct.pack("<I", crc32(header)) + disk.contents(LOG)[80:])
    with pytest.raises(UnknownFormatError, match="a log of format 3"):
        open_store(log)
    lines = disk.contents(f"{DIRECTORY}/identity")[:-13].replace(b"format 2", b"format 3")
    identity = disk.copy()
    identity.replace(f"{DIRECTORY}/identity", lines + b"crc %08x\n" % crc32(lines))
    with pytest.raises(UnknownFormatError, match="a data directory of format 3"):
        open_store(identity)


@many(200)
@given(st.binary(max_size=200))
def test_random_bytes_are_no_header_and_no_identity(data):
    assert decode_header(data) is None
    with pytest.raises(StorageError):
        decode_identity(data, "identity")
    with pytest.raises(StorageError):
        decode_identity(data + b"crc %08x\n" % crc32(data), "identity")


@pytest.mark.parametrize("membership", [MEMBERS, Membership(2, (1, 2, 4), (5,), 2000), Membership(9, (200,))])
def test_headers_and_identities_are_read_back_as_they_were_written(membership):
    header = Header(
        cell_id("demo"), 255, 2**31, 2**31, b"nonce678", Ballot(2**62, 0), 2**63, 2**64 - 1, 2**31, 2**32 - 1
    )
    full = tuple((255 - place, 2**63 - 1) for place in range(PEERS_MAX))
    for peers in (None, (), full):
        like = replace(header, peers=peers)
        assert decode_header(like.encode()) == like
    identity = Identity("a-cell-9", 255, membership, MARK_MAX)
    assert decode_identity(identity.encode(), "identity") == identity


@pytest.mark.parametrize("line", ["voters 1,2,2", "voters 0,1", "voters 2,1", "voters ,"])
def test_an_identity_with_an_impossible_membership_is_refused(line):
    data = Identity("demo", 1, MEMBERS, 1).encode()[:-13].replace(b"voters 1,2,3", line.encode())
    with pytest.raises(StorageError, match="impossible membership"):
        decode_identity(data + b"crc %08x\n" % crc32(data), "identity")


def test_only_names_of_segments_are_taken_for_segments():
    assert segment_number(segment_name(1)) == 1
    assert segment_number(segment_name(10**9)) == 10**9
    for name in ("log-00000000", "log-1", "log-000000001", "log-0000000x", "log-00000001.tmp", "snapshot-00000001"):
        assert segment_number(name) is None


@pytest.mark.parametrize("module", [record, segment, snapshots])
def test_the_page_for_people_has_the_very_layouts_of_the_code(module):
    page = (Path(__file__).parents[3] / "docs" / "storage.md").read_text().splitlines()
    rows = [line for line in module.__doc__.splitlines() if line.startswith("|")]
    assert len(rows) > 8 and [row for row in rows if row not in page] == []
