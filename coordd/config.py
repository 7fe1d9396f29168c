"""Settings of one replica: TOML file < environment (`COORDD_SECTION__KEY`) < flags.

`load_settings` either returns frozen `Settings` in which everything fits together, or raises `ConfigError` with every
error found: each names where the value came from, the key, and what to do. An unknown key is an error, so is an unknown
`COORDD_<SECTION>__<KEY>`; any other `COORDD_*` variable is not read (Kubernetes injects some of its own).
conf/coordd.toml explains every key; a test compares its defaults with the ones of coordd.settings.
"""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from pydantic import ValidationError

from coordd.settings import SECTIONS, VOTERS_MAX, Cell, Log, Member, Replica, Section, Settings, read_secret

__all__ = ["FLAGS", "ConfigError", "Flag", "Settings", "cautions", "load_settings"]

ENVIRONMENT_PREFIX = "COORDD_"
_IN_WORDS = {  # where pydantic speaks of its own matters; the only pattern is that of a cell's name
    "path_type": "write a path, as text",
    "string_pattern_mismatch": "write 1 to 32 lower-case letters, digits and '-', the first no '-'",
}


class ConfigError(Exception):
    """The settings cannot be used. `errors`: every reason, one line each."""

    def __init__(self, errors: Sequence[str]) -> None:
        super().__init__("\n".join(errors))
        self.errors = tuple(errors)


@dataclass(frozen=True, slots=True)
class Flag:
    """One command-line flag that gives the setting `key`."""

    name: str
    key: str
    help: str


FLAGS = (
    Flag("--cell", "cell.name", "name of the cell"),
    Flag("--member", "cell.member", "the members: 1=http://host:port,2=http://host:port"),
    Flag("--secret-file", "cell.secret_file", "file with the cell's secret"),
    Flag("--replica", "replica.id", "which member this replica is"),
    Flag("--data", "replica.data", "data directory"),
    Flag("--join", "replica.join", "true: wait to be added to a cell that exists"),
    Flag("--host", "replica.host", "address to listen on"),
    Flag("--port", "replica.port", "port to listen on"),
    Flag("--log-level", "observe.level", "debug, info, warning or error"),
    Flag("--log-format", "observe.format", "auto, console or json"),
)


def load_settings(
    config_file: Path | None, environ: Mapping[str, str], flags: Mapping[str, object] | None = None
) -> Settings:
    """The settings from all three sources; `flags` maps dotted keys ("replica.id") to values, None means not given.

    A text from a flag is read like one from the environment; other values are taken as they are.
    """
    values = _Values()
    if config_file is not None:
        values.add_file(config_file)
    values.add_environment(environ)
    values.add_flags(flags or {})
    sections = values.validated()
    values.errors += _cross_errors(sections, values)
    if values.errors:
        raise ConfigError(values.errors)
    return Settings.model_validate(sections)


def cautions(settings: Settings) -> list[str]:
    """What is allowed and seldom meant, one line each; for the log at start and for --check-config."""
    members, found = settings.cell.member, []
    if len(members) % 2 == 0 and not settings.replica.join:
        count = len(members)
        found.append(f"cell.member: {count} members tolerate the loss of {(count - 1) // 2}, as {count - 1} would")
    own = settings.addresses[settings.replica.id]
    told = urlsplit(own).port
    if told != settings.replica.port:
        found.append(
            f"replica.port = {settings.replica.port}: the others and the clients are told {own};"
            f" set port = {told} unless something here forwards to it"
        )
    if len(members) > 1 and _is_loopback(settings.replica.host) and not _is_loopback(urlsplit(own).hostname or ""):
        found.append(
            f"replica.host = {settings.replica.host}: only this machine reaches it, but the others are told {own};"
            ' set host = "0.0.0.0" (or that address) unless something here forwards to it'
        )
    return found


def _is_loopback(host: str) -> bool:
    return host == "localhost" or host == "::1" or host.startswith("127.")


class _Values:
    """What the sources say, which source said it, and what is wrong with it."""

    def __init__(self) -> None:
        self.tables: dict[str, dict[str, object]] = {name: {} for name in SECTIONS}
        self.origins: dict[str, str] = {}
        self.errors: list[str] = []
        self.file: Path | None = None

    def add_file(self, path: Path) -> None:
        self.file = path
        try:
            document = tomllib.loads(path.read_bytes().decode())
        except OSError as error:
            self.errors.append(f"{path}: cannot be read: {error.strerror}; give the path of a readable file")
        except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            self.errors.append(f"{path}: not TOML: {error}; nothing of the file was read")
        else:
            for name, table in document.items():
                self._add_table(name, table)

    def _add_table(self, name: str, table: object) -> None:
        if name not in SECTIONS:
            self.errors.append(f"{self.file}: {name}: unknown section{_similar(name, SECTIONS)}")
        elif not isinstance(table, dict):
            self.errors.append(f"{self.file}: {name}: must be a section: write [{name}] and its keys below")
        else:
            for key, value in table.items():
                self._set(f"{name}.{key}", value, f"{self.file}: {name}.{key}")

    def add_environment(self, environ: Mapping[str, str]) -> None:
        known = {_variable(section, key): f"{section}.{key}" for section, key in _keys()}
        for variable in sorted(environ):
            if variable in known:
                self._set_text(known[variable], environ[variable], f"environment {variable}")
            elif re.match(rf"{ENVIRONMENT_PREFIX}.+?__", variable, re.IGNORECASE):
                self.errors.append(f"environment {variable}: names no setting{_similar(variable, known)}")

    def add_flags(self, flags: Mapping[str, object]) -> None:
        names = {flag.key: flag.name for flag in FLAGS}
        for key, value in flags.items():
            origin = f"flag {names.get(key, key)}"
            assert tuple(key.split(".")) in _keys(), f"{origin} names no setting"
            if isinstance(value, str):
                self._set_text(key, value, origin)
            elif value is not None:
                self._set(key, value, origin)

    def _set(self, key: str, value: object, origin: str) -> None:
        section, _, name = key.partition(".")
        self.tables[section][name] = value
        self.origins[key] = origin

    def _set_text(self, key: str, text: str, origin: str) -> None:
        section, _, name = key.partition(".")
        annotation = SECTIONS[section].model_fields[name].annotation
        if key == "cell.member":
            self._set(key, _members(text), origin)
        elif annotation is bool and text.strip() in ("true", "false"):
            self._set(key, text.strip() == "true", origin)
        elif annotation is int and re.fullmatch(r"[+-]?[0-9]{1,18}", text.strip()):
            self._set(key, int(text), origin)
        else:
            self._set(key, text, origin)  # a number that is none is refused by the model, with the others

    def origin(self, key: str) -> str:
        """Where the value of `key` came from; for one that nobody gave, where it can be given."""
        where = self.origins.get(key)
        return where or (f"{self.file}: {key}" if self.file else key)

    def validated(self) -> dict[str, Section]:
        """The sections that are well formed each by itself; the errors of the others are noted."""
        sections: dict[str, Section] = {}
        for name, model in SECTIONS.items():
            try:
                sections[name] = model.model_validate(self.tables[name])
            except ValidationError as error:
                details = [
                    dict(detail) for detail in error.errors() if detail["type"] != "too_short" or not detail["input"]
                ]
                self.errors += [self._describe(name, model, detail) for detail in details]
        return sections

    def _describe(self, section: str, model: type[Section], detail: dict[str, Any]) -> str:
        key, *inner = (str(part) for part in detail["loc"])
        where = self.origin(f"{section}.{key}") + "".join(f"[{part}]" for part in inner)
        if detail["type"] == "extra_forbidden":
            fields = Member.model_fields if inner else model.model_fields
            return f"{where}: unknown key{_similar(inner[-1] if inner else key, fields)}"
        if detail["type"] == "missing":
            return f"{where}: missing; {_how_to_give(section, key, inner)}"
        given = repr(detail["input"])
        message = _IN_WORDS.get(detail["type"]) or detail["msg"].removeprefix("Value error, ")
        return f"{where} = {given if len(given) <= 80 else given[:77] + '...'}: {message}{_allowed(model, key)}"


def _keys() -> list[tuple[str, ...]]:
    return [(section, key) for section, model in SECTIONS.items() for key in model.model_fields]


def _variable(section: str, key: str) -> str:
    return f"{ENVIRONMENT_PREFIX}{section.upper()}__{key.upper()}"


def _members(text: str) -> object:
    """`1=http://a:7420,2=http://b:7420` as the tables of the file would have it; the model refuses the rest."""
    members: list[object] = []
    for part in text.split(","):
        replica, _, address = part.strip().partition("=")
        members.append({"replica": int(replica) if replica.isdecimal() else replica, "address": address})
    return members


def _similar(name: str, known: Mapping[str, object]) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean {close[0]}?" if close else f"; known are {', '.join(known)}" if len(known) < 20 else ""


def _how_to_give(section: str, key: str, inner: Sequence[str]) -> str:
    if inner:
        return "every [[cell.member]] has a replica and an address"
    if (section, key) == ("cell", "member"):
        return 'name the members: [[cell.member]] with replica = 1 and address = "http://host:7420"'
    return f"set {key} in [{section}], or {_variable(section, key)}"


def _allowed(model: type[Section], key: str) -> str:
    field = model.model_fields[key]
    bounds = {name: getattr(item, name) for item in field.metadata for name in ("ge", "le") if hasattr(item, name)}
    if len(bounds) != 2:
        return ""
    return f"; give a whole number from {bounds['ge']} to {bounds['le']}" + (
        f" ({field.description})" if field.description else ""
    )


def _cross_errors(sections: Mapping[str, Section], values: _Values) -> list[str]:
    """What is wrong between settings that are each well formed."""
    cell, replica, log = sections.get("cell"), sections.get("replica"), sections.get("log")
    errors: list[str] = []
    if isinstance(cell, Cell):
        errors += _cell_errors(cell, values)
        if isinstance(replica, Replica):
            errors += _first_members_errors(cell, replica, values)
        if isinstance(replica, Replica) and replica.id not in {member.replica for member in cell.member}:
            ids = ", ".join(str(member.replica) for member in cell.member)
            errors.append(f"{values.origin('replica.id')} = {replica.id}: is no member; the members are {ids}")
    if isinstance(log, Log) and log.snapshot_after_bytes < log.segment_bytes:
        errors.append(
            f"{values.origin('log.snapshot_after_bytes')} = {log.snapshot_after_bytes}: is less than one segment;"
            f" give at least log.segment_bytes ({log.segment_bytes})"
        )
    return errors


def _first_members_errors(cell: Cell, replica: Replica, values: _Values) -> list[str]:
    others = [member for member in cell.member if member.replica != replica.id]
    if replica.join and not others:
        return [
            f"{values.origin('replica.join')}: names nobody to learn from; add the members of the cell to cell.member"
        ]
    if len(others) + (not replica.join) > VOTERS_MAX:
        most = f"at most {VOTERS_MAX}" + (" besides this one, of those that are members now" if replica.join else "")
        return [f"{values.origin('cell.member')}: a cell has {most}; remove some"]
    return []


def _cell_errors(cell: Cell, values: _Values) -> list[str]:
    errors: list[str] = []
    where = values.origin("cell.member")
    for name in ("replica", "address"):
        seen = [getattr(member, name) for member in cell.member]
        twice = sorted({item for item in seen if seen.count(item) > 1})
        errors += [f"{where}: {name} {item} stands there twice; each member has its own" for item in twice]
    if cell.heartbeat_ms * 3 > cell.lease_ms:
        errors.append(
            f"{values.origin('cell.heartbeat_ms')} = {cell.heartbeat_ms}: a lease must outlive two lost heartbeats;"
            f" give at most a third of cell.lease_ms ({cell.lease_ms})"
        )
    if cell.secret_file is not None:
        try:
            read_secret(cell.secret_file)
        except ValueError as error:
            errors.append(f"{values.origin('cell.secret_file')}: {error}")
    elif len(cell.member) > 1:
        errors.append(
            f"{values.origin('cell.secret_file')}: missing; replicas of a cell know each other by a common secret:"
            " make one with `openssl rand -hex 32`, the same file on every replica, readable by its user only"
        )
    return errors
