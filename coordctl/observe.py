"""`elect --observe`: who leads, one line for each change.

The cell is asked twice a second, at a fixed pace (`POLL_SECONDS`), for the holder of the lock and the file under it.
What the file says belongs to the present leader only if it was written after the grant: `content_generation` is the
revision of the last writing, and the token the revision of the grant.
"""

from __future__ import annotations

import sys
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, NamedTuple

from coordctl.errors import Exit, complain, exit_code_of
from coordctl.output import cell_text, client_text, columns, moment, print_json, print_rows
from coordctl.settings import Settings

if TYPE_CHECKING:
    from coordclient import Client, File, Why

POLL_SECONDS = 0.5
_COLUMNS = columns("TIME TOKEN VALUE CLIENT")


class Leader(NamedTuple):
    """`token` is None when nobody leads; `value` while the leader has not written it yet."""

    token: int | None = None
    value: bytes | None = None
    client: str = ""
    session: int | None = None


def leader_of(why: Why, file: File | None) -> Leader:
    """Who leads by what the cell says of the lock and, asked after it, of the file."""
    holders = why.lock.holders if why.lock is not None else ()
    holder = next((holder for holder in holders if not holder.delayed and holder.mode == "exclusive"), None)
    if holder is None:
        return Leader()
    told = file is not None and file.stat.content_generation > holder.token
    value = file.contents if file is not None and told else None
    return Leader(holder.token, value, client_text(holder.client), holder.session)


def observe_leaders(settings: Settings, path: str) -> int:
    """Until Ctrl-C."""
    shown: Leader | None = None
    complained = False
    with settings.open_client() as client:
        while True:
            try:
                found = _look(client, path)
                complained = False
            except Exception as error:
                if exit_code_of(getattr(error, "code", "")) != Exit.UNAVAILABLE:
                    raise
                if not complained:
                    complain(f"{error}; trying again")
                complained, found = True, shown or Leader()
            # A leader that has not written yet will, or will not lead for long: its line comes with its value.
            if found != shown and (found.token is None or found.value is not None) and not complained:
                _show(settings, path, found)
                shown = found
            time.sleep(POLL_SECONDS)


def _look(client: Client, path: str) -> Leader:
    from coordclient import IsADirectory, NotFound

    why = client.why(path)
    try:
        return leader_of(why, client.get(path))
    except (NotFound, IsADirectory):
        return leader_of(why, None)


def _show(settings: Settings, path: str, leader: Leader) -> None:
    at = moment(round(datetime.now(UTC).timestamp() * 1000))
    if settings.json:
        value = {"value": leader.value} if leader.value is not None else {"value": None}
        found = {"time": at, "path": path, "token": leader.token, **value, "client": leader.client or None}
        print_json({**found, "session": leader.session}, line=True)
    else:
        text = None if leader.value is None else cell_text(leader.value.decode(errors="replace"))
        if settings.output in ("name", "value"):
            print(cell_text(text))
        else:
            print_rows(_COLUMNS, [(at, leader.token, text, leader.client)])
    sys.stdout.flush()
