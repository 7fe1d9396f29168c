"""Locks as they are: locks, unlock, sequencer check."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import click

from coordctl.completion import path_argument
from coordctl.errors import Exit, Failure
from coordctl.output import age, client_text, columns, moment, note, print_json, print_rows
from coordctl.reasons import reason_option
from coordctl.refresh import Listing, refreshable, repeat
from coordctl.settings import Number, Settings, common

if TYPE_CHECKING:
    from coordclient import Client, Holder, LockInfo, Waiter

_COLUMNS = columns("PATH... STATE (MODE) TOKEN CLIENT... FOR SESSION")


def _rows(found: Iterable[LockInfo], *, held: bool, waiting: bool) -> list[tuple[object, ...]]:
    rows: list[tuple[object, ...]] = []
    for row in found:
        rows += [_row(row.path, holder_state(holder), holder, holder.token) for holder in (row.holders if held else ())]
        rows += [_row(row.path, f"waits #{waiter.place}", waiter, None) for waiter in (row.waiters if waiting else ())]
    return rows


def holder_state(holder: Holder) -> str:
    """held, revoked (an operator wants it back), lock-delay."""
    if holder.delayed:
        return "lock-delay"
    return "revoked" if holder.revoked is not None else "held"


def _row(path: str, state: str, who: Holder | Waiter, token: int | None) -> tuple[object, ...]:
    mode = f"semaphore {who.permits}" if who.permits else who.mode
    return (path, state, mode, token, client_text(who.client), age(who.since_ms), who.session)


_OF_WHY = ("heard_ms_ago", "left_ms", "delay_left_ms", "crash_wait_ms")


def who_as_json(who: Holder | Waiter) -> dict[str, Any]:
    """Times as text, durations in seconds; what only `why` knows is left out where it is not known."""
    shown: dict[str, Any] = {}
    for key, value in who._asdict().items():
        if key == "since_ms":
            shown["since"] = moment(value)
        elif key.endswith(("_ms", "_ms_ago")):
            if value is not None or key not in _OF_WHY:
                shown[key.replace("_ms", "_seconds")] = None if value is None else value / 1000
        else:
            shown[key] = value
    return shown


def lock_as_json(row: LockInfo, *, held: bool = True, waiting: bool = True) -> dict[str, Any]:
    """One lock."""
    shown: dict[str, Any] = {"path": row.path, "mode": row.mode, "token": row.token, "permits": row.permits}
    if held:
        shown["holders"] = [who_as_json(holder) for holder in row.holders]
    if waiting:
        shown["waiters"] = [who_as_json(waiter) for waiter in row.waiters]
    return shown


@click.command(cls=Listing)
@path_argument(default="/")
@click.option("--held", is_flag=True, help="Only locks that are held, without their waiters.")
@click.option("--waiting", is_flag=True, help="Only who waits.")
@refreshable
@common
@click.pass_obj
def locks(settings: Settings, path: str, held: bool, waiting: bool) -> int:
    """Who holds and who waits for the locks at and below PATH (default: all)."""
    if held and waiting:
        raise click.UsageError("--held and --waiting exclude each other; without either both are shown")
    with settings.open_client() as client:
        return repeat(settings, lambda: _show_locks(settings, client, path, held=held, waiting=waiting))


def _show_locks(settings: Settings, client: Client, path: str, *, held: bool, waiting: bool) -> None:
    found = client.list_locks(path)
    found = [row for row in found if (row.waiters if waiting else row.holders if held else True)]
    if settings.json:
        shown = [lock_as_json(row, held=not waiting, waiting=not held) for row in found]
        print_json(shown, line=settings.refresh is not None)
        return
    if not found and not settings.quiet and sys.stdout.isatty():
        note(f"no lock is {'waited for' if waiting else 'held' if held else 'held or waited for'}")
    print_rows(_COLUMNS, _rows(found, held=not waiting, waiting=not held), settings.output)


@click.command()
@path_argument()
@reason_option
@click.option("--now", "now", is_flag=True, help="Free at once, whatever the holder is doing.")
@click.option(
    "--after-lease", is_flag=True, help="Free when the holder has stopped, or its lease is over; and the lock-delay."
)
@click.option("--session", "session", type=Number(1), metavar="ID", help="Only the holds of this session.")
@common
@click.pass_obj
def unlock(settings: Settings, path: str, reason: str, now: bool, after_lease: bool, session: int | None) -> None:
    """Take a lock away from whoever holds it. Exactly one of --now and --after-lease says how.

    --after-lease keeps every promise: the holder is told, stops, and only then, and after its lock-delay, can another
    have the lock. --now bends one: until the old holder has heard of it, two may believe that they hold the lock, and
    only the fencing token protects what they write to.
    """
    if now == after_lease:
        raise click.UsageError("say how: --now (two may believe that they hold it) or --after-lease (nobody is hurt)")
    from coordclient import LockLost

    with settings.open_client() as client:
        try:
            done = client.unlock(path, reason=reason, now=now, session=session or 0)
        except LockLost as error:  # nobody holds it, or not that session
            raise Failure(str(error), Exit.NOT_FOUND) from None
    if settings.json:
        holds = [{"session": of, "hold": hold} for of, hold in done.holds]
        print_json({"path": done.path, "now": done.now, "holds": holds})
        return
    if settings.output in ("name", "value"):
        for of, _ in done.holds:
            print(of)
    if not settings.quiet:
        note(_unlocked(done.path, [of for of, _ in done.holds], now))


def _unlocked(path: str, sessions: list[int], now: bool) -> str:
    who = f"session{'s' if len(sessions) > 1 else ''} {', '.join(map(str, sessions))}"
    if now:
        return (
            f"{path} was taken from {who} at once: until the old holder has heard of it, it may go on as if it held the"
            " lock; only what checks the fencing token is safe"
        )
    return (
        f"{path} is being taken from {who}: free when the holder has stopped, or its lease is over, and its lock-delay"
    )


@click.group(invoke_without_command=True)
@click.pass_context
def sequencer(ctx: click.Context) -> int | None:
    """The proof of a lock that its holder shows to others."""
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help(), err=True)
        return Exit.USAGE
    return None


@sequencer.command("check")
@click.argument("text", metavar="SEQUENCER")
@click.option(
    "--stale", is_flag=True, envvar="COORD_STALE", show_envvar=True, help="Ask any replica, which may be behind."
)
@common
@click.pass_obj
def sequencer_check(settings: Settings, text: str, stale: bool) -> int:
    """Whether SEQUENCER is valid: exit 0 if that very holder still holds the lock, 1 if not."""
    with settings.open_client() as client:
        found = client.check_sequencer(text, stale=stale)
    if settings.json:
        print_json(
            {"valid": found.valid, "reason": found.reason or None, "revision": found.revision, "stale": found.stale}
        )
    elif not settings.quiet:
        print("valid" if found.valid else f"not valid: {found.reason}" if settings.output != "value" else "not valid")
    return Exit.OK if found.valid else Exit.OTHER


COMMANDS: tuple[click.Command, ...] = (locks, unlock, sequencer)
