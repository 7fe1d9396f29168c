"""`why PATH`: why a lock is not free, in words: who holds it, who waits, and how the last holders lost it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

from coordctl.completion import path_argument
from coordctl.locks import lock_as_json
from coordctl.output import age, client_text, duration, duration_or_none, moment, print_json, printable
from coordctl.refresh import Listing, refreshable, repeat
from coordctl.settings import Settings, common

if TYPE_CHECKING:
    from coordclient import Holder, Loss, Waiter, Why

CAUSES = {
    "released": "released it",
    "closed": "closed its session",
    "expired": "its session expired",
    "killed": "its session was ended by an operator",
    "broken": "taken away at once by an operator",
    "revoked": "taken away by an operator",
    "transferred": "handed it over",
}


@click.command(cls=Listing)
@path_argument()
@refreshable
@common
@click.pass_obj
def why(settings: Settings, path: str) -> int:
    """Who holds the lock at PATH and since when, who waits in which place, and how the last holders lost it."""
    with settings.open_client() as client:
        return repeat(settings, lambda: _show(settings, client.why(path)))


def _show(settings: Settings, found: Why) -> None:
    if settings.json:
        print_json(_as_json(found), line=settings.refresh is not None)
    elif settings.output == "name":
        for holder in found.lock.holders if found.lock is not None else ():
            print(client_text(holder.client))
    elif settings.output == "value":
        for holder in found.lock.holders if found.lock is not None else ():
            print(f"{holder.session}\t{holder.token}")
    else:
        for line in lines(found):
            print(line)


def _as_json(found: Why) -> dict[str, Any]:
    def loss_as_json(loss: Loss) -> dict[str, Any]:
        shown = {key: value for key, value in loss._asdict().items() if not key.endswith("_ms")}
        return {**shown, "since": moment(loss.since_ms), "ended": moment(loss.ended_ms)}

    return {
        "path": found.path,
        "revision": found.revision,
        "exists": found.exists,
        "lock": None if found.lock is None else lock_as_json(found.lock),
        "losses": [loss_as_json(loss) for loss in found.losses],
    }


def lines(found: Why) -> Iterator[str]:
    """For people: short lines, each with one thing."""
    holders = found.lock.holders if found.lock is not None else ()
    waiters = found.lock.waiters if found.lock is not None else ()
    active = [holder for holder in holders if not holder.delayed]
    permits = (
        f" ({len(active)} of {found.lock.permits} permits)" if found.lock is not None and found.lock.permits else ""
    )
    if not found.exists and not found.losses:
        yield f"{found.path}: free; there is no such file, and nobody has held it lately"
    elif not holders:
        yield f"{found.path}: free"
    elif active:
        yield f"{found.path}: held{permits}"
    else:
        yield f"{found.path}: held by nobody, but closed by the lock-delay of its last holder"
    for holder in holders:
        yield from _holder_lines(holder)
    if waiters:
        yield f"waiting: {len(waiters)}"
    for waiter in waiters:
        yield _waiter_line(waiter)
    if found.losses:
        yield "last holders, newest first:"
    for loss in found.losses:
        yield from _loss_lines(loss)


def _holder_lines(holder: Holder) -> Iterator[str]:
    yield f"  {client_text(holder.client) or 'unknown'}, session {holder.session}"
    for key, value in _holder_fields(holder).items():
        if value is not None:
            yield f"    {key:<14}{value}"


def _holder_fields(holder: Holder) -> dict[str, str | None]:
    labels = dict(holder.client)
    heard = duration_or_none(holder.heard_ms_ago)
    return {
        "program": _text(labels.get("program")),
        "principal": _text(holder.principal),
        "mode": f"{holder.mode}, token {holder.token}",
        "since": f"{moment(holder.since_ms)}, {age(holder.since_ms)} ago",
        "last heard": None if holder.delayed or heard is None else f"{heard} ago",
        "lease left": None if holder.delayed else duration_or_none(holder.left_ms),
        "lock-delay": (
            f"{duration_or_none(holder.delay_left_ms) or '?'} left of {duration(holder.lock_delay_ms)}"
            if holder.delayed
            else duration(holder.lock_delay_ms)
        ),
        "after a crash": (
            None
            if holder.delayed or holder.crash_wait_ms is None
            else f"others wait at most {duration(holder.crash_wait_ms)}"
        ),
        "revoked": _text(holder.revoked),
    }


def _text(value: str | None) -> str | None:
    return None if value is None else printable(value)


def _waiter_line(waiter: Waiter) -> str:
    several = ", for several locks at once" if waiter.several else ""
    return (
        f"  {waiter.place}. {client_text(waiter.client) or 'unknown'}, session {waiter.session},"
        f" {waiter.mode}{several}, for {age(waiter.since_ms)}"
    )


def _loss_lines(loss: Loss) -> Iterator[str]:
    cause = CAUSES.get(loss.cause, loss.cause)
    held = duration(max(0, loss.ended_ms - loss.since_ms))
    yield f"  {moment(loss.ended_ms)}  {client_text(loss.client) or 'unknown'}: {cause} after {held}"
    if loss.reason:
        yield f"    because: {printable(loss.reason)}"


COMMANDS: tuple[click.Command, ...] = (why,)
