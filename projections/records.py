"""The answers to questions, as typed records. Their field names are a promise: `--json` prints them.

Times are in UTC and by the log's clock. None means that it has not happened, or does not apply.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

import msgspec

from headway.core.events import Failure, Prepared


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """The base of all answers."""


class RunRecord(Record, frozen=True, kw_only=True):
    """A run. `started` is when its first job was given to a runner; `events` counts its events.

    `paused_by` and `paused_since` tell of the run's own pause, else of the whole service's.
    """

    run: str
    project: str
    pipeline: str
    status: str
    outcome: str | None
    branch: str
    commit: str
    dirty: bool
    actor: str
    trigger: str
    admitted: datetime
    started: datetime | None
    completed: datetime | None
    duration_ms: int | None
    jobs: int
    jobs_completed: int
    jobs_by_status: dict[str, int]
    paused: bool
    paused_by: str | None
    paused_since: datetime | None
    paused_reason: str | None
    cancelled_by: str | None
    cancel_reason: str | None
    parameters: dict[str, str]
    only: str
    pipeline_file: str
    pipeline_digest: str
    plan_digest: str
    source_digest: str
    config_digest: str
    headway_version: str
    seq: int
    seq_completed: int | None
    events: int


class JobRecord(Record, frozen=True, kw_only=True):
    """A job. Its present state was `entered` with the event `seq_entered`, which came of the event `cause`.

    `holder` is who can end that state. `queued`, `started` and `start_after`, until when it backs off, are of the
    present attempt. `runner` holds it, or held it last when it has completed. `exit_code`, `failure` and `output` are
    those of the present attempt, as far as it has ended.
    """

    run: str
    job: str
    status: str
    state: str
    outcome: str | None
    attempt: int
    runner: str | None
    runs_on: tuple[str, ...]
    depends_on: tuple[str, ...]
    executor: str
    retry_count: int
    concurrency_group: str
    concurrency_limit: int
    entered: datetime
    seq_entered: int
    holder: str
    cause: str
    start_after: datetime | None
    queued: datetime | None
    started: datetime | None
    completed: datetime | None
    duration_ms: int | None
    exit_code: int | None
    reason: str
    failure: Failure | None
    output: str | None
    cancelled_by: str | None
    cancel_reason: str | None
    seq: int


class AttemptRecord(Record, frozen=True, kw_only=True):
    """An attempt. `state` ends as completed, with an outcome, or as lost, without one.

    `skew_ms` is how far its runner's clock was ahead of the log's at least: its facts may have come late.
    """

    run: str
    job: str
    attempt: int
    runner: str
    state: str
    outcome: str | None
    reason: str
    assigned: datetime
    preparing: datetime | None
    started: datetime | None
    uploading: datetime | None
    ended: datetime | None
    duration_ms: int | None
    exit_code: int | None
    failure: Failure | None
    prepared: tuple[Prepared, ...]
    output: str | None
    output_bytes: int
    output_truncated: bool
    output_missing: str
    skew_ms: int | None


class StepRecord(Record, frozen=True, kw_only=True):
    """A step of an attempt, as it went the last of the `tried` times. `duration_ms` is by the runner's own clock."""

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
    started: datetime
    ended: datetime | None
    duration_ms: int | None


class RunnerRecord(Record, frozen=True, kw_only=True):
    """A runner. `status` is idle, busy, draining, lost or left; `changed` is since when it is lost, left or drained."""

    runner: str
    name: str
    status: str
    labels: tuple[str, ...]
    slots: int
    busy: int
    executors: tuple[str, ...]
    host: str
    platform: str
    pid: int
    headway_version: str
    registered: datetime
    changed: datetime
    reason: str


class PausedRecord(Record, frozen=True, kw_only=True):
    """Who paused the whole service, when and why."""

    by: str
    since: datetime
    reason: str


class Live(Record, frozen=True, kw_only=True):
    """What a running service knows and the log does not say.

    `coordinates` is whether it is the one writer, `coordinator_trouble` why nobody is, `log_trouble` why the log cannot
    be reached or written to, in words and "" for none. `silent_seconds` is how long each runner has not been heard;
    after `lease_seconds` it is lost.
    """

    coordinates: bool
    coordinator_trouble: str = ""
    log_trouble: str = ""
    silent_seconds: dict[str, float] = {}
    lease_seconds: float = 0.0


class QueueRecord(Record, frozen=True, kw_only=True):
    """How much waits for a slot and how much holds one. `oldest_queued` is since when the longest has waited."""

    queued: int
    on_a_runner: int
    oldest_queued: datetime | None


class CoordinatorRecord(Record, frozen=True, kw_only=True):
    """The coordinator that was elected last."""

    coordinator: str
    elected: datetime
    headway_version: str
    host: str
    pid: int


class RunList(Record, frozen=True, kw_only=True):
    """Runs as of an event."""

    as_of: int
    runs: list[RunRecord]


class JobList(Record, frozen=True, kw_only=True):
    """Jobs as of an event."""

    as_of: int
    jobs: list[JobRecord]


class RunnerList(Record, frozen=True, kw_only=True):
    """Runners as of an event."""

    as_of: int
    runners: list[RunnerRecord]


class EventList(Record, frozen=True, kw_only=True):
    """Events as `headway.core.envelope.record` shows them, as of an event."""

    as_of: int
    events: list[dict[str, Any]]


class ShowRecord(Record, frozen=True, kw_only=True):
    """All there is to know of a run as of an event; jobs in the order in which they were admitted."""

    as_of: int
    run: RunRecord
    jobs: list[JobRecord]
    attempts: list[AttemptRecord]
    steps: list[StepRecord]
