"""`watch`: what is told of changes and of a resync, on a screen, in a pipe, as JSON and to a command; how it waits."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import redirect_stdout
from typing import Any

import pytest

from coordclient import Event, Node, Resync, Stat
from coordctl import follow, runs, watch
from coordctl.errors import Exit, Failure
from coordctl.events import PATH_COLUMN, Stream, all_told, titles
from coordctl.follow import Follower, wait_for_more
from coordctl.output import columns
from coordctl.runs import KIND, PATH, REVISION, Runs, Work
from coordctl.settings import Settings

AT_MS = 1_700_000_000_000
TIME = "2023-11-14T22:13:20.000Z"


def event(revision: int, path: str = "/a", kind: str = "changed", after: bytes | None = b"new\tone") -> Event:
    return Event(revision, path, kind, False, 3, b"\xff", after, 7, "alice", AT_MS, "put", 7, "0" * 16)


class Screen(io.StringIO):
    def isatty(self) -> bool:
        return True


def lines_of(out: io.StringIO, form: str | None = None, values: str = "none", *, several: bool = True) -> list[str]:
    more = {"none": "", "new": "CONTENTS...", "both": "BEFORE... CONTENTS..."}[values]
    with redirect_stdout(out):
        stream = Stream(columns(titles(several=several, more=more)), form)
        for batch in ([event(5)], [event(6, "/a/" + "b" * 60), event(6, "/c", "deleted", None)]):
            stream.write(item.row for item in all_told(batch, "/a", values))
    return out.getvalue().splitlines()


def test_a_line_for_each_change_in_a_pipe() -> None:
    lines = lines_of(io.StringIO())
    assert lines[0].split("\t") == ["5", TIME, "changed", "alice", "put", "7", "/a", "7", "0" * 16]
    assert [line.split("\t")[PATH_COLUMN] for line in lines] == ["/a", "/a/" + "b" * 60, "/c"]


def test_contents_are_the_last_fields_and_never_break_a_line() -> None:
    lines = lines_of(io.StringIO(), values="both")
    assert [line.split("\t")[9:] for line in lines] == [["\ufffd", "new one"], ["\ufffd", "new one"], ["\ufffd", "-"]]


def test_one_heading_on_a_screen_and_lines_that_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("NO_COLOR", "1")
    lines = lines_of(Screen())
    assert lines[0] == "REVISION  TIME                      KIND     PRINCIPAL  PATH"
    assert lines[1] == f"5         {TIME}  changed  alice      /a"
    assert [line for line in lines if line.startswith("REVISION")] == lines[:1]
    assert len(lines[2]) == 80
    assert lines[2].endswith("b…")


def test_a_single_node_is_not_named_on_a_screen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    assert lines_of(Screen(), several=False)[:2] == [
        "REVISION  TIME                      KIND     PRINCIPAL  OPERATION  SESSION",
        f"5         {TIME}  changed  alice      put        7",
    ]


def test_names_alone() -> None:
    assert lines_of(Screen(), "name")[0] == "/a"


def test_a_change_as_json() -> None:
    (told,) = all_told([event(5)], "/a", "new")
    assert told.shown == {
        "revision": 5, "time": TIME, "kind": "changed", "path": "/a", "directory": False, "instance": 3,
        "size": 7, "checksum": "0" * 16,
        "operation": "put", "session": 7, "principal": "alice", "after": b"new\tone",
    }  # fmt: skip
    assert "before" in all_told([event(5)], "/a", "both")[0].shown
    assert "after" not in all_told([event(5)], "/a", "none")[0].shown


STAT = Stat("/a/b", "file", 3, 4, 0, 0, 4, "1" * 16, 7, AT_MS, AT_MS, "alice", False, 0)


def test_a_resync_says_so_and_how_much_there_is_now() -> None:
    nodes = (Node("/a", STAT._replace(path="/a", kind="directory")), Node("/a/b", STAT, b"x"))
    told = all_told(Resync(9, nodes), "/a", "new")
    assert [(item.kind, item.path, item.revision, item.resync) for item in told] == [
        ("resync", "/a", 9, True),
        ("present", "/a", 9, False),
        ("present", "/a/b", 9, False),
    ]
    assert told[0].shown == {"revision": 9, "kind": "resync", "path": "/a", "entries": 2}
    assert (told[2].shown["after"], told[2].shown["stat"]["content_generation"]) == (b"x", 4)
    assert told[1].row[PATH_COLUMN] == "/a/"
    of_a_change = {values: len(all_told([event(5)], "/a", values)[0].row) for values in ("none", "new", "both")}
    for values, width in of_a_change.items():
        assert {len(item.row) for item in all_told(Resync(9, nodes), "/a", values)} == {width}


# --- a command


def test_a_run_hears_of_all_its_revisions() -> None:
    work = Work()
    work.add(all_told([event(5)], "/a", "new"))
    work.add(all_told([event(6, "/a/b", "created"), event(6, "/a/c", "deleted", None)], "/a", "new"))
    assert work.environment("/a") == {REVISION: "6", KIND: "changed\ncreated\ndeleted", PATH: "/a\n/a/b\n/a/c"}
    lines = [json.loads(line) for line in work.lines]
    assert [line["path"] for line in lines] == ["/a", "/a/b", "/a/c"]
    assert [line["after"] for line in lines] == [{"text": "new\tone"}, {"text": "new\tone"}, None]


def test_a_run_at_the_start_says_so() -> None:
    assert Work().environment("/a") == {REVISION: "0", KIND: "start", PATH: "/a"}


def test_more_changes_than_fit_into_the_environment_are_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runs, "CHANGES_IN_ENVIRONMENT_MAX", 2)
    work = Work()
    work.add(all_told([event(5), event(5)], "/a", "none"))
    assert work.environment("/a")[KIND] == "changed\nchanged"
    work.add(all_told([event(6)], "/a", "none"))
    assert work.environment("/a") == {REVISION: "6", KIND: "many", PATH: "/a"}
    assert len(work.lines) == 3


@pytest.mark.parametrize(("bound", "value"), [("CHANGES_OF_A_RUN_MAX", 2), ("BYTES_OF_A_RUN_MAX", 300)])
def test_work_is_full_at_its_bounds(monkeypatch: pytest.MonkeyPatch, bound: str, value: int) -> None:
    monkeypatch.setattr(runs, bound, value)
    work = Work()
    work.add(all_told([event(5)], "/a", "none"))
    assert not work.full
    work.add(all_told([event(6)], "/a", "none"))
    assert work.full


_ASKING = (signal.SIGTERM, signal.SIGHUP, signal.SIGCHLD)


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Runs]]:
    """A run whose command is a fake, and the signal handlers of this process put back."""
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, *_ASKING)}

    def start(popen: Callable[..., object]) -> Runs:
        monkeypatch.setattr(subprocess, "Popen", popen)
        found = Runs(("a",), "/a")
        found.start(Work())
        return found

    yield start
    for number, handler in handlers.items():
        signal.signal(number, handler)


class Fake:
    def __init__(self) -> None:
        self.sent: list[int] = []

    def send_signal(self, number: int) -> None:
        self.sent.append(number)


@pytest.mark.parametrize("early", [True, False])
def test_a_signal_reaches_the_command_once_also_while_it_is_started(started: Any, early: bool) -> None:
    fake = Fake()

    def popen(*_arguments: object, **_more: object) -> Fake:
        if early:
            signal.raise_signal(signal.SIGTERM)
        return fake

    found = started(popen)
    if not early:
        signal.raise_signal(signal.SIGTERM)
    assert (fake.sent, found.asked_to_end) == ([signal.SIGTERM], signal.SIGTERM)


@pytest.mark.parametrize("early", [True, False])
def test_ctrl_c_waits_for_the_command_also_while_it_is_started_and_a_second_one_does_not(
    started: Any, early: bool
) -> None:
    fake = Fake()

    def popen(*_arguments: object, **_more: object) -> Fake:
        if early:
            signal.raise_signal(signal.SIGINT)
        return fake

    found = started(popen)
    if not early:
        signal.raise_signal(signal.SIGINT)
    assert (found.busy, found.asked_to_end) == (True, signal.SIGINT)
    assert fake.sent == ([signal.SIGINT] if early else []), "later it has it from the terminal"
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)
    found.wait()  # for nothing
    assert not found.busy


def test_a_command_that_cannot_be_run_is_exit_126(started: Any) -> None:
    def popen(*_arguments: object, **_more: object) -> Fake:
        raise OSError(8, "Exec format error")

    with pytest.raises(Failure, match="a: cannot be executed") as caught:
        started(popen)
    assert caught.value.exit_code == Exit.NOT_EXECUTABLE


# --- waiting


@pytest.fixture(autouse=True)
def no_wakeup() -> Iterator[None]:
    yield
    signal.set_wakeup_fd(-1)


def test_batches_are_taken_in_order_and_then_what_ended_them() -> None:
    def batches() -> Iterator[int]:
        yield from range(3)
        raise OSError("gone")

    follower, found = Follower(batches()), []
    with pytest.raises(OSError, match="gone"):
        while True:
            item = follower.take()
            if item is None:
                wait_for_more(follower)
            else:
                found.append(item)
    assert found == [0, 1, 2]


def test_no_more_is_read_ahead_than_the_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(follow, "BATCHES_MAX", 2)
    asked = [threading.Event() for _ in range(6)]

    def batches() -> Iterator[int]:
        for number, event in enumerate(asked):
            event.set()
            yield number

    follower = Follower(batches())
    while follower.take() is None:
        wait_for_more(follower)
    assert asked[3].wait(10), "one was taken, two wait, one is in hand"
    assert not asked[4].wait(0.1)


@pytest.mark.parametrize(
    ("since", "said"), [(0, "some changes are not"), (9, "some changes are not"), (10, "revision 10 is yet to come")]
)
def test_why_the_state_is_told_instead_of_changes(since: int, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    follower: Follower[Sequence[Event] | Resync] = Follower([Resync(9, ())])
    following = watch._Following(Settings(), follower, "/a", "none", since, once=True)
    while not following._take():
        wait_for_more(follower)
    assert f"/a: {said}" in capsys.readouterr().err


def test_a_signal_that_interrupts_nothing_ends_the_wait_all_the_same() -> None:
    """As one that comes just before the wait begins: here another thread has it, and the flag for this one is set."""
    never, main = threading.Event(), threading.get_ident()

    def batches() -> Iterator[int]:
        while sys._current_frames()[main].f_code is not wait_for_more.__code__:
            pass
        os.kill(os.getpid(), signal.SIGINT)
        assert never.wait(10), "it waited for the next batch"
        yield 0

    follower: Follower[int] = Follower(batches())
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        with pytest.raises(KeyboardInterrupt):
            wait_for_more(follower)
        assert not follower._ended
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        never.set()


def test_the_end_of_the_reader_of_stdout_ends_the_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    never = threading.Event()

    def batches() -> Iterator[int]:
        never.wait(30)
        yield 0

    follower: Follower[int] = Follower(batches())
    reader, writer = os.pipe()
    monkeypatch.setattr(follow, "_STDOUT", writer)
    os.close(reader)
    try:
        with pytest.raises(BrokenPipeError):
            wait_for_more(follower, output=True)
    finally:
        os.close(writer)
        never.set()
