"""Why an open job is where it is: one judgement for each state, over facts that have been read already."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

import msgspec

from headway.core.states import State
from headway.projections.answers import Facts, Finding
from headway.projections.causes import Cause
from headway.projections.due import due, trouble_of
from headway.projections.ground import ADMITTED, HELD_STATES, PRESENT, QUEUED, Ground, Open
from headway.projections.queued import Lines, why_queued
from headway.projections.silence import heard, lease_left_ms, silent_ms
from headway.projections.taken import longer, of_runs, unknown_end
from headway.projections.words import about, because, command, listed, person, span

ROOTS_MOST: Final = 50
OVERDUE_FACTOR: Final = 2
OVERDUE_LEAST_MS: Final = 10_000
"""A job is late when it has taken twice its usual time, and so much longer than that at least."""

ACCEPT_US: Final = 1_000_000
"""How long a runner may take to accept what it was given before that is called waiting."""


class Close(msgspec.Struct, frozen=True, kw_only=True):
    """What is read only of the jobs that are told about: the step that runs, and how the attempt before ended."""

    step: str = ""
    step_since: int = 0
    before: str = ""
    ended: str = ""


def judge(ground: Ground, lines: Lines, job: Open, close: Close = Close()) -> Finding:
    """Why this open job is where it is."""
    found = _JUDGES[job.state](ground, lines, job, close)
    if close.before and job.state == QUEUED:
        words = found.words
        if found.cause is not Cause.BACK_OFF:
            words = f"{close.before}; {words}"
        return msgspec.structs.replace(found, words=words)
    return found


def roots_of(ground: Ground, job: Open) -> list[Open]:
    """What an admitted job really waits for: the jobs up its dependencies that wait for no other job."""
    seen, roots, todo = {job.job}, dict[str, Open](), [job]
    while todo:
        for one in ground.waits_on(todo.pop()):
            if one.job in seen:
                continue
            seen.add(one.job)
            if one.state == ADMITTED and ground.waits_on(one):
                todo.append(one)
            else:
                roots[one.job] = one
    return sorted(roots.values(), key=lambda one: (one.state in HELD_STATES, one.entered, one.seq))


def behind(ground: Ground, jobs: Sequence[Open]) -> list[Open]:
    """The jobs that wait for these of one run, however far down."""
    dependents = ground.dependents_of(jobs[0].run) if jobs else {}
    if not dependents:
        return []
    found: dict[str, Open] = {}
    todo = [one.job for one in jobs]
    while todo:
        for one in dependents.get(todo.pop(), ()):
            if one.job not in found:
                found[one.job] = one
                todo.append(one.job)
    return sorted(found.values(), key=lambda one: one.seq)


def late(ground: Ground, job: Open) -> bool:
    """Whether a job takes much longer than it usually does."""
    usual = ground.usual_of(job)
    if usual is None or job.started is None:
        return False
    took = (ground.now_us - job.started) // 1000
    return took > OVERDUE_FACTOR * usual.ms and took > usual.ms + OVERDUE_LEAST_MS


def waits(ground: Ground, job: Open) -> bool:
    """Whether this job is to be told when everything that waits is asked for; those behind others are told there."""
    if job.state == ADMITTED:
        return not ground.waits_on(job)
    if job.state not in HELD_STATES:
        return True
    if not job.held or job.cancel_reason is not None or silent_ms(ground, job) is not None or late(ground, job):
        return True
    if job.state == State.ASSIGNED.value and ground.now_us - job.entered > ACCEPT_US:
        return True
    return job.job in ground.dependents_of(job.run)


def _admitted(ground: Ground, lines: Lines, job: Open, close: Close) -> Finding:
    roots, run = roots_of(ground, job), ground.runs[job.run]
    if not roots and run.known < run.jobs:
        return due(ground, what="the plan of its run is being read", since_us=run.admitted, evidence=(job.seq,))
    if not roots and ground.waits_on(job):
        words = f"it waits for {listed([one.job for one in ground.waits_on(job)])}, and that waits for it"
        return Finding(
            cause=Cause.DEPENDENCY, words=words, unblocks=f"headway cancel {job.run}", evidence=(job.seq_entered,)
        )
    if not roots:
        since = max(job.entered, run.admitted, ground.settled_us)
        what = close.ended or (
            "the jobs it depends on have succeeded" if job.depends_on else "it waits for no other job"
        )
        return due(ground, what=what, since_us=since, evidence=(job.seq,))
    first = roots[0]
    found = judge(ground, lines, first)
    direct = [one.job for one in ground.waits_on(job)]
    through = "" if first.job in direct else f" (through {listed(direct)})"
    more = f"; it also waits for {listed([one.job for one in roots[1:]])}" if len(roots) > 1 else ""
    age = span((ground.now_us - first.entered) // 1000)
    return Finding(
        cause=Cause.DEPENDENCY,
        words=f"it waits for {first.job}{through}, {first.state} for {age}: {found.words}{more}",
        unblocks=found.unblocks,
        unknown=found.unknown,
        evidence=(job.seq_entered, *found.evidence),
        facts=Facts(
            blocked_by=tuple(one.job for one in roots[:ROOTS_MOST]),
            expected_ms=found.facts.expected_ms,
            expected_from=found.facts.expected_from,
        ),
    )


def _queued(ground: Ground, lines: Lines, job: Open, close: Close) -> Finding:
    if job.cancel_reason is not None or ground.runs[job.run].cancel_reason is not None:
        return _over(ground, job, "it was cancelled while nobody held it")
    return why_queued(ground, lines, job)


def _over(ground: Ground, job: Open, what: str) -> Finding:
    return due(ground, what=what, since_us=max(job.entered, ground.settled_us), evidence=(job.seq_entered,))


def _gate(ground: Ground, lines: Lines, job: Open, close: Close) -> Finding:
    return Finding(
        cause=Cause.GATE, words="it waits for its gates", unblocks="the gates' answer", evidence=(job.seq_entered,)
    )


def _changing(ground: Ground, lines: Lines, job: Open, close: Close) -> Finding:
    deploying = job.state == State.DEPLOYING.value
    return Finding(
        cause=Cause.DEPLOYING if deploying else Cause.CONVERGING,
        words="changes are being applied" if deploying else "wanted and observed are compared until they are equal",
        unblocks="the end of that",
        evidence=(job.seq_entered,),
    )


def _on_a_runner(ground: Ground, lines: Lines, job: Open, close: Close) -> Finding:
    """The states in which a runner holds it; what is wrong comes before what goes on."""
    if not job.held:
        return _over(ground, job, close.ended or f"attempt {job.attempt} has ended")
    machine = ground.machines.get(job.runner or "")
    if machine is None or machine.state not in PRESENT:
        how = f"was lost{because(machine.reason)}" if machine and machine.state == "lost" else "is gone"
        return _over(ground, job, f"its runner {job.runner} {how}")
    for rule in (_silent, _cancelling):
        found = rule(ground, job)
        if found is not None:
            return found
    return _at_work(ground, job, close)


def _silent(ground: Ground, job: Open) -> Finding | None:
    silent = silent_ms(ground, job)
    if silent is None:
        return None
    left = lease_left_ms(ground, silent)
    words = f"runner {job.runner} has not been heard for {span(silent)}; its lease ends in {span(left)}"
    return Finding(
        cause=Cause.SILENT_RUNNER,
        words=f"its {words}",
        shared=f"their {words}",
        unblocks="the runner's word; without it attempt "
        f"{job.attempt} is lost when the lease ends, and the job is queued again",
        unknown="whether the runner still works on it",
        evidence=(job.seq_entered, ground.machines[job.runner or ""].seq),
        facts=Facts(silent_ms=silent, lease_left_ms=left),
    )


def _cancelling(ground: Ground, job: Open) -> Finding | None:
    run = ground.runs[job.run]
    if job.cancel_reason is None and run.cancel_reason is None:
        return None
    by, reason = cancelled_by(job, run.cancelled_by, run.cancel_reason)
    return Finding(
        cause=Cause.CANCELLING,
        words=f"{person(by)} cancelled it{because(reason)}; its runner {job.runner} is stopping it",
        shared=f"{person(by)} cancelled them{because(reason)}; their runners are stopping them",
        unblocks="the end of its processes: those that do not end by themselves are killed",
        evidence=(job.seq_entered,),
        facts=Facts(cancelled_by=by, cancel_reason=reason),
    )


def cancelled_by(job: Open, run_by: str | None, run_reason: str | None) -> tuple[str, str]:
    """Who cancelled a job, and why: where the coordinator passed on that the run was, whoever cancelled the run."""
    if job.cancelled_by and job.cancelled_by != "coordinator":
        return job.cancelled_by, job.cancel_reason or ""
    return run_by or job.cancelled_by or "", run_reason or job.cancel_reason or ""


class Doing(NamedTuple):
    """What a runner does in a state: now, and when it was last heard; and what ends that."""

    cause: Cause
    now: str
    then: str
    ends: str


_DOING: Final[dict[str, Doing]] = {
    State.ASSIGNED.value: Doing(
        Cause.ASSIGNED,
        "was given it and has not accepted it yet",
        "was given it, and had not accepted it when it was last heard",
        "the runner's word",
    ),
    State.PREPARING.value: Doing(
        Cause.PREPARING, "prepares its workspace", "was preparing its workspace when it was last heard", "its end"
    ),
    State.EXECUTING.value: Doing(Cause.EXECUTING, "executes it", "was executing it when it was last heard", "its end"),
    State.UPLOADING.value: Doing(
        Cause.UPLOADING, "stores its output", "was storing its output when it was last heard", "its end"
    ),
}


def _at_work(ground: Ground, job: Open, close: Close) -> Finding:
    doing, known = _DOING[job.state], heard(ground, job)
    took = (ground.now_us - (job.started or job.entered)) // 1000
    usual = ground.usual_of(job)
    words = f"runner {job.runner} {doing.now if known else doing.then}"
    if close.step and doing.cause is Cause.EXECUTING:
        words += f", step {close.step!r} for {span((ground.now_us - close.step_since) // 1000)}"
    if usual is not None:
        words += f"; in all it usually takes {span(usual.ms)} ({of_runs(usual)})"
    overdue = late(ground, job)
    return Finding(
        cause=Cause.OVERDUE if overdue else doing.cause,
        words=words + (f", and now {span(took)}" if overdue else ""),
        unblocks=_until_end(ground, job, doing),
        unknown="; ".join(one for one in (unknown_end(ground, [job], name="it"), _unheard(ground, known)) if one),
        evidence=(job.seq_entered,),
        facts=Facts(
            step=close.step,
            expected_ms=usual.ms if usual else None,
            expected_from=usual.runs if usual else 0,
            took_ms=took,
        ),
    )


_OVER: Final[dict[Cause, str]] = {
    Cause.SERVICE_DOWN: "the service runs",
    Cause.LOG_UNREACHABLE: "the log can be written to",
    Cause.NO_COORDINATOR: "somebody coordinates",
}
"""When what keeps everything from moving is over."""


def _until_end(ground: Ground, job: Open, doing: Doing) -> str:
    """What ends the work on a job, and when that is expected."""
    if late(ground, job):
        return f"its end, or {command('cancel', job.run, job.job)}; {command('logs', job.run, job.job)} may say more"
    usual, left, trouble = ground.usual_of(job), ground.left_ms(job), trouble_of(ground.moment)
    if trouble is not None:
        taken = (
            "which nobody takes until the service runs" if trouble.cause is Cause.SERVICE_DOWN else "which is not taken"
        )
        return f"{doing.ends}, {taken}: {trouble.unblocks}"
    if doing.cause is Cause.ASSIGNED:
        return doing.ends
    if left is not None:
        return f"{doing.ends}, expected in {about(left)}"
    return f"{doing.ends}; it takes {longer(usual)}" if usual and ground.over(job) else doing.ends


def _unheard(ground: Ground, known: bool) -> str:
    """What the log alone does not say of a runner."""
    if ground.moment.past:
        return "whether its runner was heard then"
    return "" if known else "whether its runner still works on it"


Judge = Callable[[Ground, Lines, Open, Close], Finding]

_JUDGES: Final[dict[str, Judge]] = {
    State.ADMITTED.value: _admitted,
    State.WAITING_FOR_POLICY.value: _gate,
    State.QUEUED.value: _queued,
    State.ASSIGNED.value: _on_a_runner,
    State.PREPARING.value: _on_a_runner,
    State.EXECUTING.value: _on_a_runner,
    State.UPLOADING.value: _on_a_runner,
    State.DEPLOYING.value: _changing,
    State.CONVERGING.value: _changing,
}
