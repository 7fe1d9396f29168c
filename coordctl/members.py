"""The members of the cell: cell members|add|promote|remove|transfer-master.

How a cell grows and shrinks, and how a lost disk is replaced, is told in docs/membership.md.
Every change may be repeated: what is so already is said, not done twice.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from coordctl.errors import Exit
from coordctl.output import columns, duration_or_none, in_seconds, note, print_json, print_rows
from coordctl.refresh import Listing, refreshable, repeat
from coordctl.settings import Number, Settings, common

if TYPE_CHECKING:
    from collections.abc import Callable

    from coordclient import Client

_REPLICA = Number(1, 255)
_COLUMNS = columns("REPLICA VOTES MASTER ADDRESS... CHOSEN HEARD")

Members = dict[str, Any]


def tolerance(members: Members) -> str:
    """How many more voters may fail, in words."""
    voters, able, majority = members["voters"], members["answering"], members["majority"]
    text = f"{voters} voter{'' if voters == 1 else 's'}, "
    text += "all can vote, " if able == voters else f"{able or 'none'} of them can vote, "
    if able < majority:
        return text + f"too few: {majority} are needed"
    text += f"can lose {members['can_lose']} more" if members["can_lose"] else "can lose none"
    if voters % 2 == 0:
        text += f" (a cell of {voters} tolerates no more failures than one of {voters - 1})"
    return text


def _show(settings: Settings, members: Members, words: str) -> int:
    if settings.json:
        print_json(in_seconds(members), line=settings.refresh is not None)
    else:
        rows = [
            (
                row["replica"],
                row["voter"],
                row["replica"] == members["master"],
                row["address"],
                row["chosen_upto"],
                duration_or_none(row["heard_ms_ago"]),
            )
            for row in members["members"]
        ]
        print_rows(_COLUMNS, rows, settings.output)
    if not settings.quiet:
        note(f"{words}; {tolerance(members)}" if words else tolerance(members))
    return Exit.OK


def _change(settings: Settings, ask: Callable[[Client], Members], done: str, already: str) -> int:
    with settings.open_client() as client:
        members = ask(client)
    words = done if members["changed"] else already
    return _show(settings, members, words.format(replica=members["replica"]))


@click.command("members", cls=Listing)
@refreshable
@common
@click.pass_obj
def members(settings: Settings) -> int:
    """Who is a member, and how many more may fail."""
    with settings.open_client() as client:
        return repeat(settings, lambda: _show(settings, client.members(), ""))


@click.command("add")
@click.argument("address", metavar="http://HOST:PORT")
@click.option("--id", "replica", type=_REPLICA, help="The new replica's id [the next free one].")
@common
@click.pass_obj
def add(settings: Settings, address: str, replica: int | None) -> int:
    """Add a replica that does not vote yet. Start it with `join = true`, then promote it."""
    return _change(
        settings,
        lambda client: client.add_member(address, replica or 0),
        "replica {replica} is added as a learner; start it with id = {replica} and join = true, then let it vote: "
        "coordctl cell promote {replica}",
        "replica {replica} is a member at that address already",
    )


@click.command("promote")
@click.argument("replica", type=_REPLICA)
@common
@click.pass_obj
def promote(settings: Settings, replica: int) -> int:
    """Let a replica that has caught up vote."""
    return _change(
        settings,
        lambda client: client.promote_member(replica),
        "replica {replica} votes from now on",
        "replica {replica} votes already",
    )


@click.command("remove")
@click.argument("replica", type=_REPLICA)
@common
@click.pass_obj
def remove(settings: Settings, replica: int) -> int:
    """Remove a replica for good. Its id is never given again, and its process ends."""
    return _change(
        settings,
        lambda client: client.remove_member(replica),
        "replica {replica} is no member any more; its process ends",
        "replica {replica} is no member, and was none before",
    )


@click.command("transfer-master")
@click.argument("to", type=_REPLICA, required=False)
@common
@click.pass_obj
def transfer_master(settings: Settings, to: int | None) -> int:
    """Let the master hand over to the voter TO, or to whoever is best."""
    with settings.open_client() as client:
        answer = client.transfer_master(to or 0)
    if settings.json:
        print_json(answer)
    elif not settings.quiet:
        whom = f"replica {answer['to']}" if answer["to"] else "another voter"
        text = f"replica {answer['master']} has given the mastership up; {whom} may stand first"
        note(text if answer["changed"] else f"replica {answer['master']} is the master already")
    return Exit.OK


COMMANDS = (members, add, promote, remove, transfer_master)
