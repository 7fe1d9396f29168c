"""What no test reaches is named and fails the run; so do tests that fail; every exception says why."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from tools.cover import PACKAGES, TESTS, measure

ROOT = Path(__file__).resolve().parents[3]
CODE = """
def sign(number: int) -> str:
    if number < 0:
        return "-"
    for _ in range(number):
        pass
    return "+"
"""
PRAGMA = re.compile(r"# pragma: no \w+(?P<why>.*)")


def project(directory: Path, code: str, test: str) -> Path:
    shutil.copy(ROOT / "pyproject.toml", directory)
    (directory / "pack").mkdir()
    (directory / "pack" / "sign.py").write_text(code)
    (directory / "tests").mkdir()
    (directory / "tests" / "test_sign.py").write_text(f"from pack.sign import sign\ndef test_it():\n    {test}\n")
    return directory


@pytest.mark.parametrize(
    ("code", "test", "said"),
    [
        (CODE, "assert sign(-1) + sign(2) + sign(0) == '-++'", "all 6 lines and 4 branches"),
        (CODE, "assert sign(2) == '+'", "1 lines and 1 branches were not"),
        (
            CODE.replace('    return "+"', '    if number:\n        pass\n    return "+"'),
            "sign(-1), sign(1)",
            "0 lines and 1 branches were not",
        ),
        (CODE.replace("< 0:", "< 0:  # pragma: no cover - it is never less"), "assert sign(2) == '+'", "all 4 lines"),
        (CODE, "assert sign(-1) + sign(2) == ''", "the tests failed"),
    ],
)
def test_what_is_not_reached_fails_the_run(tmp_path: Path, code: str, test: str, said: str) -> None:
    good, words = measure(project(tmp_path, code, test), ["pack"], ["tests"])
    assert said in words and good == words.startswith("all")


def test_the_lines_are_named(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    measure(project(tmp_path, CODE, "assert sign(2) == '+'"), ["pack"], ["tests"])
    said = capfd.readouterr().out
    assert re.search(r"pack/sign\.py +6 +1 .* 4$", said, re.MULTILINE), said


def test_the_tests_that_count_are_those_of_the_packages() -> None:
    assert len(PACKAGES) == 4
    for path in (*PACKAGES, *TESTS):
        assert (ROOT / path).is_dir()


def test_every_exception_says_why() -> None:
    found = 0
    for package in PACKAGES:
        for path in (ROOT / package).glob("*.py"):
            for match in PRAGMA.finditer(path.read_text()):
                found += 1
                assert re.match(r" - \w.{10,}", match["why"]), f"{path}: {match[0]}"
    assert found < 5
