"""`headway why`: for everything that waits, and everything that is over, one sentence from facts.

The facts are read first (`ground`), then judged (`judging`, `queued`, `endings`) by rules that ask nothing more. Jobs
that merely wait for other jobs are not told one by one: they stand behind what really holds them up.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, islice
from typing import Final

import msgspec

from headway.core.clock import from_us
from headway.core.errors import NotFoundError
from headway.core.states import State
from headway.projections.answers import Finding, Service, WhyAll, WhyGroup, WhyJob, WhyRun
from headway.projections.causes import Cause
from headway.projections.due import DUE_US, due, trouble_of
from headway.projections.endings import WAS, attempt_words, blocker_of, jobs_of, why_ended, why_run_ended
from headway.projections.expected import Kind, past_of
from headway.projections.ground import (
    ADMITTED,
    HELD_STATES,
    JOB_SELECT,
    QUEUED,
    RUN_SELECT,
    Ground,
    Moment,
    Open,
    Run,
    ground_of,
    last_event,
    rows,
    whole,
)
from headway.projections.groups import first_of, group_record, key_of, packs_of
from headway.projections.judging import Close, behind, judge, waits
from headway.projections.offered import nearest
from headway.projections.queued import Lines
from headway.projections.reader import Connection
from headway.projections.tables import AttemptRow, long_id, quoted
from headway.projections.words import listed, person, span

LIMIT: Final = 50
BEHIND_MOST: Final = 20
FORESEEN_MOST: Final = 1000
"""So many holders, and so many in line, are gone through for what they are."""


async def why_all(db: Connection, moment: Moment, *, limit: int = LIMIT) -> WhyAll:
    """Everything that waits, the longest waiting first."""
    ground = await ground_of(db, moment)
    ground.known = await past_of(db, _foreseen(ground, ground.jobs))
    waiting = [job for job in ground.jobs if job.state == QUEUED or waits(ground, job)]
    alone = [run for run in ground.runs.values() if run.over == run.jobs or run.known < run.jobs]
    folded = sum(1 for job in ground.jobs if job.state == ADMITTED) - sum(1 for job in waiting if job.state == ADMITTED)
    everything: list[Open | Run] = [*waiting]
    if alone:
        everything = sorted([*waiting, *alone], key=_age)
    told, groups = await _grouped(db, ground, everything, limit)
    return WhyAll(
        service=await _trouble(db, moment),
        total=len(everything),
        jobs_waiting=len(waiting) + folded,
        waiting=told,
        groups=groups,
    )


async def why_run(db: Connection, moment: Moment, *, run: str, job: str = "", limit: int = LIMIT) -> WhyRun:
    """Why a run is where it is, or one job of it. Raises NotFoundError."""
    found = [Run(*row) for row in await rows(db, f"{RUN_SELECT} where run = ?", run)]
    if not found:
        raise NotFoundError(f"there is no run {run}", next="'headway runs' lists what there is")
    head, over = found[0], found[0].outcome is not None
    ground = Ground(moment, runs=[head], jobs=[], machines=[]) if over else await ground_of(db, moment)
    ground.runs.setdefault(run, head)
    mine = [await _asked(db, run, job)] if job else list(ground.open_of.get(run, {}).values())
    ground.known = await past_of(db, _foreseen(ground, chain(mine, ground.jobs)))
    finding = await why_run_ended(db, head) if over else await _why_open(db, ground, head)
    record, service = _run_record(ground, head, finding), None if over else await _trouble(db, moment)
    if job:
        [(told, _)] = (await _told(db, ground, Lines(ground), mine)).values()
        return WhyRun(service=None if told.outcome else service, run=record, total=1, jobs=[], job=told)
    if over:
        failed = f"{JOB_SELECT} where run = ? and outcome = 'failed' order by seq_entered"
        jobs = [Open(*row) for row in await rows(db, failed, run)]
    else:
        jobs = [one for one in mine if one.state != ADMITTED or not ground.waits_on(one)]
        jobs.sort(key=_age)
    shown, groups = await _grouped(db, ground, jobs, limit)
    return WhyRun(service=service, run=record, total=len(jobs), jobs=shown, groups=groups)


async def _asked(db: Connection, run: str, job: str) -> Open:
    """The job that was asked for. Raises NotFoundError, with the name that was meant if one is near."""
    known = {one.job: one for one in await jobs_of(db, run)}
    if job in known:
        return known[job]
    near = nearest(job, known)
    meant = f"did you mean {near!r}? " if near else ""
    raise NotFoundError(f"run {run} has no job {job!r}", next=f"{meant}'headway show {run}' lists its jobs")


async def _grouped(
    db: Connection, ground: Ground, everything: Sequence[Open | Run], limit: int
) -> tuple[list[WhyJob], list[WhyGroup]]:
    """The first ones of these, each for itself; and all of them by groups, the first ones of those."""
    found, lines = packs_of(ground, everything), Lines(ground)
    packs, numbers = list(found.values())[:limit], {key: at for at, key in enumerate(found, 1)}
    firsts = [pack if isinstance(pack, Run) else first_of(pack) for pack in packs]
    wanted = {one.key: one for one in (*everything[:limit], *firsts) if isinstance(one, Open)}
    judged = await _told(db, ground, lines, list(wanted.values()))
    told = {
        key: (msgspec.structs.replace(one, group=numbers[key_of(ground, wanted[key])]), finding)
        for key, (one, finding) in judged.items()
    }
    runs = {one.run: one for one in (*everything[:limit], *firsts) if isinstance(one, Run)}
    for run in runs.values():
        finding = await _why_open(db, ground, run)
        record = msgspec.structs.replace(_run_record(ground, run, finding), group=numbers[(run.run,)])
        told[(run.run, "")] = (record, finding)
    waiting = [told[_key(one)][0] for one in everything[:limit]]
    groups = []
    for pack, first in zip(packs, firsts, strict=True):
        record, finding = told[_key(first)]
        groups.append(group_record(ground, lines, pack, first=record, finding=finding))
    return waiting, groups


def _key(one: Open | Run) -> tuple[str, str]:
    return one.key if isinstance(one, Open) else (one.run, "")


async def _trouble(db: Connection, moment: Moment) -> Service | None:
    """What keeps everything from moving, and how old what is known is."""
    trouble = trouble_of(moment)
    if trouble is None:
        return None
    [(logged,)] = await rows(db, "select logged from meta")
    return msgspec.structs.replace(trouble, behind_ms=max(0, moment.now_us - logged) // 1000)


def _age(one: Open | Run) -> tuple[int, int]:
    return (one.entered, one.seq) if isinstance(one, Open) else (one.admitted, one.seq)


def _foreseen(ground: Ground, jobs: Iterable[Open]) -> Iterator[Kind]:
    """The kinds of jobs whose usual time matters: first of those that hold slots, then of those in line."""
    holders = sorted((one for held in ground.held_by.values() for one in held), key=_age)
    waiting = (one for one in jobs if one.outcome is None and one.state not in (ADMITTED, *HELD_STATES))
    for one in chain(islice(holders, FORESEEN_MOST), islice(waiting, FORESEEN_MOST)):
        if one.run in ground.runs:
            yield ground.kind_of(one)


async def _told(
    db: Connection, ground: Ground, lines: Lines, jobs: Sequence[Open]
) -> dict[tuple[str, str], tuple[WhyJob, Finding]]:
    """What there is to say of these jobs, and how it was found, by their keys."""
    read = await whole(db, jobs)
    complete = [read.get(job.key, job) for job in jobs]
    closely = await _closely(db, ground, [one for one in complete if one.outcome is None])
    told = {}
    for job in complete:
        if job.outcome is not None:
            finding = await why_ended(db, ground.runs[job.run], job)
        else:
            finding = judge(ground, lines, job, closely.get(job.key, Close()))
        if finding.cause in (Cause.UNEXPLAINED, Cause.PAUSED_RUN):
            finding = await _checked(db, ground, job, finding)
        told[job.key] = (_job_record(ground, job, finding), finding)
    return told


async def _checked(db: Connection, ground: Ground, job: Open, finding: Finding) -> Finding:
    """What the run's own events say besides: who paused it; and that it was resumed only just now."""
    kind = "run.paused" if finding.cause is Cause.PAUSED_RUN else "run.resumed"
    seq, time = await last_event(db, job.run, kind)
    if finding.cause is Cause.PAUSED_RUN:
        return msgspec.structs.replace(finding, evidence=(*([seq] if seq else []), *finding.evidence))
    if ground.now_us - time > DUE_US:
        return finding
    return due(ground, what="its run goes on", since_us=time, evidence=(seq, *finding.evidence))


_STEPS: Final = """
select w.value ->> 0, w.value ->> 1, s.name, s.started from json_each(?) w cross join steps s
where s.run = w.value ->> 0 and s.job = w.value ->> 1 and s.attempt = w.value ->> 2 and s.outcome is null
order by s.step
"""
_ATTEMPTS: Final = f"""
select {", ".join(f"a.{quoted((column,))}" for column in AttemptRow.__struct_fields__)}
from json_each(?) w cross join attempts a
where a.run = w.value ->> 0 and a.job = w.value ->> 1 and a.attempt = w.value ->> 2
"""


async def _closely(db: Connection, ground: Ground, jobs: Sequence[Open]) -> dict[tuple[str, str], Close]:
    """What is only worth reading of jobs that are told about."""
    found: dict[tuple[str, str], dict[str, object]] = {}
    at_work = [(*one.key, one.attempt) for one in jobs if one.state == State.EXECUTING.value and one.held]
    for run, job, step, since in await rows(db, _STEPS, _json(at_work)) if at_work else ():
        found[(run, job)] = {"step": step, "step_since": since}
    again = [(*one.key, one.attempt - 1) for one in jobs if one.attempt > 1 and one.state not in HELD_STATES]
    ended = [(*one.key, one.attempt) for one in jobs if one.state in HELD_STATES and not one.held]
    for asked in (again, ended):
        for row in await rows(db, _ATTEMPTS, _json(asked)) if asked else ():
            attempt = AttemptRow(*row)
            words = attempt_words(attempt).words
            if asked is again and attempt.ended is not None:
                words = f"{words.partition(' after ')[0]} {span((ground.now_us - attempt.ended) // 1000)} ago"
            found[(attempt.run, attempt.job)] = {"before" if asked is again else "ended": words}
    for job in jobs:
        if job.state == ADMITTED and not ground.waits_on(job) and job.depends_on:
            known = {one.job: one for one in await jobs_of(db, job.run)}
            blocker = blocker_of(known, job)
            if blocker is not None:
                found[job.key] = {"ended": f"{blocker.job} {WAS[blocker.outcome or '']}, so it is to be skipped"}
    return {key: msgspec.convert(close, Close) for key, close in found.items()}


def _json(keys: Sequence[tuple[str, str, int]]) -> str:
    return msgspec.json.encode(keys).decode()


def _job_record(ground: Ground, job: Open, finding: Finding) -> WhyJob:
    run = ground.runs[job.run]
    held_up = behind(ground, [job]) if job.outcome is None else []
    since = job.entered
    return WhyJob(
        run=job.run,
        project=run.project,
        pipeline=run.pipeline,
        job=job.job,
        attempt=job.attempt,
        state=job.state,
        outcome=job.outcome,
        since=from_us(since),
        age_ms=max(0, ground.now_us - since) // 1000,
        holder=job.holder,
        because=long_id(job.run, job.cause),
        cause=finding.cause,
        words=finding.words,
        unblocks=finding.unblocks,
        unknown=finding.unknown,
        also=finding.also,
        evidence=tuple(dict.fromkeys(one for one in finding.evidence if one)),
        behind=len(held_up),
        behind_jobs=tuple(one.job for one in held_up[:BEHIND_MOST]),
        facts=finding.facts,
    )


def _run_record(ground: Ground, run: Run, finding: Finding) -> WhyJob:
    since = run.admitted if run.completed is None else run.completed
    return WhyJob(
        run=run.run,
        project=run.project,
        pipeline=run.pipeline,
        job="",
        attempt=0,
        state="open" if run.outcome is None else State.COMPLETED.value,
        outcome=run.outcome,
        since=from_us(since),
        age_ms=max(0, ground.now_us - since) // 1000,
        holder="",
        because="",
        cause=finding.cause,
        words=finding.words,
        unblocks=finding.unblocks,
        unknown=finding.unknown,
        also=finding.also,
        evidence=tuple(dict.fromkeys(one for one in finding.evidence if one)),
        behind=0,
        behind_jobs=(),
        facts=finding.facts,
    )


async def _why_open(db: Connection, ground: Ground, run: Run) -> Finding:
    """What a run that is not over waits for."""
    seq = (run.seq,)
    if run.known < run.jobs:
        return due(
            ground,
            what=f"its plan is being read: {run.known} of {run.jobs} jobs are known",
            since_us=run.admitted,
            evidence=seq,
        )
    if run.over == run.jobs:
        return await _unsealed(db, ground, run)
    mine = ground.open_of.get(run.run, {}).values()
    roots = [one for one in mine if one.state != ADMITTED or not ground.waits_on(one)]
    roots.sort(key=lambda one: (one.state in HELD_STATES, one.entered, one.seq))
    named = [f"{one.job} ({one.state} for {span((ground.now_us - one.entered) // 1000)})" for one in roots]
    words = f"{run.over} of {run.jobs} jobs completed"
    words += f"; it waits for {listed(named)}"
    if run.failed:
        sql = "select job from jobs where run = ? and outcome = 'failed' order by seq_entered"
        words += f"; {listed([name for (name,) in await rows(db, sql, run.run)])} failed"
    if run.paused_since is not None:
        words += f"; {person(run.paused_by)} paused it"
    if run.cancel_reason is not None:
        words += f"; {person(run.cancelled_by)} cancelled it"
    return Finding(cause=Cause.JOBS, words=words, unblocks="", evidence=seq)


_GATHERED: Final = """
select job, attempt, runner from attempts
where run = ? and state = 'lost' and output is null and output_missing = '' order by job, attempt
"""


async def _unsealed(db: Connection, ground: Ground, run: Run) -> Finding:
    found = await rows(db, _GATHERED, run.run)
    if found:
        lost = listed([f"{job} (attempt {attempt}, lost with {runner})" for job, attempt, runner in found])
        return Finding(
            cause=Cause.SEALING,
            words=f"every job has completed, and the output of {lost} is being gathered",
            unblocks="that output, or the word that it cannot be had",
            evidence=(run.seq,),
        )
    [(last,)] = await rows(db, "select coalesce(max(completed), 0) from jobs where run = ?", run.run)
    return due(ground, what="every job has completed", since_us=max(last, run.admitted), evidence=(run.seq,))
