"""Batches and commands as bytes, pinned by a golden file."""

from __future__ import annotations

from pathlib import Path

import pytest

from coordclient.protocol.codec import Malformed, decode, encode
from coordd.machine.commands import BATCH_COMMANDS_MAX, Command, decode_batch, encode_batch, encode_command

GOLDEN = Path(__file__).parent / "golden" / "batch-4.hex"

COMMANDS = [
    Command("acquire", 7, 3, 2, "anonymous", {"path": "/a", "mode": "exclusive", "wait": True, "limited": True}),
    Command("put", 0, 0, 0, "alice", {"path": "/grün", "contents": b"\x00\xff", "if_generation": None}),
    Command("expire_session", 0, 0, 0, "", {"session": 7, "incarnation": 1, "epoch": 2**40}),
]


def test_the_bytes_are_those_of_the_golden_file() -> None:
    golden = bytes.fromhex(GOLDEN.read_text())
    assert encode_batch(1_700_000_000_000, [encode_command(command) for command in COMMANDS]) == golden
    assert decode_batch(golden) == (1_700_000_000_000, COMMANDS)


def test_a_batch_is_one_msgpack_value_though_it_is_made_of_pieces() -> None:
    for count in (1, 15, 16, BATCH_COMMANDS_MAX):
        payload = encode_batch(5, [encode_command(COMMANDS[0])] * count)
        assert decode(payload) == [4, 5, [decode(encode_command(COMMANDS[0]))] * count]


def test_an_empty_or_overfull_batch_is_a_bug() -> None:
    for count in (0, BATCH_COMMANDS_MAX + 1):
        with pytest.raises(AssertionError):
            encode_batch(5, [encode_command(COMMANDS[0])] * count)


def test_an_unknown_version_is_named() -> None:
    with pytest.raises(AssertionError, match="batch format 9 is not known"):
        decode_batch(encode([9, 0, []]))


def test_what_is_not_msgpack_is_malformed() -> None:
    with pytest.raises(Malformed):
        decode_batch(b"\xc1")
