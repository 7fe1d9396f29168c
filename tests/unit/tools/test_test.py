"""A run of the tests in which no test was run is a failure, and every run ends with pytest's own closing line."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tools import test as tool

ROOT = Path(__file__).resolve().parents[3]


@pytest.mark.parametrize(
    ("body", "status", "closing"),
    [
        ("def test_it():\n    pass\n", 0, "1 passed in"),
        ("def test_it():\n    assert 0\n", 1, "1 failed in"),
        ("import pytest\ndef test_it():\n    pytest.skip('needs more')\n", 5, "1 skipped in"),
        ("", 5, "no tests ran in"),
        ("import warnings\ndef test_it():\n    warnings.warn('x')\n", 1, "1 failed in"),
        ("import pytest\n@pytest.mark.xfail\ndef test_it():\n    pass\n", 1, "1 failed in"),
        ("import pytest\n@pytest.mark.nosuch\ndef test_it():\n    pass\n", 2, "1 error in"),
        ("async def test_it():\n    pass\n", 0, "1 passed in"),
    ],
)
def test_the_exit_status_tells_whether_tests_passed(tmp_path: Path, body: str, status: int, closing: str) -> None:
    file = tmp_path / "test_it.py"
    file.write_text(body)
    command = [sys.executable, "-m", "pytest", "-c", str(ROOT / "pyproject.toml"), "--rootdir", str(ROOT)]
    command += ["-p", "tests.conftest", "-p", "no:cacheprovider", str(file)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == status, done.stdout + done.stderr
    assert closing in done.stdout.splitlines()[-1]


@pytest.mark.parametrize(
    ("statuses", "said"),
    [((0, 0), 0), ((5, 0), 0), ((5, 5), 5), ((5, 1), 1), ((0, 2), 2), ((1, 0), 1), ((0, -9), 137)],
)
def test_one_lane_that_fails_fails_the_run_and_no_tests_are_none_in_all(statuses: tuple[int, int], said: int) -> None:
    assert tool.worst(*statuses) == said


def test_all_lanes_are_seen_and_what_any_of_them_finds_is_not_lost(tmp_path: Path, monkeypatch, capfdbinary) -> None:
    (tmp_path / "test_good.py").write_text("def test_it():\n    pass\n")
    (tmp_path / "test_bad.py").write_text("def test_it():\n    assert 0, 'the second lane'\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    (tmp_path / "test_skipped.py").write_text("import pytest\ndef test_it():\n    pytest.skip('the third lane')\n")
    lanes = [["test_good.py"], ["test_bad.py"], ["test_skipped.py"]]
    assert tool.run_lanes(lanes, ["-c", str(ROOT / "pyproject.toml"), "--rootdir", str(tmp_path)]) == 1
    said = capfdbinary.readouterr().out
    assert said.index(b"1 passed in") < said.index(b"the second lane") < said.index(b"1 failed in")
    assert said.index(b"1 failed in") < said.index(b"1 skipped in")
