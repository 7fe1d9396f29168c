"""Sessions: none may expire whose client ran and reached the cell.

Excused is an expiry before which, for as long as it matters and since the session was last seen to be renewed, its
client was hurt (its links or its process), or its process or the nemesis's (the proxies) did not run for a third of the
lease in all, or the whole cell was out for longer than the grace period. Replicas may be hurt in any way: that is what
fail-over is for.
"""

from __future__ import annotations

from dataclasses import dataclass

from tests.nemesis.history import History, client_of, process_of
from tests.nemesis.spans import Span, acknowledged_ns, longest_gap, overlapping

GRACE_NS = 45 * 10**9
BEFORE_NS = 3 * 10**9 // 2  # a KeepAlive is on its way for a while, a reset connection takes a while to replace
NS = 10**9


@dataclass(slots=True)
class _Life:
    """What one client process noted so far."""

    lease_ns: int
    jeopardy_ns: int | None = None
    active_ns: int = 0  # when it was last told that the session lives on
    closing: bool = False


def unjust_expiries(history: History) -> list[str]:
    """Every expiry that nothing excuses."""
    hurt = [
        (name, Span(note.more["from_ns"], note.at_ns))
        for note in history.noted("fault")
        for name in note.more["on"]
        if name.startswith("c")
    ]
    lags = [(note.who, Span(note.at_ns - note.more["ms"] * 1_000_000, note.at_ns)) for note in history.noted("lag")]
    acknowledged = acknowledged_ns(history)
    lives: dict[str, _Life] = {}
    found = []
    for note in history.noted("begin", "state", "closing"):
        if note.name == "begin":
            lives[note.who] = _Life(round(note.more["lease_s"] * NS))
            continue
        life = lives[note.who]
        if note.name == "closing":
            life.closing = True
        elif note.more["state"] == "jeopardy":
            life.jeopardy_ns = life.jeopardy_ns or note.at_ns
        elif note.more["state"] == "active":
            life.jeopardy_ns, life.active_ns = None, note.at_ns
        elif not life.closing:
            last_ns = (life.jeopardy_ns or note.at_ns) - life.lease_ns - BEFORE_NS
            window = Span(max(last_ns, life.active_ns), note.at_ns)
            life.jeopardy_ns = None
            concerned = (process_of(note.who), "nemesis")
            stalled_ns = sum(overlapping(span, window) for who, span in lags if who in concerned)
            excused = (
                any(name == client_of(note.who) and overlapping(span, window) for name, span in hurt)
                or stalled_ns > life.lease_ns // 3
                or longest_gap(acknowledged, window).length_ns > GRACE_NS
            )
            if not excused:
                found.append(
                    f"the session of {note.who} expired at {note.at_ns / NS:.3f} (lease {life.lease_ns / NS:.0f} s)"
                    f" though nothing had hurt it since {window.begin_ns / NS:.3f}"
                )
    return found
