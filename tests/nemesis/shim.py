"""The library that is preloaded into a daemon: makes its syncs slow or fail, and moves its wall clock, while it runs.

`build` compiles shim.c; `Shim` is the memory that one replica's process shares with the nemesis. It outlives the
process: the next start of that replica finds the same orders.
"""

from __future__ import annotations

import mmap
import shutil
import struct
import subprocess
from pathlib import Path

SOURCE = Path(__file__).with_name("shim.c")
_FIELDS = ("sync_delay_us", "sync_fails", "wall_offset_s", "syncs", "syncs_delayed", "syncs_failed", "wall_reads_moved")
_BYTES = 8 * len(_FIELDS)


def build(directory: Path) -> tuple[Path | None, str]:
    """The compiled library, or None and why there is none."""
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        return None, "needs gcc (apt-get install gcc)"
    library = directory / "shim.so"
    done = subprocess.run(
        [compiler, "-shared", "-fPIC", "-O2", "-Wall", "-o", str(library), str(SOURCE)],
        capture_output=True,
        text=True,
        check=False,
    )
    return (library, "") if done.returncode == 0 else (None, f"the shim does not compile: {done.stderr.strip()[:200]}")


class Shim:
    """Orders to, and counts from, the daemon of one replica."""

    def __init__(self, path: Path) -> None:
        self._path = path
        path.write_bytes(bytes(_BYTES))
        with path.open("r+b") as file:
            self._memory = mmap.mmap(file.fileno(), _BYTES)

    def environment(self, library: Path) -> dict[str, str]:
        """What the daemon is started with."""
        return {"LD_PRELOAD": str(library), "NEMESIS_SHIM": str(self._path)}

    def _get(self, name: str) -> int:
        return int(struct.unpack_from("=q", self._memory, 8 * _FIELDS.index(name))[0])

    def _set(self, name: str, value: int) -> None:
        struct.pack_into("=q", self._memory, 8 * _FIELDS.index(name), value)

    def delay_syncs(self, seconds: float) -> None:
        """Every sync takes so much longer from now on; 0: no longer."""
        self._set("sync_delay_us", round(seconds * 1e6))

    def fail_syncs(self, fail: bool) -> None:
        """Every sync fails with EIO from now on, or does no more."""
        self._set("sync_fails", int(fail))

    def move_wall_clock(self, seconds: int) -> None:
        """The wall clock of the daemon is so far from the machine's from now on."""
        self._set("wall_offset_s", seconds)

    @property
    def counts(self) -> dict[str, int]:
        """What was really done so far: syncs, and those delayed and failed; wall clock reads that were moved."""
        return {name: self._get(name) for name in _FIELDS[3:]}
