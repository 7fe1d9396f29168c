"""Operations are written down while they happen; what nobody answered is unknown."""

from __future__ import annotations

from tests.histories.check import check
from tests.histories.hold import Hold
from tests.histories.operation import UNKNOWN, Operation
from tests.histories.recorder import Recorder


class Ticks:
    def __init__(self) -> None:
        self.now = 0

    def __call__(self) -> int:
        self.now += 1
        return self.now


def test_what_was_answered_is_known_and_the_rest_is_not() -> None:
    recorder = Recorder(Ticks())
    recorder.begin("register", "/r", "put", "c1", value="a").answered(generation=3)
    recorder.begin("register", "/r", "put", "c1", value="c")
    recorder.begin("register", "/r", "get", "c2").answered(value="a")
    history = recorder.history()
    assert [(op.process, op.outcome, op.begun, op.ended) for op in history] == [
        ("c1", "ok", 1, 2),
        ("c1", UNKNOWN, 3, None),
        ("c2", "ok", 4, 5),
    ]
    assert check(history).ok


def test_what_was_refused_may_not_be_seen() -> None:
    recorder = Recorder(Ticks())
    recorder.begin("register", "/r", "put", "c1", value="a").nothing()
    recorder.begin("register", "/r", "get", "c2").answered(value="a")
    assert not check(recorder.history()).ok


def held(name: str, since: int, token: int, sure: int = 0, release: tuple[int, int] | None = None) -> Hold:
    return Hold("c", "/l", name, "exclusive", since - 1, granted=since, token=token, sure=sure, release=release)


def history(*holds: Hold) -> list[Operation]:
    return [op for hold in holds for op in hold.operations()]


def test_nobody_else_is_granted_what_its_holder_is_sure_of() -> None:
    assert not check(history(held("a", 10, 5, sure=30), held("b", 20, 6))).ok
    assert check(history(held("a", 10, 5, sure=18), held("b", 20, 6))).ok


def test_a_hold_goes_on_until_its_release_is_asked_for() -> None:
    assert not check(history(held("a", 10, 5, release=(30, 31)), held("b", 20, 6))).ok
    assert check(history(held("a", 10, 5, release=(15, 31)), held("b", 20, 6))).ok


def test_somebody_is_refused_only_while_somebody_else_holds() -> None:
    refused = Hold("c", "/l", "b", "exclusive", 40, refused=50)
    assert not check(history(held("a", 10, 5, release=(30, 31)), refused)).ok
    assert check(history(held("a", 10, 5, sure=20), refused)).ok


def test_one_who_heard_nothing_of_its_grant_may_be_in_the_way_and_may_be_gone() -> None:
    unheard, refused = Hold("c", "/l", "a", "exclusive", 10), Hold("c", "/l", "b", "exclusive", 20, refused=30)
    assert check(history(unheard, refused, held("c", 40, 5))).ok
    assert not check(history(refused, held("c", 40, 5))).ok


def test_a_hold_that_an_operator_broke_keeps_nobody_out() -> None:
    broken = held("a", 10, 5, sure=30)
    broken.broken = True
    assert check(history(broken, held("b", 20, 6))).ok
    assert not check(history(broken, held("b", 20, 4))).ok, "its token counts all the same"


def test_permits_are_written_down_and_so_is_the_refusal_of_another_number() -> None:
    first, second, third = (
        Hold("c", "/l", name, "semaphore", 10, granted=20, token=at, sure=90, permits=2)
        for at, name in enumerate("abc", 5)
    )
    refused = Hold("c", "/l", "d", "semaphore", 30, differs=40, permits=3)
    assert check(history(first, second, refused)).ok
    assert not check(history(first, second, third)).ok
    assert not check(history(refused)).ok


def test_several_at_once_are_one_hold_whose_parts_may_end_apart() -> None:
    def several(name: str, paths: str, granted: int, sure: int, release: tuple[int, int] | None = None) -> Hold:
        parts, tokens = tuple((path, "exclusive", 0) for path in paths), dict.fromkeys(paths, granted)
        asked = granted - 5
        return Hold("c", "", name, "", asked, None, granted, 0, sure, release, parts=parts, tokens=tokens)

    assert not check(history(several("a", "xy", 10, 30), several("b", "yz", 20, 40))).ok
    assert check(history(several("a", "xy", 10, 12), several("b", "yz", 20, 40))).ok
    assert check(history(several("a", "xy", 10, 30, (12, 14)), several("b", "yz", 20, 40))).ok
    assert not check(history(several("a", "xy", 10, 30, (22, 24)), several("b", "yz", 20, 40))).ok
