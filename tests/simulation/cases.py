"""A run that is kept as a small text file: which harness, which seed, and what its cell is made of.

The file says only where the cell differs from the calm one of `swarm`, so it means the same when the draw changes. With
`bug` the run shows that planted bug, and nothing without it; without `bug` it showed one that has been mended.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from tests.simulation.swarm import Swarm

CALM = Swarm()
DIRECTORY = Path(__file__).resolve().parents[1] / "regressions"


@dataclass(frozen=True, slots=True)
class Case:
    """See the module docstring. `seeds`: one of so many, from `seed` on, shows the bug; chance moves with the code."""

    kind: str
    seed: int
    swarm: Swarm
    checker: str = ""
    found: str = ""  # what was seen, for people
    bug: str = ""
    seeds: int = 1

    def text(self) -> str:
        """The file."""
        lines = [f"kind = {_value(self.kind)}", f"seed = {self.seed}"]
        if self.seeds > 1:
            lines.append(f"seeds = {self.seeds}")
        lines += [f"{name} = {_value(value)}" for name in ("checker", "bug", "found") if (value := getattr(self, name))]
        lines += ["", "[swarm]"]
        lines += [f"{name} = {_value(value)}" for name, value in differences(self.swarm).items() if name != "faults"]
        if self.swarm.faults:
            lines += ["", "[swarm.faults]", *(f"{name} = {mean_ms}" for name, mean_ms in self.swarm.faults.items())]
        return "\n".join(lines) + "\n"

    @property
    def file_name(self) -> str:
        """Says what it is about."""
        words = f"{self.kind} {self.bug or self.checker} {self.seed}"
        return "".join(letter if letter.isalnum() else "-" for letter in words.lower()) + ".toml"

    def keep(self, directory: Path = DIRECTORY) -> Path:
        """Write the file."""
        directory.mkdir(exist_ok=True)
        path = directory / self.file_name
        path.write_text(self.text())
        return path


def differences(swarm: Swarm) -> dict[str, Any]:
    """Where it differs from the calm one."""
    return {
        field.name: value
        for field in fields(Swarm)
        if (value := getattr(swarm, field.name)) != getattr(CALM, field.name)
    }


def read(path: Path) -> Case:
    """The inverse of `keep`."""
    table = tomllib.loads(path.read_text())
    known = {field.name for field in fields(Swarm)}
    swarm = {name: _inner(value) for name, value in table.pop("swarm").items()}
    assert swarm.keys() <= known, f"{path}: no cell has {sorted(swarm.keys() - known)}"
    return Case(swarm=replace(CALM, **swarm), **table)


def _inner(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
    if isinstance(value, tuple):
        return f"[{', '.join(map(_value, value))}]"
    assert isinstance(value, int | float) and not isinstance(value, Mapping)
    return repr(value)
