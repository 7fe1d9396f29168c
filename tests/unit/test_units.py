"""The systemd units say what the daemon means: its exit statuses, its settings, and that it can do little harm."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from coordd.config import load_settings
from coordd.exits import NEEDS_A_PERSON, Exit

ROOT = Path(__file__).resolve().parents[2]
UNITS = ("coordd.service", "coordd@.service")


def lines(unit: str) -> list[str]:
    text = (ROOT / "systemd" / unit).read_text()
    return [line for line in text.splitlines() if line and not line.startswith("#")]


def values(unit: str, key: str) -> list[str]:
    return [line.partition("=")[2] for line in lines(unit) if line.startswith(key + "=")]


@pytest.mark.parametrize("unit", UNITS)
def test_a_failed_fsync_or_damage_is_not_answered_by_a_restart(unit: str) -> None:
    assert {Exit(int(text)) for text in values(unit, "RestartPreventExitStatus")[0].split()} == NEEDS_A_PERSON
    assert {Exit.DISK, Exit.DATA} <= NEEDS_A_PERSON
    assert values(unit, "Restart") == ["always"]


@pytest.mark.parametrize("unit", UNITS)
def test_the_unit_gives_settings_that_exist(unit: str, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(b"s" * 32)
    secret.chmod(0o400)
    environ = dict(text.split("=", 1) for text in values(unit, "Environment"))
    assert environ["COORDD_CELL__SECRET_FILE"] == f"%d/{values(unit, 'LoadCredential')[0].partition(':')[0]}"
    assert environ["COORDD_REPLICA__DATA"] == f"%S/{values(unit, 'StateDirectory')[0]}"
    environ["COORDD_CELL__SECRET_FILE"] = str(secret)
    settings = load_settings(ROOT / "conf" / "coordd.toml", environ)
    assert settings.secret() == b"s" * 32


def test_both_units_are_the_same_but_for_the_name() -> None:
    different = [(one, many) for one, many in zip(lines(UNITS[0]), lines(UNITS[1]), strict=True) if one != many]
    assert all("%i" in b for _, b in different) and len(different) <= 5, different


@pytest.mark.parametrize("unit", UNITS)
def test_the_unit_is_hardened(unit: str) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("needs systemd-analyze (Debian, Ubuntu: apt-get install systemd)")
    done = subprocess.run(
        ["systemd-analyze", "security", "--offline=yes", "--no-pager", str(ROOT / "systemd" / unit)],
        capture_output=True,
        text=True,
        check=False,
    )
    found = re.search(r"exposure level for \S+: ([0-9.]+)", done.stdout)
    if found is None:
        pytest.skip("needs a systemd-analyze that reads units offline (systemd 250 or newer)")
    assert float(found[1]) <= 1.5
