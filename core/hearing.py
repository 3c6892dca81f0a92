"""How asks are judged: each against the state as it is, into facts to be written or an answer that needs none.

The same ask may come twice, late, or after a restart of everything. What it asks for may already be so; then the
answer is that it is so. Runners' facts are numbered per attempt, and the fold knows the last one.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Final

import msgspec

from headway.core import asks
from headway.core.asks import Answer, AnyAsk, AttemptFinished
from headway.core.envelope import Fact
from headway.core.events import (
    AnyEvent,
    Failure,
    FleetPaused,
    FleetResumed,
    JobAttemptFailed,
    JobCancelRequested,
    JobCompleted,
    JobExecuting,
    JobLost,
    JobOutputStored,
    Output,
    RunCancelRequested,
    RunnerDrained,
    RunnerLeft,
    RunnerRegistered,
    RunnerResumed,
    RunPaused,
    RunResumed,
)
from headway.core.fleet import RunnerState
from headway.core.plan import Plan
from headway.core.planning import problems
from headway.core.run import JobState, Run, runner_name
from headway.core.states import Outcome, State
from headway.core.world import World

RUNNER: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]{0,63}-[0-9a-f]{8}")
TOKEN: Final = re.compile(r"[A-Za-z0-9_-]{1,128}")
ASK_BYTES_MAX: Final = 32 * 1024
"""What an ask may add to one event, so that the event stays below its own limit."""

NUMBER_MAX: Final = 1 << 53
TIME_MAX_US: Final = 253_402_300_799_000_000
WORDS_MAX: Final = 2_000
"""How much of a text that others wrote is kept in an event."""


_encode = msgspec.json.Encoder().encode


class Heard(msgspec.Struct, frozen=True):
    """Either facts to be written, or an answer that needs nothing written."""

    facts: list[Fact] = []
    answer: Answer | None = None


def hear(world: World, ask: AnyAsk, *, actor: str, plan: Plan | None = None) -> Heard:
    """Judge one ask. `plan` is what an AdmitRun names by digest. Never raises for what an ask may hold."""
    if not _storable(ask):
        return _refused("usage", "a number in the ask is larger than any real one", "see the clock of who asks")
    largest = max((len(_encode(said)) for said in ask.facts), default=0) if isinstance(ask, asks.Report) else 0
    if (largest or len(_encode(ask))) > ASK_BYTES_MAX:
        return _refused("usage", f"the ask is larger than {ASK_BYTES_MAX} bytes", "shorten its texts and parameters")
    return _HEARINGS[type(ask)](world, ask, actor, plan)


def _storable(ask: AnyAsk) -> bool:
    """Whether it fits into tables and times: numbers of 64 bits, the year 9999, phases that have names."""
    if isinstance(ask, asks.RegisterRunner):
        return 0 <= ask.pid < NUMBER_MAX
    if isinstance(ask, asks.AdmitRun):
        return all(0 <= one < NUMBER_MAX for one in (ask.admitted.attempt_losses_max, ask.admitted.retry_backoff_ms))
    if isinstance(ask, asks.StoreOutput):
        return _counts(ask.output)
    if isinstance(ask, asks.Report):
        return all(0 <= said.at <= TIME_MAX_US and _fits(said.what) for said in ask.facts)
    return True


def _fits(what: asks.RunnerFact) -> bool:
    if isinstance(what, JobExecuting):
        return all(
            one.what and 0 <= one.duration_ms < NUMBER_MAX and 0 <= one.bytes < NUMBER_MAX for one in what.prepared
        )
    numbers = [getattr(what, name, 0) or 0 for name in ("fact", "exit_code", "step", "tried", "duration_ms")]
    output = what.output if isinstance(what, AttemptFinished) else None
    return all(-NUMBER_MAX < one < NUMBER_MAX for one in numbers) and _counts(output)


def _counts(output: Output | None) -> bool:
    return output is None or (0 <= output.bytes < NUMBER_MAX and 0 <= output.records < NUMBER_MAX)


def _known(world: World) -> Heard:
    """It is so already; the answer holds when all that is written is durable."""
    return Heard(answer=Answer(seq=world.seq))


def _refused(code: str, reason: str, next: str = "") -> Heard:
    return Heard(answer=Answer(refused=reason, code=code, next=next))


def _run_gone(world: World, run: str, *, cancel: bool = False) -> Heard:
    if cancel and world.finished.get(run) is Outcome.CANCELLED:
        return _known(world)
    if run in world.finished:
        return _refused("refused", f"run {run} is already over", "start a new one with 'headway run'")
    return _refused("not_found", f"there is no unfinished run {run}", "see 'headway runs'")


def _admit_run(world: World, ask: asks.AdmitRun, actor: str, plan: Plan | None) -> Heard:
    if ask.run in world.runs or ask.run in world.finished:
        return _known(world)
    if not TOKEN.fullmatch(ask.run) or not TOKEN.fullmatch(ask.admitted.project):
        return _refused("usage", "a run's id and project consist of letters, digits, '-' and '_'")
    if plan is None:
        return _refused("unavailable", f"the plan {ask.admitted.plan_digest} is not in the blob store")
    wrong = problems(plan)
    if wrong:
        return _refused("usage", wrong[0])
    admitted = msgspec.structs.replace(ask.admitted, jobs=len(plan.jobs))
    return Heard(facts=[Fact(event=admitted, id="", actor=actor, run=ask.run)])


def _cancel_run(world: World, ask: asks.CancelRun, actor: str, plan: Plan | None) -> Heard:
    run = world.runs.get(ask.run)
    if run is None:
        return _run_gone(world, ask.run, cancel=True)
    if run.cancel is not None:
        return _known(world)
    return _say(run, RunCancelRequested(reason=ask.reason[:WORDS_MAX]), actor)


def _cancel_job(world: World, ask: asks.CancelJob, actor: str, plan: Plan | None) -> Heard:
    run = world.runs.get(ask.run)
    if run is None:
        return _run_gone(world, ask.run, cancel=True)
    job = run.jobs.get(ask.job)
    if job is None:
        names = ", ".join(list(run.jobs)[:10])
        return _refused("not_found", f"run {ask.run} has no job {ask.job[:100]}", f"its jobs are: {names}")
    if job.outcome is Outcome.CANCELLED:
        return _known(world)
    if job.state is State.COMPLETED:
        return _refused("refused", f"job {ask.job} has already {job.outcome}", "see 'headway show'")
    if job.cancel is not None:
        return _known(world)
    event = JobCancelRequested(reason=ask.reason[:WORDS_MAX], runner=job.runner)
    fact = Fact(event=event, id="", actor=actor, run=run.id, job=ask.job, attempt=job.attempt)
    return Heard(facts=[fact])


def _pause_run(world: World, ask: asks.PauseRun, actor: str, plan: Plan | None) -> Heard:
    run = world.runs.get(ask.run)
    if run is None:
        return _run_gone(world, ask.run)
    return _known(world) if run.paused is not None else _say(run, RunPaused(reason=ask.reason[:WORDS_MAX]), actor)


def _resume_run(world: World, ask: asks.ResumeRun, actor: str, plan: Plan | None) -> Heard:
    run = world.runs.get(ask.run)
    if run is None:
        return _run_gone(world, ask.run)
    return _known(world) if run.paused is None else _say(run, RunResumed(), actor)


def _pause_fleet(world: World, ask: asks.PauseFleet, actor: str, plan: Plan | None) -> Heard:
    if world.fleet.paused is not None:
        return _known(world)
    return Heard(facts=[Fact(event=FleetPaused(reason=ask.reason[:WORDS_MAX]), id="", actor=actor)])


def _resume_fleet(world: World, ask: asks.ResumeFleet, actor: str, plan: Plan | None) -> Heard:
    if world.fleet.paused is None:
        return _known(world)
    return Heard(facts=[Fact(event=FleetResumed(), id="", actor=actor)])


def _drain_runner(world: World, ask: asks.DrainRunner, actor: str, plan: Plan | None) -> Heard:
    found = _runners(world, ask.runner)
    if not found:
        return _no_runner(ask.runner)
    facts = [
        Fact(event=RunnerDrained(runner=one.runner, reason=ask.reason[:WORDS_MAX]), id="", actor=actor)
        for one in found
        if not one.drained
    ]
    return Heard(facts=facts) if facts else _known(world)


def _resume_runner(world: World, ask: asks.ResumeRunner, actor: str, plan: Plan | None) -> Heard:
    found = _runners(world, ask.runner)
    if not found and ask.runner in world.fleet.drained:  # a name whose process is away just now
        return Heard(facts=[Fact(event=RunnerResumed(runner=ask.runner), id="", actor=actor)])
    if not found:
        return _no_runner(ask.runner)
    facts = [Fact(event=RunnerResumed(runner=one.runner), id="", actor=actor) for one in found if one.drained]
    return Heard(facts=facts) if facts else _known(world)


def _runners(world: World, name: str) -> list[RunnerState]:
    return [one for one in world.fleet.runners.values() if not one.gone and name in (one.runner, one.name)]


def _no_runner(name: str) -> Heard:
    return _refused("not_found", f"there is no runner {name}", "see 'headway runners list'")


def _register_runner(world: World, ask: asks.RegisterRunner, actor: str, plan: Plan | None) -> Heard:
    if (gone := _gone(world, ask.runner)) is not None:
        return gone
    if ask.runner in world.fleet.runners:
        return _known(world)
    if not RUNNER.fullmatch(ask.runner):
        return _refused(
            "usage", f"{ask.runner[:100]!r} is not a runner's id", "use letters, digits, '-' and '_' in its name"
        )
    if not 1 <= ask.slots <= 10_000:
        return _refused("usage", f"a runner has between 1 and 10000 slots, not {ask.slots}")
    if ask.store and world.store and ask.store != world.store:
        next_step = "give it the coordinator's blob folder: set 'blobs' in its config.yml"
        return _refused("refused", f"runner {ask.runner} sees another blob store than the coordinator", next_step)
    event = RunnerRegistered(
        runner=ask.runner,
        name=runner_name(ask.runner),
        labels=ask.labels[:100],
        slots=ask.slots,
        executors=ask.executors[:100],
        host=ask.host[:WORDS_MAX],
        platform=ask.platform[:WORDS_MAX],
        pid=ask.pid,
        headway_version=ask.headway_version[:100],
        replaces=tuple(
            one for one in ask.replaces if one in world.fleet.runners and runner_name(one) == runner_name(ask.runner)
        ),
    )
    facts = [Fact(event=event, id="", actor=actor)]
    if event.name in world.fleet.drained:  # a name is drained until it is resumed, whatever becomes of its process
        drained = RunnerDrained(runner=ask.runner, reason="it was drained before it started again")
        facts.append(Fact(event=drained, id="", actor=actor))
    return Heard(facts=facts)


def _gone(world: World, runner: str) -> Heard | None:
    """The refusal of a runner that counts no more: an incarnation never comes back."""
    reason = world.fleet.departed.get(runner, "")
    known = world.fleet.runners.get(runner)
    if known is not None:
        reason = known.gone or ("another incarnation took its place" if known.replaced else "")
    if not reason:
        return None
    return _refused("refused", f"runner {runner} counts no more: {reason}", "register again under a new incarnation")


def _renew_runner(world: World, ask: asks.RenewRunner, actor: str, plan: Plan | None) -> Heard:
    if (gone := _gone(world, ask.runner)) is not None:
        return gone
    if ask.runner not in world.fleet.runners:
        return _refused("not_found", f"runner {ask.runner} is not registered", "register it first")
    return Heard(answer=Answer())


def _leave_runner(world: World, ask: asks.LeaveRunner, actor: str, plan: Plan | None) -> Heard:
    known = world.fleet.runners.get(ask.runner)
    if known is None or known.gone:
        return _known(world)
    return Heard(facts=[Fact(event=RunnerLeft(runner=ask.runner), id="", actor=actor)])


def _report(world: World, ask: asks.Report, actor: str, plan: Plan | None) -> Heard:
    run = world.runs.get(ask.run)
    job = run.jobs.get(ask.job) if run else None
    if run is None or job is None:
        return _run_gone(world, ask.run)
    if not ask.runner:
        return _refused("refused", "a report names its runner")
    if job.attempt == ask.attempt and all(said.what.fact <= job.fact for said in ask.facts):
        return _known(world)
    if job.attempt != ask.attempt or job.runner != ask.runner:
        return _refused("refused", f"attempt {ask.attempt} of {ask.job} is no longer {ask.runner}'s")
    facts: list[Fact] = []
    expected = job.fact + 1
    because = job.cause
    for said in ask.facts:
        if said.what.fact < expected:
            continue
        if said.what.fact > expected:
            return Heard(answer=Answer(retry=True))
        event = _fact(run, job, ask, said)
        named = f"{run.id}:{ask.job}:{ask.attempt}:{said.what.fact}"
        facts.append(
            Fact(
                event=event,
                id=named,
                actor=actor,
                run=run.id,
                job=ask.job,
                attempt=ask.attempt,
                because=because,
                at=said.at,
            )
        )
        expected, because = expected + 1, named
        if isinstance(said.what, AttemptFinished):
            break
    return Heard(facts=facts)


def _fact(run: Run, job: JobState, ask: asks.Report, said: asks.Said) -> AnyEvent:
    """The event that a runner's fact becomes. How an attempt ended becomes what the coordinator makes of it."""
    what = said.what
    if not isinstance(what, AttemptFinished):
        return what
    cancelling = run.cancel is not None or job.cancel is not None
    if what.outcome is Outcome.CANCELLED and not cancelling:
        return JobLost(runner=ask.runner, reason=what.reason[:WORDS_MAX] or "the runner gave it up")
    if what.outcome is Outcome.FAILED and not cancelling and job.failures < job.retry_count:
        failure = what.failure or Failure(failure_class="caller_fixable", reason=what.reason[:WORDS_MAX] or "it failed")
        return JobAttemptFailed(fact=what.fact, failure=failure, exit_code=what.exit_code, output=what.output)
    reason = what.reason[:WORDS_MAX]
    if what.outcome is Outcome.CANCELLED:
        reason = (job.cancel if job.cancel is not None else run.cancel) or reason
    return JobCompleted(
        outcome=what.outcome,
        fact=what.fact,
        reason=reason,
        exit_code=what.exit_code,
        failure=what.failure,
        output=what.output,
    )


def _store_output(world: World, ask: asks.StoreOutput, actor: str, plan: Plan | None) -> Heard:
    run = world.runs.get(ask.run)
    job = run.jobs.get(ask.job) if run else None
    if run is None or job is None or ask.attempt not in job.outputs_wanted:
        return _known(world)
    event = JobOutputStored(output=ask.output, missing=ask.missing[:WORDS_MAX])
    fact = Fact(event=event, id="", actor=actor, run=run.id, job=ask.job, attempt=ask.attempt, because=job.cause)
    return Heard(facts=[fact])


def _say(run: Run, event: AnyEvent, actor: str) -> Heard:
    return Heard(facts=[Fact(event=event, id="", actor=actor, run=run.id)])


_HEARINGS: Final[dict[type, Callable[[World, Any, str, Plan | None], Heard]]] = {
    asks.AdmitRun: _admit_run,
    asks.CancelRun: _cancel_run,
    asks.CancelJob: _cancel_job,
    asks.PauseRun: _pause_run,
    asks.ResumeRun: _resume_run,
    asks.PauseFleet: _pause_fleet,
    asks.ResumeFleet: _resume_fleet,
    asks.DrainRunner: _drain_runner,
    asks.ResumeRunner: _resume_runner,
    asks.RegisterRunner: _register_runner,
    asks.RenewRunner: _renew_runner,
    asks.LeaveRunner: _leave_runner,
    asks.Report: _report,
    asks.StoreOutput: _store_output,
}
