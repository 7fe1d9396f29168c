"""How a node is opened, for both flavours: found or made, kept alive by this session where it is ephemeral, closed."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, Literal

from coordclient.aio.files import stat_in
from coordclient.aio.keeper import Keeper
from coordclient.aio.life import Life
from coordclient.aio.terms import short_of
from coordclient.errors import (
    BadPath,
    Conflict,
    CoordError,
    Exists,
    IsADirectory,
    NotADirectory,
    NotFound,
    StaleHandle,
)
from coordclient.values import Stat

Kind = Literal["file", "directory"]
TRIES_MAX = 8  # while others make and remove the node between our look and our making


def check_kind(create: Kind | None, ephemeral: bool) -> None:
    """Raises ValueError for what `open` cannot do."""
    if create not in (None, "file", "directory"):
        raise ValueError(f"create must be None, file or directory, not {create!r}")
    if ephemeral and create is None:
        raise ValueError("ephemeral says how a node is made: give create too")


def below(path: str, name: str) -> str:
    """The path of `name` (one part or several) below a directory."""
    if not isinstance(name, str):
        raise TypeError(f"a name is text, not {type(name).__name__}")
    if name.startswith("/"):
        raise BadPath(f"what is opened relative to a handle does not begin with '/': {name[:80]!r}")
    return f"{path.rstrip('/')}/{name}"


class Opening:
    """One handle's node, from its opening to its closing. `under`: path and instance of the directory, if relative."""

    def __init__(self, keeper: Keeper, path: str, under: tuple[str, int] | None = None) -> None:
        self.keeper = keeper
        self.path = path
        self.life: Life = keeper.alive()
        self._key = short_of(path)
        self._under = under
        self._open = False
        self._stat: Stat | None = None  # of what was opened

    async def open(self, create: Kind | None, ephemeral: bool, parents: bool) -> Stat:
        """Find or make it; nothing is left behind where that fails."""
        self._open = True
        self.life.opens.begin(self._key)
        try:
            stat = await self._found_or_made(create, ephemeral, parents)
            if create is not None and stat.kind != create:
                raise (NotADirectory if create == "directory" else IsADirectory)(f"{self.path} is a {stat.kind}")
        except BaseException:
            self.close()
            raise
        return stat

    async def _found_or_made(self, create: Kind | None, ephemeral: bool, parents: bool) -> Stat:
        for _ in range(TRIES_MAX):
            try:
                stat = self._keeps(stat_in(await self._call("open", {"path": self.path})))
                await self._check_under()
                return stat
            except StaleHandle:
                raise
            except NotFound:
                if create is None:
                    raise
            making: dict[str, object] = {"path": self.path, "ephemeral": ephemeral, "parents": parents}
            try:
                return self._keeps(await self._make("create" if create == "file" else "mkdir", making))
            except Exists:
                continue  # somebody made it since
        raise Conflict(f"{self.path} was made and removed by others {TRIES_MAX} times while it was being opened")

    async def _make(self, operation: str, making: dict[str, object]) -> Stat:
        """Make it; under that very directory, where it is relative to one."""
        if self._under is None:
            return stat_in(await self._call(operation, making))
        path, instance = self._under
        step = {"do": operation, **{name: value for name, value in making.items() if value is not False}}
        guards = [{"path": path, "instance": instance}]
        answer = await self._call("txn", {"guards": guards, "then": [step], "else": []})
        if not answer.get("succeeded"):
            raise StaleHandle(f"{path}: this directory is gone, or another one is there")
        return stat_in(answer["results"][0])

    async def _check_under(self) -> None:
        """It was opened. Is its directory the one that it was to be in? Instances never come again."""
        if self._under is not None:
            path, instance = self._under
            await self._call("stat", {"path": path, "if_instance": instance})

    def _keeps(self, stat: Stat) -> Stat:
        self._stat = stat
        self.life.opens.opened(self._key, stat.instance if stat.ephemeral else None)
        return stat

    async def _call(self, operation: str, arguments: dict[str, object]) -> Mapping[str, Any]:
        """One call. Where nobody waits for it any more it goes on alone, and what it has opened is closed again."""
        keeper, life = self.keeper, self.life
        call = await keeper.begin(life, operation, arguments, keeper.clocks()[0] + keeper.request_ms)
        try:
            answer: Mapping[str, Any] = await call.tag  # type: ignore[misc]
        except asyncio.CancelledError:
            keeper.go_on_alone(life, call, self._late)
            raise
        return answer

    def _late(self, answer: Mapping[str, Any]) -> None:
        """The answer to a call that nobody waits for."""
        results = answer.get("results")
        stat = stat_in(results[0] if isinstance(results, list) and results else answer)
        if stat.ephemeral and not self._open:
            self._open = True
            self.life.opens.begin(self._key)
            self._keeps(stat)
            self.close()

    def close(self) -> Any:
        """This handle keeps it alive no more. The future of the cell's answer, where it is told; else None."""
        if not self._open:
            return None
        self._open = False
        opens, stat, instance = self.life.opens, self._stat, None
        if stat is None:
            instance = opens.failed(self._key)
        elif stat.ephemeral:
            instance = opens.closed(self._key, stat.instance)
        if instance is None or self.life.over is not None:
            return None
        closing = {"path": self._key, "instance": instance}
        return self.keeper.begin_lasting(self.life, "close", closing, self.keeper.request_ms)


def why_unusable(path: str, closed: bool) -> CoordError:
    """The error of a handle that was closed or poisoned."""
    return StaleHandle(f"{path}: this handle was {'closed' if closed else 'poisoned'}")
