"""The cell: cell status. Its changes are in `coordctl.members`.

Every replica is asked by itself, so that the status can be had of a cell that has no master.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from coordctl.errors import Exit, Failure
from coordctl.output import columns, duration, in_seconds, note, print_json, print_rows
from coordctl.refresh import Listing, refreshable, repeat
from coordctl.settings import Settings, common

if TYPE_CHECKING:
    from coordclient import Client, CoordError

_COLUMNS = columns("REPLICA ROLE ADDRESS... (EPOCH) (CHOSEN) BEHIND (REVISION) (VERSION) UPTIME PROBLEM...")

BEHIND_SLOTS_MAX = 2_048  # whoever lacks so much has to learn before it can vote; all are asked at one moment, nearly

Status = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Answer:
    """What one address said: a status, or a problem."""

    address: str
    status: Status | None
    problem: str = ""


def summary(answers: Sequence[Answer]) -> dict[str, Any]:
    """The cell as a whole: its master if one serves, how many answer, and how many more may fail."""
    told = [answer.status for answer in answers if answer.status is not None]
    latest = max(told, key=lambda status: int(status.get("membership_version", 0)), default=None)
    members: list[Status] = latest["members"] if latest is not None else []
    voters = {member["replica"] for member in members if member.get("voter", True)}
    present = {status["replica"] for status in told} & voters
    furthest = max((status["chosen_upto"] for status in told), default=0)
    able = {status["replica"] for status in told if _can_vote(status, furthest)} & voters
    masters = [status for status in told if status["role"] == "master"]
    majority = len(voters) // 2 + 1
    return {
        "cell": told[0]["cell"] if told else None,
        "master": max(masters, key=lambda status: int(status["epoch"]))["replica"] if masters else None,
        "members": len(voters),
        "answering": len(present),
        "able": len(able),
        "majority": majority,
        "can_lose": max(0, len(able) - majority),
    }


def _can_vote(status: Status, furthest: int) -> bool:
    return not status.get("disk_full") and furthest - int(status["chosen_upto"]) <= BEHIND_SLOTS_MAX


def describe(cell: dict[str, Any]) -> str:
    """The summary in words."""
    count, lose = cell["members"], cell["can_lose"]
    master = f"replica {cell['master']} is the master" if cell["master"] is not None else "there is no master"
    text = f"cell {cell['cell']}: {master}; {cell['answering']} of {count} replicas answer, "
    if cell["able"] < cell["answering"]:
        text += f"{cell['able'] or 'none'} of them can vote, "
    if cell["able"] < cell["majority"]:
        text += f"too few: {cell['majority']} are needed"
    else:
        text += f"can lose {lose} more" if lose else "can lose none"
    if count and count % 2 == 0:
        text += f" (a cell of {count} tolerates no more failures than one of {count - 1})"
    return text


@click.group(invoke_without_command=True)
@click.pass_context
def cell(ctx: click.Context) -> int | None:
    """The cell and its replicas."""
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help(), err=True)
        return Exit.USAGE
    return None


@cell.command("status", cls=Listing)
@refreshable
@common
@click.pass_obj
def cell_status(settings: Settings) -> int:
    """Every replica: role, progress, and what is wrong with it. Exit 6 if there is no master."""
    with settings.open_client() as client:
        return repeat(settings, lambda: _show_status(settings, client))


def _show_status(settings: Settings, client: Client) -> int:
    from coordclient import Unavailable

    said = client.cell_status()
    refusals = [error for error in said.values() if isinstance(error, Exception) and not isinstance(error, Unavailable)]
    answers = [_answer(address, status) for address, status in said.items()]
    if not any(answer.status for answer in answers):
        if refusals:
            raise refusals[0]  # somebody answers, but not to us: another cell, no permission
        raise Failure(_nobody(answers, default=settings.endpoints is None), Exit.UNAVAILABLE)
    members = _of_members(answers)
    whole = summary(answers)
    if settings.json:
        replicas = [
            {"address": answer.address, "problem": answer.problem or None, **(answer.status or {})}
            for answer in members.values()
        ]
        print_json(in_seconds({**whole, "replicas": replicas}), line=settings.refresh is not None)
    else:
        print_rows(_COLUMNS, _rows(members), settings.output)
    if whole["master"] is None:
        raise Failure(describe(whole), Exit.UNAVAILABLE)
    if not settings.quiet:
        note(describe(whole))
    return Exit.OK


def _answer(address: str, said: Status | CoordError) -> Answer:
    if isinstance(said, dict):
        return Answer(address, said)
    return Answer(address, None, str(said).removeprefix(f"{address}: "))


def _of_members(answers: Sequence[Answer]) -> dict[int, Answer]:
    """By replica, in order; without the default addresses at which no member is said to be."""
    number: dict[str, int] = {}
    for answer in answers:
        for member in answer.status["members"] if answer.status else ():
            number.setdefault(str(member["address"]), int(member["replica"]))
    kept: dict[int, Answer] = {}
    for answer in answers:
        if answer.status is not None:
            kept[int(answer.status["replica"])] = answer
        elif answer.address in number:
            kept.setdefault(number[answer.address], answer)
    return dict(sorted(kept.items()))


def _rows(members: Mapping[int, Answer]) -> list[tuple[object, ...]]:
    furthest = max(answer.status["chosen_upto"] for answer in members.values() if answer.status is not None)
    rows: list[tuple[object, ...]] = []
    for replica, answer in members.items():
        status = answer.status
        if status is None:
            rows.append((replica, None, answer.address, None, None, None, None, None, None, answer.problem))
            continue
        rows.append(
            (
                replica,
                _role(status),
                answer.address,
                status["epoch"],
                status["chosen_upto"],
                furthest - status["chosen_upto"],
                status["revision"],
                status["version"],
                duration(status["uptime_ms"]),
                _problem(status, furthest),
            )
        )
    return rows


def _problem(status: Status, furthest: int) -> str | None:
    """What the replica itself says is wrong."""
    if status.get("differs_from"):
        return f"another state than replica {', '.join(map(str, status['differs_from']))}"
    if status.get("disk_full"):
        return "disk full: does not vote"
    if furthest - int(status["chosen_upto"]) > BEHIND_SLOTS_MAX:
        return "far behind"
    return None


def _role(status: Status) -> str:
    standing = str(status.get("standing", "voter"))
    return str(status["role"]) if standing == "voter" else standing


def _nobody(answers: Sequence[Answer], *, default: bool) -> str:
    tried = "; ".join(f"{answer.address}: {answer.problem}" for answer in answers)
    hint = " (the addresses of a development cell; name others with --endpoints or COORD_ENDPOINTS)" if default else ""
    return f"no replica answers: {tried}{hint}"
