"""What systemd is told: READY, STATUS, WATCHDOG, STOPPING; one datagram each to the socket that it names.

Without NOTIFY_SOCKET in the environment nothing is sent. A supervisor that does not listen never stops the daemon.
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Mapping


class Supervisor:
    """The end of the notify socket."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._address = environ.get("NOTIFY_SOCKET", "")
        self._watchdog = "WATCHDOG_USEC" in environ

    def ready(self) -> None:
        """The log is replayed and the listener bound."""
        self._send("READY=1")

    def status(self, text: str) -> None:
        """One line for `systemctl status`."""
        self._send(f"STATUS={text}")

    def alive(self) -> None:
        """The loop turns."""
        if self._watchdog:
            self._send("WATCHDOG=1")

    def stopping(self) -> None:
        """The orderly stop has begun."""
        self._send("STOPPING=1")

    def _send(self, text: str) -> None:
        if not self._address:
            return
        address = "\0" + self._address[1:] if self._address.startswith("@") else self._address
        kind = socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
        # Where nobody listens: that is the supervisor's affair, not ours.
        with socket.socket(socket.AF_UNIX, kind) as out, contextlib.suppress(OSError):
            out.sendto(text.encode(), address)
