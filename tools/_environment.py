"""Makes the environment that a verb runs in, once per Python and lock file, and then becomes the verb.

Runs under any Python 3.11 to 3.13 with nothing but the standard library. Environments live in .venvs/, named after what
they were made from, so a change of branch or Python never pulls one away under a running test; `.venv` points to the
one in use. A lock that dies with its holders keeps two calls apart; one that was left half made is made anew.
"""

from __future__ import annotations

import fcntl
import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SOURCES = ("requirements.lock", "pyproject.toml", "clients/python/pyproject.toml")
KEPT = 6  # environments
# Settings of the caller's that would put packages elsewhere than into the new environment.
MISLEADING = ("PIP_PREFIX", "PIP_REQUIRE_VIRTUALENV", "PIP_ROOT", "PIP_TARGET", "PIP_USER", "PYTHONHOME", "PYTHONPATH")


class CannotMakeError(Exception):
    """No environment can be made; the text says what to do."""


def main(arguments: Sequence[str]) -> None:
    """Make the environment where it is missing; then the process becomes `python -m tools.VERB`."""
    try:
        environment = provide(ROOT)
    except CannotMakeError as error:
        sys.exit(f"dev: {error}")
    if not os.environ.get("COORD_PYTHON") or not (ROOT / ".venv").exists():
        point_to(ROOT / ".venv", environment)
    python = environment / "bin" / "python"
    os.environ["PATH"] = f"{environment / 'bin'}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
    os.environ["VIRTUAL_ENV"] = str(environment)
    os.execv(python, [str(python), "-m", f"tools.{arguments[0]}", *arguments[1:]])


def base_python() -> str:
    """The Python itself, also where this one runs from an environment."""
    return str(getattr(sys, "_base_executable", None) or sys.executable)


def name_of_environment(root: Path) -> str:
    """`3.11-<hash>` of all that an environment is made from."""
    digest = hashlib.sha256()
    for text in (sys.version, sys.base_prefix, str(root)):
        digest.update(text.encode() + b"\0")
    for source in SOURCES:
        digest.update((root / source).read_bytes() + b"\0")
    return f"{sys.version_info[0]}.{sys.version_info[1]}-{digest.hexdigest()[:12]}"


def provide(root: Path) -> Path:
    """The path of a complete environment, made now if there is none."""
    environment = root / ".venvs" / name_of_environment(root)
    complete = environment / "complete"
    if complete.exists():
        return environment
    try:
        environment.parent.mkdir(exist_ok=True)
        with held(environment.parent / "lock") as descriptor:
            if not complete.exists():
                make(root, environment, descriptor)
                complete.touch()
                _forget_old(environment)
    except OSError as error:
        raise CannotMakeError(f"cannot make an environment in {environment.parent}: {error}") from None
    return environment


@contextmanager
def held(path: Path, doing: str = "making the environment") -> Iterator[int]:
    """Hold the lock file; the kernel gives it back when we, and what we gave the descriptor, are gone."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"dev: another ./dev is {doing}; waiting for it", file=sys.stderr)
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield descriptor
    finally:
        os.close(descriptor)


def make(root: Path, environment: Path, lock: int) -> None:
    """Make `environment` from nothing: the locked packages, then both distributions in editable form."""
    version = f"{sys.version_info[0]}.{sys.version_info[1]}"
    if importlib.util.find_spec("ensurepip") is None or importlib.util.find_spec("venv") is None:
        raise CannotMakeError(_no_ensurepip(version))
    print(f"dev: making an environment for Python {version} (once; it takes a minute)", file=sys.stderr)
    shutil.rmtree(environment, ignore_errors=True)
    if not run([base_python(), "-I", "-m", "venv", str(environment)], root, lock):
        raise CannotMakeError(_no_ensurepip(version))
    pip = [str(environment / "bin" / "python"), "-I", "-m", "pip", "--disable-pip-version-check", "install", "-q"]
    if not run([*pip, "--no-deps", "--prefer-binary", "-r", "requirements.lock"], root, lock):
        raise CannotMakeError("pip could not install requirements.lock (above: why); this first call needs an index")
    local = ["--no-deps", "--no-index", "--no-build-isolation", "-e", "clients/python", "-e", "."]
    if not run([*pip, *local], root, lock):
        raise CannotMakeError("pip could not install this repository into the new environment (above: why)")


def run(command: Sequence[str], root: Path, lock: int) -> bool:
    """Run one command and say whether it succeeded; it keeps the lock while it lives, whatever becomes of us."""
    variables = {name: value for name, value in os.environ.items() if name not in MISLEADING}
    done = subprocess.run(
        command, cwd=root, env=variables, pass_fds=(lock,), stdin=subprocess.DEVNULL, stdout=sys.stderr, check=False
    )
    return done.returncode == 0


def _no_ensurepip(version: str) -> str:
    return (
        f"Python {version} ({base_python()}) cannot make environments: its venv or ensurepip is missing or broken.\n"
        f"     Debian, Ubuntu: apt-get install python{version}-venv\n"
        f"     elsewhere: a Python with its whole standard library; or name another: COORD_PYTHON=/path/to/python"
    )


def point_to(link: Path, environment: Path) -> None:
    """Let `link` name `environment`, in one step. A real directory of that name is the user's: left alone."""
    target = os.path.relpath(environment, link.parent)
    if (link.exists() and not link.is_symlink()) or (link.is_symlink() and os.readlink(link) == target):
        return
    temporary = link.with_name(f".venv-link-{os.getpid()}")
    temporary.symlink_to(target)
    temporary.replace(link)


def _forget_old(newest: Path) -> None:
    """Keep a few environments: those of other Pythons and branches are wanted again."""
    others = [path for path in newest.parent.iterdir() if path.is_dir() and path != newest]
    others.sort(key=lambda path: path.stat().st_mtime, reverse=True)
    for path in others[KEPT - 1 :]:
        shutil.rmtree(path, ignore_errors=True)


if __name__ == "__main__":
    main(sys.argv[1:])
