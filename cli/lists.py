"""Records as tables: the same columns wherever runs, jobs or runners are listed."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

from headway.cli import render
from headway.cli.render import STATUS_STYLE, Cell
from headway.cli.text import ago, between, clean, duration, milliseconds, parse_time, short

Record = Mapping[str, Any]


def text(record: Record, field: str) -> str:
    """A field as text, "" for none."""
    value = record.get(field)
    return "" if value is None else clean(value)


def now_of(found: Record) -> float:
    """The moment an answer is of, in seconds since 1970: open states are as old as that."""
    now = parse_time(found.get("now"))
    return time.time() if now is None else now


def say_moment(found: Record, at: object) -> None:
    """Say which moment was asked for, if one was."""
    if at is not None:
        then = parse_time(found.get("now")) or 0.0
        when = f"{time.strftime('%Y-%m-%d %H:%M:%S', time.localtime(then))}, {ago(found.get('now'), now=time.time())}"
        render.say(f"as of event {text(found, 'as_of')}" + (f" ({when})" if then else ""))


def status_cell(record: Record) -> Cell:
    """The status in its colour."""
    status = text(record, "status")
    return STATUS_STYLE.get(status, ""), status


def print_table(head: Sequence[str], rows: Sequence[Sequence[Cell]]) -> None:
    """Print rows under their heads, as wide as the terminal."""
    paint = render.paint_for(sys.stdout)
    for line in render.table(head, rows, paint=paint, columns=render.columns_of(sys.stdout)):
        render.out(line)


def took(record: Record, start: str, *, now: float) -> str:
    """How long something took, or has been taking."""
    if record.get("duration_ms") is not None:
        return milliseconds(record["duration_ms"])
    seconds = between(record.get(start), record.get("completed"), now=now)
    return "" if seconds is None else duration(seconds)


RUN_HEAD = ("RUN", "STATUS", "PIPELINE", "BRANCH", ">JOBS", ">TIME", ">ADMITTED", "PROJECT")


def run_row(record: Record, *, now: float) -> list[Cell]:
    """A run in a list."""
    return [
        short(record.get("run", "")),
        status_cell(record),
        text(record, "pipeline"),
        text(record, "branch") + ("*" if record.get("dirty") else ""),
        f"{record.get('jobs_completed') or 0}/{record.get('jobs') or 0}",
        took(record, "admitted", now=now),
        ago(record.get("admitted"), now=now),
        text(record, "project"),
    ]


JOB_HEAD = ("RUN", "JOB", "STATUS", "STATE", ">FOR", ">ATTEMPT", "RUNNER", "RUNS ON")


def job_row(record: Record, *, now: float) -> list[Cell]:
    """A job in a list over runs; FOR is how long it has been in its state."""
    seconds = between(record.get("entered"), None, now=now)
    return [
        short(record.get("run", "")),
        text(record, "job"),
        status_cell(record),
        text(record, "state"),
        "" if seconds is None else duration(seconds),
        str(record.get("attempt") or ""),
        text(record, "runner"),
        clean(",".join(map(str, record.get("runs_on") or ()))),
    ]


RUNNER_HEAD = ("RUNNER", "STATUS", ">SLOTS", "LABELS", "HOST", ">SINCE")
RUNNER_STYLE = {"busy": "cyan", "idle": "green", "draining": "yellow", "lost": "red", "left": "dim"}


def runner_row(record: Record, *, now: float) -> list[Cell]:
    """A runner in a list; SLOTS is how many of how many are taken."""
    status = text(record, "status")
    return [
        text(record, "runner"),
        (RUNNER_STYLE.get(status, ""), status),
        f"{record.get('busy') or 0}/{record.get('slots') or 0}",
        clean(",".join(map(str, record.get("labels") or ()))),
        text(record, "host"),
        ago(record.get("registered"), now=now),
    ]
