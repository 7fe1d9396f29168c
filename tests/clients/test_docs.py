"""The examples of the documentation run as they stand there."""

from __future__ import annotations

import os
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

from coordd.testing import TestCell

DOCS = Path(__file__).resolve().parents[2] / "docs"
BLOCK = re.compile(r"^## (.+?)$|^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(page: str) -> list[tuple[str, str]]:
    """(heading above it, code) of every example of a page."""
    found, heading = [], ""
    for match in BLOCK.finditer((DOCS / page).read_text()):
        if match[1]:
            heading = match[1]
        else:
            found.append((heading, match[2]))
    return found


FAILURES = blocks("how-locks-fail.md")


@pytest.mark.parametrize("code", [pytest.param(code, id=heading) for heading, code in FAILURES])
def test_how_locks_fail(code, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "example.py").write_text(code)
    runpy.run_path("example.py")


def test_the_page_has_its_examples():
    assert len(FAILURES) == 6
    assert len([code for _, code in CLIENT if code.startswith("from coordclient import")]) == 5


RUNS = re.compile(r"^with Client\((cache=True.*)?\) as client:$", re.MULTILINE)
CLIENT = [(heading, code) for heading, code in blocks("client.md") if RUNS.search(code)]


@pytest.mark.parametrize("code", [pytest.param(code, id=heading) for heading, code in CLIENT])
def test_client(code, tmp_path, monkeypatch):
    with TestCell() as cell:
        monkeypatch.setenv("COORD_ENDPOINTS", cell.endpoints[0])
        (tmp_path / "example.py").write_text(code)
        runpy.run_path(str(tmp_path / "example.py"))


def test_testing(tmp_path):
    examples = blocks("testing.md")
    assert len(examples) == 4
    for number, (_, code) in enumerate(examples):
        (tmp_path / f"test_{number}.py").write_text(code)
    options = ["-q", "-W", "error", "-p", "no:cacheprovider", "-p", "no:hypothesispytest"]
    scope = ["-o", "asyncio_default_fixture_loop_scope=function"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-m", "pytest", *options, *scope, "--rootdir", str(tmp_path), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment, cwd=tmp_path)
    assert "7 passed" in done.stdout, done.stdout + done.stderr
