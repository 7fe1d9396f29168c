"""Logged commands and the batches that carry them. Formats are versioned: `BATCH_VERSION` begins every batch.

A batch is msgpack `[BATCH_VERSION, wall_ms, [command, ...]]`; `wall_ms` is the master's wall clock, for display only.
A command is msgpack `[operation, session, call, acked, principal, arguments]`: for what clients ask, `operation` is the
name in the table of operations and `arguments` its checked arguments; session 0 and call 0 where there is none. What
the master decides by itself is a command too and names what it saw, so that a stale decision does nothing:

| operation | arguments |
|---|---|
| `expire_session` | `session, incarnation, epoch` |
| `end_lock_delay` | `path, session, hold, epoch` |
| `end_revoked` | `path, session, hold, epoch` |
| `set_sequencer_key` | `key` (32 bytes), `epoch` |

`open_session` gets one more argument from the master: `secret` (32 hex digits).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from coordclient.protocol.codec import decode, encode

BATCH_VERSION = 4
BATCH_COMMANDS_MAX = 512
BATCH_BYTES_MAX = 1024 * 1024
MASTER_COMMANDS = ("expire_session", "end_lock_delay", "end_revoked", "set_sequencer_key")


@dataclass(frozen=True, slots=True)
class Command:
    """One logged command; see the module docstring."""

    operation: str
    session: int
    call: int
    acked: int
    principal: str
    arguments: Mapping[str, object]


def pack_command(
    operation: str, session: int, call: int, acked: int, principal: str, arguments: Mapping[str, object]
) -> bytes:
    """The bytes of a command that need not exist as a `Command` first; they go into the batch unchanged."""
    return encode([operation, session, call, acked, principal, arguments])


def encode_command(command: Command) -> bytes:
    """The command's bytes."""
    return pack_command(
        command.operation, command.session, command.call, command.acked, command.principal, command.arguments
    )


def encode_batch(wall_ms: int, commands: Sequence[bytes]) -> bytes:
    """A batch from already encoded commands, without encoding them again."""
    assert 1 <= len(commands) <= BATCH_COMMANDS_MAX
    # fixarray of 3, the two integers, then the header of an array of the commands (array16: 0xdc)
    return b"".join(
        (b"\x93", encode(BATCH_VERSION), encode(wall_ms), b"\xdc", len(commands).to_bytes(2, "big"), *commands)
    )


def decode_batch_fields(payload: bytes) -> tuple[int, list[list[Any]]]:
    """`(wall_ms, commands)`, each command as the list of its fields: what apply needs, without an object for each.

    An unknown version is an error by name (a newer build wrote it).
    """
    version, wall_ms, commands = decode(payload)
    if version != BATCH_VERSION:
        raise AssertionError(f"batch format {version} is not known to this build (it knows {BATCH_VERSION})")
    return wall_ms, commands


def decode_batch(payload: bytes) -> tuple[int, list[Command]]:
    """The inverse of `encode_batch`, as `(wall_ms, commands)`."""
    wall_ms, commands = decode_batch_fields(payload)
    return wall_ms, [Command(*fields) for fields in commands]
