"""Files and directories through the asyncio flavour, and what is refused before anything is sent."""

from __future__ import annotations

import asyncio

import pytest

from coordclient import BadPath, Conflict, Exists, IsADirectory, Locked, NotADirectory, NotEmpty, NotFound, TooLarge
from coordclient.protocol.operations import CONTENTS_BYTES_MAX


async def test_a_file_is_written_read_listed_and_deleted(make_client, path):
    client = make_client()
    made = await client.put(path + "/a", b"one", parents=True)
    contents, stat = await client.get(path + "/a")
    assert (contents, stat) == (b"one", made)
    assert (stat.path, stat.kind, stat.size, stat.ephemeral) == (path + "/a", "file", 3, False)
    assert [entry.name for entry in await client.ls(path)] == ["a"]
    assert await client.stat(path + "/a") == made
    revision = await client.delete(path + "/a")
    assert revision > made.revision
    with pytest.raises(NotFound):
        await client.get(path + "/a")


async def test_conditions_hold_or_nothing_is_changed(make_client, path):
    client = make_client()
    first = await client.put(path, b"1", if_absent=True, parents=True)
    with pytest.raises((Conflict, Exists)):
        await client.put(path, b"2", if_absent=True)
    second = await client.put(path, b"2", if_generation=first.content_generation)
    with pytest.raises(Conflict):
        await client.put(path, b"3", if_generation=first.content_generation)
    with pytest.raises(Conflict):
        await client.delete(path, if_generation=first.content_generation)
    assert (await client.get(path)) == (b"2", second)
    await client.delete(path, if_generation=second.content_generation)


async def test_errors_have_the_standard_bases(make_client, path):
    client = make_client()
    await client.mkdir(path + "/d", parents=True)
    await client.create(path + "/d/f", b"x")
    for error, call in (
        (Exists, client.create(path + "/d/f")),
        (Exists, client.mkdir(path + "/d")),
        (NotEmpty, client.delete(path + "/d")),
        (IsADirectory, client.get(path + "/d")),
        (NotADirectory, client.ls(path + "/d/f")),
        (NotFound, client.stat(path + "/nothing")),
        (FileNotFoundError, client.ls(path + "/nothing")),
        (FileExistsError, client.create(path + "/d/f")),
        (BadPath, client.get("no slash")),
        (BadPath, client.get("/a//b")),
    ):
        with pytest.raises(error):
            await call
    async with client.lock(path + "/d/f"):
        with pytest.raises(Locked) as caught:
            await client.delete(path + "/d/f")
        assert caught.value.details


async def test_an_ephemeral_file_goes_with_its_session(make_client, path):
    client, other = make_client(), make_client()
    assert (await client.create(path, b"here", ephemeral=True, parents=True)).ephemeral
    await client.close()
    with pytest.raises(NotFound):
        await other.get(path)


async def test_what_cannot_be_sent_is_refused_here_and_harms_no_other_call(make_client, path):
    client = make_client()
    await client.put(path, b"x", parents=True)
    for error, call in (
        (TooLarge, client.put(path, b"x" * (CONTENTS_BYTES_MAX + 1))),
        (BadPath, client.get("/" + "x" * 100_000)),
        (TypeError, client.put(path, "text")),
        (TypeError, client.get(7)),
        (ValueError, client.get("/\ud800")),
        (ValueError, client.put(path, b"y", if_generation=object())),
        (ValueError, client.put(path, b"y", if_generation=-1)),
    ):
        with pytest.raises(error):
            await call
    assert (await client.get(path)).contents == b"x"


async def test_the_largest_file_passes_many_at_once(make_client, path):
    client = make_client()
    big = bytes(CONTENTS_BYTES_MAX)
    await client.mkdir(path, parents=True)
    await asyncio.gather(*(client.put(f"{path}/{number}", big) for number in range(12)))
    files = await asyncio.gather(*(client.get(f"{path}/{number}") for number in range(12)))
    assert all(file.contents == big for file in files)


async def test_more_calls_than_the_window_holds_wait_for_room(make_client, path):
    client = make_client()
    await client.put(path, b"x", parents=True)
    files = await asyncio.gather(*(client.get(path) for _ in range(3_000)))
    assert len(files) == 3_000
    stats = await asyncio.gather(*(client.put(path, b"y") for _ in range(2_500)))
    assert len({stat.revision for stat in stats}) == 2_500


async def test_more_waiters_than_the_window_holds_and_all_withdrawn_at_once(make_client, path):
    client, other = make_client(), make_client()
    async with other.lock(path):
        tasks = [asyncio.create_task(client.lock(path, "shared").acquire()) for _ in range(1_200)]
        while sum(len(lock.waiters) for lock in await other.list_locks(path)) < 1_000:
            await client.ls("/")
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        while (await other.list_locks(path))[0].waiters:
            await client.ls("/")


async def test_sessions_and_status_tell_who_is_there(make_client, cell):
    client = make_client(name="someone")
    await client.ls("/")
    sessions = {session.session: session for session in await client.sessions()}
    mine = sessions[client.session_id]
    assert mine.client["name"] == "someone"
    assert 0 < mine.left_ms <= mine.lease_ms == 12_000
    status = await make_client().status()
    assert (status["cell"], status["replica"], status["role"]) == ("test", 1, "master")
    assert (await make_client().status(cell.endpoints[0]))["replica"] == 1
    assert list(await make_client().cell_status()) == cell.endpoints
