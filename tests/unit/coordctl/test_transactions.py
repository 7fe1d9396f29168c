"""The text form of `coordctl txn`: what it says, and that whatever is wrong is pointed at by line and column."""

from __future__ import annotations

import shlex
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordctl import transactions
from coordctl.transactions import parse
from coordctl.words import Misread, Place, lines_of

EXAMPLE = """\
# a comment
if    exists /config/app             # and another
      generation /config/app == 17
      absent "/config/a b"; free /nightly
then  put -p /config/app "debug = true\\n"
      rm --if-generation 3 /config/old

else  cat /config/app
"""


def said(text: str) -> tuple[list[Any], list[Any], list[Any]]:
    found = parse(text)
    return (
        [guard.wire for guard in found.guards],
        [(step.do, step.arguments) for step in found.then],
        [(step.do, step.arguments) for step in found.otherwise],
    )


def test_a_transaction_says_guards_then_and_else() -> None:
    assert said(EXAMPLE) == (
        [
            {"path": "/config/app", "exists": True},
            {"path": "/config/app", "content_generation": 17, "is": "=="},
            {"path": "/config/a b", "exists": False},
            {"path": "/nightly", "held": False},
        ],
        [
            ("put", {"path": "/config/app", "contents": b"debug = true\n", "parents": True}),
            ("delete", {"path": "/config/old", "if_generation": 3}),
        ],
        [("get", {"path": "/config/app"})],
    )


@pytest.mark.parametrize(
    ("text", "wire"),
    [
        ("exists /a", {"path": "/a", "exists": True}),
        ("absent /a", {"path": "/a", "exists": False}),
        ("held /a", {"path": "/a", "held": True}),
        ("free /a", {"path": "/a", "held": False}),
        ("generation /a = 1", {"path": "/a", "content_generation": 1, "is": "=="}),
        ("content_generation /a != 1", {"path": "/a", "content_generation": 1, "is": "!="}),
        ("lock_generation /a < 1", {"path": "/a", "lock_generation": 1, "is": "<"}),
        ("acl_generation /a <= 1", {"path": "/a", "acl_generation": 1, "is": "<="}),
        ("instance /a > 1", {"path": "/a", "instance": 1, "is": ">"}),
        ("revision /a >= 9007199254740991", {"path": "/a", "revision": 2**53 - 1, "is": ">="}),
        ("checksum /a == 0123456789abcdef", {"path": "/a", "checksum": "0123456789abcdef"}),
        ("sequencer 'a b'", {"sequencer": "a b"}),
    ],
)
def test_each_guard(text: str, wire: dict[str, Any]) -> None:
    assert said(f"if {text}; then ls /")[0] == [wire]
    assert parse(f"if {text}\nthen ls /").guards[0].text == text.replace("'", '"')


@pytest.mark.parametrize(
    ("text", "step"),
    [
        ("put /a b", ("put", {"path": "/a", "contents": b"b"})),
        ("put /a ''", ("put", {"path": "/a", "contents": b""})),
        ("put /a '-p' --parents", ("put", {"path": "/a", "contents": b"-p", "parents": True})),
        ("put /a -", ("put", {"path": "/a", "contents": b"-"})),
        ("put --if-absent /a x", ("put", {"path": "/a", "contents": b"x", "if_absent": True})),
        ("put --if-generation=0 /a x", ("put", {"path": "/a", "contents": b"x", "if_generation": 0})),
        ("mkdir -p /a/b", ("mkdir", {"path": "/a/b", "parents": True})),
        ("rm /a", ("delete", {"path": "/a"})),
        ("cat /a", ("get", {"path": "/a"})),
        ("stat /a", ("stat", {"path": "/a"})),
        ("ls /", ("ls", {"path": "/"})),
    ],
)
def test_each_step_is_a_command_of_coordctl(text: str, step: tuple[str, dict[str, Any]]) -> None:
    assert said(f"then {text}")[1] == [step]
    assert said(f"else\n{text}")[2] == [step]


def test_a_step_may_name_a_file_for_its_contents() -> None:
    (step,) = parse("then put /a -f ./b").then
    assert step.file is not None
    assert (step.arguments, step.file.text, step.file.place) == ({"path": "/a"}, "./b", Place(1, 16))


@pytest.mark.parametrize(
    ("text", "contents"),
    [
        (r'"a\n\t\r\\\"\$\`b"', b'a\n\t\r\\"$`b'),
        (r'"\xff\x00\xc3\xa9"', b"\xff\x00\xc3\xa9"),
        (r"'a\n'", rb"a\n"),
        ("'two\nlines'", b"two\nlines"),
        ('"one \\\nline"', b"one line"),
        (r"a\ b\;\#", b"a b;#"),
        ("a#b", b"a#b"),
        ("$HOME", b"$HOME"),
        ("'a'\"b\"c", b"abc"),
        ("ä", "ä".encode()),
    ],
)
def test_contents_are_quoted_as_in_a_shell(text: str, contents: bytes) -> None:
    assert said(f"then put /a {text}")[1] == [("put", {"path": "/a", "contents": contents})]


@pytest.mark.parametrize(
    ("text", "line", "column", "words"),
    [
        ("", 1, 1, "there is nothing to do"),
        ("if exists /a\n", 2, 1, "there is nothing to do"),
        ("put /a b", 1, 1, "the first word is `if`, `then` or `else`, not put"),
        ("'then' put /a b", 1, 1, "the first word"),
        ("then cat /a\nif exists /a", 2, 1, "`if` cannot come after `then`"),
        ("else cat /a; then cat /a", 1, 14, "`then` cannot come after `else`"),
        ("if exist /a\nthen cat /a", 1, 4, "no guard is called exist; did you mean exists?"),
        ("if xyz\nthen cat /a", 1, 4, "there are: exists, absent, held, free, generation"),
        ("if exists a\nthen cat /a", 1, 11, "a path begins with /, unlike a"),
        ("if exists\nthen cat /a", 1, 4, "write it so: exists PATH"),
        ("if exists /a /b\nthen cat /a", 1, 14, "write it so: exists PATH"),
        ("if generation /a 17\nthen cat /a", 1, 4, "write it so: generation PATH == NUMBER"),
        ("if generation /a ~ 17\nthen cat /a", 1, 18, "compared by == != < <= > >=, not by ~"),
        ("if generation /a == x\nthen cat /a", 1, 21, "a number from 0 to"),
        ("if revision /a == 9007199254740992\nthen cat /a", 1, 19, "a number from 0 to"),
        ("if checksum /a == 0\nthen cat /a", 1, 19, "a checksum has 16 digits"),
        ("if checksum /a != 0123456789abcdef\nthen cat /a", 1, 16, "compared by ==, not by !="),
        ("then\n  cp /a /b", 2, 3, "no step is called cp"),
        ("then puts /a b", 1, 6, "did you mean put?"),
        ("then put /a", 1, 6, "write it so: put "),
        ("then put /a b c", 1, 15, "write it so: put "),
        ("then put --force /a b", 1, 10, "no option --force here"),
        ("then put --parents=1 /a b", 1, 10, "--parents takes no value"),
        ("then put /a b --if-generation", 1, 15, "--if-generation is followed by its value"),
        ("then rm --if-generation x /a", 1, 25, "a number from 0"),
        ("then rm -p /a", 1, 9, "no option -p here"),
        ("then cat relative", 1, 10, "a path begins with /"),
        ("then put /a 'b\nc", 1, 13, "this ' has no end"),
        ('then put /a "b', 1, 13, 'this " has no end'),
        ('then put /a "b\\q"', 1, 15, "\\q means nothing here"),
        ('then put /a "\\x1"', 1, 14, "two hexadecimal digits"),
        ('then put /a "\\x 1"', 1, 14, "two hexadecimal digits"),
        ("then put /a b\\", 1, 14, "nothing follows this \\"),
        ("if " + "exists /a;" * 129 + "then cat /a", 1, 1284, "more than 128 guards"),
        ("then " + "cat /a;" * 64 + "else " + "cat /a;" * 65, 1, 907, "more than 128 steps"),
    ],
)
def test_what_is_wrong_is_pointed_at(text: str, line: int, column: int, words: str) -> None:
    with pytest.raises(Misread) as caught:
        parse(text)
    assert words in caught.value.message
    assert caught.value.place == (line, column)


def test_the_limits_are_allowed() -> None:
    assert len(parse("if " + "exists /a;" * 128 + "then cat /a").guards) == transactions.GUARDS_MAX
    assert len(parse("then " + "cat /a;" * 128).then) == transactions.STEPS_MAX


@given(st.text())
def test_whatever_is_written_is_a_transaction_or_pointed_at_within_the_text(text: str) -> None:
    try:
        parse(text)
    except Misread as misread:
        lines = text.split("\n")
        assert 1 <= misread.place.line <= len(lines)
        assert 1 <= misread.place.column <= len(lines[misread.place.line - 1]) + 1


@given(st.lists(st.text(st.characters(exclude_characters="\0"), min_size=1), min_size=1))
def test_what_a_shell_would_quote_reads_the_same_here(texts: list[str]) -> None:
    (line,) = lines_of(shlex.join(texts))
    assert [word.text for word in line] == texts
