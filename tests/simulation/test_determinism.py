"""The same seed gives the same story, in another process and with another hash seed too."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.simulation.runs import KINDS, run_seed
from tests.simulation.world import Trace

ROOT = Path(__file__).resolve().parents[2]
SEED = 7
_CHILD = "import sys; from tests.simulation.test_determinism import story; print(story(sys.argv[1], int(sys.argv[2])))"


def story(kind: str, seed: int) -> str:
    """The hash of the trace of a run."""
    trace = Trace(hashing=True)
    assert run_seed(kind, seed, trace).report is not None
    return trace.digest()


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_the_same_seed_gives_the_same_story(kind: str) -> None:
    first = story(kind, SEED)
    assert story(kind, SEED) == first
    assert story(kind, SEED + 1) != first
    for hash_seed in ("1", "2"):
        environment = {
            **os.environ,
            "PYTHONHASHSEED": hash_seed,
            "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'clients' / 'python'}",
        }
        command = [sys.executable, "-c", _CHILD, kind, str(SEED)]
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
        assert done.stdout.strip() == first
