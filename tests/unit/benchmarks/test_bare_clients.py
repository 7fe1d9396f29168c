"""The clients of the other systems understand their servers however the bytes arrive."""

from __future__ import annotations

import asyncio
import struct

import pytest

from benchmarks.bare_clients import Etcd, ZooKeeper, fields


class Line:
    """A transport that keeps what was written."""

    def __init__(self):
        self.written = b""
        self.closed = False

    def write(self, data):
        self.written += data

    def close(self):
        self.closed = True


def connected(kind):
    client, line = kind(), Line()
    client.connection_made(line)
    return client, line


def in_pieces(client, data, size):
    for at in range(0, len(data), size):
        client.data_received(data[at : at + size])


PIECES = pytest.mark.parametrize("size", [1, 3, 7, 10_000])


# ---- ZooKeeper


def zookeeper_message(number, error=0, body=b""):
    message = struct.pack(">iqi", number, 5, error) + body
    return len(message).to_bytes(4, "big") + message


async def greeted():
    client, line = connected(ZooKeeper)
    task = asyncio.ensure_future(client.begin())
    await asyncio.sleep(0)
    greeting = struct.pack(">iiqi", 0, 40_000, 77, 16) + bytes(17)
    client.data_received(len(greeting).to_bytes(4, "big") + greeting)
    await task
    return client, line


@PIECES
async def test_zookeepers_answers_come_in_the_order_of_the_calls(size):
    client, line = await greeted()
    first, second = client.call(4, b"a"), client.call(4, b"b")
    assert line.written.endswith(struct.pack(">iii", 9, 1, 4) + b"a" + struct.pack(">iii", 9, 2, 4) + b"b")
    in_pieces(client, zookeeper_message(1, body=b"one") + zookeeper_message(2, body=b"two"), size)
    assert (await first, await second) == (b"one", b"two")


async def test_a_sync_goes_before_the_read_and_a_local_read_has_none():
    client, line = await greeted()
    before = len(line.written)
    read = asyncio.ensure_future(client.get("/k", "sync and read"))
    await asyncio.sleep(0)
    kinds = [line.written[before + 8 : before + 12], line.written[before + 18 + 8 : before + 18 + 12]]
    assert [int.from_bytes(kind, "big") for kind in kinds] == [9, 4]
    client.data_received(zookeeper_message(1) + zookeeper_message(2, body=b"value"))
    assert await read == b"value"
    before = len(line.written)
    read = asyncio.ensure_future(client.get("/k", "local, may be stale"))
    await asyncio.sleep(0)
    assert line.written[before + 8 : before + 12] == (4).to_bytes(4, "big") and len(line.written) == before + 19
    client.data_received(zookeeper_message(3, body=b"value"))
    assert await read == b"value"


async def test_what_zookeeper_refuses_is_an_error_and_what_it_tells_is_no_answer():
    client, _ = await greeted()
    told = []
    watching = asyncio.ensure_future(client.watch("/k", lambda: told.append(1)))
    await asyncio.sleep(0)
    client.data_received(zookeeper_message(1) + zookeeper_message(-1, body=b"event"))
    await watching
    assert told == [1]
    refused = client.call(4, b"")
    client.data_received(zookeeper_message(2, error=-101))
    with pytest.raises(OSError, match="-101"):
        await refused


@pytest.mark.parametrize("kind", [ZooKeeper, Etcd])
async def test_a_lost_connection_ends_every_call(kind):
    client, _ = connected(kind)
    call = client.call(b"h", b"m") if isinstance(client, Etcd) else client.call(4, b"")
    client.connection_lost(None)
    with pytest.raises(ConnectionError):
        await call


# ---- etcd


def frame(kind, flags, stream, payload=b""):
    return len(payload).to_bytes(3, "big") + bytes((kind, flags)) + stream.to_bytes(4, "big") + payload


def message(body):
    return b"\0" + len(body).to_bytes(4, "big") + body


@PIECES
async def test_etcds_answers_are_told_apart_by_their_stream(size):
    client, line = connected(Etcd)
    await client.begin()
    first = asyncio.ensure_future(client.get("k", "linearizable"))
    second = asyncio.ensure_future(client.get("k", "linearizable"))
    await asyncio.sleep(0)
    before = len(line.written)
    answer = message(b"value of the second")
    data = frame(4, 0, 0) + frame(6, 0, 0, b"12345678") + frame(1, 4, 3, b"headers")
    data += frame(0, 0, 3, answer[:9]) + frame(0, 0, 1, message(b"first")) + frame(0, 0, 3, answer[9:])
    in_pieces(client, data + frame(1, 5, 3, b"trailers") + frame(1, 5, 1, b"trailers"), size)
    assert (await first, await second) == (b"first", b"value of the second")
    assert line.written[before:] == frame(4, 1, 0) + frame(6, 1, 0, b"12345678"), "settings and ping are answered"


async def test_what_etcd_refuses_is_an_error():
    client, _ = connected(Etcd)
    refused, reset = client.call(b"h", b"m"), client.call(b"h", b"m")
    client.data_received(frame(1, 5, 1, b"trailers only") + frame(3, 0, 3, bytes(4)))
    for call in (refused, reset):
        with pytest.raises(OSError, match="refused"):
            await call


@PIECES
async def test_all_watches_of_etcd_share_a_stream_and_each_is_told(size):
    client, _ = connected(Etcd)
    told = []
    watching = [asyncio.ensure_future(client.watch("k", lambda at=at: told.append(at))) for at in range(2)]
    await asyncio.sleep(0)
    header = b"\x0a\x02\x08\x01"
    created = [message(header + b"\x18\x01"), message(header + b"\x10\x01\x18\x01")]
    in_pieces(client, frame(0, 0, 1, created[0]) + frame(0, 0, 1, created[1]), size)
    await asyncio.gather(*watching)
    events = message(header + b"\x10\x01\x5a\x03abc") + message(header + b"\x5a\x03abc")
    in_pieces(client, frame(0, 0, 1, events[:7]) + frame(0, 0, 1, events[7:]), size)
    assert told == [1, 0]


def test_the_fields_of_a_protobuf_message():
    assert list(fields(b"\x0a\x02ab\x10\xac\x02\x5a\x00")) == [(1, b"ab"), (2, 300), (11, b"")]
