"""PURE. The protected side: refuses whoever comes with a smaller fencing token than one seen before.

Tokens of one lock name only rise from one grant to the next, so a holder that has lost its lock without knowing (it was
stopped, its packet was late) is refused as soon as its successor has been seen. Holders of one shared period carry the
same token, so an equal token passes. A semaphore's holders each have a token of their own, and an older one may well be
valid: for them the cell is to be asked (`Client.check_sequencer`), and a fence says so by `NeedsCell`.

Beside it: `coordclient.fence_sql` (check and write in one transaction), `coordclient.fence_http` (WSGI and ASGI).
"""

from __future__ import annotations

import threading
from collections.abc import MutableMapping

from coordclient.errors import LimitReached, NeedsCell, StaleToken
from coordclient.sequencer import Sequencer, parse_sequencer

NAMES_MAX = 100_000
TOKEN_MAX = (1 << 63) - 1


class Fence:
    """Remembers the highest token per name.

    `highest` is where: a dict by default (remembers as long as the process lives), or any mutable mapping, for example
    one kept in a file. It must outlive what it protects. One fence may be used by several threads; several *processes*
    need the check inside their common store instead (`SqlFence`). `names_max`: how many names it remembers; it forgets
    none, for the holders that it refused would pass then, but refuses new ones with LimitReached.

    >>> fence = Fence()
    >>> fence.admit("/billing", 7)
    >>> fence.admit("/billing", 9)
    >>> fence.admit("/billing", 7)
    Traceback (most recent call last):
    ...
    coordclient.errors.StaleToken: /billing: token 7 is older than 9, which was seen already
    """

    def __init__(self, highest: MutableMapping[str, int] | None = None, names_max: int = NAMES_MAX) -> None:
        self._highest: MutableMapping[str, int] = {} if highest is None else highest
        self._names_max = names_max
        self._mutex = threading.Lock()

    def admit(self, name: str, token: int) -> None:
        """Let the holder of `token` pass and remember it; raises `StaleToken` when a larger one was seen for `name`."""
        check_token(token)
        with self._mutex:
            highest = self._highest.get(name)
            if highest is None:
                if len(self._highest) >= self._names_max:
                    raise LimitReached(f"{name}: this fence remembers {self._names_max} names already")
            elif token < highest:
                raise stale(name, token, highest)
            if token != highest:
                self._highest[name] = token

    def admit_sequencer(self, sequencer: str) -> Sequencer:
        """`admit` the path and the token of a sequencer; its parts. Raises NeedsCell for a semaphore's, BadRequest.

        Its authentication code is not looked at: that is what the cell does (`Client.check_sequencer`).

        >>> fence.admit_sequencer(request.headers["X-Coord-Sequencer"]).path
        """
        claim = comparable(parse_sequencer(sequencer))
        self.admit(claim.path, claim.token)
        return claim

    def highest(self, name: str) -> int | None:
        """The highest token seen for `name`, or None."""
        with self._mutex:
            return self._highest.get(name)


def check_token(token: int) -> None:
    """ValueError for what can be no token."""
    if type(token) is not int or not 0 <= token <= TOKEN_MAX:
        raise ValueError(f"a token is an integer of at least 0 and below 2^63, not {token!r:.80}")


def comparable(sequencer: Sequencer) -> Sequencer:
    """The same; raises NeedsCell where its token says nothing about others."""
    if sequencer.mode == "semaphore":
        message = (
            f"{sequencer.path}: tokens of a semaphore's holders cannot be compared; ask the cell: check_sequencer()"
        )
        raise NeedsCell(message, details={"name": sequencer.path, "token": sequencer.token})
    return sequencer


def stale(name: str, token: int, highest: int | None) -> StaleToken:
    """The error for an old token; `highest` is what was seen, where that is known."""
    seen = "one" if highest is None else f"{highest}"
    message = f"{name}: token {token} is older than {seen}, which was seen already"
    return StaleToken(message, details={"name": name, "token": token, "highest": highest})
