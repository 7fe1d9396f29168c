"""Where a cache ends, begins again or does without: with its channel, its queue, a cell without room, in a child."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable

import pytest

from coordclient.aio import cache as joined
from coordclient.aio.channel import ChannelError
from coordclient.aio.life import Life
from coordclient.errors import SessionExpired
from coordclient.protocol.errors import Refusal
from tests.unit.client.cache_scene import FakeChannel, Scene, contents, filled, turns


async def test_an_acknowledgement_for_which_the_cell_has_no_room_is_said_again(monkeypatch):
    monkeypatch.setattr(joined, "ACKNOWLEDGE_AGAIN_SECONDS", 0.0)
    scene = Scene()
    for number in (1, 2):
        scene.push(number, "/a")
        await turns()
    first, second = scene.channel.acknowledgements
    first.ended(None)
    second.ended(Refusal("overloaded", "20000 calls wait"))
    await turns()
    assert scene.channel.sent[1:] == [("invalidated", {"number": number}) for number in (1, 2, 2)]
    scene.channel.acknowledgements[2].ended(Refusal("overloaded", "20000 calls wait"))
    scene.cache.detached(scene.keeper.life)
    scene.channel = FakeChannel()
    scene.cache.attached(scene.keeper.life, scene.channel)  # type: ignore[arg-type]
    scene.open()
    await turns()
    assert scene.operations() == ["cache"], "another queue has other numbers"


@pytest.mark.parametrize("how", ["detached", "ended", "another life ended", "queue ended"])
async def test_nothing_is_held_without_a_queue(how):
    scene = Scene()
    await filled(scene)
    if how == "detached":
        scene.cache.detached(scene.keeper.life)
    elif how == "queue ended":
        scene.channel.queue.ended(Refusal("overloaded", "too many"))
    else:
        scene.cache.ended(scene.keeper.life if how == "ended" else Life(), SessionExpired("over"))
    assert (scene.cache.look("get", "/a") is None) is (how != "another life ended")


async def test_a_new_channel_begins_a_new_queue_and_the_old_one_says_nothing_any_more():
    scene = Scene()
    await filled(scene)
    old = scene.channel.queue
    scene.cache.detached(scene.keeper.life)
    scene.channel = FakeChannel()
    scene.cache.attached(scene.keeper.life, scene.channel)  # type: ignore[arg-type]
    old.pushed({"number": 1, "invalidate": [], "epoch": 3})
    old.ended(ChannelError("broke off"))
    reading = scene.get()
    await turns()
    assert scene.operations() == ["cache"], "and no read before it is open"
    scene.open()
    await turns()
    scene.lease()
    scene.keeper.asked[-1][2].set_result(contents(b"2", 1))
    assert (await reading).contents == b"2"
    await turns()
    assert scene.cache.look("get", "/a") is not None


async def test_a_cell_that_knows_no_cache_is_read_without_one():
    scene = Scene(opened=False)
    reading = scene.get()
    await turns()
    scene.channel.queue.ended(Refusal("unknown_operation", "cache?"))
    await turns()
    operation, arguments, answer = scene.keeper.asked[0]
    assert (operation, arguments) == ("get", {"path": "/a"})
    answer.set_result(contents(b"1"))
    assert (await reading).contents == b"1"
    scene.cache.detached(scene.keeper.life)
    scene.channel = FakeChannel()
    scene.cache.attached(scene.keeper.life, scene.channel)  # type: ignore[arg-type]
    scene.open()
    await filled(scene)
    assert scene.cache.look("get", "/a") is not None, "the next replica knows it"


async def test_a_cell_that_has_no_room_for_a_queue_now_is_read_without_one():
    scene = Scene(opened=False)
    reading = scene.get()
    await turns()
    scene.channel.queue.ended(Refusal("overloaded", "too many requests are unanswered"))
    await turns()
    assert [arguments for _, arguments, _ in scene.keeper.asked] == [{"path": "/a"}]
    scene.keeper.asked[0][2].set_result(contents(b"1"))
    assert (await reading).contents == b"1"
    another = scene.get()
    await turns()
    assert len(scene.keeper.asked) == 2, "nor does the next one wait"
    another.cancel()


async def test_a_request_that_ends_after_its_queue_does_not_keep_the_next_one_from_opening():
    scene = Scene()
    await filled(scene)
    scene.keeper.now += 1_500
    reading = scene.get()
    await turns()
    scene.channel.queue.ended(Refusal("overloaded", "too many caches"))
    scene.channel.leases[-1].set_exception(Refusal("overloaded", "too many caches"))
    await turns()
    assert scene.cache._timer is not None
    assert not scene.cache._timer.cancelled()
    reading.cancel()


async def test_a_queue_for_which_there_is_no_room_is_opened_again_later(monkeypatch):
    monkeypatch.setattr(joined, "OPEN_AGAIN_SECONDS", 0.0)
    scene = Scene()
    scene.channel.queue.ended(Refusal("overloaded", "too many caches"))
    await turns()
    assert scene.operations() == ["cache", "cache"]
    scene.channel.queue.ended(None)
    await turns()
    assert scene.operations() == ["cache"] * 3


def exit_code_of_child(is_well: Callable[[], bool]) -> int:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # newer Pythons, of every process with threads
        child = os.fork()
    if not child:
        os._exit(0 if is_well() else 1)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


async def test_a_child_after_a_fork_believes_nothing():
    scene = Scene()
    await filled(scene)
    assert exit_code_of_child(lambda: scene.cache.look("get", "/a") is None) == 0
    assert scene.cache.look("get", "/a") is not None, "the parent does"


async def test_no_answer_that_was_on_its_way_makes_a_child_believe():
    scene = Scene()
    await filled(scene)
    scene.keeper.now += 1_500
    number = scene.held.ask(scene.keeper.clocks())

    def is_shown() -> bool:
        scene.held.granted(number, 3, 1_500, False, (scene.keeper.clocks(), 12_000))
        return scene.cache.look("get", "/a") is not None

    assert exit_code_of_child(lambda: not is_shown()) == 0
    assert is_shown(), "the parent does"
