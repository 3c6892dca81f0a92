"""Why a job that is ready has no slot: everything that holds it up, the first of which is the answer.

What people have stopped comes first, then what nobody offers, then what others hold. Where nothing is left, the
coordinator's word is due, or something is wrong that the facts do not show; then that is said, and nothing invented.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from typing import Final, NamedTuple

import msgspec

from headway.core.clock import from_us
from headway.core.queue import Waiting
from headway.projections.answers import Facts, Finding
from headway.projections.causes import Cause
from headway.projections.due import due
from headway.projections.ground import Ground, Machine, Open
from headway.projections.line import in_order
from headway.projections.offered import not_offered
from headway.projections.taken import HOLDERS_MOST, Taken
from headway.projections.words import because, command, counted, person, span

EXCLUDED: Final = (
    "neither its run nor everything is paused",
    "it does not rest after a failed attempt",
    "a runner that takes work has its labels",
    "its concurrency group has room, or it has none",
    "a slot of such a runner is free",
)
"""What has been looked at when none of `CHECKS` has found anything."""


class Line(NamedTuple):
    """Who is in line, in order, and everybody's place, from 1."""

    order: list[Waiting]
    places: dict[tuple[str, str], int]


class Lines:
    """The order of the queue for each kind of runner and each group, made when it is first asked for."""

    def __init__(self, ground: Ground) -> None:
        self._ground = ground
        self._made: dict[frozenset[str] | str, Line] = {}

    @cached_property
    def waiting(self) -> list[Waiting]:
        """The scheduler's queue."""
        return self._ground.waiting()

    def through(self, machines: Sequence[Machine]) -> Line:
        """Who would get the slots of these runners."""
        key = frozenset(one.runner for one in machines)
        if key not in self._made:
            offers = {one.labels for one in machines}
            asked = {one.labels for one in self.waiting}
            fits = {labels: any(one.issuperset(labels) for one in offers) for labels in asked}
            candidates = (one for one in self.waiting if fits[one.labels])
            self._made[key] = self._line(candidates, self._ground.group_held())
        return self._made[key]

    def of_group(self, group: str) -> Line:
        """Who would get the places of a concurrency group."""
        if group not in self._made:
            candidates = (one._replace(group="") for one in self.waiting if one.group == group)
            self._made[group] = self._line(candidates, {})
        return self._made[group]

    def _line(self, candidates: Iterable[Waiting], group_held: dict[str, int]) -> Line:
        order = in_order(candidates, project_held=self._ground.project_held, group_held=group_held)
        return Line(order, {(one.run, one.job): at for at, one in enumerate(order, 1)})


Check = Callable[[Ground, Lines, Open], Finding | None]


def why_queued(ground: Ground, lines: Lines, job: Open) -> Finding:
    """Why this job waits in the queue."""
    found = [finding for check in CHECKS if (finding := check(ground, lines, job)) is not None]
    if not found:
        settled_us = max(ground.settled_us, job.entered, job.rests_until)
        what, seen = "it can be given to a runner", (job.seq_entered,)
        return due(ground, what=what, since_us=settled_us, evidence=seen, excluded=EXCLUDED)
    first, *others = found
    also = [words for one in others for words in (one.words, *one.also)]
    return msgspec.structs.replace(first, also=(*first.also, *also), shared=first.shared or first.words)


def paused(ground: Ground, lines: Lines, job: Open) -> Finding | None:
    """Somebody stopped everything, or its run."""
    fleet, run = ground.paused, ground.runs[job.run]
    if fleet.paused_since is not None:
        since, by, reason, what, cause = fleet.paused_since, fleet.paused_by, fleet.paused_reason, "everything", ""
    elif run.paused_since is not None:
        since, by, reason, what, cause = run.paused_since, run.paused_by, run.paused_reason, "the run", job.run
    else:
        return None
    age = span((ground.now_us - since) // 1000)
    return Finding(
        cause=Cause.PAUSED_RUN if cause else Cause.PAUSED_SERVICE,
        words=f"{person(by)} paused {what} {age} ago{because(reason)}",
        unblocks=f"headway resume {cause}".rstrip(),
        evidence=(*([ground.paused_seq] if not cause and ground.paused_seq else []), job.seq_entered),
        facts=Facts(paused_by=by or "", paused_since=from_us(since), paused_reason=reason or ""),
    )


def rests(ground: Ground, lines: Lines, job: Open) -> Finding | None:
    """Its last attempt failed, and this one backs off. The time of day is a fact: whoever reads it knows where."""
    if job.rests_until <= ground.now_us:
        return None
    left = span((job.rests_until - ground.now_us) // 1000)
    return Finding(
        cause=Cause.BACK_OFF,
        words=f"attempt {job.attempt - 1} failed, so attempt {job.attempt} rests for another {left}",
        shared=f"they rest after attempts that failed; the first, {job.job}, for another {left}",
        unblocks=f"time: it is in line for a slot in {left}",
        evidence=(job.seq_entered,),
        facts=Facts(start_after=from_us(job.rests_until)),
    )


def _not_offered(ground: Ground, lines: Lines, job: Open) -> Finding | None:
    return not_offered(ground, job)


def group_full(ground: Ground, lines: Lines, job: Open) -> Finding | None:
    """Its concurrency group has no room."""
    holders = ground.in_group.get(job.group, []) if job.group else []
    limit = max(1, job.limit)
    if len(holders) < limit or not holders:
        return None
    order, places = lines.of_group(job.group)
    position = places.get(job.key, 0)
    taken = Taken(ground, job, holders)
    wait = taken.wait([]) if position == 1 else None
    place = f"; it is number {position} of {len(order)} in line for it" if position else ""
    words = f"its concurrency group {job.group} allows {limit} at a time, and is taken {taken.words}"
    return Finding(
        cause=Cause.GROUP,
        words=words + place,
        shared=words,
        unblocks=taken.unblocks(wait, "a place in the group"),
        unknown=taken.unknown,
        evidence=(job.seq_entered, *(one.seq_entered for one in holders[:HOLDERS_MOST])),
        facts=taken.facts(
            Facts(
                group=job.group,
                group_limit=limit,
                queue_position=position,
                queue_length=len(order),
                expected_wait_ms=wait,
            )
        ),
    )


def slots_busy(ground: Ground, lines: Lines, job: Open) -> Finding | None:
    """Every slot that fits is taken."""
    machines = ground.fitting(job.labels)
    if not machines or any(ground.free(one) > 0 for one in machines):
        return None
    taken = Taken(ground, job, holders_of(ground, machines))
    slots = sum(one.slots for one in machines)
    order, places = lines.through(machines)
    position = places.get(job.key, 0)
    wait = taken.wait(order[: position - 1]) if position else None
    place = f"; it is number {position} of {len(order)} in line" if position else ""
    which = "the only slot that fits is" if slots == 1 else f"all {slots} slots that fit are"
    resume = drained_with_room(ground, job)
    unblocks = taken.unblocks(wait, "a slot")
    return Finding(
        cause=Cause.SLOTS,
        words=f"{which} taken {taken.words}{place}",
        shared=f"{which} taken {taken.words}",
        unblocks=", or ".join([unblocks, *(command("runners", "resume", one.name) for one in resume[:1])]),
        unknown=taken.unknown or ("how long the jobs before it will take" if wait is None and position > 1 else ""),
        also=tuple(_drained_room(ground, one) for one in resume),
        evidence=(
            job.seq_entered,
            *(one.seq_entered for one in taken.holders[:HOLDERS_MOST]),
            *(one.drained_seq for one in resume),
        ),
        facts=taken.facts(
            Facts(
                labels_wanted=job.labels,
                runners_with_label=tuple(one.runner for one in machines[:HOLDERS_MOST]),
                queue_position=position,
                queue_length=len(order),
                slots=slots,
                expected_wait_ms=wait,
            )
        ),
    )


def expected_slot(ground: Ground, lines: Lines, job: Open) -> tuple[int | None, int]:
    """When a job in line gets a slot, and how many past runs say so at least; None for unknown."""
    machines = ground.fitting(job.labels)
    order, places = lines.through(machines)
    position = places.get(job.key, 0)
    if not position or not machines or any(ground.free(one) > 0 for one in machines):
        return None, 0
    holders, before = holders_of(ground, machines), order[: position - 1]
    wait = Taken(ground, job, holders).wait(before)
    if wait is None:
        return None, 0
    usual = [ground.usual_of(one) for one in (*holders, *(ground.open_of[each.run][each.job] for each in before))]
    return wait, min((one.runs for one in usual if one), default=0)


def holders_of(ground: Ground, machines: Iterable[Machine]) -> list[Open]:
    """The jobs that hold the slots of these runners, the longest first."""
    holders = [held for one in machines for held in ground.held_by.get(one.runner, ())]
    return sorted(holders, key=lambda one: (one.entered, one.seq))


def drained_with_room(ground: Ground, job: Open) -> list[Machine]:
    """Runners that fit and have free slots, but take nothing new."""
    wanted = frozenset(job.labels)
    drained = [one for one in ground.present if one.state == "draining" and one.labels >= wanted]
    return [one for one in drained if ground.room(one) > 0][:HOLDERS_MOST]


def _drained_room(ground: Ground, one: Machine) -> str:
    by = person(one.drained_by) if one.drained_by else "somebody"
    age = span((ground.now_us - one.changed) // 1000)
    room = counted(ground.room(one), "free slot")
    return f"{one.runner} fits and has {room}, but takes nothing new: {by} drained it {age} ago{because(one.reason)}"


CHECKS: Final[tuple[Check, ...]] = (paused, rests, _not_offered, group_full, slots_busy)
"""In this order: the first that applies is the cause, the others are said beside it."""
