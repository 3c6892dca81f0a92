"""Jobs that are where they are for the same cause, told once: nobody reads the same sentence three hundred times.

A group is of one run. What makes its jobs alike is read off the facts before anything is judged, so that a group costs
as much as its first job.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from headway.projections.answers import Finding, WhyGroup, WhyJob
from headway.projections.causes import Cause
from headway.projections.ground import HELD_STATES, QUEUED, Ground, Open, Run
from headway.projections.judging import behind, late
from headway.projections.queued import Lines, expected_slot
from headway.projections.silence import silent_ms
from headway.projections.words import listed

NAMES_MOST = 20
BEHIND_MOST = 20

Key = tuple[object, ...]
Pack = list[Open] | Run
"""The jobs of a group, or a run that is told by itself."""


def packs_of(ground: Ground, told: Iterable[Open | Run]) -> dict[Key, Pack]:
    """What is to be told, by groups, each where its first job stood."""
    found: dict[Key, Pack] = {}
    for one in told:
        key = (one.run,) if isinstance(one, Run) else key_of(ground, one)
        pack = found.get(key)
        if pack is None:
            found[key] = one if isinstance(one, Run) else [one]
        elif isinstance(one, Open) and isinstance(pack, list):
            pack.append(one)
    return found


def key_of(ground: Ground, job: Open) -> Key:
    """What is the same of all jobs of a group."""
    if job.outcome is not None:
        return job.run, job.outcome, job.reason, job.failure
    if job.state == QUEUED:
        rests = job.rest_us and job.rests_until > ground.now_us
        return job.run, job.labels_text, job.group, job.limit, rests > 0, job.cancel_reason
    if job.state not in HELD_STATES:
        return job.run, job.state
    silent = job.runner if job.held and silent_ms(ground, job) is not None else None
    return job.run, job.state, job.held, job.cancel_reason, silent, late(ground, job)


def first_of(pack: Sequence[Open]) -> Open:
    """The job that a group is told by: the first in line, of those that rest the first to be in line."""
    return min(pack, key=lambda one: (one.rests_until, one.seq_entered, one.seq))


def group_record(ground: Ground, lines: Lines, pack: Pack, *, first: WhyJob, finding: Finding) -> WhyGroup:
    """What is said of a group, given what is said of its first job."""
    jobs = [] if isinstance(pack, Run) else sorted(pack, key=lambda one: (one.rests_until, one.seq_entered, one.seq))
    alone, wait, runs = len(jobs) < 2, None, 0
    if not alone and finding.cause is Cause.SLOTS:
        wait, runs = expected_slot(ground, lines, jobs[-1])
    held_up = [] if first.outcome is not None else behind(ground, jobs)
    return WhyGroup(
        group=first.group,
        jobs=len(jobs),
        names=tuple(one.job for one in jobs[:NAMES_MOST]),
        age_ms=max((ground.now_us - one.entered for one in jobs), default=first.age_ms * 1000) // 1000,
        words=first.words if alone else _words(jobs, first, finding),
        unblocks=first.unblocks if alone else _unblocks(first, finding),
        unknown="" if not alone and finding.cause in _AT_WORK else first.unknown,
        behind=len(held_up),
        behind_jobs=tuple(one.job for one in held_up[:BEHIND_MOST]),
        expected_last_ms=wait,
        expected_from=runs,
        first=first,
    )


_AT_WORK = frozenset({Cause.ASSIGNED, Cause.PREPARING, Cause.EXECUTING, Cause.UPLOADING, Cause.OVERDUE})


def _words(jobs: Sequence[Open], first: WhyJob, finding: Finding) -> str:
    """The sentence of several jobs: what is the same of all of them, and who is the first of them in line."""
    if finding.cause in _AT_WORK:
        return _at_work(jobs, finding.cause)
    words = finding.shared or f"the first, {first.job}: {first.words}"
    position = finding.facts.queue_position
    if position == 1:
        words += f"; next is {first.job}"
    elif position:
        words += f"; the first of them, {first.job}, is number {position} of {finding.facts.queue_length} in line"
    return words


def _at_work(jobs: Sequence[Open], cause: Cause) -> str:
    by_runner: dict[str, int] = {}
    for one in jobs:
        by_runner[one.runner or ""] = by_runner.get(one.runner or "", 0) + 1
    whom = listed([f"{runner} ({number})" for runner, number in by_runner.items()])
    if cause is Cause.ASSIGNED:
        return f"given to {whom}, and not accepted yet"
    return f"on {whom}" + ("; each takes much longer than it usually does" if cause is Cause.OVERDUE else "")


def _unblocks(first: WhyJob, finding: Finding) -> str:
    if finding.cause is Cause.ASSIGNED or finding.cause not in _AT_WORK:
        return first.unblocks
    return "their end"
