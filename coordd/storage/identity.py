"""Whose directory this is: the file `identity`, a few lines for people and programs.

    coordd data directory, format 2
    cell demo
    replica 2
    mark 1305a40c
    membership 1 voters 1,2,3 learners - lease_ms 1500
    crc 89abcdef

`mark` is drawn when the directory is made: see `coordd.paxos.starts`; format 1 has none. `membership` is the one that
the cell began with; a snapshot's, being later, takes its place. `crc` is the CRC-32 of the lines above it. The file is
written last when a directory is made, so a directory with it is whole.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from zlib import crc32

from coordd.paxos.membership import Membership
from coordd.storage.checked import CheckedDisk
from coordd.storage.errors import DamagedError, UnknownFormatError, WrongDirectoryError

IDENTITY_NAME = "identity"
_FIRST = re.compile(rb"coordd data directory, format ([0-9]+)\n")
_LINES = re.compile(
    r"coordd data directory, format (?P<format>[12])\n"
    r"cell (?P<cell>[a-z0-9][a-z0-9-]{0,31})\n"
    r"replica (?P<replica>[0-9]{1,3})\n"
    r"(?:mark (?P<mark>[0-7][0-9a-f]{7})\n)?"
    r"membership (?P<version>[0-9]+) voters (?P<voters>[0-9,]+) learners (?P<learners>-|[0-9,]+)"
    r" lease_ms (?P<lease>[0-9]+)\n"
)
_CRC_LINE_BYTES = len("crc 01234567\n")


@dataclass(frozen=True, slots=True)
class Identity:
    """Cell, replica, the membership that the cell began with, and the mark of the directory (0: it has none)."""

    cell: str
    replica: int
    membership: Membership
    mark: int

    def encode(self) -> bytes:
        """The bytes of the file."""
        m = self.membership
        text = (
            f"coordd data directory, format 2\ncell {self.cell}\nreplica {self.replica}\nmark {self.mark:08x}\n"
            f"membership {m.version} voters {_join(m.voters)} learners {_join(m.learners) or '-'} "
            f"lease_ms {m.lease_ms}\n"
        )
        return text.encode() + b"crc %08x\n" % crc32(text.encode())


def decode_identity(data: bytes, path: str) -> Identity:
    """The inverse of `Identity.encode`; refuses anything else."""
    lines, crc_line = data[:-_CRC_LINE_BYTES], data[-_CRC_LINE_BYTES:]
    if crc_line != b"crc %08x\n" % crc32(lines):
        raise DamagedError(path, 0, "its checksum is not right")
    first = _FIRST.match(lines)
    if first is not None and first[1] not in (b"1", b"2"):
        raise UnknownFormatError(path, 0, f"a data directory of format {first[1].decode()}")
    match = _LINES.fullmatch(lines.decode("ascii", "replace"))
    if match is None or (match["format"] == "2") != (match["mark"] is not None):
        raise DamagedError(path, 0, "it has other lines than an identity has")
    try:
        membership = Membership(
            int(match["version"]), _split(match["voters"]), _split(match["learners"]), int(match["lease"])
        )
    except (AssertionError, ValueError) as error:
        raise DamagedError(path, 0, f"it names an impossible membership: {error}") from None
    return Identity(match["cell"], int(match["replica"]), membership, int(match["mark"] or "0", 16))


def read_identity(disk: CheckedDisk, directory: str, cell: str, replica: int) -> Identity:
    """The identity of `directory`, which must be that of `replica` of `cell`."""
    path = f"{directory}/{IDENTITY_NAME}"
    identity = decode_identity(disk.read_whole(path), path)
    if (identity.cell, identity.replica) != (cell, replica):
        raise WrongDirectoryError(
            f"{path}: the directory belongs to replica {identity.replica} of cell {identity.cell!r}, the configuration "
            f"says replica {replica} of cell {cell!r}. Way out: correct the configuration or the mount"
        )
    return identity


def write_identity(disk: CheckedDisk, directory: str, identity: Identity) -> None:
    """Make the file, durably; the directory is a data directory from then on."""
    path = f"{directory}/{IDENTITY_NAME}"
    file = disk.create(path + ".tmp")
    try:
        file.write(identity.encode(), 0)
        file.sync()
    finally:
        file.close()
    disk.rename(path + ".tmp", path)
    disk.sync_directory(directory)


def _join(replicas: tuple[int, ...]) -> str:
    return ",".join(str(replica) for replica in replicas)


def _split(text: str) -> tuple[int, ...]:
    return () if text == "-" else tuple(int(part) for part in text.split(","))
