"""Where words leave the program: data on stdout, progress and errors on stderr. The only file that prints.

`--json` prints one JSON object (a stream prints one a line) on stdout, and an error is then `{"error": {...}}` on
stdout too: it is the answer, and a program reads answers there.
"""
# ruff: noqa: T201 - this is where printing belongs

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from typing import Any, Final, TextIO

from headway.cli.text import clean, fit, pad, width_of

STYLES: Final = {
    "bold": "1",
    "dim": "2",
    "red": "31",
    "green": "32",
    "yellow": "33",
    "blue": "34",
    "magenta": "35",
    "cyan": "36",
}

STATUS_STYLE: Final = {
    "success": "green",
    "failed": "red",
    "cancelled": "magenta",
    "skipped": "dim",
    "running": "cyan",
    "retry": "yellow",
    "paused": "yellow",
    "pending": "",
}


NARROWEST: Final = 6
"""Columns of a table are not squeezed below this."""


class Paint:
    """Puts colour around text, or leaves it as it is."""

    def __init__(self, on: bool) -> None:
        self.on = on

    def __call__(self, style: str, text: str) -> str:
        if not self.on or not style or not text:
            return text
        return f"\x1b[{STYLES[style]}m{text}\x1b[0m"

    def status(self, status: str) -> str:
        """A status in its colour."""
        return self(STATUS_STYLE.get(status, ""), status)


def is_terminal(stream: TextIO) -> bool:
    """Whether a person looks at this stream now."""
    try:
        return stream.isatty()
    except ValueError:  # closed
        return False


def colour_wanted(stream: TextIO, environ: Mapping[str, str]) -> bool:
    """NO_COLOR, then CLICOLOR_FORCE, then whether the stream is a terminal that knows colours."""
    if environ.get("NO_COLOR"):
        return False
    if environ.get("CLICOLOR_FORCE", "0") not in ("", "0"):
        return True
    return is_terminal(stream) and environ.get("TERM") != "dumb" and environ.get("CLICOLOR") != "0"


def paint_for(stream: TextIO) -> Paint:
    """The paint for one of our streams."""
    return Paint(colour_wanted(stream, os.environ))


def columns_of(stream: TextIO) -> int:
    """The width of the terminal behind the stream. Off a terminal nothing is cut: no reader loses the end of a line."""
    if not is_terminal(stream):
        return 10_000
    try:
        return os.get_terminal_size(stream.fileno()).columns or 80
    except (OSError, ValueError):
        return 80


def out(text: str = "") -> None:
    """A line of data."""
    print(text)


def out_bytes(body: bytes) -> None:
    """Bytes of data, exactly as they are."""
    sys.stdout.flush()
    sys.stdout.buffer.write(body)


def flush() -> None:
    """Let a reader of a followed stream see what there is."""
    sys.stdout.flush()


def say(text: str) -> None:
    """A line of progress."""
    sys.stdout.flush()
    print(text, file=sys.stderr, flush=True)


def data(record: Mapping[str, Any]) -> None:
    """A JSON object on a line of its own."""
    print(to_json(record, ascii_only=(sys.stdout.encoding or "").lower().replace("-", "") != "utf8"))


def to_json(record: Mapping[str, Any], *, ascii_only: bool = False) -> str:
    """The JSON of a record, keys in their order, on one line."""
    import json

    return json.dumps(record, ensure_ascii=ascii_only, separators=(",", ":"))


def error(record: Mapping[str, Any], *, as_json: bool) -> None:
    """An error as one sentence that says what to do, or as data for a program."""
    if as_json:
        data({"error": {"code": record.get("code"), "message": "", "next": "", **record}})
        return
    paint = paint_for(sys.stderr)
    found = record.get("diagnostics")
    if isinstance(found, list):
        for line in diagnostics(found, paint):
            say(line)
    message, hint = clean(record.get("message", "")), clean(record.get("next", ""))
    say(f"{paint('red', 'error')}: {message}" + (f"; {hint}" if hint else ""))


def diagnostics(found: Sequence[Mapping[str, Any]], paint: Paint) -> list[str]:
    """What is wrong in a file, each with its place, its line and a caret."""
    lines: list[str] = []
    sources: dict[str, list[str]] = {}
    for one in found:
        lines.extend(_diagnostic(one, paint, sources))
    return lines


def _diagnostic(one: Mapping[str, Any], paint: Paint, sources: dict[str, list[str]]) -> list[str]:
    severity, code = clean(one.get("severity", "error")), clean(one.get("code", ""))
    place = clean(one.get("file", ""))
    line, column = _number(one.get("line")), _number(one.get("column"))
    if line:
        place += f":{line}" + (f":{column}" if column else "")
    words = clean(one.get("message", ""))
    if one.get("suggestion"):
        words += f"; {clean(one['suggestion'])}"
    style = "red" if severity == "error" else "yellow"
    head = paint(style, severity) + (f" {code}" if code else "")
    lines = [f"{paint('bold', place)}: {head}: {words}" if place else f"{head}: {words}"]
    source = one.get("source") or (_source_line(str(one.get("file", "")), line, sources) if line else "")
    if source:
        before = str(source)[: max(0, column - 1)]
        text = fit(clean(source), max(20, min(columns_of(sys.stderr), 160) - 10))
        lines.append(f"{line:>5} | {text}")
        if column and width_of(clean(before)) < width_of(text):
            lines.append(f"      | {' ' * width_of(clean(before))}{paint(style, '^')}")
    return lines


def _number(value: object) -> int:
    return value if isinstance(value, int) and value > 0 else 0


def _source_line(file: str, line: int, sources: dict[str, list[str]]) -> str:
    """A line of a file the person named; "" when it cannot be read, is not text or is too large to look at."""
    if file not in sources:
        sources[file] = []
        try:
            if os.path.isfile(file) and os.path.getsize(file) <= 1 << 24:
                with open(file, encoding="utf-8") as stream:
                    sources[file] = stream.read().split("\n")
        except (OSError, ValueError):
            pass
    found = sources[file]
    return found[line - 1].rstrip("\r") if line <= len(found) else ""


Cell = str | tuple[str, str]
"""A cell of a table: text, or a style and text."""


def table(head: Sequence[str], rows: Sequence[Sequence[Cell]], *, paint: Paint, columns: int) -> list[str]:
    """Aligned lines; the widest columns give way until all fit. A head that starts with `>` aligns right."""
    right = [title.startswith(">") for title in head]
    titles: list[Cell] = [("dim", title.lstrip(">")) for title in head]
    body = [titles, *rows] if any(title.strip(">") for title in head) else list(rows)
    widths = [max((width_of(_text(row[at])) for row in body), default=0) for at in range(len(head))]
    excess = sum(widths) + 2 * (len(widths) - 1) - columns
    while excess > 0 and max(widths) > NARROWEST:
        widest = widths.index(max(widths))
        widths[widest] -= 1
        excess -= 1
    return [_row(row, widths, right, paint) for row in body]


def _row(row: Sequence[Cell], widths: list[int], right: list[bool], paint: Paint) -> str:
    parts: list[str] = []
    for at, cell in enumerate(row):
        text = fit(_text(cell), widths[at])
        style = cell[0] if isinstance(cell, tuple) else ""
        blanks = " " * (widths[at] - width_of(text))
        parts.append(blanks + paint(style, text) if right[at] else paint(style, text) + blanks)
    return "  ".join(parts).rstrip()


def _text(cell: Cell) -> str:
    return clean(cell[1] if isinstance(cell, tuple) else cell)


def facts(pairs: Sequence[tuple[str, str]], *, paint: Paint) -> list[str]:
    """Named values, one a line, aligned; empty ones are left out."""
    kept = [(name, value) for name, value in pairs if value]
    wide = max((len(name) for name, _ in kept), default=0)
    return [f"{paint('dim', pad(name, wide))}  {value}" for name, value in kept]
