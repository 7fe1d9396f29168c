"""The fence before a web application: WSGI and ASGI say the same, and the application sees only what passed."""

from __future__ import annotations

import asyncio
import json
from typing import Any
from wsgiref.util import setup_testing_defaults
from wsgiref.validate import validator

import pytest

from coordclient.errors import Unavailable
from coordclient.fence import Fence
from coordclient.fence_http import AsgiFence, WsgiFence
from coordclient.values import SequencerCheck

NAMES = {"/invoices": "/billing", "/invoices/drafts": "/drafts"}


class Cell:
    """What `check_sequencer` of a client says: `valid`, or an error."""

    def __init__(self, says: bool | Exception) -> None:
        self.says = says
        self.asked: list[str] = []

    def answer(self, sequencer: str) -> SequencerCheck:
        self.asked.append(sequencer)
        if isinstance(self.says, Exception):
            raise self.says
        fields = {"valid": self.says, "reason": "" if self.says else "the lock was released or lost"}
        return SequencerCheck._make([fields.get(name, 0) for name in SequencerCheck._fields])


class ThreadCell(Cell):
    def check_sequencer(self, sequencer: str) -> SequencerCheck:
        return self.answer(sequencer)


class TaskCell(Cell):
    async def check_sequencer(self, sequencer: str) -> SequencerCheck:
        return self.answer(sequencer)


class Wsgi:
    def __init__(self, names: Any = NAMES, says: Any = None, **options: Any) -> None:
        self.cell = None if says is None else ThreadCell(says)
        self.seen: list[Any] = []
        client: Any = self.cell
        self.app: Any = validator(WsgiFence(validator(self._serve), names, client=client, **options))

    def _serve(self, environ, start_response):
        self.seen.append((environ.get("coord.lock"), environ.get("coord.token")))
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [b"done"]

    def __call__(self, method: str, path: str, **headers: str) -> tuple[int, dict[str, str], bytes]:
        environ: dict[str, Any] = {"REQUEST_METHOD": method, "SCRIPT_NAME": "", "PATH_INFO": path, "QUERY_STRING": ""}
        setup_testing_defaults(environ)
        environ |= {f"HTTP_X_COORD_{name.upper()}": value for name, value in headers.items()}
        told: list[Any] = []
        answer = self.app(environ, lambda status, fields, *_: told.append((status, fields)))
        body = b"".join(answer)
        answer.close()
        [(status, fields)] = told
        return int(status.split()[0]), dict(fields), body


class Asgi:
    def __init__(self, names: Any = NAMES, says: Any = None, **options: Any) -> None:
        self.cell = None if says is None else TaskCell(says)
        self.seen: list[Any] = []
        client: Any = self.cell
        self.app = AsgiFence(self._serve, names, client=client, **options)

    async def _serve(self, scope, receive, send):
        self.seen.append((scope.get("coord.lock"), scope.get("coord.token")))
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"done"})

    def __call__(self, method: str, path: str, **headers: str) -> tuple[int, dict[str, str], bytes]:
        fields = [(f"x-coord-{name}".encode(), value.encode()) for name, value in headers.items()]
        scope = {"type": "http", "method": method, "path": path, "headers": fields}
        sent: list[dict[str, Any]] = []

        async def receive() -> Any:
            raise AssertionError("the body is for the application")

        async def send(message: Any) -> None:
            sent.append(message)

        asyncio.run(self.app(scope, receive, send))
        start, body = sent
        return start["status"], {k.decode().title(): v.decode() for k, v in start["headers"]}, body["body"]


@pytest.fixture(params=[Wsgi, Asgi])
def site(request):
    return request.param


def sequencer(token: int, path: str = "/billing", mode: str = "exclusive", cell: str = "local") -> str:
    return f"coord1:{cell}:{path}:{mode}:{token}:1:2:00"


def refused(answer, status: int, code: str) -> dict[str, Any]:
    assert answer[0] == status
    assert answer[1]["Content-Type"] == "application/json"
    assert answer[1]["Content-Length"] == str(len(answer[2]))
    body: dict[str, Any] = json.loads(answer[2])
    assert body["code"] == code
    return body


def test_an_old_holder_is_refused_and_the_application_never_sees_it(site):
    served = site()
    assert served("POST", "/invoices", sequencer=sequencer(7))[0] == 200
    assert served("PUT", "/invoices/3", sequencer=sequencer(9))[0] == 200
    body = refused(served("POST", "/invoices", sequencer=sequencer(7)), 412, "stale_token")
    assert body["details"] == {"name": "/billing", "token": 7, "highest": 9}
    assert served("POST", "/invoices", token="9")[0] == 200
    refused(served("DELETE", "/invoices/3", token="8"), 412, "stale_token")
    assert served.seen == [("/billing", 7), ("/billing", 9), ("/billing", 9)]


def test_only_what_is_mapped_is_looked_at_and_there_is_no_way_around(site):
    served = site()
    for method, path in (("GET", "/invoices"), ("POST", "/"), ("POST", "/invoicesx"), ("POST", "/other/invoices")):
        assert served(method, path)[0] == 200
    assert served.seen == [(None, None)] * 4
    for path in ("/invoices", "//invoices", "/./invoices/", "/x/../invoices", "/../invoices/1"):
        body = refused(served("POST", path), 428, "sequencer_required")
        assert body["details"] == {"name": "/billing"}
    assert served("POST", "/invoices/drafts/1", sequencer=sequencer(1, "/drafts"))[0] == 200, (
        "the longest prefix counts"
    )


def test_a_function_maps_whatever_it_likes(site):
    served = site(lambda method, path: f"/tenants/{path.split('/')[1]}" if method == "GET" else None)
    assert served("POST", "/7/x")[0] == 200
    assert served("GET", "/7/x", sequencer=sequencer(3, "/tenants/7"))[0] == 200
    refused(served("GET", "/8/x", sequencer=sequencer(3, "/tenants/7")), 409, "wrong_lock")


def test_a_sequencer_of_another_lock_or_cell_is_refused(site):
    served = site(cell="local")
    refused(served("POST", "/invoices", sequencer=sequencer(9, "/other")), 409, "wrong_lock")
    refused(served("POST", "/invoices", sequencer=sequencer(9, cell="other")), 409, "wrong_lock")
    assert served("POST", "/invoices", sequencer=sequencer(1))[0] == 200


@pytest.mark.parametrize(
    ("header", "value"),
    [
        ("sequencer", "nonsense"),
        ("sequencer", "x" * 5000),
        ("token", "-1"),
        ("token", "9" * 20),
        ("token", "9" * 19),
        ("token", "x"),
    ],
)
def test_bad_headers_are_refused_by_name(site, header, value):
    served = site()
    refused(served("POST", "/invoices", **{header: value}), 400, "bad_request")
    assert served.seen == []


def test_the_cell_is_asked_where_there_is_a_client(site):
    served = site(says=True)
    assert served("POST", "/invoices", sequencer=sequencer(7))[0] == 200
    assert served.cell.asked == [sequencer(7)]
    refused(served("POST", "/invoices", token="9"), 428, "sequencer_required")
    served.cell.says = False
    body = refused(served("POST", "/invoices", sequencer=sequencer(9)), 412, "stale_token")
    assert "released or lost" in body["message"]
    served.cell.says = Unavailable("nobody answers")
    answer = served("POST", "/invoices", sequencer=sequencer(9))
    refused(answer, 503, "unavailable")
    assert answer[1]["Retry-After"] == "1"
    served.cell.says = True
    assert served("POST", "/invoices", sequencer=sequencer(8))[0] == 200, "9 was never admitted"


def test_an_answer_of_the_cell_that_was_overtaken_on_the_way_lets_nobody_pass(site):
    served = site(says=True)
    assert served("POST", "/invoices", sequencer=sequencer(9))[0] == 200
    refused(served("POST", "/invoices", sequencer=sequencer(7)), 412, "stale_token")


def test_holders_of_a_semaphore_pass_by_the_cells_word_alone(site):
    refused(site()("POST", "/invoices", sequencer=sequencer(9, mode="semaphore")), 409, "needs_cell")
    served = site(says=True)
    for token in (9, 7):
        assert served("POST", "/invoices", sequencer=sequencer(token, mode="semaphore"))[0] == 200
    served.cell.says = False
    refused(served("POST", "/invoices", sequencer=sequencer(10, mode="semaphore")), 412, "stale_token")


def test_memory_is_bounded_and_who_finds_no_room_is_told(site):
    served = site(lambda method, path: path, fence=Fence(names_max=1))
    assert served("POST", "/a", token="1")[0] == 200
    refused(served("POST", "/b", token="1"), 503, "limit")


def test_a_wrong_map_is_refused_when_it_is_made(site):
    with pytest.raises(ValueError, match="begins with"):
        site({"/x": "billing"})


def test_a_header_that_is_there_twice_is_refused():
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    app: Any = AsgiFence(None, NAMES)  # type: ignore[arg-type]
    headers = [(b"X-Coord-Token", b"1"), (b"x-coord-token", b"9")]
    asyncio.run(app({"type": "http", "method": "POST", "path": "/invoices", "headers": headers}, None, send))
    assert sent[0]["status"] == 400


def test_what_is_no_request_passes_untouched():
    seen: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append(scope)

    anything: Any = None
    for scope in ({"type": "lifespan"}, {"type": "websocket", "path": "/invoices"}):
        asyncio.run(AsgiFence(app, NAMES)(scope, anything, anything))
    assert seen == [{"type": "lifespan"}, {"type": "websocket", "path": "/invoices"}]
