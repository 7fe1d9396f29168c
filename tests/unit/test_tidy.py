"""House rules that a linter does not know: sizes of files and functions, and calls with a better way to do the same."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
LINES_MAX = 400
FUNCTION_LINES_MAX = 70
PACKAGES = ("coordd", "coordctl", "clients/python/coordclient", "tools", "benchmarks", "tests")
PURE = ("coordd/paxos/", "coordd/machine/", "coordd/engine/")
NEVER_SLEEPS = ("tests/unit/", "tests/scenarios/", "tests/simulation/")
UNFINISHED = re.compile(r"\b(TO" r"DO|FIX" r"ME|X" r"XX|HA" r"CK)\b")
GROUPS = re.compile(r"(group|tasks|tg)$")


def files() -> Iterator[tuple[str, str]]:
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            yield path.relative_to(ROOT).as_posix(), path.read_text()


def faults(path: str, source: str) -> list[str]:
    lines = source.splitlines()
    found = [(number, "unfinished work") for number, line in enumerate(lines, 1) if UNFINISHED.search(line)]
    if len(lines) > LINES_MAX:
        found.append((LINES_MAX, f"the file has {len(lines)} lines; the limit is {LINES_MAX}: it is two rooms"))
    for node in ast.walk(ast.parse(source)):
        why = (
            _function_fault(node)
            or _handler_fault(node)
            or _call_fault(path, node)
            or _statement_fault(path, node)
            or _pure_fault(path, node)
        )
        if why:
            found.append((getattr(node, "lineno", 0), why))
    return [f"{path}:{number}: {why}" for number, why in sorted(found)]


def _function_fault(node: ast.AST) -> str | None:
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        length = (node.end_lineno or node.lineno) - node.lineno + 1
        if length > FUNCTION_LINES_MAX:
            return f"{node.name} has {length} lines; the limit is {FUNCTION_LINES_MAX}: push the leaves out"
    return None


def _handler_fault(node: ast.AST) -> str | None:
    if not isinstance(node, ast.ExceptHandler):
        return None
    caught = "everything" if node.type is None else ast.unparse(node.type)
    silent = all(isinstance(item, ast.Pass | ast.Continue) for item in node.body)
    if caught == "everything" or (silent and caught in ("Exception", "BaseException")):
        return f"catches {caught}{' and says nothing' if silent else ''}: name the exceptions that you expect"
    return None


def _call_fault(path: str, node: ast.AST) -> str | None:
    if not isinstance(node, ast.Call):
        return None
    name = ast.unparse(node.func)
    last = name.rpartition(".")[2]
    if path.startswith("coordd/"):
        if name == "print":
            return "print: log an event, or write to sys.stdout where a command answers"
        if last in ("create_task", "ensure_future") and not GROUPS.search(name.rpartition(".")[0]):
            return f"{name}: tasks live in a TaskGroup"
    if path.startswith("tests/") and name == "time.sleep":
        return "time.sleep: tests wait for something that happens, never for time"
    if path.startswith(NEVER_SLEEPS) and name == "asyncio.sleep" and ast.unparse(node.args[0]) != "0":
        return "asyncio.sleep: here time is an argument"
    if name in ("eval", "exec", "pickle.loads", "os.system") or last == "yaml_load":
        return f"{name}: never needed here"
    if path.startswith(("coordd/", "coordctl/", "clients/")) and name == "time.time":
        return "time.time: a wall clock decides nothing; the clock module has both clocks"
    return None


def _statement_fault(path: str, node: ast.AST) -> str | None:
    if isinstance(node, ast.Assert) and path.startswith("clients/"):
        return "assert: applications run under -O; raise AssertionError or a named error"
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
        name = ast.unparse(node.value.func)
        if name.rpartition(".")[2] == "create_task" and not GROUPS.search(name.rpartition(".")[0]):
            return f"{name}: nobody keeps this task; the loop may drop it in the middle"
    return None


def _pure_fault(path: str, node: ast.AST) -> str | None:
    if not path.startswith(PURE):
        return None
    if isinstance(node, ast.Constant) and isinstance(node.value, float):
        return f"{node.value}: no floats where replicas must agree"
    if isinstance(node, ast.BinOp | ast.AugAssign) and isinstance(node.op, ast.Div):
        return "/ makes a float; replicas must agree: use //"
    if isinstance(node, ast.Call) and ast.unparse(node.func) in ("hash", "id", "float", "open", "input"):
        return f"{ast.unparse(node.func)}(): differs between replicas"
    return None


def test_the_house_is_tidy() -> None:
    found = [fault for path, source in files() for fault in faults(path, source)]
    assert not found, "\n" + "\n".join(found)


LONG = "def f():\n" + "    x = 1\n" * FUNCTION_LINES_MAX


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("coordd/x.py", "x = 1\n" * (LINES_MAX + 1)),
        ("tools/x.py", LONG),
        ("coordd/x.py", f"# {'TO'}DO later"),
        ("coordd/x.py", "try:\n    f()\nexcept Exception:\n    pass"),
        ("coordd/x.py", "try:\n    f()\nexcept:\n    raise"),
        ("coordd/x.py", "print(1)"),
        ("coordd/x.py", "task = asyncio.create_task(f())"),
        ("clients/python/coordclient/x.py", "loop.create_task(f())"),
        ("clients/python/coordclient/x.py", "assert x"),
        ("tests/process/x.py", f"time.{'sleep'}(1)"),
        ("tests/unit/x.py", "async def f():\n    await asyncio.sleep(0.1)"),
        ("coordd/machine/x.py", "x = 0.5"),
        ("coordd/engine/x.py", "x = a / b"),
        ("coordd/paxos/x.py", "x = hash(y)"),
        ("coordctl/x.py", "x = time.time()"),
    ],
)
def test_what_the_rules_forbid_is_found(path: str, source: str) -> None:
    assert faults(path, source), f"{source[:60]!r} in {path} was not refused"


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("coordd/x.py", "async def f(group):\n    group.create_task(g())\n    self.tasks.create_task(g())"),
        ("coordd/x.py", "try:\n    f()\nexcept Exception as error:\n    log.error('x', error=error)\n    raise"),
        ("tests/unit/x.py", "async def f():\n    await asyncio.sleep(0)"),
        ("coordd/node/x.py", "x = 0.5 / y"),
        ("coordd/x.py", "x = 1\n" * LINES_MAX),
        ("tools/x.py", "print('x')"),
    ],
)
def test_what_the_rules_allow_is_allowed(path: str, source: str) -> None:
    assert faults(path, source) == []
