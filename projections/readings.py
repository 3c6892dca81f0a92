"""Rows as records: times from microseconds, lists from JSON text, statuses with what is paused taken into account."""

from __future__ import annotations

from datetime import datetime

import msgspec

from headway.core.clock import from_us
from headway.core.events import Failure, Prepared
from headway.core.states import Status
from headway.projections.records import AttemptRecord, JobRecord, PausedRecord, RunnerRecord, RunRecord, StepRecord
from headway.projections.tables import AttemptRow, FleetRow, JobRow, RunnerRow, RunRow, StepRow, long_id
from headway.projections.workbench import completed_jobs

_names = msgspec.json.Decoder(tuple[str, ...]).decode
_texts = msgspec.json.Decoder(dict[str, str]).decode
_failure = msgspec.json.Decoder(Failure).decode
_prepared = msgspec.json.Decoder(tuple[Prepared, ...]).decode

WAITING = frozenset({Status.PENDING.value, Status.RETRY.value})
"""What a job's status may be when a pause holds it."""


def run_record(row: RunRow, service: PausedRecord | None) -> RunRecord:
    """A run; `service` says who paused the whole service, if somebody has."""
    over = row.outcome is not None
    own = row.paused_since is not None and not over
    paused = own or (service is not None and not over)
    since = moment(row.paused_since) if own else service.since if service and paused else None
    return RunRecord(
        run=row.run,
        project=row.project,
        pipeline=row.pipeline,
        status=row.status_paused if paused else row.status,
        outcome=row.outcome,
        branch=row.branch,
        commit=row.commit,
        dirty=bool(row.dirty),
        actor=row.actor,
        trigger=row.trigger,
        admitted=from_us(row.admitted),
        started=moment(row.started),
        completed=moment(row.completed),
        duration_ms=between(row.admitted, row.completed),
        jobs=row.jobs,
        jobs_completed=completed_jobs(row),
        jobs_by_status=_jobs_by_status(row, paused=paused),
        paused=paused,
        paused_by=row.paused_by if own else service.by if service and paused else None,
        paused_since=since,
        paused_reason=row.paused_reason if own else service.reason if service and paused else None,
        cancelled_by=row.cancelled_by,
        cancel_reason=row.cancel_reason,
        parameters=_texts(row.parameters),
        only=row.only,
        pipeline_file=row.pipeline_file,
        pipeline_digest=row.pipeline_digest,
        plan_digest=row.plan_digest,
        source_digest=row.source_digest,
        config_digest=row.config_digest,
        headway_version=row.headway_version,
        seq=row.seq,
        seq_completed=row.seq_completed,
        events=row.n,
    )


def _jobs_by_status(row: RunRow, *, paused: bool) -> dict[str, int]:
    """How many jobs have each status; those that nobody has are left out."""
    found: dict[str, int] = {}
    for status in (one.value for one in Status if one is not Status.PAUSED):
        count: int = getattr(row, status)
        if count:
            shown = Status.PAUSED.value if paused and status in WAITING else status
            found[shown] = found.get(shown, 0) + count
    return found


def job_record(row: JobRow, *, paused: bool) -> JobRecord:
    """A job; `paused` says whether its run or the whole service is."""
    return JobRecord(
        run=row.run,
        job=row.job,
        status=Status.PAUSED.value if paused and row.status in WAITING else row.status,
        state=row.state,
        outcome=row.outcome,
        attempt=row.attempt,
        runner=row.runner,
        runs_on=_names(row.runs_on),
        depends_on=_names(row.depends_on),
        executor=row.executor,
        retry_count=row.retry_count,
        concurrency_group=row.concurrency_group,
        concurrency_limit=row.concurrency_limit,
        entered=from_us(row.entered),
        seq_entered=row.seq_entered,
        holder=row.holder,
        cause=long_id(row.run, row.cause),
        start_after=moment(row.start_after or None),
        queued=moment(row.queued),
        started=moment(row.started),
        completed=moment(row.completed),
        duration_ms=between(row.started, row.completed),
        exit_code=row.exit_code,
        reason=row.reason,
        failure=_failure(row.failure) if row.failure else None,
        output=row.output,
        cancelled_by=row.cancelled_by,
        cancel_reason=row.cancel_reason,
        seq=row.seq,
    )


def attempt_record(row: AttemptRow) -> AttemptRecord:
    return AttemptRecord(
        run=row.run,
        job=row.job,
        attempt=row.attempt,
        runner=row.runner,
        state=row.state,
        outcome=row.outcome,
        reason=row.reason,
        assigned=from_us(row.assigned),
        preparing=moment(row.preparing),
        started=moment(row.started),
        uploading=moment(row.uploading),
        ended=moment(row.ended),
        duration_ms=between(row.assigned, row.ended),
        exit_code=row.exit_code,
        failure=_failure(row.failure) if row.failure else None,
        prepared=_prepared(row.prepared),
        output=row.output,
        output_bytes=row.output_bytes,
        output_truncated=bool(row.output_truncated),
        output_missing=row.output_missing,
        skew_ms=None if row.skew_us is None else round(row.skew_us / 1000),
    )


def step_record(row: StepRow) -> StepRecord:
    return StepRecord(
        run=row.run,
        job=row.job,
        attempt=row.attempt,
        step=row.step,
        name=row.name,
        shell=row.shell,
        tried=row.tried,
        outcome=row.outcome,
        exit_code=row.exit_code,
        signal=row.signal,
        reason=row.reason,
        started=from_us(row.started),
        ended=moment(row.ended),
        duration_ms=row.duration_ms,
    )


def paused_record(row: FleetRow) -> PausedRecord | None:
    """Who paused the whole service, None when nobody has."""
    if row.paused_since is None:
        return None
    return PausedRecord(by=row.paused_by or "", since=from_us(row.paused_since), reason=row.paused_reason or "")


def runner_record(row: RunnerRow, busy: int) -> RunnerRecord:
    """A runner that holds `busy` jobs."""
    present = "busy" if busy else "idle"
    return RunnerRecord(
        runner=row.runner,
        name=row.name,
        status=present if row.state == "active" else row.state,
        labels=_names(row.labels),
        slots=row.slots,
        busy=busy,
        executors=_names(row.executors),
        host=row.host,
        platform=row.platform,
        pid=row.pid,
        headway_version=row.headway_version,
        registered=from_us(row.registered),
        changed=from_us(row.changed),
        reason=row.reason,
    )


def moment(microseconds: int | None) -> datetime | None:
    """A moment, if it has come."""
    return None if microseconds is None else from_us(microseconds)


def between(start: int | None, end: int | None) -> int | None:
    """Milliseconds from one moment to another, if both have come."""
    return None if start is None or end is None else (end - start) // 1000
