"""Whatever comes together (late readers, new channels, processes that resume, crashes, hand-overs, lost votes): no
cache shows what was over; and rules that are broken on purpose are found, so the histories are known to get there.

The rules of the client's half, over one path and a plain master: tests/unit/client/test_cached_histories.py.
"""

from __future__ import annotations

import os

import pytest

from coordd.engine import caching
from coordd.engine.caches import Caches
from coordd.engine.caching import Caching
from coordd.engine.visibility import Visibility
from tests.unit.engine.caching_truth import Stale
from tests.unit.engine.caching_world import World

SEEDS = 10 * int(os.environ.get("COORD_FUZZ", "100")) // 100
SEEDS_PLANTED_MAX = 60
STEPS = 200


def test_no_cache_shows_what_was_over_and_the_books_are_right_after_every_step():
    hits = sum(World(seed).run(STEPS) for seed in range(SEEDS))
    assert hits > 100 * SEEDS, "the caches hold something"


@pytest.fixture
def no_forecast(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Nobody is asked before a change, so that all rests on the veils. Into this list each of them is put."""
    veils: list[int] = []
    veil = Visibility.veil

    def counted(view: Visibility) -> None:
        veils.append(view.now_ms)
        veil(view)

    monkeypatch.setattr(Visibility, "veil", counted)
    monkeypatch.setattr(Caching, "touched", lambda *_: frozenset())
    return veils


def test_the_same_holds_where_no_change_is_foreseen(no_forecast: list[int]):
    hits = sum(World(seed).run(STEPS) for seed in range(SEEDS))
    assert hits > 100 * SEEDS and len(no_forecast) > SEEDS


@pytest.fixture
def always_clear(no_forecast: list[int], monkeypatch: pytest.MonkeyPatch):
    """What was changed is seen at once."""
    monkeypatch.setattr(Visibility, "clear", property(lambda view: True))


@pytest.fixture
def gone_is_acknowledged(monkeypatch: pytest.MonkeyPatch):
    """The end of a channel is taken for the word that nothing is believed any more."""
    monkeypatch.setattr(Caches, "_end", lambda caches, queue: caches._forget(queue))


@pytest.fixture
def parents_are_not_asked(monkeypatch: pytest.MonkeyPatch):
    """A change is asked about at its path only, though the list above shows it too."""
    monkeypatch.setattr(caching, "paths_of", lambda keys: frozenset(path for _, path in keys))


@pytest.mark.parametrize("broken", ["always_clear", "gone_is_acknowledged", "parents_are_not_asked"])
def test_each_broken_rule_is_found(request: pytest.FixtureRequest, broken: str):
    request.getfixturevalue(broken)
    with pytest.raises(Stale):
        for seed in range(SEEDS_PLANTED_MAX):
            World(seed).run(STEPS)
