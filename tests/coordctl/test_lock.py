"""coordctl lock PATH -- CMD: exit codes, environment, signals, waiting, and that the lock ends with CMD."""

from __future__ import annotations

import os
import signal
import subprocess

import pytest

from tests.coordctl.runs import COORDCTL, WAIT_SECONDS, Coordctl, environment, eventually

FORWARDED = ("SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT", "SIGUSR1", "SIGUSR2")


@pytest.mark.parametrize(
    ("script", "code"),
    [("exit 0", 0), ("exit 7", 7), ("exit 255", 255), ("kill -TERM $$", 143), ("kill -KILL $$", 137)],
)
def test_the_exit_code_is_that_of_the_command(ctl: Coordctl, script: str, code: int) -> None:
    done = ctl.run("lock", "/exit", "--", "sh", "-c", script)
    assert (done.returncode, done.stdout, done.stderr) == (code, b"", b"")


def test_a_file_that_cannot_be_executed_is_126_and_a_missing_one_127(ctl: Coordctl, tmp_path) -> None:
    broken = tmp_path / "broken"
    broken.write_text("#!/no/such/interpreter\n")
    broken.chmod(0o755)
    data = tmp_path / "data"
    data.write_bytes(b"\x00\x01\x02")
    data.chmod(0o755)
    assert ctl.run("lock", "/exec", "--", str(data)).returncode == 126
    assert ctl.run("lock", "/exec", "--", str(broken)).returncode == 127
    assert ctl.run("lock", "/exec", "-n", "--", "true").returncode == 0, "the lock of a failed start is free at once"


def test_the_command_knows_its_lock(ctl: Coordctl) -> None:
    script = 'echo "$COORD_LOCK_PATH $COORD_LOCK_TOKEN $COORD_LOCK_SEQUENCER"'
    first, second = (ctl.run("lock", "/ls/local/env", "--", "sh", "-c", script).stdout.decode().split() for _ in "12")
    assert first[0] == second[0] == "/ls/local/env", "the path as it was given"
    assert int(first[1]) < int(second[1]), "a later grant has a larger token"
    assert f":/env:exclusive:{first[1]}:" in first[2]


def test_arguments_reach_the_command_word_for_word_without_a_shell(ctl: Coordctl) -> None:
    arguments = ["a b", "$HOME", "*", "", "-n", "--", "--help", "'"]
    done = ctl.run("lock", "/words", "--", "printf", "<%s>", *arguments)
    assert done.stdout.decode() == "".join(f"<{argument}>" for argument in arguments)


def test_standard_streams_and_other_descriptors_are_the_commands_own(ctl: Coordctl, tmp_path) -> None:
    done = ctl.run("lock", "/streams", "--", "sh", "-c", "cat; echo words >&2", stdin=b"data\0\xff")
    assert (done.stdout, done.stderr) == (b"data\0\xff", b"words\n")
    script = f"{COORDCTL[0]} -m coordctl lock /streams -- sh -c 'echo third >&3' 3>{tmp_path / 'third'}"
    subprocess.run(["sh", "-c", script], env=environment(ctl.cell), check=True, timeout=WAIT_SECONDS)
    assert (tmp_path / "third").read_text() == "third\n"


def test_the_lock_is_free_at_once_when_the_command_has_ended(ctl: Coordctl) -> None:
    for _ in range(2):
        assert ctl.run("lock", "/free", "-n", "--lock-delay", "60", "--lease", "60", "--", "true").returncode == 0
    assert ctl.run("locks", "/free").stdout == b""


def test_a_lock_that_is_not_free_is_75_or_the_code_asked_for(ctl: Coordctl) -> None:
    held = ctl.holding("/busy")
    for options, code in ((("-n",), 75), (("-w", "0.2"), 75), (("-n", "-E", "9"), 9), (("-n", "-s"), 75)):
        done = ctl.run("lock", "/busy", *options, "--", "echo", "never")
        assert (done.returncode, done.stdout) == (code, b"")
        assert done.stderr.startswith(b"coordctl: lock not acquired: /busy, held by ")
    held.process.communicate("", timeout=WAIT_SECONDS)
    assert ctl.run("lock", "/busy", "-n", "--", "true").returncode == 0


def test_a_path_that_is_named_twice_is_wrong_usage(ctl: Coordctl) -> None:
    done = ctl.run("lock", "/twice", "/ls/local/twice", "--", "true")
    assert (done.returncode, done.stderr) == (2, b"coordctl: a path is named twice: /twice, /ls/local/twice\n")


def test_shared_holders_hold_together(ctl: Coordctl) -> None:
    held = ctl.holding("/shared", "-s")
    again = ctl.run("lock", "/shared", "-s", "-n", "--", "sh", "-c", "echo $COORD_LOCK_TOKEN")
    assert (again.returncode, int(again.stdout)) == (0, held.token)
    assert ctl.run("lock", "/shared", "-n", "--", "true").returncode == 75


def test_signals_are_forwarded_to_the_command(ctl: Coordctl) -> None:
    program = (
        "import signal, sys\n"
        f"for name in {FORWARDED}:\n"
        "    signal.signal(getattr(signal, name), lambda number, _: print(signal.Signals(number).name, flush=True))\n"
        "print('CATCHING', flush=True)\n"
        "sys.stdin.readline()\n"
        "sys.exit(5)"
    )
    held = ctl.holding("/signals", script=f'exec {COORDCTL[0]} -c "{program}"')
    stdin, stdout = held.process.stdin, held.process.stdout
    assert stdin is not None
    assert stdout is not None
    assert stdout.readline() == "CATCHING\n"
    for name in FORWARDED:
        held.process.send_signal(getattr(signal, name))
        assert stdout.readline() == f"{name}\n"
    stdin.write("end\n")
    stdin.flush()
    assert held.end() == (5, "")


def test_a_signal_that_is_ignored_stays_ignored(ctl: Coordctl) -> None:
    process = ctl.start(
        "lock", "/nohup", "--", "sh", "-c", "echo READY; kill -HUP $$; read line; exit 3",
        preexec=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN),
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.readline() == "READY\n"
    process.send_signal(signal.SIGHUP)
    process.communicate("line\n", timeout=WAIT_SECONDS)
    assert process.returncode == 3


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_waiting_and_leaves_no_waiter_behind(ctl: Coordctl, number: signal.Signals) -> None:
    ctl.holding("/queue")
    waiter = ctl.start("lock", "/queue", "--", "echo", "never")
    eventually(lambda: ctl.json("locks", "/queue", "--waiting"), "the waiter in the queue")
    waiter.send_signal(number)
    out, _ = waiter.communicate(timeout=WAIT_SECONDS)
    assert (waiter.returncode, out) == (128 + number, "")
    assert ctl.json("locks", "/queue", "--waiting") == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_without_a_command_it_prints_the_token_and_holds_until_it_is_told_to_end(
    ctl: Coordctl, number: signal.Signals
) -> None:
    process = ctl.start("lock", "/held")
    assert process.stdout is not None
    token = int(process.stdout.readline())
    (row,) = ctl.json("locks", "/held")
    assert row["token"] == token
    process.send_signal(number)
    assert process.wait(WAIT_SECONDS) == 0
    assert ctl.json("locks", "/held") == []


def test_without_a_command_the_sequencer_comes_as_json(ctl: Coordctl) -> None:
    process = ctl.start("lock", "/held-json", "-o", "json")
    assert process.stdout is not None
    text = "".join(iter(process.stdout.readline, "}\n"))
    assert '"sequencer": "' in text
    assert '"path": "/held-json"' in text


def test_what_the_command_leaves_running_is_named_and_does_not_keep_the_lock(ctl: Coordctl) -> None:
    held = ctl.holding("/left", script="sleep 60 >/dev/null 2>&1 & exit 0")
    code, words = held.end()
    assert code == 0
    assert words.startswith("the command ended, and with it the lock; what it started goes on without the lock: pid ")
    pid = int(words.rsplit(" ", 1)[1])
    try:
        assert ctl.run("lock", "/left", "-n", "--", "true").returncode == 0
    finally:
        os.kill(pid, signal.SIGKILL)
