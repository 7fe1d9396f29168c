"""lines and branches of the pure core and of storage that their own tests reach: all of them, or the run fails

Runs the unit tests of these packages and the stories; arguments go to pytest. An exception stands in the code, with its
reason: `# pragma: no cover - why`, `# pragma: no branch - why`.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("coordd/paxos", "coordd/machine", "coordd/engine", "coordd/storage")
TESTS = (*(f"tests/unit/{package.rpartition('/')[2]}" for package in PACKAGES), "tests/scenarios")


def main() -> None:
    """Measure, print the table, and exit 1 if a test failed or anything was not reached."""
    begun = time.monotonic()
    good, said = measure(ROOT, PACKAGES, [*TESTS, *sys.argv[1:]])
    print(f"cover: {said} ({time.monotonic() - begun:.0f} s)")
    sys.exit(0 if good else 1)


def measure(root: Path, packages: Sequence[str], tests: Sequence[str]) -> tuple[bool, str]:
    """Whether the tests passed and reached all, and how much that is. The table is printed here."""
    with tempfile.TemporaryDirectory() as directory:
        environment = os.environ | {"COVERAGE_FILE": f"{directory}/data"}
        coverage = [sys.executable, "-m", "coverage"]
        run = [*coverage, "run", f"--source={','.join(packages)}", "-m", "pytest", "-q", *tests]
        if subprocess.run(run, cwd=root, env=environment, check=False).returncode:
            return False, "the tests failed, so nothing is said about what they reach"
        for package in packages:
            print(f"\n{package}", flush=True)
            report = [*coverage, "report", "-m", "--skip-covered", f"--include={package}/*"]
            subprocess.run(report, cwd=root, env=environment, check=False)
        subprocess.run([*coverage, "json", "-q", "-o", f"{directory}/json"], cwd=root, env=environment, check=True)
        totals = json.loads(Path(directory, "json").read_text())["totals"]
    lines, branches = totals["missing_lines"], totals["missing_branches"]
    if lines or branches:
        return False, f"{lines} lines and {branches} branches were not reached: see above"
    return True, f"all {totals['num_statements']} lines and {totals['num_branches']} branches were reached"


if __name__ == "__main__":
    main()
