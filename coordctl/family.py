"""Who descends from a process, and signals to all of them.

Linux tells through /proc; elsewhere a family is only the process group of the command, and the documentation says so.
A process is named by pid *and* start time, and signalled through a pidfd where there are any: a pid that was given to
somebody else meanwhile is never hit.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

_PR_SET_CHILD_SUBREAPER = 36


@dataclass(frozen=True, slots=True)
class Process:
    """One row of the process table; `started` is in clock ticks since boot."""

    pid: int
    parent: int
    group: int
    started: int
    state: str

    @property
    def gone(self) -> bool:
        """Dead, though its parent has not asked yet."""
        return self.state in "ZX"


def become_subreaper() -> bool:
    """Orphaned descendants become children of this process, not of init: none is ever out of sight."""
    if not sys.platform.startswith("linux"):
        return False
    import ctypes

    return bool(ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0)


def parse_stat(text: str) -> Process:
    """One line of /proc/PID/stat. The name may contain anything, also ')' and spaces, so it is cut off from behind."""
    head, _, tail = text.rpartition(")")
    fields = tail.split()
    return Process(int(head.split("(", 1)[0]), int(fields[1]), int(fields[2]), int(fields[19]), fields[0])


def look_up(pid: int) -> Process | None:
    """The row of one process, None when there is none (or no /proc)."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            return parse_stat(file.read())
    except (OSError, ValueError, IndexError):
        return None  # it ended while we looked


def process_table() -> dict[int, Process]:
    """All processes that can be seen now."""
    try:
        names = os.listdir("/proc")
    except OSError:
        return {}
    rows = (look_up(int(name)) for name in names if name.isdecimal())
    return {row.pid: row for row in rows if row is not None}


def descendants(table: Mapping[int, Process], roots: Iterable[int], without: Collection[int] = ()) -> list[Process]:
    """Everybody below `roots` (not the roots themselves); `without` and what is below them is left out."""
    children: dict[int, list[Process]] = {}
    for row in table.values():
        children.setdefault(row.parent, []).append(row)
    found: list[Process] = []
    queue = list(roots)
    while queue:
        for child in children.get(queue.pop(), ()):
            if child.pid not in without:
                found.append(child)
                queue.append(child.pid)
    return found


def below(root: int, without: Collection[int] = ()) -> list[Process]:
    """As `descendants`, of one process and from the kernel's lists of children: cheap enough to be asked all the time.
    Empty where it keeps none."""
    found: list[Process] = []
    queue = [root]
    while queue:
        for pid in _children(queue.pop()):
            if pid not in without and (row := look_up(pid)) is not None:
                found.append(row)
                queue.append(pid)
    return found


def _children(pid: int) -> list[int]:
    children: list[int] = []
    try:
        for thread in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{thread}/children", encoding="ascii") as file:
                children += map(int, file.read().split())
    except OSError:
        return children  # it ended while we looked, or the kernel keeps no such list
    return children


def group_as_process(group: int) -> list[Process]:
    """Where there is no /proc: the group as one "process" (kill(2) takes -group for all of it), if anybody lives."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return []
    except PermissionError:
        pass  # somebody lives there whom we may not signal
    return [Process(-group, 0, group, 0, "?")]


def carriers(table: Mapping[int, Process], name: str, value: str) -> list[Process]:
    """Everybody who was started with `name=value` in the environment (as far as this user may look)."""
    wanted = f"{name}={value}".encode(errors="surrogateescape")
    found = []
    for row in table.values():
        try:
            with open(f"/proc/{row.pid}/environ", "rb") as file:
                if wanted in file.read().split(b"\0"):
                    found.append(row)
        except OSError:
            continue  # somebody else's, or gone
    return found


def send_signal(process: Process, number: int) -> OSError | None:
    """None when it was sent or the process is gone, else why it could not be sent."""
    try:
        if process.pid < 0 or not hasattr(os, "pidfd_open"):
            os.kill(process.pid, number)
            return None
        descriptor = os.pidfd_open(process.pid)
        try:
            now = look_up(process.pid)
            if now is not None and now.started == process.started:
                signal.pidfd_send_signal(descriptor, number)
        finally:
            os.close(descriptor)
    except ProcessLookupError:
        return None
    except OSError as error:
        return error
    return None


def signal_group(group: int, number: int) -> None:
    """To a whole process group, if it still exists and may be signalled."""
    try:
        os.killpg(group, number)
    except (ProcessLookupError, PermissionError):
        return  # nobody is left, or only members that are reported one by one
