"""What is said of a run: a quiet one is refused, one on a machine that does not allow everything is incomplete."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from tests.nemesis.history import read
from tests.nemesis.report import FLOOR_PER_MINUTE, Report, tell
from tests.unit.nemesis.histories import MS, Story


def report(seconds: float = 60, **changed: object) -> Report:
    work = tell(busy().history)
    values = {
        "directory": Path("run"),
        "seed": 1,
        "seconds": seconds,
        "replicas": 3,
        "clients": 2,
        "kinds": 38,
        "faults": Counter({"kill all": 10}),
        "not_done": Counter(),
        "missing": {},
        "broken": {},
        "work": work,
        "traffic": {"connections": 1, "bytes": 1},
    }
    return Report(**(values | changed))  # type: ignore[arg-type]


def busy() -> Story:
    """A minute of work, with a hole of 5 s in which everybody was killed."""
    story = Story().note("c1", "begin", 0, lease_s=6)
    for at in [*range(0, 20_000, 500), *range(25_000, 60_000, 500)]:
        story.op("c1.0", "put", at, at + 1, "ok", {"revision": at}, key="/r", value=str(at))
        story.op("c1.1", "get", at, at + 1, "ok", {"value": None}, key="/r")
        story.op("c1.2", "increment", at, at + 2, "ok", {"read": at}, counter=0)
        story.hold("c1.3", at, at, at + 1)
        story.op("c1.4", "txn", at, at + 1, "ok", {"succeeded": True, "seen": []}, table="/t", guards=[], then=[])
        story.note("c1.5", "events", at, n=1, upto=at, batches=[f"{at} /reg/a - x*0 /reg/b x*0 -"])
        story.note("c1", "cache", at, hits=at // 100)
    story.note("nemesis", "fault", 24_000, kind="kill all", on=["r1"], from_ns=20_000 * MS)
    return story.note("c1", "closing", 60_000)


def test_a_busy_run_without_a_finding_passes() -> None:
    assert report().exit_status == 0
    assert report().lines()[-1] == "nemesis: no promise was broken"


def test_a_quiet_run_is_refused() -> None:
    for name in FLOOR_PER_MINUTE:
        assert name in tell(Story().history).totals or name == "faults"
    quiet = report(work=tell(Story().history))
    assert quiet.exit_status == 1 and "too quiet" in quiet.verdict()
    assert report(faults=Counter()).exit_status == 1
    assert report(seconds=6_000).exit_status == 1


def test_a_run_on_a_machine_that_does_not_allow_everything_is_incomplete() -> None:
    one = report(missing={"full disk": "needs root"})
    assert one.exit_status == 0 and "incomplete" in one.verdict()
    assert any("full disk" in line and "needs root" in line for line in one.lines())


def test_a_broken_promise_fails_the_run_and_is_told() -> None:
    one = report(broken={"tokens rise": ["token 5 after token 9"]})
    assert one.exit_status == 1
    assert any("token 5 after token 9" in line for line in one.lines())


def test_the_longest_time_without_service_is_told_with_its_faults() -> None:
    work = tell(busy().history)
    assert 5_000 * MS < work.gap.length_ns < 6_000 * MS
    assert work.gap_faults == ("kill all",)


def test_a_history_file_outlives_the_kill_of_its_writer(tmp_path: Path) -> None:
    path = tmp_path / "history"
    path.write_text(
        '{"at":1,"who":"a","n":1,"do":"put","args":{"key":"/r","value":"x"}}\n'
        '{"at":2,"who":"a","n":1,"ended":"ok","result":{"revision":3}}\n'
        '{"at":3,"who":"a","n":2,"do":"put","args":{"key":"/r","value":"y"}}\n'
        '{"at":4,"who":"a","note":"lag","ms":7}\n'
        '{"at":5,"who":"a","n":2,"end'
    )
    history = read([path])
    assert [(op.outcome, op.ended_ns) for op in history.ops] == [("ok", 2), ("unknown", None)]
    assert [note.more["ms"] for note in history.noted("lag")] == [7]
    assert history.torn == 1
