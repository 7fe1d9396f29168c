"""Sequencers: a grant as text that its holder shows to the servers that the lock protects [Chubby 2.4].

`coord1:<cell>:<path>:<mode>:<token>:<session>:<hold>:<code>`: `coord1` is the format, the path is percent-encoded (all
but letters, digits and `/_.~-`), numbers are decimal, the code is 32 hex digits: BLAKE2s keyed with the cell's
sequencer key over everything before the last colon. Keys have two generations: a sequencer made before the last change
of the key still verifies, one made before the last two does not.
"""

from __future__ import annotations

import re
from hashlib import blake2s
from hmac import compare_digest
from urllib.parse import quote, unquote

from coordclient.protocol.errors import Refusal
from coordd.machine.state import Hold, State, token_of

FORMAT = "coord1"
CODE_BYTES = 16
_plain = re.compile(r"[A-Za-z0-9/_.~-]*").fullmatch
_number = re.compile(r"0|[1-9][0-9]{0,15}").fullmatch


def quote_path(path: str) -> str:
    """The path without colons, spaces or anything else that a header, a URL or a shell would mind."""
    return path if _plain(path) else quote(path, safe="/")


def set_key(state: State, key: bytes, before: bytes) -> None:
    """Sequencers are made with `key` from now on; those made with `before` still verify."""
    state.key = key
    state.key_before = before
    # A copy of a keyed hash costs a third of a new one, and every grant needs one.
    state.keyed = _keyed(key) if key else None


def _keyed(key: bytes) -> blake2s:
    return blake2s(key=key, digest_size=CODE_BYTES)


def sequencer_of(state: State, hold: Hold) -> str:
    """The sequencer of a present hold."""
    lock = hold.lock
    path = quote_path(lock.node.path)
    text = f"{FORMAT}:{state.cell}:{path}:{lock.mode}:{hold.token or lock.token}:{hold.session}:{hold.call}"
    assert state.keyed is not None, "no grant without a key"
    code = state.keyed.copy()
    code.update(text.encode())
    return f"{text}:{code.hexdigest()}"


def check(state: State, text: str) -> str:
    """Why the sequencer is not valid now, or "" when it is."""
    parts = text.split(":")
    if parts[0] != FORMAT or len(parts) != 8:
        return f"this is not a sequencer of the format {FORMAT}"
    _, cell, path, mode, *numbers, code = parts
    if cell != state.cell:
        return "it was given by another cell"
    if not all(map(_number, numbers)):
        return f"this is not a sequencer of the format {FORMAT}"
    if not _is_ours(state, text[: -len(code) - 1], code):
        return "its code is not of this cell, or older than two keys"
    token, session, call = map(int, numbers)
    lock = state.locks.get(unquote(path))
    hold = lock.holders.get((session, call)) if lock is not None else None
    if lock is None or hold is None or token_of(hold) != token or lock.mode != mode:
        return "the lock was released or lost"
    if hold.delayed:
        return "the holder has lost it, and its lock-delay runs"
    return ""


def guard(state: State, text: str | None) -> None:
    """Refuses the change that `text` guards, unless it is a valid sequencer now; None: the change is not guarded."""
    reason = "" if text is None else check(state, text)
    if reason:
        raise Refusal("guard_failed", f"if_sequencer: {reason}", reason=reason)


def _is_ours(state: State, text: str, code: str) -> bool:
    ours = False
    for key in (state.key, state.key_before):
        if key:
            keyed = _keyed(key)
            keyed.update(text.encode())
            ours |= compare_digest(keyed.hexdigest().encode(), code.encode())
    return ours
