"""A run as plain lines, one per change that matters: for pipes, files and terminals that cannot do more."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from headway.cli.board import Board, JobLine, waits
from headway.cli.render import STATUS_STYLE, Paint
from headway.cli.text import actor, clean, clean_output, count, duration


class View(Protocol):
    """How a followed run is shown."""

    board: Board

    def accepted(self, info: Mapping[str, Any]) -> None:
        """The service took the run."""
        ...

    def show(self, record: Mapping[str, Any]) -> None:
        """Begin in the middle of a run."""
        ...

    def event(self, record: Mapping[str, Any]) -> bool:
        """Something happened; False when it was known already."""
        ...

    def output(self, job: str, lines: Sequence[str]) -> None:
        """The last lines of what failed."""
        ...

    def note(self, text: str) -> None:
        """Say something about the following itself."""
        ...

    def tick(self, *, resized: bool = False) -> float | None:
        """Time has passed; the seconds until this wants to be called again, None for never."""
        ...

    def close(self) -> None:
        """Leave the terminal as it was."""
        ...


def job_change(line: JobLine, kind: str, data: Mapping[str, Any]) -> tuple[str, str] | None:
    """Status and words for an event of a job that a person wants to hear of, None for the others."""
    if kind == "job.executing":
        again = f", attempt {line.attempt}" if line.attempt > 1 else ""
        return "running", f"running on {line.runner}{again}"
    if kind == "job.attempt_failed":
        return "retry", f"attempt {line.attempt} failed: {line.why()}"
    if kind == "job.lost":
        return "retry", f"attempt {line.attempt} was lost: {line.reason}"
    if kind == "job.queued" and data.get("reason") in ("failed", "lost"):
        after = f" in {duration(line.backoff_seconds)}" if line.backoff_seconds else ""
        return "retry", f"trying again{after}, attempt {line.attempt}"
    if kind == "job.queued" and line.runs_on:
        return "pending", waits(line.runs_on)
    if kind != "job.completed":
        return None
    status = line.status(paused=False)
    took = line.seconds(line.ended)
    words = status + (f" in {duration(took)}" if took is not None and line.began else "")
    return status, words + (f": {line.why()}" if line.outcome != "succeeded" and line.why() else "")


def run_change(board: Board, kind: str, record: Mapping[str, Any]) -> str:
    """Words for an event of the run itself, "" for those nobody waits for."""
    data = record.get("data") or {}
    reason = f": {data['reason']}" if data.get("reason") else ""
    if kind == "run.admitted":
        return f"run {board.run} of {board.pipeline or 'a pipeline'} admitted: {count(board.total(), 'job')}"
    if kind == "run.cancel_requested":
        return f"{actor(record.get('actor') or 'someone')} asked to cancel the run{reason}"
    if kind == "run.paused":
        return f"paused by {actor(record.get('actor') or 'someone')}{reason}"
    return "resumed" if kind == "run.resumed" else ""


class PlainView:
    """Writes a line when something has changed, with the time since the run began before it."""

    def __init__(self, write: Callable[[str], None], paint: Paint) -> None:
        self.board = Board()
        self._write = write
        self._paint = paint

    def accepted(self, info: Mapping[str, Any]) -> None:
        self.board.accepted(info)

    def show(self, record: Mapping[str, Any]) -> None:
        self.board.show(record)
        found = self.board.counts()
        states = ", ".join(f"{number} {status}" for status, number in found.items() if number)
        self._line(f"run {self.board.run} of {self.board.pipeline}: {states or 'no jobs yet'}")

    def event(self, record: Mapping[str, Any]) -> bool:
        if not self.board.event(record):
            return False
        kind, job = str(record.get("type", "")), str(record.get("job") or "")
        if job:
            line = self.board.job(job)
            change = job_change(line, kind, record.get("data") or {})
            if change:
                self._line(f"{clean(job)}: ", self._paint(STATUS_STYLE.get(change[0], ""), clean(change[1])))
        else:
            words = run_change(self.board, kind, record)
            if words:
                self._line(clean(words))
        return True

    def output(self, job: str, lines: Sequence[str]) -> None:
        for line in lines:
            self._write(f"  {clean(job)} | {clean_output(line, colours=self._paint.on)}\n")

    def note(self, text: str) -> None:
        self._write(clean(text) + "\n")

    def tick(self, *, resized: bool = False) -> float | None:
        return None

    def close(self) -> None:
        pass

    def _line(self, text: str, painted: str = "") -> None:
        board = self.board
        since = max(0.0, board.now - board.began) if board.began and board.now else 0.0
        self._write(self._paint("dim", f"[{duration(since):>7}]") + f" {text}{painted}\n")
