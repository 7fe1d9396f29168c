"""Whether the client of a channel reads what it was sent: while it does not, its streams wait.

What is pushed to it is asked for by nobody, so nothing else would bound it. Past `congested_bytes` unread the node is
told, and told again when half of it was read. Who reads nothing at all for `congested_seconds` is cut.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import structlog

from coordd.api.limits import ApiLimits
from coordd.node.service import Service

LOOK_SECONDS = 0.05

_log = structlog.get_logger("coordd.api")


class Outlet(Protocol):
    """Where a channel's bytes go; an asyncio transport."""

    def write(self, data: bytes) -> None: ...

    def get_write_buffer_size(self) -> int: ...

    def is_closing(self) -> bool: ...

    def abort(self) -> None: ...


class Reader:
    """See the module docstring; `channel` is its number."""

    def __init__(
        self,
        service: Service,
        limits: ApiLimits,
        outlet: Outlet,
        channel: int,
        call_later: Callable[[float, Callable[[], None]], object],
    ) -> None:
        self._service = service
        self._limits = limits
        self._outlet = outlet
        self._channel = channel
        self._call_later = call_later
        self._congested = False
        self._unread = 0  # when it was looked at last
        self._silent_looks = 0  # since it read anything

    def look(self) -> None:
        """Something was written for it."""
        if self._congested or self._outlet.get_write_buffer_size() <= self._limits.congested_bytes:
            return
        self._congested, self._unread, self._silent_looks = True, 0, 0
        self._service.congested(self._channel, True)
        self._call_later(LOOK_SECONDS, self._look_again)

    def end(self) -> None:
        """The channel is over; the node has nothing to remember of it."""
        if self._congested:
            self._congested = False
            self._service.congested(self._channel, False)

    def _look_again(self) -> None:
        outlet, limits = self._outlet, self._limits
        if outlet.is_closing() or not self._congested:
            return
        unread = outlet.get_write_buffer_size()
        self._silent_looks = self._silent_looks + 1 if unread >= self._unread else 0
        self._unread = unread
        if unread <= limits.congested_bytes // 2:
            self._congested = False
            self._service.congested(self._channel, False)
        elif self._silent_looks * LOOK_SECONDS >= limits.congested_seconds:
            _log.warning("silent channel cut", unread_bytes=unread)
            outlet.abort()
        else:
            self._call_later(LOOK_SECONDS, self._look_again)
