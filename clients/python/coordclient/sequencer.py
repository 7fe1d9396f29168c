"""PURE. The parts of a sequencer, for whoever protects something. Whether it is genuine and valid, only the cell knows.

`coord1:<cell>:<path>:<mode>:<token>:<session>:<hold>:<code>`: the path is percent-encoded, numbers are decimal.
"""

from __future__ import annotations

import re
from typing import NamedTuple
from urllib.parse import unquote

from coordclient.errors import BadRequest
from coordclient.protocol.operations import MODES

FORMAT = "coord1"
SEQUENCER_CHARS_MAX = 4_096
_number = re.compile(r"0|[1-9][0-9]{0,15}").fullmatch
_cell = re.compile(r"[a-z0-9][a-z0-9-]{0,31}").fullmatch


class Sequencer(NamedTuple):
    """What a sequencer says of itself. `path` is the short form, `text` the whole."""

    cell: str
    path: str
    mode: str
    token: int
    session: int
    hold: int
    text: str


def parse_sequencer(text: str) -> Sequencer:
    """The parts; raises BadRequest for what is no sequencer.

    >>> parse_sequencer(lock.sequencer).token == lock.token
    True
    """
    if len(text) > SEQUENCER_CHARS_MAX:
        raise BadRequest(f"a sequencer has at most {SEQUENCER_CHARS_MAX} characters, not {len(text)}")
    parts = text.split(":")
    if len(parts) != 8 or parts[0] != FORMAT:
        raise BadRequest(f"not a sequencer of the format {FORMAT}: {text[:80]!r}")
    _, cell, path, mode, token, session, hold, _ = parts
    if not (_cell(cell) and path.startswith("/") and mode in MODES and all(map(_number, (token, session, hold)))):
        raise BadRequest(f"not a sequencer of the format {FORMAT}: {text[:80]!r}")
    return Sequencer(cell, unquote(path), mode, int(token), int(session), int(hold), text)
