"""The tables as they were after an event: the same questions, asked of then.

A run that was over by then has the rows it still has, because nothing moves after the end. Every other run that was
there is folded again from its events up to that moment, and so are the runners and the coordinator. Those rows go into
tables of this one connection, and views of the same names as the tables put both kinds together; so no question has
to know of the past.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final, TypeVar

import aiosqlite

from headway.core.envelope import Recorded, decode
from headway.core.errors import NotFoundError, UsageError
from headway.projections.apply import Fold
from headway.projections.place import explained
from headway.projections.reader import open_reader
from headway.projections.readings import attempt_record, job_record, paused_record, run_record, step_record
from headway.projections.records import ShowRecord
from headway.projections.tables import (
    AttemptRow,
    Changes,
    CoordinatorRow,
    FleetRow,
    JobRow,
    LogTime,
    Row,
    RunnerRow,
    RunRow,
    StepRow,
    columns_of,
)

R = TypeVar("R", bound=Row)

ALONE: Final[tuple[type[Row], ...]] = (RunnerRow, FleetRow, CoordinatorRow)
"""Rows that are all folded again."""

JOINED: Final[dict[type[Row], str]] = {
    RunRow: "main.runs.seq_completed <= :seq",
    JobRow: "main.jobs.seq <= :seq and main.jobs.run not in (select run from then_runs)",
    AttemptRow: "exists (select 1 from main.runs r where r.run = main.attempts.run and r.seq_completed <= :seq)",
    StepRow: "exists (select 1 from main.runs r where r.run = main.steps.run and r.seq_completed <= :seq)",
}
"""Rows that are folded again only for runs that were not over; the others are those for which this holds."""

_EVENTS: Final = "select seq, logged, time, body from events where run = ? and seq <= ? order by seq"


@asynccontextmanager
async def past(path: Path, seq: int, *, run: str = "") -> AsyncGenerator[aiosqlite.Connection, None]:
    """A connection to the tables as they were after the event `seq`; with `run`, of all runs only that one is there.

    Raises UsageError for an event that is not in the tables yet.
    """
    connection = await open_reader(path, only=False)
    try:
        await connection.execute_fetchall("begin")
        time = await time_at(connection, seq)
        changes = await fold_until(connection, seq, await _open_runs(connection, seq, run))
        await _lay(connection, seq, time, changes, run)
        await connection.execute_fetchall("pragma query_only = 1")
        yield connection
    except sqlite3.Error as error:
        raise explained(error, path) from error
    finally:
        await connection.close()


async def replayed(db: aiosqlite.Connection, run: str, seq: int) -> ShowRecord:
    """A run as its events up to `seq` make it, whatever the rows say. Raises NotFoundError when it was not there."""
    changes = await fold_until(db, seq, [run])
    found = _sorted(changes, RunRow, "seq")
    if not found:
        raise NotFoundError(f"run {run} was not there yet after event {seq}", next="ask for a later moment")
    [fleet] = _sorted(changes, FleetRow, "one") or [FleetRow()]
    head = run_record(found[0], paused_record(fleet))
    return ShowRecord(
        as_of=seq,
        run=head,
        jobs=[job_record(row, paused=head.paused) for row in _sorted(changes, JobRow, "seq")],
        attempts=[attempt_record(row) for row in _sorted(changes, AttemptRow, *AttemptRow.key)],
        steps=[step_record(row) for row in _sorted(changes, StepRow, *StepRow.key)],
    )


def _sorted(changes: Changes, kind: type[R], *key: str) -> list[R]:
    rows = [row for row in changes.rows[kind] if isinstance(row, kind)]
    return sorted(rows, key=lambda row: [getattr(row, name) for name in key])


async def seq_at(db: aiosqlite.Connection, time_us: int) -> int:
    """The last event that was logged at this time or before; 0 when there was none yet."""
    low, high = 0, int((await _rows(db, "select coalesce(max(seq), 0) from events"))[0][0])
    while low < high:
        middle = (low + high + 1) // 2
        if await time_at(db, middle) <= time_us:
            low = middle
        else:
            high = middle - 1
    return low


async def time_at(db: aiosqlite.Connection, seq: int) -> int:
    """The log's time at an event, in microseconds since 1970 UTC. Raises UsageError when it is not in the tables."""
    if seq == 0:
        return 0
    found = await _rows(db, "select time from events where seq = ?", seq)
    if not found:
        [(last,)] = await _rows(db, "select position from meta")
        raise UsageError(f"there is no event {seq}: the last one is {last}", next="give a sequence up to that")
    return int(found[0][0])


async def _open_runs(db: aiosqlite.Connection, seq: int, run: str) -> list[str]:
    """The runs that were there and not over after the event; with `run`, of that one."""
    one = "and run = ?" if run else ""
    wanted = f"select run from runs where seq <= ? and (seq_completed is null or seq_completed > ?) {one} order by seq"
    return [name for (name,) in await _rows(db, wanted, seq, seq, *([run] if run else []))]


async def fold_until(db: aiosqlite.Connection, seq: int, runs: list[str]) -> Changes:
    """The rows of these runs, of the runners and the coordinator, folded from their events up to `seq`."""
    fold = Fold()
    for name in ("", *runs):
        found = await _rows(db, _EVENTS, name, seq)
        await asyncio.to_thread(_replay, fold, found)
    changes = fold.changes()
    changes.rows = {kind: _one_each(kind, rows) for kind, rows in changes.rows.items()}
    return changes


def _one_each(kind: type[Row], rows: list[Row]) -> list[Row]:
    """The last row for each key, in the order of the keys, as it would stand in the table."""
    last = {tuple(getattr(row, name) for name in kind.key): row for row in rows}
    return [last[key] for key in sorted(last)]


def _replay(fold: Fold, found: list[tuple[Any, ...]]) -> None:
    for seq, logged, time, body in found:
        recorded = Recorded(seq=seq, logged=logged, envelope=decode(body), body=body)
        fold.replay(recorded, LogTime(time, logged))


async def _lay(db: aiosqlite.Connection, seq: int, time: int, changes: Changes, run: str) -> None:
    """Put the rows where the questions look for them."""
    for kind in ALONE:
        await _keep(db, kind.table, kind, changes)
    for kind, condition in JOINED.items():
        then = f"then_{kind.table}"
        await _keep(db, then, kind, changes)
        columns = columns_of(kind)
        where = condition.replace(":seq", str(seq)) + (f" and run = {_literal(run)}" if run else "")
        await db.execute_fetchall(
            f"create temp view {kind.table} as select {columns} from main.{kind.table} where {where}"
            f" union all select {columns} from {then}"
        )
    last = await _last_handoff(db, seq)
    await db.execute_fetchall(f"create temp view timeline as select * from main.timeline where id <= {last}")
    await db.execute_fetchall(f"create temp view events as select * from main.events where seq <= {seq}")
    await db.execute_fetchall(
        f"create temp view meta as select {seq} as position, {time} as logged, steps_back, step_back_us, step_back_seq"
        " from main.meta"
    )


def _literal(text: str) -> str:
    """Text inside SQL: a view takes no parameters."""
    return "'" + text.replace("'", "''") + "'"


async def _keep(db: aiosqlite.Connection, table: str, kind: type[Row], changes: Changes) -> None:
    await db.execute_fetchall(f"create temp table {table} as select {columns_of(kind)} from main.{kind.table} limit 0")
    rows = [tuple(getattr(row, name) for name in kind.__struct_fields__) for row in changes.rows[kind]]
    if rows:
        places = ", ".join("?" * len(kind.__struct_fields__))
        await db.executemany(f"insert into {table} values ({places})", rows)


async def _last_handoff(db: aiosqlite.Connection, seq: int) -> int:
    """The last row of the timeline that was there after the event: they are in the order in which states were left."""
    low, high = 0, int((await _rows(db, "select coalesce(max(id), 0) from timeline"))[0][0])
    while low < high:
        middle = (low + high + 1) // 2
        [(left,)] = await _rows(db, "select seq_left from timeline where id = ?", middle)
        low, high = (middle, high) if left <= seq else (low, middle - 1)
    return low


async def _rows(db: aiosqlite.Connection, sql: str, *parameters: object) -> list[tuple[Any, ...]]:
    return [tuple(row) for row in await db.execute_fetchall(sql, parameters)]
