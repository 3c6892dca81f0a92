"""The rows of the tables as Python sees them. A row's fields stand in the order of its table's columns."""

from __future__ import annotations

from typing import ClassVar, Final

import msgspec


class Row(msgspec.Struct, gc=False):
    """A row of the table `table`, known by the columns `key`; the columns `fixed` never change once written."""

    table: ClassVar[str]
    key: ClassVar[tuple[str, ...]]
    fixed: ClassVar[tuple[str, ...]] = ()


class RunRow(Row, gc=False):
    """A run. `status_paused` is what `status` is while the whole service is paused; n is its last event's number.

    `pending` to `skipped` count its jobs by status, as if nothing were paused.
    """

    table = "runs"
    key = ("seq",)
    fixed = (
        *("run", "project", "pipeline", "branch", "commit", "dirty", "actor", "trigger", "parameters"),
        *("pipeline_file", "pipeline_digest", "plan_digest", "source_digest", "config_digest", "headway_version"),
        *("only", "admitted"),
    )

    seq: int
    run: str
    project: str
    pipeline: str
    branch: str
    commit: str
    dirty: int
    actor: str
    trigger: str
    parameters: str
    pipeline_file: str
    pipeline_digest: str
    plan_digest: str
    source_digest: str
    config_digest: str
    headway_version: str
    only: str
    admitted: int
    started: int | None = None
    completed: int | None = None
    seq_completed: int | None = None
    n: int = 0
    status: str = "pending"
    status_paused: str = "paused"
    outcome: str | None = None
    jobs: int = 0
    pending: int = 0
    retry: int = 0
    running: int = 0
    success: int = 0
    failed: int = 0
    cancelled: int = 0
    skipped: int = 0
    paused_since: int | None = None
    paused_by: str | None = None
    paused_reason: str | None = None
    cancelled_by: str | None = None
    cancel_reason: str | None = None


class JobRow(Row, gc=False):
    """A job. `runner` holds it, or held it last, as `held` says; `fact` is the highest number its attempt has used.

    `status` is what it is while nothing is paused. The present state was `entered` with the event `seq_entered`, which
    came of the event `cause` (see `short_id`); `holder` is who can end it. The attempt backs off until `start_after`,
    by the coordinator's clock, which is `rest_us` after it was queued.
    """

    table = "jobs"
    key = ("run", "job")
    fixed = (
        *("seq", "depends_on", "runs_on", "executor", "retry_count"),
        *("concurrency_group", "concurrency_limit"),
    )

    run: str
    job: str
    seq: int
    depends_on: str
    runs_on: str
    executor: str
    retry_count: int
    concurrency_group: str
    concurrency_limit: int
    state: str
    status: str
    outcome: str | None
    attempt: int
    runner: str | None
    fact: int
    held: int
    entered: int
    seq_entered: int
    holder: str
    cause: str
    start_after: int = 0
    rest_us: int = 0
    queued: int | None = None
    started: int | None = None
    completed: int | None = None
    exit_code: int | None = None
    reason: str = ""
    failure: str | None = None
    output: str | None = None
    cancelled_by: str | None = None
    cancel_reason: str | None = None


class AttemptRow(Row, gc=False):
    """An attempt that was given to a runner. `state` ends as completed, with an outcome, or as lost, without one.

    `skew_us` is how far the runner's clock was ahead of the log's, by the fact that came to the log quickest.
    """

    table = "attempts"
    key = ("run", "job", "attempt")
    fixed = ("runner", "assigned")

    run: str
    job: str
    attempt: int
    runner: str
    state: str
    outcome: str | None
    reason: str
    assigned: int
    preparing: int | None = None
    started: int | None = None
    uploading: int | None = None
    ended: int | None = None
    exit_code: int | None = None
    failure: str | None = None
    prepared: str = "[]"
    output: str | None = None
    output_bytes: int = 0
    output_truncated: int = 0
    output_missing: str = ""
    skew_us: int | None = None


class StepRow(Row, gc=False):
    """A step of an attempt, as it went the last time it was tried."""

    table = "steps"
    key = ("run", "job", "attempt", "step")

    run: str
    job: str
    attempt: int
    step: int
    name: str
    shell: str
    tried: int
    outcome: str | None
    exit_code: int | None
    signal: str
    reason: str
    started: int
    ended: int | None = None
    duration_ms: int | None = None


class RunnerRow(Row, gc=False):
    """A runner. `state` is active, draining, lost or left; `changed` is since when, `reason` why."""

    table = "runners"
    key = ("runner",)

    runner: str
    seq: int
    name: str
    labels: str
    slots: int
    executors: str
    host: str
    platform: str
    pid: int
    headway_version: str
    registered: int
    state: str
    reason: str
    changed: int


class FleetRow(Row, gc=False):
    """Whether the whole service is paused, by whom and since when."""

    table = "fleet"
    key = ("one",)

    one: int = 1
    paused_since: int | None = None
    paused_by: str | None = None
    paused_reason: str | None = None


class CoordinatorRow(Row, gc=False):
    """The coordinator that was elected last."""

    table = "coordinator"
    key = ("one",)

    one: int
    coordinator: str
    elected: int
    headway_version: str
    host: str
    pid: int
    checkpoint: str
    checkpoint_seq: int


EventRow = tuple[int, str, int, str, str, int, int, int, int, str, bytes]
"""A row of `events`, which are only ever added. `time` is the fold's, which never goes back."""

EVENT_COLUMNS: Final = ("seq", "run", "n", "type", "job", "attempt", "logged", "time", "at", "actor", "body")


class TimelineRow(msgspec.Struct, gc=False):
    """A state that a job has left, or (with a `phase`) a phase of its preparation. Only ever added, in that order.

    `run` is the sequence of the run's admission. The state was entered with the event `seq`, which came of the event
    `cause` (see `short_id`), and left with the event `seq_left`, for the state `next`; at the end of the job `next` is
    its outcome. The present state of a job is in `jobs`.
    """

    run: int
    job: str
    attempt: int
    state: str
    phase: str
    seq: int
    entered: int
    seq_left: int
    left: int
    holder: str
    cause: str
    next: str
    labels: str


KINDS: Final[tuple[type[Row], ...]] = (RunRow, JobRow, AttemptRow, StepRow, RunnerRow, FleetRow, CoordinatorRow)

ORDER: Final[dict[str, tuple[str, ...]]] = {
    "meta": ("one",),
    "events": ("seq",),
    "timeline": ("id",),
    "names": ("id",),
    "chunks": ("chunk",),
    "samples": ("chunk", "column"),
    **{kind.table: kind.key for kind in KINDS},
}
"""Every table with the columns that order it, for whoever walks all of them."""


class LogTime(msgspec.Struct, frozen=True):
    """The log's time as the fold takes it: `logged` never goes back, `last` is the last event's own.

    `steps_back` counts how often an event was logged at an earlier time than the one before it, `step_back_us` is the
    largest such step and `step_back_seq` the event of the last one.
    """

    logged: int = 0
    last: int = 0
    steps_back: int = 0
    step_back_us: int = 0
    step_back_seq: int = 0

    def after(self, seq: int, logged: int) -> LogTime:
        """The time after one more event."""
        if logged >= self.last:
            return LogTime(max(self.logged, logged), logged, self.steps_back, self.step_back_us, self.step_back_seq)
        step = max(self.step_back_us, self.last - logged)
        return LogTime(self.logged, logged, self.steps_back + 1, step, seq)


TIME_COLUMNS: Final = "logged, logged_last, steps_back, step_back_us, step_back_seq"
"""The columns of `meta` that a `LogTime` is kept in."""


class Changes(msgspec.Struct):
    """What a batch of events does to the tables: `position` is its last event, `time` the fold's at it."""

    position: int
    time: LogTime
    events: list[EventRow]
    timeline: list[TimelineRow]
    rows: dict[type[Row], list[Row]]


def short_id(run: str, event: str) -> str:
    """The id of an event as rows keep it: without the run in front, where it is one of that run's own."""
    return event[len(run) :] if run and event.startswith(run) else event


def long_id(run: str, event: str) -> str:
    """The id of an event that `short_id` has made short."""
    return run + event if event.startswith(":") else event


def quoted(columns: tuple[str, ...]) -> str:
    """Column names for SQL, some of which SQL would like for itself."""
    return ", ".join(f'"{column}"' for column in columns)


def columns_of(kind: type[Row]) -> str:
    """The columns of a table in the order of its row's fields."""
    return quoted(kind.__struct_fields__)
