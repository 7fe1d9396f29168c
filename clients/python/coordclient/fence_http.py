"""Middleware for WSGI and ASGI: a request that writes must show the lock that allows it.

The client sends `X-Coord-Sequencer` (the text `lock.sequencer`), or `X-Coord-Token` (the number `lock.token`). `names`
says which lock protects which requests. Each such request is compared with the highest token seen for that lock, and
where a `client` is given the cell is asked first whether the sequencer is genuine and still valid. The application
finds what was shown under `coord.lock` and `coord.token` in the WSGI environment or the ASGI scope.

| answer | code | when |
|---|---|---|
| 400 | `bad_request` | the header is not what it should be |
| 409 | `wrong_lock` | it speaks of another lock, or of another cell |
| 409 | `needs_cell` | it is of a semaphore, and no `client` was given that could ask the cell |
| 412 | `stale_token` | the lock was given on, or is not held any more |
| 428 | `sequencer_required` | the header is missing |
| 503 | `unavailable`, `limit`, ... | the cell cannot be asked now, or there are too many names |

The body is JSON: `{"code": ..., "message": ..., "details": {...}}`.

What it does not do: a request that was let through may be overtaken inside the application by one with a larger token.
Where that matters, give `coord.token` to a `SqlFence` in the transaction that writes. It remembers tokens for as long
as the process lives, in each process for itself. Without a `client` it believes what the header says, so it protects
from old holders, not from liars. WebSockets are not looked at.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Iterable, Mapping, MutableMapping
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, NamedTuple

from coordclient.errors import BadRequest, CoordError, NeedsCell, StaleToken
from coordclient.fence import Fence, check_token, comparable
from coordclient.protocol.errors import Refusal
from coordclient.protocol.paths import parse_path
from coordclient.sequencer import parse_sequencer
from coordclient.values import SequencerCheck

if TYPE_CHECKING:
    from coordclient import Client, aio

SEQUENCER_HEADER = "X-Coord-Sequencer"
TOKEN_HEADER = "X-Coord-Token"
WRITING = ("POST", "PUT", "PATCH", "DELETE")
TOKEN_CHARS_MAX = 19

Names = Mapping[str, str] | Callable[[str, str], str | None]
Scope = MutableMapping[str, Any]
Asgi = Callable[[Scope, Callable[[], Awaitable[Any]], Callable[[Any], Awaitable[None]]], Awaitable[None]]


class Claim(NamedTuple):
    """What a request shows. `sequencer` is "" where it showed a bare token."""

    lock: str
    token: int
    mode: str
    sequencer: str


class Answer(NamedTuple):
    """A refusal, ready to be sent."""

    status: HTTPStatus
    headers: list[tuple[str, str]]
    body: bytes


class Rules:
    """PURE. Which lock a request must show, and whether what it shows will do.

    `names`: a map from a path prefix (of whole segments; the longest one counts) to the path of a lock, or a function
    of method and path to the path of a lock, None for a request that needs none. With a map only `methods` are looked
    at. `cell`: sequencers of another cell are refused.
    """

    def __init__(self, names: Names, methods: Iterable[str], cell: str | None, fence: Fence, asks: bool) -> None:
        self._names = names if callable(names) else {_segments(prefix): _lock(names[prefix]) for prefix in names}
        self._methods = frozenset(method.upper() for method in methods)
        self._cell = cell
        self._fence = fence
        self._asks = asks

    def lock_of(self, method: str, path: str) -> str | None:
        """The lock that protects this request, or None."""
        if callable(self._names):
            lock = self._names(method, path)
            return None if lock is None else _lock(lock)
        if method.upper() not in self._methods:
            return None
        segments = _segments(path)
        for length in range(len(segments), -1, -1):
            if segments[:length] in self._names:
                return self._names[segments[:length]]
        return None

    def claim(self, lock: str, sequencer: str | None, token: str | None) -> Claim:
        """What the headers show; raises a CoordError for what cannot do."""
        if sequencer is not None:
            shown = parse_sequencer(sequencer)
            if shown.path != lock or self._cell not in (None, shown.cell):
                text = f"this needs the lock {lock}, the sequencer is of {shown.path} in the cell {shown.cell}"
                raise CoordError(text, code="wrong_lock", details={"name": lock})
            return Claim(lock, shown.token, shown.mode, shown.text)
        if token is None or self._asks:
            text = f"this needs the lock {lock}: show its sequencer in the header {SEQUENCER_HEADER}"
            raise CoordError(text, code="sequencer_required", details={"name": lock})
        if not (token.isascii() and token.isdigit() and len(token) <= TOKEN_CHARS_MAX):
            raise BadRequest(f"{TOKEN_HEADER} is a number, not {token[:80]!r}")
        return Claim(lock, int(token), "", "")

    def admit(self, claim: Claim, check: SequencerCheck | None) -> None:
        """Let it pass or raise; `check` is what the cell said, if it was asked."""
        if check is not None and not check.valid:
            text = f"{claim.lock}: the sequencer with token {claim.token} is not valid: {check.reason}"
            raise StaleToken(text, details={"name": claim.lock, "token": claim.token})
        if claim.mode == "semaphore":
            if check is None:
                comparable(parse_sequencer(claim.sequencer))
            return  # the cell has said all that there is to say
        check_token(claim.token)
        self._fence.admit(claim.lock, claim.token)


class WsgiFence:
    """WSGI middleware; see the module docstring. `client`: a `coordclient.Client`, to ask the cell each time.

    >>> application = WsgiFence(application, {"/invoices": "/billing"})
    """

    def __init__(
        self,
        app: Callable[..., Iterable[bytes]],
        names: Names,
        *,
        fence: Fence | None = None,
        client: Client | None = None,
        cell: str | None = None,
        methods: Iterable[str] = WRITING,
    ) -> None:
        self._app = app
        self._client = client
        self._rules = Rules(names, methods, cell, Fence() if fence is None else fence, client is not None)

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        """One request."""
        path = (
            (environ.get("SCRIPT_NAME", "") + environ.get("PATH_INFO", "")).encode("latin-1").decode(errors="replace")
        )
        lock = self._rules.lock_of(environ["REQUEST_METHOD"], path)
        if lock is not None:
            try:
                claim = self._rules.claim(lock, environ.get(_wsgi(SEQUENCER_HEADER)), environ.get(_wsgi(TOKEN_HEADER)))
                check = None if self._client is None else self._client.check_sequencer(claim.sequencer)
                self._rules.admit(claim, check)
            except (CoordError, ValueError) as error:
                answer = answer_of(error)
                start_response(f"{answer.status.value} {answer.status.phrase}", answer.headers)
                return [answer.body]
            environ["coord.lock"], environ["coord.token"] = claim.lock, claim.token
        return self._app(environ, start_response)


class AsgiFence:
    """ASGI middleware; see the module docstring. `client`: a `coordclient.aio.Client`, to ask the cell each time.

    >>> application = AsgiFence(application, lambda method, path: "/billing" if path.startswith("/invoices") else None)
    """

    def __init__(
        self,
        app: Asgi,
        names: Names,
        *,
        fence: Fence | None = None,
        client: aio.Client | None = None,
        cell: str | None = None,
        methods: Iterable[str] = WRITING,
    ) -> None:
        self._app = app
        self._client = client
        self._rules = Rules(names, methods, cell, Fence() if fence is None else fence, client is not None)

    async def __call__(
        self, scope: Scope, receive: Callable[[], Awaitable[Any]], send: Callable[[Any], Awaitable[None]]
    ) -> None:
        """One connection of the server."""
        lock = self._rules.lock_of(scope["method"], scope["path"]) if scope["type"] == "http" else None
        if lock is not None:
            try:
                claim = self._rules.claim(lock, _header(scope, SEQUENCER_HEADER), _header(scope, TOKEN_HEADER))
                check = None if self._client is None else await self._client.check_sequencer(claim.sequencer)
                self._rules.admit(claim, check)
            except (CoordError, ValueError) as error:
                answer = answer_of(error)
                headers = [(name.lower().encode(), value.encode()) for name, value in answer.headers]
                await send({"type": "http.response.start", "status": answer.status.value, "headers": headers})
                await send({"type": "http.response.body", "body": answer.body})
                return
            scope = {**scope, "coord.lock": claim.lock, "coord.token": claim.token}
        await self._app(scope, receive, send)


def answer_of(error: CoordError | ValueError) -> Answer:
    """How a refusal is told."""
    code = error.code if isinstance(error, CoordError) else BadRequest.code
    if isinstance(error, StaleToken):
        status = HTTPStatus.PRECONDITION_FAILED
    elif isinstance(error, NeedsCell) or code == "wrong_lock":
        status = HTTPStatus.CONFLICT
    elif code == "sequencer_required":
        status = HTTPStatus.PRECONDITION_REQUIRED
    elif isinstance(error, ValueError):
        status = HTTPStatus.BAD_REQUEST
    else:
        status = HTTPStatus.SERVICE_UNAVAILABLE
    details = error.details if isinstance(error, CoordError) else {}
    body = json.dumps({"code": code, "message": str(error), "details": details}, default=str).encode() + b"\n"
    headers = [("Content-Type", "application/json"), ("Content-Length", str(len(body)))]
    if status is HTTPStatus.SERVICE_UNAVAILABLE:
        headers.append(("Retry-After", "1"))
    return Answer(status, headers, body)


def _segments(path: str) -> tuple[str, ...]:
    """The path as a router sees it: without empty and dotted segments, so that none is a way around."""
    segments: list[str] = []
    for segment in path.split("/"):
        if segment == "..":
            segments = segments[:-1]
        elif segment not in ("", "."):
            segments.append(segment)
    return tuple(segments)


def _lock(path: str) -> str:
    try:
        return parse_path(path)
    except Refusal as refusal:
        raise ValueError(f"{path!r:.80}: {refusal.message}") from None


def _wsgi(header: str) -> str:
    return "HTTP_" + header.upper().replace("-", "_")


def _header(scope: Scope, name: str) -> str | None:
    wanted = name.lower().encode()
    found = [value.decode("latin-1") for key, value in scope["headers"] if key.lower() == wanted]
    if len(found) > 1:
        raise BadRequest(f"the header {name} is there {len(found)} times")
    return found[0] if found else None
