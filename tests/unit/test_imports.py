"""Who may import whom: the table of the house, as data, against every import statement of every module."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SOURCES = {"coordd": ROOT, "coordctl": ROOT, "coordclient": ROOT / "clients" / "python"}

# What would make a pure module depend on when, where or by whom it is run.
IMPURE = frozenset(
    "asyncio concurrent datetime fcntl getpass io locale logging multiprocessing os pathlib platform random secrets "
    "select shutil signal socket socketserver ssl subprocess sys tempfile threading time uuid warnings zoneinfo".split()
)


@dataclass(frozen=True)
class Rule:
    """`may`: prefixes of own modules and names of foreign packages; `pure`: nothing else of IMPURE."""

    package: str
    may: frozenset[str]
    pure: bool = False


def rule(package: str, may: str = "", pure: bool = False) -> Rule:
    return Rule(package, frozenset(may.split()), pure)


# The pure rules of the client know each other and the errors that they raise.
CLIENT_RULES = (
    "coordclient.protocol coordclient.errors "
    "coordclient.session coordclient.endpoints coordclient.calls coordclient.holds coordclient.cached "
    "coordclient.values coordclient.changes coordclient.watching coordclient.opens"
)

PURE_CLIENT = "session endpoints calls holds cached values changes watching opens"

# The longest matching package decides. A package may always import itself.
RULES = (
    # the client
    rule("coordclient", "aiohttp msgpack"),
    *(rule(f"coordclient.{name}", CLIENT_RULES, pure=True) for name in PURE_CLIENT.split()),
    rule("coordclient.errors", "coordclient.protocol", pure=True),
    rule("coordclient.sequencer", "coordclient.protocol coordclient.errors", pure=True),
    rule("coordclient.fence", "coordclient.protocol coordclient.errors coordclient.sequencer threading", pure=True),
    rule("coordclient.fence_sql", "coordclient sqlalchemy"),  # the caller's, where there is one
    rule("coordclient.protocol", "msgpack", pure=True),
    rule("coordclient.protocol.codec", "coordclient.protocol msgpack msgspec", pure=True),
    # the pure core
    rule("coordd.paxos", pure=True),
    rule("coordd.machine", "coordclient.protocol msgpack", pure=True),
    rule("coordd.engine", "coordd.paxos coordd.machine coordclient.protocol", pure=True),
    # what touches the world
    rule("coordd.exits"),
    rule("coordd.notify", "structlog"),
    rule("coordd.settings", "pydantic coordclient.protocol.addresses"),
    rule("coordd.config", "coordd.settings pydantic"),
    rule("coordd.observe", "structlog prometheus_client"),
    rule("coordd.storage", "coordd.paxos coordclient.protocol coordd.config coordd.settings coordd.observe structlog"),
    rule(
        "coordd.transport",
        "coordd.paxos coordclient.protocol coordd.config coordd.settings coordd.observe structlog aiohttp",
    ),
    rule(
        "coordd.node",
        "coordd.engine coordd.paxos coordd.machine coordd.storage coordd.transport coordclient.protocol "
        "coordd.config coordd.settings coordd.observe coordd.exits structlog uvloop",
    ),
    rule(
        "coordd.api",
        "coordd.node.service coordd.engine.inputs coordclient.protocol coordd.config coordd.settings coordd.observe "
        "structlog aiohttp pydantic",
    ),
    rule("coordd.offline", "coordd.paxos coordd.machine coordd.storage coordclient.protocol"),
    rule("coordd.daemon", "coordd coordclient.protocol aiohttp structlog uvloop"),
    rule("coordd.dev", "coordd.config coordd.settings coordd.observe coordd.exits"),
    rule("coordd.__main__", "coordd.daemon coordd.dev coordd.config coordd.settings coordd.observe coordd.exits"),
    rule("coordd.testing", "coordd coordclient pytest pytest_asyncio aiohttp"),
    rule("coordd", "-nothing-"),
    rule("coordctl", "coordclient coordd.offline click"),
)
# Modules that others must leave alone, whatever their own rule says, and who may import them.
RESERVED = {
    "coordd.daemon": ("coordd.__main__", "coordd.testing"),
    "coordd.testing": ("coordd.testing",),
    "coordd.__main__": (),
}


def below(module: str, package: str) -> bool:
    return module == package or module.startswith(package + ".")


def rule_of(module: str) -> Rule:
    return max((item for item in RULES if below(module, item.package)), key=lambda item: len(item.package))


def modules() -> Iterator[tuple[str, Path]]:
    for package, top in SOURCES.items():
        for path in sorted((top / package).rglob("*.py")):
            name = ".".join(path.relative_to(top).with_suffix("").parts)
            yield name.removesuffix(".__init__"), path


def imported(tree: ast.Module, module: str, is_package: bool) -> Iterator[tuple[int, str]]:
    """(line, dotted name) of every import, those in functions and under TYPE_CHECKING included."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parts = module.split(".") if is_package else module.split(".")[:-1]
                base = ".".join([*parts[: len(parts) - node.level + 1], *([base] if base else [])])
            yield from ((node.lineno, f"{base}.{alias.name}") for alias in node.names)


def fault(module: str, name: str) -> str | None:
    """Why `module` may not import `name`, or None."""
    used, top = rule_of(module), name.partition(".")[0]
    own = used.package if used.package not in SOURCES else module
    for reserved, users in RESERVED.items():
        if below(name, reserved) and not any(below(module, user) for user in (*users, reserved)):
            return f"{reserved} is for {', '.join(users) or 'nobody'}"
    if top in sys.stdlib_module_names:
        return "a pure module does not import this" if used.pure and top in IMPURE - used.may else None
    if below(name, own) or (used.package in ("coordclient", "coordctl") and below(name, used.package)):
        return None
    return None if any(below(name, item) for item in used.may) else f"{used.package} may import {sorted(used.may)}"


def faults_of(source: str, module: str, is_package: bool = False) -> list[str]:
    tree = ast.parse(source)
    found = [(line, name, fault(module, name)) for line, name in imported(tree, module, is_package)]
    return [f"{module}:{line}: imports {name}: {why}" for line, name, why in found if why]


def test_every_import_keeps_to_the_table() -> None:
    faults = [
        text for name, path in modules() for text in faults_of(path.read_text(), name, path.name == "__init__.py")
    ]
    assert not faults, "\n" + "\n".join(faults)


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("coordd.paxos.replica", "import time"),
        ("coordd.paxos.replica", "def f():\n    from random import choice"),
        ("coordd.paxos.replica", "from coordclient.protocol import codec"),
        ("coordd.paxos.replica", "from ..machine import state"),
        ("coordd.machine.state", "import coordd.paxos.ballot"),
        ("coordd.engine.engine", "from coordd.storage import wal"),
        ("coordd.engine.engine", "import asyncio"),
        ("coordd.storage.wal", "from coordd.machine import state"),
        ("coordd.node.driver", "from coordd.api import app"),
        ("coordd.api.calls", "from coordd.node import driver"),
        ("coordd.api.calls", "from coordd.engine import engine"),
        ("coordd.node.driver", "from coordd import daemon"),
        ("coordd.daemon", "from coordd.testing import cell"),
        ("coordd.new", "import coordd.paxos"),
        ("coordclient.aio.client", "import coordd"),
        ("coordclient.aio.client", "import pydantic"),
        ("coordclient.protocol.frames", "import msgspec"),
        ("coordclient.holds", "from coordclient.aio import client"),
        ("coordctl.main", "import coordd.engine"),
        ("coordd.__main__", "import yaml"),
    ],
)
def test_what_the_table_forbids_is_found(module: str, source: str) -> None:
    assert faults_of(source, module), f"{source!r} in {module} was not refused"


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("coordd.paxos.replica", "from coordd.paxos.ballot import Ballot\nfrom .log import Log\nimport heapq"),
        (
            "coordd.engine.engine",
            "from coordd.paxos.effects import Durable\nfrom coordclient.protocol.errors import Refusal",
        ),
        ("coordd.api.calls", "from coordd.node.service import Service\nimport pydantic"),
        ("coordd.__main__", "from coordd.daemon import run"),
        ("coordclient.sync", "from coordclient.aio.client import Client\nimport threading"),
        ("coordctl.lock", "from coordctl.output import table\nfrom coordclient import Client\nimport click"),
    ],
)
def test_what_the_table_allows_is_allowed(module: str, source: str) -> None:
    assert faults_of(source, module) == []


def test_every_rule_of_an_existing_package_is_used() -> None:
    names = {name for name, _ in modules()}
    assert {"coordd.paxos", "coordd.machine", "coordd.engine", "coordclient.protocol"} <= names, (
        "the walk finds nothing"
    )
