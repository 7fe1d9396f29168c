"""What the settings are: frozen models, one per section of the file, with types, bounds and defaults.

Pure data: where the values come from, and whether they fit together, is the business of coordd.config.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, Strict, StringConstraints

from coordclient.protocol.addresses import parse_address

REPLICA_ID_MAX = 255
MEMBERS_MAX = 14  # 7 voters and as many learners
VOTERS_MAX = 7
SECRET_BYTES_MIN = 16
SECRET_BYTES_MAX = 4096
PORT_DEFAULT = 7420


CellName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9-]{0,31}$")]
ReplicaId = Annotated[int, Field(ge=1, le=REPLICA_ID_MAX)]
Port = Annotated[int, Field(ge=1, le=65535)]
Address = Annotated[str, AfterValidator(parse_address)]
File = Annotated[Path, Strict(False)]


def _number(default: int, low: int, high: int, unit: str) -> Any:
    return Field(default=default, ge=low, le=high, description=unit)


class Section(BaseModel):
    """One table of the file. Values keep their type: "7420" is no port, true is no number."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Member(Section):
    """One replica of the cell; `address` is the one that peers and clients dial."""

    replica: ReplicaId
    address: Address


class Cell(Section):
    """What every replica of the cell must have alike."""

    name: CellName
    member: Annotated[tuple[Member, ...], Strict(False), Field(min_length=1, max_length=MEMBERS_MAX)]
    secret_file: File | None = None
    lease_ms: int = _number(1_500, 300, 30_000, "milliseconds")
    heartbeat_ms: int = _number(300, 50, 10_000, "milliseconds")
    election_jitter_ms: int = _number(200, 10, 10_000, "milliseconds")
    drift_ppm: int = _number(10_000, 100, 200_000, "parts per million")


class Replica(Section):
    """Which replica this is, where its data are and where it listens."""

    id: ReplicaId
    data: File
    join: bool = False
    host: Annotated[str, StringConstraints(min_length=1, max_length=255)] = "127.0.0.1"
    port: Port = PORT_DEFAULT


class Limits(Section):
    """Each is refused by name when reached; none makes the daemon fall over."""

    inbox: int = _number(20_000, 16, 1_000_000, "calls queued at this replica")
    window: int = _number(8, 1, 64, "slots in flight")
    connections: int = _number(25_000, 8, 1_000_000, "connections")
    channel_calls: int = _number(4_096, 16, 1_000_000, "unanswered calls of one channel")
    watches: int = _number(100_000, 1, 1_000_000, "watches of this replica, while it is master")
    channel_watches: int = _number(10_000, 1, 1_000_000, "watches of one channel")
    post_calls: int = _number(10_000, 16, 1_000_000, "unanswered POST requests")
    body_bytes: int = _number(524_288, 524_288, 16_777_216, "bytes")
    outbox_bytes: int = _number(4_194_304, 1_048_576, 268_435_456, "bytes")
    peer_outbox_bytes: int = _number(67_108_864, 2_097_152, 1_073_741_824, "bytes")


class Log(Section):
    """The log on disk. It is always synced: there is no switch."""

    segment_bytes: int = _number(67_108_864, 1_048_576, 1_073_741_824, "bytes")
    snapshot_after_bytes: int = _number(134_217_728, 1_048_576, 17_179_869_184, "bytes")


class Http(Section):
    """How long the doors wait."""

    body_timeout_ms: int = _number(10_000, 100, 600_000, "milliseconds")
    call_timeout_ms: int = _number(10_000, 100, 600_000, "milliseconds")
    idle_timeout_ms: int = _number(75_000, 1_000, 3_600_000, "milliseconds")
    stop_timeout_ms: int = _number(5_000, 100, 600_000, "milliseconds")


class Observe(Section):
    """What is logged, and how."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["auto", "console", "json"] = "auto"


class Settings(Section):
    """Everything that one replica needs to know before it starts."""

    cell: Cell
    replica: Replica
    limits: Limits = Limits()
    log: Log = Log()
    http: Http = Http()
    observe: Observe = Observe()

    @property
    def voters(self) -> tuple[int, ...]:
        """The replica ids of all members, sorted."""
        return tuple(sorted(member.replica for member in self.cell.member))

    @property
    def addresses(self) -> dict[int, str]:
        """Replica id -> `http://host:port` of every member, this one included."""
        return {member.replica: member.address for member in self.cell.member}

    def secret(self) -> bytes:
        """The cell's secret; a cell of one replica may have none (then empty: no peer is let in)."""
        return b"" if self.cell.secret_file is None else read_secret(self.cell.secret_file)


SECTIONS: Mapping[str, type[Section]] = {
    "cell": Cell,
    "replica": Replica,
    "limits": Limits,
    "log": Log,
    "http": Http,
    "observe": Observe,
}


def read_secret(path: Path) -> bytes:
    """The secret without the white space around it; ValueError says what is wrong with the file."""
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            secret = file.read(SECRET_BYTES_MAX + 1).strip()
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}") from None
    if mode & 0o007:
        raise ValueError(f"{path} is open to every user of this machine; chmod 0400 {path}")
    if not SECRET_BYTES_MIN <= len(secret) <= SECRET_BYTES_MAX:
        raise ValueError(f"{path} must hold {SECRET_BYTES_MIN} to {SECRET_BYTES_MAX} bytes; `openssl rand -hex 32`")
    return secret
