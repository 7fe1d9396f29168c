"""`GET /v1/watch?path=..&scope=..&since=..&values=..`: a watch as server-sent events, for browsers and curl.

Each delivery is one event: `change` (events of whole revisions), `resync` (a piece of what there is), `progress`
(nothing has changed), with its JSON as `data`. `id` is the revision up to which everything was told then, so that a
client that connects again goes on where it was: browsers send it back as `Last-Event-ID`, which counts more than
`since`. `end` is the last one: why it is over. A client that does not read holds up nobody: what it has not taken is
not acknowledged; and it is cut when it takes nothing for `congested_seconds`. So is one whose machine has died:
something is written every `event_idle_seconds`, and nobody says that it has come.
"""

from __future__ import annotations

import asyncio
import socket
from collections import deque

import structlog
from aiohttp import web

from coordclient.protocol.errors import Refusal
from coordclient.protocol.operations import NUMBER_MAX
from coordd.api import json_body
from coordd.api.calls import JSON, status_of
from coordd.api.limits import ApiLimits
from coordd.api.requests import check_call
from coordd.engine.inputs import Call
from coordd.node.service import Piece, Service

_KEYS = ("path", "scope", "since", "values")
_CALL = 1  # the number of the watch, on a channel of its own
_RETRY_MS = 1_000
_HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}

_log = structlog.get_logger("coordd.api")


class EventStreams:
    """The handler, and how many are open."""

    def __init__(self, service: Service, limits: ApiLimits) -> None:
        self._service = service
        self._limits = limits
        self._open = 0

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """One stream, from its request to its end."""
        _, arguments = check_call(self._service.cell, "watch", _asked(request))
        if self._open >= self._limits.event_streams:
            raise Refusal("overloaded", f"{self._open} event streams are open; try again later")
        self._open += 1
        stream = _Stream(self._service, arguments)
        try:
            return await self._serve(request, stream)
        finally:
            self._open -= 1
            stream.end()

    async def _serve(self, request: web.Request, stream: _Stream) -> web.StreamResponse:
        seconds = self._limits.call_seconds
        first = await stream.next(seconds)
        if first is None:
            first = Refusal("unavailable", f"no answer within {seconds} s")
        if isinstance(first, Refusal):
            status, headers = status_of(first, request.rel_url.raw_path_qs)
            body = json_body.render(first.to_wire()) + b"\n"
            return web.Response(status=status, headers=headers, body=body, content_type=JSON)
        response = web.StreamResponse(headers=_HEADERS)
        response.content_type = "text/event-stream"
        response.charset = "utf-8"
        _give_up_after(request, self._limits.congested_seconds)
        await response.prepare(request)
        try:
            await self._tell(response, stream, first)
        except TimeoutError:
            _log.warning("silent event stream cut")
            if request.transport is not None:
                request.transport.abort()
        return response

    async def _tell(self, response: web.StreamResponse, stream: _Stream, first: Piece | dict[str, object]) -> None:
        await self._write(response, f"retry: {_RETRY_MS}\n\n".encode())
        item: Piece | Refusal | dict[str, object] | None = first
        while not isinstance(item, Refusal | dict):
            await self._write(response, b": still here\n\n" if item is None else item.form(_event))
            if item is None:
                stream.remind()
            else:
                stream.taken()
            item = await stream.next(self._limits.event_idle_seconds)
        said = item.to_wire() if isinstance(item, Refusal) else item
        await self._write(response, b"event: end\ndata: " + json_body.render(said) + b"\n\n")

    async def _write(self, response: web.StreamResponse, data: bytes) -> None:
        """Until there is room for more; `TimeoutError` when its client takes nothing for too long."""
        async with asyncio.timeout(self._limits.congested_seconds):
            await response.write(data)


class _Stream:
    """One watch at the node, on a channel of its own."""

    def __init__(self, service: Service, arguments: dict[str, object]) -> None:
        self._service = service
        self._channel = service.new_request()
        self._request = service.new_request()
        self._items: deque[Piece | Refusal | dict[str, object]] = deque()
        self._news = asyncio.Event()
        self._over = False
        self._taken = self._acknowledged = 0
        self._acknowledging = 0  # the request that does it, while it is on its way
        watch = Call(self._request, "watch", arguments, call=_CALL, channel=self._channel)
        service.submit(watch, self._ended, self._put)

    def _put(self, item: Piece | Refusal | dict[str, object]) -> None:
        self._items.append(item)
        self._news.set()

    def _ended(self, result: dict[str, object] | Refusal) -> None:
        self._over = True
        self._put(result)

    async def next(self, seconds: float) -> Piece | Refusal | dict[str, object] | None:
        """What came next; None when nothing did for so long."""
        if not self._items:
            self._news.clear()
            try:
                async with asyncio.timeout(seconds):
                    await self._news.wait()
            except TimeoutError:
                return None
        return self._items.popleft()

    def taken(self) -> None:
        """One more delivery is on its way to the client; said when nothing more waits here, one word at a time."""
        self._taken += 1
        self.remind()

    def remind(self) -> None:
        """Say what is not said yet, or was refused because a queue was full: without it nothing more may come."""
        if self._taken > self._acknowledged and not (self._items or self._acknowledging or self._over):
            self._acknowledge()

    def _acknowledge(self) -> None:
        self._acknowledging, taken = self._service.new_request(), self._taken
        arguments: dict[str, object] = {"watch": _CALL, "deliveries": taken}

        def said(result: dict[str, object] | Refusal) -> None:
            self._acknowledging = 0
            if not isinstance(result, Refusal):
                self._acknowledged = taken
                self.remind()

        self._service.submit(Call(self._acknowledging, "watched", arguments, channel=self._channel), said)

    def end(self) -> None:
        """The client has gone, or everything is said."""
        left = tuple(request for request in (self._request, self._acknowledging) if request)
        self._service.gone(left)


def _give_up_after(request: web.Request, seconds: float) -> None:
    """Let the kernel end the connection when nothing of what was sent is acknowledged for so long (by itself it goes on
    for a quarter of an hour); where it can (Linux)."""
    connection = None if request.transport is None else request.transport.get_extra_info("socket")
    if connection is not None and hasattr(socket, "TCP_USER_TIMEOUT"):
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(seconds * 1_000))


def _asked(request: web.Request) -> dict[str, object]:
    """The arguments that the query and `Last-Event-ID` name."""
    query = request.query
    for key in query:
        if key not in _KEYS:
            raise Refusal("bad_request", f"watch: no parameter is called {key[:80]!r}; there are: {', '.join(_KEYS)}")
        if len(query.getall(key)) > 1:
            raise Refusal("bad_request", f"watch: the parameter {key} stands there twice")
        if "\N{REPLACEMENT CHARACTER}" in query[key]:
            raise Refusal("bad_request", f"watch: the parameter {key} is not valid UTF-8")
    asked: dict[str, object] = dict(query)
    last = request.headers.get("Last-Event-ID", "")
    name, since = ("Last-Event-ID", last) if last else ("since", query.get("since", ""))
    asked["since"] = _number(name, since) if since else None
    return asked


def _number(name: str, text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 16 and int(text) <= NUMBER_MAX):
        raise Refusal("bad_request", f"watch: {name} must be a revision, 0 to {NUMBER_MAX}, not {text[:80]!r}")
    return int(text)


def _event(body: dict[str, object]) -> bytes:
    name = "resync" if "resync" in body else "change" if body["events"] else "progress"
    number = "" if body.get("more") else f"id: {body['revision']}\n"
    return f"{number}event: {name}\ndata: ".encode() + json_body.render(body) + b"\n\n"
