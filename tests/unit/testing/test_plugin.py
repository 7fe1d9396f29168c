"""The plugin costs nobody anything before a fixture of it is used."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.metadata import entry_points

LOOK = """
import sys
from importlib.metadata import entry_points
[point] = entry_points(group="pytest11", name="coordd")
before = set(sys.modules)
import pytest, pytest_asyncio
pytests = set(sys.modules) - before
point.load()
print(*sorted({name.partition(".")[0] for name in set(sys.modules) - pytests - before}))
print(*(name for name in sys.modules if name.startswith(("coordd", "coordclient"))))
"""


def run(*command: str, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), **variables}
    return subprocess.run([sys.executable, *command], capture_output=True, text=True, check=False, env=environment)


def test_loading_the_plugin_imports_nothing_but_itself():
    done = run("-c", LOOK)
    assert done.stdout.splitlines() == ["coordd", "coordd coordd.testing coordd.testing.plugin"], done.stderr


def test_the_entry_point_is_that_of_the_distribution():
    (point,) = entry_points(group="pytest11", name="coordd")
    assert point.value == "coordd.testing.plugin"
    assert point.dist is not None
    assert point.dist.name == "coordd"


STRANGER = """
import threading

import pytest
from coordclient import Client, LockLost
from coordd.testing import TestCell


def test_fixtures(coord_cell, coord_client):
    assert isinstance(coord_cell, TestCell)
    told = threading.Event()
    with pytest.raises(LockLost), coord_client.lock("/a", on_lost=lambda error: told.set()):
        with Client(coord_cell.endpoints) as other:
            assert not other.lock("/a").acquire(blocking=False)
        coord_cell.expire_session(coord_client)
        assert told.wait(10)


@pytest.mark.asyncio
async def test_in_strict_mode(coord_aio_client, coord_cell):
    async with coord_aio_client.lock("/a") as lock:
        coord_cell.fail_over()
        await lock.verify()


def test_nothing_is_left():
    assert [thread.name for thread in threading.enumerate()] == ["MainThread"]
"""


def test_a_strangers_tests_use_the_fixtures_and_nothing_is_left_behind(tmp_path):
    """With another configuration than ours: strict asyncio mode, warnings are errors, TestCell imported by its name."""
    (tmp_path / "test_stranger.py").write_text(STRANGER)
    options = [
        "-q",
        "--durations=5",
        "-W",
        "error",
        "-p",
        "no:cacheprovider",
        "-o",
        "asyncio_default_fixture_loop_scope=function",
    ]
    done = run("-m", "pytest", *options, "--rootdir", str(tmp_path), str(tmp_path))
    assert "3 passed" in done.stdout, done.stdout + done.stderr
    assert sorted(path.name for path in tmp_path.iterdir() if path.name != "__pycache__") == ["test_stranger.py"]
