"""PURE. The protected side: refuses whoever comes with a smaller fencing token than one seen before.

Tokens of one lock name only rise from one grant to the next, so a holder that has lost its lock without knowing (it was
stopped, its packet was late) is refused as soon as its successor has been seen. Holders of one shared period carry the
same token, so an equal token passes.
"""

from __future__ import annotations

import threading
from collections.abc import MutableMapping

from coordclient.errors import StaleToken


class Fence:
    """Remembers the highest token per name.

    `highest` is where: a dict by default (remembers as long as the process lives), or any mutable mapping, for example
    one kept in a file. It must outlive what it protects. One fence may be used by several threads; several *processes*
    need the check inside their common store instead (an `UPDATE ... WHERE token <= :token`).

    >>> fence = Fence()
    >>> fence.admit("/billing", 7)
    >>> fence.admit("/billing", 9)
    >>> fence.admit("/billing", 7)
    Traceback (most recent call last):
    ...
    coordclient.errors.StaleToken: /billing: token 7 is older than 9, which was seen already
    """

    def __init__(self, highest: MutableMapping[str, int] | None = None) -> None:
        self._highest: MutableMapping[str, int] = {} if highest is None else highest
        self._mutex = threading.Lock()

    def admit(self, name: str, token: int) -> None:
        """Let the holder of `token` pass and remember it; raises `StaleToken` when a larger one was seen for `name`."""
        if type(token) is not int or token < 0:
            raise ValueError(f"a token is an integer of at least 0, not {token!r}")
        with self._mutex:
            highest = self._highest.get(name, -1)
            if token < highest:
                message = f"{name}: token {token} is older than {highest}, which was seen already"
                raise StaleToken(message, details={"name": name, "token": token, "highest": highest})
            if token > highest:
                self._highest[name] = token

    def highest(self, name: str) -> int | None:
        """The highest token seen for `name`, or None."""
        with self._mutex:
            return self._highest.get(name)
