"""What must be said next: the decider.

`next_events` is asked about a state, not told about an event. It returns the facts of the first rule that has
something to say, and nothing when all is quiet; the caller folds them and asks again. So a missed or doubled delivery
is harmless and a crash needs no recovery code. Each rule is one function, and they are asked in the order of `RULES`.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice
from typing import Final

import msgspec

from headway.core.envelope import Fact
from headway.core.events import (
    AnyEvent,
    Failure,
    JobAdmitted,
    JobAssigned,
    JobCancelRequested,
    JobCompleted,
    JobLost,
    JobQueued,
    RunCompleted,
    RunnerLost,
)
from headway.core.fleet import LEASE_SECONDS, RunnerState
from headway.core.plan import Job
from headway.core.resting import backoff_us
from headway.core.run import JobState, Run, outcome_of
from headway.core.states import WAS, Outcome
from headway.core.world import Need, World

COORDINATOR: Final = "coordinator"
QUEUED_AT_ONCE_MAX: Final = 64


def next_events(world: World) -> list[Fact]:
    """The facts that follow from the state, by the first rule that has any; [] when there is nothing to say."""
    for rule in RULES:
        facts = rule(world)
        if facts:
            return facts
    return []


def admit_jobs(world: World) -> list[Fact]:
    """The jobs of an admitted run become nodes of its graph; a plan that cannot be read ends the run."""
    for run_id in world.unadmitted:
        run = world.runs[run_id]
        if run_id not in world.plans:
            continue  # the plan is still being read
        jobs = world.plans[run_id]
        if jobs is not None:
            facts = [_admit(run, job) for job in jobs.values() if job.name not in run.jobs]
        else:
            facts = _end_unreadable(run)
        if facts:
            return facts
    return []


def _admit(run: Run, job: Job) -> Fact:
    event = JobAdmitted(
        depends_on=job.depends_on,
        runs_on=job.runs_on,
        executor=job.executor,
        retry_count=job.retry_count,
        concurrency_group=job.concurrency_group,
        concurrency_limit=job.concurrency_limit,
    )
    return Fact(event=event, id="", actor=COORDINATOR, run=run.id, job=job.name, because=run.cause)


def _end_unreadable(run: Run) -> list[Fact]:
    """End the jobs of a run whose plan cannot be read, then the run: the rest of it will never be known."""
    ends = [
        _about(run, name, _end_unreadable_job(run, job))
        for name, job in run.jobs.items()
        if job.outcome is None and not job.runner
    ]
    if ends or run.open_jobs or run.outputs_wanted:
        return ends
    event = RunCompleted(outcome=Outcome.FAILED, jobs=len(run.jobs))
    return [Fact(event=event, id="", actor=COORDINATOR, run=run.id, because=run.last)]


def _end_unreadable_job(run: Run, job: JobState) -> JobCompleted:
    reason = f"the plan {run.plan_digest} cannot be read"
    return _end(job, Outcome.FAILED, reason=reason, failure=Failure(failure_class="platform_bug", reason=reason))


def lose_replaced_runners(world: World) -> list[Fact]:
    """A runner whose next incarnation proved it dead is lost."""
    return [
        Fact(event=RunnerLost(runner=runner, reason="its next incarnation took its place"), id="", actor=COORDINATOR)
        for runner in world.replaced
    ]


def lose_attempts(world: World) -> list[Fact]:
    """What a runner held that is gone is lost."""
    facts = []
    for runner_id in world.bereaved:
        runner = world.fleet.runners[runner_id]
        for run_id, name in sorted(runner.held):
            run = world.runs[run_id]
            reason = f"runner {runner_id} is gone: {runner.gone}"
            lost = JobLost(runner=runner_id, reason=reason, given_back=runner.left)
            facts.append(_about(run, name, lost, because=runner.cause))
    for run_id, name in world.strays:
        run = world.runs[run_id]
        runner_id = run.jobs[name].runner
        facts.append(_about(run, name, JobLost(runner=runner_id, reason=f"there is no runner {runner_id}")))
    return facts


def cancel_jobs(world: World) -> list[Fact]:
    """A job to be cancelled that nobody holds is over."""
    facts = []
    for run_id, name in world.needs[Need.CANCEL]:
        run = world.runs[run_id]
        job = run.jobs[name]
        reason = job.cancel if job.cancel is not None else run.cancel
        because = run.cause if job.cancel is None else ""
        facts.append(_about(run, name, _end(job, Outcome.CANCELLED, reason=reason or ""), because=because))
    return facts


def request_cancels(world: World) -> list[Fact]:
    """A job of a cancelled run that a runner holds must be stopped there."""
    facts = []
    for run_id, name in world.needs[Need.REQUEST_CANCEL]:
        run = world.runs[run_id]
        job = run.jobs[name]
        event = JobCancelRequested(reason=run.cancel or "", runner=job.runner)
        facts.append(_about(run, name, event, because=run.cause))
    return facts


def choose_after_attempts(world: World) -> list[Fact]:
    """An attempt that failed or was lost is followed by another one, after a rest or at once, or by the job's end."""
    facts = []
    for run_id, name in world.needs[Need.CHOOSE]:
        run = world.runs[run_id]
        job = run.jobs[name]
        if job.ended == "lost" and job.losses >= run.attempt_losses_max:
            reason = f"{job.losses} attempts were lost with their runners"
            failure = Failure(failure_class="transient", reason=reason)
            facts.append(_about(run, name, _end(job, Outcome.FAILED, reason=reason, failure=failure)))
        else:
            facts.append(_about(run, name, _again(world, run, name), attempt=job.attempt + 1))
    return facts


def _again(world: World, run: Run, name: str) -> JobQueued:
    """The next attempt: at once when a runner was lost, after a rest when the job failed."""
    job = run.jobs[name]
    rest_us = backoff_us(run, name, job, attempt=job.attempt + 1) if job.ended == "failed" else 0
    return JobQueued(reason=job.ended, start_after=world.now_us + rest_us if rest_us else 0)


def skip_jobs(world: World) -> list[Fact]:
    """A job cannot run whose dependency did not succeed."""
    facts = []
    for run_id, name in world.needs[Need.SKIP]:
        run = world.runs[run_id]
        job = run.jobs[name]
        blocker = run.jobs[job.blocked_by]
        assert blocker.outcome is not None, "only a completed job blocks"
        reason = f"{job.blocked_by} {WAS[blocker.outcome]}"
        facts.append(_about(run, name, _end(job, Outcome.SKIPPED, reason=reason), because=blocker.cause))
    return facts


def queue_jobs(world: World) -> list[Fact]:
    """A job whose dependencies have all succeeded is ready. Some at a time, so that the first can start meanwhile."""
    ready = (key for key in world.needs[Need.QUEUE] if key[0] not in world.unadmitted)
    return [
        _about(world.runs[run_id], name, JobQueued(), attempt=1) for run_id, name in islice(ready, QUEUED_AT_ONCE_MAX)
    ]


def assign_job(world: World) -> list[Fact]:
    """One job gets a slot: of the project that holds fewest, the one that is queued longest."""
    if world.fleet.paused is not None or not world.queue or not world.free:
        return []
    key = world.queue.next(lambda labels: any(one.labels.issuperset(labels) for one in world.free.values()))
    if key is None or key[0] not in world.plans:
        return []  # nobody can start, or the plan is still being read
    run = world.runs[key[0]]
    job = run.jobs[key[1]]
    definition = (world.plans[run.id] or {}).get(key[1])
    if definition is None:
        return [_about(run, key[1], _end_unreadable_job(run, job))]
    event = JobAssigned(
        runner=_choose(world, job).runner,
        definition=msgspec.structs.replace(definition, depends_on=()),
        source_digest=run.source_digest,
        project=run.project,
        pipeline=run.pipeline,
        commit=run.commit,
        branch=run.branch,
        parameters=run.parameters,
        lease_seconds=LEASE_SECONDS,
    )
    return [_about(run, key[1], event)]


def _choose(world: World, job: JobState) -> RunnerState:
    """A free runner that fits: not one that failed or lost the job where another fits, and the last of them last."""
    rank = {name: at for at, name in enumerate(job.avoid, 1)}
    fitting = (runner for runner in world.free.values() if runner.labels.issuperset(job.runs_on))
    return min(fitting, key=lambda one: (rank.get(one.name, 0), -one.free, one.runner))


def close_runs(world: World) -> list[Fact]:
    """A run whose jobs have all completed is complete."""
    facts = []
    for run_id in world.closable:
        run = world.runs[run_id]
        event = RunCompleted(outcome=outcome_of(run), jobs=len(run.jobs))
        facts.append(Fact(event=event, id="", actor=COORDINATOR, run=run_id, because=run.last))
    return facts


def _about(run: Run, name: str, event: AnyEvent, *, attempt: int | None = None, because: str = "") -> Fact:
    job = run.jobs[name]
    return Fact(
        event=event,
        id="",
        actor=COORDINATOR,
        run=run.id,
        job=name,
        attempt=job.attempt if attempt is None else attempt,
        because=because or job.cause,
    )


def _end(job: JobState, outcome: Outcome, *, reason: str, failure: Failure | None = None) -> JobCompleted:
    return JobCompleted(outcome=outcome, fact=job.fact, reason=reason, failure=failure)


RULES: Final[tuple[Callable[[World], list[Fact]], ...]] = (
    admit_jobs,
    lose_replaced_runners,
    lose_attempts,
    cancel_jobs,
    request_cancels,
    choose_after_attempts,
    skip_jobs,
    assign_job,
    queue_jobs,
    close_runs,
)
