"""The environment is made once, whoever calls at the same time, and what cannot be made is said in words that help."""

from __future__ import annotations

import fcntl
import importlib.util
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from tools import _environment as environment

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """What an environment is made from, and nothing else."""
    for source in environment.SOURCES:
        (tmp_path / source).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / source).write_text("x\n")
    return tmp_path


Run = Callable[[Sequence[str], Path, int], bool]


def recorder(commands: list[list[str]], fails: str = "") -> Run:
    def run(command: Sequence[str], root: Path, lock: int) -> bool:
        commands.append(list(command))
        return not fails or fails not in command

    return run


def test_it_is_made_once_and_then_found(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commands: list[list[str]] = []
    monkeypatch.setattr(environment, "run", _makes_the_directory(recorder(commands)))
    first = environment.provide(checkout)
    assert [command[2:4] for command in commands] == [["-m", "venv"], ["-m", "pip"], ["-m", "pip"]]
    assert environment.provide(checkout) == first and len(commands) == 3


def _makes_the_directory(run: Run) -> Run:
    def made(command: Sequence[str], root: Path, lock: int) -> bool:
        if "venv" in command:
            Path(command[-1]).mkdir()
        return run(command, root, lock)

    return made


def test_another_lock_file_or_place_is_another_environment(checkout: Path) -> None:
    names = {environment.name_of_environment(checkout)}
    for source in environment.SOURCES:
        (checkout / source).write_text("y\n")
        names.add(environment.name_of_environment(checkout))
    assert len(names) == 1 + len(environment.SOURCES)
    assert all(name.startswith(f"{sys.version_info[0]}.{sys.version_info[1]}-") for name in names)


def test_nothing_is_asked_of_an_index_but_the_locked_packages(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commands: list[list[str]] = []
    monkeypatch.setattr(environment, "run", _makes_the_directory(recorder(commands)))
    environment.provide(checkout)
    _, locked, own = commands
    assert "--no-deps" in locked and locked[-2:] == ["-r", "requirements.lock"]
    assert {"--no-deps", "--no-index", "--no-build-isolation"} <= set(own)
    assert own[-4:] == ["-e", "clients/python", "-e", "."]


def test_one_left_half_made_is_made_anew(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    half = checkout / ".venvs" / environment.name_of_environment(checkout)
    half.mkdir(parents=True)
    (half / "rubbish").touch()
    monkeypatch.setattr(environment, "run", _makes_the_directory(recorder([])))
    assert environment.provide(checkout) == half
    assert not (half / "rubbish").exists()


def test_a_failure_leaves_nothing_that_looks_complete(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for fails, words in (
        ("venv", "apt-get install python3"),
        ("requirements.lock", "index"),
        ("clients/python", "this repository"),
    ):
        monkeypatch.setattr(environment, "run", _makes_the_directory(recorder([], fails)))
        with pytest.raises(environment.CannotMakeError, match=words):
            environment.provide(checkout)
        assert not list((checkout / ".venvs").glob("*/complete"))


def test_without_ensurepip_it_says_what_to_install(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "ensurepip" else real(name))
    commands: list[list[str]] = []
    monkeypatch.setattr(environment, "run", recorder(commands))
    with pytest.raises(environment.CannotMakeError) as raised:
        environment.provide(checkout)
    version = f"{sys.version_info[0]}.{sys.version_info[1]}"
    assert f"apt-get install python{version}-venv" in str(raised.value) and "COORD_PYTHON=" in str(raised.value)
    assert environment.base_python() in str(raised.value)
    assert commands == []


def test_a_place_that_cannot_be_written_is_an_error_in_words(checkout: Path) -> None:
    (checkout / ".venvs").write_text("a file")
    with pytest.raises(environment.CannotMakeError, match="cannot make an environment in"):
        environment.provide(checkout)


# The making takes until the other call has been seen to wait; both lines of the log then come from one call.
RACER = """
import sys, pathlib
from tools import _environment as environment

root = pathlib.Path(sys.argv[1])

def run(command, root, lock):
    with (root / "log").open("a") as log:
        log.write("made\\n")
    if "venv" in command:
        pathlib.Path(command[-1]).mkdir()
        print("making", flush=True)
        sys.stdin.readline()
    return True

environment.run = run
print(environment.provide(root), flush=True)
"""


def start(checkout: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", RACER, str(checkout)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_two_calls_at_once_make_it_once(checkout: Path) -> None:
    with start(checkout) as first, start(checkout) as second:
        # One of the two makes it, and says so; the other says that it waits. Which is which is left to chance.
        assert first.stderr and second.stderr
        told = {first.stderr.readline(), second.stderr.readline()}
        assert any("making an environment" in line for line in told), told
        assert any("another ./dev is making the environment" in line for line in told), told
        for process in (first, second):
            assert process.stdin
            process.stdin.write("go\n")
            process.stdin.flush()
        out = [process.communicate(timeout=60)[0].split() for process in (first, second)]
    assert (checkout / "log").read_text() == "made\n" * 3
    assert sorted(map(len, out)) == [1, 2] and out[0][-1] == out[1][-1]


def test_a_call_that_was_killed_keeps_nobody_waiting(checkout: Path) -> None:
    with start(checkout) as killed:
        assert killed.stdout and killed.stdout.readline() == "making\n"
        killed.kill()
    with start(checkout) as next_one:
        out, _ = next_one.communicate("go\n", timeout=60)
    assert len(out.split()) == 2 and next_one.returncode == 0


def test_what_a_killed_call_started_keeps_the_lock(tmp_path: Path) -> None:
    with environment.held(tmp_path / "lock") as descriptor:
        lock = str(tmp_path / "lock")
        code = "import os, sys; sys.exit(not os.path.sameopenfile(int(sys.argv[1]), os.open(sys.argv[2], os.O_RDONLY)))"
        assert environment.run([sys.executable, "-c", code, str(descriptor), lock], tmp_path, descriptor)
        child = os.dup(descriptor)  # as a process that was started has it
    with (tmp_path / "lock").open() as file:
        with pytest.raises(BlockingIOError):
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.close(child)
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_settings_that_would_mislead_pip_are_not_passed_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_TARGET", "/elsewhere")
    monkeypatch.setenv("PIP_INDEX_URL", "kept")
    code = "import os, sys; sys.exit('PIP_TARGET' in os.environ or os.environ['PIP_INDEX_URL'] != 'kept')"
    with (tmp_path / "lock").open("w") as lock:
        assert environment.run([sys.executable, "-c", code], tmp_path, lock.fileno())


def test_the_link_follows_and_a_directory_of_the_users_stays(tmp_path: Path) -> None:
    link = tmp_path / ".venv"
    for name in ("one", "two", "two"):
        environment.point_to(link, tmp_path / ".venvs" / name)
        assert os.readlink(link) == f".venvs/{name}"
    link.unlink()
    link.mkdir()
    environment.point_to(link, tmp_path / ".venvs" / "one")
    assert link.is_dir() and not link.is_symlink()


def test_old_environments_are_forgotten(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(10):
        old = checkout / ".venvs" / f"3.11-{number}"
        old.mkdir(parents=True)
        os.utime(old, (number, number))
    monkeypatch.setattr(environment, "run", _makes_the_directory(recorder([])))
    newest = environment.provide(checkout)
    left = {path.name for path in (checkout / ".venvs").iterdir() if path.is_dir()}
    assert left == {newest.name, *(f"3.11-{number}" for number in range(5, 10))}
