"""What all locks of both flavours share, for one path or several: acquiring, releasing, and what may be believed now.

Whoever leaves an acquire without the lock (time-out, cancellation, an error) leaves nothing behind: a `cancel` of that
very call is sent and retried until it is answered or the session ends. A grant is entered only when it can be believed
by the clocks at that moment. What is believed (`safe`, `check`) is computed from the clocks at each look, in whatever
thread; everything else happens in the loop.
"""

from __future__ import annotations

import asyncio
import logging
import warnings
from collections.abc import Callable, Mapping
from typing import Any

from coordclient.aio.keeper import Keeper
from coordclient.aio.life import Life
from coordclient.aio.terms import Ask, Terms, short_of
from coordclient.calls import NEVER_MS, Call
from coordclient.errors import (
    ClientClosed,
    CoordError,
    InternalError,
    LockLost,
    LockTimeout,
    OutcomeUnknown,
    SessionExpired,
    Unavailable,
)
from coordclient.holds import Hold, HoldState, Part
from coordclient.session import State
from coordclient.values import LockInfo, lock_of

log = logging.getLogger("coordclient")


class LockState:
    """One lock object. It owns what it acquires; two lock objects of one session exclude each other."""

    def __init__(self, keeper: Keeper, asks: tuple[Ask, ...], terms: Terms, inherited: Hold | None = None) -> None:
        self.keeper = keeper
        self.asks = asks
        self.terms = terms
        self.name = ", ".join(ask.path for ask in asks)  # for people
        self.hold: Hold | None = None  # the present one, or the last
        self.worker: object = None  # the task or thread whose `with` body runs under it
        self.interrupt: Callable[[], None] | None = None  # what a flavour does to that body when the lock is lost
        self._life: Life | None = None  # of that hold
        self._busy = False  # an acquire of this object is under way
        self._told = False  # its holder, of the loss of that hold
        self._inherited = inherited  # from another process, and not acquired here yet
        if inherited is None:
            terms.check_margin(keeper.lease_ms, terms.delay_ms)
        else:
            terms.check_margin(inherited.session.lease_ms, inherited.whole_delay_ms)

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
        """Seconds until the deadline; 0.0 when nothing is held, or another process may believe in it too."""
        if not self.held or self.hold is None or self.hold.doubt_ms(now := self.keeper.clocks()) > 0:
            return 0.0
        return max(0, self.hold.left_ms(now)) / 1_000

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
            raise LockLost(f"{self.name}: this lock was never acquired")
        return self.hold

    def parts(self) -> dict[str, Part]:
        """As `granted`, by the paths as they were given."""
        by_path = {part.path: part for part in self.granted().parts}
        return {ask.path: by_path[short_of(ask.path)] for ask in self.asks}

    def loss(self) -> LockLost:
        """The error that says why it is not safe."""
        hold = self.hold
        if hold is None:
            return LockLost(f"{self.name}: this lock was never acquired")
        doubt_ms = hold.doubt_ms(self.keeper.clocks())
        if hold.state is HoldState.HELD and doubt_ms > 0:
            cause = f"the process that had this session before may believe in it for another {doubt_ms / 1_000} s"
        elif hold.state is HoldState.HANDING:
            cause = "it is being handed over"
        else:
            cause = hold.cause or ("it was released" if hold.state is HoldState.RELEASED else "its deadline has come")
        return LockLost(f"{self.name}: {cause}", details={"path": self.name, "token": hold.token})

    def forgotten(self) -> None:
        """The lock object is gone. Nothing is freed: whoever acquired it may well rely on it still."""
        if self.held:
            warnings.warn(
                f"lock {self.name} was forgotten while it was held: it stays so until the client is closed. Keep the"
                " object and release it, or use `with`.",
                ResourceWarning,
                stacklevel=3,
            )

    # --- acquiring, in the loop

    async def take(self, wait: bool, timeout_ms: int | None, actor: str) -> None:
        """Acquire: it is held afterwards, or this raises. `timeout_ms` None waits for ever."""
        handing = self.hold is not None and self.hold.state is HoldState.HANDING
        if self._busy or handing or (self.held and self._inherited is None):
            if not wait:
                raise LockTimeout(f"{self.name}: this lock object is in use")
            raise RuntimeError(f"{self.name}: this lock object is in use; make one for each holder: client.lock(path)")
        self._busy = True
        try:
            keeper = self.keeper
            bound_ms = timeout_ms if wait else keeper.request_ms
            deadline_ms = NEVER_MS if bound_ms is None else keeper.clocks()[0] + bound_ms
            if self._inherited is not None:
                await self._trust(wait, deadline_ms)
                return
            life = keeper.alive()
            if life.session is None:
                await keeper.ready(life, deadline_ms)
            how = {"wait": wait, "limited": wait and timeout_ms is not None, "actor": actor}
            while not await self._attempt(life, how, deadline_ms):
                pass
        finally:
            self._busy = False

    async def _attempt(self, life: Life, how: Mapping[str, Any], deadline_ms: int) -> bool:
        """One acquire with a number of its own; False when it is to be made anew, with another."""
        arguments: dict[str, object] = {**how, "lock_delay_ms": self.terms.delay_ms}
        if life.leaves_behind(how["actor"]):
            arguments["actor"] = ""  # no deadlock is looked for: one may go unseen, none may be invented
        if len(self.asks) == 1:
            operation, arguments = "acquire", {**self.asks[0].arguments(), **arguments}
        else:
            operation, arguments["locks"] = "acquire_all", [ask.arguments() for ask in self.asks]
        call = await self.keeper.begin(life, operation, arguments, deadline_ms)
        try:
            grant = await call.tag  # type: ignore[misc]
        except (asyncio.CancelledError, GeneratorExit):
            self.keeper.withdraw(life, call)
            raise
        except OutcomeUnknown as error:
            if life.over is not None:
                raise SessionExpired(f"{self.name}: {life.over}") from None
            self.keeper.withdraw(life, call)
            if self.keeper.clocks()[0] < deadline_ms:
                return False  # the cell remembers nothing of that call, and it cannot be granted any more: ask anew
            raise self._not_in_time(life, how["wait"], error) from None
        try:
            entered = await self._enter(life, call, grant, deadline_ms)
        except BaseException:
            self.keeper.withdraw(life, call)
            raise
        if not entered:
            self.keeper.withdraw(life, call)
        return entered

    async def _enter(self, life: Life, call: Call, grant: Mapping[str, Any], deadline_ms: int) -> bool:
        """Believe in the grant as soon as the session can be believed in; never enter unheld. False: it was revoked."""
        clocks = self.keeper.clocks
        if life.session is None or life.over is not None:
            raise SessionExpired(f"{self.name}: {life.over}")
        try:
            hold = Hold(life.session, call.number, grant, self.terms.delay_ms, self.terms.margin_ms, tag=self)
            missing = {short_of(ask.path) for ask in self.asks}.difference(part.path for part in hold.parts)
        except (KeyError, TypeError, ValueError) as error:
            raise InternalError(f"{self.name}: the cell's answer holds no usable grant: {error!r}") from None
        if missing:
            return False  # granted once, and taken away in part before the answer to a retry came
        while True:
            if self.keeper.guard.closed:  # also while this waits below
                raise ClientClosed(f"{self.name}: the client is being closed, and this grant goes with its session")
            if life.holds.add(hold, clocks()):
                break
            # The answer was under way for too long. A session that is renewed after it still has this hold.
            if life.holds.why_revoked(hold):
                return False
            await life.change(max(0, deadline_ms - clocks()[0]))
            if life.over is not None:
                raise SessionExpired(f"{self.name}: {life.over}")
            if clocks()[0] >= deadline_ms:
                raise LockTimeout(f"{self.name}: granted, but the session was not renewed in time to believe it")
        self.hold, self._life, self._told = hold, life, False
        return True

    async def adopted(self, life: Life, deadline_ms: int) -> None:
        """Make the inherited hold this object's, as soon as the session can be believed in."""
        hold, clocks = self._inherited, self.keeper.clocks
        if hold is None:
            raise RuntimeError(f"{self.name}: there is nothing to adopt")
        while True:
            if life.over is not None:
                raise SessionExpired(f"{self.name}: {life.over}")
            if life.holds.inherited.get(hold.number) is not hold:
                raise LockLost(f"{self.name}: {life.holds.why_revoked(hold) or 'somebody else has adopted it'}")
            hold.tag, hold.stop_margin_ms = self, self.terms.margin_ms  # another one may wait for the same hold
            if life.holds.adopt(hold, clocks()):
                break
            if clocks()[0] >= deadline_ms:
                raise Unavailable(f"{self.name}: the resumed session was not renewed in time")
            await life.change(max(0, deadline_ms - clocks()[0]))
        self.hold, self._life = hold, life

    async def _trust(self, wait: bool, deadline_ms: int) -> None:
        """Wait until the process that had the session before cannot believe in it any more. Until then it stays held
        and not safe, whether this is cancelled or not."""
        hold, life, clocks = self.granted(), self._life, self.keeper.clocks
        while (doubt_ms := hold.doubt_ms(clocks())) > 0 and hold.state is HoldState.HELD and life is not None:
            left_ms = deadline_ms - clocks()[0] if wait else 0
            if left_ms <= 0:
                raise LockTimeout(f"{self.name}: {self.loss().message.partition(': ')[2]}")
            await life.change(min(doubt_ms, left_ms))
        self._inherited = None
        self.check()

    def _not_in_time(self, life: Life, wait: bool, error: CoordError) -> CoordError:
        active = life.session is not None and life.session.state is State.ACTIVE and self.keeper.channel is not None
        if wait and active:
            return LockTimeout(f"{self.name}: not acquired in time")
        return Unavailable(f"{self.name}: not acquired, for the cell did not answer in time: {error}")

    # --- releasing, in the loop

    async def give_back(self) -> None:
        """Release it; raises LockLost when it was lost before, and RuntimeError when it was not held at all."""
        self.keeper.guard.check_process()
        hold, life = self.hold, self._life
        if hold is None or life is None or hold.state is HoldState.RELEASED:
            raise RuntimeError(f"{self.name}: release of a lock that is not held")
        self._stopped(hold, life)
        if self._let_go_in_doubt(hold, life):
            return
        if not hold.safe(self.keeper.clocks()):
            raise self.loss()
        life.holds.released(hold)
        try:
            await self.keeper.begin_lasting(life, "release", hold.release(), self.keeper.request_ms)
        except LockLost as error:
            hold.state, hold.cause = HoldState.LOST, error.message
            raise self.loss() from None

    def drop(self, hold: Hold | None) -> None:
        """Release it without waiting, if it is the present hold: whoever acquired or released it was interrupted."""
        life = self._life
        if hold is not None and hold is self.hold and life is not None and hold.state is HoldState.HELD:
            self._stopped(hold, life)
            if not self._let_go_in_doubt(hold, life):
                life.holds.released(hold)
                self.keeper.begin_lasting(life, "release", hold.release())

    def _let_go_in_doubt(self, hold: Hold, life: Life) -> bool:
        """Whether another process may believe in it: then the cell is told later, for it frees at once."""
        self._inherited = None
        if hold.state is not HoldState.HELD or hold.doubt_ms(self.keeper.clocks()) <= 0:
            return False
        self._told = True  # it is no loss
        life.holds.released_in_doubt(hold)
        return True

    def _stopped(self, hold: Hold, life: Life) -> None:
        """Nobody works under it any more: whoever waits for that goes on."""
        hold.stopped = True
        if hold.state is HoldState.LOST and life is self.keeper.life:
            self.keeper.tick()
        life.wake()

    async def hand_over(self, to: int) -> None:
        """Give it to session `to`, past the queue. It is not believed from the moment in which the cell is asked."""
        self.keeper.guard.check_process()
        hold, life = self.hold, self._life
        if hold is None or life is None or hold.state is HoldState.RELEASED:
            raise RuntimeError(f"{self.name}: transfer of a lock that is not held")
        if not hold.safe(self.keeper.clocks()):
            raise self.loss()
        hold.state = HoldState.HANDING
        try:
            await self.keeper.call("transfer", {"path": hold.path, "hold": hold.number, "to": to}, life)
        except LockLost as error:  # the cell says that it was not held
            life.holds.lost(hold, error.message)
            self.given_up(hold)
            raise self.loss() from None
        except OutcomeUnknown:
            self._let_go(hold, life)
            raise
        except CoordError:  # nothing was done
            if hold.stopped:  # but whoever had it is gone: it was released, or its body has ended, meanwhile
                self._let_go(hold, life)
            elif hold.state is HoldState.HANDING:
                hold.state = HoldState.HELD
            raise
        except BaseException:  # cancelled: who has it now is not known, so nobody shall
            self._let_go(hold, life)
            raise
        life.holds.released(hold)

    def _let_go(self, hold: Hold, life: Life) -> None:
        """If the transfer took place the cell says that there is no such hold, and nobody hears it."""
        if hold.state is HoldState.HANDING:
            life.holds.released(hold)
            self.keeper.begin_lasting(life, "release", hold.release())

    # --- asking and telling, in the loop

    async def ask_master(self) -> None:
        """Raises LockLost unless the cell says that every sequencer is valid, and it is still safe then."""
        self.check()
        hold, life = self.granted(), self._life
        questions = (self.keeper.call("check_sequencer", {"sequencer": part.sequencer}) for part in hold.parts)
        for answer in await asyncio.gather(*questions):
            if not answer.get("valid") and life is not None and hold.state is HoldState.HELD:
                life.holds.lost(hold, f"the cell says: {answer.get('reason')}")
                self.given_up(hold)
        self.check()

    async def look_up(self) -> LockInfo | None:
        """Who holds the first path and who waits for it, as the cell sees it; None when nobody does."""
        path = self.asks[0].path
        answer = await self.keeper.call("locks", {"path": path})
        return next((lock_of(lock) for lock in answer["locks"] if lock.get("path") == short_of(path)), None)

    def given_up(self, hold: Hold) -> None:
        """The hold is not safe any more: tell its holder, once."""
        if hold is not self.hold or self._told:
            return
        self._told = True
        if self.interrupt is not None:
            self.interrupt()
        if self.terms.on_lost is not None:
            try:
                self.terms.on_lost(self.loss())
            except Exception:
                log.exception("on_lost of %s raised", self.name)

    def in_jeopardy(self, hold: Hold) -> None:
        """Its session is in jeopardy, and it is held still: tell its holder how long that can go on."""
        if hold is self.hold and self.terms.on_jeopardy is not None:
            try:
                self.terms.on_jeopardy(self.remaining)
            except Exception:
                log.exception("on_jeopardy of %s raised", self.name)
