"""A small file system for one replica, in a mount namespace of the nemesis's own: the machine never sees the mount.

It goes away with the last process of the namespace, however that ends. Where the user is not root, a user namespace is
tried. Call `own_namespace` before any thread is started.
"""

from __future__ import annotations

import ctypes
import os
import sys
from pathlib import Path

_CLONE_NEWNS, _CLONE_NEWUSER = 0x00020000, 0x10000000
_MS_REC, _MS_PRIVATE = 0x4000, 0x40000


def own_namespace() -> str:
    """Leave the machine's mount namespace; "" when done, else why it cannot be."""
    if not sys.platform.startswith("linux"):
        return "needs Linux (mount namespaces)"
    libc = ctypes.CDLL(None, use_errno=True)
    user, group = os.geteuid(), os.getegid()
    if libc.unshare(_CLONE_NEWNS | (_CLONE_NEWUSER if user else 0)) != 0:
        return f"needs root or user namespaces (unshare: {os.strerror(ctypes.get_errno())})"
    try:
        if user:
            Path("/proc/self/setgroups").write_text("deny")
            Path("/proc/self/uid_map").write_text(f"0 {user} 1")
            Path("/proc/self/gid_map").write_text(f"0 {group} 1")
    except OSError as error:
        return f"needs root or user namespaces ({error})"
    if libc.mount(b"none", b"/", None, _MS_REC | _MS_PRIVATE, None) != 0:
        return f"the mount namespace cannot be made private: {os.strerror(ctypes.get_errno())}"
    return ""


def mount_small(directory: Path, size_bytes: int) -> str:
    """A tmpfs of that size at `directory`; "" when done, else why it cannot be."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    libc = ctypes.CDLL(None, use_errno=True)
    options = f"size={size_bytes},mode=700".encode()
    if libc.mount(b"tmpfs", os.fsencode(directory), b"tmpfs", 0, options) != 0:
        return f"a tmpfs cannot be mounted: {os.strerror(ctypes.get_errno())}"
    return ""


class Filler:
    """The file that takes all the room of a small file system."""

    def __init__(self, directory: Path) -> None:
        self._path = directory / "filler"

    def fill(self) -> int:
        """Take every free byte; how many there were."""
        taken = 0
        with self._path.open("wb", buffering=0) as file:
            for piece in (1 << 20, 1 << 12):
                try:
                    while True:
                        os.posix_fallocate(file.fileno(), taken, piece)
                        taken += piece
                except OSError:
                    continue  # no room for a piece of this size
        return taken

    def give_back(self) -> None:
        """There is room again."""
        self._path.unlink(missing_ok=True)
