"""A run as folded from its events.

Theory of operation. A run is a graph of jobs; each job is in one state of `headway.core.states.MOVES`. `evolve` takes
any history, in any state, without raising: an event that makes no sense where it stands moves nothing. Two rules hold
everywhere:

- An event counts once: the run's events are numbered, and one with a number already folded changes nothing.
- An event of an attempt that is not the job's present one moves nothing. That is the fence between runners: whoever
  lost an attempt may go on talking.

The fold keeps what deciding needs and no more, and it changes the state in place, because copying it for every event
would cost more than everything else here. Whoever wants the past folds again up to it.

An attempt holds a slot from `job.assigned` until the attempt ends (`job.completed`, `job.attempt_failed`, `job.lost`).
After an attempt that failed or was lost the job keeps its state, with `ended` set, until the coordinator says what
follows: `job.queued` or `job.completed`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import msgspec

from headway.core.envelope import Envelope
from headway.core.events import (
    Failure,
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
    Output,
    RunAdmitted,
    RunCancelRequested,
    RunCompleted,
    RunPaused,
    RunResumed,
    StepFinished,
    StepStarted,
)
from headway.core.states import Outcome, State, allowed


class JobState(msgspec.Struct, kw_only=True, omit_defaults=True):
    """A job as it stands.

    `attempt` is the present one, 0 before the first. `runner` holds it now. `fact` is the highest number its runner
    has used. `ended` is "failed" or "lost" while the coordinator owes its choice. `cause` is the id of the job's last
    event. `start_after` is when the attempt may be assigned, 0 for at once. `avoid` names runners that failed or lost
    the job, the last one last. `cancel` is the reason of a cancellation asked for.
    """

    depends_on: tuple[str, ...] = ()
    runs_on: tuple[str, ...] = ()
    retry_count: int = 0
    concurrency_group: str = ""
    concurrency_limit: int = 1
    state: State = State.ADMITTED
    attempt: int = 0
    runner: str = ""
    fact: int = 0
    ended: str = ""
    cause: str = ""
    queued_seq: int = 0
    start_after: int = 0
    failures: int = 0
    losses: int = 0
    avoid: tuple[str, ...] = ()
    cancel: str | None = None
    waiting_on: int = 0
    blocked_by: str = ""
    outcome: Outcome | None = None
    exit_code: int | None = None
    failure: Failure | None = None
    output: Output | None = None
    outputs_wanted: tuple[int, ...] = ()


class Run(msgspec.Struct, kw_only=True, omit_defaults=True):
    """A run as it stands. `job_count` is what the plan has.

    `n`, `head` and `last` are the number, the digest and the id of its last event, `cause` the id of its last event
    that is not about a job.
    """

    id: str
    project: str = ""
    pipeline: str = ""
    n: int = 0
    head: str = ""
    admitted_seq: int = 0
    job_count: int = 0
    attempt_losses_max: int = 3
    retry_backoff_ms: int = 0
    plan_digest: str = ""
    source_digest: str = ""
    commit: str = ""
    branch: str = ""
    parameters: dict[str, str] = {}
    jobs: dict[str, JobState] = {}
    dependents: dict[str, list[str]] = {}
    open_jobs: int = 0
    outputs_wanted: int = 0
    paused: str | None = None
    cancel: str | None = None
    cause: str = ""
    last: str = ""
    outcome: Outcome | None = None


def evolve(run: Run, envelope: Envelope, seq: int) -> Run:
    """Fold one of the run's events, at `seq` on the log, into its state. Never raises; see the module's rules."""
    if envelope.n and envelope.n <= run.n:
        return run
    run.n = max(run.n, envelope.n)
    run.last = envelope.id
    event = envelope.data
    kind = type(event)
    if (on_run := _ON_RUN.get(kind)) is not None:
        on_run(run, event, seq)
        run.cause = envelope.id
    elif kind is JobAdmitted:
        _job_admitted(run, envelope)
    elif (job := run.jobs.get(envelope.job)) is not None and (on_job := _ON_JOB.get(kind)) is not None:
        on_job(run, job, envelope, seq)
    return run


def _run_admitted(run: Run, event: RunAdmitted, seq: int) -> None:
    if run.admitted_seq:
        return
    run.admitted_seq = seq
    run.project = event.project
    run.pipeline = event.pipeline
    run.job_count = event.jobs
    run.attempt_losses_max = event.attempt_losses_max
    run.retry_backoff_ms = event.retry_backoff_ms
    run.plan_digest = event.plan_digest
    run.source_digest = event.source.digest
    run.commit = event.source.commit
    run.branch = event.source.branch
    run.parameters = event.parameters


def _run_cancel_requested(run: Run, event: RunCancelRequested, seq: int) -> None:
    if run.cancel is None:
        run.cancel = event.reason


def _run_paused(run: Run, event: RunPaused, seq: int) -> None:
    if run.paused is None:
        run.paused = event.reason


def _run_resumed(run: Run, event: RunResumed, seq: int) -> None:
    run.paused = None


def _run_completed(run: Run, event: RunCompleted, seq: int) -> None:
    if run.outcome is None:
        run.outcome = event.outcome


def _job_admitted(run: Run, envelope: Envelope) -> None:
    event = envelope.data
    assert isinstance(event, JobAdmitted)
    if not envelope.job or envelope.job in run.jobs:
        return
    job = JobState(
        depends_on=event.depends_on,
        runs_on=event.runs_on,
        retry_count=event.retry_count,
        concurrency_group=event.concurrency_group,
        concurrency_limit=event.concurrency_limit,
        cause=envelope.id,
    )
    run.jobs[envelope.job] = job
    run.open_jobs += 1
    for name in event.depends_on:
        run.dependents.setdefault(name, []).append(envelope.job)
        dependency = run.jobs.get(name)
        if dependency is None or dependency.outcome is None:
            job.waiting_on += 1
        elif dependency.outcome is not Outcome.SUCCEEDED:
            job.blocked_by = job.blocked_by or name


def _job_queued(run: Run, job: JobState, envelope: Envelope, seq: int) -> None:
    event = envelope.data
    assert isinstance(event, JobQueued)
    if envelope.attempt != job.attempt + 1 or job.runner or not allowed(job.state, State.QUEUED):
        return
    job.state = State.QUEUED
    job.attempt = envelope.attempt
    job.fact = 0
    job.ended = ""
    job.queued_seq = seq
    job.start_after = event.start_after
    job.cause = envelope.id


def _job_assigned(run: Run, job: JobState, envelope: Envelope, seq: int) -> None:
    event = envelope.data
    assert isinstance(event, JobAssigned)
    if envelope.attempt != job.attempt or job.state is not State.QUEUED:
        return
    job.state = State.ASSIGNED
    job.runner = event.runner
    job.cause = envelope.id


def _moves_to(state: State) -> Callable[[Run, JobState, Envelope, int], None]:
    """The fold of a runner's fact that moves its attempt to `state`."""

    def fold(run: Run, job: JobState, envelope: Envelope, seq: int) -> None:
        if not _is_news(job, envelope):
            return
        if allowed(job.state, state):
            job.state = state

    return fold


def _step(run: Run, job: JobState, envelope: Envelope, seq: int) -> None:
    _is_news(job, envelope)


def _is_news(job: JobState, envelope: Envelope) -> bool:
    """Take note of a runner's fact; False for one that is known, stale, or of an attempt that is over."""
    number: int = getattr(envelope.data, "fact", 0)
    if envelope.attempt != job.attempt or not job.runner or number <= job.fact:
        return False
    job.fact = number
    job.cause = envelope.id
    return True


def _job_attempt_failed(run: Run, job: JobState, envelope: Envelope, seq: int) -> None:
    event = envelope.data
    assert isinstance(event, JobAttemptFailed)
    if not _is_news(job, envelope):
        return
    job.failures += 1
    _end_attempt(job, "failed")
    job.failure, job.exit_code, job.output = event.failure, event.exit_code, event.output


def _job_lost(run: Run, job: JobState, envelope: Envelope, seq: int) -> None:
    event = envelope.data
    assert isinstance(event, JobLost)
    if envelope.attempt != job.attempt or job.runner != event.runner:
        return
    job.losses += not event.given_back
    _end_attempt(job, "lost")
    job.cause = envelope.id
    job.outputs_wanted = (*job.outputs_wanted, envelope.attempt)
    run.outputs_wanted += 1


def _end_attempt(job: JobState, how: str) -> None:
    name = runner_name(job.runner)
    job.avoid = (*(one for one in job.avoid if one != name), name)[-8:]
    job.ended = how
    job.runner = ""


def _job_output_stored(run: Run, job: JobState, envelope: Envelope, seq: int) -> None:
    event = envelope.data
    assert isinstance(event, JobOutputStored)
    if envelope.attempt not in job.outputs_wanted:
        return
    job.outputs_wanted = tuple(one for one in job.outputs_wanted if one != envelope.attempt)
    run.outputs_wanted -= 1


def _job_cancel_requested(run: Run, job: JobState, envelope: Envelope, seq: int) -> None:
    event = envelope.data
    assert isinstance(event, JobCancelRequested)
    if job.cancel is None and job.state is not State.COMPLETED:
        job.cancel = event.reason
        job.cause = envelope.id


def _job_completed(run: Run, job: JobState, envelope: Envelope, seq: int) -> None:
    event = envelope.data
    assert isinstance(event, JobCompleted)
    if job.state is State.COMPLETED or envelope.attempt != job.attempt:
        return
    job.state = State.COMPLETED
    job.outcome = event.outcome
    job.fact = max(job.fact, event.fact)
    job.ended = ""
    job.runner = ""
    job.cause = envelope.id
    job.exit_code, job.failure, job.output = event.exit_code, event.failure, event.output
    run.open_jobs -= 1
    for name in run.dependents.get(envelope.job, ()):
        dependent = run.jobs[name]
        dependent.waiting_on -= 1
        if event.outcome is not Outcome.SUCCEEDED:
            dependent.blocked_by = dependent.blocked_by or envelope.job


def runner_name(runner: str) -> str:
    """The name in a runner's id, which is the name, a hyphen and eight characters of its incarnation."""
    return runner.rpartition("-")[0]


def outcome_of(run: Run) -> Outcome:
    """How a run ends whose jobs have all completed."""
    outcomes = {job.outcome for job in run.jobs.values()}
    if run.cancel is not None and Outcome.CANCELLED in outcomes:
        return Outcome.CANCELLED
    if Outcome.FAILED in outcomes:
        return Outcome.FAILED
    if Outcome.CANCELLED in outcomes:
        return Outcome.CANCELLED
    return Outcome.SUCCEEDED


_ON_RUN: Final[dict[type, Callable[[Run, Any, int], None]]] = {
    RunAdmitted: _run_admitted,
    RunCancelRequested: _run_cancel_requested,
    RunPaused: _run_paused,
    RunResumed: _run_resumed,
    RunCompleted: _run_completed,
}

_ON_JOB: Final[dict[type, Callable[[Run, JobState, Envelope, int], None]]] = {
    JobQueued: _job_queued,
    JobAssigned: _job_assigned,
    JobPreparing: _moves_to(State.PREPARING),
    JobExecuting: _moves_to(State.EXECUTING),
    JobUploading: _moves_to(State.UPLOADING),
    JobAttemptFailed: _job_attempt_failed,
    JobLost: _job_lost,
    JobOutputStored: _job_output_stored,
    JobCancelRequested: _job_cancel_requested,
    JobCompleted: _job_completed,
    StepStarted: _step,
    StepFinished: _step,
}
