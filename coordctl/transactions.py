"""The text form of a transaction: guards, and what is done where all of them hold, or else.

    if    exists /config/app                     # every line after a section's word goes on with that section
          generation /config/app == 17
    then  put /config/app "debug = true\n"
          rm /config/old
    else  cat /config/app

Each section is optional but one of `then` and `else`. Guards are in `GUARDS`, and numbers of a node (`NUMBERS`) are
compared by == != < <= > >=. Steps are the commands of coordctl with their options (`STEPS`). This module knows what a
transaction says, and nothing of a cell; its outcome is in the words of the protocol.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NoReturn

from coordctl.words import Misread, Place, Word, lines_of

GUARDS_MAX, STEPS_MAX = 128, 128
TEXT_BYTES_MAX = 16 * 1024 * 1024  # more than any transaction that a cell takes
NUMBER_MAX = 2**53 - 1
IF, THEN, ELSE = SECTIONS = ("if", "then", "else")
COMPARISONS = ("==", "!=", "<", "<=", ">", ">=")
NUMBERS = {
    "generation": "content_generation",
    "content_generation": "content_generation",
    "lock_generation": "lock_generation",
    "acl_generation": "acl_generation",
    "instance": "instance",
    "revision": "revision",
}
STATES: Mapping[str, tuple[str, bool]] = {
    "exists": ("exists", True),
    "absent": ("exists", False),
    "held": ("held", True),
    "free": ("held", False),
}
GUARDS = (*STATES, *NUMBERS, "checksum", "sequencer")
_CHECKSUM = re.compile(r"[0-9a-f]{16}")


@dataclass(frozen=True, slots=True)
class Guard:
    """`wire`: as the protocol has it; `text`: as it was written."""

    wire: Mapping[str, Any]
    text: str
    place: Place

    @property
    def path(self) -> str | None:
        """The node that it is about; None for a sequencer."""
        return self.wire.get("path")


@dataclass(frozen=True, slots=True, eq=False)
class Step:
    """`do` and `arguments` as the protocol has them; `name` as coordctl does. `file`: where its contents come from,
    if not from the text."""

    do: str
    name: str
    arguments: Mapping[str, Any]
    place: Place
    file: Word | None = None

    @property
    def path(self) -> str:
        """The node that it is about."""
        return str(self.arguments["path"])


@dataclass(frozen=True, slots=True)
class Transaction:
    """What was written."""

    guards: Sequence[Guard]
    then: Sequence[Step]
    otherwise: Sequence[Step]


def parse(text: str) -> Transaction:
    """The transaction that `text` says; raises Misread, which points at what cannot be understood."""
    found: dict[str, list[Any]] = {name: [] for name in SECTIONS}
    section = ""
    for line in lines_of(text):
        words, first = line, line[0]
        if first.plain and first.text in SECTIONS:
            section = _next_section(section, first)
            words = line[1:]
        if not section:
            raise Misread(f"the first word is `if`, `then` or `else`, not {_shown(first)}", first.place)
        if words:
            found[section].append(_guard(words) if section == IF else _step(words))
            _check_counts(found, words[0].place)
    transaction = Transaction(found[IF], found[THEN], found[ELSE])
    if not (transaction.then or transaction.otherwise):
        raise Misread("there is nothing to do: no step after `then` or `else`", Place(text.count("\n") + 1, 1))
    return transaction


def _next_section(present: str, word: Word) -> str:
    if present and SECTIONS.index(word.text) < SECTIONS.index(present):
        raise Misread(f"`{word.text}` cannot come after `{present}`: the order is if, then, else", word.place)
    return word.text


def _check_counts(found: Mapping[str, Sequence[object]], place: Place) -> None:
    if len(found[IF]) > GUARDS_MAX:
        raise Misread(f"more than {GUARDS_MAX} guards", place)
    if len(found[THEN]) + len(found[ELSE]) > STEPS_MAX:
        raise Misread(f"more than {STEPS_MAX} steps after `then` and `else` together", place)


# --- guards


def _guard(words: Sequence[Word]) -> Guard:
    name = words[0].text
    if name in STATES:
        key, value = STATES[name]
        wire = {"path": _only_path(words), key: value}
    elif name in NUMBERS:
        path, comparison, number = _compared(words, COMPARISONS)
        wire = {"path": path, NUMBERS[name]: _number(number), "is": comparison}
    elif name == "checksum":
        path, _, digits = _compared(words, COMPARISONS[:1])
        if not _CHECKSUM.fullmatch(digits.text):
            raise Misread(
                f"a checksum has 16 digits from 0 to f, as `stat` shows it; not {_shown(digits)}", digits.place
            )
        wire = {"path": path, name: digits.text}
    elif name == "sequencer":
        _count(words, 1, f"{name} SEQUENCER")
        wire = {name: words[1].text}
    else:
        _unknown("guard", words[0], GUARDS)
    return Guard(wire, " ".join(_shown(word) for word in words), words[0].place)


def _only_path(words: Sequence[Word]) -> str:
    _count(words, 1, f"{words[0].text} PATH")
    return _path(words[1])


def _compared(words: Sequence[Word], comparisons: Sequence[str]) -> tuple[str, str, Word]:
    name, value = words[0].text, "CHECKSUM" if len(comparisons) == 1 else "NUMBER"
    _count(words, 3, f"{name} PATH {comparisons[0]} {value}")
    comparison = "==" if words[2].text == "=" else words[2].text
    if comparison not in comparisons:
        raise Misread(f"{name} is compared by {' '.join(comparisons)}, not by {_shown(words[2])}", words[2].place)
    return _path(words[1]), comparison, words[3]


# --- steps


@dataclass(slots=True)
class _Line:
    """A step while it is read."""

    arguments: dict[str, Any] = field(default_factory=dict)
    file: Word | None = None


def _set(key: str) -> Callable[[_Line, Word], None]:
    def keep(line: _Line, word: Word) -> None:
        line.arguments[key] = True

    return keep


def _keep_generation(line: _Line, word: Word) -> None:
    line.arguments["if_generation"] = _number(word)


def _keep_file(line: _Line, word: Word) -> None:
    line.file = word


_FLAGS = {"--parents": _set("parents"), "--if-absent": _set("if_absent")}
_VALUED = {"--if-generation": _keep_generation, "--file": _keep_file}
_SHORT = {"-p": "--parents", "-f": "--file"}


@dataclass(frozen=True, slots=True)
class _Kind:
    """`usage`: as in the help; the options are those that it names."""

    do: str
    usage: str

    @property
    def options(self) -> Sequence[str]:
        return re.findall(r"--?[a-z][a-z-]*", self.usage)


STEPS: Mapping[str, _Kind] = {
    "put": _Kind("put", "put [-p|--parents] [--if-absent] [--if-generation N] PATH CONTENTS | PATH -f|--file FILE"),
    "mkdir": _Kind("mkdir", "mkdir [-p|--parents] PATH"),
    "rm": _Kind("delete", "rm [--if-generation N] PATH"),
    "cat": _Kind("get", "cat PATH"),
    "stat": _Kind("stat", "stat PATH"),
    "ls": _Kind("ls", "ls PATH"),
}


def _step(words: Sequence[Word]) -> Step:
    first = words[0]
    kind = STEPS.get(first.text)
    if kind is None:
        _unknown("step", first, STEPS)
    line, rest = _Line(), []
    waiting = list(words[1:])
    while waiting:
        word = waiting.pop(0)
        if word.plain and word.text.startswith("-") and len(word.text) > 1:
            _option(kind, line, word, waiting)
        else:
            rest.append(word)
    takes_contents = kind.do == "put" and line.file is None
    if len(rest) != 1 + takes_contents:
        place = rest[1 + takes_contents].place if len(rest) > 1 + takes_contents else first.place
        raise Misread(f"write it so: {kind.usage}", place)
    if takes_contents:
        line.arguments["contents"] = rest[1].text.encode(errors="surrogateescape")
    return Step(kind.do, first.text, {"path": _path(rest[0]), **line.arguments}, first.place, line.file)


def _option(kind: _Kind, line: _Line, word: Word, waiting: list[Word]) -> None:
    name, equals, value = word.text.partition("=")
    if name not in kind.options:
        raise Misread(f"no option {_shown(word)} here; write it so: {kind.usage}", word.place)
    name = _SHORT.get(name, name)
    if name in _FLAGS:
        if equals:
            raise Misread(f"{name} takes no value", word.place)
        _FLAGS[name](line, word)
        return
    if not equals and not waiting:
        raise Misread(f"{name} is followed by its value", word.place)
    _VALUED[name](line, Word(value, word.place) if equals else waiting.pop(0))


# --- words


def _path(word: Word) -> str:
    if not word.text.startswith("/"):
        raise Misread(f"a path begins with /, unlike {_shown(word)}", word.place)
    return word.text


def _number(word: Word) -> int:
    if not (word.text.isascii() and word.text.isdigit()) or int(word.text[:20]) > NUMBER_MAX:
        raise Misread(f"a number from 0 to {NUMBER_MAX} belongs here, not {_shown(word)}", word.place)
    return int(word.text)


def _count(words: Sequence[Word], count: int, usage: str) -> None:
    if len(words) != count + 1:
        place = words[count + 1].place if len(words) > count + 1 else words[0].place
        raise Misread(f"write it so: {usage}", place)


def _unknown(what: str, word: Word, known: Iterable[str]) -> NoReturn:
    names = list(known)
    near = difflib.get_close_matches(word.text, names, n=1)
    hint = f"; did you mean {near[0]}?" if near else f"; there are: {', '.join(names)}"
    raise Misread(f"no {what} is called {_shown(word)}{hint}", word.place)


def _shown(word: Word) -> str:
    text = word.text if word.text.isprintable() and len(word.text) <= 60 else repr(word.text[:60])[1:-1]
    return text if word.plain and text else f'"{text}"'
