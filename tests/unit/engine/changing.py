"""A cell whose members change: what the tests of changes have in common."""

from __future__ import annotations

from typing import Any

from tests.unit.engine.cell import Cell

ADDRESSES = {replica: f"http://h{replica}:7420" for replica in range(1, 10)}


def cell_of(replicas: int, **numbers: Any) -> Cell:
    first = {replica: ADDRESSES[replica] for replica in range(1, replicas + 1)}
    cell = Cell(replicas, addresses=first, **numbers)
    cell.master()
    cell.run(1_000)
    return cell


def change(cell: Cell, operation: str, **arguments: Any) -> Any:
    """Ask for a change and let a second pass; the answer."""
    request = cell.call(operation, **arguments)
    cell.run(1_000)
    return cell.answers[request]


def add(cell: Cell, replica: int, *, promote: bool = False) -> None:
    assert change(cell, "add_member", replica=replica, address=ADDRESSES[replica])["changed"]
    cell.join(replica)
    cell.run(2_000)
    if promote:
        assert change(cell, "promote_member", replica=replica)["changed"]
