"""Everything the coordinator decides about: the unfinished runs, the fleet, and what needs a word from it.

The world is a fold of the whole log. Beside the runs it keeps indexes, so that a decision costs what it says and
nothing scans everything: for each kind of decision the jobs that need it, the queue, and beside it the jobs that rest
after a failed attempt. The indexes follow from the state; `restore` rebuilds them.

The world asks no clock; it is told the time (`begin`, then `pass_time`), by two of them. `now_us` is the coordinator's
wall clock, the same that its entries have as `at`: it only says when a rest will be over. The monotonic clock is what
rests are measured with, so that no step of the other one changes them.
"""

from __future__ import annotations

from enum import Enum, auto
from typing import Final

import msgspec

from headway.core import fleet as fleets
from headway.core import run as runs
from headway.core.envelope import Envelope, digest
from headway.core.events import CoordinatorCheckpointed, CoordinatorElected, RunAdmitted, RunnerRegistered
from headway.core.fleet import Fleet, RunnerState
from headway.core.plan import Job, Plan
from headway.core.queue import Key, Queue, Waiting
from headway.core.resting import Resting, backoff_us
from headway.core.run import JobState, Run
from headway.core.states import Outcome, State

FINISHED_KEPT: Final = 10_000
"""How many finished runs are remembered, to know an ask that comes late."""


class Need(Enum):
    """What a job needs the coordinator to say. `ASSIGN` is the queue's, the others are said at once."""

    CANCEL = auto()
    REQUEST_CANCEL = auto()
    CHOOSE = auto()
    SKIP = auto()
    QUEUE = auto()
    ASSIGN = auto()


def need_of(run: Run, job: JobState) -> Need | None:
    """What a job needs next, None when it waits for others."""
    if job.state is State.COMPLETED:
        return None
    if job.runner:
        return Need.REQUEST_CANCEL if run.cancel is not None and job.cancel is None else None
    if run.cancel is not None or job.cancel is not None:
        return Need.CANCEL
    if job.ended:
        return Need.CHOOSE
    if job.state is State.ADMITTED:
        if job.blocked_by:
            return Need.SKIP
        return Need.QUEUE if not job.waiting_on else None
    if job.state is State.QUEUED and run.paused is None:
        return Need.ASSIGN
    return None


class Snapshot(msgspec.Struct, kw_only=True):
    """The world as it is kept in a checkpoint blob."""

    seq: int
    runs: list[Run]
    fleet: Fleet
    finished: dict[str, Outcome]
    checkpoint: str
    checkpoint_seq: int


class World:
    """The fold of the log up to `seq`. `plans` are given from outside, by the digest that an event names."""

    def __init__(self) -> None:
        self.seq = 0
        self.now = 0.0
        self.now_us = 0
        self.store = ""
        self.runs: dict[str, Run] = {}
        self.fleet = Fleet()
        self.finished: dict[str, Outcome] = {}
        self.plans: dict[str, dict[str, Job] | None] = {}
        self.checkpoint = ""
        self.checkpoint_seq = 0
        self.needs: dict[Need, dict[Key, None]] = {need: {} for need in Need if need is not Need.ASSIGN}
        self.queue = Queue()
        self.resting = Resting()
        self.free: dict[str, RunnerState] = {}
        self.strays: dict[Key, None] = {}
        self.unadmitted: dict[str, None] = {}
        self.closable: dict[str, None] = {}
        self.bereaved: dict[str, None] = {}
        self.replaced: dict[str, None] = {}

    def give_plan(self, run: str, plan: Plan | None) -> None:
        """Supply what a run's plan digest names; None when the blob cannot be read."""
        if run not in self.finished:
            self.plans[run] = {job.name: job for job in plan.jobs} if plan is not None else None

    def begin(self, now: float, *, at: int) -> None:
        """Deciding starts now. Of a rest that somebody else began, what is left by the wall clock is left, and never
        more than the whole of it: that clock may have been set back."""
        self.now, self.now_us = now, at
        for run_id, name in list(self.resting):
            run = self.runs[run_id]
            self._rest(run, name, run.jobs[name])
        self.pass_time(now, at=at)

    def pass_time(self, now: float, *, at: int) -> None:
        """It is `now` by the monotonic clock and `at` by the wall clock. Whose rest is over is back in the queue, at
        the place that it was queued at."""
        self.now, self.now_us = now, at
        for run_id, name in self.resting.over(now):
            run = self.runs[run_id]
            self._reindex(run, name, run.jobs[name])

    def apply(self, envelope: Envelope, body: bytes, seq: int) -> None:
        """Fold the entry at `seq`. One that is already folded changes nothing."""
        if seq <= self.seq:
            return
        self.seq = seq
        if envelope.run:
            self._apply_run(envelope, body, seq)
        elif isinstance(envelope.data, CoordinatorElected | CoordinatorCheckpointed):
            if envelope.data.checkpoint_seq >= self.checkpoint_seq:
                self.checkpoint = envelope.data.checkpoint
                self.checkpoint_seq = envelope.data.checkpoint_seq
        else:
            fleets.evolve(self.fleet, envelope)
            self._index_fleet(envelope)

    def _apply_run(self, envelope: Envelope, body: bytes, seq: int) -> None:
        run = self.runs.get(envelope.run)
        if run is None:
            if envelope.run in self.finished or envelope.n != 1 or not isinstance(envelope.data, RunAdmitted):
                return
            run = self.runs[envelope.run] = Run(id=envelope.run, jobs={}, dependents={})
        job = run.jobs.get(envelope.job)
        holder = job.runner if job else ""
        paused, cancelled = run.paused, run.cancel
        if envelope.n <= run.n:
            return  # a number counts once
        runs.evolve(run, envelope, seq)
        run.head = digest(body)
        if envelope.job:
            if job is not None and job.queued_seq == seq:
                self._rest(run, envelope.job, job)
            self._index_job(run, envelope.job, holder)
        elif (run.paused, run.cancel) != (paused, cancelled):
            for name, one in run.jobs.items():
                self._reindex(run, name, one)
        self._index_run(run)

    def _index_run(self, run: Run) -> None:
        if run.outcome is not None:
            self._forget(run)
            return
        if len(run.jobs) < run.job_count:
            self.unadmitted[run.id] = None
            return
        self.unadmitted.pop(run.id, None)
        if run.admitted_seq and not run.open_jobs and not run.outputs_wanted:
            self.closable[run.id] = None
        else:
            self.closable.pop(run.id, None)

    def _forget(self, run: Run) -> None:
        assert run.outcome is not None, "only a sealed run is forgotten"
        for name, job in run.jobs.items():  # all over, unless the seal came too early
            if job.runner:
                self._release(run, name, job, job.runner)
            if job.state is not State.COMPLETED:
                self.queue.remove((run.id, name))
                self.resting.remove((run.id, name))
                for index in self.needs.values():
                    index.pop((run.id, name), None)
        del self.runs[run.id]
        self.plans.pop(run.id, None)
        self.unadmitted.pop(run.id, None)
        self.closable.pop(run.id, None)
        self.finished[run.id] = run.outcome
        if len(self.finished) > FINISHED_KEPT:
            del self.finished[next(iter(self.finished))]

    def _index_job(self, run: Run, name: str, holder: str) -> None:
        job = run.jobs.get(name)
        if job is None:
            return
        if job.runner != holder:
            if holder:
                self._release(run, name, job, holder)
            if job.runner:
                self._hold(run, name, job)
        self._reindex(run, name, job)
        if job.state is State.COMPLETED:
            for dependent in run.dependents.get(name, ()):
                self._reindex(run, dependent, run.jobs[dependent])

    def _rest(self, run: Run, name: str, job: JobState) -> None:
        """Let a job rest whose attempt may not start yet. A pause of the run does not stop its time."""
        if job.state is State.QUEUED and job.start_after:
            whole_us = backoff_us(run, name, job, attempt=job.attempt)
            left_us = min(max(0, job.start_after - self.now_us), whole_us)
            self.resting.add((run.id, name), self.now + left_us / 1_000_000)

    def _reindex(self, run: Run, name: str, job: JobState) -> None:
        key = (run.id, name)
        need = need_of(run, job)
        if job.state is not State.QUEUED:
            self.resting.remove(key)
        for kind, index in self.needs.items():
            if kind is need:
                index[key] = None
            else:
                index.pop(key, None)
        if need is Need.ASSIGN and key not in self.resting:
            self.queue.add(
                Waiting(
                    seq=job.queued_seq,
                    run=run.id,
                    job=name,
                    labels=job.runs_on,
                    project=run.project,
                    group=job.concurrency_group,
                    limit=max(1, job.concurrency_limit),
                )
            )
        else:
            self.queue.remove(key)

    def _hold(self, run: Run, name: str, job: JobState) -> None:
        runner = self.fleet.runners.get(job.runner)
        if runner is not None:
            runner.held.add((run.id, name))
            self._index_runner(runner)
        else:
            self.strays[(run.id, name)] = None
        self.queue.hold(run.project, job.concurrency_group)

    def _release(self, run: Run, name: str, job: JobState, holder: str) -> None:
        runner = self.fleet.runners.get(holder)
        self.strays.pop((run.id, name), None)
        if runner is not None:
            runner.held.discard((run.id, name))
            self._index_runner(runner)
        self.queue.release(run.project, job.concurrency_group)

    def _index_fleet(self, envelope: Envelope) -> None:
        event = envelope.data
        named = (getattr(event, "runner", ""), *(event.replaces if isinstance(event, RunnerRegistered) else ()))
        for name in named:
            runner = self.fleet.runners.get(name)
            if runner is not None:
                self._index_runner(runner)

    def _index_runner(self, runner: RunnerState) -> None:
        """Bring what is known of a runner up to date; one that is gone and holds nothing is forgotten."""
        name = runner.runner
        if runner.free > 0:
            self.free[name] = runner
        else:
            self.free.pop(name, None)
        if not runner.gone:
            if runner.replaced:
                self.replaced[name] = None
            return
        self.replaced.pop(name, None)
        if runner.held:
            self.bereaved[name] = None
        else:
            self.bereaved.pop(name, None)
            fleets.bury(self.fleet, name)

    def snapshot(self) -> bytes:
        """The state as bytes from which `restore` makes an equal world."""
        return msgspec.json.encode(
            Snapshot(
                seq=self.seq,
                runs=list(self.runs.values()),
                fleet=self.fleet,
                finished=self.finished,
                checkpoint=self.checkpoint,
                checkpoint_seq=self.checkpoint_seq,
            )
        )


def restore(body: bytes) -> World:
    """The world in a snapshot, its indexes rebuilt. Raises msgspec.DecodeError or ValidationError."""
    found = msgspec.json.decode(body, type=Snapshot)
    world = World()
    world.seq = found.seq
    world.fleet = found.fleet
    world.finished = found.finished
    world.checkpoint, world.checkpoint_seq = found.checkpoint, found.checkpoint_seq
    for runner in world.fleet.runners.values():
        runner.held = set()
    for run in found.runs:
        world.runs[run.id] = run
        for name, job in run.jobs.items():
            world._rest(run, name, job)
            world._index_job(run, name, "")
        world._index_run(run)
    for runner in list(world.fleet.runners.values()):
        world._index_runner(runner)
    return world
