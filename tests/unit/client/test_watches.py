"""Watches of the asyncio flavour on a channel that the test plays: registered anew, ended, closed, forgotten."""

from __future__ import annotations

import asyncio
import gc
from contextlib import nullcontext
from typing import Any

import pytest

from coordclient.aio.channel import ChannelError
from coordclient.aio.guard import Guard
from coordclient.aio.life import Life
from coordclient.aio.watch import Watch
from coordclient.aio.watches import Watcher, Watches
from coordclient.errors import ClientClosed, LimitReached, SessionExpired, Unavailable
from coordclient.protocol.errors import Refusal
from coordclient.watching import BACKLOG_EVENTS, LAZY_EVENTS, Watching
from tests.unit.client.test_watching import row


class Line:
    """Stands for a channel: keeps what is sent, and the streams that were begun on it."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, dict[str, Any]]] = []
        self.streams: dict[int, Any] = {}
        self.words: dict[int, Any] = {}  # of one answer
        self.lost: list[str] = []

    def begin_stream(self, number: int, acked: int, operation: str, arguments: Any, stream: Any) -> None:
        self.sent.append((operation, dict(arguments)))
        (self.streams if operation == "watch" else self.words)[number] = stream

    def forget_stream(self, number: int) -> None:
        del self.streams[number]

    def answer(self, error: Refusal | None = None) -> None:
        """To the words that were said so far."""
        words, self.words = self.words, {}
        for word in words.values():
            word.ended(error)

    def lose(self, reason: str) -> None:
        self.lost.append(reason)
        streams, self.streams = self.streams, {}
        for stream in streams.values():
            stream.ended(ChannelError(reason))

    def push(self, revision: int, *events: dict[str, Any]) -> None:
        body = {"revision": revision, "events": list(events)}
        for stream in list(self.streams.values()):
            stream.pushed(body)

    def end(self, error: Refusal | None) -> None:
        streams, self.streams = self.streams, {}
        for stream in streams.values():
            stream.ended(error)

    def operations(self) -> list[str]:
        return [operation for operation, _ in self.sent]


class Keeper:
    """Stands for the keeper of a client."""

    def __init__(self) -> None:
        self.followers: list[Any] = []
        self.guard = Guard()
        self.life: Life | None = None
        self.channel: Any = None
        self.request_ms = 20
        self.now_ms = 0
        self.led: list[Any] = []

    def alive(self) -> Life:
        self.guard.use()
        if self.life is None or self.life.over is not None:
            self.life = Life()
        return self.life

    def clocks(self) -> tuple[int, int]:
        return (self.now_ms, self.now_ms)

    def report(self) -> str:
        return "nobody answers"

    def backoff_ms(self, tries: int) -> int:
        return 0

    def go_to(self, address: object) -> None:
        self.led.append(address)

    def leave_replica(self, reason: str) -> None:
        self.channel.lose(reason)

    def attach(self) -> Line:
        self.channel = line = Line()
        for follower in self.followers:
            follower.attached(self.alive(), line)
        return line


class Bench:
    """A client's watches, and the watch of the test."""

    def __init__(self) -> None:
        self.keeper = Keeper()
        self.watches = Watches(self.keeper)  # type: ignore[arg-type]
        self.told: list[bool] = []

    def watch(self, since: int | None = 0) -> Watch:
        watching = Watching("/a", "node", since, "new")
        return Watch(Watcher(self.watches, watching, nullcontext(), self.told.append))

    @property
    def life(self) -> Life:
        assert self.keeper.life is not None
        return self.keeper.life


@pytest.fixture
async def bench():
    return Bench()


async def turns(number: int = 5) -> None:
    for _ in range(number):
        await asyncio.sleep(0)


async def begun(watch: Watch) -> asyncio.Task[Any]:
    """A task that waits for the next of it."""
    task = asyncio.ensure_future(anext(watch))
    await turns()
    return task


async def test_it_is_registered_by_the_first_look_and_anew_on_every_channel(bench):
    watch = bench.watch(since=None)
    line = bench.keeper.attach()
    assert line.sent == []
    task = await begun(watch)
    assert line.sent == [("watch", {"path": "/a", "scope": "node", "values": "new"})]
    line.push(7)
    line.lose("torn")
    line = bench.keeper.attach()
    assert line.sent[0][1]["since"] == 7
    line.push(8, row(8))
    assert (await task).revision == 8
    assert watch.revision == 8
    assert bench.told == [True, False, True]


async def test_before_there_is_a_channel_it_waits_for_one_and_asks_for_it(bench):
    watch = bench.watch()
    await begun(watch)
    assert bench.life.wanted(), "the client looks for a master because of it"
    line = bench.keeper.attach()
    assert line.operations() == ["watch"]
    await watch.close()
    assert not bench.life.wanted()


async def test_a_close_tells_the_cell_and_ends_who_iterates_and_nothing_comes_after(bench):
    watch = bench.watch()
    line = bench.keeper.attach()
    task = await begun(watch)
    stream = line.streams.copy()
    await watch.close()
    await watch.close()
    with pytest.raises(StopAsyncIteration):
        await task
    assert line.operations() == ["watch", "unwatch"]
    assert line.sent[1][1] == {"watch": next(iter(stream))}
    assert line.streams == {}
    with pytest.raises(StopAsyncIteration):
        await anext(watch)
    with pytest.raises(ClientClosed):
        await watch.next()
    assert bench.keeper.attach().sent == []


async def test_what_is_not_taken_at_the_close_is_given_no_more(bench):
    watch = bench.watch()
    line = bench.keeper.attach()
    task = await begun(watch)
    line.push(2, row(1), row(2))
    assert (await task).revision == 1
    await watch.close()
    assert [event async for event in watch] == []


async def test_a_task_that_is_cancelled_takes_nothing_and_leaves_no_waiter(bench):
    watch = bench.watch()
    line = bench.keeper.attach()
    for _ in range(3):
        task = await begun(watch)
        task.cancel()
        await turns()
    assert watch._watcher._waiters == []
    line.push(1, row(1))
    assert (await anext(watch)).revision == 1
    task = await begun(watch)
    line.push(2, row(2))
    task.cancel()  # in the moment in which it would have been woken
    await turns()
    assert (await anext(watch)).revision == 2


async def test_a_wait_with_a_time_out_ends_with_nothing_and_misses_nothing(bench):
    watch = bench.watch()
    line = bench.keeper.attach()
    assert await watch.next(timeout=0) is None
    line.push(1, row(1))
    event = await watch.next(timeout=0)
    assert event is not None and event.revision == 1


async def test_one_that_is_forgotten_is_closed_in_the_cell(bench):
    watch = bench.watch()
    line = bench.keeper.attach()
    task = await begun(watch)
    line.push(1, row(1))
    await task
    del watch, task
    gc.collect()
    await turns()
    assert line.operations() == ["watch", "unwatch"]
    assert not bench.watches._open


async def test_a_refusal_that_is_final_ends_it_after_what_is_here(bench):
    watch = bench.watch()
    line = bench.keeper.attach()
    task = await begun(watch)
    line.push(1, row(1), row(1, "/b"))
    line.end(Refusal("limit", "too many watches"))
    assert (await task).path == "/a"
    assert (await anext(watch)).path == "/b"
    for _ in range(2):
        with pytest.raises(LimitReached, match="too many"):
            await anext(watch)
    assert bench.keeper.attach().sent == []


@pytest.mark.parametrize("error", [Refusal("overloaded", "full"), Refusal("unavailable", "not yet"), None])
async def test_what_may_succeed_later_is_tried_again_on_the_same_channel(bench, error):
    watch = bench.watch()
    line = bench.keeper.attach()
    task = await begun(watch)
    line.push(3)
    line.end(error)
    assert line.operations() == ["watch"]
    await asyncio.wait([task], timeout=0.01)
    assert line.operations() == ["watch", "watch"]
    assert line.sent[1][1]["since"] == 3
    line.end(error)
    await watch.close()
    await asyncio.wait([task], timeout=0.01)
    assert line.operations() == ["watch", "watch"], "a closed one is not tried again"


async def test_who_is_not_the_master_leads_to_whom_it_names(bench):
    watch = bench.watch()
    line = bench.keeper.attach()
    await begun(watch)
    line.end(Refusal("not_master", "no more", master=2, address="http://b:1"))
    assert bench.keeper.led == ["http://b:1"]
    await turns()
    assert line.operations() == ["watch"]
    assert bench.keeper.attach().operations() == ["watch"]


async def test_a_stale_channel_is_left(bench):
    watch = bench.watch()
    line = bench.keeper.attach()
    await begun(watch)
    line.end(Refusal("stale_channel", "there is a newer one"))
    assert line.lost


async def test_a_delivery_that_cannot_follow_is_not_given_and_the_replica_is_left(bench):
    watch = bench.watch(since=5)
    line = bench.keeper.attach()
    await begun(watch)
    line.push(5, row(5))
    assert "delivered before" in line.lost[0]
    line = bench.keeper.attach()
    assert line.sent[0][1]["since"] == 5
    bodies: tuple[Any, ...] = ([], {"revision": "x"})
    for body in bodies:
        next(iter(line.streams.values())).pushed(body)
        assert line.lost
        line = bench.keeper.attach()
    assert await watch.next(timeout=0) is None


async def test_it_goes_on_in_the_next_session_and_ends_with_the_client(bench):
    watch = bench.watch()
    line = bench.keeper.attach()
    task = await begun(watch)
    line.push(4)
    first = bench.life
    first.over = SessionExpired("gone")
    bench.watches.ended(first, first.over)
    line.lose("the session is over")
    await turns()
    assert bench.life is not first and bench.life.wanted()
    assert bench.keeper.attach().sent[0][1]["since"] == 4
    bench.watches.ended(bench.life, ClientClosed("the client was closed"))
    with pytest.raises(ClientClosed):
        await task


async def test_what_is_taken_is_acknowledged_for_the_present_registration(bench):
    watch = bench.watch()
    line = bench.keeper.attach()
    task = await begun(watch)
    number = next(iter(line.streams))
    line.push(1, *(row(1, f"/{n}") for n in range(LAZY_EVENTS)))
    await task
    assert line.operations() == ["watch"]
    for _ in range(LAZY_EVENTS - 1):
        await anext(watch)
    assert line.sent[1:] == [("watched", {"watch": number, "deliveries": 1})]
    line.lose("torn")
    line = bench.keeper.attach()
    line.push(2, *(row(2, f"/{n}") for n in range(LAZY_EVENTS)))
    line.lose("torn")
    while await watch.next(timeout=0) is not None:
        pass
    assert bench.keeper.attach().operations() == ["watch"], "to nobody, where the channel is gone"


async def test_while_too_much_waits_here_it_is_registered_only_when_that_is_taken(bench):
    watch = bench.watch()
    line = bench.keeper.attach()
    task = await begun(watch)
    line.push(1, *(row(1, f"/{n}") for n in range(BACKLOG_EVENTS + 1)))
    await task
    line.lose("torn")
    line = bench.keeper.attach()
    for _ in range(BACKLOG_EVENTS):
        assert line.sent == []
        await anext(watch)
    assert line.operations() == ["watch"]
    assert line.sent[0][1]["since"] == 1


async def test_with_waits_for_the_registration_and_raises_what_it_ends_by(bench):
    line = bench.keeper.attach()
    watch = bench.watch(since=None)

    async def enter() -> int | None:
        async with watch as entered:
            return entered.revision

    task = asyncio.ensure_future(enter())
    await turns()
    assert not task.done()
    line.push(9)
    assert await task == 9
    assert line.operations() == ["watch", "unwatch"]
    late = bench.watch()
    task = asyncio.ensure_future(late.__aenter__())
    await turns()
    bench.keeper.now_ms = 20
    with pytest.raises(Unavailable, match="nobody answers"):
        await task
    assert line.operations()[2:] == ["watch", "unwatch"]
    refused = bench.watch()
    task = asyncio.ensure_future(refused.__aenter__())
    await turns()
    line.end(Refusal("limit", "too many watches"))
    with pytest.raises(LimitReached):
        await task
    assert not bench.watches._open


async def test_batches_of_the_same_watch(bench):
    watch = bench.watch()
    line = bench.keeper.attach()
    batches = watch.batches()
    task = asyncio.ensure_future(anext(batches))
    await turns()
    line.push(3, row(2), row(2, "/b"), row(3))
    assert [event.path for event in await task] == ["/a", "/b"]
    assert (watch.revision, len(await anext(batches))) == (2, 1)
    await watch.close()
    with pytest.raises(StopAsyncIteration):
        await anext(batches)
