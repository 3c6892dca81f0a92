"""How long questions take when the tables hold a month of a busy service, asked as the service asks them.

In-process: from the request to the answer's JSON, over a store that nobody writes to meanwhile. The limits are ours,
not ratios to something else: a person should not notice that there was a question.
"""

from __future__ import annotations

import asyncio
import gc
import sqlite3
import tempfile
import time
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import aiosqlite
import msgspec

from bench.figures import median, span
from bench.month import LARGE, Month
from bench.table import Row
from headway.cli.control import Request
from headway.cli.questions import QUESTIONS
from headway.core.blobs import Blobs
from headway.projections import samples
from headway.projections.rebuild import rebuild
from headway.projections.store import Store
from headway.projections.tables import TimelineRow, quoted

LIMIT_MS = 50.0
PAST_LIMIT_MS = 500.0
ROUNDS = 15
BATCH = 300
"""Rows of the timeline that a batch of events makes, about."""
DAY_SECONDS = 86_400


class Asked(NamedTuple):
    """A question, its arguments, and how long it may take."""

    op: str
    arguments: dict[str, Any]
    limit_ms: float = LIMIT_MS


def asked(run: str, first: int, last: int) -> dict[str, Asked]:
    """What is asked, by what the table calls it; `run` has 1,000 jobs and its events are between those sequences."""
    week, month = 7 * DAY_SECONDS, 30 * DAY_SECONDS
    middle, end = {"seq": (first + last) // 2}, {"seq": last - 1}
    return {
        "runs": Asked("runs", {}),
        "why, all that waits": Asked("why", {}),
        "why of a run of 1,000 jobs": Asked("why", {"run": run}),
        "timeline of a run of 1,000 jobs": Asked("timeline", {"run": run}),
        "latency, 7 days": Asked("latency", {}),
        "latency by job, 7 days": Asked("latency", {"by": "job"}),
        "latency by runner, 7 days against 7": Asked("latency", {"by": "runner", "against": week}),
        "latency, all 30 days": Asked("latency", {"since": month}),
        "latency by job, all 30 days": Asked("latency", {"by": "job", "since": month}),
        "a run of 1,000 jobs in its middle": Asked("show", {"run": run, "at": middle}, PAST_LIMIT_MS),
        "the same just before its end": Asked("show", {"run": run, "at": end}, PAST_LIMIT_MS),
        "why of that run, in its middle": Asked("why", {"run": run, "at": middle}, PAST_LIMIT_MS),
        "all runs as they were then": Asked("runs", {"at": middle}, PAST_LIMIT_MS),
    }


class TablesView:
    """Tables that nobody writes to, as questions see those of a running service."""

    def __init__(self, store: Store, now_us: int) -> None:
        self.past_seats = asyncio.Semaphore(1)
        self._now_us = now_us
        self.path = store.path
        self.blobs = Blobs(store.path.parent / "blobs")
        self.log = None
        self._store = store

    @asynccontextmanager
    async def present(self, *, patient: bool = True) -> AsyncGenerator[aiosqlite.Connection, None]:
        """The tables."""
        async with self._store.reading() as db:
            yield db

    async def caught_up(self, *, seconds: float = 0.0) -> bool:
        """Nothing is written."""
        return True

    def now_us(self) -> int:
        """When the month is over."""
        return self._now_us

    def live(self) -> None:
        """No service is running."""

    async def output(self, run: str, job: str, attempt: int) -> list[bytes]:
        """No job has printed anything."""
        return []

    async def project(self, folder: str) -> str:
        """The one that all runs are of."""
        return "shop"


async def seconds_of(view: TablesView, op: str, arguments: Mapping[str, Any]) -> float:
    """How long one question takes."""
    request = Request(op=op, arguments=dict(arguments), actor="user:bench", progress=lambda text: None)
    began = time.perf_counter()
    answers = [msgspec.json.encode(one) async for one in QUESTIONS[op](view, request)]
    assert answers, f"{op} was answered"
    return time.perf_counter() - began


class Answered(NamedTuple):
    """Milliseconds of each question and its limit; how long the first took that loads numpy, and KiB it grew by."""

    taken: dict[str, list[float]]
    limits: dict[str, float]
    first_ms: float
    grown: int


async def answered(path: Path, now_us: int, rounds: int) -> Answered:
    """Ask everything so many times."""
    store = await Store.open(path)
    try:
        view = TablesView(store, now_us)
        large = (
            f"select run, seq, seq_completed from runs where pipeline = '{LARGE.name}' and outcome is not null"
            " order by seq desc limit 1"
        )
        [(run, first, last)] = await store.fetch(large)
        before = resident_kib()
        first_ms = 1000 * await seconds_of(view, "latency", {})
        grown = resident_kib() - before
        taken: dict[str, list[float]] = {}
        questions = asked(run, first, last)
        for name, one in questions.items():
            await seconds_of(view, one.op, one.arguments)
            gc.collect()
            taken[name] = [1000 * await seconds_of(view, one.op, one.arguments) for _ in range(rounds)]
        return Answered(taken, {name: one.limit_ms for name, one in questions.items()}, first_ms, grown)
    finally:
        await store.close()


def resident_kib() -> int:
    """How much of this process is in memory."""
    words = Path("/proc/self/status").read_text().partition("VmRSS:")[2].split()
    return int(words[0])


def sealing_seconds(path: Path) -> float:
    """How long packing all samples takes, a batch at a time, into tables of a connection of its own."""
    connection, reader = sqlite3.connect(path, isolation_level=None), sqlite3.connect(path)
    columns = 'chunk integer, "column" text, body blob, primary key (chunk, "column")'
    connection.executescript(
        "create temp table timeline as select * from main.timeline limit 0;"
        "create temp table chunks as select * from main.chunks limit 0;"
        "create temp table names (id integer primary key, name text not null unique);"
        f"create temp table samples ({columns}) without rowid;"
    )
    sealer, seconds = samples.Sealer(), 0.0
    rows = reader.execute(f"select {quoted(TimelineRow.__struct_fields__)} from timeline")
    while batch := rows.fetchmany(BATCH):
        connection.execute("begin")
        began = time.perf_counter()
        sealer.wrote(connection, batch)
        seconds += time.perf_counter() - began
        connection.execute("commit")
    connection.close()
    reader.close()
    return seconds


def measure(*, quick: bool) -> list[Row]:
    """Make a month, fold it, and ask."""
    events = 50_000 if quick else 1_000_000
    with tempfile.TemporaryDirectory(prefix="headway-bench-answers-") as folder:
        month, path = Month(Path(folder) / "events", events), Path(folder) / "headway.db"
        began = time.perf_counter()
        asyncio.run(rebuild(month, path))
        rebuilt = time.perf_counter() - began
        found = asyncio.run(answered(path, month.end_us, 3 if quick else ROUNDS))
        sealed = sealing_seconds(path)
    rows = [
        Row(
            what=f"{name}, of {events:,} events",
            yardstick=f"{found.limits[name]:g} ms",
            measured=f"{span(taken, 1)} ms",
            ratio=median(taken),
            unit="ms",
            floor=found.limits[name],
            less_is_better=True,
        )
        for name, taken in found.taken.items()
    ]
    return [*rows, _first(found.first_ms, found.grown), _sealing(sealed, rebuilt, events)]


def _first(first_ms: float, grown: int) -> Row:
    return Row(
        what="first latency of a service",
        yardstick="it loads numpy",
        measured=f"{first_ms:.0f} ms, {grown / 1024:.0f} MiB more in memory",
        ratio=first_ms,
        unit="ms",
        less_is_better=True,
    )


def _sealing(sealed: float, rebuilt: float, events: int) -> Row:
    return Row(
        what=f"samples packed in a rebuild of {events:,} events",
        yardstick=f"rebuild {events / rebuilt / 1000:.0f}k /s, {rebuilt:.1f} s",
        measured=f"{sealed:.2f} s",
        ratio=sealed / rebuilt,
        target=0.1,
        less_is_better=True,
    )
