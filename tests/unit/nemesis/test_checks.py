"""Every check of the nemesis, against histories that keep its promise and histories that break it."""

from __future__ import annotations

import pytest

from tests.nemesis.checks import CHECKS
from tests.unit.nemesis import node_histories
from tests.unit.nemesis.histories import MS, Story

REGISTERS = "registers are linearizable"
DIRECTORIES = "directories are linearizable"
COUNTERS = "counters are linearizable"
BELIEFS = "no two holders by their own belief"
PERMITS = "no more holders than permits"
TOLD = "a running holder is told in time"
LOCKS = "locks are linearizable"
FENCE = "the fence refuses no rightful holder"
REVISIONS = "revisions rise in the order of changes"
FILES = "what was acknowledged is there, and once"
EPHEMERALS = "ephemeral files live as long as their session"
SESSIONS = "no session of a connected client expired"
SERVICE = "nobody who reaches the cell is left out"
QUESTIONS = "the cell says rightly who holds what"
NOTHING_LEFT = "nothing is left of a session that is over"
SURPRISES = "nobody was told what cannot be"


def put(story: Story, who: str, begun: int, ended: int, value: str, revision: int = 0, outcome: str = "ok") -> Story:
    result = {"revision": revision, "generation": revision}
    return story.op(who, "put", begun, ended, outcome, result, key="/r", value=value)


def get(story: Story, who: str, begun: int, ended: int, value: str | None) -> Story:
    return story.op(who, "get", begun, ended, "ok", {"value": value}, key="/r")


def closed_under_a_body(at: int) -> Story:
    """A thread's body ends at 40, its lock is another's from 30 on, and its client is closed at `at`."""
    story = Story().note("c1~threads", "begin", 0, lease_s=4).note("c1~threads", "closing", at)
    return story.hold("c1~threads.3", 5, 10, 20, left=40).hold("c2.3", 9, 30, 35)


def increment(story: Story, who: str, at: int, read: int, outcome: str = "ok") -> Story:
    return story.op(who, "increment", at, at + 1, outcome, {"read": read}, counter=0)


def counter_is(story: Story, value: int) -> Story:
    return story.note("nemesis.final", "final counter", 10**6, counter=0, value=value)


def session(lease_s: float = 1.0) -> Story:
    """A client that began long ago; somebody's changes are acknowledged all the time."""
    story = Story().note("c2", "begin", 0, lease_s=lease_s)
    for number in range(100):
        put(story, "c1.0", number * 1_000, number * 1_000 + 1, f"v{number}", number + 1)
    return story.note("c2", "state", 100, state="active")


def expired(story: Story, at: int = 60_000) -> Story:
    return story.note("c2", "state", at - 500, state="jeopardy").note("c2", "state", at, state="expired")


def served(*moments: int) -> Story:
    """A client whose lease is 1 s is answered at these moments; somebody else all the time, for 100 s."""
    story = session()
    for at in moments:
        get(story, "c2.1", at, at + 1, None)
    return story


def cut_off(story: Story, begin: int, end: int) -> Story:
    return story.note("nemesis", "fault", end, kind="client: cut off", on=["c2"], from_ns=begin * MS)


def asked(what: str, held: bool, safe: bool) -> Story:
    return Story().note("c1.3", "asked", 5, what=what, held=held, safe=safe, token=7, said="")


def made(outcome: str, *there: str) -> Story:
    story = Story().op("c1.5", "create", 1, 2, outcome, {"revision": 3}, path="/made/1")
    return story.note("nemesis.final", "final files", 100, paths=list(there))


GOOD = {
    "a read of what was written": (REGISTERS, get(put(Story(), "a", 1, 2, "x"), "b", 3, 4, "x")),
    "a write of unknown outcome is seen later": (
        REGISTERS,
        get(get(put(Story(), "a", 1, 2, "x", outcome="unknown"), "b", 3, 4, None), "b", 50, 60, "x"),
    ),
    "each increment stands on its own": (COUNTERS, counter_is(increment(increment(Story(), "a", 1, 0), "b", 5, 1), 2)),
    "a name listed as long as it is there": (
        DIRECTORIES,
        Story()
        .op("a", "name", 1, 2, key="/d", name="x", result={"revision": 7})
        .op("b", "list", 3, 4, key="/d", result={"names": ["x"]})
        .op("b", "unname", 5, 6, "unknown", key="/d", name="x")
        .op("a", "has", 7, 8, key="/d", name="x", result={"there": False}),
    ),
    "an unknown increment counts or not": (
        COUNTERS,
        counter_is(increment(increment(Story(), "a", 1, 0), "b", 5, 1, "unknown"), 2),
    ),
    "one holder after the other": (BELIEFS, Story().hold("c1.3", 5, 10, 20).hold("c2.3", 9, 21, 30)),
    "shared holders at once": (
        BELIEFS,
        Story().hold("c1.3", 5, 10, 20, mode="shared").hold("c2.3", 5, 15, 30, mode="shared"),
    ),
    "as many as there are permits, and another one later": (
        PERMITS,
        Story()
        .hold("c1.3", 5, 10, 20, mode="semaphore")
        .hold("c2.3", 6, 15, 30, mode="semaphore")
        .hold("c3.3", 7, 21, 30, mode="semaphore"),
    ),
    "a lock that nobody holds is not taken back": (SURPRISES, Story().op("a", "unlock", 1, 2, "not_found", path="/l")),
    "a body that ends in time": (TOLD, Story().hold("c1.3", 5, 10, 20, left=25).hold("c2.3", 9, 26, 30)),
    "a body of a process that was stopped": (
        TOLD,
        Story().hold("c1.3", 5, 10, 20, left=5_000).hold("c2.3", 9, 2_000, 3_000).note("c1", "lag", 5_001, ms=4_900),
    ),
    "a body of a thread whose client was closed": (
        TOLD,
        closed_under_a_body(29),
    ),
    "tokens that rise": (LOCKS, Story().hold("c1.3", 5, 10, 20).hold("c2.3", 9, 21, 30)),
    "one token in a shared period": (
        LOCKS,
        Story().hold("c1.3", 5, 10, 20, mode="shared").hold("c2.3", 5, 15, 30, mode="shared").hold("c3.3", 8, 40, 41),
    ),
    "a refusal of one who was late": (
        FENCE,
        Story().hold("c1.3", 5, 10, 20).note("c1.3", "appended", 3_000, n=1, took_ns=2_900 * MS, admitted=False),
    ),
    "concurrent changes in any order": (REVISIONS, put(put(Story(), "a", 1, 10, "x", 8), "b", 2, 11, "y", 7)),
    "an acknowledged file that is there": (FILES, made("ok", "/made/1")),
    "an unknown file that is there": (FILES, made("unknown", "/made/1")),
    "an ephemeral file seen": (EPHEMERALS, Story().op("c1.6", "see", 1, 2, path="/alive/c1/7", session=7)),
    "an expiry of a client that was cut off": (
        SESSIONS,
        expired(session()).note("nemesis", "fault", 59_000, kind="client: cut off", on=["c2"], from_ns=58_000 * MS),
    ),
    "an expiry of a client that did not run": (SESSIONS, expired(session()).note("c2", "lag", 60_001, ms=900)),
    "the end of a session at its own close": (
        SESSIONS,
        session().note("c2", "closing", 59_000).note("c2", "state", 60_000, state="expired"),
    ),
    "one that is answered now and then": (SERVICE, served(*range(0, 100_000, 3_000))),
    "one that was cut off meanwhile": (SERVICE, cut_off(served(*range(0, 50_000, 3_000), 99_000), 50_000, 96_000)),
    "one in a cell that serves nobody": (
        SERVICE,
        Story().note("c2", "begin", 0, lease_s=1).note("c2", "closing", 9**9),
    ),
    "a holder is told so": (QUESTIONS, asked("sequencer", held=True, safe=True)),
    "a holder that does not believe in it any more": (QUESTIONS, asked("verify", held=False, safe=False)),
    "no holder after the release": (QUESTIONS, asked("released", held=False, safe=False)),
    "all locks free": (NOTHING_LEFT, Story().note("nemesis.final", "final locks", 9, paths=[])),
    "usual refusals": (
        SURPRISES,
        Story()
        .op("a", "swap", 1, 2, "conflict", key="/r", value="x", generation=3)
        .op("a", "hold", 3, 4, "not_acquired", lock=0, mode="exclusive")
        .op("a", "delete", 5, 6, "not_found", key="/r"),
    ),
    **node_histories.GOOD,
}

BAD = {
    "a stale read": (REGISTERS, get(put(put(Story(), "a", 1, 2, "x"), "a", 3, 4, "y"), "b", 5, 6, "x")),
    "a lost acknowledged write": (REGISTERS, get(put(Story(), "a", 1, 2, "x"), "b", 3, 4, None)),
    "a write that was not done is seen": (
        REGISTERS,
        get(put(Story(), "a", 1, 2, "x", outcome="not_done"), "b", 3, 4, "x"),
    ),
    "a write that took effect twice": (
        REGISTERS,
        get(get(put(put(Story(), "a", 1, 2, "x"), "b", 3, 4, "y"), "c", 5, 6, "y"), "c", 7, 8, "x"),
    ),
    "a name listed after its deletion": (
        DIRECTORIES,
        Story()
        .op("a", "name", 1, 2, key="/d", name="x", result={"revision": 7})
        .op("b", "unname", 3, 4, key="/d", name="x", result={"revision": 8})
        .op("a", "list", 5, 6, key="/d", result={"names": ["x"]}),
    ),
    "a name made twice": (
        DIRECTORIES,
        Story()
        .op("a", "name", 1, 5, key="/d", name="x", result={"revision": 7})
        .op("b", "name", 2, 4, key="/d", name="x", result={"revision": 8}),
    ),
    "two increments on one reading": (COUNTERS, counter_is(increment(increment(Story(), "a", 1, 0), "b", 5, 0), 2)),
    "a lost increment": (COUNTERS, counter_is(increment(increment(Story(), "a", 1, 0), "b", 5, 1), 1)),
    "an increment that was not done counts": (
        COUNTERS,
        counter_is(increment(increment(Story(), "a", 1, 0), "b", 5, 1, "not_done"), 2),
    ),
    "a counter that was not read at the end": (COUNTERS, increment(Story(), "a", 1, 0)),
    "two holders at once": (BELIEFS, Story().hold("c1.3", 5, 10, 20).hold("c2.3", 9, 19, 30)),
    "a shared and an exclusive holder at once": (
        BELIEFS,
        Story().hold("c1.3", 5, 10, 20, mode="shared").hold("c2.3", 9, 15, 30),
    ),
    "one more than there are permits": (
        PERMITS,
        Story()
        .hold("c1.3", 5, 10, 20, mode="semaphore")
        .hold("c2.3", 6, 15, 30, mode="semaphore")
        .hold("c3.3", 7, 19, 30, mode="semaphore"),
    ),
    "permits that differ where all ask for the same": (
        SURPRISES,
        Story().op("a", "part", 1, 2, "permits_differ", lock="/lock/permits"),
    ),
    "a short hold inside a long one": (BELIEFS, Story().hold("c1.3", 5, 10, 50).hold("c2.3", 9, 20, 21)),
    "a body that ran on": (TOLD, Story().hold("c1.3", 5, 10, 20, left=40).hold("c2.3", 9, 30, 35)),
    "a body that ran on until its client was closed": (
        TOLD,
        closed_under_a_body(39),
    ),
    "a token that does not rise": (LOCKS, Story().hold("c1.3", 9, 10, 20).hold("c2.3", 9, 21, 30)),
    "a token that falls after a release": (
        LOCKS,
        Story().hold("c1.3", 9, 10, 20).hold("c2.3", 11, 21, 30, mode="shared").hold("c1.3", 10, 31, 32),
    ),
    "a grant while another believes": (LOCKS, Story().hold("c1.3", 5, 10, 20).hold("c2.3", 9, 19, 30)),
    "a swap of what was overwritten": (
        REGISTERS,
        put(put(Story(), "a", 1, 2, "x", 5), "a", 3, 4, "y", 6).op(
            "b", "swap", 5, 6, "ok", {"revision": 7, "generation": 7}, key="/r", value="z", expected="x", generation=5
        ),
    ),
    "a rightful holder is refused": (
        FENCE,
        Story().hold("c1.3", 5, 10, 20).note("c1.3", "appended", 15, n=1, took_ns=3 * MS, admitted=False),
    ),
    "one token of two holders": (
        FENCE,
        Story()
        .note("record", "append", 5, lock="0", token=7, by="c1.3", admitted=True)
        .note("record", "append", 6, lock="0", token=7, by="c2.3", admitted=True),
    ),
    "a revision that falls": (REVISIONS, put(put(Story(), "a", 1, 2, "x", 8), "b", 3, 4, "y", 7)),
    "a revision given twice": (REVISIONS, put(put(Story(), "a", 1, 5, "x", 8), "b", 3, 4, "y", 8)),
    "a token below an acknowledged revision": (
        REVISIONS,
        put(Story(), "a", 1, 2, "x", 8).hold("c1.3", 7, 10, 20),
    ),
    "an acknowledged file that is gone": (FILES, made("ok")),
    "a file that was not done and is there": (FILES, made("not_done", "/made/1")),
    "a retry taken for another call": (FILES, made("exists", "/made/1")),
    "an ephemeral file gone too early": (EPHEMERALS, Story().op("c1.6", "see", 1, 2, "not_found", path="/alive/c1/7")),
    "an ephemeral file left behind": (
        EPHEMERALS,
        Story().note("nemesis.final", "final ephemerals", 1, paths=["/alive/c1/7"]),
    ),
    "an expiry that nothing excuses": (SESSIONS, expired(session())),
    "an expiry excused by another client's fault": (
        SESSIONS,
        expired(session()).note("nemesis", "fault", 59_000, kind="client: cut off", on=["c3"], from_ns=58_000 * MS),
    ),
    "an expiry long after the last fault": (
        SESSIONS,
        expired(session()).note("nemesis", "fault", 50_000, kind="client: cut off", on=["c2"], from_ns=48_000 * MS),
    ),
    "an expiry after a renewal that came after the last fault": (
        SESSIONS,
        expired(
            cut_off(session(), 57_000, 58_000)
            .note("c2", "state", 58_100, state="jeopardy")
            .note("c2", "state", 58_500, state="active")
        ),
    ),
    "one that is not answered while another is": (SERVICE, served(1_000, 99_000)),
    "one that is not answered long after its cut": (SERVICE, cut_off(served(1_000, 99_000), 1_000, 80_000)),
    "a holder that is told it holds nothing": (QUESTIONS, asked("info", held=False, safe=True)),
    "a sequencer that is valid after the release": (QUESTIONS, asked("released", held=True, safe=False)),
    "a session that is not among all sessions": (
        QUESTIONS,
        Story().op("c1.8", "ask", 1, 2, "ok", {"missing": True}, what="sessions"),
    ),
    "a lock that is left behind": (NOTHING_LEFT, Story().note("nemesis.final", "final locks", 9, paths=["/lock/1"])),
    "a session that outlives its client": (
        NOTHING_LEFT,
        Story().note("nemesis.final", "final sessions", 9, sessions=["7 of c2"]),
    ),
    "a deadlock of one who holds nothing": (
        SURPRISES,
        Story().op("a", "increment", 1, 2, "not_done", {"said": "Deadlock"}, counter=0),
    ),
    "a refusal that cannot be": (SURPRISES, Story().op("a", "put", 1, 2, "locked", key="/r", value="x")),
    "an internal error": (SURPRISES, Story().note("c1", "internal", 5, text="a bug in coordclient")),
    **node_histories.BAD,
}


@pytest.mark.parametrize("name", GOOD)
def test_a_history_that_keeps_the_promise_passes(name: str) -> None:
    _, story = GOOD[name]
    for promise, check in CHECKS.items():
        found = check(story.history)
        if promise == GOOD[name][0]:
            assert found == [], promise


@pytest.mark.parametrize("name", BAD)
def test_a_history_that_breaks_the_promise_is_found(name: str) -> None:
    promise, story = BAD[name]
    assert CHECKS[promise](story.history), promise


def test_every_check_is_tried_both_ways() -> None:
    assert {promise for promise, _ in GOOD.values()} == {promise for promise, _ in BAD.values()} == CHECKS.keys()
