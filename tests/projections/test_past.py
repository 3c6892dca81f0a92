"""Stories of the past: what is there after an event, what is not yet, and what cannot be had."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

import aiosqlite
import msgspec
import pytest

from headway.core.clock import from_us
from headway.core.errors import NotFoundError, UnavailableError, UsageError
from headway.core.events import (
    CoordinatorElected,
    JobAdmitted,
    JobCompleted,
    RunAdmitted,
    RunCompleted,
    RunnerLeft,
    RunnerLost,
)
from headway.core.log import Stored
from headway.core.states import Outcome
from headway.projections import queries
from headway.projections.apply import Fold, fold_batch
from headway.projections.past import past, replayed, seq_at, time_at
from headway.projections.place import DamagedError, StoreError
from headway.projections.queries import JobFilter, RunFilter
from headway.projections.reader import open_reader
from headway.projections.store import Store
from headway.projections.tables import ORDER
from tests.projections.histories import RUNNER, History, eventful
from tests.projections.tables_fixture import fold

TABLES = ("runs", "jobs", "attempts", "steps")


async def found(db: aiosqlite.Connection, sql: str) -> list[tuple[object, ...]]:
    return [tuple(row) for row in await db.execute_fetchall(sql)]


async def runs_in(db: aiosqlite.Connection) -> dict[str, set[object]]:
    """The runs that each table speaks of."""
    return {table: {run for (run,) in await found(db, f"select run from {table}")} for table in TABLES}


@asynccontextmanager
async def present(path: Path) -> AsyncGenerator[aiosqlite.Connection, None]:
    """The tables as they are."""
    db = await open_reader(path)
    try:
        yield db
    finally:
        await db.close()


@asynccontextmanager
async def folded(entries: list[Stored], path: Path) -> AsyncGenerator[Store, None]:
    """A store with these entries."""
    store = await Store.open(path)
    try:
        await fold_batch(Fold(), store, entries)
        yield store
    finally:
        await store.close()


@pytest.fixture
async def day(tmp_path: Path) -> tuple[History, Path]:
    """The eventful history, and the file of its tables."""
    history, path = eventful(), tmp_path / "headway.db"
    await fold(history, path)
    return history, path


async def test_before_the_first_event(day: tuple[History, Path]) -> None:
    """After event 0 there is nothing, and every question has an answer."""
    _, path = day
    async with past(path, 0) as db:
        assert (await queries.runs(db)).runs == (await queries.jobs(db)).jobs == []
        assert (await queries.runners(db, gone=True)).runners == (await queries.events(db)).events == []
        assert await queries.fleet_paused(db) is await queries.coordinator(db) is None
        assert await queries.position(db) == await queries.unfinished(db) == 0
        assert await found(db, "select * from timeline") == []
        assert await found(db, "select position, logged from meta") == [(0, 0)]


@pytest.mark.parametrize("seq", [-1, 10_000])
async def test_an_event_that_is_not_there(day: tuple[History, Path], seq: int) -> None:
    """A sequence the log has not reached, or never will, is refused, and the last one is named."""
    history, path = day
    with pytest.raises(UsageError, match=f"there is no event {seq}: the last one is {history.seq}"):
        async with past(path, seq):
            pass


async def test_the_present_is_the_last_past(day: tuple[History, Path]) -> None:
    """After the last event the past is what the tables have, row by row."""
    history, path = day
    async with present(path) as db, past(path, history.seq) as then:
        for table in (*TABLES, "runners", "fleet", "coordinator", "timeline", "events"):
            sql = f"select * from {table} order by {', '.join(ORDER[table])}"
            assert await found(then, sql) == await found(db, sql), table


async def test_only_one_run(day: tuple[History, Path]) -> None:
    """With a run, only that one is there, over or not; runners, events and times are there as ever."""
    history, path = day
    async with past(path, history.seq) as db:
        everything = await queries.runs(db, RunFilter(limit=100))
        shows = {one.run: await queries.show(db, one.run) for one in everything.runs}
    for run, show in shows.items():
        async with past(path, history.seq, run=run) as db:
            assert await queries.show(db, run) == show
            there = await runs_in(db)
            assert there["runs"] == there["jobs"] == {run}
            assert there["attempts"] | there["steps"] <= {run}
            assert len((await queries.runners(db, gone=True)).runners) == 3
            assert len((await queries.events(db)).events) == history.seq


async def test_a_run_that_is_not_there_yet(day: tuple[History, Path]) -> None:
    """Before its admission a run is nowhere: not in lists, not shown, not replayed."""
    history, path = day
    async with past(path, history.seq) as db:
        newest = (await queries.runs(db)).runs[0]
    for run in ("", newest.run):
        async with past(path, newest.seq - 1, run=run) as db:
            assert newest.run not in (await runs_in(db))["runs"] | (await runs_in(db))["jobs"]
            with pytest.raises(NotFoundError):
                await queries.show(db, newest.run)
    async with past(path, newest.seq) as db:
        show = await queries.show(db, newest.run)
    assert (show.run.status, show.run.jobs, show.run.events, show.jobs) == ("pending", 2, 1, [])
    async with present(path) as db:
        with pytest.raises(NotFoundError, match=f"was not there yet after event {newest.seq - 1}"):
            await replayed(db, newest.run, newest.seq - 1)
        assert await replayed(db, newest.run, newest.seq) == show


async def test_a_run_that_was_over_is_not_folded_again(day: tuple[History, Path]) -> None:
    """A finished run has the rows of the table: even without its events, it is what it was."""
    history, path = day
    async with past(path, history.seq) as db:
        oldest = (await queries.runs(db)).runs[-1]
        show = await queries.show(db, oldest.run)
    assert oldest.seq_completed is not None
    async with aiosqlite.connect(path) as db:
        await db.execute("update events set body = x'00' where run = ?", (oldest.run,))
        await db.commit()
    async with past(path, oldest.seq_completed) as db:
        then = await queries.show(db, oldest.run)
        assert await found(db, "select count(*) from then_runs") == [(0,)]
    assert then == msgspec.structs.replace(show, as_of=oldest.seq_completed)


async def test_moments_and_sequences(tmp_path: Path) -> None:
    """A time means the last event logged by then: of equal times the last; a step back of the clock adds none."""
    history = History()
    for _ in range(6):
        history.elect()
    start = history.log.entries[0].logged
    logged = [0, 10, 10, 4, 10, 20]
    entries = [
        msgspec.structs.replace(one, logged=start + late) for one, late in zip(history.log.entries, logged, strict=True)
    ]
    path = tmp_path / "headway.db"
    async with folded(entries, path), present(path) as db:
        assert [await time_at(db, seq) - start for seq in range(1, 7)] == [0, 10, 10, 10, 10, 20]
        asked = {-1: 0, 0: 1, 4: 1, 9: 1, 10: 5, 19: 5, 20: 6, 10**12: 6}
        assert {late: await seq_at(db, start + late) for late in asked} == asked
        assert (await time_at(db, 0), await seq_at(db, 0)) == (0, 0)
        with pytest.raises(UsageError, match="the last one is 6"):
            await time_at(db, 7)
    for seq in range(7):
        async with past(path, seq) as db:
            then = await time_at(db, seq)
            assert await found(db, "select position, logged from meta") == [(seq, then)]
            assert await seq_at(db, start + 10**12) == seq
            coordinator = await queries.coordinator(db)
            assert (coordinator.elected if coordinator else None) == (from_us(then) if seq else None)


async def test_a_clock_that_steps_back_makes_no_time_negative(tmp_path: Path) -> None:
    """States are as long in the past as they are now, also while the log's clock is behind itself."""
    history = History()
    history.register()
    run = history.pass_run()
    entries = [
        msgspec.structs.replace(one, logged=one.logged - (3_600_000_000 if one.seq % 3 == 0 else 0))
        for one in history.log.entries
    ]
    path = tmp_path / "headway.db"
    async with folded(entries, path), past(path, history.seq - 1) as db:
        [job] = (await queries.show(db, run)).jobs
        assert await found(db, 'select * from timeline where "left" < entered') == []
    assert job.completed is not None
    assert job.queued is not None
    assert job.completed - job.queued < timedelta(seconds=1)


async def test_the_views_end_with_the_event(day: tuple[History, Path]) -> None:
    """Events, handoffs and the position are those of then: nothing that came later shows."""
    history, path = day
    for seq in (1, 5, history.seq // 2, history.seq):
        async with past(path, seq) as db:
            assert await found(db, "select max(seq), count(*) from events") == [(seq, seq)]
            left = [one for (one,) in await found(db, "select seq_left from timeline order by id")]
            assert all(isinstance(one, int) and one <= seq for one in left)
            later = f"select count(*) from main.timeline where seq_left <= {seq}"
            assert await found(db, later) == [(len(left),)]
            [(position, logged)] = await found(db, "select position, logged from meta")
            assert (position, logged) == (seq, history.log.entries[seq - 1].logged)
            assert (await queries.events(db)).as_of == seq


async def test_a_job_in_the_middle(day: tuple[History, Path]) -> None:
    """A job that has long completed is in the state it was in, on its runner, with its attempt still open."""
    history, path = day
    async with past(path, history.seq) as db:
        oldest = (await queries.runs(db)).runs[-1]
        events = (await queries.events(db, run=oldest.run, type="job.executing")).events
    async with past(path, events[0]["seq"]) as db:
        show = await queries.show(db, oldest.run)
        [executing] = (await queries.jobs(db, JobFilter(state="executing"))).jobs
        busy = {one.runner: one.busy for one in (await queries.runners(db)).runners}
    assert (show.run.status, show.run.completed, show.run.outcome) == ("running", None, None)
    assert executing == show.jobs[0]
    assert (executing.runner, executing.holder, executing.seq_entered) == (RUNNER, RUNNER, events[0]["seq"])
    assert [(one.state, one.outcome, one.ended) for one in show.attempts] == [("executing", None, None)]
    assert busy == {RUNNER: 1, "spare-00000001": 0}


async def test_nothing_can_be_written(day: tuple[History, Path]) -> None:
    """The connection reads: neither the tables, nor what stands for them, nor anything new can be written."""
    _, path = day
    before = path.read_bytes()
    for sql in (
        *("delete from main.runs", "delete from runs", "delete from then_runs", "update fleet set paused_by = 'me'"),
        *("update main.events set actor = 'me'", "create table mine (one)", "create temp table mine (one)"),
    ):
        with pytest.raises((UnavailableError, sqlite3.Error)):
            async with past(path, 20) as db:
                await db.execute_fetchall(sql)
    assert path.read_bytes() == before


async def test_who_looks_back_holds_up_nobody(tmp_path: Path) -> None:
    """The log goes on being folded while somebody looks at the past, who sees none of it."""
    history = History()
    history.elect()
    path = tmp_path / "headway.db"
    async with folded(history.log.entries, path) as store, past(path, 1) as db:
        history.pass_run()
        await fold_batch(Fold(position=1, time=store.time), store, history.log.entries)
        assert store.position == history.seq > 1
        assert (await queries.runs(db)).runs == []
        assert await found(db, "select count(*) from main.events") == [(1,)]


@pytest.mark.parametrize("name", ["'", "x' or '1'='1", "'; drop table runs; --", '"', "%", ":seq", "?", "\\", "\n"])
async def test_hostile_names(day: tuple[History, Path], name: str) -> None:
    """A run named like SQL is a run that is not there, and nothing else."""
    history, path = day
    async with past(path, history.seq, run=name) as db:
        assert await runs_in(db) == {table: set() for table in TABLES}
        assert await queries.position(db) == history.seq
    async with present(path) as db:
        with pytest.raises(NotFoundError):
            await replayed(db, name, history.seq)
        assert len((await queries.runs(db)).runs) == 5


@pytest.mark.parametrize("name", ["o'clock", "a' or 1 --", "'; drop table runs; --"])
async def test_a_run_with_a_hostile_name_is_found(tmp_path: Path, name: str) -> None:
    """A run whose id has quotes in it, from a log that nobody checked, is there, and alone if asked for."""
    history = History()
    other = history.admit({})
    history.say(RunAdmitted(project="p", pipeline="p", jobs=1, plan_digest=""), run=name)
    history.say(JobAdmitted(), run=name, job=name)
    there = history.seq
    history.say(RunCompleted(outcome=Outcome.SUCCEEDED, jobs=1), run=name)
    await fold(history, tmp_path / "headway.db")
    for seq in (there, history.seq):
        async with past(tmp_path / "headway.db", seq, run=name) as db:
            assert await runs_in(db) == {"runs": {name}, "jobs": {name}, "attempts": set(), "steps": set()}
            assert await replayed(db, name, seq) == await queries.show(db, name)
        async with past(tmp_path / "headway.db", seq) as db:
            assert (await runs_in(db))["runs"] == {name, other}


async def test_no_file_and_a_damaged_one(tmp_path: Path) -> None:
    """A file that is missing, is none, or is no database is an error that says which, and leaves no file behind."""
    missing = tmp_path / "missing.db"
    with pytest.raises(StoreError, match="no such file"):
        async with past(missing, 0):
            pass
    assert not missing.exists()
    with pytest.raises(StoreError, match="not a file"):
        async with past(tmp_path, 0):
            pass
    damaged = tmp_path / "damaged.db"
    damaged.write_bytes(b"no database" * 1000)
    with pytest.raises(DamagedError, match=r"damaged\.db is damaged"):
        async with past(damaged, 0):
            pass
    empty = tmp_path / "empty.db"
    empty.touch()
    with pytest.raises(StoreError, match=r"empty\.db cannot be used"):
        async with past(empty, 0):
            pass


async def test_the_last_word_on_a_row(tmp_path: Path) -> None:
    """A row that events make anew is there once: a step tried again, the coordinator elected last."""
    history = History()
    history.elect()
    history.register()
    run = history.admit({"build": ()})
    history.queue(run, "build")
    history.work(run, "build", exit_code=1)
    history.start_step(run, "build", tried=2)
    history.say(CoordinatorElected(coordinator="c-2"))
    history.finish_step(run, "build", tried=2)
    await fold(history, tmp_path / "headway.db")
    async with past(tmp_path / "headway.db", history.seq) as db:
        [step] = (await queries.show(db, run)).steps
        coordinator = await queries.coordinator(db)
        assert await found(db, "select count(*) from coordinator") == [(1,)]
        assert await replayed(db, run, history.seq) == await queries.show(db, run)
    assert (step.tried, step.outcome) == (2, "succeeded")
    assert coordinator is not None
    assert coordinator.coordinator == "c-2"


async def test_nothing_moves_after_the_end(tmp_path: Path) -> None:
    """Whatever is written of a run after its end changes no row of it, so that the past of it stays the same."""
    history = History()
    history.register()
    run = history.admit({"build": (), "test": ()})
    history.pass_job(run, "build")
    history.end(run)
    end = history.seq
    history.queue(run, "test")
    history.say(JobCompleted(outcome=Outcome.FAILED), run=run, job="test", attempt=1)
    await fold(history, tmp_path / "headway.db")
    async with past(tmp_path / "headway.db", end) as db:
        then = await queries.show(db, run)
    async with past(tmp_path / "headway.db", history.seq) as db:
        now = await queries.show(db, run)
    assert msgspec.structs.replace(now, as_of=end) == then
    assert [one.state for one in now.jobs] == ["completed", "admitted"]
    assert now.run.events == then.run.events


async def test_a_runner_that_is_gone_stays_gone(tmp_path: Path) -> None:
    """An incarnation that was lost or has left never comes back, whoever says so."""
    history = History()
    for runner, gone in (
        ("a-00000001", RunnerLost(runner="a-00000001", reason="silent")),
        (RUNNER, RunnerLeft(runner=RUNNER)),
    ):
        history.register(runner)
        history.say(gone)
        history.register(runner, slots=9)
    await fold(history, tmp_path / "headway.db")
    for seq, expected in ((history.seq, ["lost", "left"]), (4, ["lost", "idle"]), (1, ["idle"])):
        async with past(tmp_path / "headway.db", seq) as db:
            found_runners = (await queries.runners(db, gone=True)).runners
        assert [one.status for one in found_runners] == expected
        assert {one.slots for one in found_runners} == {2}
