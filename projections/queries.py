"""Questions that can be asked of the tables.

Each is a function over a connection from `Store.reading`, so that all it says is of one moment, and `as_of` is that
moment's event. A pause is not written into the rows of what it holds; who asks for `paused` gets what waits and is
held.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

import aiosqlite
import msgspec

from headway.core.clock import from_us
from headway.core.envelope import Recorded, decode, record
from headway.core.errors import NotFoundError, UsageError
from headway.core.states import State, Status
from headway.projections.readings import (
    attempt_record,
    job_record,
    moment,
    paused_record,
    run_record,
    runner_record,
    step_record,
)
from headway.projections.records import (
    CoordinatorRecord,
    EventList,
    JobList,
    PausedRecord,
    QueueRecord,
    RunList,
    RunnerList,
    ShowRecord,
)
from headway.projections.tables import AttemptRow, FleetRow, JobRow, RunnerRow, RunRow, StepRow, columns_of

END_LEAST: Final = 6
CANDIDATES_MAX: Final = 5
UNFINISHED: Final = "status in ('pending', 'running', 'paused')"
_WAITS: Final = "j.status in ('pending', 'retry')"
_HELD: Final = "(r.outcome is null and (? or r.paused_since is not null))"


class RunFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Which runs; empty fields ask for all. The newest come first."""

    status: str = ""
    pipeline: str = ""
    branch: str = ""
    project: str = ""
    since: datetime | None = None
    limit: int = 50


class JobFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Which jobs; empty fields ask for all. `state` may also be a status. The newest come first."""

    state: str = ""
    label: str = ""
    run: str = ""
    limit: int = 1000


class Ended(msgspec.Struct, frozen=True, kw_only=True):
    """The end of a run or a job, and the event that says so."""

    seq: int
    outcome: str


async def position(db: aiosqlite.Connection) -> int:
    """The last event that is in the tables."""
    [(found,)] = await _rows(db, "select position from meta")
    return int(found)


async def fleet_paused(db: aiosqlite.Connection) -> PausedRecord | None:
    """Who paused the whole service, None when nobody has."""
    rows = await _rows(db, f"select {columns_of(FleetRow)} from fleet")
    return paused_record(FleetRow(*rows[0])) if rows else None


async def runs(db: aiosqlite.Connection, asked: RunFilter = RunFilter()) -> RunList:
    """Runs, the newest first. Raises UsageError for a status that does not exist."""
    service = await fleet_paused(db)
    where: list[str] = ["1"]
    parameters: list[object] = []
    if asked.status:
        _one_of(asked.status, Status, "status")
        # Only a run that is not over changes its status with the service's pause; the index serves both ways.
        where.append(f"{UNFINISHED} and status_paused = ?" if service and asked.status in _OPEN else "status = ?")
        parameters.append(asked.status)
    for column in ("pipeline", "branch", "project"):
        if value := getattr(asked, column):
            where.append(f"{column} = ?")
            parameters.append(value)
    if asked.since is not None:
        where.append("admitted >= ?")
        parameters.append(round(asked.since.timestamp() * 1_000_000))
    sql = f"select {columns_of(RunRow)} from runs where {' and '.join(where)} order by seq desc limit ?"
    found = await _rows(db, sql, *parameters, asked.limit)
    return RunList(as_of=await position(db), runs=[run_record(RunRow(*row), service) for row in found])


async def jobs(db: aiosqlite.Connection, asked: JobFilter = JobFilter()) -> JobList:
    """Jobs, the newest first. Raises UsageError for a state that does not exist."""
    service = await fleet_paused(db)
    where: list[str] = ["1"]
    parameters: list[object] = []
    if asked.state:
        condition, values = _in_state(asked.state, held=service is not None)
        where.append(condition)
        parameters += values
    if asked.run:
        where.append("j.run = ?")
        parameters.append(asked.run)
    if asked.label:
        where.append("exists (select 1 from json_each(j.runs_on) where value = ?)")
        parameters.append(asked.label)
    columns = ", ".join(f'j."{column}"' for column in JobRow.__struct_fields__)
    sql = f"select {_HELD}, {columns} from jobs j join runs r on r.run = j.run"
    sql += f" where {' and '.join(where)} order by j.seq desc limit ?"
    found = [
        job_record(JobRow(*row), paused=bool(held))
        for held, *row in await _rows(db, sql, service is not None, *parameters, asked.limit)
    ]
    return JobList(as_of=await position(db), jobs=found)


def _in_state(state: str, *, held: bool) -> tuple[str, list[object]]:
    """SQL for jobs in a state or of a status, led by what the index on status can find."""
    if state in State.__members__.values():
        over = state == State.COMPLETED
        return f"j.status {'not ' if over else ''}in ('pending', 'retry', 'running') and j.state = ?", [state]
    _one_of(state, Status, "state", *State)
    if state == Status.PAUSED:
        return f"{_WAITS} and {_HELD}", [held]
    if state in (Status.PENDING, Status.RETRY):
        return f"j.status = ? and not {_HELD}", [state, held]
    return "j.status = ?", [state]


async def show(db: aiosqlite.Connection, run: str) -> ShowRecord:
    """All there is to know of a run. Raises NotFoundError."""
    found = await _rows(db, f"select {columns_of(RunRow)} from runs where run = ?", run)
    if not found:
        raise _no_such_run(run)
    head = run_record(RunRow(*found[0]), await fleet_paused(db))
    jobs = await _rows(db, f"select {columns_of(JobRow)} from jobs where run = ? order by seq", run)
    attempts = await _rows(
        db, f"select {columns_of(AttemptRow)} from attempts where run = ? order by job, attempt", run
    )
    steps = await _rows(db, f"select {columns_of(StepRow)} from steps where run = ? order by job, attempt, step", run)
    return ShowRecord(
        as_of=await position(db),
        run=head,
        jobs=[job_record(JobRow(*row), paused=head.paused) for row in jobs],
        attempts=[attempt_record(AttemptRow(*row)) for row in attempts],
        steps=[step_record(StepRow(*row)) for row in steps],
    )


async def runners(db: aiosqlite.Connection, *, gone: bool = False) -> RunnerList:
    """Runners that are here, and the last of each name; with `gone` all there ever were."""
    held = await _rows(db, "select runner, count(*) from jobs where status = 'running' and held = 1 group by runner")
    busy: dict[str, int] = {runner: int(count) for runner, count in held}
    here = "state in ('active', 'draining') or seq = (select max(seq) from runners o where o.name = runners.name)"
    sql = f"select {columns_of(RunnerRow)} from runners where {'1' if gone else here} order by name, seq"
    found = [RunnerRow(*row) for row in await _rows(db, sql)]
    return RunnerList(as_of=await position(db), runners=[runner_record(row, busy.get(row.runner, 0)) for row in found])


async def queue(db: aiosqlite.Connection) -> QueueRecord:
    """How much waits for a slot, how much holds one, and since when the longest has waited."""
    waits = "from jobs where status in ('pending', 'retry') and state = 'queued'"
    [(queued, oldest)] = await _rows(db, f"select count(*), min(queued) {waits}")
    [(held,)] = await _rows(db, "select count(*) from jobs where status = 'running' and held = 1")
    return QueueRecord(queued=queued, on_a_runner=held, oldest_queued=moment(oldest))


async def ended(db: aiosqlite.Connection, run: str, job: str = "") -> Ended | None:
    """How a run ended, or a job of it; None while it has not, or when there is no such thing."""
    sql = "select seq_completed, outcome from runs where run = ? and ? = '' and outcome is not null"
    if job:
        sql = "select seq_entered, outcome from jobs where run = ? and job = ? and outcome is not null"
    found = await _rows(db, sql, run, job)
    return Ended(seq=found[0][0], outcome=found[0][1]) if found else None


async def unfinished(db: aiosqlite.Connection) -> int:
    """How many runs are not over."""
    [(found,)] = await _rows(db, f"select count(*) from runs where {UNFINISHED}")
    return int(found)


async def coordinator(db: aiosqlite.Connection) -> CoordinatorRecord | None:
    """The coordinator that was elected last."""
    found = await _rows(db, "select coordinator, elected, headway_version, host, pid from coordinator")
    return (
        CoordinatorRecord(
            coordinator=found[0][0],
            elected=from_us(found[0][1]),
            headway_version=found[0][2],
            host=found[0][3],
            pid=found[0][4],
        )
        if found
        else None
    )


async def resolve(db: aiosqlite.Connection, name: str) -> str:
    """The one run whose id begins so, or ends so with at least six characters. Raises NotFoundError."""
    wanted = name.strip().lower()
    if not wanted or set(wanted) - set("0123456789abcdef-"):
        raise _no_such_run(name)
    sql = "select run, pipeline, project from runs where run >= ? and run < ? order by run desc limit ?"
    found = await _rows(db, sql, wanted, wanted + "g", CANDIDATES_MAX + 1)
    if not found and len(wanted) >= END_LEAST:
        sql = "select run, pipeline, project from runs where substr(run, -6) = ? and run like ? limit ?"
        found = await _rows(db, sql, wanted[-END_LEAST:], "%" + wanted, CANDIDATES_MAX + 1)
    if not found:
        raise _no_such_run(name)
    if len(found) > 1:
        named = [f"{run} ({pipeline} of {project})" for run, pipeline, project in found[:CANDIDATES_MAX]]
        more = " and others" if len(found) > CANDIDATES_MAX else ""
        raise NotFoundError(
            f"more than one run begins or ends with {wanted}", next=f"give more of its id: {', '.join(named)}{more}"
        )
    return str(found[0][0])


async def latest(db: aiosqlite.Connection, project: str, actor: str = "", *, until: int = 0) -> str | None:
    """The last run of a project, of those that `actor` submitted when one is given; `until` ends with that event."""
    sql = "select run from runs where project = ? and (? = '' or actor = ?) and seq <= ? order by seq desc limit 1"
    found = await _rows(db, sql, project, actor, actor, until or _LAST)
    return str(found[0][0]) if found else None


async def events(
    db: aiosqlite.Connection, *, run: str = "", start: int = 1, until: int = 0, type: str = "", limit: int = 1000
) -> EventList:
    """Events from the sequence `start` on, to `until` if it is given, in order: of one run, of one type, or all."""
    where: list[str] = ["seq >= ?", "seq <= ?"]
    parameters: list[object] = [start, until or _LAST]
    for column, value in (("run", run), ("type", type)):
        if value:
            where.append(f"{column} = ?")
            parameters.append(value)
    sql = f"select seq, logged, body from events where {' and '.join(where)} order by seq limit ?"
    found = await _rows(db, sql, *parameters, limit)
    shown = [record(Recorded(seq=seq, logged=logged, envelope=decode(body), body=body)) for seq, logged, body in found]
    return EventList(as_of=await position(db), events=shown)


_LAST: Final = 2**63 - 1
_OPEN: Final = frozenset({Status.PENDING.value, Status.RUNNING.value, Status.PAUSED.value})


def _one_of(word: str, kind: type[Status], what: str, *more: str) -> None:
    known = [*more, *kind]
    if word not in known:
        raise UsageError(f"there is no {what} {word!r}", next=f"use one of: {', '.join(known)}")


def _no_such_run(run: str) -> NotFoundError:
    return NotFoundError(f"no run's id is {run!r}, or begins or ends so", next="'headway runs' lists what there is")


async def _rows(db: aiosqlite.Connection, sql: str, *parameters: object) -> list[tuple[Any, ...]]:
    return [tuple(row) for row in await db.execute_fetchall(sql, parameters)]
