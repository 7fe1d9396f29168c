"""`GET /v1/channel`: a WebSocket with many calls in flight; `coordclient.protocol.frames` has the layout.

`Channel` is the part without a socket: payloads in, calls to the node, frames out through `Outlet`. Replies gather in a
buffer that one callback writes per loop turn, as WebSocket messages made by hand: no task, no system call per reply. A
client that does not read is bounded: its streams wait (`reader`), and past `outbox_bytes` the channel is cut. A channel
speaks for one session, from the moment its `attach` was answered. A call with several answers (a stream) stands beside
the calls in flight; how many streams there may be is the node's to say. What cannot be understood at all is answered on
call 0, and the channel closed. One whose client has died without a word is found by its `heart`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import structlog
from aiohttp import WSCloseCode, WSMsgType, web

from coordclient.protocol.codec import Malformed, decode, encode
from coordclient.protocol.errors import Refusal
from coordclient.protocol.frames import (
    CHANNEL_VERSION,
    FRAME_BYTES_MAX,
    MESSAGE_BYTES_MAX,
    BadFrames,
    frame,
    split_frames,
    stream_frame,
    websocket_header,
)
from coordclient.protocol.operations import Operation
from coordd.api.heart import Heart
from coordd.api.limits import ApiLimits
from coordd.api.reader import Outlet, Reader
from coordd.api.requests import check_call, check_cell, is_number, require_session
from coordd.engine.inputs import Call
from coordd.node.service import Piece, Service

FRAMES_PER_TURN = 128
STREAM_BYTES_MAX = FRAME_BYTES_MAX - 16  # of one answer of several, besides its call number and the rest of the frame
_CLIENT_LABELS_MAX = 16

_log = structlog.get_logger("coordd.api")


class Channel:
    """One client's channel; see the module docstring."""

    def __init__(
        self,
        service: Service,
        limits: ApiLimits,
        outlet: Outlet,
        call_soon: Callable[[Callable[[], None]], object],
        call_later: Callable[[float, Callable[[], None]], object],
    ) -> None:
        self._service = service
        self._limits = limits
        self._outlet = outlet
        self._number = service.new_request()  # of the channel itself
        self._call_soon = call_soon
        self._reader = Reader(service, limits, outlet, self._number, call_later)
        self.lease_ms = 0  # of the session, as its attach was told
        self._session = 0
        self._attachment = 0
        self._incarnation = 1  # of the session, as the last attach was told
        self._waiting: set[int] = set()  # request numbers
        self._streams: set[int] = set()  # request numbers of calls with several answers
        self._out: list[bytes] = []
        self._out_bytes = 0
        self._flush_due = False

    # ---- the client's frames ----

    def greet(self, message: bytes) -> None:
        """The hello; answered with the own one. `Refusal`: to be told and the channel closed."""
        payloads = _frames(message)
        hello = _decoded(payloads[0]) if len(payloads) == 1 else None
        if not isinstance(hello, list) or not hello:
            raise Refusal("bad_request", "a channel begins with one hello frame: [version, cell, client]")
        if hello[0] != CHANNEL_VERSION or type(hello[0]) is not int:
            shown = repr(hello[0])[:20]
            raise Refusal(
                "unsupported_version", f"channel format {shown} is not known to this replica (known: {CHANNEL_VERSION})"
            )
        if len(hello) != 3 or not _is_labels(hello[2]):
            raise Refusal("bad_request", "the hello is [version, cell, client], client a small map of texts")
        check_cell(self._service.cell, hello[1])
        master = self._service.master()
        address = self._service.address_of(master)
        self._push(frame([CHANNEL_VERSION, self._service.cell, self._service.replica, master, address]))

    async def take(self, message: bytes) -> None:
        """One WebSocket message of frames; lets the loop run between pieces of a long one."""
        payloads = _frames(message)
        for position in range(0, len(payloads), FRAMES_PER_TURN):
            if position:
                await asyncio.sleep(0)
            for payload in payloads[position : position + FRAMES_PER_TURN]:
                self._take_frame(payload)

    def _take_frame(self, payload: bytes) -> None:
        fields = _decoded(payload)
        if type(fields) is not list or len(fields) != 4 or not is_number(fields[0], 1) or not is_number(fields[3], 0):
            raise Refusal("bad_request", "a frame is [call, operation, arguments, acked]")
        call, name, arguments, acked = fields
        try:
            operation, checked = check_call(self._service.cell, name, arguments)
            self._submit(call, operation, checked, acked)
        except Refusal as refusal:
            self._answer(call, refusal)

    def _submit(self, call: int, operation: Operation, arguments: dict[str, object], acked: int) -> None:
        if len(self._waiting) >= self._limits.channel_in_flight:
            raise Refusal("overloaded", f"{len(self._waiting)} calls of this channel wait for their answers")
        session, attachment, incarnation = self._session, self._attachment, self._incarnation
        if operation.name == "attach":
            self._check_attach(arguments)
        else:
            require_session(operation, session)
        request = self._service.new_request()
        open_calls = self._streams if operation.streams else self._waiting
        open_calls.add(request)

        def deliver(result: dict[str, object] | Refusal) -> None:
            open_calls.discard(request)
            if operation.name == "attach" and not isinstance(result, Refusal):
                self._attached(arguments, result)
            self._answer(call, result)

        def push(piece: Piece) -> None:
            payload = piece.form(encode)
            if len(payload) <= STREAM_BYTES_MAX:
                self._push(stream_frame(call, payload))
                return
            open_calls.discard(request)
            self._service.gone((request,))
            self._answer(call, _too_large(len(payload)))

        door = (attachment, incarnation, self._number)
        spoken = Call(request, operation.name, arguments, session, call, acked, *door)
        self._service.submit(spoken, deliver, push if operation.streams else None)

    def _check_attach(self, arguments: dict[str, object]) -> None:
        if self._session and arguments["session"] != self._session:
            raise Refusal("bad_request", f"this channel speaks for session {self._session}; open another channel")

    def _attached(self, arguments: dict[str, object], result: dict[str, object]) -> None:
        session, attachment = arguments["session"], arguments["attachment"]
        incarnation, lease_ms = result["incarnation"], result["lease_ms"]
        assert isinstance(session, int) and isinstance(attachment, int)
        assert isinstance(incarnation, int) and isinstance(lease_ms, int)
        newer = (incarnation, attachment) > (self._incarnation, self._attachment)
        if not self._session or (session == self._session and newer):
            self._session, self._attachment, self._incarnation = session, attachment, incarnation
            self.lease_ms = lease_ms

    # ---- the frames to the client ----

    def _answer(self, call: int, result: dict[str, object] | Refusal) -> None:
        if isinstance(result, Refusal):
            self._push(frame([call, None, result.to_wire()]))
            return
        data = frame([call, result])
        if len(data) > FRAME_BYTES_MAX:
            data = frame([call, None, _too_large(len(data)).to_wire()])
        self._push(data)

    def fail(self, refusal: Refusal) -> None:
        """The last frame: why the channel is closed."""
        self._push(frame([0, None, refusal.to_wire()]))
        self.flush()

    def _push(self, data: bytes) -> None:
        self._out.append(data)
        self._out_bytes += len(data)
        if not self._flush_due:
            self._flush_due = True
            self._call_soon(self.flush)

    def flush(self) -> None:
        """Write everything that is ready; called once per loop turn."""
        self._flush_due = False
        frames, size = self._out, self._out_bytes
        self._out, self._out_bytes = [], 0
        outlet = self._outlet
        if not frames or outlet.is_closing():
            return
        unread = outlet.get_write_buffer_size()
        if unread + size > self._limits.outbox_bytes + MESSAGE_BYTES_MAX:
            _log.warning("slow channel cut", session=self._session, unread_bytes=unread + size)
            outlet.abort()
        elif size <= MESSAGE_BYTES_MAX:
            outlet.write(b"".join((websocket_header(size), *frames)))
        else:
            for part in _parts(frames):
                outlet.write(b"".join((websocket_header(sum(map(len, part))), *part)))
        if self._streams:
            self._reader.look()

    def end(self) -> None:
        """The channel is closed: nobody waits for its calls any more. The calls themselves go on."""
        left = tuple(sorted(self._waiting | self._streams))
        self._waiting, self._streams = set(), set()
        self._service.gone(left)
        self._reader.end()


class ChannelDoor:
    """The handler of `GET /v1/channel`, and the list of those that are open."""

    def __init__(self, service: Service, limits: ApiLimits) -> None:
        self._service = service
        self._limits = limits
        self._open: set[web.WebSocketResponse] = set()

    def __len__(self) -> int:
        return len(self._open)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """One channel, from its upgrade to its end."""
        # Pings and pongs come to `_serve`: they are signs of life.
        socket = web.WebSocketResponse(timeout=1.0, compress=False, max_msg_size=2 * MESSAGE_BYTES_MAX, autoping=False)
        if not socket.can_prepare(request).ok:
            raise Refusal("bad_request", "a channel is a WebSocket: ask for the upgrade")
        _check_origin(request)
        await socket.prepare(request)
        transport = request.transport
        if transport is None:
            return socket
        loop = asyncio.get_running_loop()
        channel = Channel(self._service, self._limits, transport, loop.call_soon, loop.call_later)
        self._open.add(socket)
        try:
            await self._greet(socket, channel)
            await self._serve(socket, channel, transport)
        except Refusal as refusal:
            channel.fail(refusal)
            await socket.close(code=WSCloseCode.POLICY_VIOLATION, message=refusal.code.encode())
        finally:
            self._open.discard(socket)
            channel.end()
        return socket

    async def _greet(self, socket: web.WebSocketResponse, channel: Channel) -> None:
        try:
            async with asyncio.timeout(self._limits.hello_seconds):
                message = await socket.receive()
        except TimeoutError:
            raise Refusal("bad_request", f"no hello within {self._limits.hello_seconds} s") from None
        if message.type not in (WSMsgType.CLOSE, WSMsgType.CLOSING, WSMsgType.CLOSED):
            channel.greet(_payload(message.type, message.data))

    async def _serve(self, socket: web.WebSocketResponse, channel: Channel, outlet: Outlet) -> None:
        heart = Heart(self._limits, outlet, lambda: channel.lease_ms, asyncio.get_running_loop().call_later)
        try:
            async for message in socket:  # none where it was closed instead of the hello
                heart.heard()
                if message.type is WSMsgType.PING:
                    await socket.pong(message.data)
                elif message.type is not WSMsgType.PONG:
                    await channel.take(_payload(message.type, message.data))
        finally:
            heart.end()

    async def close(self) -> None:
        """Close every channel, because the daemon stops."""
        async with asyncio.TaskGroup() as tasks:
            for socket in list(self._open):
                tasks.create_task(_go_away(socket))


async def _go_away(socket: web.WebSocketResponse) -> None:
    await socket.close(code=WSCloseCode.GOING_AWAY)


def _check_origin(request: web.Request) -> None:
    """A browser lets any page open a WebSocket to any address and names the page's origin: only the own one may."""
    origin = request.headers.get("Origin")
    if origin is not None and origin.partition("://")[2] != request.host:
        raise Refusal("permission_denied", "a page of another origin may not open a channel")


def _payload(kind: WSMsgType, data: object) -> bytes:
    if kind is not WSMsgType.BINARY or not isinstance(data, bytes):
        said = "a text message" if kind is WSMsgType.TEXT else f"what ended in {str(data)[:200]}"
        raise Refusal("bad_request", f"a channel carries binary messages of frames, not {said}")
    return data


def _frames(message: bytes) -> list[bytes]:
    if len(message) > MESSAGE_BYTES_MAX:
        raise Refusal("too_large", f"a message of {len(message)} bytes; the limit is {MESSAGE_BYTES_MAX}")
    try:
        return split_frames(message)
    except BadFrames as error:
        raise Refusal("bad_request", str(error)) from None


def _too_large(size: int) -> Refusal:
    return Refusal("too_large", f"the answer has {size} bytes; a frame has at most {FRAME_BYTES_MAX}")


def _decoded(payload: bytes) -> object:
    try:
        return decode(payload)
    except Malformed as error:
        raise Refusal("bad_request", f"a frame is {error}") from None


def _is_labels(value: object) -> bool:
    return (
        isinstance(value, dict)
        and len(value) <= _CLIENT_LABELS_MAX
        and all(isinstance(key, str) and isinstance(text, str) for key, text in value.items())
    )


def _parts(frames: list[bytes]) -> list[list[bytes]]:
    """The frames in messages of at most MESSAGE_BYTES_MAX each."""
    parts: list[list[bytes]] = [[]]
    size = 0
    for data in frames:
        if parts[-1] and size + len(data) > MESSAGE_BYTES_MAX:
            parts.append([])
            size = 0
        parts[-1].append(data)
        size += len(data)
    return parts
