"""What a watch tells the cell besides its registration: heard, or said again."""

from __future__ import annotations

from functools import partial

import pytest

from coordclient.protocol.errors import Refusal
from coordclient.watching import LAZY_EVENTS
from coordd.testing.until import until
from tests.unit.client.test_watches import Bench, Line, begun, turns
from tests.unit.client.test_watching import row


@pytest.fixture
async def bench() -> Bench:
    return Bench()


def said(line: Line, count: int) -> bool:
    return len(line.sent) > count


@pytest.mark.parametrize("operation", ["watched", "unwatch"])
async def test_what_the_cell_has_no_room_to_hear_is_said_again_on_the_same_channel(bench, operation):
    watch = bench.watch()
    line = bench.keeper.attach()
    task = await begun(watch)
    line.push(1, *(row(1, f"/{n}") for n in range(LAZY_EVENTS)))
    await task
    if operation == "unwatch":
        await watch.close()
    else:
        for _ in range(LAZY_EVENTS - 1):
            await anext(watch)
    for count in (2, 3):
        line.answer(Refusal("overloaded", "later"))
        await until(partial(said, line, count))
    assert {name for name, _ in line.sent[1:]} == {operation}
    line.answer()
    line.lose("torn")
    await turns()
    assert len(line.sent) == 4, "once it is heard that is all"
    other = bench.keeper.attach()
    await turns()
    assert operation not in other.operations()
