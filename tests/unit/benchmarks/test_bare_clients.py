"""The clients of the other systems understand their servers however the bytes arrive."""

from __future__ import annotations

import asyncio
import struct

import pytest

from benchmarks.bare_clients import Coordd, Etcd, ZooKeeper, fields
from coordclient.protocol.codec import decode, encode
from coordclient.protocol.frames import frame as channel_frame
from coordclient.protocol.frames import split_frames, stream_frame, websocket_header


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


PIECES = pytest.mark.parametrize("size", [1, 3, 7, 100_000])


# ---- coordd


def websocket_message(*frames):
    data = b"".join(frames)
    return websocket_header(len(data)) + data


def sent(data):
    """The frames of the one message in `data`."""
    assert data[0] == 0x82 and data[1] & 0x80, "a client's messages are masked"
    size, start = data[1] & 0x7F, 2
    if size == 126:
        size, start = int.from_bytes(data[2:4], "big"), 4
    assert data[start : start + 4] == bytes(4) and len(data) == start + 4 + size
    return [decode(payload) for payload in split_frames(data[start + 4 :])]


async def on_a_channel(size):
    client, line = connected(Coordd)
    task = asyncio.ensure_future(client.begin())
    await asyncio.sleep(0)
    assert line.written.startswith(b"GET /v1/channel HTTP/1.1\r\n") and line.written.endswith(b"\r\n\r\n")
    line.written = b""
    in_pieces(client, b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n", size)
    for _ in range(3):
        await asyncio.sleep(0)
    assert sent(line.written) == [[1, "", {}]]
    in_pieces(client, websocket_message(channel_frame([1, "cell", 1, 1, "http://a"])), size)
    await task
    line.written = b""
    return client, line


@PIECES
async def test_coordds_answers_have_the_number_of_the_call(size):
    client, line = await on_a_channel(size)
    reads = [asyncio.ensure_future(client.get("/k", "linearizable")) for _ in range(2)]
    reads.append(asyncio.ensure_future(client.put("/k", b"v")))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    get, put = ["get", {"path": "/k"}, 0], ["put", {"path": "/k", "contents": b"v"}, 0]
    assert sent(line.written) == [[1, *get], [2, *get], [3, *put]], "what is sent in one turn is one message"
    line.written = b""
    long = b"a" * (70_000 if size > 10 else 200)  # with ten bytes of length, or with four
    contents = ((2, b"b"), (1, long))
    answers = [channel_frame([number, {"contents": value}]) for number, value in contents]
    in_pieces(client, websocket_message(*answers) + websocket_message(channel_frame([3, {}])), size)
    first, second, _ = await asyncio.gather(*reads)
    assert long in first and b"b" in second


@PIECES
async def test_a_watch_of_coordd_is_told_of_events_and_not_of_marks_and_a_ping_is_answered(size):
    client, line = await on_a_channel(size)
    told = []
    watching = [asyncio.ensure_future(client.watch("/k", lambda at=at: told.append(at))) for at in range(2)]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert [asked[1] for asked in sent(line.written)] == ["watch", "watch"]
    line.written = b""
    mark, events = encode({"revision": 5, "events": []}), encode({"revision": 6, "events": [{"path": "/k"}]})
    in_pieces(client, websocket_message(stream_frame(1, mark), stream_frame(2, mark)), size)
    await asyncio.gather(*watching)
    in_pieces(client, b"\x89\x02hi" + websocket_message(stream_frame(2, events), stream_frame(1, mark)), size)
    assert told == [1]
    assert line.written == b"\x8a\x82\0\0\0\0hi"


async def test_what_coordd_refuses_is_an_error():
    client, _ = await on_a_channel(1_000)
    refused = client.call("get", {"path": "/k"})
    client.data_received(websocket_message(channel_frame([1, None, {"code": "not_found", "message": "/k"}])))
    with pytest.raises(OSError, match="not_found"):
        await refused


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


@pytest.mark.parametrize(
    ("kind", "arguments"), [(ZooKeeper, (4, b"")), (Etcd, (b"h", b"m")), (Coordd, ("get", {"path": "/k"}))]
)
async def test_a_lost_connection_ends_every_call(kind, arguments):
    client, _ = connected(kind)
    call = client.call(*arguments)
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
