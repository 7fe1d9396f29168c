"""Messages between keeper and front: one JSON object per line on a pipe.

A message is at most PIPE_BUF bytes, so that a write is whole or not at all; both ends are non-blocking, because
neither process may ever wait for the other: a peer that does not read loses messages, and is found out by its silence.
"""

from __future__ import annotations

import json
import os
import select
from dataclasses import dataclass
from typing import Any

MESSAGE_BYTES_MAX = select.PIPE_BUF
Message = dict[str, Any]


def make_pipe() -> tuple[int, int]:
    """The two ends of a pipe: to read and to write; not inherited by programs that are started."""
    reader, writer = os.pipe()
    os.set_blocking(reader, False)
    os.set_blocking(writer, False)
    return reader, writer


def send(writer: int, message: Message) -> bool:
    """False when the peer is gone or its pipe is full."""
    line = json.dumps(message, ensure_ascii=False, separators=(",", ":")).encode(errors="replace") + b"\n"
    if len(line) > MESSAGE_BYTES_MAX:
        raise AssertionError(f"a message of {len(line)} bytes would not be written whole")
    try:
        return os.write(writer, line) == len(line)
    except (BlockingIOError, BrokenPipeError):
        return False


@dataclass(slots=True)
class Inbox:
    """The reading end: whole messages, and whether the peer has closed its end."""

    reader: int
    closed: bool = False
    _rest: bytes = b""

    def take(self) -> list[Message]:
        """All whole messages that have arrived; never blocks."""
        while not self.closed:
            try:
                data = os.read(self.reader, 65536)
            except BlockingIOError:
                break
            self.closed = not data
            self._rest += data
        lines = self._rest.split(b"\n")
        self._rest = lines.pop()
        return [json.loads(line) for line in lines]
