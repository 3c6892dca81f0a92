"""What is wrong with a file, where, and what to write instead.

A check adds what it finds to `Problems` and goes on, so that one reading names everything at once. Text taken from
the file is hostile: it is shortened and its control characters are escaped before it appears in a message.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from itertools import islice
from typing import Final, Literal, Protocol, TypeAlias

import msgspec

from headway.core.errors import UsageError

KEPT_MAX: Final = 1000
"""Problems reported for one file; the rest are counted."""

GUESSES_MAX: Final = 64
"""Nearest names looked up for one file, so that a file of nothing but mistakes stays cheap."""

WINDOW: Final = 100
"""Characters of a source line shown around the caret."""


Severity: TypeAlias = Literal["error", "warning"]


class Diagnostic(msgspec.Struct, frozen=True, kw_only=True):
    """One problem. Lines and columns count from 1; `path` is where it is in the data, `jobs.test.steps[2].timeout`."""

    code: str
    severity: Severity
    file: str
    line: int
    column: int
    path: str
    message: str
    suggestion: str = ""


class InvalidFile(UsageError):
    """A file that was read, and is wrong. `diagnostics` holds its errors and warnings by position."""

    def __init__(self, file: str, diagnostics: Sequence[Diagnostic], *, errors: int = 0) -> None:
        count = errors or sum(diagnostic.severity == "error" for diagnostic in diagnostics)
        plural = "" if count == 1 else "s"
        listed = sum(diagnostic.severity == "error" for diagnostic in diagnostics)
        rest = f", of which {listed} are listed" if listed < count else ""
        super().__init__(
            f"{shown(file, 200)} has {count} error{plural}{rest}",
            next="correct the file; each error says where it is and what to write",
            details=[msgspec.to_builtins(diagnostic) for diagnostic in diagnostics],
        )
        self.diagnostics = list(diagnostics)


class Place(Protocol):
    """Anything with a position in the file."""

    @property
    def line(self) -> int: ...

    @property
    def column(self) -> int: ...


class Spot(msgspec.Struct, frozen=True):
    """A bare position."""

    line: int = 1
    column: int = 1


class Problems:
    """Collects the problems of one file and counts those past the limit."""

    def __init__(self, file: str, body: bytes = b"") -> None:
        self.file = file
        self._body = body
        self._lines: list[str] | None = None
        self.errors = 0
        self._kept: dict[Severity, list[Diagnostic]] = {"error": [], "warning": []}
        self._guesses = GUESSES_MAX

    def error(self, code: str, place: Place, message: str, *, path: str = "", suggestion: str = "") -> None:
        """Something that stops the file from being used."""
        self.errors += 1
        self._keep("error", code, place, (path, message, suggestion))

    def warning(self, code: str, place: Place, message: str, *, path: str = "", suggestion: str = "") -> None:
        """Something that is allowed and probably not meant."""
        self._keep("warning", code, place, (path, message, suggestion))

    def _keep(self, severity: Severity, code: str, place: Place, words: tuple[str, str, str]) -> None:
        kept = self._kept[severity]
        if len(kept) < KEPT_MAX:
            path, message, suggestion = words
            kept.append(
                Diagnostic(
                    code=code,
                    severity=severity,
                    file=self.file,
                    line=place.line,
                    column=place.column,
                    path=path,
                    message=message,
                    suggestion=suggestion,
                )
            )

    def source_line(self, line: int) -> str:
        """A line of the file, counted from 1, or "" where there is none."""
        lines = self._source_lines()
        return lines[line - 1] if 1 <= line <= len(lines) else ""

    def end(self) -> Spot:
        """The place after the last character of the file."""
        lines = self._source_lines()
        return Spot(len(lines), len(lines[-1]) + 1)

    def _source_lines(self) -> list[str]:
        if self._lines is None:
            self._lines = source_lines(self._body)
        return self._lines

    def nearest(self, word: str, names: Iterable[str]) -> str:
        """The name most like `word`, or "" when none is or too many were asked for."""
        self._guesses -= 1
        return nearest(word, names) if self._guesses >= 0 else ""

    def did_you_mean(self, word: str, names: Iterable[str]) -> str:
        """A suggestion that names the nearest name, or ""."""
        found = self.nearest(word, names)
        return f"did you mean `{found}`?" if found else ""

    def sorted(self) -> list[Diagnostic]:
        """Everything kept, by position."""
        found = self._kept["error"] + self._kept["warning"]
        return sorted(found, key=lambda one: (one.line, one.column, one.code, one.path))

    def finish(self) -> list[Diagnostic]:
        """The warnings; raises InvalidFile when there was an error."""
        if self.errors:
            raise InvalidFile(self.file, self.sorted(), errors=self.errors)
        return self.sorted()


def nearest(word: str, names: Iterable[str]) -> str:
    """The name most like `word`, or "". Only the first few hundred names that could be it are compared closely."""
    if not word or len(word) > 100:
        return ""
    plain = _folded(word)
    likely: list[str] = []
    for name in names:
        if _folded(name) == plain and name != word:
            return name
        if abs(len(name) - len(word)) <= 3 and (name[:1] == word[:1] or name[-1:] == word[-1:]):
            likely.append(name)
    found = get_close_matches(word, islice(likely, 300), n=1, cutoff=0.6)
    return found[0] if found and found[0] != word else ""


def _folded(word: str) -> str:
    return word.replace("-", "").replace("_", "").casefold()


def shown(text: str, length: int = 60) -> str:
    """Text from outside, fit for a message: one line, printable, at most `length` characters."""
    if len(text) > length:
        text = text[: length - 1] + "…"
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)


def source_lines(body: bytes) -> list[str]:
    """The lines of a file as an editor counts them, whatever its bytes are."""
    return re.split(r"\r\n|\n|\r", body.decode("utf-8-sig", "replace"))


def render_diagnostic(diagnostic: Diagnostic, source_lines: Sequence[str]) -> str:
    """The problem as a person reads it: place and message, the source line, a caret below it, the suggestion."""
    one = diagnostic
    found = [f"{shown(one.file, 200)}:{one.line}:{one.column}: {one.severity} {one.code}: {one.message}"]
    margin = " " * max(5, len(str(one.line)) + 2)
    if 1 <= one.line <= len(source_lines):
        source, caret = _excerpt(source_lines[one.line - 1], one.column - 1)
        found.append(f"{one.line:>{len(margin)}} | {source}".rstrip())
        found.append(f"{margin} | {' ' * caret}^")
    if one.suggestion:
        found.append(f"{margin} = {one.suggestion}")
    return "\n".join(found)


def _excerpt(line: str, column: int) -> tuple[str, int]:
    """A printable window of the line, and how many screen columns lie before `column` in it."""
    column = min(max(column, 0), len(line))
    start = 0 if len(line) <= WINDOW or column < WINDOW - 20 else column - WINDOW // 2
    end = start + WINDOW
    before = "".join(map(_cell, line[start:column]))
    after = "".join(map(_cell, line[column:end]))
    head, tail = ("…" if start else ""), ("…" if end < len(line) else "")
    return head + before + after + tail, len(head) + sum(map(_width, before))


def _cell(character: str) -> str:
    """What stands for a character in an excerpt: a tab is one blank, so that the caret stays below its place."""
    if character == "\t":
        return " "
    return character if character.isprintable() else "?"


def _width(character: str) -> int:
    if unicodedata.combining(character):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1
