"""Pages for load balancers, supervisors and people: /livez, /readyz[?verbose], /health. They change nothing.

`/livez`: the loop runs. `/readyz`: this replica follows a master or is the serving one; 503 otherwise, `?verbose` says
why. `/health`: both, with what the operation `status` says, in JSON.
"""

from __future__ import annotations

from aiohttp import web

from coordd.api import json_body
from coordd.node.service import Service


class Admin:
    """The handlers."""

    def __init__(self, service: Service) -> None:
        self._service = service

    async def livez(self, request: web.Request) -> web.Response:
        """That this answers is the answer."""
        return web.Response(text="ok\n")

    async def readyz(self, request: web.Request) -> web.Response:
        """Whether clients should be sent here."""
        health = self._service.health()
        text = "ok\n" if health.ready else "not ready\n"
        if "verbose" in request.query:
            text = "".join(f"{name}: {said}\n" for name, said in health.checks.items()) + text
        return web.Response(status=200 if health.ready else 503, text=text)

    async def health(self, request: web.Request) -> web.Response:
        """Everything, for people and their monitors."""
        health = self._service.health()
        body = {"ready": health.ready, "checks": dict(health.checks), "status": dict(health.status)}
        return web.Response(
            status=200 if health.ready else 503, body=json_body.render(body) + b"\n", content_type="application/json"
        )
