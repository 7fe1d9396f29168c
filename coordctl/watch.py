"""`watch PATH`: a line for each change, or a command that is run when something has changed."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from coordctl.command import check_command
from coordctl.completion import path_argument
from coordctl.errors import Exit, complain
from coordctl.events import Stream, Told, all_told, titles
from coordctl.follow import Follower, wait_for_more
from coordctl.output import columns, note, print_json
from coordctl.runs import Runs, Work
from coordctl.separated import Separated
from coordctl.settings import Number, Settings, common

if TYPE_CHECKING:
    from coordclient import Event, Resync
    from coordclient.aio.nodes import Scope, Values

VALUES = {"none": "", "new": "CONTENTS...", "both": "BEFORE... CONTENTS..."}


@click.command(cls=Separated, options_metavar="[OPTIONS]", short_help="Follow the changes of PATH, or run CMD at each.")
@path_argument()
@click.option("-R", "recursive", is_flag=True, help="Also everything below PATH.")
@click.option("--children", is_flag=True, help="The direct children of PATH, not PATH itself.")
@click.option(
    "--since",
    type=Number(0),
    metavar="REV",
    help="Begin with what changed after this revision [with what changes now].",
)
@click.option(
    "--values",
    type=click.Choice(tuple(VALUES)),
    default="none",
    help="Also what the file holds: now (new), and before (both).",
)
@click.option("--once", is_flag=True, help="End after the first change; with CMD after its run, with its exit code.")
@click.option("--at-start", is_flag=True, help="Also run CMD once when the watch has begun.")
@common
@click.pass_context
def watch(
    ctx: click.Context,
    path: str,
    recursive: bool,
    children: bool,
    since: int | None,
    values: Values,
    once: bool,
    at_start: bool,
) -> int:
    """Print a line whenever PATH changes, whether it exists or not; or run CMD then. Until Ctrl-C, over fail-over.

    No change is left out, and none is told twice. Where the cell does not remember so far back, or this watch was too
    slow, a line `resync` says so, and a line `present` for each node that there is now follows.

    CMD runs when something has changed, one run at a time; what changes meanwhile goes to the next run. It has in its
    environment COORD_WATCH_REVISION (up to there everything was told), and COORD_WATCH_KIND and COORD_WATCH_PATH, a
    line for each change (more than 100 changes: `many`, and PATH). On its stdin are the changes as -o json prints them.
    When it fails that is said, and the watch goes on.
    """
    if recursive and children:
        raise click.UsageError("-R and --children exclude each other")
    command: tuple[str, ...] = ctx.meta["command"]
    if at_start and not command:
        raise click.UsageError("--at-start goes with CMD")
    settings: Settings = ctx.obj
    if command:
        check_command(command)
    scope: Scope = "subtree" if recursive else "children" if children else "node"
    say = _Saying(settings, path)
    with (
        settings.open_client() as client,
        client.watch(path, scope=scope, since=since, values=values, on_live=say.on_live) as watched,
    ):
        say.begun(watched.revision)
        following = _Following(settings, Follower(watched.batches()), path, values, since or 0, once=once)
        if command:
            return following.run(Runs(command, path), at_start=at_start)
        return following.show(Stream(columns(titles(several=scope != "node", more=VALUES[values])), settings.output))


class _Saying:
    """Words on stderr about how the watch fares."""

    def __init__(self, settings: Settings, path: str) -> None:
        self._say = (lambda _text: None) if settings.quiet else note
        self._path = path
        self._begun = False
        self._lost = False

    def begun(self, revision: int | None) -> None:
        """From now on nothing is missed."""
        self._begun = True
        self._say(f"watching {self._path}, after revision {revision}")

    def on_live(self, live: bool) -> None:
        """A master has it, or has it no more."""
        if self._begun and live == self._lost:
            self._lost = not live
            self._say(f"{self._path}: the watch goes on" if live else f"{self._path}: the watch waits for a master")


class _Following:
    def __init__(
        self,
        settings: Settings,
        follower: Follower[Sequence[Event] | Resync],
        path: str,
        values: str,
        since: int,
        *,
        once: bool,
    ) -> None:
        self._settings = settings
        self._follower = follower
        self._path = path
        self._values = values
        self._since = since
        self._once = once

    def _take(self) -> Sequence[Told]:
        """What came next; empty if nothing did."""
        while (batch := self._follower.take()) is not None:
            told = all_told(batch, self._path, self._values)
            if told:
                self._warn(told[0])
                return told
        return ()

    def _warn(self, first: Told) -> None:
        if first.resync and not self._settings.quiet:
            if first.revision < self._since:
                why = f"revision {self._since} is yet to come: it is of another cell, or of before a restore"
            else:
                why = "some changes are not remembered any more, or came faster than they were taken"
            said = f"this is the state at revision {first.revision}, and every change after it follows"
            note(f"{self._path}: {why}; {said}")

    def show(self, stream: Stream) -> int:
        """Lines, until Ctrl-C."""
        while True:
            told = self._take()
            if not told:
                wait_for_more(self._follower, output=True)
                continue
            if self._settings.json:
                for item in told:
                    print_json(item.shown, line=True)
                sys.stdout.flush()
            else:
                stream.write(item.row for item in told)
            if self._once:
                return Exit.OK

    def run(self, runs: Runs, *, at_start: bool) -> int:
        """Runs of the command, until Ctrl-C."""
        work, once = Work(), False
        if at_start:
            runs.start(Work())
        try:
            while True:
                while not work.full and (told := self._take()):
                    work.add(told)
                code = runs.ended()
                if code is not None and once:
                    return code
                if code and not runs.asked_to_end:
                    complain(f"{runs.command[0]} ended with {code}; the watch goes on")
                if runs.busy:
                    wait_for_more(self._follower)
                elif runs.asked_to_end:
                    return Exit.SIGNAL + runs.asked_to_end
                elif work.told:
                    runs.start(work)
                    work, once = Work(), self._once
                else:
                    wait_for_more(self._follower)
        finally:
            runs.wait()  # also where the watch ends by an error


COMMANDS: tuple[click.Command, ...] = (watch,)
