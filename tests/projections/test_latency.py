"""Latencies are exactly what counting rows one by one gives: over chunks, in any period, at any moment."""

from __future__ import annotations

import asyncio
import json
import math
import random
import sqlite3
from array import array
from collections import defaultdict
from collections.abc import AsyncGenerator, Iterable
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import aiosqlite
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headway.core.errors import BrokenError, NotFoundError, UsageError
from headway.core.states import State
from headway.projections.apply import Fold, fold_batch
from headway.projections.dimensions import DIMENSIONS
from headway.projections.latency import latency
from headway.projections.latency_records import LatencyFilter, LatencyRecord
from headway.projections.past import past, time_at
from headway.projections.percentiles import PERCENTS, Handoffs
from headway.projections.pieces import Bounds, Piece
from headway.projections.reader import open_reader
from headway.projections.rebuild import compare, rebuild
from headway.projections.samples import CHUNK_ROWS, NAMES, NUMBERS, pack, select
from headway.projections.store import Store
from tests.projections.busy import Busy
from tests.projections.histories import eventful
from tests.projections.tables_fixture import fold

ORDER = [state.value for state in State]
ALWAYS = 10 * 365 * 86_400.0


class Busied(msgspec.Struct):
    """A folded history: its file, and all rows of its timeline with what is to be known of their runs."""

    history: Busy
    path: Path
    rows: list[dict[str, Any]]


@pytest.fixture(scope="module")
def busy(tmp_path_factory: pytest.TempPathFactory) -> Busied:
    """A history of more than two chunks, folded."""
    path = tmp_path_factory.mktemp("busy") / "headway.db"
    history = Busy(5, 1600)
    asyncio.run(fold(history, path))
    with closing(sqlite3.connect(path)) as db:
        db.row_factory = sqlite3.Row
        found = db.execute("select t.*, r.pipeline, r.project, r.branch from timeline t join runs r on r.seq = t.run")
        rows = [dict(row) for row in found]
    assert len(rows) > 2.5 * CHUNK_ROWS
    return Busied(history, path, rows)


@asynccontextmanager
async def reading(path: Path) -> AsyncGenerator[aiosqlite.Connection, None]:
    """A connection for questions."""
    db = await open_reader(path)
    try:
        yield db
    finally:
        await db.close()


# The same in plain words


def names_of(row: dict[str, Any], by: Iterable[str]) -> list[tuple[str | None, ...]]:
    """The groups that a row is in: one value for each dimension, None for one that is not asked for."""
    on_runner = row["state"] in ("assigned", "preparing", "executing", "uploading")
    values = {**row, "runner": row["holder"][:-9] if on_runner else ""}
    asked = {"state", *by} | ({"pipeline"} if "job" in by else set())
    labels = json.loads(row["labels"]) or [""] if "label" in by else [None]
    return [
        tuple({**values, "label": label}[name] if name in asked else None for name in DIMENSIONS) for label in labels
    ]


def rank(durations: list[int], percent: int) -> float:
    """Nearest rank, in milliseconds."""
    return sorted(durations)[math.ceil(percent * len(durations) / 100) - 1] / 1000


def figures(durations: list[int]) -> tuple[Any, ...]:
    """What is to be said of some handoffs."""
    if not durations:
        return 0, None, None, None, None, 0.0
    ranks = [rank(durations, percent) for percent in PERCENTS]
    return len(durations), *ranks, max(durations) / 1000, sum(durations) / 1000


def counted(rows: Iterable[dict[str, Any]], asked: LatencyFilter, start: int, end: int) -> dict[Any, list[int]]:
    """The durations of each group among the rows that were left from start to end, both in it."""
    groups: dict[Any, list[int]] = defaultdict(list)
    for row in rows:
        wanted = start <= row["left"] <= end and row["next"] not in ("cancelled", "skipped")
        if wanted and (not row["phase"] or "phase" in asked.by):
            for names in names_of(row, asked.by):
                groups[names].append(row["left"] - row["entered"])
    return groups


async def opened(db: aiosqlite.Connection, asked: LatencyFilter, now_us: int) -> dict[Any, list[int]]:
    """The ages of each group's open handoffs."""
    groups: dict[Any, list[int]] = defaultdict(list)
    sql = "select * from jobs j join runs r on r.run = j.run where j.state != 'completed' and ? in ('', r.pipeline)"
    async with db.execute(sql, (asked.pipeline,)) as cursor:
        cursor.row_factory = sqlite3.Row
        async for row in cursor:
            for names in names_of({**dict(row), "phase": "", "labels": row["runs_on"]}, asked.by):
                groups[names].append(now_us - row["entered"])
    return groups


async def check(
    db: aiosqlite.Connection, rows: list[dict[str, Any]], asked: LatencyFilter, now_us: int
) -> LatencyRecord:
    """Ask, and compare every figure of every group with the plain words."""
    found = await latency(db, asked, now_us)
    start = now_us - round(asked.since_seconds * 1_000_000)
    earlier = start - round(asked.against_seconds * 1_000_000)
    rows = [row for row in rows if asked.pipeline in ("", row["pipeline"])]
    now, before = counted(rows, asked, start, now_us), counted(rows, asked, earlier, start - 1)
    ages = await opened(db, asked, now_us)
    known = {tuple(getattr(row, name) for name in DIMENSIONS): row for row in found.rows}
    assert set(known) == set(now) | set(before) | set(ages)
    assert (len(known), found.groups) == (len(found.rows), len(found.rows))
    for names, row in known.items():
        assert msgspec.structs.astuple(row)[:6] == figures(now[names]), names
        if asked.against_seconds:
            assert row.earlier is not None
            assert msgspec.structs.astuple(row.earlier) == figures(before[names])
        expected = (len(ages[names]), max(ages[names]) / 1000) if names in ages else None
        assert expected == (row.open and (row.open.count, row.open.oldest_ms))
    whole = [row for row in rows if not row["phase"]]
    inside = [row for row in whole if start <= row["left"] <= now_us]
    dropped = [row for row in inside if row["next"] in ("cancelled", "skipped")]
    assert (found.period.handoffs, found.period.left_out) == (len(inside) - len(dropped), len(dropped))
    return found


# Exactness


@pytest.mark.parametrize("seed", range(24))
async def test_every_figure_is_exact_now(busy: Busied, seed: int) -> None:
    """Whatever tells groups apart and wherever the period cuts, each figure is that of the rows."""
    chance = random.Random(seed)
    first, last = busy.rows[0]["left"], busy.rows[-1]["left"]
    whole_seconds = (last - first) / 1_000_000
    asked = LatencyFilter(
        by=tuple(chance.sample(DIMENSIONS, chance.choice([1, 1, 2, 3]))),
        since_seconds=chance.choice([whole_seconds * chance.random() + 0.001, ALWAYS]),
        against_seconds=chance.choice([0, whole_seconds * chance.random() + 0.001]),
        pipeline=chance.choice(["", "", "build"]),
        limit=0,
    )
    async with reading(busy.path) as db:
        await check(db, busy.rows, asked, last + chance.choice([0, 60_000_000]))


@pytest.mark.parametrize("share", [0.01, 0.2, 0.4, 0.61, 0.85, 0.999])
@pytest.mark.parametrize("by", [("state",), ("phase", "job"), ("runner", "label")])
async def test_every_figure_is_exact_then(busy: Busied, share: float, by: tuple[str, ...]) -> None:
    """The same holds at a past moment, which chunks do not know of."""
    seq = int(busy.history.seq * share)
    rows = [row for row in busy.rows if row["seq_left"] <= seq]
    async with past(busy.path, seq) as db:
        for seconds in (1_000.0, ALWAYS):
            asked = LatencyFilter(by=by, since_seconds=seconds, against_seconds=5_000.0, limit=0)
            await check(db, rows, asked, await time_at(db, seq))


async def test_a_period_that_ends_where_a_chunk_does(busy: Busied) -> None:
    """A handoff left at the first moment of a period is in it, one left just before is in the earlier one."""
    edge = busy.rows[CHUNK_ROWS]["left"]
    last = busy.rows[-1]["left"]
    async with reading(busy.path) as db:
        for start in (edge - 1, edge, edge + 1):
            asked = LatencyFilter(since_seconds=(last - start) / 1_000_000, against_seconds=3_600, limit=0)
            await check(db, busy.rows, asked, last)


async def test_before_the_first_chunk_is_full(tmp_path: Path) -> None:
    """A short history is answered from its rows alone; what is skipped or cancelled is left out and said."""
    history = eventful()
    path = tmp_path / "headway.db"
    await fold(history, path)
    with closing(sqlite3.connect(path)) as raw:
        raw.row_factory = sqlite3.Row
        sql = "select t.*, r.pipeline, r.project, r.branch from timeline t join runs r on r.seq = t.run"
        rows = [dict(row) for row in raw.execute(sql)]
    async with reading(path) as db:
        found = await check(db, rows, LatencyFilter(by=("state", "label"), limit=0), history.clock.wall_us())
    assert found.period.left_out == 3
    assert [row.state for row in found.rows] == sorted((row.state for row in found.rows), key=ORDER.index)


async def test_empty_tables(tmp_path: Path) -> None:
    """Nothing has happened: no rows, no handoffs, and no error."""
    await (await Store.open(tmp_path / "headway.db")).close()
    async with reading(tmp_path / "headway.db") as db:
        found = await latency(db, LatencyFilter(by=("job", "label"), against_seconds=60), 1_000_000)
    assert (found.rows, found.period.handoffs, found.open, found.groups) == ([], 0, 0, 0)


# Order


async def test_the_largest_sums_are_shown(busy: Busied) -> None:
    """With a limit the groups are those in which most time was spent, by state and then by sum."""
    now = busy.rows[-1]["left"]
    async with reading(busy.path) as db:
        whole = await latency(db, LatencyFilter(by=("job",), since_seconds=ALWAYS, limit=0), now)
        found = await latency(db, LatencyFilter(by=("job",), since_seconds=ALWAYS, limit=9), now)
    assert (len(found.rows), found.groups) == (9, len(whole.rows))
    assert set(found.rows) <= set(whole.rows)
    order = [(ORDER.index(row.state), -row.sum_ms) for row in found.rows]
    assert order == sorted(order)


async def test_what_moved_most_comes_first(busy: Busied) -> None:
    """Compared with an earlier period, rows come by how much longer or shorter they took than at its mean."""
    now, half = busy.rows[-1]["left"], (busy.rows[-1]["left"] - busy.rows[0]["left"]) / 2_000_000
    asked = LatencyFilter(by=("job", "branch"), since_seconds=half, against_seconds=half, limit=40)
    async with reading(busy.path) as db:
        found = await latency(db, asked, now)
    moved = [row.moved_ms for row in found.rows]
    assert None not in moved
    assert moved == sorted(moved, key=lambda one: -abs(one or 0))
    for row in found.rows:
        assert row.earlier is not None
        expected = (row.sum_ms / row.count - row.earlier.sum_ms / row.earlier.count) * row.count
        assert row.moved_ms == pytest.approx(expected, abs=0.01)


# Refusals


async def test_what_cannot_be_asked(busy: Busied) -> None:
    """Unknown words, unknown pipelines and periods of no length are refused, with the nearest of what there is."""
    async with reading(busy.path) as db:
        with pytest.raises(UsageError, match="did you mean 'runner'"):
            await latency(db, LatencyFilter(by=("runer",)), 1)
        with pytest.raises(UsageError, match="length of time"):
            await latency(db, LatencyFilter(since_seconds=0), 1)
        with pytest.raises(UsageError, match="length of time"):
            await latency(db, LatencyFilter(against_seconds=-5), 1)
        with pytest.raises(UsageError, match="length of time"):
            await latency(db, LatencyFilter(since_seconds=1e300), 1)
        with pytest.raises(NotFoundError) as caught:
            await latency(db, LatencyFilter(pipeline="biuld"), 1)
    assert caught.value.next == "did you mean 'build'?"


# Figures


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 2**60)), max_size=300))
def test_percentiles_of_anything(rows: list[tuple[int, int]]) -> None:
    """Also of durations so long that two numbers do not fit into one, percentiles are those of plain sorting."""
    columns = {"state": pack("state", [key for key, _ in rows]), "duration": pack("duration", [one for _, one in rows])}
    handoffs = Handoffs([Piece(columns, 0)] if rows else [], ["state", "duration"], Bounds(0, 0, 0))
    groups = handoffs.groups(["state"])
    assert [group.names for group in groups] == [(key,) for key in sorted({key for key, _ in rows})]
    for group, (now, before) in zip(groups, handoffs.figures(range(len(groups))), strict=True):
        own = sorted(one for key, one in rows if (key,) == group.names)
        ranks = [own[math.ceil(percent * len(own) / 100) - 1] for percent in PERCENTS]
        assert (now.count, now.percentiles, before.count) == (len(own), (*ranks, own[-1]), 0)
        assert now.sum == sum(own) or sum(own) >= 2**63


def test_more_groups_than_a_table_of_keys_holds() -> None:
    """Dimensions with thousands of names each are told apart as well."""
    chance = random.Random(3)
    places = {name: [chance.randrange(3000) for _ in range(5000)] for name in ("job", "branch", "runner")}
    columns = {name: pack(name, values) for name, values in places.items()}
    columns["duration"] = pack("duration", range(5000))
    handoffs = Handoffs([Piece(columns, 0)], [*places, "duration"], Bounds(0, 0, 0))
    groups = handoffs.groups(list(places))
    assert {group.names: group.counts[0] for group in groups} == dict.fromkeys(zip(*places.values(), strict=True), 1)


# Chunks


def test_a_chunk_holds_the_rows_with_its_ids(busy: Busied) -> None:
    """What is packed as rows are written is what is selected of them afterwards, column by column."""
    with closing(sqlite3.connect(busy.path)) as db:
        names = dict(db.execute("select id, name from names"))
        for (chunk,) in db.execute("select chunk from chunks").fetchall():
            rows = db.execute(select(NUMBERS + NAMES), (chunk * CHUNK_ROWS, (chunk + 1) * CHUNK_ROWS)).fetchall()
            bodies = dict(db.execute('select "column", body from samples where chunk = ?', (chunk,)))
            for place, column in enumerate(NUMBERS + NAMES):
                code = {8: "q", 4: "I", 2: "H", 1: "B"}[len(bodies[column]) // CHUNK_ROWS]
                values = array(code, bodies[column])
                told = list(values) if column in NUMBERS else [names[one] for one in values]
                assert told == [row[place] for row in rows], column


async def test_a_refused_batch_leaves_no_trace_in_the_chunks(busy: Busied, tmp_path: Path) -> None:
    """Rows that were rolled back are not packed: the batch that is written after them fills the chunk."""
    history, live, rebuilt = busy.history, tmp_path / "live.db", tmp_path / "rebuilt.db"
    store, entries = await Store.open(live), list(history.log.entries)
    await fold_batch(Fold(), store, entries[:4000])
    with closing(sqlite3.connect(live)) as db, db:
        db.execute("insert into chunks values (0, 0, 0, 0)")  # in the way of the first chunk, so that packing it fails
    lost = Fold(position=store.position, time=store.time)
    with pytest.raises(BrokenError):
        await fold_batch(lost, store, entries[4000:])
    with closing(sqlite3.connect(live)) as db, db:
        assert db.execute("delete from chunks").rowcount == 1
    await store.refresh()
    await fold_batch(Fold(position=store.position, time=store.time), store, entries[4000:])
    await store.close()
    await rebuild(history.log, rebuilt)
    assert await compare(live, rebuilt) == []


async def test_the_same_chunks_however_the_log_was_folded(busy: Busied, tmp_path: Path) -> None:
    """Batches of any size, with the file closed in between, give the rows that one rebuild gives; so do all columns."""
    history, chance = busy.history, random.Random(8)
    live, rebuilt = tmp_path / "live.db", tmp_path / "rebuilt.db"
    entries = list(history.log.entries)
    while entries:
        store = await Store.open(live)
        for _ in range(chance.randrange(1, 12)):
            size = chance.choice([1, 7, 500, 3000])
            batch, entries = entries[:size], entries[size:]
            made = Fold(position=store.position, time=store.time)
            await fold_batch(made, store, batch)
        await store.close()
    await rebuild(history.log, rebuilt)
    assert await compare(live, rebuilt) == []
    with closing(sqlite3.connect(live)) as db:
        [(chunks, columns)] = db.execute("select (select count(*) from chunks), (select count(*) from samples)")
    assert chunks >= 1
    assert columns == chunks * len(NUMBERS + NAMES)
