"""Why a job that is ready has no slot: everything that holds it up, the first of which is the answer.

What people have stopped comes first, then what nobody offers, then what others hold. Where nothing is left, the
coordinator's word is due, or something is wrong that the facts do not show; then that is said, and nothing invented.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from difflib import get_close_matches
from functools import cached_property
from typing import Final, NamedTuple

from headway.core.clock import from_us
from headway.core.queue import Waiting
from headway.projections.answers import Facts, Finding, Holds, with_also
from headway.projections.causes import Cause
from headway.projections.due import due
from headway.projections.ground import PRESENT, Ground, Machine, Open
from headway.projections.line import FORESEEN, expected_wait, in_order
from headway.projections.words import about, because, command, counted, listed, person, short, span

HOLDERS_MOST: Final = 10
"""So many holders and runners are told; all of them count."""

NEAR: Final = 0.6

LOCAL: Final = "local"
SERVICES_OWN: Final = "the service starts it again by itself, when it runs; headway doctor says more"
"""What brings back the runner that comes with the service."""

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
        settled_us = max(ground.settled_us, job.entered, job.start_after)
        what, seen = "it can be given to a runner", (job.seq_entered,)
        return due(ground, what=what, since_us=settled_us, evidence=seen, excluded=EXCLUDED)
    return with_also(found[0], tuple(one.words for one in found[1:]))


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
    """Its last attempt failed, and this one backs off."""
    if job.start_after <= ground.now_us:
        return None
    until, left = from_us(job.start_after), span((job.start_after - ground.now_us) // 1000)
    return Finding(
        cause=Cause.BACK_OFF,
        words=f"attempt {job.attempt - 1} failed, so attempt {job.attempt} rests for another {left}, "
        f"until {until:%H:%M:%S} UTC",
        unblocks=f"time: it is in line for a slot in {left}",
        evidence=(job.seq_entered,),
        facts=Facts(start_after=until),
    )


def not_offered(ground: Ground, lines: Lines, job: Open) -> Finding | None:
    """No runner that takes work has its labels."""
    if ground.fitting(job.labels):
        return None
    wanted = frozenset(job.labels)
    drained = [one for one in ground.present if one.labels >= wanted]
    if drained:
        return _drained(ground, job, drained)
    gone = max(
        (one for one in ground.machines.values() if one.state not in PRESENT and one.labels >= wanted),
        key=lambda one: one.changed,
        default=None,
    )
    if gone is not None:
        return _gone(ground, job, gone)
    return _no_runner(ground, job) if not ground.present else _no_label(ground, job)


def _drained(ground: Ground, job: Open, drained: list[Machine]) -> Finding:
    last = max(drained, key=lambda one: one.changed)
    by = person(last.drained_by) if last.drained_by else "somebody"
    age = span((ground.now_us - last.changed) // 1000)
    names = [one.runner for one in drained]
    having = f" with {_labels(job.labels)}" if job.labels else ""
    word = f"the only runner{having}, {names[0]}," if len(names) == 1 else f"every runner{having} ({listed(names)})"
    return Finding(
        cause=Cause.DRAINING,
        words=f"{word} takes nothing new: {by} drained {'it' if len(names) == 1 else last.runner} {age} ago"
        f"{because(last.reason)}",
        unblocks=command("runners", "resume", last.name),
        evidence=(job.seq_entered, *(one.drained_seq for one in drained[:HOLDERS_MOST] if one.drained_seq)),
        facts=Facts(labels_wanted=job.labels, runners_with_label=tuple(names[:HOLDERS_MOST])),
    )


def _gone(ground: Ground, job: Open, gone: Machine) -> Finding:
    how = _went(ground, gone)
    labels = f"{_labels(job.labels)}" if job.labels else ""
    has = f"no runner has {labels}; {gone.runner} had {'it' if len(job.labels) == 1 else 'them'} until it {how}"
    return Finding(
        cause=Cause.LABEL_GONE if labels else Cause.NO_RUNNER,
        words=has if labels else f"there is no runner; {gone.runner} {how}",
        unblocks=SERVICES_OWN if gone.name == LOCAL else f"start it again: {_start(job.labels, gone.name)}",
        evidence=(job.seq_entered, gone.seq),
        facts=Facts(labels_wanted=job.labels, runners_with_label=(gone.runner,)),
    )


def _went(ground: Ground, gone: Machine) -> str:
    """How and when a runner went."""
    age = span((ground.now_us - gone.changed) // 1000)
    return f"was lost {age} ago{because(gone.reason)}" if gone.state == "lost" else f"left {age} ago"


def _no_runner(ground: Ground, job: Open) -> Finding:
    last = f"; the last one, {ground.last_gone.runner}, {_went(ground, ground.last_gone)}" if ground.last_gone else ""
    return Finding(
        cause=Cause.NO_RUNNER,
        words="there is no runner" + (f", so none has {_labels(job.labels)}" if job.labels else "") + last,
        unblocks=f"start one: {_start(job.labels)}",
        evidence=(job.seq_entered,),
        facts=Facts(labels_wanted=job.labels),
    )


def _no_label(ground: Ground, job: Open) -> Finding:
    offered = {label: one for one in ground.present for label in sorted(one.labels)}
    missing = [label for label in job.labels if label not in offered]
    if not missing:
        return _apart(ground, job, offered)
    words, near, having = f"no runner has {_labels(missing)}", _like(missing, offered), None
    if near:
        having = offered[near]
        words += f"; the nearest is {near}, which {having.runner} has"
    else:
        were = {label: one for one in ground.machines.values() for label in sorted(one.labels)}
        near = _like(missing, were)
        if near:
            having = were[near]
            words += f"; the nearest is {near}, which {having.runner} had until it {_went(ground, having)}"
    start = f"start a runner with it: {_start(job.labels)}"
    return Finding(
        cause=Cause.NO_LABEL,
        words=words,
        unblocks=f"correct runs_on of the job, or {start}" if near else f"{start}, or correct runs_on of the job",
        evidence=(job.seq_entered, *([having.seq] if having else [])),
        facts=Facts(
            labels_wanted=job.labels, nearest_label=near, runners_with_label=(having.runner,) if having else ()
        ),
    )


def _like(missing: Iterable[str], offered: Iterable[str]) -> str:
    """The label that may have been meant by one that is missing, "" when there is none."""
    return next((found for label in missing if (found := nearest(label, offered))), "")


def _apart(ground: Ground, job: Open, offered: dict[str, Machine]) -> Finding:
    having = [f"{offered[label].runner} has {label}" for label in job.labels]
    return Finding(
        cause=Cause.LABELS_APART,
        words=f"no runner has {_labels(job.labels)} together: {listed(having)}",
        unblocks=f"start a runner with all of them: {_start(job.labels)}",
        evidence=(job.seq_entered, *dict.fromkeys(offered[label].seq for label in job.labels)),
        facts=Facts(
            labels_wanted=job.labels,
            runners_with_label=tuple(dict.fromkeys(offered[label].runner for label in job.labels)),
        ),
    )


def nearest(label: str, offered: Iterable[str]) -> str:
    """The label that is most like this one, "" when none is like it."""
    lower = {one.lower(): one for one in offered}
    found = get_close_matches(label.lower(), lower, n=1, cutoff=NEAR)
    return lower[found[0]] if found else ""


def _labels(labels: Sequence[str]) -> str:
    return f"the label {labels[0]}" if len(labels) == 1 else f"the labels {listed(labels, most=8)}"


def _start(labels: Sequence[str], name: str = "") -> str:
    named = ("--name", name) if name else ()
    return command("runners", "start", *named, *(("--labels", ",".join(labels)) if labels else ()))


def group_full(ground: Ground, lines: Lines, job: Open) -> Finding | None:
    """Its concurrency group has no room."""
    holders = ground.in_group.get(job.group, []) if job.group else []
    limit = max(1, job.limit)
    if len(holders) < limit or not holders:
        return None
    order, places = lines.of_group(job.group)
    position = places.get(job.key, 0)
    held = _held(ground, holders)
    left = [ground.left_ms(one) for one in holders]
    wait = expected_wait(left, []) if position == 1 else None
    place = f"; it is number {position} of {len(order)} in line for it"
    taken = _taken(ground, job, holders)
    return Finding(
        cause=Cause.GROUP,
        words=f"its concurrency group {job.group} allows {limit} at a time, and is taken {taken}{place}",
        unblocks=_end_of(held, wait, "a place in the group"),
        unknown=_unknown_end(held, left),
        evidence=(job.seq_entered, *(one.seq_entered for one in holders[:HOLDERS_MOST])),
        facts=Facts(
            group=job.group,
            group_limit=limit,
            held_by=held,
            queue_position=position,
            queue_length=len(order),
            expected_wait_ms=wait,
        ),
    )


def slots_busy(ground: Ground, lines: Lines, job: Open) -> Finding | None:
    """Every slot that fits is taken."""
    machines = ground.fitting(job.labels)
    if not machines or any(ground.free(one) > 0 for one in machines):
        return None
    holders = sorted(
        (held for one in machines for held in ground.held_by.get(one.runner, ())), key=lambda one: one.entered
    )
    slots = sum(one.slots for one in machines)
    order, places = lines.through(machines)
    position = places.get(job.key, 0)
    left = [ground.left_ms(one) for one in holders]
    wait = _until_slot(ground, left, order[: position - 1]) if position else None
    held = _held(ground, holders)
    place = f"; it is number {position} of {len(order)} in line" if position else ""
    which = "the only slot that fits is" if slots == 1 else f"all {slots} slots that fit are"
    return Finding(
        cause=Cause.SLOTS,
        words=f"{which} taken {_taken(ground, job, holders)}{place}",
        unblocks=_end_of(held, wait, "a slot"),
        unknown=_unknown_end(held, left) or _unknown_ahead(wait, position),
        evidence=(job.seq_entered, *(one.seq_entered for one in holders[:HOLDERS_MOST])),
        facts=Facts(
            labels_wanted=job.labels,
            runners_with_label=tuple(one.runner for one in machines[:HOLDERS_MOST]),
            queue_position=position,
            queue_length=len(order),
            slots=slots,
            held_by=held,
            expected_wait_ms=wait,
        ),
    )


def _until_slot(ground: Ground, left: Sequence[int | None], before: Sequence[Waiting]) -> int | None:
    """How long until a slot is free for who has these before it; None when that is not known."""
    if len(before) > FORESEEN:
        return None
    ahead = [ground.usual_of(ground.open_of[one.run][one.job]) for one in before]
    return expected_wait(left, [one.ms if one else None for one in ahead])


def _held(ground: Ground, holders: Sequence[Open]) -> tuple[Holds, ...]:
    told = []
    for one in holders[:HOLDERS_MOST]:
        usual = ground.usual_of(one)
        told.append(
            Holds(
                run=one.run,
                job=one.job,
                runner=one.runner or "",
                since=from_us(one.started or one.entered),
                expected_left_ms=ground.left_ms(one),
                from_runs=usual.runs if usual else 0,
            )
        )
    return tuple(told)


def _taken(ground: Ground, job: Open, holders: Sequence[Open]) -> str:
    """By whom they are taken, for how long already, and how long that usually takes."""
    said = []
    for one in holders:
        age = span((ground.now_us - (one.started or one.entered)) // 1000)
        usual = ground.usual_of(one)
        usually = f", usually {span(usual.ms)} ({_of(usual.runs)})" if usual else ""
        run = f" of run {short(one.run)}" if one.run != job.run else ""
        said.append(f"{one.job}{run} for {age}{usually}")
    return f"by {listed(said)}"


def _of(runs: int) -> str:
    return f"of {counted(runs, 'past run')}"


def _end_of(held: Sequence[Holds], wait: int | None, what: str) -> str:
    which = f"the end of {held[0].job}" if len(held) == 1 else f"the end of one of these {len(held)} jobs"
    if wait is None:
        return which
    runs = min((one.from_runs for one in held), default=0)
    return f"{which}: {what} is expected {f'in {about(wait)}' if wait else 'any moment'} ({_of(runs)})"


def _unknown_end(held: Sequence[Holds], left: Sequence[int | None]) -> str:
    if None not in left:
        return ""
    job = next((one.job for one in held if one.expected_left_ms is None), "a job")
    return f"how long {job} will take: none of its past runs succeeded"


def _unknown_ahead(wait: int | None, position: int) -> str:
    return "how long the jobs before it will take" if wait is None and position > 1 else ""


CHECKS: Final[tuple[Check, ...]] = (paused, rests, not_offered, group_full, slots_busy)
"""In this order: the first that applies is the cause, the others are said beside it."""
