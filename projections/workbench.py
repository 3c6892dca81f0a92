"""The rows being worked on: those of unfinished runs and jobs, and which of them a batch has changed.

The fold changes rows in memory; each changed row is written once a batch, whatever happened to it. A job leaves the
memory when it has completed and is written, a run likewise. What is not in memory is fetched when an event is about it.
"""

from __future__ import annotations

from functools import cache
from typing import Final

import msgspec

from headway.core.states import HOLDER, MOVES, ON_A_RUNNER, Outcome, State, run_status, status_of
from headway.projections.tables import (
    KINDS,
    AttemptRow,
    Changes,
    EventRow,
    FleetRow,
    JobRow,
    LogTime,
    Row,
    RunnerRow,
    RunRow,
    StepRow,
    TimelineRow,
    short_id,
)

AFTER: Final = {before.value: frozenset(state.value for state in after) for before, after in MOVES.items()}
"""The table of moves, in the words of the rows."""

HOLDING: Final = frozenset(state.value for state in ON_A_RUNNER)
COMPLETED: Final = State.COMPLETED.value
QUEUED: Final = State.QUEUED.value
BACK_OFF: Final = "back-off"
"""The phase of being queued in which an attempt rests after the one that failed."""
LOST: Final = "lost"
"""How the state of an attempt ends that has no outcome."""
_HOLDER: Final = {state.value: holder for state, holder in HOLDER.items()}


class OpenJob(msgspec.Struct):
    """A job in memory, with its attempts by number and their steps by (attempt, step)."""

    row: JobRow
    attempts: dict[int, AttemptRow]
    steps: dict[tuple[int, int], StepRow]


class OpenRun(msgspec.Struct):
    """A run in memory. `names` has all its jobs, `jobs` those in memory."""

    row: RunRow
    names: set[str]
    jobs: dict[str, OpenJob]


@cache
def status_text(state: str, outcome: str | None, again: bool) -> str:
    """The status of a job in the words of the rows, as if nothing were paused."""
    return status_of(State(state), Outcome(outcome) if outcome else None, attempt=2 if again else 1).value


def completed_jobs(run: RunRow) -> int:
    """How many of a run's jobs have completed."""
    return run.success + run.failed + run.cancelled + run.skipped


class Workbench:
    """Rows in memory and what has become of them. `seq` and `now` are those of the event being folded."""

    def __init__(self, *, time: LogTime = LogTime()) -> None:
        self.seq = 0
        self.time = time
        self.runs: dict[str, OpenRun] = {}
        self.runners: dict[str, RunnerRow] = {}
        self.fleet: FleetRow | None = None
        self.events: list[EventRow] = []
        self.timeline: list[TimelineRow] = []
        self._changed: dict[type[Row], dict[int, Row]] = {kind: {} for kind in KINDS}
        self._done: dict[tuple[str, str], None] = {}

    @property
    def now(self) -> int:
        """The fold's time, which never goes back."""
        return self.time.logged

    def change(self, row: Row) -> None:
        """The row differs from what the table has."""
        self._changed[type(row)][id(row)] = row

    def admit(self, run: OpenRun, row: JobRow) -> None:
        """A new job of the run."""
        run.names.add(row.job)
        run.jobs[row.job] = OpenJob(row=row, attempts={}, steps={})
        self._count(run.row, row.status, 1)
        self.change(row)

    def move(self, run: OpenRun, job: JobRow, state: str, *, because: str, outcome: str | None = None) -> None:
        """The job leaves its state for another one now, because of the event `because`."""
        before = job.status
        self._leave(run, job, outcome or state)
        job.state, job.outcome, job.entered, job.seq_entered = state, outcome, self.now, self.seq
        job.holder = "" if state == COMPLETED else _HOLDER.get(state) or job.runner or ""
        job.cause = short_id(job.run, because)
        if state == QUEUED:
            job.attempt += 1
        job.status = status_text(state, outcome, job.attempt > 1)
        if before != job.status:
            self._count(run.row, before, -1)
            self._count(run.row, job.status, 1)
        if state == COMPLETED:
            self._done[(job.run, job.job)] = None
        self.change(job)

    def take(self) -> Changes:
        """What the events since the last time do to the tables."""
        for row in self._changed[RunRow].values():
            assert isinstance(row, RunRow), "rows are kept by their kind"
            _derive_status(row)
        rows = {kind: list(changed.values()) for kind, changed in self._changed.items()}
        changes = Changes(position=self.seq, time=self.time, events=self.events, timeline=self.timeline, rows=rows)
        self.events, self.timeline, self._changed = [], [], {kind: {} for kind in KINDS}
        return changes

    def forget_finished(self) -> None:
        """Drop what is written and over, so that memory holds unfinished work only."""
        for run_id, job in self._done:
            run = self.runs.get(run_id)
            if run is not None:
                run.jobs.pop(job, None)
                if run.row.outcome is not None:
                    del self.runs[run_id]
        self._done.clear()

    def keep_run(self, run: OpenRun) -> None:
        """Hold a run in memory; one that is over only until the next writing."""
        self.runs[run.row.run] = run
        if run.row.outcome is not None:
            self._done[(run.row.run, "")] = None

    def keep_job(self, run: OpenRun, job: OpenJob) -> None:
        """Hold a job in memory; one that is over only until the next writing."""
        run.jobs[job.row.job] = job
        if job.row.state == COMPLETED:
            self._done[(job.row.run, job.row.job)] = None

    def spent(self, run: OpenRun, job: JobRow, phase: str, *, entered: int, left: int, following: str = "") -> None:
        """A phase of the state that the job is in, and is about to leave."""
        self.timeline.append(
            TimelineRow(
                *(run.row.seq, job.job, job.attempt, job.state, phase),
                *(job.seq_entered, entered, self.seq, left),
                *(job.holder, job.cause, following, job.runs_on),
            )
        )

    def _leave(self, run: OpenRun, job: JobRow, after: str) -> None:
        if job.state == QUEUED and job.rest_us:
            left = min(job.entered + job.rest_us, self.now)
            self.spent(run, job, BACK_OFF, entered=job.entered, left=left, following=after)
        self.timeline.append(
            TimelineRow(
                *(run.row.seq, job.job, job.attempt, job.state, ""),
                *(job.seq_entered, job.entered, self.seq, self.now),
                *(job.holder, job.cause, after, job.runs_on),
            )
        )

    def _count(self, run: RunRow, status: str, by: int) -> None:
        setattr(run, status, getattr(run, status) + by)
        self.change(run)


def _derive_status(run: RunRow) -> None:
    outcome = Outcome(run.outcome) if run.outcome else None
    completed = completed_jobs(run)
    paused = run.paused_since is not None
    run.status = run_status(outcome, paused=paused, on_a_runner=run.running, completed=completed).value
    run.status_paused = run_status(outcome, paused=True, on_a_runner=run.running, completed=completed).value
