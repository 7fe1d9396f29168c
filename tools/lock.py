"""write requirements.lock anew from both pyproject.toml files (needs a package index)

Asks pip which versions it would take, then keeps of each what any supported Python on Linux or macOS needs: one line
`name==version`, with a marker where not all of them need it. The build backend is part of it; addresses and hashes are
not. Fails where a chosen version does not run on every supported Python.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from packaging.markers import Marker
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent
OWN = {"coordd", "coordclient"}
EXTRAS = ("speed", "dev")
PYTHONS = ("3.11", "3.12", "3.13")
PLATFORMS = ("linux", "darwin")
HEADER = "# Made by ./dev lock from pyproject.toml and clients/python/pyproject.toml; not edited by hand.\n"
Environment = tuple[str, str]  # Python, platform
ALL: frozenset[Environment] = frozenset((python, platform) for python in PYTHONS for platform in PLATFORMS)


def main() -> None:
    """Write the file and say what changed."""
    path = ROOT / "requirements.lock"
    before = set(path.read_text().splitlines()) if path.exists() else set()
    wanted = wanted_requirements(ROOT)
    text = render(wanted, _resolve(wanted))
    path.write_text(text)
    after = set(text.splitlines())
    for line in sorted(before - after):
        print(f"- {line}")
    for line in sorted(after - before):
        print(f"+ {line}")


def wanted_requirements(root: Path) -> list[Requirement]:
    """What both distributions ask for, their extras for development, and the build backend."""
    texts: list[str] = []
    for file in (root / "pyproject.toml", root / "clients/python/pyproject.toml"):
        document = tomllib.loads(file.read_text())
        texts += document["build-system"]["requires"] + document["project"]["dependencies"]
        for extra in EXTRAS:
            texts += document["project"].get("optional-dependencies", {}).get(extra, [])
    requirements = [Requirement(text) for text in sorted(set(texts))]
    return [item for item in requirements if canonicalize_name(item.name) not in OWN]


def _resolve(wanted: Iterable[Requirement]) -> dict[str, dict[str, Any]]:
    """Name -> metadata of the version that pip would take; grown until no environment misses a package."""
    asked = {str(requirement) for requirement in wanted}
    while True:
        command = [sys.executable, "-m", "pip", "install", "-q", "--dry-run", "--ignore-installed", "--report", "-"]
        done = subprocess.run([*command, *sorted(asked)], stdout=subprocess.PIPE, check=False)
        if done.returncode:
            sys.exit("lock: pip found no set of versions (above: why)")
        items = [item["metadata"] for item in json.loads(done.stdout)["install"]]
        packages: dict[str, dict[str, Any]] = {canonicalize_name(item["name"]): item for item in items}
        missing = missing_names(wanted, packages)
        if not missing:
            return packages
        asked |= missing


def missing_names(wanted: Iterable[Requirement], packages: Mapping[str, Mapping[str, Any]]) -> set[str]:
    """What some environment needs and this Python does not."""
    return {name for name in needed(wanted, packages) if name not in packages}


def needed(
    wanted: Iterable[Requirement], packages: Mapping[str, Mapping[str, Any]]
) -> dict[str, frozenset[Environment]]:
    """Name -> the environments in which it is needed, by walking the requirements from `wanted` on."""
    found: dict[str, set[Environment]] = {}
    for environment in sorted(ALL):
        queue, seen = list(wanted), set[tuple[str, frozenset[str]]]()
        while queue:
            requirement = queue.pop()
            name = canonicalize_name(requirement.name)
            node = (name, frozenset(requirement.extras))
            if node in seen or not _applies(requirement.marker, environment, ""):
                continue
            seen.add(node)
            found.setdefault(name, set()).add(environment)
            for text in packages.get(name, {}).get("requires_dist", []):
                below = Requirement(text)
                if any(_applies(below.marker, environment, extra) for extra in ("", *requirement.extras)):
                    below.marker = None
                    queue.append(below)
    return {name: frozenset(environments) for name, environments in found.items()}


def _applies(marker: Marker | None, environment: Environment, extra: str) -> bool:
    python, platform = environment
    values = {
        "python_version": python,
        "python_full_version": f"{python}.0",
        "sys_platform": platform,
        "platform_system": {"linux": "Linux", "darwin": "Darwin"}[platform],
        "os_name": "posix",
        "platform_python_implementation": "CPython",
        "implementation_name": "cpython",
        "extra": extra,
    }
    return marker is None or marker.evaluate(values)


def render(wanted: Iterable[Requirement], packages: Mapping[str, Mapping[str, Any]]) -> str:
    """The text of the file."""
    lines = []
    for name, environments in sorted(needed(wanted, packages).items()):
        metadata = packages[name]
        for python, _ in sorted(environments):
            if not SpecifierSet(metadata.get("requires_python", "")).contains(f"{python}.0"):
                sys.exit(
                    f"lock: {name} {metadata['version']} does not run on Python {python}; bound it in pyproject.toml"
                )
        lines.append(f"{name}=={metadata['version']}{marker_for(environments)}\n")
    return HEADER + "".join(lines)


def marker_for(environments: frozenset[Environment]) -> str:
    """Nothing where all need it; else the shortest marker that says which."""
    if environments == ALL:
        return ""
    pythons = sorted({python for python, _ in environments})
    platforms = sorted({platform for _, platform in environments})
    if len(environments) != len(pythons) * len(platforms):
        return " ; " + " or ".join(
            f"(python_version == '{p}' and sys_platform == '{s}')" for p, s in sorted(environments)
        )
    parts = []
    if len(pythons) < len(PYTHONS):
        parts.append(" or ".join(f"python_version == '{python}'" for python in pythons))
    if len(platforms) < len(PLATFORMS):
        parts.append(f"sys_platform == '{platforms[0]}'")
    return " ; " + (" and ".join(f"({part})" if " or " in part else part for part in parts))


if __name__ == "__main__":
    main()
