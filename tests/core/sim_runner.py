"""A runner of the simulation: it does what the log assigns to it and reports it; it can die or fall silent anywhere."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from headway.core import asks
from headway.core.envelope import decode
from headway.core.events import JobAssigned, JobCancelRequested, JobLost
from headway.core.fleet import LEASE_SECONDS
from headway.core.states import Outcome

if TYPE_CHECKING:
    from tests.core.simulation import Simulation

LEASE_MARGIN_SECONDS = 2.0


class Work:
    """An attempt as its runner does it: what it will say, and what it has not been answered yet."""

    def __init__(self, key: tuple[str, str], attempt: int, facts: list[asks.RunnerFact]) -> None:
        self.key = key
        self.attempt = attempt
        self.script = facts
        self.unanswered: list[asks.Said] = []
        self.live = True


class SimRunner:
    """A runner: takes what the log assigns to it, reports it, and kills its work when it cannot renew its lease."""

    def __init__(self, sim: Simulation, name: str, labels: tuple[str, ...], slots: int) -> None:
        self.sim = sim
        self.name, self.labels, self.slots = name, labels, slots
        self.incarnation = ""
        self.previous: list[str] = []
        self.silent_until = 0.0
        self.start()

    def start(self) -> None:
        if self.incarnation:
            self.previous.append(self.incarnation)
        self.incarnation = f"{self.name}-{self.sim.random.getrandbits(32):08x}"
        self.registered = False
        self.answered = -1e9
        self.position = len(self.sim.log.entries)
        self.works: dict[tuple[str, str, int], Work] = {}
        self.done: set[tuple[str, str, int]] = set()

    def die(self) -> None:
        """kill -9, and another incarnation at once, which knows that this one is dead."""
        self.stop_all()
        self.start()

    def stop_all(self) -> None:
        for work in list(self.works.values()):
            self.stop(work)

    def give_up(self, work: Work) -> None:
        """Kill the work because the lease could not be renewed, and say so when somebody listens again."""
        self.rest(work)
        self.end_with(work, asks.AttemptFinished(fact=0, outcome=Outcome.CANCELLED, reason="no lease"))

    def end_with(self, work: Work, end: asks.AttemptFinished) -> None:
        """Let `end` be the last that is said, unless the end has been said already."""
        if work.unanswered and isinstance(work.unanswered[-1].what, asks.AttemptFinished):
            return
        spoken = work.unanswered[-1].what.fact if work.unanswered else self.sim.known_fact(*work.key, work.attempt)
        work.script = [msgspec.structs.replace(end, fact=spoken + 1)]

    def stop(self, work: Work) -> None:
        self.works.pop((*work.key, work.attempt), None)
        self.rest(work)

    def rest(self, work: Work) -> None:
        """No process of the attempt is alive any more, whatever is still to be said of it."""
        if work.live:
            work.live = False
            self.sim.working[work.key] -= 1

    def watch_lease(self) -> None:
        """Kill the work in time: nobody else may have it before."""
        if self.sim.clock.monotonic() > self.answered + LEASE_SECONDS - LEASE_MARGIN_SECONDS:
            for work in self.works.values():
                self.give_up(work)

    def step(self) -> None:
        now = self.sim.clock.monotonic()
        if now < self.silent_until:
            return
        if not self.registered:
            self.ask(
                asks.RegisterRunner(
                    runner=self.incarnation, labels=self.labels, slots=self.slots, replaces=tuple(self.previous[-3:])
                )
            )
            return
        if now > self.answered + LEASE_SECONDS / 3:
            self.ask(asks.RenewRunner(runner=self.incarnation))
            return
        self.listen()
        for work in list(self.works.values()):
            self.progress(work)

    def listen(self) -> None:
        """Read what the log has for this incarnation; sometimes a part of it again."""
        if self.sim.random.random() < 0.05 * self.sim.chaos:
            self.position = max(0, self.position - 20)
        for stored in self.sim.log.entries[self.position :]:
            if stored.subject.endswith(f".to.{self.incarnation}"):
                self.told(stored.body)
        self.position = len(self.sim.log.entries)

    def told(self, body: bytes) -> None:
        envelope = decode(body)
        name = (envelope.run, envelope.job, envelope.attempt)
        match envelope.data:
            case JobAssigned() if name not in self.done:
                self.done.add(name)
                self.works[name] = Work(name[:2], envelope.attempt, self.sim.script())
                self.sim.begin_work(name[:2])
            case JobCancelRequested() if name in self.works:
                self.end_with(self.works[name], asks.AttemptFinished(fact=0, outcome=Outcome.CANCELLED))
            case JobLost() if name in self.works:
                self.stop(self.works[name])
            case _:
                pass

    def progress(self, work: Work) -> None:
        if work.script and self.sim.random.random() < 0.7:
            fact = work.script.pop(0)
            if isinstance(fact, asks.AttemptFinished):
                self.rest(work)
            work.unanswered.append(asks.Said(at=self.sim.clock.wall_us() + self.sim.skew, what=fact))
        if not work.unanswered:
            return
        report = asks.Report(
            runner=self.incarnation,
            run=work.key[0],
            job=work.key[1],
            attempt=work.attempt,
            facts=tuple(work.unanswered),
        )
        answer = self.ask(report)
        if answer is None or answer.retry:
            return
        if answer.refused:
            if (*work.key, work.attempt) in self.works:
                self.stop(work)
            return
        finished = isinstance(work.unanswered[-1].what, asks.AttemptFinished)
        work.unanswered = []
        if finished and (*work.key, work.attempt) in self.works:
            self.stop(work)

    def ask(self, ask: asks.RunnerAsk) -> asks.Answer | None:
        sent = self.sim.clock.monotonic()
        answer = self.sim.deliver(ask, f"runner:{self.incarnation}")
        if answer is None:
            return None
        if answer.refused and not isinstance(ask, asks.Report):
            self.die()
            return None
        if not answer.refused and not answer.retry:
            self.answered = max(self.answered, sent)
            self.registered = True
        return answer
