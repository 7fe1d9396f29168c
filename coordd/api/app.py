"""The doors of one replica as an aiohttp application: which path leads where.

| path | what |
|---|---|
| `POST /v1/<operation>` | calls.py |
| `GET /v1/channel` | channel.py |
| `GET /v1/watch` | events.py |
| `GET /v1/peer` | the replicas' own door, given by the daemon |
| `GET /livez /readyz /health` | admin.py |
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import structlog
from aiohttp import web
from aiohttp.typedefs import Handler

from coordclient.protocol.errors import ERRORS, Refusal
from coordd.api import json_body
from coordd.api.admin import Admin
from coordd.api.calls import Calls
from coordd.api.channel import ChannelDoor
from coordd.api.events import EventStreams
from coordd.api.limits import ApiLimits, DoorKeeper
from coordd.node.service import Service

PeerDoor = Callable[[web.Request], Awaitable[web.StreamResponse]]

_HANDSHAKE = (
    "Upgrade",
    "Connection",
    "Sec-WebSocket-Key",
    "Sec-WebSocket-Version",
    "Sec-WebSocket-Protocol",
    "Sec-WebSocket-Extensions",
)

_DOORS = "there are POST /v1/<operation>, GET /v1/watch, /v1/channel, /livez, /readyz and /health"

_log = structlog.get_logger("coordd.api")


class _Quietly(logging.Handler):
    """What aiohttp says about broken HTTP: a stranger's doing, and not worth a line with a traceback each."""

    def emit(self, record: logging.LogRecord) -> None:
        error = record.exc_info[1] if record.exc_info else None
        _log.debug("http", said=record.getMessage(), error=None if error is None else repr(error)[:200])


@dataclass(frozen=True, slots=True)
class Doors:
    """Everything that listens: the protocol factory for the listener, and what has to be ended in order."""

    runner: web.AppRunner
    keeper: DoorKeeper
    channels: ChannelDoor


async def open_doors(service: Service, limits: ApiLimits, peer_door: PeerDoor, idle_seconds: float) -> Doors:
    """Make the application; the caller binds the listener with `keeper` as its protocol factory."""
    server_log = logging.getLogger("coordd.http")
    server_log.propagate = False
    server_log.handlers = [_Quietly()]
    calls, channels, admin = Calls(service, limits), ChannelDoor(service, limits), Admin(service)
    events = EventStreams(service, limits)
    keepers: list[DoorKeeper] = []

    @web.middleware
    async def named_errors(request: web.Request, handler: Handler) -> web.StreamResponse:
        keepers[0].heard(request)
        try:
            _check_handshake(request)
            return await handler(request)
        except Refusal as refusal:
            return error_page(refusal)
        except web.HTTPNotFound:
            return error_page(Refusal("unknown_operation", f"nothing is at {_shown(request)}; {_DOORS}"))
        except web.HTTPMethodNotAllowed as error:
            methods = " or ".join(sorted(error.allowed_methods))
            text = f"{_shown(request)} is asked for by {methods}, not by {request.method}"
            return error_page(Refusal("bad_request", text))
        except (web.HTTPException, ConnectionError):
            raise
        except Exception:
            _log.exception("a request failed: this is a bug", path=request.path[:200])
            return error_page(Refusal("internal", "a bug in coordd; the daemon's log says more"))

    app = web.Application(middlewares=[named_errors], client_max_size=limits.body_bytes)
    app.on_response_prepare.append(_sign)
    app.router.add_get("/v1/channel", channels.handle)
    app.router.add_get("/v1/peer", peer_door)
    app.router.add_get("/v1/watch", events.handle, allow_head=False)
    app.router.add_route("*", "/v1/{operation}", calls.handle)
    app.router.add_get("/livez", admin.livez)
    app.router.add_get("/readyz", admin.readyz)
    app.router.add_get("/health", admin.health)
    runner = web.AppRunner(
        app,
        access_log=None,
        logger=server_log,
        handler_cancellation=True,
        keepalive_timeout=idle_seconds,
        lingering_time=0.5,
        auto_decompress=False,  # a compressed body is none of the two formats; nothing is unpacked on a stranger's word
        shutdown_timeout=1.0,
    )
    await runner.setup()
    assert runner.server is not None
    keepers.append(DoorKeeper(runner.server, limits))
    return Doors(runner, keepers[0], channels)


def _check_handshake(request: web.Request) -> None:
    """The headers of a WebSocket handshake are ASCII; aiohttp takes that for granted."""
    for name in _HANDSHAKE:
        if not request.headers.get(name, "").isascii():
            raise Refusal("bad_request", f"the header {name} holds what is not ASCII")


async def _sign(request: web.Request, response: web.StreamResponse) -> None:
    """Strangers need not know which versions of what are behind this door."""
    response.headers["Server"] = "coordd"


def _shown(request: web.Request) -> str:
    return repr(request.path[:80])


def error_page(refusal: Refusal) -> web.Response:
    """A named error where no operation has chosen a format."""
    body = json_body.render(refusal.to_wire()) + b"\n"
    return web.Response(status=ERRORS[refusal.code].status, body=body, content_type="application/json")
