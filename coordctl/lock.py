"""Locks that a command runs under: lock, elect."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Callable, Sequence
from typing import Any, Literal, TypeVar

import click

from coordctl.completion import path_argument
from coordctl.errors import Exit, Failure
from coordctl.order import Order
from coordctl.output import print_json
from coordctl.separated import Separated, command_elsewhere
from coordctl.settings import Number, Seconds, Settings, common

_Command = TypeVar("_Command", bound=Callable[..., Any])
LEASE_SECONDS, LOCK_DELAY_SECONDS, KILL_AFTER_SECONDS = 12.0, 5.0, 3.0
LEASE_SECONDS_MIN, LEASE_SECONDS_MAX, LOCK_DELAY_SECONDS_MAX = 1.0, 60.0, 60.0
EXIT_CODE_MAX = 255
PATHS_MAX, PERMITS_MAX = 64, 4096
_PATH_CHARACTERS_MAX, _PATHS_CHARACTERS_MAX = 1024, 16 * 1024  # all grants must fit into the pipe to the front
VALUE_BYTES_MAX = 4096


def holding_options(command: _Command) -> _Command:
    """What every command that holds a lock can be told about it."""
    seconds = {
        "--lock-delay": (
            Seconds(high=LOCK_DELAY_SECONDS_MAX),
            LOCK_DELAY_SECONDS,
            "How long the lock stays closed after its holder's session expired; the outage that CMD survives [5s].",
        ),
        "--lease": (
            Seconds(low=LEASE_SECONDS_MIN, high=LEASE_SECONDS_MAX),
            LEASE_SECONDS,
            "Lease of the session that holds the lock [12s].",
        ),
        "--kill-after": (Seconds(), KILL_AFTER_SECONDS, "From TERM to KILL when the lock is lost [3s]."),
    }
    code = Number(0, EXIT_CODE_MAX)
    options = [
        click.option("-n", "--no-wait", is_flag=True, help="Do not wait: exit 75 if the lock is not free."),
        click.option("-w", "--wait", type=Seconds(), metavar="SEC", help="Wait so long, then exit 75 [for ever]."),
        click.option("-E", "--not-acquired-exit", type=code, metavar="CODE", help="Instead of 75."),
        *(
            click.option(name, type=kind, default=default, metavar="SEC", help=words)
            for name, (kind, default, words) in seconds.items()
        ),
    ]
    for add in reversed(options):
        command = add(command)
    return command


@click.command(
    cls=Separated,
    options_metavar="[OPTIONS]",
    epilog="CMD and its arguments follow after `--`; no shell is in between.",
)
@path_argument("paths", nargs=-1, required=True, metavar="PATH...")
@click.option("-s", "--shared", is_flag=True, help="Together with other shared holders.")
@click.option("--permits", type=Number(1, PERMITS_MAX), metavar="N", help="As one of at most N holders (one PATH).")
@holding_options
@common
@click.pass_context
def lock(ctx: click.Context, /, paths: tuple[str, ...], shared: bool, permits: int | None, **times: Any) -> int:
    """Run CMD under a lock, or hold it until Ctrl-C if there is no CMD. Of several PATHs it has all or none.

    CMD has COORD_LOCK_PATH, COORD_LOCK_TOKEN and COORD_LOCK_SEQUENCER in its environment (a line for each PATH). It is
    killed with all its descendants before anybody else can get the lock; the exit code is then 76, otherwise that of
    CMD.
    """
    if permits is not None and (shared or len(paths) > 1):
        raise click.UsageError("--permits goes with one PATH, and without --shared")
    if len(paths) > 1 and not ctx.meta.get("separated") and not all(path.startswith("/") for path in paths):
        raise command_elsewhere(ctx)
    mode: Literal["exclusive", "shared", "semaphore"] = "shared" if shared else "exclusive"
    if permits is not None:
        mode = "semaphore"
    return run(ctx, order_of(ctx, paths, mode=mode, permits=permits or 0, **times))


@click.command(
    cls=Separated,
    options_metavar="[OPTIONS]",
    epilog="CMD and its arguments follow after `--`; no shell is in between.",
)
@path_argument()
@click.argument("value", required=False)
@click.option("--observe", is_flag=True, help="Do not stand: print a line whenever the leader changes.")
@holding_options
@common
@click.pass_context
def elect(ctx: click.Context, /, path: str, value: str | None, observe: bool, **times: Any) -> int:
    """Become the leader at PATH, one at a time: run CMD as long as it is, or lead until Ctrl-C if there is no CMD.

    The leader is whoever holds the lock at PATH. It writes VALUE (default: HOST:PID) into the file, guarded by its
    sequencer; the rest is as with `lock`. --observe prints the time, token, value and holder of each leader, and a line
    without them when there is none; it looks twice a second, so a leader of less than that may go unseen.
    """
    if observe:
        if value is not None or ctx.meta["command"]:
            raise click.UsageError("--observe goes without VALUE and without CMD")
        from coordctl.observe import observe_leaders

        return observe_leaders(ctx.obj, path)
    text = f"{socket.gethostname()}:{os.getpid()}" if value is None else value
    data = text.encode(errors="surrogateescape")
    if len(data) > VALUE_BYTES_MAX:
        raise click.UsageError(f"VALUE has {len(data)} bytes; the limit is {VALUE_BYTES_MAX}")
    return run(ctx, order_of(ctx, (path,), mode="exclusive", value=data, **times))


def order_of(
    ctx: click.Context,
    paths: tuple[str, ...],
    *,
    mode: Literal["exclusive", "shared", "semaphore"],
    no_wait: bool,
    wait: float | None,
    not_acquired_exit: int | None,
    lock_delay: float,
    lease: float,
    kill_after: float,
    permits: int = 0,
    value: bytes | None = None,
) -> Order:
    """The order, checked as far as that goes without the cell."""
    settings: Settings = ctx.obj
    if no_wait and wait is not None:
        raise click.UsageError("--no-wait and --wait exclude each other")
    _check_paths(paths)
    return Order(
        paths=paths,
        mode=mode,
        wait=0.0 if no_wait else wait,
        lock_delay=lock_delay,
        lease=lease,
        kill_after=kill_after,
        not_acquired_exit=Exit.NOT_ACQUIRED if not_acquired_exit is None else not_acquired_exit,
        command=ctx.meta["command"],
        connection=settings.connection,
        quiet=settings.quiet,
        verbose=settings.verbose,
        permits=permits,
        value=value,
    )


def _check_paths(paths: Sequence[str]) -> None:
    if len(paths) > PATHS_MAX:
        raise Failure(f"{len(paths)} locks at once; the limit is {PATHS_MAX}", Exit.USAGE)
    if any(len(path) > _PATH_CHARACTERS_MAX for path in paths):
        raise Failure(f"the path is longer than {_PATH_CHARACTERS_MAX} characters", Exit.USAGE)
    if sum(len(path.encode(errors="replace")) for path in paths) > _PATHS_CHARACTERS_MAX:
        raise Failure(f"the paths together are longer than {_PATHS_CHARACTERS_MAX} bytes", Exit.USAGE)


def run(ctx: click.Context, order: Order) -> int:
    """The two processes; the exit code."""
    from coordctl.runner import run_lock

    settings: Settings = ctx.obj
    return run_lock(order, lambda grants: _show_grants(settings, grants))


def _show_grants(settings: Settings, grants: Sequence[dict[str, Any]]) -> None:
    if settings.json:
        print_json(grants[0] if len(grants) == 1 else grants)
    else:
        for grant in grants:
            click.echo(grant["path"] if settings.output == "name" else str(grant["token"]))
    sys.stdout.flush()


COMMANDS: tuple[click.Command, ...] = (lock, elect)
