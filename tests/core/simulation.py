"""A whole control plane in one thread, driven by a seed: coordinators, runners, a network that loses, delays and
doubles, crashes at any point, clocks that step. Nothing here sleeps and nothing here is random but by the seed."""

from __future__ import annotations

import random
from typing import NamedTuple

from headway.core import asks
from headway.core.clock import ManualClock
from headway.core.desk import Desk, open_desk
from headway.core.envelope import Envelope, decode
from headway.core.events import (
    Failure,
    JobAssigned,
    JobExecuting,
    JobPreparing,
    JobQueued,
    JobUploading,
    RunAdmitted,
    StepFinished,
    StepStarted,
)
from headway.core.fleet import LEASE_SECONDS
from headway.core.log import Conflict, Entry
from headway.core.memory import MemoryLog
from headway.core.plan import Job, Plan
from headway.core.resting import BACKOFF_MAX_SECONDS
from headway.core.states import Outcome
from tests.core.sim_runner import SimRunner

ROUNDING_US = 2
"""The manual clock's two halves are rounded each in its own way."""


class Moment(NamedTuple):
    """A moment by both clocks."""

    monotonic: float
    wall_us: int


class Rest(NamedTuple):
    """A rest as the log has it, and when it was really written there."""

    start_after: int
    at: int
    seq: int
    begun: Moment


class SimCoordinator:
    """A desk and what it does with the log; it may crash between any two appends."""

    def __init__(self, sim: Simulation, name: str) -> None:
        self.sim = sim
        self.name = name
        self.lives = 0
        self.desk: Desk | None = None
        self.opened = Moment(0.0, 0)
        self.opened_seq = 0

    def open(self) -> Desk:
        self.lives += 1
        checkpoint = self.sim.checkpoint if self.sim.random.random() < 0.5 else None
        desk = open_desk(f"{self.name}{self.lives}", checkpoint=checkpoint)
        self.desk = desk
        self.catch_up()
        self.opened, self.opened_seq = self.sim.moment(), desk.world.seq
        desk.begin(self.opened.monotonic, at=self.opened.wall_us)
        self.write(desk.elected(at=self.sim.clock.wall_us(), headway_version="sim", host=self.name, pid=1))
        return desk

    def catch_up(self) -> None:
        assert self.desk is not None
        for stored in self.sim.log.entries[self.desk.world.seq :]:
            self.desk.take(stored)
        for run, _ in self.desk.plans_missing():
            self.desk.world.give_plan(run, self.sim.plans[run])

    def write(self, entries: list[Entry], *, crash: float = 0.0) -> bool:
        """Append in order; False when the desk is no longer good (a conflict, or a crash in between)."""
        for entry in entries:
            if self.sim.random.random() < crash:
                self.desk = None
                return False
            self.check_rest(decode(entry.body))
            try:
                seq = self.sim.log.append_now(entry)
            except Conflict:
                self.desk = None
                return False
            self.sim.note_rest(decode(entry.body), seq)
        return True

    def check_rest(self, envelope: Envelope) -> None:
        """Nobody gets an attempt before its time, by the clock of who gives it: the wall clock as it was when this
        coordinator learned of the rest, and time that has passed since. At most the whole rest has to pass."""
        rest = self.sim.rests.get((envelope.run, envelope.job, envelope.attempt))
        if rest is None or not isinstance(envelope.data, JobAssigned):
            return
        known = rest.begun if rest.seq > self.opened_seq else self.opened
        passed_us = (self.sim.clock.monotonic() - known.monotonic) * 1e6 + ROUNDING_US
        early = known.wall_us + passed_us < rest.start_after and passed_us < rest.start_after - rest.at
        assert not early, f"seed {self.sim.seed}: {envelope.job} has rested for {passed_us:.0f} us only"

    def hear(self, ask: asks.AnyAsk, actor: str) -> asks.Answer | None:
        """One ask, and what follows from it; None when the answer never came to be."""
        desk = self.desk or self.open()
        if desk is not self.desk:
            return None
        crash = self.sim.crash_rate
        plan = self.sim.plans.get(ask.run) if isinstance(ask, asks.AdmitRun) else None
        now, at = self.sim.clock.monotonic(), self.sim.clock.wall_us()
        answer, entries = desk.hear(ask, actor=actor, now=now, at=at, plan=plan)
        if answer.refused and desk.world.seq != len(self.sim.log.entries):
            self.desk = None  # a refusal is only worth what the whole log says
            return None
        if not self.write(entries, crash=crash):
            return None
        self.think(desk)
        return answer

    def think(self, desk: Desk) -> None:
        now, at = self.sim.moment()
        entries = desk.decide(now=now, at=at)
        rested = desk.world.resting.next_deadline() or now
        assert rested - now <= 1.25 * BACKOFF_MAX_SECONDS, f"seed {self.sim.seed}: a rest of {rested - now} s"
        if self.write(entries, crash=self.sim.crash_rate / 10) and self.sim.random.random() < 0.01:
            self.sim.checkpoint = desk.world.snapshot()


class Simulation:
    """Everything, under one seed. `chaos` is 1 while things go wrong and 0 while they may settle."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.random = random.Random(seed)
        self.clock = ManualClock(seed=seed)
        self.log = MemoryLog(self.clock)
        self.chaos = 1.0
        self.skew = 0
        self.checkpoint: bytes | None = None
        self.plans: dict[str, Plan] = {}
        self.admitted: dict[str, RunAdmitted] = {}
        self.working: dict[tuple[str, str], int] = {}
        self.rests: dict[tuple[str, str, int], Rest] = {}
        self.late: list[tuple[asks.AnyAsk, str]] = []
        self.coordinators = [SimCoordinator(self, "c"), SimCoordinator(self, "d")]
        self.active = [self.coordinators[0]]
        self.overlap_until = 0.0
        pool = [("a",), ("b",), ("a", "b"), ("a",)]
        self.runners = [
            SimRunner(self, f"r{at}", pool[at % len(pool)], self.random.choice((1, 2, 3)))
            for at in range(self.random.choice((1, 2, 4)))
        ]
        self.runners.append(SimRunner(self, "all", ("a", "b"), 2))

    @property
    def crash_rate(self) -> float:
        return 0.02 * self.chaos

    def moment(self) -> Moment:
        return Moment(self.clock.monotonic(), self.clock.wall_us())

    def note_rest(self, envelope: Envelope, seq: int) -> None:
        """Remember when a rest was written; it is as long as it may be, and only a failure is followed by one."""
        event = envelope.data
        if isinstance(event, JobQueued) and event.start_after:
            assert event.reason == "failed"
            base_us = self.admitted[envelope.run].retry_backoff_ms * 1000
            assert 0.75 * base_us - 1 <= event.start_after - envelope.at <= 1.25 * min(4 * base_us, 120_000_000)
            rest = Rest(event.start_after, envelope.at, seq, self.moment())
            self.rests[(envelope.run, envelope.job, envelope.attempt)] = rest

    def begin_work(self, key: tuple[str, str]) -> None:
        self.working[key] = self.working.get(key, 0) + 1
        assert self.working[key] == 1, f"seed {self.seed}: two attempts of {key} at once"

    def known_fact(self, run: str, job: str, attempt: int) -> int:
        """The highest fact of an attempt on the log: what its runner knows to be answered."""
        facts = [0]
        for stored in self.log.entries:
            envelope = decode(stored.body)
            if (envelope.run, envelope.job, envelope.attempt) == (run, job, attempt):
                facts.append(getattr(envelope.data, "fact", 0))
        return max(facts)

    def script(self) -> list[asks.RunnerFact]:
        """What a runner says of one attempt, from start to end."""
        roll = self.random.random()
        facts: list[asks.RunnerFact] = [JobPreparing(fact=1), JobExecuting(fact=2)]
        if roll < 0.1:
            return [JobPreparing(fact=1), self._failed(2)]
        facts.append(StepStarted(fact=3, step=0, name="s", shell="sh"))
        outcome = Outcome.FAILED if roll < 0.3 else Outcome.SUCCEEDED
        facts.append(StepFinished(fact=4, step=0, name="s", outcome=outcome, exit_code=int(roll < 0.3)))
        facts.append(JobUploading(fact=5))
        if outcome is Outcome.FAILED:
            return [*facts, self._failed(6)]
        return [*facts, asks.AttemptFinished(fact=6, outcome=outcome, exit_code=0)]

    def _failed(self, fact: int) -> asks.AttemptFinished:
        failure = Failure(failure_class="caller_fixable", reason="exit 1")
        return asks.AttemptFinished(fact=fact, outcome=Outcome.FAILED, exit_code=1, failure=failure)

    def deliver(self, ask: asks.AnyAsk, actor: str) -> asks.Answer | None:
        """Bring an ask to a coordinator: it, or its answer, may be lost, late or doubled."""
        roll = self.random.random() / max(self.chaos, 1e-9)
        if roll < 0.05:
            self.late.append((ask, actor))
            return None
        answer = self.random.choice(self.active).hear(ask, actor)
        if roll < 0.10:
            answer = self.random.choice(self.active).hear(ask, actor)
        if roll < 0.15:
            self.late.append((ask, actor))
        return None if roll < 0.20 else answer

    def submit(self) -> None:
        run = self.clock.new_id()
        count = self.random.randint(1, 6)
        jobs = []
        for at in range(count):
            depends = tuple(f"j{one}" for one in range(at) if self.random.random() < 0.3)
            group = self.random.choice(("", "", "g1", "g2"))
            jobs.append(
                Job(
                    name=f"j{at}",
                    depends_on=depends,
                    runs_on=self.random.choice(((), ("a",), ("b",), ("a", "b"))),
                    retry_count=self.random.choice((0, 0, 1, 3)),
                    concurrency_group=group,
                    concurrency_limit={"g1": 1, "g2": 2}.get(group, 1),
                )
            )
        self.plans[run] = Plan(name="p", jobs=tuple(jobs))
        self.admitted[run] = RunAdmitted(
            project=self.random.choice(("one", "two")),
            pipeline="p",
            jobs=count,
            plan_digest="sha256:0",
            retry_backoff_ms=self.random.choice((0, 300, 5_000, 60_000)),
        )

    def user(self) -> None:
        """Somebody asks for something."""
        run = self.random.choice(list(self.plans))
        runner = self.random.choice(self.runners)
        ask: asks.AnyAsk = self.random.choice(
            (
                asks.CancelRun(run=run, reason="enough"),
                asks.CancelJob(run=run, job=f"j{self.random.randint(0, 5)}"),
                asks.PauseRun(run=run),
                asks.ResumeRun(run=run),
                asks.PauseFleet(),
                asks.ResumeFleet(),
                asks.DrainRunner(runner=runner.name),
                asks.ResumeRunner(runner=runner.name),
            )
        )
        self.deliver(ask, "user:sim")

    def trouble(self) -> None:
        """One thing goes wrong."""
        roll = self.random.random()
        if roll < 0.3:
            self.random.choice(self.runners).die()
        elif roll < 0.5:
            self.random.choice(self.runners).silent_until = self.clock.monotonic() + self.random.choice((3, 14, 40))
        elif roll < 0.7:
            self.random.choice(self.coordinators).desk = None
        elif roll < 0.9 and self.clock.monotonic() > self.overlap_until:
            for one in self.coordinators:
                if one not in self.active:
                    one.open()  # who wins the baton reads to the end first; the loser may not know yet
            self.active = list(self.coordinators)
            self.overlap_until = self.clock.monotonic() + 3
        else:
            self.clock.step_wall(self.random.choice((-3600, 3600, -1)))
            self.skew = self.random.choice((0, -3_600_000_000, 3_600_000_000))

    def gather_outputs(self) -> None:
        """What the output keeper does: answer for every lost attempt."""
        for coordinator in self.active:
            desk = coordinator.desk
            for run in list(desk.world.runs.values()) if desk else []:
                for name, job in list(run.jobs.items()):
                    for attempt in job.outputs_wanted:
                        stored = asks.StoreOutput(run=run.id, job=name, attempt=attempt, missing="none")
                        self.deliver(stored, "coordinator")

    def pass_time(self) -> None:
        """Let a moment pass; when nobody works, exactly until the next rest is over, as far as leases allow."""
        seconds = self.random.random() * 2
        desks = [one.desk for one in self.active if one.desk is not None]
        deadlines = [one for desk in desks if (one := desk.world.resting.next_deadline()) is not None]
        if deadlines and not any(self.working.values()):
            seconds = min(max(0.0, min(deadlines) - self.clock.monotonic()), LEASE_SECONDS / 3)
        self.clock.advance(seconds)

    def tick(self) -> None:
        self.pass_time()
        for runner in self.runners:
            runner.watch_lease()
        if len(self.active) > 1 and self.clock.monotonic() > self.overlap_until:
            self.active = [self.random.choice(self.coordinators)]
            self.active[0].open()  # who holds the baton reads to the end first
        for run, admitted in self.admitted.items():
            if not any(run in one.desk.world.runs or run in one.desk.world.finished for one in self.active if one.desk):
                self.deliver(asks.AdmitRun(run=run, admitted=admitted), "user:sim")
        for runner in self.runners:
            runner.step()
        if self.late and self.random.random() < 0.3:
            self.deliver(*self.late.pop(self.random.randrange(len(self.late))))
        if self.random.random() < 0.3 * max(self.chaos, 0.5):
            self.gather_outputs()
        for coordinator in self.active:
            coordinator.think(coordinator.desk or coordinator.open())

    def run(self, *, ticks: int = 60, settle: int = 2000) -> None:
        """Let everything go wrong for a while, then wait until every run has ended."""
        for _ in range(self.random.randint(1, 4)):
            self.submit()
        for _ in range(ticks):
            self.tick()
            if self.random.random() < 0.15:
                self.trouble()
            if self.random.random() < 0.10:
                self.user()
            if self.random.random() < 0.03 and len(self.plans) < 8:
                self.submit()
        self.chaos = 0.0
        self.late = []
        resumed: list[asks.AnyAsk] = [asks.ResumeFleet(), *(asks.ResumeRun(run=run) for run in self.plans)]
        for ask in (*resumed, *(asks.ResumeRunner(runner=runner.name) for runner in self.runners)):
            while self.active[0].hear(ask, "user:sim") is None:
                pass
        for _ in range(settle):
            if self.ended():
                return
            self.tick()
        raise AssertionError(f"seed {self.seed}: not every run has ended")

    def ended(self) -> bool:
        desk = self.active[0].desk
        return desk is not None and len(self.active) == 1 and all(run in desk.world.finished for run in self.plans)
