"""Peer messages as bytes: every layout is pinned, every message survives the way, no bytes do harm."""

from __future__ import annotations

import random
from dataclasses import fields
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordclient.protocol.codec import Malformed, encode
from coordd.paxos import messages as m
from coordd.paxos.ballot import CHOSEN, Ballot
from coordd.transport.wire import INT_MAX, PEER_VERSION, decode_message, encode_message, pack, unpack

GOLDEN = Path(__file__).parent / "golden" / "peer-3.txt"

_HEAD = (2, 7, Ballot(3, 2))
SAMPLES: tuple[m.Message, ...] = (
    m.Hello(*_HEAD, log_upto=41, asks=True, remembers=3),
    m.Regressed(*_HEAD, refused_start=6, known_start=5, known_ballot=Ballot(4, 1), known_upto=40),
    m.Ask(*_HEAD, number=9),
    m.Willing(*_HEAD, number=9, yes=True),
    m.Prepare(*_HEAD),
    m.Promise(
        *_HEAD,
        chosen_upto=40,
        part=0,
        parts=2,
        entries=((41, Ballot(2, 1), b"\x02old"), (42, CHOSEN, b"\0")),
        cached_ms=700,
    ),
    m.Accept(*_HEAD, number=10, chosen_upto=40, entries=((41, b"\x02one"), (43, b"\x01" + bytes(8))), caches=True),
    m.Accepted(*_HEAD, number=10, chosen_upto=40, slots=(41, 43)),
    m.Heartbeat(*_HEAD, number=11, chosen_upto=43, caches=True),
    m.HeartbeatAnswer(*_HEAD, number=11, chosen_upto=40),
    m.Nack(*_HEAD, refused=Ballot(1, 1)),
    m.AlreadyChosen(*_HEAD, chosen_upto=43),
    m.LearnRequest(*_HEAD, first_slot=12),
    m.Learned(*_HEAD, first_slot=12, values=(b"\x02a", b"\0"), chosen_upto=43),
    m.SnapshotOffer(*_HEAD, slot=30, size=70_000),
    m.SnapshotRequest(*_HEAD, slot=30, offset=65_536),
    m.SnapshotChunk(*_HEAD, slot=30, size=70_000, offset=65_536, data=b"rest"),
    m.HandOver(*_HEAD, number=12, to=3, caches=True),
    m.Removed(*_HEAD, version=13, known_start=4),
    m.Settled(*_HEAD, version=13),
    m.Digest(*_HEAD, slot=41, digest=bytes(range(16))),
)


def test_there_is_a_sample_of_every_message() -> None:
    assert {type(sample) for sample in SAMPLES} == set(m.Message.__args__)


def test_the_bytes_of_every_message_are_those_of_the_golden_file() -> None:
    made = f"PEER_VERSION {PEER_VERSION}\n"
    made += "".join(f"{type(sample).__name__} {encode_message(sample).hex()}\n" for sample in SAMPLES)
    assert made == GOLDEN.read_text(), "another layout is another PEER_VERSION, in a golden file of its own"


@pytest.mark.parametrize("message", SAMPLES, ids=lambda message: type(message).__name__)
def test_a_message_comes_out_as_it_went_in(message: m.Message) -> None:
    back = decode_message(encode_message(message))
    assert back == message
    for part in fields(message):
        assert type(getattr(back, part.name)) is type(getattr(message, part.name)), part.name


def test_a_frame_carries_many_messages_in_their_order() -> None:
    payload = pack([encode_message(sample) for sample in SAMPLES])
    assert [message for message, _ in unpack(payload)] == list(SAMPLES)
    assert sum(size + 4 for _, size in unpack(payload)) == len(payload)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xc1",
        encode(7),
        encode([]),
        encode([9, 1, 1, 1]),
        encode([99, 2, 7, 3, 2]),
        encode([True, 2, 7, 3, 2, 41, True]),
        encode([9, 2, 7, 3, 2, 11]),
        encode([9, 2, 7, 3, 2, 11, 43, 1]),
        encode([9, 2, 7, 3, 2, 11, 43, True, 1]),
        encode([9, 256, 7, 3, 2, 11, 43, True]),
        encode([9, 2, -1, 3, 2, 11, 43, True]),
        encode([9, 2, 7, 3, 2, INT_MAX + 1, 43, True]),
        encode([9, 2, 7, 3, 2, 11.0, 43, True]),
        encode([9, 2, 7, 3, 2, True, 43, True]),
        encode([4, 2, 7, 3, 2, 9, 1]),
        encode([11, 2, 7, 3, 2, [1, 1, 1]]),
        encode([8, 2, 7, 3, 2, 10, {"41": 1}]),
        encode([7, 2, 7, 3, 2, 10, 40, [[41, "text"]], True]),
        encode([6, 2, 7, 3, 2, 40, 0, 1, [[41, [1], b""]], 0]),
        encode([9, 2, 7, 3, 2, 11, 43, True]) + b"\0",
        b"\x91" * 5_000,
    ],
)
def test_bytes_that_are_no_message_are_malformed(data: bytes) -> None:
    with pytest.raises(Malformed):
        decode_message(data)


@pytest.mark.parametrize("payload", [b"\0", b"\0\0\0\5abc", b"\xff\xff\xff\xff", b"\0\0\0\0"])
def test_a_frame_that_is_cut_or_too_long_is_malformed(payload: bytes) -> None:
    with pytest.raises(Malformed):
        unpack(payload)


@given(st.binary(max_size=200))
def test_any_bytes_give_messages_or_malformed(data: bytes) -> None:
    for decoder in (decode_message, unpack):
        try:
            decoder(data)
        except Malformed:
            continue


@given(st.randoms(use_true_random=False), st.sampled_from(SAMPLES))
def test_a_message_with_some_bytes_changed_gives_a_message_or_malformed(
    chance: random.Random, sample: m.Message
) -> None:
    data = bytearray(encode_message(sample))
    for _ in range(chance.randint(1, 3)):
        data[chance.randrange(len(data))] = chance.randrange(256)
    try:
        back = decode_message(bytes(data))
    except Malformed:
        return
    assert decode_message(encode_message(back)) == back
