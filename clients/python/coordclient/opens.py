"""PURE. Which ephemeral nodes one session keeps alive, and how often they are open here: the cell knows only whether.

What was made without a handle counts as open for as long as the session lasts; of these `MADE_MAX` are remembered, and
one that was forgotten, for so many came after it, ends with the last handle of its path.
"""

from __future__ import annotations

MADE_MAX = 10_000


class Opens:
    """See the module docstring. `begin` comes before the cell is asked, so that no `end` in between closes the node."""

    def __init__(self) -> None:
        self._counts: dict[str, int] = {}
        self._instances: dict[str, int] = {}  # of what the cell keeps alive for this session, as far as handles know
        self._made: dict[str, int] = {}

    def begin(self, path: str) -> None:
        """A handle is being opened."""
        self._counts[path] = self._counts.get(path, 0) + 1

    def opened(self, path: str, instance: int) -> None:
        """It is, of an ephemeral node."""
        self._instances[path] = instance

    def made(self, path: str, instance: int) -> None:
        """An ephemeral node was made without a handle."""
        self._made.pop(path, None)
        self._made[path] = instance
        if len(self._made) > MADE_MAX:
            del self._made[next(iter(self._made))]

    def end(self, path: str) -> int | None:
        """A handle was closed, or could not be opened. The instance that the cell is to be told to close, if any."""
        left = self._counts[path] - 1
        if left:
            self._counts[path] = left
            return None
        del self._counts[path]
        instance = self._instances.pop(path, None)
        return None if instance == self._made.get(path) else instance
