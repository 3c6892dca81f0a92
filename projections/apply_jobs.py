"""What the events of a job, its attempts and their steps do to their rows.

A fact of an attempt that is not the job's present one, or that is over, moves nothing: see `headway.core.run`, whose
rules these are.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from headway.core.envelope import Envelope
from headway.core.events import (
    JobAdmitted,
    JobAssigned,
    JobAttemptFailed,
    JobCancelRequested,
    JobCompleted,
    JobExecuting,
    JobLost,
    JobOutputStored,
    JobQueued,
    Output,
    StepFinished,
    StepStarted,
)
from headway.core.states import HOLDER, Outcome, State
from headway.projections.tables import AttemptRow, JobRow, StepRow, short_id
from headway.projections.workbench import (
    AFTER,
    COMPLETED,
    LOST,
    QUEUED,
    OpenJob,
    OpenRun,
    Workbench,
    status_text,
)

ADMITTED = State.ADMITTED.value
ASSIGNED = State.ASSIGNED.value


def job_admitted(bench: Workbench, run: OpenRun, envelope: Envelope, event: JobAdmitted) -> None:
    """A new node of the run's graph; a name that is known stays what it is."""
    if not envelope.job or envelope.job in run.names:
        return
    row = JobRow(
        run=envelope.run,
        job=envelope.job,
        seq=bench.seq,
        depends_on=_text(event.depends_on),
        runs_on=_text(event.runs_on),
        executor=event.executor,
        retry_count=event.retry_count,
        concurrency_group=event.concurrency_group,
        concurrency_limit=event.concurrency_limit,
        state=ADMITTED,
        status=status_text(ADMITTED, None, False),
        outcome=None,
        attempt=0,
        runner=None,
        fact=0,
        held=0,
        entered=bench.now,
        seq_entered=bench.seq,
        holder=HOLDER[State.ADMITTED],
        cause=short_id(envelope.run, envelope.because),
    )
    bench.admit(run, row)


def job_queued(bench: Workbench, run: OpenRun, job: OpenJob, envelope: Envelope) -> None:
    """The next attempt waits for a slot."""
    event = envelope.data
    assert isinstance(event, JobQueued), "the table of handlers says so"
    row = job.row
    if envelope.attempt != row.attempt + 1 or row.held or QUEUED not in AFTER[row.state]:
        return
    row.fact, row.reason = 0, event.reason
    row.start_after = event.start_after
    row.rest_us = max(0, event.start_after - envelope.at) if event.start_after else 0
    row.runner = row.started = row.exit_code = row.failure = row.output = None
    row.queued = bench.now
    bench.move(run, row, QUEUED, because=envelope.because)


def job_assigned(bench: Workbench, run: OpenRun, job: OpenJob, envelope: Envelope) -> None:
    """A runner holds the attempt."""
    event = envelope.data
    assert isinstance(event, JobAssigned), "the table of handlers says so"
    row = job.row
    if envelope.attempt != row.attempt or row.state != QUEUED:
        return
    row.runner, row.held, row.started, row.reason = event.runner, 1, bench.now, ""
    attempt = AttemptRow(
        run=row.run,
        job=row.job,
        attempt=row.attempt,
        runner=event.runner,
        state=ASSIGNED,
        outcome=None,
        reason="",
        assigned=bench.now,
    )
    job.attempts[row.attempt] = attempt
    bench.change(attempt)
    bench.move(run, row, ASSIGNED, because=envelope.because)
    if run.row.started is None:
        run.row.started = bench.now


def moves_to(state: State) -> Callable[[Workbench, OpenRun, OpenJob, Envelope], None]:
    """What a runner's fact does that moves its attempt to `state`."""
    name = state.value
    column = "started" if state is State.EXECUTING else name

    def apply(bench: Workbench, run: OpenRun, job: OpenJob, envelope: Envelope) -> None:
        attempt = _spoken_for(bench, job, envelope)
        if attempt is None or name not in AFTER[job.row.state]:
            return
        attempt.state = name
        setattr(attempt, column, bench.now)
        if isinstance(envelope.data, JobExecuting):
            attempt.prepared = _text(envelope.data.prepared)
            _keep_phases(bench, run, job.row, envelope.data)
        bench.change(attempt)
        bench.move(run, job.row, name, because=envelope.because)

    return apply


def job_attempt_failed(bench: Workbench, run: OpenRun, job: OpenJob, envelope: Envelope) -> None:
    """The attempt is over and its slot free; the job's next state is the coordinator's to say."""
    event = envelope.data
    assert isinstance(event, JobAttemptFailed), "the table of handlers says so"
    attempt = _spoken_for(bench, job, envelope)
    if attempt is None:
        return
    _end(bench, attempt, COMPLETED, event.failure.reason)
    attempt.outcome = Outcome.FAILED.value
    attempt.exit_code, attempt.failure = event.exit_code, _text(event.failure)
    _keep_output(attempt, event.output)
    _leave(bench, job.row)
    job.row.exit_code, job.row.failure, job.row.output = attempt.exit_code, attempt.failure, attempt.output


def job_lost(bench: Workbench, run: OpenRun, job: OpenJob, envelope: Envelope) -> None:
    """The runner that holds the attempt is gone; the attempt has no outcome and never will."""
    event = envelope.data
    assert isinstance(event, JobLost), "the table of handlers says so"
    row = job.row
    attempt = job.attempts.get(envelope.attempt)
    if attempt is None or envelope.attempt != row.attempt or not row.held or row.runner != event.runner:
        return
    _end(bench, attempt, LOST, event.reason)
    _leave(bench, row)


def job_output_stored(bench: Workbench, run: OpenRun, job: OpenJob, envelope: Envelope) -> None:
    """What a lost attempt had printed was found, or not; the first word counts."""
    event = envelope.data
    assert isinstance(event, JobOutputStored), "the table of handlers says so"
    attempt = job.attempts.get(envelope.attempt)
    if attempt is None or attempt.state != LOST or attempt.output is not None or attempt.output_missing:
        return
    _keep_output(attempt, event.output)
    attempt.output_missing = event.missing
    bench.change(attempt)
    if envelope.attempt == job.row.attempt:
        job.row.output = attempt.output
        bench.change(job.row)


def job_cancel_requested(bench: Workbench, run: OpenRun, job: OpenJob, envelope: Envelope) -> None:
    """The first who asks is the one who cancelled."""
    event = envelope.data
    assert isinstance(event, JobCancelRequested), "the table of handlers says so"
    if job.row.cancel_reason is None and job.row.state != COMPLETED:
        job.row.cancelled_by, job.row.cancel_reason = envelope.actor, event.reason
        bench.change(job.row)


def job_completed(bench: Workbench, run: OpenRun, job: OpenJob, envelope: Envelope) -> None:
    """The job is over, and so is the attempt that a runner held."""
    event = envelope.data
    assert isinstance(event, JobCompleted), "the table of handlers says so"
    row = job.row
    if row.state == COMPLETED or envelope.attempt != row.attempt:
        return
    outcome = event.outcome.value
    failure = _text(event.failure) if event.failure is not None else None
    attempt = job.attempts.get(row.attempt)
    if attempt is not None and attempt.ended is None:
        _end(bench, attempt, COMPLETED, event.reason)
        attempt.outcome, attempt.exit_code, attempt.failure = outcome, event.exit_code, failure
        _keep_output(attempt, event.output)
    row.held, row.completed, row.fact = 0, bench.now, max(row.fact, event.fact)
    row.reason, row.exit_code, row.failure = event.reason, event.exit_code, failure
    if event.output is not None:
        row.output = event.output.digest
    bench.move(run, row, COMPLETED, because=envelope.because, outcome=outcome)


def step_started(bench: Workbench, run: OpenRun, job: OpenJob, envelope: Envelope) -> None:
    """A step is tried, perhaps again."""
    event = envelope.data
    assert isinstance(event, StepStarted), "the table of handlers says so"
    if _spoken_for(bench, job, envelope) is None:
        return
    step = StepRow(
        run=job.row.run,
        job=job.row.job,
        attempt=envelope.attempt,
        step=event.step,
        name=event.name,
        shell=event.shell,
        tried=event.tried,
        outcome=None,
        exit_code=None,
        signal="",
        reason="",
        started=bench.now,
    )
    job.steps[(envelope.attempt, event.step)] = step
    bench.change(step)


def step_finished(bench: Workbench, run: OpenRun, job: OpenJob, envelope: Envelope) -> None:
    """A step's process ended."""
    event = envelope.data
    assert isinstance(event, StepFinished), "the table of handlers says so"
    if _spoken_for(bench, job, envelope) is None:
        return
    step = job.steps.get((envelope.attempt, event.step))
    if step is None:
        return
    step.outcome, step.exit_code = event.outcome.value, event.exit_code
    step.signal, step.reason, step.tried = event.signal, event.reason, event.tried
    step.ended, step.duration_ms = bench.now, event.duration_ms
    bench.change(step)


def _spoken_for(bench: Workbench, job: OpenJob, envelope: Envelope) -> AttemptRow | None:
    """The attempt that a runner's fact is about; None when the fact is known, stale, or of an attempt that is over."""
    row = job.row
    number: int = getattr(envelope.data, "fact", 0)
    if envelope.attempt != row.attempt or not row.held or number <= row.fact:
        return None
    row.fact = number
    bench.change(row)
    attempt = job.attempts.get(envelope.attempt)
    if attempt is not None:
        _note_skew(bench, attempt, envelope)
    return attempt


def _note_skew(bench: Workbench, attempt: AttemptRow, envelope: Envelope) -> None:
    """A fact can come late to the log, never early: the one that came quickest tells most of the runner's clock."""
    skew_us = envelope.at - bench.time.last
    if attempt.skew_us is None or skew_us > attempt.skew_us:
        attempt.skew_us = skew_us
        bench.change(attempt)


def _keep_phases(bench: Workbench, run: OpenRun, row: JobRow, event: JobExecuting) -> None:
    """The phases of preparation, one after the other, as long as the runner says and within the log's time."""
    if row.state != State.PREPARING.value:
        return
    entered = row.entered
    for phase in event.prepared:
        if not phase.what:
            continue  # without a name it would pass for the state itself
        left = min(entered + max(0, phase.duration_ms) * 1000, bench.now)
        bench.spent(run, row, phase.what, entered=entered, left=left)
        entered = left


def _end(bench: Workbench, attempt: AttemptRow, state: str, reason: str) -> None:
    attempt.state, attempt.reason, attempt.ended = state, reason, bench.now
    bench.change(attempt)


def _leave(bench: Workbench, row: JobRow) -> None:
    row.held, row.runner = 0, None
    bench.change(row)


def _keep_output(attempt: AttemptRow, output: Output | None) -> None:
    if output is not None:
        attempt.output = output.digest
        attempt.output_bytes, attempt.output_truncated = output.bytes, int(output.truncated)


def _text(value: object) -> str:
    return msgspec.json.encode(value).decode() if value != () else "[]"
