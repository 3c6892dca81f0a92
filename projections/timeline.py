"""Where the time of a run went: every stay of every job in a state, and the critical path through them.

Durations are exact: they are counted in the microseconds of the log's clock, and those of a job add up to its whole
time. Of a thousand jobs there are thousands of stays, so their records have their times as text from the beginning.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import cache
from typing import Any, Final

import aiosqlite
import msgspec

from headway.core.clock import rfc3339
from headway.core.errors import NotFoundError
from headway.projections.clocks import ClockRecord, log_behind_us, run_clocks
from headway.projections.path import Course, Part, Span, Stay, critical_path
from headway.projections.queries import fleet_paused, position
from headway.projections.readings import run_record
from headway.projections.records import Record, RunRecord
from headway.projections.tables import RunRow, columns_of, long_id
from headway.projections.workbench import BACK_OFF, COMPLETED, QUEUED

_RUN: Final = f"select {columns_of(RunRow)} from runs where run = ?"
_LEFT: Final = (
    'select job, attempt, state, phase, seq, entered, seq_left, "left", holder, cause, next'
    " from timeline where run = ? order by job, id"
)
_JOBS: Final = (
    "select job, depends_on, state, attempt, seq_entered, entered, holder, cause, rest_us"
    " from jobs where run = ? order by seq"
)
_ATTEMPTS: Final = "select job, attempt, runner, state, outcome from attempts where run = ?"
_names = msgspec.json.Decoder(tuple[str, ...]).decode


class HandoffRecord(Record, frozen=True, kw_only=True, gc=False):
    """A stay of a job in a state, or with a `phase` a part of one. `left` is None while it lasts.

    `seq` and `seq_left` are the events with which it was entered and left, `cause` is the id of the one that led to
    it. `next` is the state that followed, or the job's outcome; "" for none yet. `critical_us` is how much of it is on
    the critical path.
    """

    job: str
    attempt: int
    state: str
    phase: str
    entered: str
    left: str | None
    duration_ms: float
    duration_us: int
    critical_us: int
    holder: str
    cause: str
    seq: int
    seq_left: int | None
    next: str


class PartRecord(Record, frozen=True, kw_only=True):
    """A part of the critical path. `state` may also be admission or closing: those are the run's own."""

    job: str
    attempt: int
    state: str
    entered: str
    left: str
    duration_us: int
    holder: str
    seq: int | None


class EndRecord(Record, frozen=True, kw_only=True):
    """How an attempt ended, or where it is: `state` ends as completed, with an outcome, or as lost, without one."""

    job: str
    attempt: int
    runner: str
    state: str
    outcome: str | None


class TimelineRecord(Record, frozen=True, kw_only=True):
    """The timeline of a run as of an event; open stays last until `now`.

    `handoffs` are grouped by job, in the order in which jobs were admitted; those of a job are in the order of time, a
    state before its phases. `path` is the critical path: without gaps from the run's admission to its end, or to now.
    `clocks` are the runners whose clocks are off the log's; the log's own was at most `log_behind_ms` behind its
    earlier time while the run went on.
    """

    as_of: int
    run: RunRecord
    now: str
    handoffs: list[HandoffRecord]
    path: list[PartRecord]
    attempts: list[EndRecord]
    clocks: list[ClockRecord]
    log_behind_ms: int


class _Draft:
    """A timeline being made of rows: the handoffs of each job, and its course for the path."""

    def __init__(self, run: str, jobs: Iterable[Sequence[Any]]) -> None:
        self.handoffs: dict[str, list[HandoffRecord]] = {}
        self.courses: dict[str, Course] = {}
        self._run = run
        # What one state ends with the next one begins with.
        self._time: Callable[[int], str] = cache(rfc3339)
        for job, depends_on, *_ in jobs:
            self.handoffs[job], self.courses[job] = [], Course(_names(depends_on), [])

    def add_left(self, rows: Iterable[Sequence[Any]]) -> None:
        """Stays that are over, as rows of `_LEFT`. Phases come before their state, and are shown after it."""
        run, time, handoffs, courses = self._run, self._time, self.handoffs, self.courses
        phases: list[HandoffRecord] = []
        for job, attempt, state, phase, seq, entered, seq_left, left, holder, cause, following in rows:
            one = HandoffRecord(
                job=job,
                attempt=attempt,
                state=state,
                phase=phase,
                entered=time(entered),
                left=time(left),
                duration_ms=(left - entered) / 1000,
                duration_us=left - entered,
                critical_us=0,
                holder=holder,
                cause=long_id(run, cause),
                seq=seq,
                seq_left=seq_left,
                next=following,
            )
            if phase:
                phases.append(one)
                continue
            handoffs[job].append(one)
            if phases:
                handoffs[job] += phases
                phases.clear()
            courses[job].stays.append(Stay(attempt, state, seq, entered, seq_left, left, holder))

    def add_open(self, rows: Iterable[Sequence[Any]], *, now_us: int) -> None:
        """The states that jobs are in, as rows of `_JOBS`."""
        for job, _, state, attempt, seq, entered, holder, cause, rest_us in rows:
            if state == COMPLETED:
                continue
            age = max(0, now_us - entered)
            one = HandoffRecord(
                job=job,
                attempt=attempt,
                state=state,
                phase="",
                entered=self._time(entered),
                left=None,
                duration_ms=age / 1000,
                duration_us=age,
                critical_us=0,
                holder=holder,
                cause=long_id(self._run, cause),
                seq=seq,
                seq_left=None,
                next="",
            )
            self.handoffs[job].append(one)
            if state == QUEUED and rest_us:
                self.handoffs[job].append(self._rest(one, entered, rest_us, age))
            self.courses[job].stays.append(Stay(attempt, state, seq, entered, None, None, holder))

    def _rest(self, queued: HandoffRecord, entered: int, rest_us: int, age: int) -> HandoffRecord:
        """The rest that an attempt in line has had, or has yet."""
        rested = min(rest_us, age)
        return msgspec.structs.replace(
            queued,
            phase=BACK_OFF,
            left=self._time(entered + rest_us) if age >= rest_us else None,
            duration_ms=rested / 1000,
            duration_us=rested,
        )

    def mark(self, path: list[Part]) -> None:
        """Say of each handoff how much of it is on the path; the phases of a stay are there when the stay is."""
        on_path = {(part.job, part.seq): part.left - part.entered for part in path if part.seq}
        for job in {part.job for part in path if part.seq}:
            handoffs = self.handoffs[job]
            for at, one in enumerate(handoffs):
                found = on_path.get((job, one.seq))
                if found is not None:
                    handoffs[at] = msgspec.structs.replace(one, critical_us=one.duration_us if one.phase else found)


async def timeline(db: aiosqlite.Connection, run: str, now_us: int) -> TimelineRecord:
    """The timeline of a run, open stays as old as `now_us` says. Raises NotFoundError."""
    found = list(await db.execute_fetchall(_RUN, (run,)))
    if not found:
        raise NotFoundError(f"there is no run {run}", next="'headway runs' lists what there is")
    row = RunRow(*found[0])
    jobs = list(await db.execute_fetchall(_JOBS, (run,)))
    draft = _Draft(run, jobs)
    draft.add_left(await db.execute_fetchall(_LEFT, (row.seq,)))
    draft.add_open(jobs, now_us=now_us)
    end = max(now_us, row.admitted) if row.completed is None else row.completed
    path = critical_path(Span(row.admitted, end, row.seq_completed), draft.courses)
    draft.mark(path)
    return TimelineRecord(
        as_of=await position(db),
        run=run_record(row, await fleet_paused(db)),
        now=rfc3339(now_us),
        handoffs=[one for handoffs in draft.handoffs.values() for one in handoffs],
        path=[_part(one) for one in path],
        attempts=[
            EndRecord(job=job, attempt=attempt, runner=runner, state=state, outcome=outcome)
            for job, attempt, runner, state, outcome in await db.execute_fetchall(_ATTEMPTS, (run,))
        ],
        clocks=await run_clocks(db, run),
        log_behind_ms=round(await log_behind_us(db, run) / 1000),
    )


def _part(part: Part) -> PartRecord:
    return PartRecord(
        job=part.job,
        attempt=part.attempt,
        state=part.state,
        entered=rfc3339(part.entered),
        left=rfc3339(part.left),
        duration_us=part.left - part.entered,
        holder=part.holder,
        seq=part.seq or None,
    )
