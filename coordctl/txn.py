"""`txn`: several changes in one revision, if guards hold, or else others; read from a small text (`transactions`)."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, BinaryIO

import click

from coordctl.errors import Exit, Failure, exit_code_of
from coordctl.events import shown_path
from coordctl.files import stat_as_json
from coordctl.output import columns, contents_as_json, note, print_json, print_rows
from coordctl.settings import Settings, common
from coordctl.transactions import TEXT_BYTES_MAX, Guard, Step, Transaction, parse
from coordctl.words import Misread, Place

if TYPE_CHECKING:
    from coordclient import Client, CoordError, Plan, Txn, TxnResult

_DONE = columns("LINE STEP PATH... RESULT...")
_PLANNED = columns("LINE WHAT... RESULT")
_EPILOG = """\b
Guards:  exists PATH | absent PATH | held PATH | free PATH | sequencer TEXT
         generation PATH == N, also lock_generation, acl_generation, instance
         and revision, compared by == != < <= > >=; checksum PATH == DIGITS
Steps:   put [-p] [--if-absent] [--if-generation N] PATH CONTENTS
         put ... PATH -f FILE | mkdir [-p] PATH | rm [--if-generation N] PATH
         cat PATH | stat PATH | ls PATH
Example: if generation /app == 17; then put /app 'debug = true'; else cat /app

Words are quoted as in a shell ("\\n" is a line feed); a line ends with a line feed or `;`; # begins a comment."""


@click.command(epilog=_EPILOG, short_help="Several changes at once if guards hold; or others, or none.")
@click.argument("text", required=False)
@click.option("-f", "--file", "source", type=click.File("rb"), help="Take the text from a file; - is stdin.")
@click.option("--dry-run", is_flag=True, help="Change nothing; say which guards hold and what would be changed.")
@common
@click.pass_obj
def txn(settings: Settings, text: str | None, source: BinaryIO | None, dry_run: bool) -> int:
    """Do the steps after `then` if all guards after `if` hold, else those after `else`: all of them, or nothing.

    TEXT, or a file (-f), or stdin says which. All changes have one revision. Exit 4 if a guard did not hold, also if
    there were steps after `else`, which were done.
    """
    name, data = _read(text, source)
    try:
        transaction = _parse(data)
        _check_paths(transaction)
        contents = _contents_of(transaction)
    except Misread as misread:
        raise Failure(f"{_place(name, misread.place)}: {misread.message}", Exit.USAGE) from None
    from coordclient import CoordError

    with settings.open_client() as client:
        asked = _asked(client, transaction, contents)
        try:
            if dry_run:
                return _show_plan(settings, name, transaction, asked.plan())
            return _show(settings, name, transaction, asked.commit())
        except CoordError as error:
            raise _refusal(name, transaction, error) from None


# --- the text


def _read(text: str | None, source: BinaryIO | None) -> tuple[str, bytes]:
    """What the text is called in errors, and the text."""
    if text is not None and source is not None:
        raise click.UsageError("TEXT and --file exclude each other")
    if text is not None and text != "-":
        return "TEXT", text.encode(errors="surrogateescape")
    if source is None and sys.stdin is None:
        raise click.UsageError("there is no stdin to read the transaction from; give TEXT or --file")
    if source is None and sys.stdin.isatty():
        note("the transaction: `if` guards, `then` steps, `else` steps; Ctrl-D ends it (txn --help shows more)")
    file = source or sys.stdin.buffer
    data = file.read(TEXT_BYTES_MAX + 1)
    name = "stdin" if file is sys.stdin.buffer else str(getattr(file, "name", "FILE"))
    if len(data) > TEXT_BYTES_MAX:
        raise Failure(f"{name}: more than {TEXT_BYTES_MAX} bytes", Exit.USAGE)
    return name, data


def _parse(data: bytes) -> Transaction:
    try:
        return parse(data.decode("utf-8"))
    except UnicodeDecodeError as error:
        before = data[: error.start].decode("utf-8")
        column = len(before) - before.rfind("\n")
        raise Misread('this is no UTF-8 text; "\\xHH" is a byte', Place(before.count("\n") + 1, column)) from None


def _check_paths(transaction: Transaction) -> None:
    """What is no path in any cell; whether it is one of this cell, the cell says."""
    from coordclient.protocol.errors import Refusal
    from coordclient.protocol.paths import parse_path

    items: list[Guard | Step] = [*transaction.guards, *transaction.then, *transaction.otherwise]
    for item in items:
        try:
            parse_path(item.path or "/")
        except Refusal as refusal:
            if refusal.code == "bad_path":
                raise Misread(refusal.message, item.place) from None


def _place(name: str, place: Place) -> str:
    return f"{name}:{place.line}:{place.column}"


def _contents_of(transaction: Transaction) -> dict[Step, bytes]:
    """What is in the files that steps name."""
    from coordclient.protocol.operations import CONTENTS_BYTES_MAX

    found = {}
    for step in (*transaction.then, *transaction.otherwise):
        if step.file is None:
            continue
        try:
            with open(step.file.text, "rb") as file:
                found[step] = file.read(CONTENTS_BYTES_MAX + 1)
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            raise Misread(f"{step.file.text}: {reason}", step.file.place) from None
        if len(found[step]) > CONTENTS_BYTES_MAX:
            text = f"{step.file.text}: more than {CONTENTS_BYTES_MAX} bytes, which is the most that a file can have"
            raise Misread(text, step.file.place)
    return found


def _asked(client: Client, transaction: Transaction, contents: Mapping[Step, bytes]) -> Txn:
    """The transaction of the library."""

    def wire(step: Step) -> dict[str, object]:
        return {"do": step.do, **step.arguments, **({"contents": contents[step]} if step in contents else {})}

    asked = client.txn()
    for guard in transaction.guards:
        asked.guard(guard.wire)
    for step in transaction.then:
        asked.step(wire(step))
    if transaction.otherwise:
        asked.otherwise()
    for step in transaction.otherwise:
        asked.step(wire(step))
    return asked


# --- the outcome


def _show(settings: Settings, name: str, transaction: Transaction, done: TxnResult) -> int:
    steps = transaction.then if done.succeeded else transaction.otherwise
    pairs = list(zip(steps, done.results, strict=True))
    if settings.json:
        print_json(
            {
                "succeeded": done.succeeded,
                "revision": done.revision,
                "guards": _guards_as_json(transaction.guards, done.guards),
                "results": [_result_as_json(step, result) for step, result in pairs],
            }
        )
    else:
        rows = [(step.place.line, step.name, step.path, _result_text(step, result)) for step, result in pairs]
        print_rows(_DONE, rows, settings.output, name=2)
    if not done.succeeded:
        what = (
            f"{_steps(steps)} after `else` {'was' if len(steps) == 1 else 'were'} done" if steps else "nothing was done"
        )
        raise Failure(f"{_failed(name, transaction.guards, done.guards)}; {what}", Exit.CONFLICT)
    if not settings.quiet:
        note(f"{_steps(steps)}, at revision {done.revision}")
    return Exit.OK


def _steps(steps: Sequence[Step]) -> str:
    return f"{len(steps)} step{'' if len(steps) == 1 else 's'}"


def _failed(name: str, guards: Sequence[Guard], holds: Sequence[bool]) -> str:
    """Words about the guards that did not hold."""
    failed = [guard for guard, held in zip(guards, holds, strict=True) if not held]
    more = f" (and {len(failed) - 1} more)" if len(failed) > 1 else ""
    return f"{_place(name, failed[0].place)}: this guard does not hold: {failed[0].text}{more}"


def _guards_as_json(guards: Sequence[Guard], holds: Sequence[bool]) -> list[dict[str, Any]]:
    return [
        {"line": guard.place.line, "guard": guard.text, "holds": held}
        for guard, held in zip(guards, holds, strict=True)
    ]


def _result_as_json(step: Step, result: Any) -> dict[str, Any]:
    shown: dict[str, Any] = {"line": step.place.line, "step": step.name, "path": step.path}
    match step.do:
        case "get":
            return {**shown, "contents": contents_as_json(result.contents), "stat": stat_as_json(result.stat)}
        case "ls":
            return {**shown, "entries": [{"name": entry.name, **stat_as_json(entry.stat)} for entry in result]}
        case "delete":
            return {**shown, "revision": result}
        case _:
            return {**shown, "stat": stat_as_json(result)}


def _result_text(step: Step, result: Any) -> str:
    match step.do:
        case "get":
            return str(result.contents.decode(errors="replace"))
        case "ls":
            return " ".join(shown_path(entry.name, entry.stat.kind == "directory") for entry in result)
        case "delete":
            return "deleted"
        case "mkdir":
            return "made"
        case _:
            kind = "" if result.kind == "file" else f"{result.kind}, "
            return f"{kind}{result.size} bytes, generation {result.content_generation}"


def _show_plan(settings: Settings, name: str, transaction: Transaction, plan: Plan) -> int:
    steps = transaction.then if plan.succeeded else transaction.otherwise
    refused = None if plan.refused is None else _refusal(name, transaction, plan.refused)
    if settings.json:
        print_json(
            {
                "succeeded": plan.succeeded,
                "revision": plan.revision,
                "guards": _guards_as_json(transaction.guards, plan.guards),
                "changes": list(plan.changes),
                "refused": None if refused is None else str(refused),
            }
        )
    else:
        rows: list[tuple[object, ...]] = [
            (guard.place.line, guard.text, "holds" if held else "does not hold")
            for guard, held in zip(transaction.guards, plan.guards, strict=True)
        ]
        rows += [(None, path, "would change") for path in plan.changes]
        print_rows(_PLANNED, rows, settings.output, name=1)
    if refused is not None:
        raise refused
    what = f"{_steps(steps)} would be done" if steps else "nothing would be done"
    if not plan.succeeded:
        raise Failure(f"{_failed(name, transaction.guards, plan.guards)}; {what}", Exit.CONFLICT)
    if not settings.quiet:
        note(f"{what}; nothing was changed")
    return Exit.OK


def _refusal(name: str, transaction: Transaction, error: CoordError) -> Exception:
    """The error of a step, with its place; what is about no step stays as it is."""
    steps = {"then": transaction.then, "else": transaction.otherwise}.get(str(error.details.get("branch")), ())
    at = error.details.get("step")
    if not (isinstance(at, int) and 0 <= at < len(steps)):
        return error
    step, text = steps[at], str(error)
    words = text.removeprefix(f"step {at} ({step.do} {step.path}): ")
    return Failure(f"{_place(name, step.place)}: {words}; nothing was done", exit_code_of(error.code))


COMMANDS: tuple[click.Command, ...] = (txn,)
