"""What `api` may ask of the node: the only door between them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from coordclient.protocol.errors import Refusal
from coordd.engine.inputs import Call


class Piece:
    """One answer of several, the same for everybody it goes to. `body` must not be changed."""

    __slots__ = ("_forms", "body")

    def __init__(self, body: dict[str, object]) -> None:
        self.body = body
        self._forms: dict[Callable[[dict[str, object]], bytes], bytes] = {}

    def form(self, encode: Callable[[dict[str, object]], bytes]) -> bytes:
        """The body as `encode` (a function of a module) makes it: made once, however many ask."""
        data = self._forms.get(encode)
        if data is None:
            data = self._forms[encode] = encode(self.body)
        return data


@dataclass(frozen=True, slots=True)
class Health:
    """What the health pages say. `ready`: this replica is a follower of a reachable master, or a serving master."""

    ready: bool
    checks: Mapping[str, str]  # name -> "ok" or what is wrong
    status: Mapping[str, object]  # the result of the operation `status`


class Service(Protocol):
    """One replica, seen from its doors. Everything is called from the daemon's loop."""

    cell: str
    replica: int

    def submit(
        self,
        call: Call,
        deliver: Callable[[dict[str, object] | Refusal], None],
        push: Callable[[Piece], None] | None = None,
    ) -> None:
        """Queue `call` (its `request` was drawn with `new_request`); `deliver` is called once, in a later turn.

        `push` is called before, any number of times, where the call has several answers. Refuses at once (through
        `deliver`) with `overloaded` when the inbox is full.
        """
        ...

    def new_request(self) -> int:
        """The next free request number."""
        ...

    def gone(self, requests: tuple[int, ...]) -> None:
        """Nobody waits for these any more; their `deliver` will not be called."""
        ...

    def congested(self, channel: int, full: bool) -> None:
        """The client of that channel does not read what it was sent (`full`): nothing more is pushed to it until it
        does again."""
        ...

    def address_of(self, replica: int | None) -> str | None:
        """The configured `advertise` address of a replica, as a URL, or None."""
        ...

    def master(self) -> int | None:
        """The replica that this one believes to be the master."""
        ...

    def health(self) -> Health:
        """For /livez, /readyz and /health."""
        ...
