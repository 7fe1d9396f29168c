"""What was: the history of a node, and contents of an earlier revision."""

from __future__ import annotations

import pytest

from coordclient import Client, NotFound, RevisionAhead, RevisionGone
from coordclient.protocol.operations import CONTENTS_BYTES_MAX


async def test_the_history_of_a_node_says_who_did_what_and_when(make_client, path):
    client = make_client()
    made = await client.put(path, b"one", parents=True)
    written = await client.put(path, b"two")
    removed = await client.delete(path)
    history = await client.history(path)
    rows = [(change.revision, change.kind, change.size, change.operation) for change in history.changes]
    assert rows == [
        (removed, "deleted", 0, "delete"),
        (written.revision, "changed", 3, "put"),
        (made.revision, "created", 3, "put"),
    ]
    assert {change.session for change in history.changes} == {client.session_id}
    assert history.changes[1].checksum == written.checksum and history.changes[0].checksum is None
    page = await client.history(path, count=1, upto=removed - 1)
    assert (page.more, [change.revision for change in page.changes]) == (True, [written.revision])
    below = await client.history(path.rpartition("/")[0], subtree=True, since=written.revision)
    assert [change.path for change in below.changes] == [path]


async def test_contents_of_an_earlier_revision_while_the_cell_has_them(make_client, path):
    client = make_client()
    made = await client.put(path, b"one", parents=True)
    written = await client.put(path, b"two")
    assert (await client.get(path, revision=made.revision)).contents == b"one"
    assert (await client.get(path, revision=written.revision)).contents == b"two"
    with pytest.raises(NotFound):
        await client.get(path, revision=made.revision - 1)
    with pytest.raises(RevisionAhead):
        await client.get(path, revision=written.revision + 1_000_000)


async def test_what_the_cell_has_no_more_is_named(make_client, path, monkeypatch):
    client = make_client()
    await client.put(path, b"", parents=True)
    for number in range(35):
        await client.put(path, bytes(CONTENTS_BYTES_MAX - number))
    with pytest.raises(RevisionGone) as caught:
        await client.get(path, revision=1)
    oldest = caught.value.details["oldest"]
    assert isinstance(oldest, int) and oldest > 1
    await client.get(path, revision=oldest)


def test_threads_have_the_same(cell, path):
    with Client(cell.endpoints) as client:
        stat = client.put(path, b"one", parents=True)
        client.put(path, b"two")
        assert client.get(path, revision=stat.revision).contents == b"one"
        assert [change.kind for change in client.history(path).changes] == ["changed", "created"]
