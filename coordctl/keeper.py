"""The keeper: the process that holds the coordd session and the locks, in a process session of its own.

Duty: acquire what was ordered, tell the front the grant, each new deadline, and the loss; make the lock free when the
front says that nothing of the command runs any more. When the front is gone or silent, or has not finished its kill in
time, the keeper kills what is left of the command itself. It makes the lock free only when nothing is left; otherwise
it leaves without a goodbye, and lease and lock-delay pass first. A front that is silent before it has told whom it
started may still start it whenever it wakes; so it is killed before the lock becomes free.

It does not listen to signals of the terminal or to TERM: it ends when the front has ended.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from typing import TYPE_CHECKING, NoReturn

from coordctl import family, order, pipes
from coordctl.command import ENVIRONMENT_SEQUENCER
from coordctl.errors import Exit, Failure, exit_code_of
from coordctl.family import Process
from coordctl.order import Order

if TYPE_CHECKING:
    from coordclient import LockLost
    from coordclient.aio import Client
    from coordctl.claims import Claim

_LOOK_SECONDS = 0.25
_KILL_LOOK_SECONDS = 0.05
_WAITING_NOTE_SECONDS = 1.0
_DEADLINE_STEP_SECONDS = 0.05  # smaller differences are rounding
_FIRST_OWN_DESCRIPTOR = 3
_NAME_CHARACTERS_MAX = 120
_TEXT_CHARACTERS_MAX = 600


def be_keeper(order_: Order, reader: int, writer: int, front: int) -> NoReturn:
    """The whole life of the keeper; never returns into the code of the front."""
    try:
        os.setsid()
        _leave_the_job({reader, writer}, keep_stderr=order_.verbose)
        asyncio.run(Keeper(order_, reader, writer, front).run())
    except Failure as failure:
        pipes.send(writer, {"failed": failure.exit_code, "message": failure.message[:_TEXT_CHARACTERS_MAX]})
    except BaseException as error:  # whatever it is, the front has to hear of it: nobody reads a keeper's traceback
        text = f"the process that keeps the lock failed: {type(error).__name__}: {error}"
        pipes.send(writer, {"failed": int(Exit.OTHER), "message": text[:_TEXT_CHARACTERS_MAX]})
        if order_.verbose:
            sys.excepthook(type(error), error, error.__traceback__)
            sys.stderr.flush()
    finally:
        os._exit(0)


def _leave_the_job(keep: set[int], *, keep_stderr: bool) -> None:
    """Nothing of the job is held on to: no descriptor (a pipe must end when the command does), no signal."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, signal.SIG_IGN)
    nothing = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1) if keep_stderr else (0, 1, 2):
        os.dup2(nothing, descriptor)
    try:
        opened = [int(name) for name in os.listdir("/proc/self/fd")]
    except OSError:
        opened = list(range(_FIRST_OWN_DESCRIPTOR, 256))
    for descriptor in opened:
        if descriptor >= _FIRST_OWN_DESCRIPTOR and descriptor not in keep:
            try:
                os.close(descriptor)
            except OSError:
                continue  # the one that listed the directory


class Keeper:
    """One run; `run` returns when the lock is free, or can be left to the cell."""

    def __init__(self, order_: Order, reader: int, writer: int, front: int) -> None:
        self.order = order_
        self.writer = writer
        self._inbox = pipes.Inbox(reader)
        self._front = family.look_up(front)
        self._command: Process | None = None
        self._seen: list[Process] = []  # everybody who was once below the front
        self._sequencers = ""
        self._heard = time.monotonic()
        self._done = False  # the front says that nothing of the command runs
        self._suspended = False
        self._news = asyncio.Event()
        self._deadline = 0.0
        self._granted = False  # the front knows, and may start the command
        self._lost: tuple[float, str] | None = None  # when, and why

    async def run(self) -> None:
        """Acquire, hold, make free."""
        from coordclient import CoordError
        from coordclient.aio import Client

        asyncio.get_running_loop().add_reader(self._inbox.reader, self._on_front)
        connection = self.order.connection
        program = os.path.basename(self.order.command[0]) if self.order.command else "coordctl lock"
        name = f"{program}, run by pid {self._front.pid}" if self._front is not None else program
        endpoints = list(connection.endpoints) if connection.endpoints else None
        try:
            async with Client(
                endpoints,
                cell=connection.cell,
                session_lease=self.order.lease,
                request_timeout=connection.timeout,
                name=name[:_NAME_CHARACTERS_MAX],
            ) as client:
                await self._hold(client)
        except CoordError as error:
            if self._deadline:
                return  # the lock is not held any more, and saying goodbye to the cell failed: nothing to add
            code = exit_code_of(error.code)
            raise Failure(str(error), self.order.not_acquired_exit if code == Exit.NOT_ACQUIRED else code) from None

    async def _hold(self, client: Client) -> None:
        from coordctl.claims import Claim

        try:
            claim = Claim(client, self.order, self._on_lost)
        except ValueError as error:  # a path that is named twice, for instance
            raise Failure(str(error), Exit.USAGE) from None
        if not await self._acquire(claim):
            return
        self._deadline = order.now() + claim.remaining
        self._sequencers = "\n".join(sequencer for _, sequencer in claim.grants())
        await claim.write_value()
        if self._is_silent():
            raise Failure(f"{self.order.name}: the front was stopped while it waited, so the lock was given back")
        self._tell_grant(claim)
        await self._until_over(claim)
        if not self._done and not await self._end_family():
            os._exit(0)  # something of the command could not be killed: the lock must not become free at once

    def _tell_grant(self, claim: Claim) -> None:
        self._granted = True
        messages: list[pipes.Message] = [
            {"grant": at, "token": token, "sequencer": sequencer}
            for at, (token, sequencer) in enumerate(claim.grants())
        ]
        if not all(pipes.send(self.writer, message) for message in (*messages, {"granted": self._deadline})):
            raise Failure(f"{self.order.name}: the front does not listen, so the lock was given back")

    # -- acquiring

    async def _acquire(self, claim: Claim) -> bool:
        """False when the front does not want it any more."""
        wait = self.order.wait
        wanted = asyncio.ensure_future(claim.lock.acquire(timeout=-1 if wait is None else wait))
        noted = False
        since = time.monotonic()
        while not wanted.done():
            news = asyncio.ensure_future(self._news.wait())
            await asyncio.wait({wanted, news}, timeout=_LOOK_SECONDS, return_when=asyncio.FIRST_COMPLETED)
            news.cancel()
            self._news.clear()
            if self._done or self._inbox.closed:
                break
            if not noted and time.monotonic() - since >= _WAITING_NOTE_SECONDS:
                noted = True
                text = f"waiting for {self.order.name}{await self._who_holds(claim)}"
                pipes.send(self.writer, {"note": text[:_TEXT_CHARACTERS_MAX]})
        if not wanted.done():
            wanted.cancel()
            await asyncio.gather(wanted, return_exceptions=True)
            return False
        if not wanted.result():
            text = f"lock not acquired: {self.order.name}{await self._who_holds(claim)}"
            raise Failure(text, self.order.not_acquired_exit)
        return True

    async def _who_holds(self, claim: Claim) -> str:
        """', held by ...' for people; empty when nobody does."""
        from coordclient import CoordError

        try:
            async with asyncio.timeout(_WAITING_NOTE_SECONDS):
                text = await claim.who_holds()
        except (TimeoutError, CoordError):
            return "; the cell does not answer"
        return f", {text}" if text else ""

    # -- holding

    async def _until_over(self, claim: Claim) -> None:
        """Returns when the command has ended (`_done`), or when it is the keeper's turn to end it."""
        told = False
        while not (self._done or self._inbox.closed):
            self._look_at_family()
            if self._lost is None and not claim.lock.held:
                self._lost = (order.now(), claim.reason())
            if self._lost is not None and not told:
                told = True
                # Who was told by the cell has given the lock up at that moment, and its lock-delay began no earlier.
                self._deadline = min(self._deadline, self._lost[0] + claim.lock_delay)
                self._tell_lost(self._lost[1])
            elif self._lost is None and self._is_silent():
                self._tell_lost("the front was stopped, so the keeper ended the command")
                return
            if order.now() >= self._own_turn():
                self._tell_lost("the front did not end the command in time, so the keeper did")
                return
            if self._lost is None:
                self._tell_deadline(order.now() + claim.remaining)
            try:
                await asyncio.wait_for(self._news.wait(), _LOOK_SECONDS)
            except TimeoutError:
                continue
            self._news.clear()

    def _on_lost(self, error: LockLost) -> None:
        """The library's word, at once."""
        if self._lost is None:
            self._lost = (order.now(), str(error))
            self._news.set()

    def _own_turn(self) -> float:
        """When the keeper kills if the front has not: a front that is suspended with its job can do nothing."""
        if self._lost is not None:
            return self.order.kill_at(self._deadline, self._lost[0]) + order.BEAT_SECONDS / 2
        return self.order.term_at(self._deadline) if self._suspended else self._deadline - order.KILL_SECONDS

    def _tell_lost(self, reason: str) -> None:
        reason = reason.removeprefix(f"{', '.join(self.order.paths)}: ")  # as the library calls it
        # In one message: a deadline that came alone would be told as an end of its own.
        pipes.send(self.writer, {"lost": reason[:_TEXT_CHARACTERS_MAX], "deadline": self._deadline})

    def _tell_deadline(self, deadline: float) -> None:
        """Later, when a KeepAlive was answered; earlier, when some clock says that more time has passed."""
        if abs(deadline - self._deadline) >= _DEADLINE_STEP_SECONDS:
            self._deadline = deadline
            pipes.send(self.writer, {"deadline": deadline})

    def _is_silent(self) -> bool:
        """CLOCK_MONOTONIC, so that the sleep of a whole machine is nobody's silence."""
        return not self._suspended and time.monotonic() - self._heard >= order.SILENCE_SECONDS

    # -- the front

    def _on_front(self) -> None:
        for message in self._inbox.take():
            self._heard = time.monotonic()
            match message:
                case {"command": int(pid)}:
                    self._command = family.look_up(pid) or Process(pid, 0, pid, 0, "?")
                case {"suspended": bool(suspended)}:
                    self._suspended = suspended
                case {"done": True}:
                    self._done = True
                case {"beat": True}:
                    continue
                case _:
                    raise AssertionError(f"a message of the front that the keeper does not know: {message}")
        if self._inbox.closed:
            asyncio.get_running_loop().remove_reader(self._inbox.reader)
        if self._inbox.closed or self._done:
            self._news.set()

    # -- killing, when the front does not

    async def _end_family(self) -> bool:
        """TERM, then KILL, to whatever is left of the command. True when nothing is left."""
        if self._command is None and not await self._learn_command():
            return False
        if self._command is None:
            return True
        term_sent = order.now()
        kill_at = self.order.kill_at(self._deadline, term_sent)
        for number in (signal.SIGTERM, signal.SIGCONT):
            self._signal_family(number)
        while left := self._relatives():
            if self._done:
                return True
            at = order.now()
            if at >= kill_at:
                for row in left:
                    family.send_signal(row, signal.SIGKILL)
            if at >= kill_at + order.GIVE_UP_SECONDS:
                return False
            await asyncio.sleep(_KILL_LOOK_SECONDS)
        return True

    async def _learn_command(self) -> bool:
        """Without a command's name, make sure that there is none and will be none. A child of the front has this pipe
        open until it is the command, and says who it is before; so a pipe that ends when the front is dead is proof."""
        if not self.order.command or not self._granted:
            return True
        if self._front is not None:
            family.send_signal(self._front, signal.SIGKILL)
        until = time.monotonic() + order.GIVE_UP_SECONDS
        while not (self._inbox.closed or self._done):
            if time.monotonic() >= until:
                return False
            await asyncio.sleep(_KILL_LOOK_SECONDS)
        return True

    def _look_at_family(self) -> None:
        """Remember who descends from the front: when it is killed its orphans are nobody's, and one that has a group
        and an environment of its own could not be told from a stranger."""
        if self._front is not None and self._command is not None:
            now = {row.pid: row for row in family.below(self._front.pid, without=(os.getpid(),))}
            seen = (row for row in self._seen if row.pid not in now and _same(family.look_up(row.pid), row))
            self._seen = [*now.values(), *seen]

    def _signal_family(self, number: int) -> None:
        for row in self._relatives():
            family.send_signal(row, number)

    def _relatives(self) -> list[Process]:
        """Whoever descends from the front or the command, or was once seen to, is in the command's group, or carries
        this very grant in its environment: when the front is gone, its orphans are nobody's children any more."""
        assert self._command is not None
        table = family.process_table()
        if not table:
            return family.group_as_process(self._command.pid)
        own = os.getpid()
        roots = [row.pid for row in (self._front, self._command) if row is not None and _same(table.get(row.pid), row)]
        found = {row.pid: row for row in family.descendants(table, roots, without=(own,))}
        group = self._command.pid  # it leads its own; whatever group it was in before is the caller's
        for row in table.values():
            if row.group == group or _same(row, self._command):
                found[row.pid] = row
        found |= {row.pid: table[row.pid] for row in self._seen if _same(table.get(row.pid), row)}
        for row in family.carriers(table, ENVIRONMENT_SEQUENCER, self._sequencers):
            found[row.pid] = row
        front = self._front.pid if self._front is not None else 0
        return [row for row in found.values() if not row.gone and row.pid not in (own, front)]


def _same(now: Process | None, then: Process) -> bool:
    return now is not None and now.pid == then.pid and now.started == then.started
