"""Transactions through both flavours: all or nothing, one revision, and what a refusal says."""

from __future__ import annotations

import asyncio

import pytest

from coordclient import BadRequest, Client, Conflict, Exists, NotFound, TooLarge
from coordclient.values import Entry, File, Stat


async def test_guards_choose_the_branch_and_all_changes_have_one_revision(make_client, path):
    client = make_client()
    first = await client.put(path + "/a", b"1", parents=True)

    def move():
        return (
            client.txn()
            .if_generation(path + "/a", first.content_generation)
            .if_exists(path + "/b", False)
            .put(path + "/b", b"2")
            .mkdir(path + "/d")
            .delete(path + "/a")
            .get(path + "/b")
            .ls(path)
            .otherwise()
            .stat(path + "/b")
        )

    plan = await move().plan()
    assert (plan.succeeded, plan.guards, plan.refused) == (True, (True, True), None)
    assert set(plan.changes) == {path + "/b", path + "/d", path + "/a"}
    done = await move().commit()
    assert done.succeeded
    put, made, deleted, read, listed = done.results
    assert isinstance(put, Stat) and isinstance(made, Stat) and isinstance(read, File) and isinstance(listed, list)
    assert put.revision == made.revision == deleted == done.revision
    assert read.contents == b"2", "a read sees the state at its point of the transaction"
    assert [entry.name for entry in listed if isinstance(entry, Entry)] == ["b", "d"]
    again = await move().commit()
    assert not again.succeeded
    assert isinstance(again.results[0], Stat) and again.results[0].revision == put.revision


async def test_a_step_that_cannot_be_done_refuses_all_of_it_and_says_which(make_client, path):
    client = make_client()
    await client.put(path + "/b", b"1", parents=True)
    txn = client.txn().put(path + "/a", b"").create(path + "/b").put(path + "/c", b"")
    with pytest.raises(Exists) as caught:
        await txn.commit()
    assert (caught.value.details["branch"], caught.value.details["step"]) == ("then", 1)
    refused = (await txn.plan()).refused
    assert isinstance(refused, Exists) and refused.details == caught.value.details
    assert [entry.name for entry in await client.ls(path)] == ["b"]


async def test_limits_and_nonsense_are_named(make_client, path):
    client = make_client()
    many = client.txn()
    for number in range(129):
        many.put(f"{path}/{number}", b"", parents=True)
    twice = client.txn().put(path, b"1", parents=True).put(path, b"2")
    guards = client.txn()
    for _ in range(129):
        guards.if_exists("/")
    unknown = client.txn().guard({"path": "/", "colour": 7})
    for txn, text in ((many, "128"), (twice, "twice"), (guards, "128"), (unknown, r"guards\[0\]")):
        with pytest.raises(BadRequest, match=text):
            await txn.commit()


async def test_the_lock_of_another_and_ones_own_sequencer_as_guards(make_client, path):
    client, other = make_client(), make_client()
    async with client.lock(path + "/lock") as lock:
        mine = client.txn().if_sequencer(lock.sequencer).if_held(path + "/lock").put(path + "/x", b"")
        assert (await mine.commit()).succeeded
        assert not (await other.txn().if_held(path + "/lock", False).put(path + "/y", b"").commit()).succeeded
        sequencer = lock.sequencer
    assert not (await client.txn().if_sequencer(sequencer).put(path + "/z", b"").commit()).succeeded
    assert [entry.name for entry in await client.ls(path)] == ["x"]


async def test_what_it_makes_ephemeral_goes_with_the_session(make_client, path):
    client, other = make_client(), make_client()
    await client.txn().mkdir(path + "/d", parents=True).create(path + "/e", ephemeral=True, parents=True).commit()
    async with await client.open(path + "/e"):
        pass
    assert (await other.stat(path + "/e")).ephemeral, "it counts as open, as what `create` made"
    await client.close()
    with pytest.raises(NotFound):
        await other.stat(path + "/e")


async def test_of_many_that_change_the_same_one_wins_each_time(make_client, path):
    clients = [make_client() for _ in range(3)]
    await clients[0].put(path, b"0", parents=True)

    async def add(client, times):
        while times:
            contents, stat = await client.get(path)
            txn = client.txn().if_generation(path, stat.content_generation).put(path, str(int(contents) + 1).encode())
            times -= (await txn.commit()).succeeded

    await asyncio.gather(*(add(client, 10) for client in clients))
    assert (await clients[0].get(path)).contents == b"30"


def test_threads_have_the_same(cell, path):
    with Client(cell.endpoints) as client:
        txn = client.txn().if_exists(path, False).create(path, b"1", parents=True).otherwise().put(path, b"2")
        assert path in txn.plan().changes
        assert txn.commit().succeeded
        assert not txn.commit().succeeded
        assert client.get(path).contents == b"2"
        with pytest.raises(Conflict):
            client.txn().put(path, b"3", if_generation=1).commit()


async def test_what_no_frame_holds_is_refused_before_it_is_sent_and_costs_no_session(make_client, path):
    client = make_client()
    async with client.lock(path) as lock:
        txn = client.txn()
        for number in range(6):
            txn.put(f"{path}-{number}", bytes(100_000))
        with pytest.raises(TooLarge, match="the limit of one call is 524288"):
            await txn.commit()
        with pytest.raises(TooLarge):
            await txn.plan()
        lock.check()
