"""Everything that can be asked of the tables at one moment, and what an interpreter of the log knows of it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import aiosqlite
import msgspec

from headway.core.states import State, Status
from headway.projections import queries
from headway.projections.queries import JobFilter, RunFilter
from headway.projections.timeline import TimelineRecord, timeline
from tests.interpreted import stay_answers
from tests.interpreter import Interpreter, Run

ALL = 1000
LATER_US = (700_001, 60_000_000)
"""So long after the last event is asked, by turns: while the coordinator's word is due, and after that."""
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
LEFT = ("attempt", "state", "phase", "entered", "left", "holder", "cause", "next")
TIMELINE = """
select r.run, t.job, t.attempt, t.state, t.phase, t.entered, t."left", t.holder, t.cause, t.next
from timeline t join runs r on r.seq = t.run order by t.id
"""
Answers = dict[str, Any]


class Known(NamedTuple):
    """Something the interpreter knows beside what was answered about it."""

    name: str
    known: dict[str, Any]
    answered: object


def later_us(seq: int) -> int:
    """How long after this event is asked."""
    return LATER_US[seq % len(LATER_US)]


async def asked(db: aiosqlite.Connection, seq: int) -> Answers:
    """What the tables say of everything; one status and one state, by turns, are asked for by name."""
    runs = await queries.runs(db, RunFilter(limit=ALL))
    status, state = list(Status)[seq % len(Status)], [*State, *Status][seq % (len(State) + len(Status))]
    found: Answers = {
        "position": await queries.position(db),
        "runs": runs,
        "jobs": await queries.jobs(db, JobFilter(limit=ALL)),
        f"runs {status}": await queries.runs(db, RunFilter(status=status, limit=ALL)),
        f"jobs {state}": await queries.jobs(db, JobFilter(state=state, limit=ALL)),
        "runners": await queries.runners(db, gone=True),
        "runners here": await queries.runners(db),
        "queue": await queries.queue(db),
        "pause": await queries.fleet_paused(db),
        "coordinator": await queries.coordinator(db),
        "unfinished": await queries.unfinished(db),
        "timeline": [tuple(row) for row in await db.execute_fetchall(TIMELINE)],
        "time": [tuple(row) for row in await db.execute_fetchall("select position, logged from meta")],
    }
    [(_, logged)] = found["time"]
    found |= {f"show {one.run}": await queries.show(db, one.run) for one in runs.runs}
    return found | {f"stays {one.run}": await timeline(db, one.run, logged + later_us(seq)) for one in runs.runs}


def differs(one: Answers, other: Answers) -> str:
    """The first thing that two sets of answers do not agree on, "" when they do."""
    for name in [*one, *(name for name in other if name not in one)]:
        if one.get(name) != other.get(name):
            return difference(name, msgspec.to_builtins(one.get(name)), msgspec.to_builtins(other.get(name)))
    return ""


def difference(path: str, one: Any, other: Any) -> str:
    """Where in two plain values the first difference is."""
    if isinstance(one, dict) and isinstance(other, dict):
        pairs = [(key, one.get(key), other.get(key)) for key in {**one, **other}]
    elif isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        pairs = [(str(at), *both) for at, both in enumerate(zip(one, other, strict=True))]
    else:
        return f"{path} is {one!r} and {other!r}"
    return next((difference(f"{path}.{key}", a, b) for key, a, b in pairs if a != b), "")


def disagreement(told: Interpreter, found: Answers) -> str:
    """The first thing that the answers say otherwise than the interpreter, "" when there is none."""
    for name, known, answered in every_known(told, found):
        for field, value in known.items():
            if field == "skew_us":
                field, value = "skew_ms", None if value is None else round(value / 1000)
            said = getattr(answered, field)
            if isinstance(said, datetime) and value is not None:
                value = EPOCH + timedelta(microseconds=value)
            if field == "failure" and said is not None:
                said = (said.failure_class, said.reason)
            if said != value:
                return f"{name}.{field} is {said!r}, and should be {value!r}"
    return counts_disagree(told, found)


def every_known(told: Interpreter, found: Answers) -> list[Known]:
    """Each record that is answered with what the interpreter knows of it, and the same number of both."""
    newest = sorted(told.runs.values(), key=lambda run: -run.known["seq"])
    pairs = paired("runs", [told.run_answer(run) for run in newest], found["runs"].runs)
    jobs = {job.known["seq"]: told.job_answer(run, job) for run in newest for job in run.jobs.values()}
    pairs += paired("jobs", [jobs[seq] for seq in sorted(jobs, reverse=True)], found["jobs"].jobs)
    pairs += paired("runners", told.runner_answers(), found["runners"].runners)
    pairs += paired("queue", [told.queue_answer()], [found["queue"]])
    pairs += paired("pause", [told.pause] if told.pause else [], [found["pause"]] if found["pause"] else [])
    coordinators = [found["coordinator"]] if found["coordinator"] else []
    pairs += paired("coordinator", [told.coordinator] if told.coordinator else [], coordinators)
    for run in newest:
        name = f"show {run.known['run']}"
        show = found[name]
        pairs += paired(name, [told.run_answer(run)], [show.run])
        pairs += paired(f"{name} jobs", [told.job_answer(run, job) for job in run.jobs.values()], show.jobs)
        pairs += paired(f"{name} attempts", told.attempt_answers(run), show.attempts)
        steps = [one for _, job in sorted(run.jobs.items()) for _, one in sorted(job.steps.items())]
        pairs += paired(f"{name} steps", steps, show.steps)
        pairs += stays(told, run, found[f"stays {run.known['run']}"])
    return pairs


def stays(told: Interpreter, run: Run, found: TimelineRecord) -> list[Known]:
    """The timeline of a run: its stays, how its attempts ended, and the whole time that the critical path explains."""
    name, now = f"timeline {run.known['run']}", told.now + later_us(told.seq)
    known = [
        {**one, "entered": text(one["entered"]), "left": None if one["left"] is None else text(one["left"])}
        for one in stay_answers(run, now)
    ]
    ends = [
        {key: attempt[key] for key in ("job", "attempt", "runner", "state", "outcome")}
        for attempt in told.attempt_answers(run)
    ]
    end = now if run.known["completed"] is None else run.known["completed"]
    explained = sum(part.duration_us for part in found.path)
    assert explained == end - run.known["admitted"], f"{name}: the path explains {explained} us"
    return paired(name, known, found.handoffs) + paired(f"{name} attempts", ends, found.attempts)


def text(time_us: int) -> str:
    """A time as records have it."""
    return (EPOCH + timedelta(microseconds=time_us)).isoformat(timespec="microseconds").replace("+00:00", "Z")


def paired(name: str, known: list[dict[str, Any]], answered: list[Any]) -> list[Known]:
    assert len(known) == len(answered), f"{name}: {len(answered)} are answered, {len(known)} are known"
    return [Known(f"{name}[{at}]", one, other) for at, (one, other) in enumerate(zip(known, answered, strict=True))]


def counts_disagree(told: Interpreter, found: Answers) -> str:
    """The same of what is not a record: who has the status asked for, the moment, the states that were left."""
    runs = {run.known["run"]: told.run_answer(run) for run in told.runs.values()}
    jobs = [told.job_answer(run, job) for run in told.runs.values() for job in run.jobs.values()]
    left = sorted(
        (run.known["run"], job.known["job"], *(one[column] for column in LEFT))
        for run in told.runs.values()
        for job in run.jobs.values()
        for one in job.left
    )
    one_status, one_state = (next(key for key in found if key.startswith(word)) for word in ("runs ", "jobs "))
    status, state = one_status.split()[1], one_state.split()[1]
    wanted = "state" if state in set(State) else "status"
    over = {name for name, run in runs.items() if run["outcome"]}
    same: list[tuple[str, Any, Any]] = [
        ("position", found["position"], told.seq),
        ("time", found["time"], [(told.seq, told.now)]),
        ("unfinished", found["unfinished"], len(runs) - len(over)),
        ("timeline", sorted((*row[:8], long(row), *row[9:]) for row in found["timeline"]), left),
        (
            one_status,
            {one.run for one in found[one_status].runs},
            {n for n, run in runs.items() if run["status"] == status},
        ),
        (
            one_state,
            {(one.run, one.job) for one in found[one_state].jobs},
            {(job["run"], job["job"]) for job in jobs if job[wanted] == state},
        ),
    ]
    return next((f"{name} is {said!r}, and should be {right!r}" for name, said, right in same if said != right), "")


def long(row: tuple[Any, ...]) -> str:
    """The cause of a row of the timeline: an event of the run's own is kept without the run in front."""
    return str(row[0] + row[8] if row[8].startswith(":") else row[8])
