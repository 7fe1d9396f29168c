"""Cells for tests: `TestCell`, inside this process on a memory disk (docs/testing.md); `cells`, of real daemons.

Nothing is imported before it is asked for: a pytest plugin of an installed package is loaded in every run of pytest.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from coordd.testing.memory_cell import CellFailed, TestCell

__all__ = ["CellFailed", "TestCell"]


def __getattr__(name: str) -> object:
    if name in __all__:
        from coordd.testing import memory_cell

        return getattr(memory_cell, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
