"""What a client is made with, checked and with its defaults, for both flavours."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Real

from coordclient.endpoints import DEFAULT_ENDPOINTS, Endpoints
from coordclient.protocol.operations import LEASE_MS_MAX, LEASE_MS_MIN
from coordclient.tickets import Ticket

LABEL_MAX = 128
REQUEST_SECONDS_MAX = 3_600.0
CACHE_BYTES = 64 * 1024 * 1024


def check_seconds(**given: float | None) -> None:
    """Refuses by name what is no number; None is the caller's matter."""
    for name, value in given.items():
        if not isinstance(value, Real | None):
            raise TypeError(f"{name} must be a number of seconds, not {type(value).__name__}")


@dataclass(frozen=True, slots=True)
class Options:
    """See `Client`."""

    endpoints: tuple[str, ...]
    cell: str
    lease_ms: int
    request_ms: int
    name: str
    resume: Ticket | None = None
    cache_bytes: int | None = None  # None: no cache

    @classmethod
    def of(
        cls,
        endpoints: str | Sequence[str] | None,
        cell: str | None,
        session_lease: float,
        request_timeout: float,
        name: str | None,
        resume: str | None = None,
        cache_bytes: int | None = None,
    ) -> Options:
        """The checked options; ValueError says what is wrong."""
        if endpoints is None:
            endpoints = os.environ.get("COORD_ENDPOINTS") or DEFAULT_ENDPOINTS
        if isinstance(endpoints, str):
            endpoints = [part for part in endpoints.split(",") if part.strip()]
        check_seconds(session_lease=session_lease, request_timeout=request_timeout)
        if not isinstance(name, str | None):
            raise TypeError(f"name must be text, not {type(name).__name__}")
        lease_ms, request_ms = round(session_lease * 1_000), round(request_timeout * 1_000)
        if not LEASE_MS_MIN <= lease_ms <= LEASE_MS_MAX:
            raise ValueError(
                f"session_lease must be {LEASE_MS_MIN // 1_000} to {LEASE_MS_MAX // 1_000} seconds, not {session_lease}"
            )
        if not 1 <= request_ms <= REQUEST_SECONDS_MAX * 1_000:
            raise ValueError(
                f"request_timeout must be above 0 and at most {REQUEST_SECONDS_MAX} seconds, not {request_timeout}"
            )
        if cache_bytes is not None and cache_bytes < 1:
            raise ValueError(f"cache_bytes must be at least 1, not {cache_bytes}")
        ticket = None if resume is None else Ticket.parse(resume)
        return cls(Endpoints(endpoints).configured, cell or "", lease_ms, request_ms, name or "", ticket, cache_bytes)

    def labels(self) -> dict[str, str]:
        """Who this client is, for people who look at sessions and locks."""
        program = os.path.basename(sys.argv[0]) if getattr(sys, "argv", None) else ""
        labels = {"host": socket.gethostname(), "pid": str(os.getpid()), "program": program, "name": self.name}
        clean = {
            key: text.encode(errors="replace").decode(errors="replace")[:LABEL_MAX] for key, text in labels.items()
        }
        return {key: text for key, text in clean.items() if text}
