"""Counters: files that everybody counts up, each time on condition that nobody else has done so meanwhile."""

from __future__ import annotations

from random import Random

from coordclient.errors import Conflict, CoordError, Exists, NotFound
from tests.simulation.client import ClientProcess
from tests.simulation.work.work import Work, Worker, without_answer

COUNTERS = 2


async def _count(work: Work, process: ClientProcess, chance: Random) -> None:
    key = f"/c/{chance.randrange(COUNTERS)}"
    value, generation = await _read(work, process, key)
    if chance.random() < 0.3:
        return
    question = work.orders.recorder.begin("counter", key, "add", process.name, by=1)
    contents = str(value + 1).encode()
    try:
        if generation:
            await process.client.put(key, contents, if_generation=generation)
        else:
            await process.client.put(key, contents, if_absent=True, parents=True)
        question.answered(value=value + 1)
    except (Conflict, Exists):
        question.nothing()
    except CoordError as error:
        raise without_answer(question, error) from None


async def _read(work: Work, process: ClientProcess, key: str) -> tuple[int, int]:
    """The value and its generation."""
    question = work.orders.recorder.begin("counter", key, "get", process.name)
    value = generation = 0
    try:
        file = await process.client.get(key)
        value, generation = int(file.contents), file.stat.content_generation
    except NotFound:
        pass  # nobody has counted yet
    except CoordError as error:
        raise without_answer(question, error) from None
    question.answered(value=value)
    return value, generation


WORKERS = (Worker("counters", 1, _count),)
