"""The fold of the log into rows.

Theory of operation. `Fold` takes a batch of recorded events. First it fetches what they are about and is not in
memory (`prepare`), then it folds each (`apply`), then it says what that changes (`changes`), which the store writes in
one transaction; then it forgets what is over (`settle`). An event at or before the position changes nothing; a gap is a
bug. The fold's time is the log's, and never goes back.

The rules of what moves what are those of `headway.core.run` and `headway.core.fleet`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Final, get_args

import msgspec

from headway.core.envelope import Envelope, Recorded, decode
from headway.core.errors import BrokenError
from headway.core.events import (
    AnyEvent,
    CoordinatorElected,
    FleetPaused,
    FleetResumed,
    JobAdmitted,
    JobAssigned,
    JobAttemptFailed,
    JobCancelRequested,
    JobCompleted,
    JobExecuting,
    JobLost,
    JobOutputStored,
    JobPreparing,
    JobQueued,
    JobUploading,
    RunAdmitted,
    RunCancelRequested,
    RunCompleted,
    RunnerDrained,
    RunnerLeft,
    RunnerLost,
    RunnerRegistered,
    RunnerResumed,
    RunPaused,
    RunResumed,
    StepFinished,
    StepStarted,
)
from headway.core.log import Stored
from headway.core.states import State
from headway.projections import apply_fleet as fleet
from headway.projections import apply_jobs as jobs
from headway.projections import apply_runs as runs
from headway.projections.store import Store
from headway.projections.tables import (
    AttemptRow,
    Changes,
    FleetRow,
    JobRow,
    LogTime,
    RunnerRow,
    RunRow,
    StepRow,
    columns_of,
)
from headway.projections.workbench import OpenJob, OpenRun, Workbench

Fetch = Callable[[str, Iterable[Any]], Awaitable[list[tuple[Any, ...]]]]
"""Runs a query on the tables as they are written so far."""

ASK_AT_ONCE: Final = 500


def recorded_of(stored: Stored) -> Recorded:
    """An entry of the log with its envelope. Raises UnavailableError for an event of a newer Headway."""
    try:
        envelope = decode(stored.body)
    except msgspec.MsgspecError as error:
        raise BrokenError(f"event {stored.seq} cannot be read: {error}", next="report this, with the event") from error
    return Recorded(seq=stored.seq, logged=stored.logged, envelope=envelope, body=stored.body)


async def fold_batch(fold: Fold, store: Store, batch: list[Stored]) -> list[Recorded]:
    """Fold entries of the log into the store, in one transaction; returns those that were news.

    After any exception the fold is ahead of the store and worth nothing.
    """
    recorded = [recorded_of(one) for one in batch if one.seq > fold.position]
    if recorded:
        await fold.prepare(recorded, store.fetch)
        for one in recorded:
            fold.apply(one)
        await store.write(fold.changes())
        fold.settle()
    return recorded


class Fold:
    """Folds batches. `position` is the last event folded, `time` the fold's at it."""

    def __init__(self, *, position: int = 0, time: LogTime = LogTime()) -> None:
        self.position = position
        self._bench = Workbench(time=time)
        self._bench.seq = position

    async def prepare(self, batch: list[Recorded], fetch: Fetch) -> None:
        """Fetch the rows that these events are about and that are not in memory."""
        bench = self._bench
        if bench.fleet is None:
            found = await fetch(f"select {columns_of(FleetRow)} from fleet", ())
            bench.fleet = FleetRow(*found[0]) if found else FleetRow()
        about = {one.envelope.run: None for one in batch}
        for run in await _written([run for run in about if run and run not in bench.runs], fetch):
            bench.keep_run(await _fetch_run(run, fetch))
        for one in batch:
            envelope = one.envelope
            if envelope.run:
                open_run = bench.runs.get(envelope.run)
                if open_run and envelope.job in open_run.names and envelope.job not in open_run.jobs:
                    bench.keep_job(open_run, await _fetch_job(envelope.run, envelope.job, fetch))
                continue
            runner = getattr(envelope.data, "runner", "")
            if runner and runner not in bench.runners:
                found = await fetch(f"select {columns_of(RunnerRow)} from runners where runner = ?", (runner,))
                bench.runners.update({row[0]: RunnerRow(*row) for row in found})

    def apply(self, recorded: Recorded) -> None:
        """Fold one event; one that was folded before changes nothing."""
        bench = self._bench
        if recorded.seq <= self.position:
            return
        if recorded.seq != self.position + 1:
            raise BrokenError(
                f"event {recorded.seq} came after event {self.position}", next="report this; 'headway doctor' has more"
            )
        envelope = recorded.envelope
        time = bench.time.after(recorded.seq, recorded.logged)
        bench.events.append(
            (
                *(recorded.seq, envelope.run, envelope.n, _TYPES[type(envelope.data)], envelope.job, envelope.attempt),
                *(recorded.logged, time.logged, envelope.at, envelope.actor, recorded.body),
            )
        )
        self.replay(recorded, time)

    def replay(self, recorded: Recorded, time: LogTime) -> None:
        """Fold one event of which the log's time is known; some before it may have been left out."""
        bench = self._bench
        self.position = bench.seq = recorded.seq
        bench.time = time
        envelope = recorded.envelope
        kind = type(envelope.data)
        if envelope.run:
            self._apply_to_run(kind, envelope)
        elif (on_fleet := _ON_FLEET.get(kind)) is not None:
            on_fleet(bench, envelope)

    def changes(self) -> Changes:
        """What the events folded since the last time do to the tables."""
        return self._bench.take()

    def settle(self) -> None:
        """The changes are written: forget what is over."""
        self._bench.forget_finished()

    def _apply_to_run(self, kind: type, envelope: Envelope) -> None:
        bench = self._bench
        run = bench.runs.get(envelope.run)
        if run is None:
            if not isinstance(envelope.data, RunAdmitted) or envelope.n != 1:
                return
            run = runs.run_admitted(bench, envelope, envelope.data)
        if envelope.n <= run.row.n or run.row.outcome is not None:
            return  # a number counts once, and nothing does after the end
        run.row.n = envelope.n
        bench.change(run.row)
        if (on_run := _ON_RUN.get(kind)) is not None:
            on_run(bench, run.row, envelope, envelope.data)
        elif isinstance(envelope.data, JobAdmitted):
            jobs.job_admitted(bench, run, envelope, envelope.data)
        elif (job := run.jobs.get(envelope.job)) is not None and (on_job := _ON_JOB.get(kind)) is not None:
            on_job(bench, run, job, envelope)
        if run.row.outcome is not None:
            bench.keep_run(run)


async def _written(runs: list[str], fetch: Fetch) -> list[RunRow]:
    """The rows of those runs that are known already."""
    found: list[RunRow] = []
    for start in range(0, len(runs), ASK_AT_ONCE):
        asked = runs[start : start + ASK_AT_ONCE]
        sql = f"select {columns_of(RunRow)} from runs where run in ({', '.join('?' * len(asked))})"
        found += [RunRow(*row) for row in await fetch(sql, asked)]
    return found


async def _fetch_run(row: RunRow, fetch: Fetch) -> OpenRun:
    """A run with all its unfinished jobs; one that is over has none."""
    names = await fetch("select job from jobs where run = ?", (row.run,))
    run = OpenRun(row=row, names={name for (name,) in names}, jobs={})
    if row.outcome is not None:
        return run
    unfinished = "run = ? and job in (select job from jobs where run = ? and state <> 'completed')"
    for job in await fetch(f"select {columns_of(JobRow)} from jobs where {unfinished}", (row.run, row.run)):
        run.jobs[job[1]] = OpenJob(row=JobRow(*job), attempts={}, steps={})
    for one in await fetch(f"select {columns_of(AttemptRow)} from attempts where {unfinished}", (row.run, row.run)):
        run.jobs[one[1]].attempts[one[2]] = AttemptRow(*one)
    for one in await fetch(f"select {columns_of(StepRow)} from steps where {unfinished}", (row.run, row.run)):
        run.jobs[one[1]].steps[one[2], one[3]] = StepRow(*one)
    return run


async def _fetch_job(run: str, job: str, fetch: Fetch) -> OpenJob:
    where = "where run = ? and job = ?"
    [row] = await fetch(f"select {columns_of(JobRow)} from jobs {where}", (run, job))
    attempts = await fetch(f"select {columns_of(AttemptRow)} from attempts {where}", (run, job))
    steps = await fetch(f"select {columns_of(StepRow)} from steps {where}", (run, job))
    return OpenJob(
        row=JobRow(*row),
        attempts={one[2]: AttemptRow(*one) for one in attempts},
        steps={(one[2], one[3]): StepRow(*one) for one in steps},
    )


_ON_RUN: Final[dict[type, Callable[[Workbench, RunRow, Envelope, Any], None]]] = {
    RunCancelRequested: runs.run_cancel_requested,
    RunPaused: runs.run_paused,
    RunResumed: runs.run_resumed,
    RunCompleted: runs.run_completed,
}

_ON_JOB: Final[dict[type, Callable[[Workbench, OpenRun, OpenJob, Envelope], None]]] = {
    JobQueued: jobs.job_queued,
    JobAssigned: jobs.job_assigned,
    JobPreparing: jobs.moves_to(State.PREPARING),
    JobExecuting: jobs.moves_to(State.EXECUTING),
    JobUploading: jobs.moves_to(State.UPLOADING),
    JobAttemptFailed: jobs.job_attempt_failed,
    JobLost: jobs.job_lost,
    JobOutputStored: jobs.job_output_stored,
    JobCancelRequested: jobs.job_cancel_requested,
    JobCompleted: jobs.job_completed,
    StepStarted: jobs.step_started,
    StepFinished: jobs.step_finished,
}

_ON_FLEET: Final[dict[type, Callable[[Workbench, Envelope], None]]] = {
    RunnerRegistered: fleet.runner_registered,
    RunnerDrained: fleet.runner_drained,
    RunnerResumed: fleet.runner_resumed,
    RunnerLost: fleet.runner_lost,
    RunnerLeft: fleet.runner_left,
    FleetPaused: fleet.fleet_paused,
    FleetResumed: fleet.fleet_resumed,
    CoordinatorElected: fleet.coordinator_elected,
}

_TYPES: Final[dict[type, str]] = {kind: str(kind.__struct_config__.tag) for kind in get_args(AnyEvent)}
"""The wire tag of each event, found once."""
