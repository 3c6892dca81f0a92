"""Why no runner may take a job: its labels are unknown, have gone, are apart, or who has them takes nothing new.

A label that nobody has or had is named before one whose runner went: starting that runner again would not help.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from typing import Final

from headway.projections.answers import Facts, Finding
from headway.projections.causes import Cause
from headway.projections.ground import PRESENT, Ground, Machine, Open
from headway.projections.taken import HOLDERS_MOST
from headway.projections.words import because, command, listed, person, span

NEAR: Final = 0.6
LABELS_MOST: Final = 5
"""So many labels are told when none is near."""

LOCAL: Final = "local"
SERVICES_OWN: Final = "the service starts it again by itself, when it runs; headway doctor says more"
"""What brings back the runner that comes with the service."""


def not_offered(ground: Ground, job: Open) -> Finding | None:
    """Why no runner that takes work has the job's labels; None when one has them."""
    if ground.fitting(job.labels):
        return None
    wanted = frozenset(job.labels)
    drained = [one for one in ground.present if one.labels >= wanted]
    if drained:
        return _drained(ground, job, drained)
    had = _by_label(ground.machines.values())
    unknown = [label for label in job.labels if label not in had]
    gone = max(
        (one for one in ground.machines.values() if one.state not in PRESENT and one.labels >= wanted),
        key=lambda one: one.changed,
        default=None,
    )
    if not ground.present and (gone is None or unknown):
        return _no_runner(ground, job, unknown)
    if unknown:
        return _no_label(ground, job, unknown)
    offered = _by_label(ground.present)
    if job.labels and all(label in offered for label in job.labels):
        return _apart(ground, job, offered, gone)
    return _gone(ground, job, gone) if gone is not None else _gone_apart(ground, job, had)


def _by_label(machines: Iterable[Machine]) -> dict[str, Machine]:
    """Who has each label: one that is here before one that went, the last one of several."""
    found = sorted(machines, key=lambda one: (one.state in PRESENT, one.changed if one.state not in PRESENT else 0))
    return {label: one for one in found for label in sorted(one.labels)}


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
    how, offered = _went(ground, gone), _by_label(ground.present)
    missing = [label for label in job.labels if label not in offered]
    has = f"no runner has {_labels(missing)}; {gone.runner} had {'it' if len(missing) == 1 else 'them'} until it {how}"
    return Finding(
        cause=Cause.LABEL_GONE if missing else Cause.NO_RUNNER,
        words=has if missing else f"there is no runner; {gone.runner} {how}",
        unblocks=SERVICES_OWN if gone.name == LOCAL else f"start it again: {_start(job.labels, gone.name)}",
        evidence=(job.seq_entered, gone.seq),
        facts=Facts(labels_wanted=job.labels, runners_with_label=(gone.runner,)),
    )


def _gone_apart(ground: Ground, job: Open, had: Mapping[str, Machine]) -> Finding:
    """The labels that are missing were on several runners, all of which have gone."""
    missing = [label for label in job.labels if had[label].state not in PRESENT]
    said = [f"{had[label].runner} had {label} until it {_went(ground, had[label])}" for label in missing]
    return Finding(
        cause=Cause.LABEL_GONE,
        words=f"no runner has {_labels(missing)}; {listed(said)}",
        unblocks=f"start a runner with all of them: {_start(job.labels)}",
        evidence=(job.seq_entered, *dict.fromkeys(had[label].seq for label in missing)),
        facts=Facts(
            labels_wanted=job.labels,
            runners_with_label=tuple(dict.fromkeys(had[label].runner for label in missing)),
        ),
    )


def _went(ground: Ground, gone: Machine) -> str:
    """How and when a runner went."""
    age = span((ground.now_us - gone.changed) // 1000)
    return f"was lost {age} ago{because(gone.reason)}" if gone.state == "lost" else f"left {age} ago"


def _no_runner(ground: Ground, job: Open, unknown: Sequence[str]) -> Finding:
    last = f"; the last one, {ground.last_gone.runner}, {_went(ground, ground.last_gone)}" if ground.last_gone else ""
    near, having = _like(ground, unknown)
    also = f"no runner had {_labels(unknown)}{_nearest(ground, unknown, near, having)}" if having else ""
    return Finding(
        cause=Cause.NO_RUNNER,
        words="there is no runner" + (f", so none has {_labels(job.labels)}" if job.labels else "") + last,
        unblocks=f"start one: {_start(job.labels)}" + (", or correct runs_on of the job" if near else ""),
        also=(also,) if also else (),
        evidence=(job.seq_entered, *([having.seq] if having else [])),
        facts=Facts(
            labels_wanted=job.labels, nearest_label=near, runners_with_label=(having.runner,) if having else ()
        ),
    )


def _no_label(ground: Ground, job: Open, unknown: Sequence[str]) -> Finding:
    near, having = _like(ground, unknown)
    words = f"no runner has {_labels(unknown)}"
    words += _nearest(ground, unknown, near, having) if having else _labels_there_are(ground)
    offered = _by_label(ground.present)
    had = _by_label(ground.machines.values())
    gone = [label for label in job.labels if label in had and label not in offered]
    start = f"start a runner with {'it' if len(job.labels) == 1 else 'them'}: {_start(job.labels)}"
    return Finding(
        cause=Cause.NO_LABEL,
        words=words,
        unblocks=f"correct runs_on of the job, or {start}" if near else f"{start}, or correct runs_on of the job",
        also=tuple(
            f"no runner has the label {label} now; {had[label].runner} had it until it {_went(ground, had[label])}"
            for label in gone
        ),
        evidence=(job.seq_entered, *([having.seq] if having else [])),
        facts=Facts(
            labels_wanted=job.labels, nearest_label=near, runners_with_label=(having.runner,) if having else ()
        ),
    )


def _like(ground: Ground, unknown: Iterable[str]) -> tuple[str, Machine | None]:
    """The label that may have been meant by one that nobody has, and who has or had it; "" when there is none."""
    labels = list(unknown)
    for offered in (_by_label(ground.present), _by_label(ground.machines.values())):
        for label in labels:
            if near := nearest(label, offered):
                return near, offered[near]
    return "", None


def _nearest(ground: Ground, unknown: Sequence[str], near: str, having: Machine | None) -> str:
    """The label that is near, and who has it or had it."""
    if having is None:
        return ""
    meant = next(label for label in unknown if nearest(label, [near]))
    has = "has" if having.state in PRESENT else f"had until it {_went(ground, having)}"
    return f"; the nearest{f' to {meant}' if len(unknown) > 1 else ''} is {near}, which {having.runner} {has}"


def _labels_there_are(ground: Ground) -> str:
    labels = sorted(_by_label(ground.present))
    if len(labels) == 1:
        return f"; the only label there is is {labels[0]}"
    return f"; the labels there are: {listed(labels, most=LABELS_MOST)}" if labels else ""


def _apart(ground: Ground, job: Open, offered: Mapping[str, Machine], gone: Machine | None) -> Finding:
    having = [f"{offered[label].runner} has {label}" for label in job.labels]
    again = gone.name if gone is not None and gone.name != LOCAL else ""
    return Finding(
        cause=Cause.LABELS_APART,
        words=f"no runner has {_labels(job.labels)} together: {listed(having)}",
        unblocks=f"start a runner with all of them: {_start(job.labels, again)}",
        also=(f"{gone.runner} had all of them until it {_went(ground, gone)}",) if gone else (),
        evidence=(
            job.seq_entered,
            *dict.fromkeys(offered[label].seq for label in job.labels),
            *([gone.seq] if gone else []),
        ),
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
