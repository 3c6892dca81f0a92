"""The facts that `headway why` judges by: all that is open, the runners, the pauses, and what a service knows besides.

They are read once for a question; judging them asks nothing more. What every open job stands in is small, so all of it
is read, for whoever waits in line waits for others.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from operator import attrgetter
from typing import Any, Final

import msgspec

from headway.core.envelope import decode
from headway.core.queue import Waiting
from headway.core.states import ON_A_RUNNER, State
from headway.projections.expected import Kind, Past, Usual
from headway.projections.queries import UNFINISHED
from headway.projections.reader import Connection
from headway.projections.records import Live
from headway.projections.tables import FleetRow, columns_of, quoted

QUEUED: Final = State.QUEUED.value
ADMITTED: Final = State.ADMITTED.value
HELD_STATES: Final = frozenset(state.value for state in ON_A_RUNNER)
PRESENT: Final = frozenset({"active", "draining"})
RELEASES_LOOKED_AT: Final = 200
FLEET_EVENTS_MOST: Final = 200

_names = lru_cache(maxsize=4096)(msgspec.json.Decoder(tuple[str, ...]).decode)


class Moment(msgspec.Struct, frozen=True, kw_only=True):
    """When is asked about: `live` is what a service knows now, None when none is running, or when it is `past`."""

    now_us: int
    live: Live | None = None
    past: bool = False


class Run(msgspec.Struct, gc=False):
    """A run, as far as its jobs' waiting depends on it."""

    run: str
    seq: int
    project: str
    pipeline: str
    admitted: int
    completed: int | None
    seq_completed: int | None
    outcome: str | None
    status: str
    jobs: int
    success: int
    failed: int
    cancelled: int
    skipped: int
    known: int
    paused_since: int | None
    paused_by: str | None
    paused_reason: str | None
    cancelled_by: str | None
    cancel_reason: str | None

    @property
    def over(self) -> int:
        """How many of its jobs have completed."""
        return self.success + self.failed + self.cancelled + self.skipped


class Open(msgspec.Struct, gc=False, array_like=True):
    """A job, open unless it was asked for by name. What has a default is only read of jobs that are told about."""

    run: str
    job: str
    seq: int
    state: str
    attempt: int
    runner: str | None
    held: int
    entered: int
    seq_entered: int
    rest_us: int
    started: int | None
    depends_text: str
    labels_text: str
    group: str
    limit: int
    cancel_reason: str | None
    outcome: str | None = None
    holder: str = ""
    cause: str = ""
    completed: int | None = None
    exit_code: int | None = None
    reason: str = ""
    failure: str | None = None
    cancelled_by: str | None = None

    @property
    def key(self) -> tuple[str, str]:
        return self.run, self.job

    @property
    def rests_until(self) -> int:
        """When the rest after a failed attempt is over, by the log's clock; 0 for no rest."""
        return self.entered + self.rest_us if self.rest_us and self.state == QUEUED else 0

    @property
    def labels(self) -> tuple[str, ...]:
        """The labels it asks for."""
        return _names(self.labels_text)

    @property
    def depends_on(self) -> tuple[str, ...]:
        """The jobs it depends on."""
        return _names(self.depends_text)


class Machine(msgspec.Struct, gc=False):
    """A runner."""

    runner: str
    seq: int
    name: str
    labels: frozenset[str]
    slots: int
    state: str
    reason: str
    changed: int
    registered: int
    drained_by: str = ""
    drained_seq: int = 0


RUN_COLUMNS: Final = (
    *("run", "seq", "project", "pipeline", "admitted", "completed", "seq_completed", "outcome", "status", "jobs"),
    *("success", "failed", "cancelled", "skipped"),
)
_RUN_TAIL: Final = "paused_since, paused_by, paused_reason, cancelled_by, cancel_reason"
_KNOWN: Final = "success + failed + cancelled + skipped + pending + retry + running"
OPEN_COLUMNS: Final = (
    *("run", "job", "seq", "state", "attempt", "runner", "held", "entered", "seq_entered", "rest_us", "started"),
    *("depends_on", "runs_on", "concurrency_group", "concurrency_limit", "cancel_reason"),
)
JOB_COLUMNS: Final = (
    *OPEN_COLUMNS,
    *("outcome", "holder", "cause", "completed", "exit_code", "reason", "failure", "cancelled_by"),
)
RUN_SELECT: Final = f"select {quoted(RUN_COLUMNS)}, {_KNOWN}, {_RUN_TAIL} from runs"
JOB_SELECT: Final = f"select {quoted(JOB_COLUMNS)} from jobs"
# As one text: SQLite and msgspec make it and take it apart in half the time that rows of so many columns take.
_OPEN: Final = f"""
select json_group_array(json_array({", ".join(f"j.{quoted((column,))}" for column in OPEN_COLUMNS)}))
from runs r cross join jobs j on j.run = r.run where r.{UNFINISHED} and j.outcome is null
"""
_open = msgspec.json.Decoder(list[Open]).decode
_TOLD: Final = f"""
select {", ".join(f"j.{quoted((column,))}" for column in JOB_COLUMNS)}
from json_each(?) w cross join jobs j where j.run = w.value ->> 0 and j.job = w.value ->> 1
"""


class Ground:
    """All that is open at a moment, and what follows from it. Nothing is changed once it is read.

    `jobs` are in the order in which they entered their states.
    """

    def __init__(self, moment: Moment, *, runs: list[Run], jobs: list[Open], machines: list[Machine]) -> None:
        self.moment = moment
        self.now_us = moment.now_us
        self.paused = FleetRow()
        self.paused_seq = 0
        self.settled_us = 0
        self.last_gone: Machine | None = None
        self.elected_us = 0
        self.known = Past({}, {})
        self.runs = {run.run: run for run in runs}
        self.jobs = jobs
        self.machines = {one.runner: one for one in machines}
        self.present = [one for one in machines if one.state in PRESENT]
        self.open_of: dict[str, dict[str, Open]] = {}
        self.held_by: dict[str, list[Open]] = {}
        self.in_group: dict[str, list[Open]] = {}
        self.project_held: dict[str, int] = {}
        self.dependents: dict[str, dict[str, list[Open]]] = {}
        for job in jobs:
            self.open_of.setdefault(job.run, {})[job.job] = job
            if job.held and job.runner:
                self._hold(job)

    def _hold(self, job: Open) -> None:
        self.held_by.setdefault(job.runner or "", []).append(job)
        project = self.runs[job.run].project if job.run in self.runs else ""
        self.project_held[project] = self.project_held.get(project, 0) + 1
        if job.group:
            self.in_group.setdefault(job.group, []).append(job)

    def usual_of(self, job: Open) -> Usual | None:
        """How long the job usually takes."""
        return self.known.usual.get(self.kind_of(job))

    def ran(self, job: Open) -> bool | None:
        """Of a job that never succeeded, whether it has run before; None when that was not looked up."""
        return self.known.ran.get(self.kind_of(job))

    def kind_of(self, job: Open) -> Kind:
        """What makes it the same job as in other runs."""
        run = self.runs[job.run]
        return Kind(run.project, run.pipeline, job.job)

    def left_ms(self, job: Open) -> int | None:
        """How long a job that holds a slot will still take; None when no past run says so, or it is over that."""
        usual = self.usual_of(job)
        if usual is None or job.started is None:
            return None
        left = usual.ms - (self.now_us - job.started) // 1000
        return left if left > 0 else None

    def over(self, job: Open) -> bool:
        """Whether a job has taken longer than usual."""
        usual = self.usual_of(job)
        return usual is not None and job.started is not None and usual.ms <= (self.now_us - job.started) // 1000

    def free(self, machine: Machine) -> int:
        """How many of a runner's slots are free."""
        return self.room(machine) if machine.state == "active" else 0

    def room(self, machine: Machine) -> int:
        """How many of a runner's slots nobody holds, whether it takes work or not."""
        return machine.slots - len(self.held_by.get(machine.runner, ()))

    def fitting(self, labels: Iterable[str]) -> list[Machine]:
        """The runners that take work and offer these labels."""
        wanted = frozenset(labels)
        return [one for one in self.present if one.state == "active" and one.labels >= wanted]

    def waits_on(self, job: Open) -> list[Open]:
        """Which open jobs it depends on."""
        open_jobs = self.open_of.get(job.run, {})
        return [open_jobs[name] for name in job.depends_on if name in open_jobs]

    def dependents_of(self, run: str) -> dict[str, list[Open]]:
        """The admitted jobs of a run by the jobs that they depend on themselves."""
        found = self.dependents.get(run)
        if found is None:
            found = self.dependents[run] = {}
            for one in self.open_of.get(run, {}).values():
                if one.state == ADMITTED:
                    for name in one.depends_on:
                        found.setdefault(name, []).append(one)
        return found

    def waiting(self) -> list[Waiting]:
        """The scheduler's queue: those for whom only a slot is missing, or room in a group."""
        ready = {
            run.run: run.project for run in self.runs.values() if run.paused_since is None and run.cancel_reason is None
        }
        return [
            Waiting(job.seq_entered, job.run, job.job, job.labels, ready[job.run], job.group, job.limit or 1)
            for job in self.jobs
            if job.state == QUEUED
            and job.run in ready
            and job.cancel_reason is None
            and (not job.rest_us or job.rests_until <= self.now_us)
        ]

    def group_held(self) -> dict[str, int]:
        """How many jobs hold each concurrency group."""
        return {group: len(jobs) for group, jobs in self.in_group.items()}


async def ground_of(db: Connection, moment: Moment) -> Ground:
    """Read everything that is open."""
    runs = [Run(*row) for row in await rows(db, f"{RUN_SELECT} where {UNFINISHED}")]
    [(found,)] = await db.execute_fetchall(_OPEN)
    jobs = sorted(_open(found), key=attrgetter("entered", "seq"))
    here = "select runner, seq, name, labels, slots, state, reason, changed, registered from runners"
    where = "state in ('active', 'draining') or seq in (select max(seq) from runners group by name)"
    machines = [
        Machine(runner, seq, name, frozenset(_names(labels)), *rest)
        for runner, seq, name, labels, *rest in await rows(db, f"{here} where {where} order by seq")
    ]
    ground = Ground(moment, runs=runs, jobs=jobs, machines=machines)
    gone = [one for one in machines if one.state not in PRESENT]
    ground.last_gone = max(gone, key=lambda one: one.changed, default=None)
    await _fleet(db, ground)
    return ground


async def _fleet(db: Connection, ground: Ground) -> None:
    """The pause of everything, who drained what, and since when nothing that frees a slot has happened."""
    for row in await rows(db, f"select {columns_of(FleetRow)} from fleet"):
        ground.paused = FleetRow(*row)
    if ground.paused.paused_since is not None:
        ground.paused_seq = (await last_event(db, "", "fleet.paused"))[0]
    settled = [one.changed for one in ground.present]
    for (elected,) in await rows(db, "select elected from coordinator"):
        ground.elected_us = elected
        settled.append(elected)
    settled.append((await last_event(db, "", "fleet.resumed"))[1])
    released = f'select max("left") from (select * from timeline order by id desc limit {RELEASES_LOOKED_AT})'
    states = ", ".join(f"'{state}'" for state in sorted(HELD_STATES))
    [(left,)] = await rows(db, f"{released} where state in ({states}) and next not in ({states})")
    ground.settled_us = max(0, left or 0, *settled)
    if any(one.state == "draining" for one in ground.present):
        await _who_drained(db, ground)


async def _who_drained(db: Connection, ground: Ground) -> None:
    sql = (
        "select seq, actor, time, body from events where run = '' and type = 'runner.drained' order by seq desc limit ?"
    )
    for seq, actor, time, body in await rows(db, sql, FLEET_EVENTS_MOST):
        machine = ground.machines.get(getattr(decode(body).data, "runner", ""))
        if machine is not None and machine.state == "draining" and time == machine.changed:
            machine.drained_by, machine.drained_seq = actor, seq


async def whole(db: Connection, jobs: Iterable[Open]) -> dict[tuple[str, str], Open]:
    """These jobs with all their columns, by key."""
    keys = msgspec.json.encode([one.key for one in jobs]).decode()
    found = [Open(*row) for row in await rows(db, _TOLD, keys)]
    return {one.key: one for one in found}


async def last_event(db: Connection, run: str, kind: str) -> tuple[int, int]:
    """Sequence and time of the last event of a type, of a run or of none; zeros when there is none."""
    sql = "select seq, time from events where run = ? and type = ? order by seq desc limit 1"
    for seq, time in await rows(db, sql, run, kind):
        return int(seq), int(time)
    return 0, 0


async def rows(db: Connection, sql: str, *parameters: object) -> list[tuple[Any, ...]]:
    """What a query finds."""
    return [tuple(row) for row in await db.execute_fetchall(sql, parameters)]
