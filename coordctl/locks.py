"""Locks: lock, locks."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import click

from coordctl.errors import Exit, Failure
from coordctl.order import Order
from coordctl.output import age, client_text, moment, note, print_json, print_rows
from coordctl.settings import Seconds, Settings, common

if TYPE_CHECKING:
    from coordclient import Holder, LockInfo, Waiter

_COLUMNS = ("PATH", "STATE", "MODE", "TOKEN", "CLIENT", "FOR", "SESSION")
_SEPARATOR = "--"
LEASE_SECONDS, LOCK_DELAY_SECONDS, KILL_AFTER_SECONDS = 12.0, 5.0, 3.0
LEASE_SECONDS_MIN, LEASE_SECONDS_MAX, LOCK_DELAY_SECONDS_MAX = 1.0, 60.0, 60.0
EXIT_CODE_MAX = 255
_PATH_CHARACTERS_MAX = 1024


class _LockCommand(click.Command):
    """What follows the first `--` is the command, word for word; the rest is ours."""

    def collect_usage_pieces(self, ctx: click.Context) -> list[str]:
        """What the usage line says."""
        return [*super().collect_usage_pieces(ctx), "[-- CMD...]"]

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Split before click looks."""
        own, command = list(args), []
        if _SEPARATOR in own:
            at = own.index(_SEPARATOR)
            own, command = own[:at], own[at + 1 :]
            if not command:
                raise click.UsageError(f"there is no command after {_SEPARATOR}", ctx)
        ctx.meta["command"] = tuple(command)
        try:
            return super().parse_args(ctx, own)
        except click.UsageError as error:
            if not command and "unexpected" in error.format_message():
                raise click.UsageError(
                    f"the command to run goes after {_SEPARATOR}: lock PATH {_SEPARATOR} CMD...", ctx
                ) from None
            raise


@click.command(
    cls=_LockCommand,
    options_metavar="[OPTIONS]",
    epilog="CMD and its arguments follow after `--`; no shell is in between.",
)
@click.argument("path")
@click.option("-s", "--shared", is_flag=True, help="Together with other shared holders.")
@click.option("-n", "--no-wait", is_flag=True, help="Do not wait: exit 75 if the lock is not free.")
@click.option("-w", "--wait", type=Seconds(), metavar="SEC", help="Wait at most so long, then exit 75 [for ever].")
@click.option("-E", "--not-acquired-exit", type=click.IntRange(0, EXIT_CODE_MAX), metavar="CODE", help="Instead of 75.")
@click.option(
    "--lock-delay",
    type=Seconds(high=LOCK_DELAY_SECONDS_MAX),
    default=LOCK_DELAY_SECONDS,
    metavar="SEC",
    help="How long the lock stays closed after its holder's session expired; also the outage that CMD survives [5s].",
)
@click.option(
    "--lease",
    type=Seconds(low=LEASE_SECONDS_MIN, high=LEASE_SECONDS_MAX),
    default=LEASE_SECONDS,
    metavar="SEC",
    help="Lease of the session that holds the lock [12s].",
)
@click.option(
    "--kill-after",
    type=Seconds(),
    default=KILL_AFTER_SECONDS,
    metavar="SEC",
    help="From TERM to KILL when the lock is lost [3s].",
)
@common
@click.pass_context
def lock(
    ctx: click.Context,
    path: str,
    shared: bool,
    no_wait: bool,
    wait: float | None,
    not_acquired_exit: int | None,
    lock_delay: float,
    lease: float,
    kill_after: float,
) -> int:
    """Run CMD under a lock, or hold it until Ctrl-C if there is no CMD.

    CMD has COORD_LOCK_PATH, COORD_LOCK_TOKEN and COORD_LOCK_SEQUENCER in its environment. It is killed with all its
    descendants before anybody else can get the lock; the exit code is then 76, otherwise that of CMD.
    """
    from coordctl.runner import run_lock

    settings: Settings = ctx.obj
    if no_wait and wait is not None:
        raise click.UsageError("--no-wait and --wait exclude each other")
    if len(path) > _PATH_CHARACTERS_MAX:
        raise Failure(f"the path is longer than {_PATH_CHARACTERS_MAX} characters", Exit.USAGE)
    order = Order(
        paths=(path,),
        mode="shared" if shared else "exclusive",
        wait=0.0 if no_wait else wait,
        lock_delay=lock_delay,
        lease=lease,
        kill_after=kill_after,
        not_acquired_exit=Exit.NOT_ACQUIRED if not_acquired_exit is None else not_acquired_exit,
        command=ctx.meta["command"],
        connection=settings.connection,
        quiet=settings.quiet,
        verbose=settings.verbose,
    )
    return run_lock(order, lambda grants: _show_grants(settings, grants))


def _show_grants(settings: Settings, grants: Sequence[dict[str, Any]]) -> None:
    if settings.json:
        print_json(grants[0])
    else:
        click.echo(str(grants[0]["token"]))
    sys.stdout.flush()


def _rows(found: Iterable[LockInfo], *, held: bool, waiting: bool) -> list[tuple[object, ...]]:
    rows: list[tuple[object, ...]] = []
    for row in found:
        rows += [
            _row(row.path, "lock-delay" if holder.delayed else "held", holder, holder.token)
            for holder in (row.holders if held else ())
        ]
        rows += [_row(row.path, f"waits #{waiter.place}", waiter, None) for waiter in (row.waiters if waiting else ())]
    return rows


def _row(path: str, state: str, who: Holder | Waiter, token: int | None) -> tuple[object, ...]:
    return (path, state, who.mode, token, client_text(who.client), age(who.since_ms), who.session)


def _as_json(row: LockInfo, *, held: bool, waiting: bool) -> dict[str, Any]:
    def timed(who: Holder | Waiter) -> dict[str, Any]:
        rest = {key: value for key, value in who._asdict().items() if key != "since_ms"}
        return {**rest, "since": moment(who.since_ms)}

    shown: dict[str, Any] = {"path": row.path, "mode": row.mode, "token": row.token}
    if held:
        shown["holders"] = [timed(holder) for holder in row.holders]
    if waiting:
        shown["waiters"] = [timed(waiter) for waiter in row.waiters]
    return shown


@click.command()
@click.argument("path", default="/")
@click.option("--held", is_flag=True, help="Only locks that are held, without their waiters.")
@click.option("--waiting", is_flag=True, help="Only who waits.")
@common
@click.pass_obj
def locks(settings: Settings, path: str, held: bool, waiting: bool) -> None:
    """Who holds and who waits for the locks at and below PATH (default: all)."""
    if held and waiting:
        raise click.UsageError("--held and --waiting exclude each other; without either both are shown")
    with settings.open_client() as client:
        found = client.list_locks(path)
    found = [row for row in found if (row.waiters if waiting else row.holders if held else True)]
    if settings.json:
        print_json([_as_json(row, held=not waiting, waiting=not held) for row in found])
        return
    if not found and not settings.quiet and sys.stdout.isatty():
        note(f"no lock is {'waited for' if waiting else 'held' if held else 'held or waited for'}")
    rows = _rows(found, held=not waiting, waiting=not held)
    print_rows(_COLUMNS, rows, aligned=settings.aligned)


COMMANDS: tuple[click.Command, ...] = (lock, locks)
