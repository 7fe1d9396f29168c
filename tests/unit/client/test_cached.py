"""The rules of the client's half of the consistent cache, one by one; in all orders: test_cached_histories."""

from __future__ import annotations

import pytest

from coordclient import Client, clock
from coordclient import cached as rules
from coordclient.cached import ENTRY_BYTES, LOOK_AGAIN_MS, OVER, Cached, Kept
from coordclient.session import DRIFT_PPM, Reading, local_ms
from coordclient.values import File, stat_of
from tests.unit.client.cache_scene import STAT

LEASE = 1_500
LOCAL = local_ms(LEASE, DRIFT_PPM)
SESSION: tuple[Reading, int] = ((0, 50_000), 12_000)
NS = 1_000_000


def at(ms: int, *, wall: int = 0) -> Reading:
    """The two clocks, `ms` after the beginning; the second is `wall` ahead of what it should be."""
    return (ms, 50_000 + ms + wall)


def opened(bytes_max: int = 10**6) -> Cached:
    cache = Cached(bytes_max)
    cache.open(3)
    return cache


def fill(cache: Cached, path: str, number: int, table: str = "get", size: int = 10) -> bool:
    return cache.fill(table, path, f"{path} {number}", size, number, cache.generation)


def lease(cache: Cached, sent: int, *, epoch: int = 3, lease_ms: int = LEASE, drop: bool = False) -> None:
    cache.granted(cache.ask(at(sent)), epoch, lease_ms, drop, SESSION)


def shown(cache: Cached, path: str, now: Reading) -> object:
    """What `get` shows from the cache, or None."""
    kept = cache.files.get(path)
    if kept is None or not cache.believed(kept, tuple(ms * NS for ms in now)):
        return None
    kept.used = True
    kept.lease.hits += 1
    return kept.value


def test_a_lease_counts_from_its_sending_less_the_drift_on_each_clock():
    cache = opened()
    fill(cache, "/a", 1)
    assert shown(cache, "/a", at(0)) is None, "without a lease nothing is believed"
    lease(cache, 100)
    assert shown(cache, "/a", at(100 + LOCAL - 1)) == "/a 1"
    assert shown(cache, "/a", at(100 + LOCAL)) is None
    assert shown(cache, "/a", at(200, wall=LOCAL)) is None, "a wall clock set forward takes it"
    assert shown(cache, "/a", at(100 + LOCAL, wall=-LOCAL)) is None, "one set back gives nothing"


def test_a_lease_never_runs_beyond_that_of_the_session():
    cache = opened()
    fill(cache, "/a", 1)
    cache.granted(cache.ask(at(11_000)), 3, LEASE, False, SESSION)
    assert shown(cache, "/a", at(11_999)) == "/a 1"
    assert shown(cache, "/a", at(12_000)) is None, "in jeopardy the cache is off"


def test_a_fill_that_is_not_younger_than_the_last_invalidation_of_its_path_is_not_kept():
    cache = opened()
    cache.invalidate(["/a"], 5)
    cache.invalidate(["/a"], 4)
    assert not fill(cache, "/a", 4)
    assert not fill(cache, "/a", 5)
    assert fill(cache, "/b", 4), "of another path"
    assert fill(cache, "/a", 6)


def test_an_invalidation_takes_everything_of_its_path_and_nothing_else():
    cache = opened()
    for number, table in enumerate(("get", "stat", "ls", "absent"), 1):
        assert fill(cache, "/a", number, table)
        assert fill(cache, "/a/b", number, table)
    cache.invalidate(["/a"], 9)
    assert not any("/a" in table for table in (cache.files, cache.stats, cache.listings, cache.absent))
    assert all("/a/b" in table for table in (cache.files, cache.stats, cache.listings, cache.absent))
    assert (cache.invalidations, cache.entries) == (4, 4)
    assert cache.bytes == 4 * (ENTRY_BYTES + len("/a/b") + 10)


def test_an_invalidation_of_everything_is_one_of_every_path_held_or_not():
    cache = opened()
    lease(cache, 0)
    for number, path in enumerate(("/a", "/b"), 1):
        fill(cache, path, number)
    cache.invalidate_all(5)
    assert (cache.entries, cache.bytes, cache.invalidations) == (0, 0, 2)
    assert not fill(cache, "/a", 5)
    assert not fill(cache, "/c", 5)
    assert fill(cache, "/c", 6)
    assert shown(cache, "/c", at(1)) == "/c 6", "the lease goes on"


def test_invalidations_that_are_forgotten_keep_older_fills_out(monkeypatch):
    monkeypatch.setattr(rules, "INVALIDATED_MAX", 2)
    cache = opened()
    for number, path in enumerate(("/a", "/b", "/c"), 1):
        cache.invalidate([path], number * 10)
    assert not fill(cache, "/a", 10), "forgotten, and so is whatever is that old"
    assert not fill(cache, "/d", 10)
    assert not fill(cache, "/b", 20)
    assert fill(cache, "/a", 11)


def test_what_was_asked_for_before_a_drop_is_not_kept():
    cache = opened()
    asked = cache.generation
    lease(cache, 0, drop=True)
    assert not cache.fill("get", "/a", "old", 1, 99, asked)
    assert fill(cache, "/a", 1)


@pytest.mark.parametrize("how", ["drop all", "another epoch", "a new queue"])
def test_all_is_dropped_by(how):
    cache = opened()
    fill(cache, "/a", 1)
    lease(cache, 0)
    before = cache.files["/a"]
    if how == "a new queue":
        cache.open(3)
    else:
        lease(cache, 10, drop=how == "drop all", epoch=4 if how == "another epoch" else 3)
    assert (cache.entries, cache.bytes, cache.files) == (0, 0, {})
    assert before.lease.ends == OVER, "also for a thread that has read the entry before"
    assert not cache.believed(before, (0, 0))
    fill(cache, "/a", 2)
    assert (shown(cache, "/a", at(20)) == "/a 2") is (how != "a new queue"), "the lease of the same answer counts"


def test_an_answer_of_a_smaller_epoch_gives_no_lease():
    cache = opened()
    fill(cache, "/a", 1)
    lease(cache, 0, epoch=2)
    assert shown(cache, "/a", at(0)) is None
    cache.unanswered(1)
    lease(cache, 0)
    assert shown(cache, "/a", at(0)) == "/a 1", "and takes nothing"


def test_an_answer_gives_a_lease_once_and_only_to_the_last_request():
    cache = opened()
    fill(cache, "/a", 1)
    first = cache.ask(at(0))
    cache.unanswered(first)
    second = cache.ask(at(500))
    cache.granted(first, 3, LEASE, False, SESSION)
    assert cache.asking
    assert shown(cache, "/a", at(0)) is None, "to a request that nobody waits for any more"
    cache.granted(second, 3, LEASE, False, SESSION)
    cache.granted(second, 3, 10 * LEASE, False, SESSION)
    assert not cache.asking
    assert shown(cache, "/a", at(500 + LOCAL)) is None


def test_a_request_from_before_a_drop_gives_no_lease():
    cache = opened()
    number = cache.ask(at(0))
    cache.open(3)
    cache.granted(number, 3, LEASE, False, SESSION)
    fill(cache, "/a", 1)
    assert shown(cache, "/a", at(0)) is None


def test_a_thread_shows_nothing_that_was_taken_out_while_it_read_the_clocks():
    client = Client(cache=True)
    assert client._cache is not None
    held = client._cache.held
    held.open(3)
    value = File(b"1", stat_of(STAT))
    held.fill("get", "/a", value, 1, 1, held.generation)
    held.granted(held.ask(clock.read()), 3, 60_000, False, (clock.read(), 60_000))
    assert client.get("/a") is value
    first_ns, wall_ns = client._clocks_ns

    def late_ns() -> int:
        held.invalidate(["/a"], 2)  # as the loop's thread may, between any two steps of this one
        return wall_ns()

    client._clocks_ns = (first_ns, late_ns)
    client._worker.run = lambda *call: "asked"  # type: ignore[assignment, method-assign]
    assert client.get("/a") == "asked"


def test_a_lease_is_renewed_after_two_thirds_by_whoever_has_read_since():
    cache = opened()
    assert cache.due_ms(at(0)) is None, "nothing was read yet"
    fill(cache, "/a", 1)
    number = cache.ask(at(0))
    assert cache.due_ms(at(0)) is None, "it is on its way"
    cache.granted(number, 3, LEASE, False, SESSION)
    two_thirds = 2 * LOCAL // 3
    assert cache.due_ms(at(10)) == two_thirds - 10
    assert cache.due_ms(at(two_thirds)) == LOOK_AGAIN_MS, "nobody has read"
    assert shown(cache, "/a", at(two_thirds)) == "/a 1"
    assert cache.due_ms(at(two_thirds)) == 0
    lease(cache, two_thirds)
    assert cache.due_ms(at(2 * two_thirds)) == LOOK_AGAIN_MS, "nor since the renewal"
    assert cache.due_ms(at(two_thirds + LOCAL)) is None, "it is over: the next read asks"


def test_a_renewal_keeps_what_is_held():
    cache = opened()
    fill(cache, "/a", 1)
    lease(cache, 0)
    lease(cache, 1_000)
    assert shown(cache, "/a", at(1_000 + LOCAL - 1)) == "/a 1"


def test_what_was_not_read_goes_first_when_the_bytes_are_used_up():
    size = ENTRY_BYTES + len("/a") + 10
    cache = opened(3 * size)
    for number, path in enumerate(("/a", "/b", "/c"), 1):
        fill(cache, path, number)
    lease(cache, 0)
    shown(cache, "/a", at(1))
    fill(cache, "/d", 4)
    assert list(cache.files) == ["/a", "/c", "/d"]
    assert cache.bytes == 3 * size
    fill(cache, "/e", 5)
    assert list(cache.files) == ["/a", "/d", "/e"], "its mark is old by now, and it went behind /c"
    assert not fill(cache, "/f", 6, size=3 * size), "larger than all"
    assert cache.entries == 3
    fill(cache, "/g", 7)
    fill(cache, "/h", 8)
    assert list(cache.files) == ["/e", "/g", "/h"], "one mark is good for one look"


def test_an_eviction_looks_at_a_bounded_number_of_entries(monkeypatch):
    monkeypatch.setattr(rules, "LOOKS_MAX", 2)
    cache = opened(4 * (ENTRY_BYTES + 12))
    for number, path in enumerate(("/a", "/b", "/c", "/d"), 1):
        fill(cache, path, number)
        cache.files[path].used = True
    fill(cache, "/e", 5)
    assert list(cache.files) == ["/a", "/b", "/d", "/e"], "/a and /b were looked at, and /c is as good as any"


def test_an_entry_that_is_filled_again_counts_once():
    cache = opened()
    fill(cache, "/a", 1)
    fill(cache, "/a", 2, size=20)
    assert (cache.entries, cache.bytes) == (1, ENTRY_BYTES + 2 + 20)
    kept: Kept[object] = cache.files["/a"]
    assert kept.value == "/a 2"


def test_hits_are_counted_over_all_leases():
    cache = opened()
    for sent in (0, 10_000):
        fill(cache, "/a", 1)
        lease(cache, sent)
        shown(cache, "/a", at(sent + 1))
        shown(cache, "/a", at(sent + 2))
        cache.open(3)
    assert cache.hits == 4
