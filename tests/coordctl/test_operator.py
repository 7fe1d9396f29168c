"""coordctl for the operator: why, unlock, session kill, sequencer check, elect, whoami, against a real cell."""

from __future__ import annotations

import json
import subprocess
import time
from pathlib import Path

from tests.coordctl.runs import (
    COORDCTL,
    KILL_AFTER,
    LEASE,
    OPTIONS,
    STUBBORN,
    WAIT_SECONDS,
    Coordctl,
    Family,
    environment,
    eventually,
)


def lost_line(words: str) -> str:
    """The one line of coordctl's own."""
    (line,) = [line for line in words.splitlines() if line.startswith("coordctl: ")]
    return line


def test_several_locks_are_held_together_and_named_line_by_line(ctl: Coordctl) -> None:
    script = 'echo "$COORD_LOCK_PATH"; echo "$COORD_LOCK_TOKEN"; echo "$COORD_LOCK_SEQUENCER"; exec cat'
    process = ctl.start("lock", "/s/b", "/ls/local/s/a", "--", "sh", "-c", script)
    assert process.stdout is not None
    lines = [process.stdout.readline().rstrip("\n") for _ in range(6)]
    assert lines[:2] == ["/s/b", "/ls/local/s/a"]
    assert lines[2] == lines[3]
    for path, sequencer in zip(("/s/b", "/s/a"), lines[4:], strict=True):
        assert f":{path}:exclusive:{lines[2]}:" in sequencer
    assert ctl.run("sequencer", "check", lines[4]).returncode == 0
    refused = ctl.run("lock", "/s/a", "/s/c", "-n", "--", "true")
    assert refused.returncode == 75
    assert b"lock not acquired: /s/a, /s/c, /s/a held by " in refused.stderr
    process.communicate("", timeout=WAIT_SECONDS)
    done = ctl.run("sequencer", "check", lines[4])
    assert done.returncode == 1
    assert done.stdout.startswith(b"not valid: ")


def test_permits_let_so_many_hold_and_no_more(ctl: Coordctl) -> None:
    first, second = (ctl.holding("/permits", "--permits", "2") for _ in "12")
    assert first.token != second.token
    assert ctl.run("lock", "/permits", "--permits", "2", "-n", "--", "true").returncode == 75
    other = ctl.run("lock", "/permits", "--permits", "3", "-n", "--", "true")
    assert other.returncode == 4
    assert other.stderr.startswith(b"coordctl: ")


def test_unlock_after_lease_kills_before_anybody_else_has_it_and_says_who_and_why(
    ctl: Coordctl, family: Family
) -> None:
    """etcd-io/website#1206: there was no command that takes a lock away; one waited for the process or its lease."""
    held = ctl.holding("/after", *OPTIONS, script=STUBBORN, family=family)
    done = ctl.run("unlock", "/after", "--reason", "it hangs", "--after-lease")
    assert done.returncode == 0, done.stderr
    successor = ctl.holding("/after", "-w", "20")
    assert family.gone_within(0), "a successor has the lock while the command runs"
    assert successor.token > held.token
    code, words = held.end()
    assert code == 76
    assert lost_line(words).startswith("coordctl: lock lost: /after: an operator has taken it away: it hangs (by ")
    text = ctl.run("why", "/after").stdout.decode()
    assert "taken away by an operator after " in text
    assert "because: it hangs (by " in text


def test_unlock_now_frees_at_once_and_the_command_is_killed_when_it_is_heard(ctl: Coordctl, family: Family) -> None:
    held = ctl.holding("/now", *OPTIONS, script=STUBBORN, family=family)
    done = ctl.run("unlock", "/now", "--reason", "at once", "--now")
    assert done.returncode == 0
    assert b"only what checks the fencing token is safe" in done.stderr
    assert ctl.run("lock", "/now", "-n", "--", "true").returncode == 0
    assert family.gone_within(LEASE + KILL_AFTER + 1)
    code, words = held.end()
    assert code == 76
    assert "an operator has taken it away: at once (by " in lost_line(words)


def test_session_kill_kills_before_anybody_else_has_it_and_says_who_and_why(ctl: Coordctl, family: Family) -> None:
    held = ctl.holding("/killed", *OPTIONS, script=STUBBORN, family=family)
    ((holder,),) = (row["holders"] for row in ctl.json("locks", "/killed"))
    session = str(holder["session"])
    shown = ctl.json("session", "show", session)
    assert [hold["path"] for hold in shown["holds"]] == ["/killed"]
    assert ctl.run("session", "kill", session, "--reason", "wrong host").returncode == 0
    ctl.holding("/killed", "-w", "20")
    assert family.gone_within(0), "a successor has the lock while the command runs"
    code, words = held.end()
    assert code == 76
    assert "an operator has ended the session: wrong host (by " in lost_line(words)


def test_what_is_not_there_is_exit_3(ctl: Coordctl) -> None:
    for command in (
        ("unlock", "/nobody", "--reason", "r", "--now"),
        ("session", "kill", "999999", "--reason", "r"),
    ):
        done = ctl.run(*command)
        assert (done.returncode, done.stdout) == (3, b""), command
        assert len(done.stderr.splitlines()) == 1
    assert ctl.run("sequencer", "check", "nonsense").returncode == 1


def test_why_names_holder_waiters_and_what_a_crash_would_cost(ctl: Coordctl) -> None:
    ctl.holding("/why", "--lease", "5", "--lock-delay", "4")
    waiter = ctl.start("lock", "/why", "--", "true")
    assert waiter.stderr is not None
    assert waiter.stderr.readline().startswith("waiting for /why")
    found = ctl.json("why", "/why")
    (holder,), (waiting,) = found["lock"]["holders"], found["lock"]["waiters"]
    assert (holder["crash_wait_seconds"], waiting["place"]) == (9.5, 1)
    assert 0 < holder["left_seconds"] <= 5.5
    text = ctl.run("why", "/why", "-o", "table").stdout.decode()
    assert "others wait at most 9.5s" in text
    assert max(map(len, text.splitlines())) <= 80


def test_elect_writes_the_value_and_observe_tells_of_each_leader(ctl: Coordctl) -> None:
    observer = ctl.start("elect", "/leader", "--observe", "-o", "json")
    assert observer.stdout is not None
    assert json.loads(observer.stdout.readline())["token"] is None
    tokens = []
    for value in ("one", None):
        leader = ctl.start("elect", "/leader", *([value] if value else []), "--", "cat")
        line = json.loads(observer.stdout.readline())
        assert line["value"]["text"] == value or line["value"]["text"].endswith(f":{leader.pid}")
        tokens.append(line["token"])
        leader.communicate("", timeout=WAIT_SECONDS)
        assert leader.returncode == 0
        assert json.loads(observer.stdout.readline())["token"] is None
    assert tokens[0] < tokens[1]


def test_elect_says_why_the_value_could_not_be_written_and_gives_the_lock_back(ctl: Coordctl) -> None:
    done = ctl.run("elect", "/", "value", "--", "true")
    assert (done.returncode, done.stdout) == (4, b"")
    assert b"could not be written, so the lock was given back" in done.stderr
    assert b"is a directory" in done.stderr
    assert ctl.run("lock", "-n", "/", "--", "true").returncode == 0


def test_whoami_says_which_cell_it_is_and_which_context_led_there(ctl: Coordctl, tmp_path: Path) -> None:
    more = {"XDG_CONFIG_HOME": str(tmp_path), "COORD_ENDPOINTS": ""}
    where = ("--endpoints", ",".join(ctl.cell.endpoints))
    assert ctl.run("context", "add", "here", *where, **more).returncode == 0
    done = ctl.run("whoami", **more)
    assert b"context\there\n" in done.stdout
    assert b"cell\ttest\n" in done.stdout


def test_a_listing_is_refreshed_until_its_reader_has_seen_enough(ctl: Coordctl) -> None:
    process = ctl.start("locks", "--refresh", "0.1", "-o", "json")
    assert process.stdout is not None
    for _ in range(3):
        json.loads(process.stdout.readline())
    process.send_signal(2)
    assert process.wait(WAIT_SECONDS) == 130


def test_paths_are_completed_from_the_cell_at_once(ctl: Coordctl) -> None:
    ctl.run("put", "-p", "/complete/me", "x")
    shell = {"_COORDCTL_COMPLETE": "bash_complete", "COMP_WORDS": "coordctl\ncat\n/comp", "COMP_CWORD": "2"}
    eventually(lambda: ctl.run(**shell).stdout == b"plain,/complete/\n", "an answer within half a second")
    begun = time.monotonic()
    done = subprocess.run(
        COORDCTL,
        env={**environment(ctl.cell), **shell, "COORD_ENDPOINTS": "127.0.0.1:1"},
        capture_output=True,
        timeout=WAIT_SECONDS,
        check=False,
    )
    assert (done.stdout, done.stderr) == (b"\n", b"")
    assert time.monotonic() - begun < 5
