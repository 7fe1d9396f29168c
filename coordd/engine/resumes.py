"""Resumes on their way: while one is, no write of that session goes into the log behind it.

A process that resumes a session takes it over from the one before, of which no call may take effect afterwards. Calls
with a number are refused in apply; one without a number, or one that this replica took while the resume was between its
queue and the log, has nothing in apply that could tell it from a call of the new process. So the writes of that session
wait until the resume is decided, and are then looked at as if they had just come: by the doors, which know the new
incarnation.
"""

from __future__ import annotations

from coordd.engine.reads import WaitingCall


class Resumes:
    """See the module docstring. All of it belongs to one reign."""

    def __init__(self) -> None:
        self._under_way: dict[int, int] = {}  # session -> how many resumes of it
        self._waiting: dict[int, list[WaitingCall]] = {}

    def begin(self, session: int) -> None:
        """A resume was queued."""
        self._under_way[session] = self._under_way.get(session, 0) + 1

    def under_way(self, session: int) -> bool:
        """True while writes of that session have to wait."""
        return session in self._under_way

    def wait(self, waiting: WaitingCall) -> None:
        """One write that has to; room was checked."""
        assert waiting.call.session in self._under_way
        self._waiting.setdefault(waiting.call.session, []).append(waiting)

    def end(self, session: int) -> list[WaitingCall]:
        """A resume was decided, or given up; returns those that wait no more."""
        self._under_way[session] -= 1
        if self._under_way[session]:
            return []
        del self._under_way[session]
        return self._waiting.pop(session, [])

    def clear(self) -> None:
        """The mastership is over."""
        self._under_way, self._waiting = {}, {}
