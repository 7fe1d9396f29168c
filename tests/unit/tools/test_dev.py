"""./dev on machines of every kind: it finds a Python that serves, or says what to do."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
REAL = os.path.realpath(sys.executable)
# What a name on the path may turn out to be.
WORKS = f'#!/bin/sh\nCHOSEN="${{0##*/}}" exec "{REAL}" "$@"\n'
SHIM = "#!/bin/sh\necho 'command not found' >&2\nexit 127\n"
OLD = f'#!/bin/sh\ncase "$*" in *version_info*) exit 1 ;; esac\nexec "{REAL}" "$@"\n'
READS_STDIN = "#!/bin/sh\nread line\nexit 1\n"
WITHOUT_ENSUREPIP = f'#!/bin/sh\ncase "$*" in *ensurepip*) exit 1 ;; esac\nCHOSEN="${{0##*/}}" exec "{REAL}" "$@"\n'
FAKE_ENVIRONMENT = "import os, sys\nprint(os.environ['CHOSEN'], *sys.argv[1:])\n"


class Machine:
    """A directory with ./dev, and a path on which only the given Pythons are."""

    def __init__(self, directory: Path) -> None:
        self.root = directory / "a checkout"
        self.bin = directory / "bin"
        self.home = directory / "home"
        (self.root / "tools").mkdir(parents=True)
        self.bin.mkdir()
        shutil.copy(ROOT / "dev", self.root / "dev")
        (self.root / "tools" / "_environment.py").write_text(FAKE_ENVIRONMENT)
        (self.root / "tools" / "hello.py").write_text('"""say hello (to whom it concerns)"""\n')
        (self.root / "tools" / "__init__.py").touch()
        for name in ("dirname", "ls", "sed"):
            (self.bin / name).symlink_to(shutil.which(name) or name)

    def has(self, **pythons: str) -> Machine:
        for name, text in pythons.items():
            self.put(self.bin / name.replace("_", "."), text)
        return self

    def put(self, path: Path, text: str) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(0o755)
        return path

    def dev(self, *arguments: str, python: str | None = None) -> subprocess.CompletedProcess[str]:
        environ = {"PATH": str(self.bin), "HOME": str(self.home)} | ({"COORD_PYTHON": python} if python else {})
        command = ["/bin/sh", str(self.root / "dev"), *arguments]
        return subprocess.run(
            command,
            cwd="/",
            env=environ,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_arguments_arrive_as_they_are(machine: Machine) -> None:
    done = machine.has(python3=WORKS).dev("hello", "a b", "--x=*")
    assert (done.returncode, done.stdout) == (0, "python3 hello a b --x=*\n"), done


def test_a_shim_that_does_not_run_is_passed_over(machine: Machine) -> None:
    done = machine.has(python3=SHIM, python3_13=SHIM, python3_12=READS_STDIN, python3_11=WORKS).dev("hello")
    assert done.stdout == "python3.11 hello\n", done


def test_a_python_of_another_version_is_passed_over(machine: Machine) -> None:
    done = machine.has(python3=OLD, python3_12=WORKS, python3_11=WORKS).dev("hello")
    assert done.stdout == "python3.12 hello\n", done


def test_a_python_without_ensurepip_is_taken_only_where_there_is_no_other(machine: Machine) -> None:
    assert machine.has(python3=WITHOUT_ENSUREPIP, python=WORKS).dev("hello").stdout == "python hello\n"
    (machine.bin / "python").unlink()
    assert machine.dev("hello").stdout == "python3 hello\n"


def test_a_python_that_pyenv_has_and_does_not_show_is_found(machine: Machine) -> None:
    machine.has(python3=SHIM).put(machine.home / ".pyenv" / "versions" / "3.12.1" / "bin" / "python", WORKS)
    assert machine.dev("hello").stdout == "python hello\n"


def test_the_environment_that_is_there_comes_first(machine: Machine) -> None:
    machine.has(python3=WORKS).put(machine.root / ".venv" / "bin" / "python", WORKS)
    assert machine.dev("hello").stdout == "python hello\n"
    machine.put(machine.root / ".venv" / "bin" / "python", SHIM)
    assert machine.dev("hello").stdout == "python3 hello\n"


def test_a_python_can_be_named_and_is_not_replaced_by_another(machine: Machine) -> None:
    machine.has(python3=WORKS)
    named = machine.put(machine.home / "my python", WORKS)
    assert machine.dev("hello", python=str(named)).stdout == "my python hello\n"
    for text in (SHIM, OLD):
        done = machine.dev("hello", python=str(machine.put(named, text)))
        assert done.returncode == 2 and done.stdout == "" and f"COORD_PYTHON={named} is no Python 3.11" in done.stderr


def test_without_any_python_it_says_what_to_install(machine: Machine) -> None:
    done = machine.has(python3=SHIM, python=OLD).dev("hello")
    assert done.returncode == 2
    assert "no Python 3.11 to 3.13 that runs" in done.stderr
    assert "apt-get install" in done.stderr and "COORD_PYTHON=" in done.stderr


@pytest.mark.parametrize(
    "verb", ["", "nope", "_environment", "__init__", "../dev", "hello.py", "-h", "hel*", "tools hello"]
)
def test_an_unknown_verb_lists_the_verbs(machine: Machine, verb: str) -> None:
    done = machine.has(python3=WORKS).dev(*([verb] if verb else []))
    assert done.returncode == 2 and done.stdout == ""
    assert "  hello    say hello (to whom it concerns)\n" in done.stderr
    assert "_environment " not in done.stderr and "__init__ " not in done.stderr


def test_every_verb_tells_what_it_does() -> None:
    done = subprocess.run(["/bin/sh", str(ROOT / "dev")], capture_output=True, text=True, check=False)
    for path in sorted((ROOT / "tools").glob("[a-z]*.py")):
        (line,) = [line for line in done.stderr.splitlines() if line.split()[:1] == [path.stem]]
        assert len(line.split()) > 2, f"{path.name} begins with no docstring"
