"""Whether the client of a channel is still there: who is silent is asked by pings, and cut when nothing comes at all.

A machine that has died closes no connection, and a channel that is told nothing writes nothing that could fail: its
watches, its cache queue and its held calls would stay for ever. Every message is a sign of life, and every WebSocket
client answers a ping by itself [RFC 6455 5.5.2], so an idle one needs to know nothing of this. That it takes what it
was sent is another sign: over a slow line a ping is late behind 4 MiB. A client with a session may stand still for as
long as its lease: it is not cut before. Looks are counted, not seconds: a stall of this process is one look, and
charged to nobody.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import structlog

from coordd.api.limits import ApiLimits
from coordd.api.reader import Outlet

PING = b"\x89\x00"  # a whole WebSocket message
_LOOKS = 3  # in `silent_seconds`: an idle client is asked every 16 s, and a silent one twice

_log = structlog.get_logger("coordd.api")


class Heart:
    """See the module docstring. `lease_ms` says the lease of the channel's session, 0 without one."""

    def __init__(
        self,
        limits: ApiLimits,
        outlet: Outlet,
        lease_ms: Callable[[], int],
        call_later: Callable[[float, Callable[[], None]], asyncio.TimerHandle],
    ) -> None:
        self._silent_seconds = limits.silent_seconds
        self._look_seconds = limits.silent_seconds / _LOOKS
        self._outlet = outlet
        self._lease_ms = lease_ms
        self._call_later = call_later
        self._looks = 0  # since anything came, or was taken
        self._unread = 0  # when it was looked at last
        self._next = call_later(self._look_seconds, self._look)

    def heard(self) -> None:
        """Something came."""
        self._looks = 0

    def end(self) -> None:
        """The channel is over."""
        self._next.cancel()

    def _look(self) -> None:
        if self._outlet.is_closing():
            return
        unread = self._outlet.get_write_buffer_size()
        self._looks = self._looks + 1 if unread >= self._unread else 0
        self._unread = unread
        silent_seconds = (self._looks - 1) * self._look_seconds  # at least
        if silent_seconds >= max(self._silent_seconds, self._lease_ms() / 1_000):
            _log.info("channel without a sign of life cut", silent_seconds=round(silent_seconds))
            self._outlet.abort()
            return
        if self._looks > 1:
            self._outlet.write(PING)
        self._next = self._call_later(self._look_seconds, self._look)
