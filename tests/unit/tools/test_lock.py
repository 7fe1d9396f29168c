"""requirements.lock: exact versions and markers, no addresses; what is wanted is locked; releases carry one version."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tools.lock import ALL, marker_for, missing_names, render, wanted_requirements

ROOT = Path(__file__).resolve().parents[3]
PACKAGES: dict[str, dict[str, Any]] = {
    "a": {
        "name": "a",
        "version": "1",
        "requires_dist": ["b; python_version < '3.12'", "c[x]>=2", "w; sys_platform == 'win32'"],
    },
    "b": {"name": "b", "version": "2"},
    "c": {"name": "c", "version": "3", "requires_dist": ["d; extra == 'x'", "e; extra == 'y'"]},
    "d": {"name": "d", "version": "4", "requires_dist": ["a", "m; sys_platform == 'darwin'"]},
    "m": {"name": "m", "version": "5"},
}


def lines() -> list[str]:
    return [line for line in (ROOT / "requirements.lock").read_text().splitlines() if not line.startswith("#")]


def test_the_lock_holds_names_versions_and_markers_only() -> None:
    for line in lines():
        assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*==[0-9][0-9a-z.]*( ; [a-z_ .'=()0-9]+)?", line), line


def test_everything_wanted_is_locked_at_a_version_that_fits() -> None:
    locked = {item.name: item.specifier for item in map(Requirement, lines())}
    for wanted in wanted_requirements(ROOT):
        pin = locked.get(canonicalize_name(wanted.name))
        assert pin is not None, f"{wanted} is not in requirements.lock: run ./dev lock"
        version = str(pin).removeprefix("==")
        assert wanted.specifier.contains(version, prereleases=True), f"{wanted} and {version}: run ./dev lock"
    assert "setuptools" in locked, "the build backend is part of the lock"


def test_what_only_some_need_has_a_marker() -> None:
    text = render([Requirement("a")], PACKAGES)
    assert text.splitlines()[1:] == [
        "a==1",
        "b==2 ; python_version == '3.11'",
        "c==3",
        "d==4",
        "m==5 ; sys_platform == 'darwin'",
    ]


def test_what_other_machines_need_is_asked_for() -> None:
    without = {name: item for name, item in PACKAGES.items() if name != "m"}
    assert missing_names([Requirement("a")], PACKAGES) == set()
    assert missing_names([Requirement("a")], without) == {"m"}


def test_a_version_that_does_not_run_everywhere_is_refused() -> None:
    with pytest.raises(SystemExit, match=r"x 1 does not run on Python 3\.11"):
        render([Requirement("x")], {"x": {"name": "x", "version": "1", "requires_python": ">=3.12"}})


def test_markers() -> None:
    assert marker_for(ALL) == ""
    two = frozenset({("3.11", "linux"), ("3.12", "linux")})
    assert marker_for(two) == " ; (python_version == '3.11' or python_version == '3.12') and sys_platform == 'linux'"
    odd = frozenset({("3.11", "linux"), ("3.12", "darwin")})
    assert marker_for(odd).startswith(" ; (python_version == '3.11' and sys_platform == 'linux') or (")


def test_both_distributions_and_the_changelog_have_one_version() -> None:
    own = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    client = tomllib.loads((ROOT / "clients/python/pyproject.toml").read_text())["project"]
    assert own["version"] == client["version"]
    assert f"coordclient=={client['version']}" in own["dependencies"]
    newest = re.search(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert newest and newest[1] == own["version"]


def test_the_client_needs_two_packages_only() -> None:
    client = tomllib.loads((ROOT / "clients/python/pyproject.toml").read_text())["project"]
    assert sorted(Requirement(text).name for text in client["dependencies"]) == ["aiohttp", "msgpack"]
    assert (ROOT / "clients/python/coordclient/py.typed").exists()


def test_the_repository_names_no_package_index() -> None:
    files = [
        "requirements.lock",
        "pyproject.toml",
        "clients/python/pyproject.toml",
        "dev",
        *map(str, ROOT.glob("tools/*.py")),
    ]
    for name in files:
        assert not re.search(
            r"(?i)--(extra-)?index-url|find-links|pypi\.org|files\.pythonhosted", (ROOT / name).read_text()
        ), name
