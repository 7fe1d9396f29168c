"""everything that can be said without running: format, lint, types, import rules, sizes (--fix mends the first two)"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from tools._environment import held

ROOT = Path(__file__).resolve().parent.parent
TYPED = ("coordd", "coordctl", "clients/python/coordclient", "tools", "benchmarks", "tests")
RULES = ("tests/unit/test_imports.py", "tests/unit/test_tidy.py")


def main() -> None:
    """Run all checks; exit 1 if one of them fails."""
    parser = argparse.ArgumentParser(prog="./dev check", description=__doc__)
    parser.add_argument("--fix", action="store_true", help="format, and mend what ruff can mend")
    if parser.parse_args().fix:
        subprocess.run([sys.executable, "-m", "ruff", "format", "."], cwd=ROOT, check=False)
        subprocess.run([sys.executable, "-m", "ruff", "check", "--fix", "."], cwd=ROOT, check=False)
    failed = static_failures()
    if subprocess.run([sys.executable, "-m", "pytest", "-q", *RULES], cwd=ROOT, check=False).returncode:
        failed.append("import rules and sizes")
    if failed:
        sys.exit(f"check: failed: {', '.join(failed)}")


def static_failures() -> list[str]:
    """The names of the checks that fail; each says by itself what it found. All of them run."""
    typed = [part for part in TYPED if any((ROOT / part).rglob("*.py"))]
    cache = ROOT / ".mypy_cache"
    cache.mkdir(exist_ok=True)
    checks: Sequence[tuple[str, list[str]]] = (
        ("format (./dev check --fix)", ["ruff", "format", "--check", "."]),
        ("lint", ["ruff", "check", "."]),
        ("types", ["mypy", *typed]),
    )
    failed = []
    for name, command in checks:
        begun = time.monotonic()
        with held(cache / "lock", "checking"):  # mypy breaks when two of it use one cache
            done = subprocess.run([sys.executable, "-m", *command], cwd=ROOT, check=False)
        print(f"check: {name}: {'FAILED' if done.returncode else 'ok'} ({time.monotonic() - begun:.1f} s)", flush=True)
        if done.returncode:
            failed.append(name)
    return failed


if __name__ == "__main__":
    main()
