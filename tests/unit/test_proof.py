"""docs/proof.md names a proof for every promise and for what went wrong elsewhere, and what it names is there."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
PROMISES = (ROOT / "docs/promises.md").read_text()
PROOF = (ROOT / "docs/proof.md").read_text()
ROWS = dict(re.findall(r"^\| ([A-Z]\d+) \| (.+) \|$", PROOF, re.MULTILINE))
ELSEWHERE = re.findall(r"^\| (\d+) \| [^|]+ \| ([^|]+) \| ([^|]+) \|$", PROOF, re.MULTILINE)
TESTS = re.compile(r"`([a-z_/]+\.py)::(\w+)`")
PIECES = re.compile(r"(sim|nemesis) ((?:`[^`]+`(?:, )?)+)")


def _functions(path: Path) -> dict[str, str]:
    """Every function of a file, with its docstring."""
    return {
        node.name: ast.get_docstring(node) or ""
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }


def test_no_promise_is_without_a_proof() -> None:
    promised = re.findall(r"^- \*\*([A-Z]\d+)\*\*", PROMISES, re.MULTILINE)
    assert len(promised) > 30
    assert promised == list(ROWS)


def test_every_test_that_is_named_exists() -> None:
    named = [one for row in ROWS.values() for one in TESTS.findall(row)]
    assert len(named) > 40
    gone = [f"{file}::{test}" for file, test in named if test not in _functions(ROOT / "tests" / file)]
    assert not gone


def test_every_checker_that_is_named_exists() -> None:
    simulated = "\n".join(path.read_text() for path in (ROOT / "tests/simulation").rglob("*.py"))
    gone = []
    for kind, names in (piece for row in ROWS.values() for piece in PIECES.findall(row)):
        for name in re.findall(r"`([^`]+)`", names):
            if "::" in name:
                continue
            if kind == "sim":
                there = f'name = "{name}"' in simulated or f'violation("{name}"' in simulated
            else:
                there = (ROOT / f"tests/nemesis/checks/{name}.py").exists()
            if not there:
                gone.append(f"{kind} {name}")
    assert not gone


def test_every_row_names_at_least_one_check() -> None:
    assert [promise for promise, row in ROWS.items() if "::" not in row and not PIECES.search(row)] == []


def test_what_went_wrong_elsewhere_has_a_test_whose_docstring_says_where() -> None:
    assert [int(item) for item, _, _ in ELSEWHERE] == [*range(1, 12), *range(15, 21)]
    for item, places, tests in ELSEWHERE:
        named = TESTS.findall(tests)
        told = [_functions(ROOT / "tests" / file).get(test) for file, test in named]
        assert told and None not in told, f"item {item} names a test that is not there"
        for place in places.split(", "):
            assert re.fullmatch(r"[\w.-]+/[\w.-]+#\d+", place), place
            assert any(f"{place}: " in (words or "") for words in told), f"no test of item {item} tells of {place}"
