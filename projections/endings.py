"""How what is over ended, and why: jobs that succeeded, failed, were skipped or cancelled, and runs."""

from __future__ import annotations

from typing import Final, NamedTuple

import msgspec

from headway.core.events import Failure
from headway.core.states import Outcome, State
from headway.projections.answers import Facts, Finding, Long, Tried
from headway.projections.causes import Cause
from headway.projections.ground import JOB_SELECT, Open, Run, rows
from headway.projections.judging import cancelled_by
from headway.projections.reader import Connection
from headway.projections.readings import moment
from headway.projections.tables import AttemptRow, columns_of
from headway.projections.words import because, command, counted, person, span
from headway.projections.workbench import BACK_OFF, LOST

CONDITION: Final = "success()"
"""What every job's condition is: that all it depends on has succeeded."""

LONGEST_MOST: Final = 3
VALUES_MOST: Final = 50
WAS: Final[dict[str, str]] = {
    Outcome.SUCCEEDED.value: "succeeded",
    Outcome.FAILED.value: "failed",
    Outcome.CANCELLED.value: "was cancelled",
    Outcome.SKIPPED.value: "was skipped",
}
STAY: Final[dict[str, str]] = {
    State.QUEUED.value: "being queued",
    State.ASSIGNED.value: "waiting for its runner to accept",
}
"""Words for stays whose state is no verb. What a job waited for in line is not kept: a slot, or the end of a pause."""
_failure = msgspec.json.Decoder(Failure).decode


async def why_ended(db: Connection, run: Run, job: Open) -> Finding:
    """Why a completed job ended as it did."""
    tried = [AttemptRow(*row) for row in await rows(db, _ATTEMPTS, run.run, job.job)]
    longest = await longest_of(db, run.seq, job.job)
    earlier = tuple(attempt_words(one) for one in tried if one.attempt < job.attempt)
    facts = Facts(took_ms=took(job.started, job.completed), longest=longest, attempts=earlier)
    if job.outcome == Outcome.CANCELLED.value:
        return _cancelled(run, job, facts)
    if job.outcome == Outcome.SKIPPED.value:
        return await _skipped(db, job, facts)
    after = f" after {span(facts.took_ms)}" if facts.took_ms is not None else ""
    where = f" on {job.runner}" if job.runner else ""
    numbered = f", in attempt {job.attempt}" if job.attempt > 1 else ""
    most = _longest(longest, numbered=job.attempt > 1)
    if job.outcome == Outcome.FAILED.value:
        return await _failed(db, job, facts, Ends(tried, f"{after}{where}{numbered}", most))
    return Finding(
        cause=Cause.SUCCEEDED,
        words=f"it succeeded{after}{where}{numbered}{most}",
        evidence=(job.seq_entered,),
        facts=facts,
    )


_ATTEMPTS: Final = f"select {columns_of(AttemptRow)} from attempts where run = ? and job = ? order by attempt"
_STEP: Final = """
select name, exit_code, signal, reason from steps
where run = ? and job = ? and attempt = ? and outcome = 'failed' order by step desc limit 1
"""


class Ends(NamedTuple):
    """What is said around the reason of a failure: its attempts, after how long and where, and what took longest."""

    tried: list[AttemptRow]
    after: str
    longest: str


async def _failed(db: Connection, job: Open, facts: Facts, ends: Ends) -> Finding:
    """The reason that was given; where there is none, how the last step that failed ended."""
    failure = _failure(job.failure) if job.failure else None
    step, how = "", ""
    for name, exit_code, signal, reason in await rows(db, _STEP, job.run, job.job, job.attempt):
        step = name
        how = reason or (f"was ended by {signal}" if signal else f"exited with code {exit_code}" if exit_code else "")
    given = job.reason or (failure.reason if failure is not None else "")
    said = given or (f"step {step!r} {how}".rstrip() if step else "no reason was given")
    lost = [one for one in ends.tried if one.state == LOST]
    was_lost = bool(lost) and lost[-1].attempt == job.attempt
    words = f" after {_losses(ends.tried, lost)}" if was_lost else f"{ends.after}: {said}{ends.longest}"
    return Finding(
        cause=Cause.LOST_RUNNER if was_lost else Cause.FAILED,
        words=f"it failed{words}",
        shared=said,
        unblocks=f"{command('logs', job.run, job.job)} has what it printed",
        evidence=(job.seq_entered,),
        facts=msgspec.structs.replace(
            facts, step=step, exit_code=job.exit_code, failure_class=failure.failure_class if failure else ""
        ),
    )


def _losses(tried: list[AttemptRow], lost: list[AttemptRow]) -> str:
    """Which attempts were lost, with whom, and why the last runner was."""
    last = lost[-1]
    why = f" ({reason})" if (reason := reason_of(last)) else ""
    if len(lost) == 1:
        which = "its only attempt" if len(tried) == 1 else f"attempt {last.attempt}"
        return f"{which} was lost with {last.runner}{why}"
    return f"{len(lost)} attempts were lost, the last with {last.runner}{why}"


def reason_of(row: AttemptRow) -> str:
    """Why an attempt ended; that of a lost one without the name of the runner, which is told beside it."""
    return row.reason.removeprefix(f"runner {row.runner} is gone: ")


def _cancelled(run: Run, job: Open, facts: Facts) -> Finding:
    by, reason = cancelled_by(job, run.cancelled_by, run.cancel_reason)
    what = "it" if by == job.cancelled_by and by != run.cancelled_by else "the run" if run.cancelled_by else "it"
    if not by and job.reason != job.outcome:  # nobody asked for it, so what the job says is all there is
        reason = job.reason
    return Finding(
        cause=Cause.CANCELLED,
        words=f"{person(by)} cancelled {what}{because(reason)}",
        evidence=(job.seq_entered,),
        facts=msgspec.structs.replace(facts, cancelled_by=by, cancel_reason=reason),
    )


async def _skipped(db: Connection, job: Open, facts: Facts) -> Finding:
    found = {one.job: one for one in await jobs_of(db, job.run)}
    values = {name: found[name].outcome or found[name].state for name in job.depends_on if name in found}
    chain = [job]
    while (blocker := blocker_of(found, chain[-1])) is not None and blocker not in chain:
        chain.append(blocker)
    words = f"its condition {CONDITION} did not hold"
    if len(chain) > 1:
        words += f": {chain[1].job} {WAS.get(chain[1].outcome or '', chain[1].state)}"
    else:
        words += because(job.reason)
    if len(chain) > 2:
        words += f", because {chain[-1].job} {WAS.get(chain[-1].outcome or '', chain[-1].state)}"
    return Finding(
        cause=Cause.SKIPPED,
        words=words,
        unblocks=f"{command('why', job.run, chain[-1].job)} says why that was" if len(chain) > 1 else "",
        evidence=(job.seq_entered, *(one.seq_entered for one in chain[1:])),
        facts=msgspec.structs.replace(
            facts,
            condition=CONDITION,
            values=dict(list(values.items())[:VALUES_MOST]),
            blocked_by=tuple(one.job for one in chain[1:]),
        ),
    )


def blocker_of(jobs: dict[str, Open], job: Open) -> Open | None:
    """The first of the jobs it depends on that did not succeed; None when it was not skipped for one."""
    if job.outcome not in (None, Outcome.SKIPPED.value):
        return None
    blockers = [
        jobs[name]
        for name in job.depends_on
        if name in jobs and jobs[name].outcome not in (None, Outcome.SUCCEEDED.value)
    ]
    return min(blockers, key=lambda one: one.seq_entered, default=None)


async def jobs_of(db: Connection, run: str) -> list[Open]:
    """All jobs of a run, in the order in which they were admitted."""
    return [Open(*row) for row in await rows(db, f"{JOB_SELECT} where run = ? order by seq", run)]


_LONGEST: Final = f"""
with stays as (
    select id, job, attempt, state, phase, seq, "left" - entered as took, holder from timeline
    where run = ? {{of_job}} and phase in ('', '{BACK_OFF}') and state != '{State.ADMITTED.value}'
), rests as materialized (select job, seq, took from stays where phase != '')
select s.job, s.attempt, s.state, s.phase, s.took - iif(s.phase = '', coalesce(r.took, 0), 0), s.holder
from stays s left join rests r on r.job = s.job and r.seq = s.seq
order by 5 desc, s.id limit {LONGEST_MOST}
"""


async def longest_of(db: Connection, run_seq: int, job: str = "") -> tuple[Long, ...]:
    """What took longest in a run or a job: stays in states, but for waiting for other jobs; back-off is told apart."""
    sql = _LONGEST.format(of_job="and job = ?" if job else "")
    return tuple(
        Long(job=name, attempt=attempt, state=state, phase=phase, duration_ms=length // 1000, holder=holder)
        for name, attempt, state, phase, length, holder in await rows(db, sql, run_seq, *([job] if job else []))
    )


async def why_run_ended(db: Connection, run: Run) -> Finding:
    """Why a completed run ended as it did, and what took longest."""
    total, longest = took(run.admitted, run.completed) or 0, await longest_of(db, run.seq)
    facts = Facts(took_ms=total, longest=longest)
    evidence = (run.seq_completed,) if run.seq_completed else ()
    if run.outcome == Outcome.CANCELLED.value:
        return msgspec.structs.replace(await _run_cancelled(db, run, facts), evidence=evidence)
    if run.outcome == Outcome.FAILED.value:
        return msgspec.structs.replace(await _run_failed(db, run, total), evidence=evidence, facts=facts)
    slowest = await _slowest(db, run, longest)
    return Finding(
        cause=Cause.SUCCEEDED if run.outcome == Outcome.SUCCEEDED.value else Cause.SKIPPED,
        words=f"it {WAS.get(run.outcome or '', 'ended')} after {span(total)}, {counted(run.over, 'job')}"
        f"{_longest(longest, named=True, numbered=await _retried(db, run, longest))}{slowest}",
        evidence=evidence,
        facts=facts,
    )


async def _run_cancelled(db: Connection, run: Run, facts: Facts) -> Finding:
    """Somebody cancelled the run, or one of its jobs."""
    by, reason, what = run.cancelled_by, run.cancel_reason, "it"
    if by is None:
        sql = "select job, cancelled_by, cancel_reason from jobs where run = ? and outcome = 'cancelled'"
        for job, job_by, job_reason in await rows(db, f"{sql} order by seq_entered limit 1", run.run):
            by, reason, what = job_by, job_reason, f"its job {job}"
    return Finding(
        cause=Cause.CANCELLED,
        words=f"{person(by)} cancelled {what}{because(reason)}; it was over after {span(facts.took_ms or 0)}",
        facts=msgspec.structs.replace(facts, cancelled_by=by or "", cancel_reason=reason or ""),
    )


async def _run_failed(db: Connection, run: Run, total: int) -> Finding:
    jobs = {one.job: one for one in await jobs_of(db, run.run)}
    failed = [one for one in jobs.values() if one.outcome == Outcome.FAILED.value]
    if not failed:
        return Finding(cause=Cause.FAILED, words=f"it failed after {span(total)}, and no job of it failed")
    first = min(failed, key=lambda one: one.seq_entered)
    skipped = sum(1 for one in jobs.values() if _skipped_for(jobs, one) is first)
    words = f"it failed after {span(total)}: {first.job} failed"
    words += " first" if len(failed) > 1 else ""
    if skipped:
        words += f", and for that {counted(skipped, 'job')} {'was' if skipped == 1 else 'were'} skipped"
    if len(failed) > 1:
        words += f"; {counted(len(failed), 'job')} failed in all"
    return Finding(
        cause=Cause.FAILED, words=words, unblocks=f"{command('logs', run.run, first.job)} has what it printed"
    )


def _skipped_for(jobs: dict[str, Open], job: Open) -> Open | None:
    """The job at the other end of the chain for which this one was skipped."""
    if job.outcome != Outcome.SKIPPED.value:
        return None
    found, seen = job, {job.job}
    while (blocker := blocker_of(jobs, found)) is not None and blocker.job not in seen:
        seen.add(blocker.job)
        found = blocker
    return found


async def _slowest(db: Connection, run: Run, longest: tuple[Long, ...]) -> str:
    """The job that was with its runner for longest, when that is another one than what took longest."""
    sql = "select job, completed - started from jobs where run = ? and started is not null and completed is not null"
    for job, length in await rows(db, f"{sql} order by 2 desc, seq limit 1", run.run):
        if longest and job != longest[0].job:
            return f"; the longest job was {job}, {span(length // 1000)}"
    return ""


async def _retried(db: Connection, run: Run, longest: tuple[Long, ...]) -> bool:
    """Whether what took longest was in a job that had several attempts."""
    found = (
        await rows(db, "select attempt from jobs where run = ? and job = ?", run.run, longest[0].job) if longest else []
    )
    return bool(found) and found[0][0] > 1


def attempt_words(row: AttemptRow) -> Tried:
    """How an attempt ended."""
    after = f" after {span(length)}" if (length := took(row.assigned, row.ended)) is not None else ""
    how = "was lost with" if row.state == LOST else f"{WAS.get(row.outcome or '', 'went on')} on"
    return Tried(
        attempt=row.attempt,
        runner=row.runner,
        ended=moment(row.ended),
        words=f"attempt {row.attempt} {how} {row.runner}{after}{because(reason_of(row))}",
    )


def took(start: int | None, end: int | None) -> int | None:
    """Milliseconds from one moment to another, if both have come."""
    return None if start is None or end is None else max(0, end - start) // 1000


def _longest(longest: tuple[Long, ...], *, named: bool = False, numbered: bool = False) -> str:
    """What took longest, if anything did; `named` with its job and `numbered` with its attempt."""
    if not longest or not longest[0].duration_ms:
        return ""
    most = longest[0]
    who = f"{most.job} " if named else ""
    if most.phase:
        what = f"backing off after attempt {most.attempt - 1}"
    else:
        what = STAY.get(most.state, most.state) + (f" in attempt {most.attempt}" if numbered and most.attempt else "")
    where = f" on {most.holder}" if named and most.state == State.EXECUTING.value and most.holder else ""
    return f"; what took longest was {who}{what}{where}, {span(most.duration_ms)}"
