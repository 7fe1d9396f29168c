"""Bugs of storage."""

from __future__ import annotations

from tests.simulation.planted import Bug

BUGS: tuple[Bug, ...] = ()
