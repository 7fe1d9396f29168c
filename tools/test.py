"""all checks, then all tests in the order of the ladder; arguments go to pytest and replace "all tests"

Ends with pytest's own closing line. Exits as pytest does, and 5 if no test was run at all.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

from tools.check import static_failures

ROOT = Path(__file__).resolve().parent.parent
LADDER = ("unit", "scenarios", "simulation", "clients", "process")


def main() -> None:
    """Check, then become pytest."""
    begun = time.monotonic()
    arguments = sys.argv[1:]
    failed = static_failures()
    if failed:
        sys.exit(f"test: no test was run, the check comes first and failed: {', '.join(failed)}")
    os.environ["COORD_TEST_CHECK_SECONDS"] = f"{time.monotonic() - begun:.1f}"
    if not any(argument.startswith("tests") for argument in arguments):
        arguments += [f"tests/{rung}" for rung in LADDER if any((ROOT / "tests" / rung).rglob("test_*.py"))] or [
            "tests"
        ]
    os.chdir(ROOT)
    os.execv(sys.executable, [sys.executable, "-m", "pytest", *arguments])


if __name__ == "__main__":
    main()
