"""The doors of a session: who may speak for it.

A POST proves the session by its secret each time. A channel proves it once, by `attach`, and gives each attachment a
number that rises with every channel of the session: frames of an older attachment are refused, because they may have
lain in the buffer of a dead connection for any time. What was accepted before the newer attachment came stays accepted.

A process that resumes a session gives it a new incarnation and a new secret, and begins to number its attachments anew.
What comes by an attachment of an older incarnation, or with an older secret, is of a process that has lost the session.

Attachment numbers are volatile and kept across masterships: a highest number seen is true for ever.
"""

from __future__ import annotations

from collections.abc import Mapping
from hmac import compare_digest
from typing import Protocol

from coordclient.protocol.errors import Refusal
from coordd.engine.inputs import Call
from coordd.machine.machine import Session


class Secretive(Protocol):
    """What the doors must know of a session."""

    @property
    def secret(self) -> str: ...

    @property
    def incarnation(self) -> int: ...


def stale_channel() -> Refusal:
    """To a frame, or an attach, of a channel that the session has left."""
    return Refusal("stale_channel", "the session has moved to a newer channel; attach anew, with a higher number")


def session_expired(session: int) -> Refusal:
    """One answer for "ended", "never was" and "wrong secret": a stranger learns nothing."""
    return Refusal("session_expired", f"session {session} has ended, or its id or secret is wrong; open a new one")


class Doors:
    """Attachments of sessions, and proofs by secret."""

    def __init__(self) -> None:
        self._attachments: dict[int, tuple[int, int]] = {}  # session -> incarnation and attachment

    @staticmethod
    def proves(secret: str, info: Secretive | None) -> bool:
        """True when `secret` is that session's; takes as long for a wrong one as for the right one."""
        if info is None:
            return False
        return compare_digest(secret.encode("utf-8", "replace"), info.secret.encode())

    def objection(self, call: Call, info: Secretive | None) -> tuple[Refusal, bool] | None:
        """Why this call may not speak for its session, if so; and whether that is final.

        What is not final may come of a state that lacks what was chosen last. An incarnation only rises, and so does
        the number of an attachment.
        """
        if call.secret is not None:
            return None if self.proves(call.secret, info) else (session_expired(call.session), False)
        if call.operation == "attach":
            return None  # it proves itself, by the secret
        if info is not None and call.incarnation != info.incarnation:
            return session_expired(call.session), call.incarnation < info.incarnation
        return (stale_channel(), True) if self.is_stale(call) else None

    def attached(self, call: Call, info: Session | None, epoch: int) -> dict[str, object] | Refusal:
        """The answer to `attach`: from now on that channel speaks for the session, if it proves to be its."""
        session, attachment = call.arguments["session"], call.arguments["attachment"]
        assert isinstance(session, int) and isinstance(attachment, int)
        if info is None or not self.proves(str(call.arguments["secret"]), info):
            return session_expired(session)
        stale = self.attach(session, info.incarnation, attachment)
        if stale is not None:
            return stale
        return {"session": session, "lease_ms": info.lease_ms, "epoch": epoch, "incarnation": info.incarnation}

    def attach(self, session: int, incarnation: int, attachment: int) -> Refusal | None:
        """Remember a proved attachment; refused when a newer one is known."""
        newest = self._attachments.get(session, (0, 0))
        if (incarnation, attachment) < newest:
            return stale_channel()
        self._attachments[session] = (incarnation, attachment)
        return None

    def is_stale(self, call: Call) -> bool:
        """True for a frame of an attachment that a newer one has replaced, or that never was."""
        newest = self._attachments.get(call.session, (1, 1))
        return call.attachment == 0 or (call.incarnation, call.attachment) < newest

    def forget(self, session: int) -> None:
        """The session has ended."""
        self._attachments.pop(session, None)

    def keep_only(self, sessions: Mapping[int, object]) -> None:
        """Forget all sessions but these."""
        self._attachments = {key: value for key, value in self._attachments.items() if key in sessions}
