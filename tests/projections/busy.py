"""A busy history: everything that can happen to jobs happens, at random, but the same for the same seed."""

from __future__ import annotations

import random
from typing import Any

from headway.core.events import JobAdmitted, RunAdmitted, Source
from headway.core.plan import digest_of
from headway.core.states import Outcome
from tests.projections.histories import History

RUNNERS = ("local-8f3a2c1d", "spare-00000001")
LABELS = (("linux",), ("linux", "gpu"), ())


class Busy(History):
    """A history in which the time between events is chance's, and so is nearly everything else."""

    def __init__(self, seed: int, jobs: int) -> None:
        super().__init__(seed=seed)
        self.chance = random.Random(seed)
        for runner in RUNNERS:
            self.register(runner)
        while jobs > 0:
            jobs -= self.some_run()

    def say(self, *event: Any, **more: Any) -> int:
        """Append an event after a while, which may be no time at all."""
        self.clock.advance(self.chance.choice([0, 0.004, self.chance.expovariate(0.1)]))
        return super().say(*event, **more)

    def some_run(self) -> int:
        """A run with some jobs; returns how many."""
        jobs = self.chance.randrange(1, 40)
        pipeline, branch = self.chance.choice(["build", "test", "ship"]), self.chance.choice(["main", "side"])
        run = self.clock.new_id()
        admitted = RunAdmitted(
            project=self.chance.choice(["shop", "bank"]),
            pipeline=pipeline,
            jobs=jobs,
            plan_digest=digest_of(b"plan"),
            source=Source(digest=digest_of(b"tree"), branch=branch),
        )
        self.say(admitted, run=run)
        names = [f"job-{number}" for number in range(jobs)]
        for name in names:
            self.say(JobAdmitted(runs_on=self.chance.choice(LABELS)), run=run, job=name)
        for name in names:
            self.some_job(run, name)
        if self.chance.random() < 0.9:
            self.end(run, jobs=jobs)
        return jobs

    def some_job(self, run: str, job: str) -> None:
        """A job that goes one of the ways in which jobs go."""
        runner, way = self.chance.choice(RUNNERS), self.chance.random()
        if way < 0.05:
            self.drop(run, job, self.chance.choice([Outcome.CANCELLED, Outcome.SKIPPED]))
        elif way < 0.1:
            self.queue(run, job)
            self.work(run, job, runner=runner)
            self.lose(run, job, runner=runner)
            self.queue(run, job, attempt=2, reason="lost")
            self.pass_job(run, job, attempt=2, runner=runner)
        elif way < 0.15:
            self.queue(run, job)
            self.work(run, job, runner=runner)
            self.complete(run, job, outcome=Outcome.CANCELLED)
        elif way < 0.2:
            self.queue(run, job)
            if self.chance.random() < 0.5:
                self.assign(run, job, runner=runner)
        elif way > 0.22:
            self.pass_job(run, job, runner=runner)
