"""PURE. Which replica to try next, and how long to wait before: rotation, jittered back-off, the master's address.

The order is: the address that somebody named as the master's, otherwise the next of the known ones in turn; one that
has just failed is passed over while there is another (twice as long for each failure in a row, up to a part of the
session's lease: after an outage of all, whoever is the master then must be tried before the lease is over). A
connection that broke off is tried once more at once, for the replica may live. The first round goes without a wait;
after it each attempt waits, twice as long from one to the next up to a bound, of that a part drawn by chance (so that
the clients of a cell do not come in step).

A replica that lives but knows no master that could be tried is worth staying with for a while (`linger_ms`): asked
every now and then, it tells of the new master as soon as there is one. Nobody needs to reconnect for that.

How long one replica may take is a part of the session's lease: a session must survive that one replica hangs while
another is the new master. It doubles each time that this was too short, so that a slow network gets its time.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

DEFAULT_ENDPOINTS = ("http://127.0.0.1:7420", "http://127.0.0.1:7421", "http://127.0.0.1:7422")
DEFAULT_HINT = "; these are the addresses of a development cell: is one running? Others are named by COORD_ENDPOINTS"
BACKOFF_MS_MIN, BACKOFF_MS_MAX = 50, 1_000
DISTRUST_MS, DISTRUST_DOUBLINGS_MAX = 1_000, 3
LEASE_MS = 12_000
LINGER_MS_MAX, POLL_MS_MAX = 1_000, 250
PATIENCE_MS_MIN, PATIENCE_MS_MAX = 250, 2_000
LEASE_PARTS = 6
LEARNED_MAX = 32
CHANCE_MAX = 2**32
_ADDRESS = re.compile(r"(?:(https?)://)?([^\s/?#@]+)/?", re.IGNORECASE)


def parse_endpoint(text: str) -> str:
    """`http://host:port` from a URL or from `host:port`; ValueError otherwise.

    A host alone is refused: it would mean port 80, where no cell is, and be told as a refused connection.
    """
    match = _ADDRESS.fullmatch(text.strip())
    address = f"{(match[1] or 'http').lower()}://{match[2].lower()}" if match is not None else ""
    bare = match is not None and match[1] is None
    if not _is_address(address) or (bare and urlsplit(address).port is None):
        raise ValueError(f"not an endpoint (http://HOST:PORT or HOST:PORT): {text[:80]!r}")
    return address


def _is_address(address: str) -> bool:
    try:
        parts = urlsplit(address)
        return bool(parts.hostname) and parts.port != 0  # `port` raises for what is no number up to 65535
    except ValueError:
        return False


def backoff_ms(tries: int, chance: int) -> int:
    """The wait before attempt number `tries` (from 1 on): between half and the whole of a doubling bound."""
    bound = min(BACKOFF_MS_MAX, BACKOFF_MS_MIN << min(max(tries, 1) - 1, 10))
    return bound // 2 + (bound - bound // 2) * (chance % CHANCE_MAX) // CHANCE_MAX


def poll_ms(polls: int, chance: int) -> int:
    """The wait before asking a replica for the `polls`-th time whether it knows the master now."""
    return min(POLL_MS_MAX, backoff_ms(polls, chance))


def linger_ms(lease_ms: int) -> int:
    """How long to stay with a replica that lives and knows no master."""
    return min(LINGER_MS_MAX, max(PATIENCE_MS_MIN, lease_ms // LEASE_PARTS))


@dataclass(frozen=True, slots=True)
class Attempt:
    """Try `address` after `wait_ms`."""

    address: str
    wait_ms: int


class Endpoints:
    """The known addresses of one cell and what became of each; see the module docstring."""

    def __init__(self, configured: Sequence[str], lease_ms: int = LEASE_MS) -> None:
        self.configured = tuple(dict.fromkeys(parse_endpoint(text) for text in configured))
        if not self.configured:
            raise ValueError("at least one endpoint is needed")
        self._part_ms = max(PATIENCE_MS_MIN, lease_ms // LEASE_PARTS)  # what one replica may cost the session
        self._known: list[str] = list(self.configured)
        self._position = 0
        self._hint: str | None = None
        self._tries = 0  # attempts since the last one that reached a serving master
        self._failures: dict[str, tuple[int, int]] = {}  # address -> when it failed last, how often in a row
        self._silences: dict[str, int] = {}  # address -> how often in a row its time was too short for it
        self._reasons: dict[str, str] = {}

    @property
    def known(self) -> tuple[str, ...]:
        """Every address in the order of the rotation: the configured ones, then those learned from the cell."""
        return tuple(self._known)

    def next(self, now_ms: int, chance: int) -> Attempt:
        """Where to try next. `chance` is a number drawn evenly from 0 to 2^32 - 1."""
        hint, self._hint = self._hint, None
        address = hint if hint is not None and self.trusts(hint, now_ms) else self._next_in_turn(now_ms)
        self._tries += 1
        self._reasons.setdefault(address, "no answer yet")
        late = self._tries - len(self._known)
        return Attempt(address, backoff_ms(late, chance) if late > 0 else 0)

    def trusts(self, address: str, now_ms: int) -> bool:
        """Whether it has not failed just now, so that a follower's word is worth following."""
        failed_ms, in_a_row = self._failures.get(address, (0, 0))
        doublings = min(in_a_row - 1, DISTRUST_DOUBLINGS_MAX)
        return not in_a_row or now_ms - failed_ms >= min(DISTRUST_MS << doublings, self._part_ms)

    def patience_ms(self, address: str) -> int:
        """How long `address` may take to answer."""
        return min(PATIENCE_MS_MAX, self._part_ms << min(self._silences.get(address, 0), 4))

    def failed(self, address: str, reason: str, now_ms: int, *, silent: bool = False) -> None:
        """`address` did not serve: it could not be reached, or (`silent`) did not answer in its time."""
        self._failures[address] = (now_ms, self._failures.get(address, (0, 0))[1] + 1)
        if silent:
            self._silences[address] = self._silences.get(address, 0) + 1
        self._reasons[address] = reason
        self._forget_strangers()

    def broke_off(self, address: str, reason: str) -> None:
        """A connection over which `address` has served ended: try it again first, for it may live."""
        self._reasons[address] = reason
        self._hint = address

    def redirected(self, address: str, to: str | None) -> None:
        """`address` is alive but not the master; `to` is the master's address, if it knew one."""
        self._forgive(address)
        self._reasons[address] = f"not the master, which is {to}" if to else "not the master, and knows none"
        if to is not None:
            try:
                self._hint = parse_endpoint(to)
            except ValueError:
                self._reasons[address] = f"not the master, and names it by something that is no address: {to[:80]!r}"
        self._forget_strangers()

    def lingered(self) -> None:
        """Time was spent with a living replica, so the next attempt need not wait."""
        self._tries = 0

    def connected(self, address: str) -> None:
        """`address` is a serving master: the next loss begins a fresh round, after this address."""
        self._tries = 0
        self._forgive(address)
        self._reasons.clear()
        if address in self._known:
            self._position = (self._known.index(address) + 1) % len(self._known)

    def learn(self, addresses: Iterable[str]) -> None:
        """The cell's own list of its members: replaces what was learned before, never what was configured."""
        learned: list[str] = []
        for text in addresses:
            try:
                learned.append(parse_endpoint(text))
            except ValueError:
                continue  # a member without a usable address cannot be tried
        self._known = list(dict.fromkeys((*self.configured, *learned)))[: len(self.configured) + LEARNED_MAX]
        self._position %= len(self._known)

    def report(self) -> str:
        """Each address tried since the last success, and why it did not serve; for the message of an error."""
        if not self._reasons:
            return "no address has been tried yet; known are " + ", ".join(self._known)
        tried = "; ".join(f"{address}: {reason}" for address, reason in self._reasons.items())
        return tried + (DEFAULT_HINT if self.configured == DEFAULT_ENDPOINTS else "")

    def _next_in_turn(self, now_ms: int) -> str:
        count = len(self._known)
        turn = [self._known[(self._position + step) % count] for step in range(count)]
        address = next((known for known in turn if self.trusts(known, now_ms)), turn[0])
        self._position = (self._known.index(address) + 1) % count
        return address

    def _forgive(self, address: str) -> None:
        self._failures.pop(address, None)
        self._silences.pop(address, None)

    def _forget_strangers(self) -> None:
        """Addresses that came only from hints must not pile up."""
        if len(self._reasons) > 2 * LEARNED_MAX or len(self._failures) > 2 * LEARNED_MAX:
            self._silences = {key: value for key, value in self._silences.items() if key in self._known}
            self._reasons = {key: value for key, value in self._reasons.items() if key in self._known}
            self._failures = {key: value for key, value in self._failures.items() if key in self._known}
