"""Answers find whoever waits for them; one piece goes to all who take it, and is encoded once."""

from __future__ import annotations

from typing import Any

from coordclient.protocol.codec import encode
from coordd.node.hub import Hub
from coordd.node.service import Piece


def make(count: int) -> tuple[Hub, list[int], list[list[Any]]]:
    """A hub with so many streams; what each was told, pieces and last answers alike."""
    hub = Hub(lambda replica: None)
    requests = [hub.new_request() for _ in range(count)]
    told: list[list[Any]] = [[] for _ in requests]
    for request, heard in zip(requests, told, strict=True):
        hub.wait(request, heard.append, heard.append)
    return hub, requests, told


def test_one_piece_is_encoded_once_however_many_take_it() -> None:
    hub, requests, told = make(1_000)
    times = []

    def counted(body: dict[str, object]) -> bytes:
        times.append(body)
        return encode(body)

    hub.push(requests, {"revision": 7})
    assert {heard[0].form(counted) for heard in told} == {encode({"revision": 7})}
    assert len(times) == 1


def test_pieces_come_before_the_last_answer_and_none_after_it() -> None:
    hub, (request,), (heard,) = make(1)
    hub.push((request,), {"n": 1})
    hub.push((request,), {"n": 2})
    hub.deliver(request, {"n": 3})
    hub.push((request,), {"n": 4})
    assert [one.body if isinstance(one, Piece) else one for one in heard] == [{"n": 1}, {"n": 2}, {"n": 3}]
    assert len(hub) == 0 and not hub._streams


def test_who_has_gone_takes_no_piece() -> None:
    hub, requests, told = make(2)
    hub.forget(requests[:1])
    hub.push(requests, {"n": 1})
    assert [len(heard) for heard in told] == [0, 1]


def test_a_call_with_one_answer_takes_no_piece() -> None:
    hub = Hub(lambda replica: None)
    request = hub.new_request()
    heard: list[Any] = []
    hub.wait(request, heard.append)
    hub.push((request,), {"n": 1})
    hub.deliver(request, {"n": 2})
    assert heard == [{"n": 2}]
