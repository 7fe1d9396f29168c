"""The front: parent and subreaper of the command, in the terminal's job.

Duty: start the command once the keeper has the lock, pass signals on, and see to it that nothing of the command is
left by the lock's deadline: TERM, then KILL, when the deadline of the last message comes or the pipe from the keeper
ends. It talks to nobody but the keeper and never loads the client library; so it works however the network behaves.

It waits in one place (`_wait`), for whichever comes first: a message, a signal, the next moment at which something is
due. Every moment is compared with a clock that is read again after waking; a timer is only a hint.
"""

from __future__ import annotations

import os
import select
import signal
from collections.abc import Callable, Sequence

from coordctl import family, order, pipes
from coordctl.command import (
    CAUGHT,
    ENVIRONMENT_PATH,
    ENVIRONMENT_SEQUENCER,
    ENVIRONMENT_TOKEN,
    FORWARDED,
    Command,
    start_command,
)
from coordctl.errors import Exit, Failure, complain
from coordctl.family import Process
from coordctl.order import Order
from coordctl.output import note
from coordctl.terminal import Terminal

ENDS_HOLDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
KEYBOARD = (signal.SIGINT, signal.SIGQUIT)
_RESCAN_SECONDS = 0.02
Show = Callable[[Sequence[pipes.Message]], None]


class Front:
    """One run of `lock`; `run` returns the exit code."""

    def __init__(self, order_: Order, reader: int, to_keeper: int, keeper: int, show: Show) -> None:
        self.order = order_
        self.to_keeper = to_keeper
        self.keeper = keeper
        self._show = show  # prints the grants, where there is no command to give it to
        self._inbox = pipes.Inbox(reader)
        self._signals = pipes.make_pipe()
        self._terminal = Terminal.of_this_process() if order_.command else None
        self._command: Command | None = None
        self._status: int | None = None  # what the command ended with, as waitpid says it
        self._had_terminal = False
        self._grants: list[pipes.Message] = []  # path, token, sequencer of each lock
        self._granted = False
        self._begun = False  # what a grant is for was done
        self._deadline = 0.0
        self._exit: int | None = None
        self._lost: str | None = None
        self._survived = False  # something of the command could not be killed
        self._kill_at = 0.0
        self._rescan_at = 0.0
        self._beat_at = 0.0
        self._passed_on: set[int] = set()

    def run(self) -> int:
        """Until the command, or the wish to have the lock, has ended and the lock is free."""
        self._catch_signals()
        family.become_subreaper()
        while self._exit is None:
            self._wait()
            at = order.now()  # before the messages: who was stopped here has news to read before it looks at the time
            for number in self._taken_signals():
                self._on_signal(number)
            # What the keeper killed must not pass for an end of its own. It says so before it kills: so messages are
            # read after the command was asked for its end, and judged before.
            ended = self._reap()
            for message in self._inbox.take():
                self._on_message(message)
            if self._inbox.closed and self._exit is None:
                self._lose("the process that keeps the lock is gone")
            # Only when all news is read: a front that was stopped finds a grant and its loss side by side.
            if self._granted and not self._begun and self._exit is None:
                self._begin()
            if ended:
                self._on_end()
            self._on_time(at)
        return self._leave(self._exit)

    # -- waiting

    def _catch_signals(self) -> None:
        signal.set_wakeup_fd(self._signals[1], warn_on_full_buffer=False)
        for number in CAUGHT:
            if signal.getsignal(number) is not signal.SIG_IGN:  # nohup and background jobs: ignored stays ignored
                signal.signal(number, lambda _number, _frame: None)

    def _wait(self) -> None:
        due = self._beat_at
        if self._lost is not None:
            due = min(due, max(self._kill_at, self._rescan_at))
        elif self._granted:
            due = min(due, self.order.term_at(self._deadline))
        poll = select.poll()
        poll.register(self._signals[0], select.POLLIN)
        if not self._inbox.closed:
            poll.register(self._inbox.reader, select.POLLIN)
        poll.poll(max(0.0, due - order.now()) * 1000)

    def _taken_signals(self) -> list[int]:
        try:
            return list(dict.fromkeys(os.read(self._signals[0], 4096)))
        except BlockingIOError:
            return []

    # -- what happens

    def _on_signal(self, number: int) -> None:
        if number in FORWARDED:
            if self._command is not None:
                self._passed_on.add(number)
                family.signal_group(self._command.pid, number)
            elif self._granted and number in ENDS_HOLDING:
                self._exit = Exit.OK  # without a command a signal is how one ends holding the lock
            else:
                self._exit = Exit.SIGNAL + number
        elif number == signal.SIGCONT and self._command is not None and self._status is None:
            self._lend_terminal()
        elif number == signal.SIGTSTP and self._lost is None:
            # Ctrl-Z before the command had the terminal, or before it was lent again, or a kill -TSTP of this process.
            if self._command is not None and self._status is None:
                family.signal_group(self._command.pid, signal.SIGTSTP)
            self._suspend(os.getpid())

    def _on_message(self, message: pipes.Message) -> None:
        match message:
            case {"note": str(text)}:
                if not self.order.quiet:
                    note(text)
            case {"failed": int(code), "message": str(text)}:
                complain(text)
                self._exit = code
            case {"grant": int(at), "token": int(token), "sequencer": str(sequencer)}:
                self._grants.append({"path": self.order.paths[at], "token": token, "sequencer": sequencer})
            case {"lost": str(reason), "deadline": float(deadline)}:
                self._deadline = deadline
                self._lose(reason)
            case {"granted": float(deadline)}:
                self._granted = True
                self._deadline = deadline
            case {"deadline": float(deadline)}:
                self._deadline = deadline
            case _:
                raise AssertionError(f"a message of the keeper that the front does not know: {message}")

    def _begin(self) -> None:
        """The lock is ours: start the command, or show the grant."""
        self._begun = True
        if not self.order.command:
            self._show(self._grants)
            return
        if order.now() >= self.order.term_at(self._deadline):
            self._lose("its time was over before the command could begin")
            return
        terminal = self._terminal if self._terminal is not None and self._terminal.is_ours() else None
        try:
            self._command = start_command(self.order.command, self._environment(), terminal, self.to_keeper)
        except Failure as failure:
            complain(failure.message)
            self._exit = failure.exit_code
        self._had_terminal = terminal is not None

    def _environment(self) -> dict[str, str]:
        """Of several locks one per line, in the order in which they were named."""
        names = {ENVIRONMENT_PATH: "path", ENVIRONMENT_TOKEN: "token", ENVIRONMENT_SEQUENCER: "sequencer"}
        values = {name: "\n".join(str(grant[key]) for grant in self._grants) for name, key in names.items()}
        return {**os.environ, **values}

    def _lose(self, reason: str) -> None:
        """The lock is lost, or nobody renews it any more: the command has to go."""
        if self._lost is not None:
            return
        self._lost = reason
        if not self._granted:
            complain(reason)
            self._exit = Exit.OTHER
            return
        complain(f"lock lost: {self.order.name}: {reason}")
        if self._command is None:
            self._exit = Exit.LOST
            return
        at = order.now()
        self._kill_at = self.order.kill_at(self._deadline, at)
        self._signal_family(signal.SIGTERM)
        self._signal_family(signal.SIGCONT)  # a stopped process does not hear TERM

    def _on_time(self, at: float) -> None:
        if at >= self._beat_at:
            self._beat_at = at + order.BEAT_SECONDS
            pipes.send(self.to_keeper, {"beat": True})
            if self._command is not None:
                self._lend_terminal_late()
        if self._exit is not None or not self._granted:
            return
        if self._lost is None and at >= self.order.term_at(self._deadline):
            self._lose("the cell could not be reached in time to renew it")
        if self._lost is not None and self._command is not None:
            self._finish_kill(at)

    # -- the command and its family

    def _relatives(self) -> list[Process]:
        """Everybody alive below this process, the keeper aside."""
        table = family.process_table()
        if not table:
            return family.group_as_process(self._command.pid) if self._command is not None else []
        rows = family.descendants(table, (os.getpid(),), without=(self.keeper,))
        return [row for row in rows if not row.gone]

    def _signal_family(self, number: int) -> None:
        if self._command is not None and self._status is None:
            family.signal_group(self._command.pid, number)
        group = self._command.pid if self._command is not None and self._status is None else 0
        for row in self._relatives():
            if row.group != group:
                family.send_signal(row, number)

    def _finish_kill(self, at: float) -> None:
        """The end of a kill: whoever is left when TERM has had its time gets KILL, until nobody is left."""
        left = self._relatives()
        if not left and self._status is not None:
            self._exit = Exit.LOST
            return
        if at < max(self._kill_at, self._rescan_at):
            return
        for row in left:
            family.send_signal(row, signal.SIGKILL)
        if at >= max(self._kill_at, self._deadline) + order.GIVE_UP_SECONDS:
            pids = ", ".join(str(row.pid) for row in left) or str(self._command.pid if self._command else "?")
            complain(f"could not be killed and may go on without the lock: pid {pids}")
            self._survived = True
            self._exit = Exit.LOST
        self._rescan_at = order.now() + _RESCAN_SECONDS

    def _reap(self) -> bool:
        """Ask about every child that changed: the command, adopted orphans, the keeper. True if the command ended."""
        ended = False
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG | os.WUNTRACED)
            except ChildProcessError:
                return ended
            if pid == 0:
                return ended
            if self._command is None or pid != self._command.pid:
                continue
            if os.WIFSTOPPED(status):
                self._on_stop()
            else:
                self._status = status
                ended = True

    def _on_end(self) -> None:
        assert self._status is not None
        assert self._command is not None
        status = self._status
        if self._terminal is not None:
            self._terminal.take_back(self._command.pid)
            if os.WIFSIGNALED(status):
                self._terminal.restore()
        if self._lost is not None:
            return  # `_finish_kill` says when all are gone
        failure = self._command.failure()
        if failure is not None:
            complain(failure.message)
            self._exit = failure.exit_code
            return
        code = os.waitstatus_to_exitcode(status)
        self._exit = code if code >= 0 else Exit.SIGNAL - code
        left = self._relatives()
        if left and not self.order.quiet:
            pids = ", ".join(str(row.pid) for row in left)
            note(f"the command ended, and with it the lock; what it started goes on without the lock: pid {pids}")

    # -- the terminal

    def _lend_terminal(self) -> None:
        """After `fg`: the foreground is ours again, and the command's to use."""
        assert self._command is not None
        if self._terminal is not None and self._terminal.is_ours():
            self._had_terminal = True
            self._terminal.give(self._command.pid)
        family.signal_group(self._command.pid, signal.SIGCONT)

    def _lend_terminal_late(self) -> None:
        """A background job that was brought to the foreground without having been stopped gets no SIGCONT."""
        if self._status is None and self._terminal is not None and self._terminal.is_ours():
            self._lend_terminal()

    def _on_stop(self) -> None:
        """Ctrl-Z, or a stop of its own: the job stops as a whole, so that the shell has its prompt again."""
        if self._terminal is None or self._command is None or self._lost is not None:
            return
        if self._terminal.foreground() == self._command.pid:  # else it waits in the background for the terminal
            self._suspend(0)

    def _suspend(self, whom: int) -> None:
        """This process (or with it the rest of its group, 0) stops here, until the shell continues it. The lock stays
        held meanwhile, and the keeper watches its deadline."""
        if self._terminal is not None and self._command is not None:
            self._terminal.take_back(self._command.pid)
        pipes.send(self.to_keeper, {"suspended": True})
        # The signal that continues this process is not news: taken for some it would continue the command once more,
        # perhaps after it was stopped again.
        handlers = {number: signal.signal(number, signal.SIG_DFL) for number in (signal.SIGCONT, signal.SIGTSTP)}
        os.kill(whom, signal.SIGTSTP)
        for number, handler in handlers.items():
            signal.signal(number, handler)
        pipes.send(self.to_keeper, {"suspended": False})
        if self._command is not None and self._status is None:
            self._lend_terminal()

    # -- the end

    def _leave(self, code: int) -> int:
        """Tell the keeper that nothing runs any more, and wait until it has made the lock free."""
        if self._survived:
            return code  # without a word: the keeper must not make the lock free at once
        pipes.send(self.to_keeper, {"done": True})
        until = order.now() + order.RELEASE_SECONDS
        freed = self._inbox.closed
        while not freed and order.now() < until:
            select.select([self._inbox.reader], [], [], max(0.0, until - order.now()))
            self._inbox.take()
            freed = self._inbox.closed
        if not freed and not self.order.quiet:
            note(f"the release of {self.order.name} was not confirmed: it is free when its session has expired")
        self._pass_on_keyboard_signal()
        return code

    def _pass_on_keyboard_signal(self) -> None:
        """Ctrl-C in the terminal reached the command alone. Had it not had the foreground, this process's group, and
        with it the script that called us, would have got it too; so they get it now."""
        if self._lost is None and self._had_terminal and self._status is not None and os.WIFSIGNALED(self._status):
            number = os.WTERMSIG(self._status)
            if number in KEYBOARD and number not in self._passed_on:
                signal.signal(number, signal.SIG_DFL)
                os.kill(0, number)
