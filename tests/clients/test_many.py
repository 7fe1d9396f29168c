"""Many reads at once, listings with contents, and pages of both."""

from __future__ import annotations

import pytest

from coordclient import Client, File, IsADirectory, NotADirectory, NotFound


async def test_many_files_are_read_at_once_with_an_error_where_there_is_none(make_client, path):
    client = make_client()
    await client.mkdir(path + "/d", parents=True)
    stats = {f"{path}/{number}": await client.put(f"{path}/{number}", str(number).encode()) for number in range(3)}
    found = await client.get_many([*stats, path + "/d", path + "/none", path + "/0/x", path + "/0"])
    assert list(found) == [*stats, path + "/d", path + "/none", path + "/0/x"]
    for number, (name, stat) in enumerate(stats.items()):
        assert found[name] == (str(number).encode(), stat)
    assert isinstance(found[path + "/d"], IsADirectory)
    assert isinstance(found[path + "/none"], NotFound)
    assert isinstance(found[path + "/0/x"], NotFound | NotADirectory)
    assert await client.get_many([]) == {}
    with pytest.raises(TypeError, match="a list of paths"):  # each letter was taken for a path
        await client.get_many(path)


async def test_more_than_fits_into_one_answer_is_asked_for_again(make_client, path):
    client = make_client()
    paths = [f"{path}/{number:03}" for number in range(260)]
    await client.mkdir(path, parents=True)
    for name in paths:
        await client.put(name, bytes(4_000))
    found = await client.get_many(paths)
    assert list(found) == paths
    assert all(file.contents == bytes(4_000) for file in found.values())
    listed = await client.ls(path, contents=True)
    assert [(entry.name, entry.contents) for entry in listed] == [(name[-3:], bytes(4_000)) for name in paths]
    assert [entry.name for entry in await client.ls(path, after="256")] == ["257", "258", "259"]
    assert [entry.name for entry in await client.ls(path, after="100", count=2)] == ["101", "102"]
    assert len(await client.ls(path, count=200)) == 200


def test_threads_have_the_same(cell, path):
    with Client(cell.endpoints) as client:
        client.put(path, b"two", parents=True)
        found = client.get_many([path])[path]
        assert isinstance(found, File) and found.contents == b"two"
        name = path.rpartition("/")[2]
        assert [entry.contents for entry in client.ls(path.rpartition("/")[0], contents=True) if entry.name == name]
