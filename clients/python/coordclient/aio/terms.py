"""What a lock object is made with, checked: which locks, how long to wait, and whom to tell."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from coordclient.aio.files import path_of
from coordclient.errors import LockLost
from coordclient.holds import STOP_MARGIN_MS
from coordclient.options import check_seconds
from coordclient.protocol.operations import LOCK_DELAY_MS_MAX
from coordclient.session import DRIFT_PPM, local_ms

Mode = Literal["exclusive", "shared"]
OnLost = Callable[[LockLost], object]
OnJeopardy = Callable[[float], object]
Wanted = str | tuple[str, Mode] | tuple[str, Literal["semaphore"], int]
STOP_MARGIN = STOP_MARGIN_MS / 1_000
PERMITS_MAX = 4_096
LOCKS_MAX = 64


class Ask(NamedTuple):
    """One lock that is asked for. `permits` is 0 unless the mode is `semaphore`; `instance`: of that very node (a
    handle's), unless it is 0."""

    path: str
    mode: str
    permits: int = 0
    instance: int = 0

    def arguments(self) -> dict[str, object]:
        """As the cell takes them; permits and instance only where they mean something."""
        found: dict[str, object] = {"path": self.path, "mode": self.mode}
        if self.permits:
            found["permits"] = self.permits
        if self.instance:
            found["if_instance"] = self.instance
        return found


def ask_of(path: str, mode: str, permits: int = 0) -> Ask:
    """One lock, checked; raises ValueError, TypeError, BadPath."""
    if mode not in ("exclusive", "shared", "semaphore"):
        raise ValueError(f"mode must be exclusive or shared, not {mode!r}")
    if mode == "semaphore" and not (type(permits) is int and 1 <= permits <= PERMITS_MAX):
        raise ValueError(f"permits must be 1 to {PERMITS_MAX}, not {permits!r}")
    return Ask(path_of(path), mode, permits)


def asks_of(wanted: Sequence[Wanted], mode: str) -> tuple[Ask, ...]:
    """Several locks: each a path, (path, mode) or (path, "semaphore", permits); no path twice."""
    if isinstance(wanted, str):
        raise TypeError("locks takes a list of paths; for one path there is lock")
    asks = tuple(ask_of(one, mode) if isinstance(one, str) else ask_of(*one) for one in wanted)
    if not 1 <= len(asks) <= LOCKS_MAX:
        raise ValueError(f"1 to {LOCKS_MAX} locks can be taken at once, not {len(asks)}")
    short = [short_of(ask.path) for ask in asks]
    if len(set(short)) < len(short):
        raise ValueError(f"a path is named twice: {', '.join(ask.path for ask in asks)}")
    return asks


def short_of(path: str) -> str:
    """The path as the cell names it, without `/ls/<cell>`; whether it is one the cell says."""
    return "/" + "/".join(path.split("/")[3:]) if path.startswith("/ls/") else path


@dataclass(frozen=True, slots=True)
class Terms:
    """In seconds, as `Client.lock` explains them. Raises ValueError for what cannot work."""

    timeout: float | None
    lock_delay: float
    on_lost: OnLost | None
    on_jeopardy: OnJeopardy | None
    stop_margin: float

    def __post_init__(self) -> None:
        check_seconds(timeout=self.timeout, lock_delay=self.lock_delay, stop_margin=self.stop_margin)
        if self.timeout is not None and not self.timeout >= 0:
            raise ValueError(f"timeout must be None (for ever) or at least 0 seconds, not {self.timeout}")
        if not 0 <= self.delay_ms <= LOCK_DELAY_MS_MAX:
            raise ValueError(f"lock_delay must be 0 to {LOCK_DELAY_MS_MAX // 1_000} seconds, not {self.lock_delay}")

    @property
    def delay_ms(self) -> int:
        """The lock-delay in ms."""
        return round(self.lock_delay * 1_000)

    @property
    def margin_ms(self) -> int:
        """The stop margin in ms."""
        return round(self.stop_margin * 1_000)

    def check_margin(self, lease_ms: int, delay_ms: int) -> None:
        """Raises ValueError when a lock could not be safe just before a KeepAlive is answered, none being lost."""
        sure_ms = local_ms(2 * lease_ms // 3 + delay_ms, DRIFT_PPM)
        if not 0 <= self.margin_ms < sure_ms:
            raise ValueError(
                f"stop_margin must be at least 0 and below {sure_ms / 1_000} seconds (two thirds of the session's"
                f" lease, and the lock-delay), not {self.stop_margin}"
            )


def time_limit(blocking: bool, timeout: float) -> tuple[int | None, bool]:
    """(ms or None for ever, whether to wait at all) of `acquire(blocking, timeout)`, as `threading.Lock` has them."""
    if not blocking and timeout != -1:
        raise ValueError("a time-out makes no sense without blocking")
    if not timeout >= 0 and timeout != -1:
        raise ValueError(f"timeout must be -1 or at least 0 seconds, not {timeout}")
    return (None if timeout == -1 else round(timeout * 1_000)), blocking and timeout != 0
