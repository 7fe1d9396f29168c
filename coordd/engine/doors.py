"""The doors of a session: who may speak for it.

A POST proves the session by its secret each time. A channel proves it once, by `attach`, and gives each attachment a
number that rises with every channel of the session: frames of an older attachment are refused, because they may have
lain in the buffer of a dead connection for any time. What was accepted before the newer attachment came stays accepted.

Attachment numbers are volatile and kept across masterships: a highest number seen is true for ever.
"""

from __future__ import annotations

from collections.abc import Mapping
from hmac import compare_digest
from typing import Protocol

from coordclient.protocol.errors import Refusal
from coordd.engine.inputs import Call


class Secretive(Protocol):
    """What the doors must know of a session."""

    @property
    def secret(self) -> str: ...


def stale_channel() -> Refusal:
    """To a frame, or an attach, of a channel that the session has left."""
    return Refusal("stale_channel", "the session has moved to a newer channel; attach anew, with a higher number")


def session_expired(session: int) -> Refusal:
    """One answer for "ended", "never was" and "wrong secret": a stranger learns nothing."""
    return Refusal("session_expired", f"session {session} has ended, or its id or secret is wrong; open a new one")


class Doors:
    """Attachments of sessions, and proofs by secret."""

    def __init__(self) -> None:
        self._attachments: dict[int, int] = {}

    @staticmethod
    def proves(secret: str, info: Secretive | None) -> bool:
        """True when `secret` is that session's; takes as long for a wrong one as for the right one."""
        if info is None:
            return False
        return compare_digest(secret.encode("utf-8", "replace"), info.secret.encode())

    def attach(self, session: int, attachment: int) -> Refusal | None:
        """Remember a proved attachment; refused when a newer one is known."""
        if attachment < self._attachments.get(session, 0):
            return stale_channel()
        self._attachments[session] = attachment
        return None

    def is_stale(self, call: Call) -> bool:
        """True for a frame of an attachment that a newer one has replaced, or that never was."""
        return call.attachment < self._attachments.get(call.session, 1)

    def forget(self, session: int) -> None:
        """The session has ended."""
        self._attachments.pop(session, None)

    def keep_only(self, sessions: Mapping[int, object]) -> None:
        """Forget all sessions but these."""
        self._attachments = {key: value for key, value in self._attachments.items() if key in sessions}
