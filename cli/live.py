"""A run on a terminal: a line per job that keeps itself up to date, what fails above it for good.

A frame never has more lines than the terminal, whatever the number of jobs; it is one write, and only lines that
changed are in it, so nothing flickers.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from headway.cli.board import STATUSES, Board, JobLine
from headway.cli.plain import job_change, run_change
from headway.cli.render import STATUS_STYLE, Paint
from headway.cli.text import actor, clean, clean_output, count, duration, fit, pad, width_of

FRAME_SECONDS: Final = 0.1
SPINNER: Final = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"
SYMBOLS: Final = {
    "success": "✓",
    "failed": "✗",
    "cancelled": "⊘",
    "skipped": "–",  # noqa: RUF001  a dash is what is meant
    "retry": "↻",
    "paused": "‖",
    "pending": "·",
}
PLAIN_SYMBOLS: Final = {
    "success": "+",
    "failed": "x",
    "cancelled": "!",
    "skipped": "-",
    "retry": "r",
    "paused": "=",
    "pending": ".",
}
WORD_COLUMNS: Final = max(len(status) for status in STATUSES)

Segments = list[tuple[str, str]]
"""A line before it is painted: styles and texts."""


class Frame:
    """Lines at the bottom of the terminal that can be drawn again; the cursor rests below them."""

    def __init__(self, write: Callable[[str], None], paint: Paint) -> None:
        self._write = write
        self._paint = paint
        self._drawn: list[str] = []
        self._widths: list[int] = []

    def draw(
        self, lines: Sequence[Segments], *, columns: int, above: Sequence[str] = (), resized: bool = False
    ) -> None:
        """Show these lines in place of the last ones; `above` is text that stays, put before them."""
        cut = [_cut(line, columns - 1) for line in lines]
        painted = ["".join(self._paint(style, text) for style, text in line) for line in cut]
        if painted == self._drawn and not above and not (resized and painted):
            return
        whole = bool(above) or resized
        parts = [_up(self._height(columns) if resized else len(self._drawn))]
        if whole:
            parts.append("\x1b[J")
        parts.extend(f"{line}\n" for line in above)
        for at, text in enumerate(painted):
            known = not whole and at < len(self._drawn) and self._drawn[at] == text
            parts.append("\n" if known else f"{text}\x1b[K\n")
        parts.append("\x1b[J")
        self._drawn, self._widths = painted, [sum(width_of(text) for _, text in line) for line in cut]
        self._write("".join(parts))

    def _height(self, columns: int) -> int:
        """How many rows the last frame has now that the terminal wrapped its lines anew."""
        return sum(max(1, -(-width // max(1, columns))) for width in self._widths)


def _up(rows: int) -> str:
    return f"\r\x1b[{rows}A" if rows else "\r"


def _cut(line: Segments, columns: int) -> Segments:
    kept: Segments = []
    for style, text in line:
        part = fit(text, columns)
        kept.append((style, part))
        columns -= width_of(part)
        if part != text:
            break
    return kept


class Picture:
    """What a frame says about a board."""

    def __init__(self, *, symbols: bool) -> None:
        self._symbols = SYMBOLS if symbols else PLAIN_SYMBOLS
        self._spinner = SPINNER if symbols else "|/-\\"
        self._bar = ("━", "─") if symbols else ("#", ".")

    def lines(self, board: Board, *, now: float, columns: int, rows: int) -> list[Segments]:
        """The frame: title, jobs as far as they fit, and where the run is as a whole."""
        room = max(1, rows - 4)
        jobs = list(board.jobs.values())
        shown = jobs if len(jobs) <= room and len(jobs) == board.total() else _most_telling(jobs, board, room - 1)
        wide = min(max((width_of(clean(line.name)) for line in shown), default=0), max(8, columns // 3))
        found = [self._title(board), *(self._job(line, board, now, wide) for line in shown)]
        hidden = board.total() - len(shown)
        if hidden > 0:
            found.append([("dim", f"  ... and {count(hidden, 'more job')}")])
        return [*found, self._foot(board, now, columns)][-max(1, rows - 1) :]

    def _title(self, board: Board) -> Segments:
        return [("bold", clean(board.pipeline or "run")), ("dim", f"  {clean(board.run)}")]

    def _job(self, line: JobLine, board: Board, now: float, wide: int) -> Segments:
        status = line.status(paused=board.paused)
        style = STATUS_STYLE.get(status, "")
        took = line.seconds(now)
        return [
            (style, f"{self._symbol(status, now)} "),
            ("", pad(fit(clean(line.name), wide), wide)),
            (style, f"  {status:<{WORD_COLUMNS}}"),
            ("", f"  {duration(took) if took is not None else '':>7}  "),
            ("dim", line.detail(paused_by=(board.paused_by or "someone") if board.paused else "")),
        ]

    def _symbol(self, status: str, now: float) -> str:
        if status == "running":
            return self._spinner[int(now / FRAME_SECONDS) % len(self._spinner)]
        return self._symbols.get(status, "?")

    def _foot(self, board: Board, now: float, columns: int) -> Segments:
        total, over = board.total(), board.completed()
        wide = min(30, max(0, columns - 50))
        full = wide * over // total if total else 0
        found: Segments = [("green", self._bar[0] * full), ("dim", self._bar[1] * (wide - full))]
        found.append(("bold", f" {over}/{total}"))
        counts = board.counts()
        for status in STATUSES:
            if counts[status]:
                found.extend([("", "  "), (STATUS_STYLE.get(status, ""), f"{counts[status]} {status}")])
        if board.began:
            found.append(("", f"  {duration((board.ended or now) - board.began)}"))
        if board.paused:
            found.append(("yellow", f"  paused by {actor(board.paused_by) or 'someone'}"))
        if board.cancelling and not board.outcome:
            found.append(("magenta", "  being cancelled"))
        return found


def _most_telling(jobs: list[JobLine], board: Board, room: int) -> list[JobLine]:
    """The jobs to show where not all fit: those that run, then those that failed last, then those that wait."""
    running, failed, waiting, other = [], [], [], []
    for line in jobs:
        status = line.status(paused=board.paused)
        if status == "running":
            running.append(line)
        elif status == "failed":
            failed.append(line)
        elif line.state in ("queued", "admitted"):
            waiting.append(line)
        else:
            other.append(line)
    waiting.sort(key=lambda line: line.state != "queued")
    failed.sort(key=lambda line: -line.ended)
    chosen = [*running, *failed, *waiting, *other][: max(0, room)]
    order = {line.name: at for at, line in enumerate(jobs)}
    return sorted(chosen, key=lambda line: order[line.name])


class LiveView:
    """Draws a frame a few times a second; what must stay is written above it."""

    def __init__(
        self,
        write: Callable[[str], None],
        paint: Paint,
        *,
        size: Callable[[], tuple[int, int]],
        symbols: bool,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self.board = Board()
        self._frame = Frame(write, paint)
        self._picture = Picture(symbols=symbols)
        self._paint = paint
        self._size = size
        self._wall = wall
        self._above: list[str] = []
        self._due = 0.0

    def accepted(self, info: Mapping[str, Any]) -> None:
        self.board.accepted(info)

    def show(self, record: Mapping[str, Any]) -> None:
        self.board.show(record)

    def event(self, record: Mapping[str, Any]) -> bool:
        if not self.board.event(record):
            return False
        kind, job = str(record.get("type", "")), str(record.get("job") or "")
        if job and kind in ("job.completed", "job.attempt_failed", "job.lost"):
            change = job_change(self.board.job(job), kind, record.get("data") or {})
            if change and change[0] in ("failed", "retry"):
                self._stay(self._paint(STATUS_STYLE[change[0]], clean(f"{job}: {change[1]}")))
        elif kind in ("run.cancel_requested", "run.paused", "run.resumed"):
            self._stay(clean(run_change(self.board, kind, record)))
        return True

    def output(self, job: str, lines: Sequence[str]) -> None:
        for line in lines:
            self._above.append(f"{self._paint('dim', '  |')} {clean_output(line, colours=self._paint.on)}")

    def note(self, text: str) -> None:
        self._stay(self._paint("yellow", clean(text)))
        self._draw(resized=False)

    def tick(self, *, resized: bool = False) -> float | None:
        wall = self._wall()
        if resized or wall >= self._due or self._due > wall + 1:  # the last: the wall clock went back
            self._draw(resized=resized)
            self._due = wall + FRAME_SECONDS
        return max(0.0, self._due - wall)

    def close(self) -> None:
        self._draw(resized=False)

    def _stay(self, line: str) -> None:
        self._above.append(line)

    def _draw(self, *, resized: bool) -> None:
        columns, rows = self._size()
        now = max(self._wall(), self.board.now)
        # Before the service has taken the run there is nothing to draw, and others may be writing.
        lines = self._picture.lines(self.board, now=now, columns=columns, rows=rows) if self.board.run else []
        above, self._above = self._above, []
        self._frame.draw(lines, columns=columns, above=above, resized=resized)
