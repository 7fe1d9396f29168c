"""Words of a small text, each with the place where it begins, so that every error can point at one.

A line is a list of words with blanks between them; it ends with a line feed or a `;`. `#` at the beginning of a word
begins a comment that goes to the end of the line. Quotes as in a shell, and they may span lines: in '...' everything
stands for itself; in "..." and outside of quotes a backslash takes the meaning from the next character, and in "..."
\\n \\t \\r are line feed, tab and return, and \\xHH is a byte. There are no variables: `$` stands for itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

_BLANKS = " \t\r"
_ENDS = "\n;"
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "\\": "\\", '"': '"', "$": "$", "`": "`", "\n": ""}
_BYTE_DIGITS = 2
_ASCII = 0x80
_SURROGATE = 0xDC00  # + byte: how a byte that is no UTF-8 stands in a text (surrogateescape)


class Place(NamedTuple):
    """Line and column, both from 1; a tab is one column."""

    line: int
    column: int


@dataclass(frozen=True, slots=True)
class Word:
    """`plain`: nothing of it was quoted, so it may be a keyword or an option. Bytes that are no UTF-8 are in `text` by
    surrogateescape."""

    text: str
    place: Place
    plain: bool = True


class Misread(Exception):
    """What is wrong with a text, and where."""

    def __init__(self, message: str, place: Place) -> None:
        super().__init__(message)
        self.message = message
        self.place = place


def lines_of(text: str) -> list[list[Word]]:
    """The lines that have words; raises Misread."""
    reader = _Reader(text)
    found: list[list[Word]] = [[]]
    for word in reader.words():
        if word is None:
            found.append([])
        else:
            found[-1].append(word)
    return [line for line in found if line]


class _Reader:
    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0
        self.line = 1
        self.line_began = 0

    @property
    def place(self) -> Place:
        return Place(self.line, self.at - self.line_began + 1)

    def words(self) -> Iterator[Word | None]:
        """None at the end of a line."""
        while self.at < len(self.text):
            letter = self.text[self.at]
            if letter in _ENDS:
                self._take()
                yield None
            elif letter in _BLANKS:
                self._take()
            elif letter == "#":
                while self.at < len(self.text) and self.text[self.at] != "\n":
                    self._take()
            else:
                yield self._word()

    def _take(self) -> str:
        letter = self.text[self.at]
        self.at += 1
        if letter == "\n":
            self.line += 1
            self.line_began = self.at
        return letter

    def _word(self) -> Word:
        begun, parts, plain = self.place, [], True
        while self.at < len(self.text) and (letter := self.text[self.at]) not in _BLANKS + _ENDS:
            if letter == "'":
                parts.append(self._literal())
            elif letter == '"':
                parts.append(self._quoted())
            elif letter == "\\":
                parts.append(self._escaped())
            else:
                parts.append(self._take())
                continue
            plain = False
        return Word("".join(parts), begun, plain)

    def _literal(self) -> str:
        begun = self.place
        parts: list[str] = []
        self._take()
        while self.at < len(self.text):
            letter = self._take()
            if letter == "'":
                return "".join(parts)
            parts.append(letter)
        raise Misread("this ' has no end", begun)

    def _escaped(self) -> str:
        begun = self.place
        self._take()
        if self.at == len(self.text):
            raise Misread("nothing follows this \\", begun)
        letter = self._take()
        return "" if letter == "\n" else letter

    def _quoted(self) -> str:
        begun = self.place
        parts: list[str] = []
        self._take()
        while self.at < len(self.text):
            if self.text[self.at] == '"':
                self._take()
                return "".join(parts)
            parts.append(self._escape() if self.text[self.at] == "\\" else self._take())
        raise Misread('this " has no end', begun)

    def _escape(self) -> str:
        begun = self.place
        self._take()
        letter = self._take() if self.at < len(self.text) else ""
        if letter == "x":
            digits = self.text[self.at : self.at + _BYTE_DIGITS]
            try:
                byte = bytes.fromhex(digits if len(digits) == _BYTE_DIGITS and digits.isalnum() else "-")
            except ValueError:
                raise Misread("two hexadecimal digits follow \\x", begun) from None
            self.at += _BYTE_DIGITS
            return chr(byte[0] if byte[0] < _ASCII else _SURROGATE + byte[0])
        if letter not in _ESCAPES or not letter:
            raise Misread(f"\\{letter} means nothing here; write \\\\ for a backslash", begun)
        return _ESCAPES[letter]
