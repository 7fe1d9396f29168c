"""The exit codes of the documentation, and the one line of every failure."""

from __future__ import annotations

import pytest

from coordclient.protocol.errors import ERRORS
from coordctl.errors import Exit, exit_code_of, one_line
from coordctl.main import invoke

TABLE = {
    2: {"bad_request", "bad_path", "wrong_cell"},
    3: {"not_found", "revision_gone", "revision_ahead", "stale_handle"},
    4: {
        "exists",
        "conflict",
        "not_empty",
        "not_a_directory",
        "is_a_directory",
        "locked",
        "permits_differ",
        "guard_failed",
        "not_waiting",
    },
    5: {"permission_denied"},
    6: {"not_master", "unavailable", "overloaded", "outcome_unknown", "session_expired", "session_killed"},
    75: {"not_acquired", "deadlock"},
    76: {"not_held"},
}


def test_each_code_of_the_protocol_has_the_documented_exit_code() -> None:
    expected = {code: number for number, codes in TABLE.items() for code in codes}
    assert set(expected) <= set(ERRORS)
    assert {code: int(exit_code_of(code)) for code in ERRORS} == {code: expected.get(code, 1) for code in ERRORS}


def test_the_numbers_that_scripts_rely_on() -> None:
    assert {name: int(value) for name, value in Exit.__members__.items()} == {
        "OK": 0,
        "OTHER": 1,
        "USAGE": 2,
        "NOT_FOUND": 3,
        "CONFLICT": 4,
        "PERMISSION": 5,
        "UNAVAILABLE": 6,
        "NOT_ACQUIRED": 75,
        "LOST": 76,
        "NOT_EXECUTABLE": 126,
        "COMMAND_NOT_FOUND": 127,
        "SIGNAL": 128,
    }


@pytest.mark.parametrize("message", ["two\nlines", "\x0bodd\r\nspaces ", "plain"])
def test_a_message_is_one_line_whatever_it_contains(message: str) -> None:
    assert len(one_line(message).splitlines()) == 1


def test_an_empty_message_still_says_something() -> None:
    assert one_line("") == "no reason was given"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nonsense"], "nonsense"),
        (["put"], "PATH"),
        (["ls", "--nonsense"], "--nonsense"),
        (["-o", "xml", "ls"], "xml"),
        (["locks", "--held", "--waiting"], "exclude each other"),
        (["put", "/x", "text", "-f", "-"], "exclude each other"),
        (["lock", "/x", "-n", "-w", "1", "--", "true"], "exclude each other"),
        (["lock", "/x", "/y", "--permits", "2", "--", "true"], "one PATH"),
        (["lock", "/x", "--permits", "0", "--", "true"], "0 is not in the range"),
        (["lock", "/x", "-s", "--permits", "2", "--", "true"], "without --shared"),
        (["lock", "/x", "true", "false"], "goes after --"),
        (["lock", *(f"/{number}" for number in range(65)), "--", "true"], "the limit is 64"),
        (["lock", *(f"/{number}" + "x" * 1000 for number in range(20)), "--", "true"], "together are longer"),
        (["elect", "/x", "a", "b"], "goes after --"),
        (["elect", "/x", "a", "--observe"], "without VALUE"),
        (["elect", "/x", "v" * 5000, "--", "true"], "the limit is 4096"),
        (["unlock", "/x", "--now"], "--reason"),
        (["unlock", "/x", "--reason", "r"], "say how"),
        (["unlock", "/x", "--reason", "r", "--now", "--after-lease"], "say how"),
        (["unlock", "/x", "--reason", " ", "--now"], "reason is empty"),
        (["unlock", "/x", "--reason", "r" * 300, "--now"], "too long"),
        (["session", "kill", "7"], "--reason"),
        (["session", "kill", "seven", "--reason", "r"], "seven"),
        (["session", "show", "0"], "0 is not in the range"),
        (["ls", "--refresh", "0"], "below the least"),
        (["ls", "--refresh", "7200"], "over the most"),
        (["completion", "csh"], "csh"),
        (["context", "add", "x"], "--endpoints"),
        (["lock", "/x", "--"], "no command after --"),
        (["lock", "/x", "true"], "goes after --"),
        (["lock", "--", "true"], "PATH"),
        (["lock", "/x", "--kill-after", "9", "--", "true"], "--lock-delay"),
        (["lock", "/x", "--lease", "0.5", "--", "true"], "below the least, 1s"),
        (["lock", "/x", "--lock-delay", "61", "--", "true"], "over the most, 60s"),
        (["lock", "/x", "-w", "soon", "--", "true"], "not a duration"),
        (["lock", "/" + "x" * 1100, "--", "true"], "longer than"),
        (["--endpoints", "nobody.invalid:7420", "--timeout", "1", "cell", "status"], "no replica answers"),
        (["--endpoints", "::", "cell", "status"], "not an endpoint"),
        (["--endpoints", "a b", "ls"], "not an endpoint"),
        (["--endpoints", "http://", "lock", "/x", "--", "true"], "not an endpoint"),
        (["ls", "--endpoints", "http://[::1"], "not an endpoint"),
        (["ls", "--endpoints", "127.0.0.1:99999"], "not an endpoint"),
        (["--endpoints", "", "ls"], "is empty"),
        (["--endpoints", " , ", "ls"], "no endpoint is named"),
        (["ls", "--cell", ""], "is empty"),
        (["--context", "", "session", "kill", "7", "--reason", "r"], "is empty"),
        (["session", "show", "9" * 30], "is not in the range"),
        (["rm", "/x", "--if-generation", "9" * 30], "is not in the range"),
    ],
)
def test_wrong_usage_is_one_line_and_exit_2(
    arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code = invoke(arguments)
    printed = capsys.readouterr()
    assert code == (6 if words.startswith("no replica") else 2)
    assert printed.out == ""
    lines = printed.err.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("coordctl: ")
    assert words in lines[0]


@pytest.mark.parametrize("arguments", [[], ["session"], ["cell"], ["context"], ["sequencer"]])
def test_without_a_command_the_help_goes_to_stderr_with_exit_2(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert invoke(arguments) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "Usage: coordctl" in printed.err


@pytest.mark.parametrize(
    ("program", "code"), [("no-such-program-here", 127), ("/no/such/program", 127), ("/etc/passwd", 126)]
)
def test_a_command_that_cannot_be_run_is_refused_before_the_lock_is_asked_for(
    program: str, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert invoke(["lock", "/x", "--", program]) == code
    assert capsys.readouterr().err.startswith(f"coordctl: {program}: ")
