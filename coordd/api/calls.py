"""`POST /v1/<operation>`: one operation per request, msgpack or JSON; everything can be done with curl.

Headers: `Content-Type` and `Accept` (application/json, application/msgpack), `Coord-Session: <id>.<secret>`,
`Coord-Call: <number>` (a retry has the number of the first try and takes effect once), `Coord-Acked: <number>` (all
calls below it have been answered). A replica that is not the master answers 307 with the master's address, or 503 with
Retry-After when it knows none. An error has the status of the table of errors and its map as the body.

A KeepAlive with `hold_ms`, and a watch that waits for news, are held by the master on purpose: they are counted apart
from what is being answered, and have their hold on top of the time that any call has. With no room for one more it is
not held, and never refused: no session ends because others wait.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from aiohttp import web
from aiohttp.http_exceptions import PayloadEncodingError

from coordclient.protocol.codec import Malformed, decode, encode
from coordclient.protocol.errors import ERRORS, Refusal
from coordclient.protocol.operations import LEASE_MS_MAX, NUMBER_MAX, Operation, Way, find_operation
from coordd.api import json_body
from coordd.api.limits import ApiLimits
from coordd.api.requests import check_call, require_session
from coordd.engine.inputs import Call
from coordd.node.service import Service

JSON, MSGPACK = "application/json", "application/msgpack"
_FORMATS = {JSON: JSON, MSGPACK: MSGPACK, "application/x-msgpack": MSGPACK, "application/vnd.msgpack": MSGPACK}
_RETRY_AFTER_SECONDS = "1"


@dataclass(frozen=True, slots=True)
class _Caller:
    """What the headers say."""

    session: int = 0
    secret: str | None = None
    call: int = 0
    acked: int = 0


class Calls:
    """The POST door."""

    def __init__(self, service: Service, limits: ApiLimits) -> None:
        self._service = service
        self._limits = limits
        self._in_flight = 0
        self._held = 0

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """One request."""
        answer_format = JSON
        try:
            body_format = _body_format(request)
            answer_format = _answer_format(request, body_format)
            if request.method != "POST":
                raise Refusal("bad_request", f"operations are called with POST, not {request.method}")
            body = await self._read_body(request)
            result: dict[str, object] | Refusal = await self._call(request, body, body_format)
        except Refusal as refusal:
            result = refusal
        return self._response(request, result, answer_format)

    async def _read_body(self, request: web.Request) -> bytes:
        limit = self._limits.body_bytes
        try:
            if (request.content_length or 0) > limit:
                raise Refusal("too_large", f"the body has {request.content_length} bytes; the limit is {limit}")
            async with asyncio.timeout(self._limits.body_seconds):
                return await request.read()
        except web.HTTPRequestEntityTooLarge:
            raise Refusal("too_large", f"the body is over the limit of {limit} bytes") from None
        except TimeoutError:
            raise Refusal("bad_request", f"the body did not end within {self._limits.body_seconds} s") from None
        except (web.RequestPayloadError, PayloadEncodingError) as error:
            raise Refusal("bad_request", f"the body cannot be read: {str(error)[:200]}") from None

    async def _call(self, request: web.Request, body: bytes, body_format: str) -> dict[str, object] | Refusal:
        operation, arguments = self._checked(request.match_info["operation"], body, body_format)
        caller = _caller(request)
        if operation.channel:
            text = f"{operation.name} is for channels; a POST proves its session by the header Coord-Session"
            raise Refusal("bad_request", text)
        require_session(operation, caller.session)
        kept = "wait_ms" if operation.streams else "hold_ms"
        if arguments.get(kept):
            if self._held < self._limits.posts_held:
                return await self._hold(operation, arguments, caller)
            arguments = {**arguments, kept: 0}
        if self._in_flight >= self._limits.posts_in_flight:
            raise Refusal("overloaded", f"{self._in_flight} POSTs are being answered; try again later")
        self._in_flight += 1
        try:
            return await self._submit(operation, arguments, caller)
        finally:
            self._in_flight -= 1

    async def _hold(
        self, operation: Operation, arguments: dict[str, object], caller: _Caller
    ) -> dict[str, object] | Refusal:
        self._held += 1
        try:
            return await self._submit(operation, arguments, caller)
        finally:
            self._held -= 1

    def _checked(self, name: str, body: bytes, body_format: str) -> tuple[Operation, dict[str, object]]:
        arguments: object = {}
        if body and body_format == JSON:
            arguments = json_body.spelled_bytes(find_operation(name), json_body.parse(body))
        elif body:
            try:
                arguments = decode(body)
            except Malformed as error:
                raise Refusal("bad_request", f"the body is {error}") from None
        return check_call(self._service.cell, name, arguments)

    async def _submit(
        self, operation: Operation, arguments: dict[str, object], caller: _Caller
    ) -> dict[str, object] | Refusal:
        request = self._service.new_request()
        answered: asyncio.Future[dict[str, object] | Refusal] = asyncio.get_running_loop().create_future()
        call = Call(
            request,
            operation.name,
            arguments,
            session=caller.session,
            call=caller.call,
            acked=caller.acked,
            secret=caller.secret,
        )

        def deliver(result: dict[str, object] | Refusal) -> None:
            if not answered.done():  # cancelled in this very turn: the client has gone
                answered.set_result(result)

        self._service.submit(call, deliver)
        patient = operation.waits and arguments.get("wait") is not False
        seconds = self._limits.call_seconds + _held_seconds(arguments)
        try:
            async with asyncio.timeout(None if patient else seconds):
                return await answered
        except TimeoutError:
            code = "outcome_unknown" if operation.way in (Way.WRITE, Way.CELL) else "unavailable"
            return Refusal(code, f"no answer within {seconds} s")
        finally:
            if not answered.done() or answered.cancelled():
                self._service.gone((request,))

    def _response(self, request: web.Request, result: dict[str, object] | Refusal, answer_format: str) -> web.Response:
        status, headers = 200, dict[str, str]()
        if isinstance(result, Refusal):
            status, headers = status_of(result, request.rel_url.raw_path)
            result = result.to_wire()
        body = encode(result) if answer_format == MSGPACK else json_body.render(result) + b"\n"
        response = web.Response(status=status, body=body, headers=headers, content_type=answer_format)
        if not request.content.is_eof():
            response.force_close()  # the rest of the body is not waited for
        return response


def status_of(refusal: Refusal, path: str) -> tuple[int, dict[str, str]]:
    """Status and headers of an error; `path` is what to ask the master for instead."""
    address = refusal.details.get("address")
    if refusal.code == "not_master" and isinstance(address, str):
        return ERRORS[refusal.code].status, {"Location": address + path}
    if refusal.code in ("not_master", "unavailable", "overloaded"):
        return 503, {"Retry-After": _RETRY_AFTER_SECONDS}
    return ERRORS[refusal.code].status, {}


def _held_seconds(arguments: dict[str, object]) -> float:
    """How long the master may keep the answer back at most."""
    hold_ms, wait_ms = arguments.get("hold_ms", 0), arguments.get("wait_ms", 0)
    assert isinstance(hold_ms, int) and isinstance(wait_ms, int)
    return min(hold_ms, LEASE_MS_MAX // 3) / 1000 + wait_ms / 1000


def _body_format(request: web.Request) -> str:
    found = _FORMATS.get(request.content_type)
    if found is None and not request.can_read_body:
        return JSON
    if found is None:
        raise Refusal("bad_request", f"send Content-Type: {JSON} or {MSGPACK}, not {request.content_type[:80]!r}")
    return found


def _answer_format(request: web.Request, body_format: str) -> str:
    accept = request.headers.get("Accept", "")
    for part in accept.split(","):
        wanted = _FORMATS.get(part.partition(";")[0].strip().lower())
        if wanted is not None:
            return wanted
    return body_format


def _caller(request: web.Request) -> _Caller:
    header = request.headers.get("Coord-Session")
    call, acked = _header_number(request, "Coord-Call"), _header_number(request, "Coord-Acked")
    if header is None:
        if call:
            raise Refusal("bad_request", "Coord-Call needs Coord-Session: calls are numbered within a session")
        return _Caller()
    number, _, secret = header.partition(".")
    session = _number(number)
    if not session or not secret or len(secret) > 128 or not secret.isascii():
        raise Refusal("bad_request", "Coord-Session must be <id>.<secret>, as open_session gave them")
    return _Caller(session, secret, call, acked)


def _header_number(request: web.Request, name: str) -> int:
    header = request.headers.get(name)
    if header is None:
        return 0
    number = _number(header)
    if not number:
        raise Refusal("bad_request", f"{name} must be a number from 1 to {NUMBER_MAX}")
    return number


def _number(text: str) -> int:
    """A positive decimal number, or 0 for anything else."""
    if not (text.isascii() and text.isdigit() and len(text) <= 16):
        return 0
    number = int(text)
    return number if number <= NUMBER_MAX else 0
