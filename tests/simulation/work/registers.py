"""Registers: a few small files, read and written in every way, for the linearizability checker."""

from __future__ import annotations

from random import Random

from coordclient.errors import ClientClosed, Conflict, CoordError, Exists, NotFound, OutcomeUnknown
from tests.simulation.checkers.linear import Op
from tests.simulation.client import ClientProcess
from tests.simulation.work.work import Work, Worker

REGISTERS = 3


async def _register(work: Work, process: ClientProcess, chance: Random) -> None:
    key = f"/r/{chance.randrange(REGISTERS)}"
    kind = chance.choices(("put", "get", "swap", "add", "delete"), (25, 40, 20, 10, 5))[0]
    if kind == "swap":
        seen = await _get(work, process, key)
        if seen is not None:
            await _swap(work, process, key, *seen)
        return
    if kind == "get":
        await _get(work, process, key)
        return
    op = work.registers.begin(key, process.name, kind, None if kind == "delete" else work.new_name())
    try:
        if kind == "delete":
            await process.client.delete(key)
        else:
            assert op.value is not None
            await process.client.put(key, op.value.encode(), if_absent=kind == "add", parents=True)
        work.registers.answered(op)
    except Exists:
        work.registers.answered(op, "exists")
    except NotFound:
        work.registers.answered(op, "missing")
    except CoordError as error:
        _without_answer(work, key, op, error)


async def _get(work: Work, process: ClientProcess, key: str) -> tuple[str, int] | None:
    op = work.registers.begin(key, process.name, "get")
    try:
        file = await process.client.get(key)
    except NotFound:
        work.registers.answered(op, "ok", None)
        return None
    except CoordError as error:
        _without_answer(work, key, op, error)
        return None
    value = file.contents.decode()
    work.registers.answered(op, "ok", value)
    return value, file.stat.content_generation


async def _swap(work: Work, process: ClientProcess, key: str, expected: str, generation: int) -> None:
    op = work.registers.begin(key, process.name, "swap", work.new_name(), expected)
    assert op.value is not None
    try:
        await process.client.put(key, op.value.encode(), if_generation=generation)
        work.registers.answered(op)
    except Conflict:
        work.registers.answered(op, "conflict")
    except NotFound:
        work.registers.answered(op, "missing")
    except CoordError as error:
        _without_answer(work, key, op, error)


def _without_answer(work: Work, key: str, op: Op, error: CoordError) -> None:
    if not isinstance(error, OutcomeUnknown | ClientClosed):  # closing, one does not wait for answers
        work.registers.failed(key, op)
    raise error


WORKERS = (Worker("registers", 2, _register),)
