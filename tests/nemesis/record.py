"""The protected side: a record that others may write only with a token not older than any that was seen.

It runs in the nemesis's process and is never hurt. A request is one JSON line over a Unix socket, {"lock", "token",
"who"}; the answer is {"admitted": bool, "highest": token}. Everything that arrives is kept, in order, with its time.
"""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from coordclient import Fence, StaleToken
from tests.nemesis.history import Writer


@dataclass(frozen=True, slots=True)
class Entry:
    """One request that arrived."""

    lock: str
    token: int
    who: str
    admitted: bool


class Record:
    """The server; `entries` are in the order of arrival."""

    def __init__(self, socket_path: Path, writer: Writer) -> None:
        self.entries: list[Entry] = []
        self._path = socket_path
        self._writer = writer
        self._fence = Fence()
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        self._server = await asyncio.start_unix_server(self._serve, self._path)

    def close(self) -> None:
        if self._server is not None:
            self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while line := await reader.readline():
                writer.write(json.dumps(self._take(json.loads(line))).encode() + b"\n")
                await writer.drain()
        except (ConnectionError, ValueError):  # a killed client; the last line may be torn
            return
        finally:
            writer.close()

    def _take(self, asked: dict[str, Any]) -> dict[str, Any]:
        lock, token, who = str(asked["lock"]), int(asked["token"]), str(asked["who"])
        try:
            self._fence.admit(lock, token)
            admitted = True
        except StaleToken:
            admitted = False
        self.entries.append(Entry(lock, token, who, admitted))
        self._writer.note("record", "append", lock=lock, token=token, by=who, admitted=admitted)
        return {"admitted": admitted, "highest": self._fence.highest(lock)}


class RecordClient:
    """A worker's connection to the record."""

    def __init__(self, socket_path: Path, who: str) -> None:
        self._path = socket_path
        self._who = who
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def append(self, lock: str, token: int) -> bool:
        """True when it was admitted."""
        if self._streams is None:
            self._streams = await asyncio.open_unix_connection(self._path)
        reader, writer = self._streams
        writer.write(json.dumps({"lock": lock, "token": token, "who": self._who}).encode() + b"\n")
        return bool(json.loads(await reader.readline())["admitted"])

    def forget(self) -> None:
        """An answer may still be under way: the next request takes a new connection."""
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None
