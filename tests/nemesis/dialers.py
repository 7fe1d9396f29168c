"""Who dialled? A proxy sees a port of loopback; the kernel knows the process behind it [proc(5): /proc/net/tcp].

So every replica can have one address that is the same for all, and still each pair a link of its own; peers and clients
run unmodified.
"""

from __future__ import annotations

import os
import socket
import struct
from pathlib import Path

_TABLE = Path("/proc/net/tcp")


def available() -> bool:
    """False where the kernel does not tell (anything but Linux)."""
    return _TABLE.exists()


class Dialers:
    """The processes that are known by name, and which of them has the other end of a connection."""

    def __init__(self) -> None:
        self._names: dict[int, str] = {os.getpid(): "nemesis"}

    def add(self, pid: int, name: str) -> None:
        """A process was started; one of the same name before it is over."""
        self._names = {other: known for other, known in self._names.items() if known != name}
        self._names[pid] = name

    def find(self, local: tuple[str, int], remote: tuple[str, int]) -> str | None:
        """The name of the process whose socket has `local` as its own address and is connected to `remote`."""
        inode = _inode(_hex(local), _hex(remote))
        if inode is None:
            return None
        wanted = f"socket:[{inode}]"
        for pid, name in list(self._names.items()):
            if _has_open(pid, wanted):
                return name
        return None


def _hex(address: tuple[str, int]) -> str:
    (number,) = struct.unpack("=I", socket.inet_aton(address[0]))
    return f"{number:08X}:{address[1]:04X}"


def _inode(local: str, remote: str) -> str | None:
    wanted = f" {local} {remote} "
    with _TABLE.open() as table:
        for line in table:
            if wanted in line:
                return line.split()[9]
    return None


def _has_open(pid: int, wanted: str) -> bool:
    directory = f"/proc/{pid}/fd"
    try:
        descriptors = os.listdir(directory)
    except OSError:  # the process has ended
        return False
    for descriptor in descriptors:
        try:
            if os.readlink(f"{directory}/{descriptor}") == wanted:
                return True
        except OSError:  # it was closed just now
            continue
    return False
