"""Each call once: what a session remembers of its calls. Decided here, in apply; the engine's look is only a short cut.

For a logged call `c` of a session that has said "all below `acked` are answered":
- it waits, or made a hold that is still there: the waiter or the hold remembers it, for as long as it lives;
- otherwise `replies` remembers it while `c >= acked`;
- otherwise `c < acked` is answered "outcome unknown" and never run, and `c >= acked + CALL_WINDOW` is refused.
Call 0 has no number and is not remembered.
"""

from __future__ import annotations

from typing import Any

from coordclient.protocol.errors import ERRORS, Action, Refusal
from coordclient.protocol.paths import PATH_BYTES_MAX
from coordd.machine.limits import CALL_WINDOW, Limits
from coordd.machine.state import Reply, Session, client_bytes, text_bytes

# What a late copy of an acquire is told when its hold has gone since. Never again "granted".
REVOKED = Refusal("not_held", "this call was granted, and an operator has taken its hold back since")
TRANSFERRED = Refusal("not_held", "this call was granted, and its hold has been handed to another session since")
RELEASED = Refusal("not_held", "this call was granted, and its hold has been released since")
CANCELLED = Refusal("cancelled", "this call was cancelled by its own client")

FORGOTTEN = Refusal("outcome_unknown", "this call was answered or given up before; what it did is not remembered")


def acknowledge(session: Session, acked: int) -> None:
    """Every call below `acked` (more than before) has been answered: their replies may be forgotten."""
    before, replies = session.acked, session.replies
    session.acked = acked
    if acked - before <= len(replies):
        for call in range(before, acked):
            if call in replies:
                session.reply_bytes -= replies.pop(call)[1]
    elif replies:
        for call in [call for call in replies if call < acked]:
            session.reply_bytes -= replies.pop(call)[1]


def is_new(session: Session, call: int, bytes_max: int) -> bool:
    """Whether this call runs now: nothing remembers it, and there is room to remember it."""
    return (
        session.acked <= call < session.acked + CALL_WINDOW
        and call not in session.replies
        and call not in session.holds
        and call not in session.waiters
        and session.reply_bytes < bytes_max
    )


def refusal_of(session: Session, call: int, limits: Limits) -> Refusal:
    """Why a call that is not new and that nothing remembers must not run."""
    if call < session.acked:
        return FORGOTTEN
    if call >= session.acked + CALL_WINDOW:
        return call_window(session)
    bound = limits.remembered_bytes_per_session
    assert session.reply_bytes >= bound
    name = "remembered_bytes_per_session"
    text = f"remembered bytes per session: the limit of {bound} is reached; earlier answers must be acknowledged first"
    return Refusal("limit", text, limit=name, bound=bound)


def call_window(session: Session) -> Refusal:
    """The refusal of a call number too far beyond what was acknowledged."""
    return Refusal("call_window", f"more than {CALL_WINDOW} calls of this session are unanswered", acked=session.acked)


def remember(session: Session, call: int, reply: Reply) -> None:
    """Keeps the answer of a call that ran. A refusal that asks for a retry of the same call ran nothing: not kept."""
    assert call not in session.replies, "a call runs once"
    if type(reply) is Refusal and ERRORS[reply.code].action is Action.RETRY:
        return
    size = reply_bytes(reply)
    session.replies[call] = (reply, size)
    session.reply_bytes += size


def forget_hold(session: Session, call: int, reply: Refusal) -> None:
    """The acquire `call` holds and waits no more, or never will: from now on its answer is `reply`."""
    if call >= session.acked:
        remember(session, call, reply)


def reply_bytes(reply: Reply) -> int:
    """About how many bytes a remembered reply has: cheap, never much too small, the same on every replica."""
    if isinstance(reply, dict):
        stat: Any = reply.get("stat")
        if stat is not None:
            texts = text_bytes(stat["path"]) + text_bytes(stat["owner"])
            return 384 + texts + len(reply.get("contents", b""))  # type: ignore[arg-type]
        for name in ("results", "entries"):  # of a transaction, and of what it listed
            several = reply.get(name)
            if isinstance(several, list):
                names = sum(text_bytes(one.get("name", "")) for one in several)
                return 64 + names + sum(map(reply_bytes, several))
        holds = reply.get("holds")  # of a resume, or of an unlock, whose one path is in no row
        return 64 if not isinstance(holds, list) else sum(map(_row_bytes, holds), 64 + PATH_BYTES_MAX)
    size = 256 + text_bytes(reply.message)
    if reply.details:
        size += _details_bytes(reply.details)
    return size


def _row_bytes(row: dict[str, object]) -> int:
    path = row.get("path")
    return 256 + 4 * text_bytes(path) if isinstance(path, str) else 32  # a row with a path has a sequencer too


def _details_bytes(details: dict[str, object]) -> int:
    holder, cycle = details.get("holder"), details.get("cycle")
    client = holder.get("client") if isinstance(holder, dict) else None
    labels = client_bytes(client) if isinstance(client, dict) else 0
    reason = holder.get("revoked") if isinstance(holder, dict) else details.get("reason")
    labels += len(reason) if isinstance(reason, str) else 0
    return labels + (1536 * len(cycle) if isinstance(cycle, list) else 0)
