"""PURE. Does the replica at the other end of the channel still serve this client, or is it to be left for another?

Two kinds of a replica that does not are told by no lost connection:

* One that says nothing, though something is waited for: it hangs, or the network does. Only time that this process has
  run counts; a gap in the ticks is a stall of its own.
* One that answers, but only that no master is known to it: a master that was cut off from its peers, or removed from
  the cell, while its clients still reach it. The others may have the next master long since. It gets as long as any
  living replica that knows no master (`linger_ms`).
"""

from __future__ import annotations

from coordclient.endpoints import linger_ms

TICK_GAP_MS_MAX = 500  # a longer gap is a stall of this process, which is no silence of the cell's
SILENCE_MS_MIN, SILENCE_MS_MAX = 500, 3_000


class Serving:
    """What was heard on the present channel; see the module docstring."""

    def __init__(self, lease_ms: int) -> None:
        self._silence_ms = max(SILENCE_MS_MIN, min(SILENCE_MS_MAX, lease_ms // 3))
        self._linger_ms = linger_ms(lease_ms)
        self._ticked_ms = 0
        self._quiet_ms = 0
        self._received = 0  # messages of the channel at the last tick
        self._unserved_ms: int | None = None  # since when it says that it knows no master

    def attached(self, received: int) -> None:
        """A channel begins; so many messages have come on it."""
        self._quiet_ms, self._received, self._unserved_ms = 0, received, None

    def served(self) -> None:
        """It did what it was asked for."""
        self._unserved_ms = None

    def refused(self, code: str, now_ms: int) -> None:
        """It refused something that may be tried again; "unavailable" means that it knows no master who could do it."""
        if code == "unavailable" and self._unserved_ms is None:
            self._unserved_ms = now_ms

    def tick(self, now_ms: int, received: int | None, waiting: bool) -> None:
        """Time passes. `received`: messages on the channel so far, None without one; `waiting`: for any answer."""
        gap_ms = min(max(0, now_ms - self._ticked_ms), TICK_GAP_MS_MAX)
        self._ticked_ms = now_ms
        if received is not None:
            self._quiet_ms = self._quiet_ms + gap_ms if waiting and received == self._received else 0
            self._received = received

    @property
    def doubtful(self) -> bool:
        """Silent for so long that a KeepAlive shall tell whether it is the replica or the answer that takes long."""
        return self._quiet_ms > self._silence_ms // 2

    def why_leave(self, now_ms: int) -> str | None:
        """The reason to go to another replica, if there is one."""
        if self._quiet_ms > self._silence_ms:
            return f"silent for {self._quiet_ms} ms"
        if self._unserved_ms is not None and now_ms - self._unserved_ms >= self._linger_ms:
            return f"knows no master, for {now_ms - self._unserved_ms} ms"
        return None
