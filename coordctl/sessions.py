"""Sessions: session ls|show|kill, whoami."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from coordctl.errors import Exit
from coordctl.output import (
    client_text,
    columns,
    duration,
    duration_or_none,
    moment,
    note,
    print_fields,
    print_json,
    print_rows,
    seconds_or_none,
)
from coordctl.reasons import reason_option
from coordctl.refresh import Listing, refreshable, repeat
from coordctl.settings import Number, Settings, common

if TYPE_CHECKING:
    from coordclient import SessionDetails, SessionInfo

_COLUMNS = columns(
    "SESSION CLIENT... LEFT HEARD HOLDS WAITS EPHEMERALS (LEASE) (OPENED) (PRINCIPAL) (INCARNATION) KILLED"
)
_ID = click.argument("session_id", metavar="ID", type=Number(1))


@click.group(invoke_without_command=True)
@click.pass_context
def session(ctx: click.Context) -> int | None:
    """Who is connected to the cell."""
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help(), err=True)
        return Exit.USAGE
    return None


def session_as_json(row: SessionInfo) -> dict[str, Any]:
    """Times as text, durations in seconds."""
    return {
        "session": row.session,
        "client": row.client,
        "principal": row.principal,
        "opened": moment(row.opened_ms),
        "lease_seconds": row.lease_ms / 1000,
        "left_seconds": row.left_ms / 1000,
        "heard_seconds_ago": seconds_or_none(row.heard_ms_ago),
        "incarnation": row.incarnation,
        "killed": row.killed or None,
        "holds": row.holds,
        "waiters": row.waiters,
        "ephemerals": row.ephemerals,
    }


@session.command("ls", cls=Listing)
@refreshable
@common
@click.pass_obj
def session_ls(settings: Settings) -> int:
    """All sessions, with what is left of their leases."""
    with settings.open_client() as client:
        return repeat(settings, lambda: _show_sessions(settings, client.sessions()))


def _show_sessions(settings: Settings, rows: list[SessionInfo]) -> None:
    if settings.json:
        print_json([session_as_json(row) for row in rows], line=settings.refresh is not None)
        return
    table = [
        (
            row.session,
            client_text(row.client),
            duration_or_none(row.left_ms),
            duration_or_none(row.heard_ms_ago),
            row.holds,
            row.waiters,
            row.ephemerals,
            duration(row.lease_ms),
            moment(row.opened_ms),
            row.principal,
            row.incarnation,
            row.killed or None,
        )
        for row in rows
    ]
    print_rows(_COLUMNS, table, settings.output)


@session.command("show")
@_ID
@common
@click.pass_obj
def session_show(settings: Settings, session_id: int) -> None:
    """One session, with all that it holds, waits for and keeps alive."""
    with settings.open_client() as client:
        _show_details(settings, client.session_info(session_id))


@session.command("kill")
@_ID
@reason_option
@common
@click.pass_obj
def session_kill(settings: Settings, session_id: int, reason: str) -> None:
    """End a session: its client is told, stops, and loses all that it holds, as if its lease had run out.

    Its locks are free when the client has said that it stopped, or its lease is over, and after their lock-delays.
    """
    with settings.open_client() as client:
        done = client.kill_session(session_id, reason=reason)
    if settings.json:
        print_json({"session": done.session, "holds": done.holds, "lease_seconds": done.lease_ms / 1000})
    elif not settings.quiet:
        locks = f"{done.holds} lock{'' if done.holds == 1 else 's'}"
        note(
            f"session {done.session} is being ended; its {locks} become free when its client has stopped, at the latest"
            f" in {duration(done.lease_ms)}, and the lock-delay has passed"
        )


@click.command()
@common
@click.pass_obj
def whoami(settings: Settings) -> None:
    """Who the cell takes this program for, and which cell that is."""
    with settings.open_client() as client:
        details = client.session_info()
        status = client.status()
    info = details.info
    fields = {
        "principal": info.principal,
        "client": info.client if settings.json else client_text(info.client),
        "session": info.session,
        "cell": status["cell"],
        "context": settings.context,
        "master": status.get("master_address"),
    }
    if settings.json:
        print_json(fields)
    else:
        print_fields(fields, settings.output, name="principal")


def _show_details(settings: Settings, details: SessionDetails) -> None:
    if settings.json:
        print_json(
            {
                **session_as_json(details.info),
                "holds": [
                    {
                        "path": hold.path,
                        "mode": hold.mode,
                        "permits": hold.permits,
                        "token": hold.token,
                        "since": moment(hold.since_ms),
                        "lock_delay_seconds": hold.lock_delay_ms / 1000,
                        "revoked": hold.revoked,
                    }
                    for hold in details.holds
                ],
                "waiting": [
                    {"path": wait.path, "mode": wait.mode, "place": wait.place, "since": moment(wait.since_ms)}
                    for wait in details.waiting
                ],
                "ephemeral_paths": details.ephemeral_paths,
            }
        )
        return
    info = details.info
    fields: dict[str, object] = {
        "session": info.session,
        "client": client_text(info.client),
        "principal": info.principal,
        "opened": moment(info.opened_ms),
        "lease": duration(info.lease_ms),
        "left": duration_or_none(info.left_ms),
        "last heard": duration_or_none(info.heard_ms_ago),
        "incarnation": info.incarnation,
        "killed": info.killed or None,
    }
    for number, hold in enumerate(details.holds, 1):
        revoked = f", revoked: {hold.revoked}" if hold.revoked is not None else ""
        fields[f"holds {number}"] = (
            f"{hold.path} ({hold.mode}), token {hold.token}, since {moment(hold.since_ms)}{revoked}"
        )
    for number, wait in enumerate(details.waiting, 1):
        fields[f"waits {number}"] = f"{wait.path} ({wait.mode}), place {wait.place}, since {moment(wait.since_ms)}"
    for number, path in enumerate(details.ephemeral_paths, 1):
        fields[f"ephemeral {number}"] = path
    print_fields(fields, settings.output, name="session")
