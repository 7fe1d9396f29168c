"""The cache on its channel: what is sent and when, and what each answer does to what is held. The channel and the
keeper are fakes that do at once what they are told to."""

from __future__ import annotations

import asyncio

import pytest

from coordclient.aio.cache import HITS_A_TURN
from coordclient.aio.channel import ChannelError
from coordclient.aio.files import (
    bytes_of_entries,
    bytes_of_file,
    bytes_of_stat,
    lockless_entries_of,
    lockless_file_of,
    lockless_stat_in,
)
from coordclient.errors import NotFound
from coordclient.protocol.errors import Refusal
from tests.unit.client.cache_scene import STAT, Scene, contents, filled, turns


async def test_the_first_read_waits_for_the_queue_then_asks_for_lease_and_value_and_the_next_is_a_hit():
    scene = Scene(opened=False)
    reading = scene.get()
    await turns()
    assert scene.operations() == ["cache"]
    assert scene.keeper.asked == []
    scene.open()
    await turns()
    assert scene.operations() == ["cache", "cache_lease"]
    operation, arguments, answer = scene.keeper.asked[0]
    assert (operation, arguments) == ("get", {"path": "/a", "cache": True})
    scene.lease()
    answer.set_result(contents(b"1", 1))
    found = await reading
    assert found.stat.lock_generation is None, "a cache knows nothing of locks"
    await turns()
    assert await scene.get() is found
    assert scene.cache.look("get", "/a") is found
    assert len(scene.keeper.asked) == 1
    assert scene.operations() == ["cache", "cache_lease"]
    assert scene.cache.info() == (2, 1, 0, 1, scene.held.bytes)


async def test_an_answer_without_a_number_is_shown_and_not_kept():
    scene = Scene()
    reading = scene.get()
    await turns()
    scene.lease()
    scene.keeper.asked[0][2].set_result(contents(b"1"))
    assert (await reading).contents == b"1"
    assert scene.cache.info().entries == 0


async def test_invalidations_of_one_message_are_acknowledged_once_when_all_of_it_is_gone():
    scene = Scene()
    await filled(scene)
    scene.push(2, "/b")
    scene.push(3, "/a", "/")
    assert scene.held.files == {}
    assert scene.operations() == ["cache", "cache_lease"]
    await turns()
    assert scene.channel.sent[2:] == [("invalidated", {"number": 3})]
    scene.push(4, "/c")
    await turns()
    assert scene.channel.sent[3:] == [("invalidated", {"number": 4})]


async def test_an_invalidation_of_everything_is_acknowledged_like_any_other():
    scene = Scene()
    await filled(scene)
    scene.channel.queue.pushed({"number": 2, "invalidate": None})
    assert scene.held.files == {}
    await turns()
    assert scene.channel.sent[2:] == [("invalidated", {"number": 2})]


async def test_an_answer_that_waits_for_its_task_while_its_path_is_invalidated_is_shown_and_not_kept():
    scene = Scene()
    reading = scene.get()
    await turns()
    scene.lease()
    scene.keeper.asked[0][2].set_result(contents(b"1", 1))  # in the same message as
    scene.push(2, "/a")
    assert (await reading).contents == b"1"
    await turns()
    assert scene.cache.look("get", "/a") is None
    assert scene.held.entries == 0


async def test_a_lease_that_is_over_is_asked_for_by_the_next_read_and_what_is_held_answers():
    scene = Scene()
    await filled(scene)
    scene.keeper.now += 1_500
    assert scene.cache.look("get", "/a") is None
    reading = scene.get()
    await turns()
    assert not reading.done()
    scene.lease()
    assert (await reading).contents == b"1"
    assert len(scene.keeper.asked) == 1


async def test_a_cell_that_knows_of_no_queue_here_gets_a_new_one():
    scene = Scene()
    await filled(scene)
    scene.keeper.now += 1_500
    reading = scene.get()
    await turns()
    scene.lease(0, drop=True)
    await turns()
    assert scene.operations() == ["cache", "cache_lease", "cache_lease", "cache"]
    assert "cache" not in scene.keeper.asked[1][1], "the new one is not open yet"
    scene.keeper.asked[1][2].set_result(contents(b"2"))
    assert (await reading).contents == b"2"


async def test_a_lease_with_the_order_to_drop_all_is_followed_by_a_question():
    scene = Scene()
    await filled(scene)
    scene.keeper.now += 1_500
    reading = scene.get()
    await turns()
    scene.lease(drop=True)
    await turns()
    scene.keeper.asked[1][2].set_result(contents(b"2", 9))
    assert (await reading).contents == b"2"
    assert await scene.get() == await reading
    assert len(scene.keeper.asked) == 2


async def test_a_lease_is_renewed_by_the_timer_while_somebody_reads_and_not_when_nobody_does():
    scene = Scene()
    await filled(scene)
    scene.keeper.now += 1_000
    scene.cache._tick()
    await turns()
    assert scene.operations().count("cache_lease") == 1
    scene.cache.look("get", "/a")
    scene.cache._tick()
    await turns()
    assert scene.operations().count("cache_lease") == 2
    scene.lease()
    await turns()
    scene.keeper.now += 1_400
    assert scene.cache.look("get", "/a") is not None


async def test_while_a_lease_runs_no_other_is_asked_for_and_it_is_looked_after():
    scene = Scene()
    await filled(scene)
    assert scene.cache._timer is not None
    reading = scene.get("/b")
    await turns()
    assert scene.operations().count("cache_lease") == 1
    scene.keeper.asked[1][2].set_result(contents(b"2", 2))
    await reading


async def test_absence_is_held_for_every_operation_and_raised_as_a_new_error_each_time():
    scene = Scene()
    reading = scene.get()
    await turns()
    scene.lease()
    scene.keeper.asked[0][2].set_exception(NotFound("/a: there is nothing", details={"cached": 1}))
    with pytest.raises(NotFound):
        await reading
    await turns()
    seen = []
    for operation in ("get", "stat", "ls"):
        with pytest.raises(NotFound, match="there is nothing") as caught:
            scene.cache.look(operation, "/a")
        seen.append(caught.value)
    assert len({id(error) for error in seen}) == 3
    assert scene.held.absent["/a"].value.__traceback__ is None, "nor what the frames of the first reader hold"
    scene.push(2, "/a")
    assert scene.cache.look("get", "/a") is None


async def test_the_contents_answer_a_stat_and_a_stat_answers_no_contents():
    scene = Scene()
    await filled(scene)
    assert scene.cache.look("stat", "/a").revision == 5
    scene.push(2, "/a")
    reading = asyncio.create_task(scene.cache.read("stat", "/a", lockless_stat_in, bytes_of_stat))
    await turns()
    scene.keeper.asked[1][2].set_result({"stat": STAT, "cached": 3})
    await reading
    assert scene.cache.look("stat", "/a").lock_generation is None
    assert scene.cache.look("get", "/a") is None


async def test_a_page_of_a_listing_is_shown_and_not_kept():
    scene = Scene()
    page = {"entries": [{"name": "a", "stat": STAT}], "more": True, "cached": 1}
    for more in (True, False):
        reading = asyncio.create_task(scene.cache.read("ls", "/", lockless_entries_of, bytes_of_entries))
        await turns()
        if more:
            scene.lease()
        scene.keeper.asked[-1][2].set_result({**page, "more": more})
        assert [entry.name for entry in await reading] == ["a"]
        assert scene.held.entries == (0 if more else 1)


async def test_other_names_of_a_path_are_the_same_entry_and_another_cell_is_not():
    scene = Scene()
    await filled(scene)
    assert (
        scene.cache.look("get", "/ls/local/a") is scene.cache.look("get", "/ls/here/a") is scene.held.files["/a"].value
    )
    assert scene.cache.look("get", "/ls/there/a") is None
    pending = len(scene.keeper.life.calls.pending)
    reading = scene.get("/ls/there/a")
    await turns()
    assert scene.keeper.asked[1][1] == {"path": "/ls/there/a"}, "the cell says what is wrong with it"
    reading.cancel()
    await asyncio.wait([reading])
    assert len(scene.keeper.life.calls.pending) == pending, "a cancelled read is given up"


async def test_a_node_whose_short_name_is_the_long_name_of_another_is_not_held():
    scene = Scene()
    await filled(scene)
    reading = scene.get("/ls/local/ls/here/a")  # its short form is /ls/here/a, and that means /a
    await turns()
    scene.keeper.asked[1][2].set_result(contents(b"another node", 2))
    assert (await reading).contents == b"another node"
    assert list(scene.held.files) == ["/a"], "get looks here by whatever name it is given"
    assert scene.cache.look("get", "/ls/here/a").contents == b"1"


async def test_a_master_that_is_none_any_more_is_left():
    scene = Scene()
    scene.channel.queue.ended(Refusal("not_master", "not me", address="http://b:1"))
    assert scene.keeper.gone_to == ["http://b:1"]


async def test_a_request_for_a_lease_that_fails_lets_the_read_go_on_and_is_made_again():
    scene = Scene()
    await filled(scene)
    scene.keeper.now += 1_500
    for error in (ChannelError("no answer"), Refusal("not_master", "not me", address="http://b:1")):
        reading = scene.get()
        await turns()
        scene.channel.leases[-1].set_exception(error)
        await turns()
        scene.keeper.asked[-1][2].set_result(contents(b"2", 2))
        assert (await reading).contents == b"2"
    assert scene.keeper.gone_to == ["http://b:1"]


async def test_a_push_that_is_no_invalidation_ends_the_channel():
    scene = Scene()
    scene.channel.queue.pushed({"number": 1})
    assert "no invalidation" in scene.channel.lost


async def test_a_task_that_reads_only_what_is_held_lets_its_loop_turn():
    scene = Scene()
    await filled(scene)
    turned = False

    def turn() -> None:
        nonlocal turned
        turned = True

    asyncio.get_running_loop().call_soon(turn)
    for _ in range(HITS_A_TURN):
        await scene.cache.read("get", "/a", lockless_file_of, bytes_of_file)
    assert turned
