"""Whatever strangers send, a real daemon answers by name, changes nothing, and goes on."""

from __future__ import annotations

import contextlib
import json
import socket
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest

from coordclient.protocol.codec import encode
from coordclient.protocol.paths import cell_id
from coordd.testing.cells import RunningCell, start_cell
from coordd.transport.dial import PEER_PATH
from coordd.transport.wire import PEER_VERSION

JSON = {"Content-Type": "application/json"}
SECONDS = 15.0


@pytest.fixture(scope="module")
def cell() -> Iterator[RunningCell]:
    with start_cell(3, extra={"http": {"body_timeout_ms": 1_500}}) as running:
        yield running


@pytest.fixture(autouse=True)
def unharmed(cell: RunningCell) -> Iterator[None]:
    """Around each test: nobody died, the mastership stands, nothing was written."""
    master = cell.master()
    before = cell.post(master, "status")
    yield
    after = cell.post(master, "status")
    for name in ("role", "epoch", "revision", "chosen_upto", "sessions"):
        assert after[name] == before[name], name
    for replica in cell.addresses:
        assert cell.running(replica) and cell.ready(replica)
        assert "a bug" not in cell.log(replica)


def connect(cell: RunningCell) -> socket.socket:
    url = urlsplit(cell.addresses[cell.master()])
    assert url.hostname is not None and url.port is not None
    return socket.create_connection((url.hostname, url.port), timeout=SECONDS)


def told(connection: socket.socket) -> bytes:
    """Everything that comes until the other side closes."""
    answer = b""
    with contextlib.suppress(ConnectionResetError):
        while data := connection.recv(65536):
            answer += data
    return answer


def upgraded(cell: RunningCell, path: str) -> socket.socket:
    connection = connect(cell)
    connection.sendall(
        f"GET {path} HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
    )
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        head += connection.recv(1)
    assert b" 101 " in head
    return connection


def binary(payload: bytes) -> bytes:
    """One masked binary message, the mask being zero."""
    return bytes((0x82, 0x80 | 126)) + len(payload).to_bytes(2, "big") + bytes(4) + payload


@pytest.mark.parametrize(
    ("operation", "body", "code"),
    [
        ("nonsense", b"{}", "unknown_operation"),
        ("set_sequencer_key", b'{"key": "x", "epoch": 1}', "unknown_operation"),
        ("put", b"{", "bad_request"),
        ("put", b"[" * 200_000, "bad_request"),
        ("put", b'{"path": "/a/../b"}', "bad_path"),
        ("put", b'{"path": "/ls/elsewhere/a"}', "wrong_cell"),
        ("put", b'{"path": "/a", "contents": {"text": "' + b"x" * 262_145 + b'"}}', "too_large"),
        ("put", b'"' + b"x" * 600_000 + b'"', "too_large"),
        ("put", b'{"path": "/\\ud800"}', "bad_path"),
        ("acquire", b'{"path": "/a"}', "session_required"),
        ("attach", b'{"session": 1, "secret": "x", "attachment": 1}', "bad_request"),
    ],
)
def test_a_bad_post_is_refused_by_name(cell: RunningCell, operation: str, body: bytes, code: str) -> None:
    _, _, answer = cell.http(cell.master(), "POST", f"/v1/{operation}", body, JSON)
    assert json.loads(answer)["code"] == code


@pytest.mark.parametrize("session", ["1.ffff", "999999.ffff"])
def test_a_foreign_session_or_secret_is_refused_by_one_name(cell: RunningCell, session: str) -> None:
    headers = JSON | {"Coord-Session": session, "Coord-Call": "1"}
    status, _, answer = cell.http(cell.master(), "POST", "/v1/acquire", b'{"path": "/a"}', headers)
    assert (status, json.loads(answer)["code"]) == (410, "session_expired")


def test_a_post_that_never_ends_is_refused_by_name(cell: RunningCell) -> None:
    with connect(cell) as connection:
        connection.sendall(
            b"POST /v1/put HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 99\r\n\r\n{"
        )
        answer = told(connection)
    assert b"bad_request" in answer and b"did not end" in answer


@pytest.mark.parametrize(
    "garbage", [b"\0" * 1_000, b"\x16\x03\x01\x02\0", b"GET / HTTP/1.1\r\nA" * 50_000, b"POST /v1/put HTTP/1.1\r\n\r\n"]
)
def test_what_is_no_http_does_no_harm(cell: RunningCell, garbage: bytes) -> None:
    with connect(cell) as connection, contextlib.suppress(ConnectionError):
        connection.sendall(garbage)
        connection.shutdown(socket.SHUT_WR)
        told(connection)


@pytest.mark.parametrize("path", ["/v1/channel", PEER_PATH])
@pytest.mark.parametrize(
    "spoilt", [(b"websocket", b"websock\xffet"), (b"AAAA==", b"AA\xfeA=="), (b"AAAA==", b"==="), (b"13", b"1\x803")]
)
def test_a_broken_handshake_is_refused_by_name(cell: RunningCell, path: str, spoilt: tuple[bytes, bytes]) -> None:
    head = (
        f"GET {path} HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    )
    with connect(cell) as connection:
        connection.sendall(head.encode().replace(*spoilt))
        assert connection.recv(65536)[:13] in (b"HTTP/1.1 400 ", b"HTTP/1.1 426 ")


@pytest.mark.parametrize("payload", [b"", b"\0", b"\0\0\0\1\xc1", b"\xff" * 1_000, b"\0\0\x10\0" + b"\x91" * 4_096])
def test_garbage_on_a_channel_is_answered_on_call_0_and_the_channel_closed(cell: RunningCell, payload: bytes) -> None:
    with upgraded(cell, "/v1/channel") as connection:
        connection.sendall(binary(payload))
        assert b"bad_request" in told(connection)


@pytest.mark.parametrize("data", [b"\xff" * 500, b"\x82\xfe", b"\x82\x05hello", b"\x09\xff" + b"\0" * 200])
def test_broken_websocket_frames_do_no_harm(cell: RunningCell, data: bytes) -> None:
    for path in ("/v1/channel", PEER_PATH):
        with upgraded(cell, path) as connection, contextlib.suppress(ConnectionError):
            connection.sendall(data)
            connection.shutdown(socket.SHUT_WR)
            told(connection)


@pytest.mark.parametrize(
    ("hello", "code"),
    [
        (b"garbage", b"malformed"),
        (encode([PEER_VERSION + 1]) + b"", b"malformed"),
        (encode([PEER_VERSION + 1, cell_id("test"), "hello", 2, 1, 1, bytes(32)]), b"unsupported_version"),
        (encode([PEER_VERSION, cell_id("other"), "hello", 2, 1, 1, bytes(32)]), b"wrong_cell"),
        (encode([PEER_VERSION, cell_id("test"), "hello", 7, 7, 1, bytes(32)]), b"wrong_replica"),
    ],
)
def test_a_stranger_on_the_peer_door_is_refused_by_name(cell: RunningCell, hello: bytes, code: bytes) -> None:
    with upgraded(cell, PEER_PATH) as connection:
        connection.sendall(binary(hello))
        assert code in told(connection)


def test_a_client_can_never_speak_paxos(cell: RunningCell) -> None:
    master = cell.master()
    peer = next(replica for replica in cell.addresses if replica != master)
    with upgraded(cell, PEER_PATH) as connection:
        connection.sendall(binary(encode([PEER_VERSION, cell_id("test"), "hello", peer, master, 10**6, bytes(32)])))
        connection.sendall(binary(encode([PEER_VERSION, cell_id("test"), "proof", "", bytes(32)])))
        assert b"bad_proof" in told(connection)


def test_a_replica_with_another_secret_stays_outside(cell: RunningCell) -> None:
    master = cell.master()
    stranger = next(replica for replica in cell.addresses if replica != master)
    secret = cell.directory / "another-secret"
    secret.write_text("0" * 64)
    secret.chmod(0o600)
    original = cell.configs[stranger].read_text()
    cell.configs[stranger].write_text(original.replace(str(cell.directory / "secret"), str(secret)))
    try:
        cell.restart(stranger, wait=False)
        cell.wait_for(lambda: "bad_proof" in cell.log(master), "the refusal in the master's log")
        assert not cell.ready(stranger)
    finally:
        cell.configs[stranger].write_text(original)
        cell.restart(stranger)
