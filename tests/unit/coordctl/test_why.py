"""`why`, `elect --observe` and `unlock` in words: every thing that the cell tells is shown, within 80 columns."""

from __future__ import annotations

import json

import pytest

from coordclient import File, Holder, LockInfo, Loss, Stat, Waiter, Why
from coordctl import output, why
from coordctl.locks import _unlocked, holder_state
from coordctl.observe import Leader, leader_of
from coordctl.reasons import REASON_BYTES_MAX, signed

WEB = {"host": "web-3", "pid": "8213", "program": "python", "name": "backup.sh"}
HOLDER = Holder(
    7, 2, "a", 1_000, 41, "exclusive", False, WEB, "ops", lock_delay_ms=5_000, heard_ms_ago=1_500, left_ms=10_500,
    crash_wait_ms=18_200,
)  # fmt: skip
WAITER = Waiter(9, 3, "b", "shared", 2_000, 1, {"host": "web-4", "pid": "1"}, several=True)
LOSS = Loss(5, 1, WEB, "ops", "exclusive", 33, 1_000, 61_000, "broken", "it hung (by alice on ops-1)")


def about(*holders: Holder, waiters: tuple[Waiter, ...] = (), losses: tuple[Loss, ...] = ()) -> Why:
    lock = LockInfo("/x", "exclusive", 41, holders, waiters) if holders or waiters else None
    return Why("/x", 50, True, lock, losses)


def test_everything_that_is_known_is_said_in_short_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(why, "age", lambda wall_ms: f"{wall_ms}ms")
    lines = list(why.lines(about(HOLDER, waiters=(WAITER,), losses=(LOSS,))))
    assert lines == [
        "/x: held",
        "  web-3:8213 (backup.sh), session 7",
        "    program       python",
        "    principal     ops",
        "    mode          exclusive, token 41",
        "    since         1970-01-01T00:00:01.000Z, 1000ms ago",
        "    last heard    1.5s ago",
        "    lease left    10.5s",
        "    lock-delay    5s",
        "    after a crash others wait at most 18.2s",
        "waiting: 1",
        "  1. web-4:1, session 9, shared, for several locks at once, for 2000ms",
        "last holders, newest first:",
        "  1970-01-01T00:01:01.000Z  web-3:8213 (backup.sh): taken away at once by an operator after 1m00s",
        "    because: it hung (by alice on ops-1)",
    ]


def test_a_lock_that_waits_for_its_lock_delay_says_how_long() -> None:
    delayed = HOLDER._replace(delayed=True, left_ms=None, delay_left_ms=2_500, revoked="too slow")
    lines = list(why.lines(about(delayed)))
    assert lines[0] == "/x: held by nobody, but closed by the lock-delay of its last holder"
    assert "    lock-delay    2.5s left of 5s" in lines
    assert "    revoked       too slow" in lines
    assert not any("lease left" in line or "after a crash" in line for line in lines)


def test_a_free_lock_and_one_that_never_was() -> None:
    assert list(why.lines(about())) == ["/x: free"]
    (line,) = why.lines(Why("/x", 1, False, None, ()))
    assert line == "/x: free; there is no such file, and nobody has held it lately"


def test_a_semaphore_says_how_many_of_its_permits_are_held() -> None:
    lock = LockInfo("/x", "semaphore", 41, (HOLDER,), (), 3)
    assert next(iter(why.lines(Why("/x", 1, True, lock, ())))) == "/x: held (1 of 3 permits)"


def test_every_cause_of_the_cell_has_words() -> None:
    assert set(why.CAUSES) == {"released", "closed", "expired", "killed", "broken", "revoked", "transferred"}


def test_why_as_json_has_iso_times_and_seconds() -> None:
    shown = json.loads(json.dumps(why._as_json(about(HOLDER, waiters=(WAITER,), losses=(LOSS,)))))
    (holder,) = shown["lock"]["holders"]
    assert holder["since"] == "1970-01-01T00:00:01.000Z"
    assert (holder["heard_seconds_ago"], holder["left_seconds"], holder["crash_wait_seconds"]) == (1.5, 10.5, 18.2)
    assert shown["losses"][0]["ended"] == "1970-01-01T00:01:01.000Z"
    assert not any(key.endswith("_ms") for key in (*holder, *shown["losses"][0], *shown["lock"]["waiters"][0]))


def file(generation: int) -> File:
    return File(b"me", Stat("/x", "file", 1, generation, 1, 1, generation, "0", 2, 0, 0, "", False, 0))


def test_the_value_in_the_file_is_the_leaders_only_if_it_was_written_after_the_grant() -> None:
    assert leader_of(about(HOLDER), file(42)) == Leader(41, b"me", "web-3:8213 (backup.sh)", 7)
    assert leader_of(about(HOLDER), file(41)).value is None
    assert leader_of(about(HOLDER), file(30)).value is None
    assert leader_of(about(HOLDER), None).value is None


def test_nobody_leads_a_lock_that_is_free_delayed_or_shared() -> None:
    for found in (about(), about(HOLDER._replace(delayed=True)), about(HOLDER._replace(mode="shared"))):
        assert leader_of(found, file(42)) == Leader()


def test_a_reason_names_who_gave_it_and_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("coordctl.reasons._user", lambda: "alice")
    monkeypatch.setattr("socket.gethostname", lambda: "ops-1")
    assert signed("it\nhung ") == "it hung (by alice on ops-1)"
    longest = REASON_BYTES_MAX - len(" (by alice on ops-1)")
    assert len(signed("x" * longest)) == REASON_BYTES_MAX
    with pytest.raises(Exception, match="1 bytes too long"):
        signed("x" * (longest + 1))


def test_unlock_says_what_it_bends() -> None:
    assert "only what checks the fencing token is safe" in _unlocked("/x", [7], True)
    assert "its lock-delay" in _unlocked("/x", [7, 8], False)
    assert holder_state(HOLDER._replace(revoked="r")) == "revoked"


def test_labels_of_strangers_do_not_break_the_lines() -> None:
    evil = HOLDER._replace(client={"host": "a\nb", "pid": "1", "program": "x\x1b[31m", "name": "n\tm"})
    for line in why.lines(about(evil)):
        assert line.isprintable(), line
    assert output.client_text({"host": "a\nb"}) == "a b"
