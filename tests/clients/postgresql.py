"""A throw-away PostgreSQL server for one test: a directory of its own, a UNIX socket, no port, no sync."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

WHERE = "/usr/lib/postgresql/*/bin"  # Debian's, newest last
START_SECONDS_MAX = 30


def binaries() -> Path | None:
    """The directory of `initdb` and `pg_ctl`, or None."""
    found = sorted(Path("/").glob(WHERE[1:]), key=lambda path: int(path.parent.name.partition(".")[0]))
    on_path = shutil.which("initdb")
    candidates = [*reversed(found), *([Path(on_path).parent] if on_path else [])]
    return next((path for path in candidates if (path / "initdb").exists() and (path / "pg_ctl").exists()), None)


@contextmanager
def server() -> Iterator[str]:
    """The socket of a running server that lets the user `fence` into the database `postgres`; skips without one."""
    programs = binaries()
    if programs is None:
        pytest.skip("needs PostgreSQL (apt-get install postgresql)")
    directory = Path(tempfile.mkdtemp(prefix="coord-pg-"))
    user = _user()
    if user is not None:
        os.chown(directory, user.pw_uid, user.pw_gid)
    data = directory / "data"

    def run(program: str, *arguments: str) -> None:
        done = subprocess.run(
            [str(programs / program), *arguments],
            capture_output=True,
            text=True,
            check=False,
            cwd=directory,
            stdin=subprocess.DEVNULL,
            timeout=START_SECONDS_MAX,
            user=None if user is None else user.pw_uid,
            group=None if user is None else user.pw_gid,
            extra_groups=None if user is None else [],
        )
        assert done.returncode == 0, f"{program}: {done.stdout}{done.stderr}"

    try:
        run("initdb", "-D", str(data), "-U", "fence", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync")
        options = f"-k {directory} -c listen_addresses='' -c fsync=off -c shared_buffers=1MB -c max_connections=20"
        run("pg_ctl", "-D", str(data), "-l", str(directory / "log"), "-o", options, "-w", "start")
        try:
            yield str(directory / ".s.PGSQL.5432")
        finally:
            run("pg_ctl", "-D", str(data), "-m", "immediate", "-w", "stop")
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def _user() -> pwd.struct_passwd | None:
    """Whom to run it as: PostgreSQL refuses root."""
    if os.geteuid() != 0:
        return None
    names = {entry.pw_name: entry for entry in pwd.getpwall()}
    return names.get("postgres") or names["nobody"]
