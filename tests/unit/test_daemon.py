"""The parts of the daemon that can be said without starting it."""

from __future__ import annotations

from pathlib import Path

import pytest

from coordd.config import load_settings
from coordd.daemon import _open_store
from coordd.dev import write_replica


@pytest.mark.parametrize("voters", [1, 7])
def test_who_joins_begins_as_a_learner_of_the_members_that_are_named(tmp_path: Path, voters: int) -> None:
    addresses = {number: f"http://127.0.0.1:{8000 + number}" for number in range(1, voters + 2)}
    (tmp_path / "secret").touch(mode=0o600)
    (tmp_path / "secret").write_text("0123456789abcdef")
    path = write_replica(tmp_path, voters + 1, addresses, extra={"replica": {"join": True}})
    store = _open_store(load_settings(path, {}))
    membership = store.durable.membership
    store.close()
    assert membership.voters == tuple(range(1, voters + 1))
    assert membership.learners == (voters + 1,)
