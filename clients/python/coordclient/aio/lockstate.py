"""What the locks of both flavours share: acquiring, releasing, and what may be believed now.

Whoever leaves an acquire without the lock (time-out, cancellation, an error) leaves nothing behind: a `cancel` of that
very call is sent and retried until it is answered or the session ends. A grant is entered only when it can be believed
by the clocks at that moment. What is believed (`safe`, `check`) is computed from the clocks at each look, in whatever
thread; everything else happens in the loop.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from typing import Any

from coordclient.aio.keeper import Keeper
from coordclient.aio.life import Life
from coordclient.calls import NEVER_MS, Call
from coordclient.errors import (
    ClientClosed,
    CoordError,
    LockLost,
    LockTimeout,
    OutcomeUnknown,
    SessionExpired,
    Unavailable,
)
from coordclient.holds import Hold, HoldState
from coordclient.protocol.operations import LOCK_DELAY_MS_MAX, MODES
from coordclient.session import DRIFT_PPM, State, local_ms
from coordclient.values import LockInfo, lock_of

log = logging.getLogger("coordclient")
OnLost = Callable[[LockLost], object]


class LockState:
    """One lock object. It owns what it acquires; two lock objects of one session exclude each other."""

    def __init__(
        self,
        keeper: Keeper,
        path: str,
        mode: str,
        timeout: float | None,
        lock_delay: float,
        stop_margin: float,
        on_lost: OnLost | None,
    ) -> None:
        if timeout is not None and timeout < 0:
            raise ValueError(f"timeout must be None (for ever) or at least 0 seconds, not {timeout}")
        if mode not in MODES:
            raise ValueError(f"mode must be one of {', '.join(MODES)}, not {mode!r}")
        self.keeper = keeper
        self.path = path
        self.mode = mode
        self.delay_ms = round(lock_delay * 1_000)
        self.margin_ms = round(stop_margin * 1_000)
        self.hold: Hold | None = None  # the present one, or the last
        self._on_lost = on_lost
        self._life: Life | None = None  # of that hold
        self._busy = False  # an acquire of this object is under way
        self._told = False  # its holder, of the loss of that hold
        if not 0 <= self.delay_ms <= LOCK_DELAY_MS_MAX:
            raise ValueError(f"lock_delay must be 0 to {LOCK_DELAY_MS_MAX // 1_000} seconds, not {lock_delay}")
        # What is left of lease and lock-delay just before a KeepAlive is answered, if none is lost.
        sure_ms = local_ms(2 * keeper.lease_ms // 3 + self.delay_ms, DRIFT_PPM)
        if not 0 <= self.margin_ms < sure_ms:
            raise ValueError(
                f"stop_margin must be at least 0 and below {sure_ms / 1_000} seconds (two thirds of the session's"
                f" lease, and the lock-delay), not {stop_margin}"
            )

    # --- what may be believed now

    @property
    def held(self) -> bool:
        """Granted to this object and neither released nor known to be lost."""
        return self.hold is not None and self.hold.state is HoldState.HELD and self.keeper.guard.at_home()

    @property
    def safe(self) -> bool:
        """Held, and before the deadline less the stop margin, by the clocks at this very moment."""
        return self.held and self.hold is not None and self.hold.safe(self.keeper.clocks())

    @property
    def remaining(self) -> float:
        """Seconds until the deadline; 0.0 when nothing is held."""
        if not self.held or self.hold is None:
            return 0.0
        return max(0, self.hold.left_ms(self.keeper.clocks())) / 1_000

    @property
    def deadline(self) -> float:
        """In seconds on the clock of `coordclient.clock.now`; 0.0 when nothing is held."""
        if not self.held or self.hold is None:
            return 0.0
        sent, lease_ms = self.hold.session.lease
        return (sent[0] + lease_ms + self.hold.delay_ms) / 1_000

    def check(self) -> None:
        """Raises LockLost unless `safe`, ClientForked in a child."""
        self.keeper.guard.check_process()
        if not self.safe:
            raise self.loss()

    def granted(self) -> Hold:
        """The present hold, or the last; raises LockLost before the first."""
        if self.hold is None:
            raise LockLost(f"{self.path}: this lock was never acquired")
        return self.hold

    def loss(self) -> LockLost:
        """The error that says why it is not held."""
        hold = self.hold
        if hold is None:
            return LockLost(f"{self.path}: this lock was never acquired")
        cause = hold.cause or ("it was released" if hold.state is HoldState.RELEASED else "its deadline has come")
        return LockLost(f"{self.path}: {cause}", details={"path": self.path, "token": hold.token})

    # --- in the loop

    async def take(self, wait: bool, timeout_ms: int | None, actor: str) -> None:
        """Acquire: it is held afterwards, or this raises. `timeout_ms` None waits for ever."""
        if self._busy or self.held:
            if not wait:
                raise LockTimeout(f"{self.path}: this lock object is in use")
            raise RuntimeError(f"{self.path}: this lock object is in use; make one for each holder: client.lock(path)")
        self._busy = True
        try:
            keeper = self.keeper
            bound_ms = timeout_ms if wait else keeper.request_ms
            deadline_ms = NEVER_MS if bound_ms is None else keeper.clocks()[0] + bound_ms
            if wait and timeout_ms is not None:
                actor = ""  # one who waits for a limited time is no part of a deadlock, and the cell cannot tell
            life = keeper.alive()
            if life.session is None:
                await keeper.ready(life, deadline_ms)
            while not await self._attempt(life, wait, deadline_ms, actor):
                pass
        finally:
            self._busy = False

    async def _attempt(self, life: Life, wait: bool, deadline_ms: int, actor: str) -> bool:
        """One acquire with a number of its own; False when it is to be made anew, with another."""
        if life.leaves_behind(actor):
            actor = ""  # no deadlock is looked for: one may go unseen, none may be invented
        arguments = {"path": self.path, "mode": self.mode, "wait": wait, "lock_delay_ms": self.delay_ms, "actor": actor}
        call = await self.keeper.begin(life, "acquire", arguments, deadline_ms)
        try:
            grant = await call.tag  # type: ignore[misc]
        except asyncio.CancelledError:
            self.keeper.withdraw(life, call)
            raise
        except OutcomeUnknown as error:
            if life.over is not None:
                raise SessionExpired(f"{self.path}: {life.over}") from None
            self.keeper.withdraw(life, call)
            if self.keeper.clocks()[0] < deadline_ms:
                return False  # the cell remembers nothing of that call, and it cannot be granted any more: ask anew
            raise self._not_in_time(life, wait, error) from None
        try:
            await self._enter(life, call, grant, deadline_ms)
        except BaseException:
            self.keeper.withdraw(life, call)
            raise
        return True

    async def _enter(self, life: Life, call: Call, grant: Mapping[str, Any], deadline_ms: int) -> None:
        """Believe in the grant as soon as the session can be believed in; never enter unheld."""
        clocks = self.keeper.clocks
        if life.session is None or life.over is not None:
            raise SessionExpired(f"{self.path}: {life.over}")
        if self.keeper.guard.closed:
            raise ClientClosed(f"{self.path}: the client is being closed, and this grant goes with its session")
        hold = Hold(life.session, call.number, grant, self.delay_ms, self.margin_ms, tag=self)
        while not life.holds.add(hold, clocks()):
            # The answer was under way for too long. A session that is renewed after it still has this hold.
            await life.change(max(0, deadline_ms - clocks()[0]))
            if life.over is not None:
                raise SessionExpired(f"{self.path}: {life.over}")
            if clocks()[0] >= deadline_ms:
                raise LockTimeout(f"{self.path}: granted, but the session was not renewed in time to believe it")
        self.hold, self._life, self._told = hold, life, False

    def _not_in_time(self, life: Life, wait: bool, error: CoordError) -> CoordError:
        active = life.session is not None and life.session.state is State.ACTIVE and self.keeper.connected
        if wait and active:
            return LockTimeout(f"{self.path}: not acquired in time")
        return Unavailable(f"{self.path}: not acquired, for the cell did not answer in time: {error}")

    async def give_back(self) -> None:
        """Release it; raises LockLost when it was lost before, and RuntimeError when it was not held at all."""
        self.keeper.guard.check_process()
        hold, life = self.hold, self._life
        if hold is None or life is None or hold.state is HoldState.RELEASED:
            raise RuntimeError(f"{self.path}: release of a lock that is not held")
        if not hold.safe(self.keeper.clocks()):
            raise self.loss()
        life.holds.released(hold)
        arguments = {"path": hold.path, "hold": hold.number}
        try:
            await self.keeper.begin_lasting(life, "release", arguments, self.keeper.request_ms)
        except LockLost as error:
            hold.state, hold.cause = HoldState.LOST, error.message
            raise self.loss() from None

    def drop(self) -> None:
        """Release without waiting: whoever acquired it was interrupted before he knew."""
        hold, life = self.hold, self._life
        if hold is not None and life is not None and hold.state is HoldState.HELD:
            life.holds.released(hold)
            self.keeper.begin_lasting(life, "release", {"path": hold.path, "hold": hold.number})

    async def ask_master(self) -> None:
        """Raises LockLost unless the cell says that the sequencer is valid, and it is still safe then."""
        self.check()
        hold, life = self.granted(), self._life
        answer = await self.keeper.call("check_sequencer", {"sequencer": hold.sequencer})
        if not answer.get("valid") and life is not None and hold.state is HoldState.HELD:
            life.holds.lost(hold, f"the cell says: {answer.get('reason')}")
            self.given_up(hold)
        self.check()

    async def look_up(self) -> LockInfo | None:
        """Who holds it and who waits, as the cell sees it; None when nobody does."""
        answer = await self.keeper.call("locks", {"path": self.path})
        short = "/" + "/".join(self.path.split("/")[3:]) if self.path.startswith("/ls/") else self.path
        return next((lock_of(lock) for lock in answer["locks"] if lock.get("path") == short), None)

    def given_up(self, hold: Hold) -> None:
        """The hold is not safe any more: tell its holder, once."""
        if hold is not self.hold or self._told:
            return
        self._told = True
        self.interrupt()
        if self._on_lost is not None:
            try:
                self._on_lost(self.loss())
            except Exception:
                log.exception("on_lost of %s raised", self.path)

    def interrupt(self) -> None:
        """What a flavour does to the body that runs under the lock; nothing here."""
