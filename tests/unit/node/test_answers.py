"""Answers leave in the order of the engine, long work goes on without waiting, a hint waits for others."""

from __future__ import annotations

import asyncio

import pytest

from coordd.engine.effects import Effects, Push, Reply
from coordd.node import driver
from coordd.testing.until import until
from tests.unit.node.test_driver import RECORD, World


async def test_answers_are_handed_out_in_the_order_of_the_engine() -> None:
    body: dict[str, object] = {"n": 1}
    world = World(Effects(answers=[Push((7, 8), body), Reply(1, {}), Push((7,), body), Reply(2, {})]))
    async with world.running():
        await until(lambda: ("reply", 2) in world.happened)
    handed = [one for one in world.happened if isinstance(one, tuple) and one[0] in ("push", "reply")]
    assert handed == [("push", (7, 8), body), ("reply", 1), ("push", (7,), body), ("reply", 2)]


async def test_what_is_unfinished_goes_on_at_once_and_lets_the_loop_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(driver, "TICK_SECONDS", 3600.0)
    world = World(*(Effects(unfinished=True) for _ in range(5)))
    turns: list[int] = []

    def count() -> None:
        turns.append(world.driver.turns)
        if world.steps:
            asyncio.get_running_loop().call_soon(count)

    async with world.running():
        asyncio.get_running_loop().call_soon(count)
        await until(lambda: len(world.inputs) == 6)
    assert len(set(turns)) >= 5, "the loop ran between the turns"


async def test_a_hint_is_not_synced_for_itself() -> None:
    world = World(Effects(persist=[RECORD]))
    async with world.running():
        await until(lambda: len(world.inputs) > 1)
    assert ("append", [RECORD]) in world.happened and "sync" not in world.happened
