"""The table, and the circumstances without which it says nothing."""

from __future__ import annotations

import importlib.util
import json
import os
import platform
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.measure import Result, sync_microseconds

_COLUMNS = ("work", "N", "ops/s", "p50 ms", "p99 ms", "server us/op", "client us/op", "aim", "remark")


def circumstances(directory: Path) -> dict[str, object]:
    """Date, machine, Python, disk."""
    p50, p99 = sync_microseconds(directory)
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "cores": len(os.sched_getaffinity(0)),
        "processor": _processor(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "load_1min": round(os.getloadavg()[0], 2),
        "python": platform.python_version(),
        "speed_extras": [name for name in ("uvloop", "msgspec") if importlib.util.find_spec(name)],
        "fdatasync_us_p50": round(p50),
        "fdatasync_us_p99": round(p99),
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def heading(found: dict[str, object]) -> str:
    """The circumstances in words."""
    extras = found["speed_extras"]
    return (
        f"{found['date']}, {found['cores']} cores ({found['processor']}), {found['memory_gib']} GiB,"
        f" load {found['load_1min']}\n"
        f"Python {found['python']}, extras: {', '.join(extras) if isinstance(extras, list) and extras else 'none'};"
        f" append 256 B + fdatasync: p50 {found['fdatasync_us_p50']} us, p99 {found['fdatasync_us_p99']} us\n"
        "three replicas and the client share these cores; fsync is on\n"
    )


def table(results: Sequence[Result]) -> str:
    """In Markdown, aligned."""
    rows = [_COLUMNS, *(_row(result) for result in results)]
    widths = [max(len(row[at]) for row in rows) for at in range(len(_COLUMNS))]
    lines = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |" for row in rows
    ]
    return "\n".join([lines[0], "|" + "|".join("-" * (width + 2) for width in widths) + "|", *lines[1:]])


def _row(result: Result) -> tuple[str, ...]:
    remark = "; ".join(part for part in (result.remark, _errors(result)) if part)
    return (
        result.name,
        str(result.workers) if result.workers is not None else "",
        _number(result.ops_s, 0),
        _number(result.p50_ms, 2),
        _number(result.p99_ms, 2),
        _number(result.server_us_op, 1),
        _number(result.client_us_op, 1),
        result.aim,
        remark,
    )


def _errors(result: Result) -> str:
    return ", ".join(f"{count} x {name}" for name, count in result.errors.items())


def _number(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:,.{digits}f}"


def as_json(found: dict[str, object], results: Sequence[Result]) -> str:
    return json.dumps({"circumstances": found, "results": [asdict(result) for result in results]}, indent=2)
