"""`history PATH`: what the cell remembers of the changes of a node, or of a subtree."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from coordctl.completion import path_argument
from coordctl.events import PATH_COLUMN, change_as_json, row_of, titles
from coordctl.output import columns, note, print_json, print_rows
from coordctl.settings import Number, Settings, common

if TYPE_CHECKING:
    from coordclient import History

COUNT, COUNT_MAX = 100, 1000


@click.command()
@path_argument()
@click.option("-R", "recursive", is_flag=True, help="Also of everything below PATH.")
@click.option("-n", "--count", type=Number(1, COUNT_MAX), default=COUNT, metavar="N", help="About so many [100].")
@click.option("--since", type=Number(0), default=0, metavar="REV", help="Only those after this revision.")
@click.option("--upto", type=Number(1), metavar="REV", help="Only those up to this revision.")
@common
@click.pass_obj
def history(settings: Settings, path: str, recursive: bool, count: int, since: int, upto: int | None) -> None:
    """Who changed PATH when, in which revision and how; the newest first.

    Also of a PATH that is there no more. A cell remembers a bounded number of changes; `cat --revision` shows a file as
    it was, `watch --since` goes on from there.
    """
    with settings.open_client() as client:
        found = client.history(path, subtree=recursive, since=since, upto=upto or 0, count=count)
    if settings.json:
        shown = {"revision": found.revision, "complete_after": found.complete_after, "more": found.more}
        print_json({**shown, "changes": [change_as_json(change) for change in found.changes]})
        return
    rows = [row_of(change) for change in found.changes]
    print_rows(columns(titles(several=recursive)), rows, settings.output, name=PATH_COLUMN)
    if not settings.quiet:
        _say_what_is_missing(path, found, since)


def _say_what_is_missing(path: str, found: History, since: int) -> None:
    if found.more:
        note(f"there are older ones: --upto {found.changes[-1].revision - 1} shows them")
    elif found.complete_after > since:
        note(f"what changed up to revision {found.complete_after} is not remembered any more")
    elif not found.changes:
        note(f"{path} has not changed{f' since revision {since}' if since else ''}")


COMMANDS: tuple[click.Command, ...] = (history,)
