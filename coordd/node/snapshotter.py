"""Own snapshots without stalling the loop: a forked child serialises and writes, the parent publishes.

The child is a frozen copy of the moment of the fork, so the snapshot is of one slot exactly. It closes every descriptor
but standard error (listeners, channels and the directory's lock stay the parent's alone), forgets the parent's signal
handlers, dies with the parent, writes to a temporary name only, and leaves by `_exit`. Whatever happens to it, the log
is whole.
`InlineSnapshotter` does the same work in the loop, for a cell inside somebody else's process, which must not be forked.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import os
import resource
import signal
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from coordd.engine.inputs import SnapshotFailed, SnapshotTaken
from coordd.paxos.membership import Membership
from coordd.storage.errors import DiskFailedError, DiskFullError

CHILD_SECONDS_MAX = 600
_PR_SET_PDEATHSIG = 1
_EXIT_OK, _EXIT_FAILED, _EXIT_DISK_FAILED, _EXIT_DISK_FULL = 0, 1, 5, 28

Outcome = SnapshotTaken | SnapshotFailed


class SnapshotStore(Protocol):
    """What is asked of the storage."""

    def write_snapshot_temp(self, slot: int, membership: Membership, state: bytes) -> int:
        """Write and sync under a temporary name; the size of the file."""
        ...

    def publish_snapshot(self, slot: int) -> int | None:
        """Give the temporary file its name, durably; the size of the file, or None when a newer one came in."""
        ...

    def discard_snapshot_temp(self, slot: int) -> None:
        """Remove what a failed attempt has left."""
        ...


class Snapshotter(Protocol):
    """One snapshot at a time: `begin`, then `poll` until it says what became of it."""

    @property
    def busy(self) -> bool:
        """True from `begin` until `poll` has given the outcome."""
        ...

    def begin(self, slot: int, membership: Membership, state: Callable[[], bytes]) -> None:
        """Start; `state` gives the bytes of this very moment."""
        ...

    def poll(self) -> Outcome | None:
        """The outcome, once, when there is one. Never blocks. Raises DiskFailedError: the replica stops, as it would
        had it written by itself."""
        ...

    def abandon(self) -> None:
        """Give up what is under way."""
        ...


class InlineSnapshotter:
    """Writes in the caller's turn."""

    def __init__(self, store: SnapshotStore) -> None:
        self._store = store
        self._outcome: Outcome | None = None

    @property
    def busy(self) -> bool:
        """See `Snapshotter`."""
        return self._outcome is not None

    def begin(self, slot: int, membership: Membership, state: Callable[[], bytes]) -> None:
        """See `Snapshotter`."""
        assert self._outcome is None
        self._store.write_snapshot_temp(slot, membership, state())
        self._outcome = _published(self._store, slot)

    def poll(self) -> Outcome | None:
        """See `Snapshotter`."""
        outcome, self._outcome = self._outcome, None
        return outcome

    def abandon(self) -> None:
        """See `Snapshotter`."""
        self._outcome = None


@dataclass(frozen=True, slots=True)
class _Child:
    slot: int
    pid: int
    deadline: float


class ForkingSnapshotter:
    """Writes in a child process; see the module docstring."""

    def __init__(self, store: SnapshotStore) -> None:
        self._store = store
        self._child: _Child | None = None
        # Loaded before any fork: after one, in the child, nothing should have to be imported or looked up.
        self._prctl = getattr(ctypes.CDLL(None, use_errno=True), "prctl", None)

    @property
    def busy(self) -> bool:
        """See `Snapshotter`."""
        return self._child is not None

    def begin(self, slot: int, membership: Membership, state: Callable[[], bytes]) -> None:
        """See `Snapshotter`."""
        assert self._child is None
        parent = os.getpid()
        pid = os.fork()
        if pid == 0:
            self._run_child(parent, slot, membership, state)
        self._child = _Child(slot, pid, time.monotonic() + CHILD_SECONDS_MAX)

    def _run_child(self, parent: int, slot: int, membership: Membership, state: Callable[[], bytes]) -> None:
        """Never returns: whatever happens here, the parent's code must not run twice."""
        status = _EXIT_FAILED
        try:
            gc.disable()  # it would touch, and so copy, every page that is shared with the parent
            _reset_signals()
            if self._prctl is not None:
                self._prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
            if os.getppid() == parent:
                _close_descriptors()
                self._store.write_snapshot_temp(slot, membership, state())
                status = _EXIT_OK
        except DiskFullError:
            status = _EXIT_DISK_FULL
        except DiskFailedError as error:  # no bug, so it is told without a traceback
            status = _EXIT_DISK_FAILED
            with contextlib.suppress(OSError):
                os.write(2, f"snapshot {slot}: {error}\n".encode())
        except BaseException:
            with contextlib.suppress(OSError):
                os.write(2, traceback.format_exc().encode())
        finally:
            os._exit(status)

    def poll(self) -> Outcome | None:
        """See `Snapshotter`."""
        child = self._child
        if child is None:
            return None
        pid, status = os.waitpid(child.pid, os.WNOHANG)
        if pid == 0:
            if time.monotonic() > child.deadline:
                os.kill(child.pid, signal.SIGKILL)  # the next poll sees its end
            return None
        self._child = None
        code = os.waitstatus_to_exitcode(status)
        if code == _EXIT_OK:
            return _published(self._store, child.slot)
        self._store.discard_snapshot_temp(child.slot)
        if code == _EXIT_DISK_FAILED:
            raise DiskFailedError(
                f"the disk failed under snapshot {child.slot}; the line before says how, and what to do"
            )
        reason = "disk full" if code == _EXIT_DISK_FULL else f"the writing child ended with {code}"
        return SnapshotFailed(child.slot, reason)

    def abandon(self) -> None:
        """See `Snapshotter`."""
        if self._child is not None:
            os.kill(self._child.pid, signal.SIGKILL)
            os.waitpid(self._child.pid, 0)
            self._store.discard_snapshot_temp(self._child.slot)
            self._child = None


def _published(store: SnapshotStore, slot: int) -> Outcome:
    try:
        size = store.publish_snapshot(slot)
    except DiskFullError:  # a name needs room too, in some file systems
        store.discard_snapshot_temp(slot)
        return SnapshotFailed(slot, "disk full")
    return SnapshotFailed(slot, "a newer one came in from a peer") if size is None else SnapshotTaken(slot, size)


def _reset_signals() -> None:
    signal.set_wakeup_fd(-1)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD):
        signal.signal(number, signal.SIG_DFL)


def _close_descriptors() -> None:
    null = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1):  # not closed: the snapshot's file must never be the one that a stray print writes to
        os.dup2(null, descriptor)
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    os.closerange(3, soft if soft != resource.RLIM_INFINITY else 1_048_576)
