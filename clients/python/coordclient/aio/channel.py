"""One WebSocket to one replica: the hellos, frames out (all that is ready leaves in one message), frames in.

It knows nothing of sessions. Whoever owns it gets each message's frames through `on_frames` and is told once, through
`on_lost`, that it is over and why. Requests that belong to the channel itself (open_session, attach, status) are made
with `request`. A call with several answers is a `Stream`, which ends with its channel at the latest.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import aiohttp

from coordclient.protocol.codec import Malformed, decode
from coordclient.protocol.errors import Refusal
from coordclient.protocol.frames import CHANNEL_VERSION, MESSAGE_BYTES_MAX, BadFrames, frame, split_frames, split_push

ANSWER_BYTES_MAX = 16 * 1024 * 1024  # one message of a replica may hold several large answers


class ChannelError(Exception):
    """The channel could not be opened, or is over; the text says why.

    `refusal`: what the replica said, if it did. `silent`: it said nothing in the time it had.
    """

    def __init__(self, reason: str, refusal: Refusal | None = None, *, silent: bool = False) -> None:
        super().__init__(reason)
        self.refusal = refusal
        self.silent = silent


class Stream(Protocol):
    """What gets the answers to a call of which there are several. Called in the loop; it must not raise."""

    def pushed(self, body: Any) -> None:
        """One answer; more follow. The same object may be given to many streams: it is only to be read."""

    def ended(self, error: Refusal | ChannelError | None) -> None:
        """Once: no more follows. By a refusal, with the channel, or, with None, by a plain last answer."""


Frames = list[list[Any]]
OnFrames = Callable[["Channel", Frames], None]
OnLost = Callable[["Channel", str], None]


class Channel:
    """An open channel; made by `open_channel`."""

    def __init__(self, address: str, socket: aiohttp.ClientWebSocketResponse, hello: list[Any]) -> None:
        self.address = address
        _, self.cell, self.replica, self.master, self.master_address = hello
        self.received = 0  # messages so far
        self._socket = socket
        self._loop = asyncio.get_running_loop()
        self._outbox: list[bytes] = []
        self._wake: asyncio.Future[None] | None = None
        self._requests: dict[int, asyncio.Future[Any]] = {}
        self._streams: dict[int, Stream] = {}
        self._body: tuple[bytes, Any] = (b"", None)  # of the last push: its bytes, and what they say
        self._on_frames: OnFrames | None = None
        self._on_lost: OnLost | None = None
        self._tasks: tuple[asyncio.Task[None], ...] = ()
        self._over = ""

    def start(self, on_frames: OnFrames, on_lost: OnLost) -> None:
        """Begin to read and write."""
        self._on_frames, self._on_lost = on_frames, on_lost
        self._tasks = (self._loop.create_task(self._read()), self._loop.create_task(self._write()))
        for task in self._tasks:
            task.add_done_callback(self._ended)

    def send(self, payload: bytes) -> None:
        """Queue one frame; it leaves at the end of this turn of the loop with all others."""
        self._outbox.append(payload)
        wake = self._wake
        if wake is not None:
            self._wake = None
            if not wake.done():  # cancelled, where the loop is being shut down: what is sent then leaves no more
                wake.set_result(None)

    async def request(
        self, number: int, acked: int, operation: str, arguments: Mapping[str, Any], timeout_ms: int
    ) -> Mapping[str, Any]:
        """One call outside every table, sent once; raises Refusal or ChannelError."""
        future: asyncio.Future[Any] = self._loop.create_future()
        self._requests[number] = future
        self.send(frame([number, operation, arguments, acked]))
        try:
            async with asyncio.timeout(timeout_ms / 1_000):
                answer = await future
        except TimeoutError:
            raise ChannelError(f"no answer to {operation} within {timeout_ms} ms", silent=True) from None
        finally:
            self._requests.pop(number, None)
        if not isinstance(answer, dict):
            raise ChannelError(f"answers {operation} by something that is no map")
        return answer

    def begin_stream(
        self, number: int, acked: int, operation: str, arguments: Mapping[str, Any], stream: Stream
    ) -> None:
        """A call outside every table, with several answers: `stream` gets each, and the end.

        It is sent once, and ends with the channel at the latest. Not to be called when that is over.
        """
        self.send(frame([number, operation, arguments, acked]))
        self._streams[number] = stream

    def forget_stream(self, number: int) -> None:
        """Whatever still comes for it is passed over. The replica is not told."""
        self._streams.pop(number, None)

    def answer(self, item: list[Any]) -> None:
        """Hand an answer to the `request` or stream it belongs to, if any. An error of call 0 ends the channel."""
        if len(item) == 4:
            if (stream := self._streams.get(item[0])) is not None:
                stream.pushed(item[1])
            return
        refusal = refusal_of(item)
        future = self._requests.get(item[0])
        stream = self._streams.pop(item[0], None)
        if stream is not None:
            stream.ended(refusal)
        elif future is not None and not future.done():
            if refusal is None:
                future.set_result(item[1])
            else:
                future.set_exception(refusal)
        elif item[0] == 0 and refusal is not None:
            self.lose(f"{refusal.code}: {refusal.message}")

    def lose(self, reason: str) -> None:
        """It is over: whoever waits for a request is told, and the owner, once."""
        if self._over:
            return
        self._over = reason
        for future in self._requests.values():
            if not future.done():
                future.set_exception(ChannelError(reason))
        if self._on_lost is not None:
            self._on_lost(self, reason)
        streams, self._streams = self._streams, {}
        for stream in streams.values():
            stream.ended(ChannelError(reason))

    async def close(self) -> None:
        """End both directions and let go of the socket, without waiting long for the other side."""
        self.lose("closed by this client")
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        try:
            await self._socket.close()
        except (OSError, aiohttp.ClientError):
            return  # it was broken already, which is as closed as can be

    def _ended(self, task: asyncio.Task[None]) -> None:
        """A reader or writer that ended by a bug must not leave a channel behind that looks alive."""
        if not task.cancelled() and (error := task.exception()) is not None:
            self._loop.call_exception_handler({"message": "coordclient: a channel failed", "exception": error})
            self.lose(f"failed inside this client: {_words(error)}")

    async def _write(self) -> None:
        try:
            while True:
                if not self._outbox:
                    self._wake = self._loop.create_future()
                    await self._wake
                await self._socket.send_bytes(self._next_message())
        except (OSError, aiohttp.ClientError) as error:
            self.lose(f"broke off while sending: {_words(error)}")

    def _next_message(self) -> bytes:
        """As many of the queued frames as one message may hold."""
        outbox = self._outbox
        self._outbox = []
        message = b"".join(outbox)
        if len(message) <= MESSAGE_BYTES_MAX:
            return message
        size = 0
        for position, payload in enumerate(outbox):
            size += len(payload)
            if size > MESSAGE_BYTES_MAX and position:
                self._outbox = outbox[position:]
                return b"".join(outbox[:position])
        return message

    async def _read(self) -> None:
        receive = self._socket.receive
        try:
            while True:
                message = await receive()
                if message.type is not aiohttp.WSMsgType.BINARY:
                    self.lose(_end_of(message, self._socket))
                    return
                self.received += 1
                frames = [self._item(payload) for payload in split_frames(message.data)]
                if self._on_frames is not None and not self._over:
                    self._on_frames(self, frames)
        except (BadFrames, Malformed) as error:
            self.lose(f"sent what is no frame: {error}")
        except (OSError, aiohttp.ClientError) as error:
            self.lose(f"broke off: {_words(error)}")

    def _item(self, payload: bytes) -> list[Any]:
        """What one frame says. A push whose result is that of the push before, byte by byte, is not decoded again."""
        push = split_push(payload)
        if push is None:
            return _checked(decode(payload))
        number, body = push
        if body != self._body[0]:
            self._body = (body, decode(body))
        return [number, self._body[1], None, True]


def _checked(item: Any) -> list[Any]:
    if type(item) is not list or not 2 <= len(item) <= 3 or type(item[0]) is not int:
        raise BadFrames("a frame must be [call, result], [call, nil, error] or [call, result, nil, true]")
    return item


def refusal_of(item: list[Any]) -> Refusal | None:
    """The error in a frame, if it is one."""
    if len(item) == 2:
        return None
    error = item[2]
    return Refusal.from_wire(error if isinstance(error, dict) else {"message": f"no error map, but {error!r:.80}"})


async def open_channel(
    http: aiohttp.ClientSession, address: str, cell: str, client: Mapping[str, str], timeout_ms: int
) -> Channel:
    """Connect, exchange the hellos; raises ChannelError."""
    try:
        async with asyncio.timeout(timeout_ms / 1_000):
            socket = await http.ws_connect(
                f"{address}/v1/channel",
                compress=0,
                max_msg_size=ANSWER_BYTES_MAX,
                timeout=aiohttp.ClientWSTimeout(ws_close=0.5),
            )
            try:
                return Channel(address, socket, await _exchange_hellos(socket, cell, client))
            except BaseException:
                await socket.close()
                raise
    except TimeoutError:
        raise ChannelError(f"no answer within {timeout_ms} ms", silent=True) from None
    except (BadFrames, Malformed) as error:
        raise ChannelError(f"answers, but not as coordd does: {error}") from None
    except (OSError, aiohttp.ClientError, ValueError) as error:
        raise ChannelError(_words(error)) from None


async def _exchange_hellos(socket: aiohttp.ClientWebSocketResponse, cell: str, client: Mapping[str, str]) -> list[Any]:
    await socket.send_bytes(frame([CHANNEL_VERSION, cell, client]))
    message = await socket.receive()
    if message.type is not aiohttp.WSMsgType.BINARY:
        raise ChannelError(_end_of(message, socket))
    payloads = split_frames(message.data)
    hello = decode(payloads[0]) if payloads else None
    refusal = refusal_of(hello) if isinstance(hello, list) and len(hello) == 3 and hello[0] == 0 else None
    if refusal is not None:
        raise ChannelError(f"{refusal.code}: {refusal.message}", refusal)
    if not isinstance(hello, list) or not hello or type(hello[0]) is not int:
        raise ChannelError("begins with what is no hello")
    if hello[0] != CHANNEL_VERSION or len(hello) != 5:
        text = f"speaks version {hello[0]} of the channel, this client {CHANNEL_VERSION}"
        raise ChannelError(text, Refusal("unsupported_version", text))
    if not isinstance(hello[4], str | None):
        raise ChannelError("names its master's address by something that is no text")
    if cell and hello[1] != cell:
        raise ChannelError(
            f"belongs to the cell {hello[1]!r}", Refusal("wrong_cell", f"the cell there is {hello[1]!r}, not {cell!r}")
        )
    return hello


def _end_of(message: aiohttp.WSMessage, socket: aiohttp.ClientWebSocketResponse) -> str:
    if message.type is aiohttp.WSMsgType.ERROR:
        return f"broke off: {_words(message.data) if isinstance(message.data, BaseException) else message.data}"
    if message.type is aiohttp.WSMsgType.TEXT:
        return "sent text, which is no frame"
    code = f" (code {socket.close_code})" if socket.close_code else ""
    return f"closed the connection{code}"


def _words(error: BaseException) -> str:
    if isinstance(error, aiohttp.WSServerHandshakeError):
        return f"answers, but not as coordd does: HTTP status {error.status}"
    if isinstance(error, aiohttp.ClientSSLError):  # its errno is none of the system's
        return f"no TLS with it, and coordd itself speaks http:// only: {error}"
    if isinstance(error, aiohttp.ClientConnectorError):  # its text repeats the address and speaks of TLS
        number = error.os_error.errno
        return os.strerror(number).lower() if number is not None and number > 0 else str(error.os_error.strerror)
    return str(error) or type(error).__name__
