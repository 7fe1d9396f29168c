"""Requests that wait for their reply: number -> whom to tell.

A reply is handed over once, in the loop's thread, between two steps of the engine. One that nobody waits for any more
is dropped: the call itself has taken effect or not, regardless of who listens. A call with several answers is told of
each before the last by `push`; one piece goes to all of them, so that it is encoded once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from coordclient.protocol.errors import Refusal
from coordd.node.service import Piece

Deliver = Callable[[dict[str, object] | Refusal], None]
TakePiece = Callable[[Piece], None]


class Hub:
    """The waiting requests of one replica. `address_of` completes `not_master` with where the master is."""

    def __init__(self, address_of: Callable[[int | None], str | None]) -> None:
        self._address_of = address_of
        self._waiting: dict[int, Deliver] = {}
        self._streams: dict[int, TakePiece] = {}  # of those among them that take several answers
        self._last_request = 0

    def __len__(self) -> int:
        return len(self._waiting)

    def new_request(self) -> int:
        """The next free number."""
        self._last_request += 1
        return self._last_request

    def wait(self, request: int, deliver: Deliver, push: TakePiece | None = None) -> None:
        """Remember whom to tell; `request` was drawn by `new_request` and is used once."""
        assert 0 < request <= self._last_request and request not in self._waiting
        self._waiting[request] = deliver
        if push is not None:
            self._streams[request] = push

    def forget(self, requests: Iterable[int]) -> None:
        """Nobody waits for these any more."""
        for request in requests:
            self._waiting.pop(request, None)
            self._streams.pop(request, None)

    def push(self, requests: Sequence[int], body: dict[str, object]) -> None:
        """One answer of several to each of these, if anybody still waits for it."""
        piece, streams = Piece(body), self._streams
        for request in requests:
            push = streams.get(request)
            if push is not None:
                push(piece)

    def deliver(self, request: int, result: dict[str, object] | Refusal) -> None:
        """Tell whoever waits for `request`, if anybody still does."""
        deliver = self._waiting.pop(request, None)
        self._streams.pop(request, None)
        if deliver is not None:
            deliver(self._with_address(result) if isinstance(result, Refusal) else result)

    def _with_address(self, refusal: Refusal) -> Refusal:
        if refusal.code != "not_master":
            return refusal
        master = refusal.details.get("master")
        address = self._address_of(master if isinstance(master, int) else None)
        return Refusal("not_master", refusal.message, **{**refusal.details, "address": address})
