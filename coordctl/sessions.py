"""Sessions: session ls."""

from __future__ import annotations

import click

from coordctl.errors import Exit
from coordctl.output import client_text, duration, moment, print_json, print_rows
from coordctl.settings import Settings, common

_COLUMNS = ("SESSION", "CLIENT", "LEASE", "LEFT", "OPENED", "HOLDS", "WAITS", "EPHEMERALS", "PRINCIPAL")


@click.group(invoke_without_command=True)
@click.pass_context
def session(ctx: click.Context) -> int | None:
    """Who is connected to the cell."""
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help(), err=True)
        return Exit.USAGE
    return None


@session.command("ls")
@common
@click.pass_obj
def session_ls(settings: Settings) -> None:
    """All sessions, with what is left of their leases."""
    with settings.open_client() as client:
        rows = client.sessions()
    if settings.json:
        print_json(
            [
                {
                    "session": row.session,
                    "client": row.client,
                    "principal": row.principal,
                    "opened": moment(row.opened_ms),
                    "lease_seconds": row.lease_ms / 1000,
                    "left_seconds": row.left_ms / 1000,
                    "holds": row.holds,
                    "waiters": row.waiters,
                    "ephemerals": row.ephemerals,
                }
                for row in rows
            ]
        )
        return
    table = [
        (
            row.session,
            client_text(row.client),
            duration(row.lease_ms),
            duration(max(0, row.left_ms)),
            moment(row.opened_ms),
            row.holds,
            row.waiters,
            row.ephemerals,
            row.principal,
        )
        for row in rows
    ]
    print_rows(_COLUMNS, table, aligned=settings.aligned)
