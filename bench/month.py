"""A month of a busy service in a file: what a reader of the tables has to cope with when they are full.

Written by the product's own rules, with the log's time made up: events come at random over thirty days. There are small
pipelines, one of 1,000 jobs, branches, runners with different labels, jobs that fail, that are tried again, and that
are skipped because of it. The last run goes on.
"""

from __future__ import annotations

import random
from collections.abc import AsyncGenerator, Iterator
from itertools import count, islice
from pathlib import Path
from typing import Final

import msgspec

from headway.core.asks import AdmitRun, AnyAsk, AttemptFinished, RegisterRunner, Report, RunnerFact, Said
from headway.core.clock import ManualClock
from headway.core.desk import Desk
from headway.core.events import (
    Failure,
    JobExecuting,
    JobPreparing,
    JobUploading,
    Prepared,
    RunAdmitted,
    Source,
    StepFinished,
    StepStarted,
)
from headway.core.log import Entry, Stored
from headway.core.plan import Job, Plan, Step, digest_of, encode_plan
from headway.core.states import Outcome

DAYS: Final = 30
BATCH: Final = 500
LARGE_EVERY: Final = 100
APPEND_SECONDS: Final = 0.0002
BRANCHES: Final = ("main", "release", *(f"feature-{number}" for number in range(12)))
RUNNERS: Final = {
    **{f"linux-{number:08x}": ("linux",) for number in range(4)},
    **{f"gpu-{number:08x}": ("gpu", "linux") for number in range(2)},
}
LARGE: Final = Plan(
    name="everything",
    jobs=tuple(
        Job(name=f"part-{n}", steps=(Step(name="make", script="make"),), runs_on=("linux",)) for n in range(1000)
    ),
)


def _small(name: str, jobs: int) -> Plan:
    """A pipeline of groups of four jobs, of which the last three wait for the first; every ninth job wants a GPU."""
    made = [
        Job(
            name=f"{name}-{n}",
            steps=(Step(name="make", script="make"),),
            depends_on=() if n % 4 == 0 else (f"{name}-{n - n % 4}",),
            runs_on=("gpu", "linux") if n % 9 == 8 else ("linux",),
            retry_count=n % 2,
        )
        for n in range(jobs)
    ]
    return Plan(name=name, jobs=tuple(made))


SMALL: Final = tuple(
    _small(name, jobs)
    for name, jobs in (("build", 12), ("test", 40), ("lint", 4), ("docs", 3), ("ship", 8), ("nightly", 100))
)


class _Scribe:
    """A coordinator's desk, and runners that do what chance wants."""

    def __init__(self, events: int) -> None:
        self._random = random.Random(1)
        self._clock = ManualClock(seed=1)
        self._pause_seconds = DAYS * 86_400 / events
        self._desk = Desk("bench")
        self._desk.begin(0.0, at=self._clock.wall_us())

    def entries(self) -> Iterator[Stored]:
        """Whole runs, one after the other, without end."""
        for runner, labels in RUNNERS.items():
            yield from self._asked(RegisterRunner(runner=runner, labels=labels, slots=2))
        for number in count():
            yield from self._run(LARGE if number % LARGE_EVERY == 3 else self._random.choice(SMALL))

    def _run(self, plan: Plan) -> Iterator[Stored]:
        admitted = RunAdmitted(
            project="shop",
            pipeline=plan.name,
            jobs=len(plan.jobs),
            plan_digest=digest_of(encode_plan(plan)),
            source=Source(digest=digest_of(b"tree"), branch=self._random.choice(BRANCHES)),
        )
        run = self._clock.new_id()
        yield from self._asked(AdmitRun(run=run, admitted=admitted), plan)
        runners = self._desk.world.fleet.runners
        while held := sorted((job, name) for name, runner in runners.items() for _, job in runner.held):
            job, runner = self._random.choice(held)
            attempt = self._desk.world.runs[run].jobs[job].attempt
            for fact in self._facts():
                said = (Said(at=self._clock.wall_us(), what=fact),)
                yield from self._asked(Report(runner=runner, run=run, job=job, attempt=attempt, facts=said))

    def _facts(self) -> Iterator[RunnerFact]:
        failed = self._random.random() < 0.03
        yield JobPreparing(fact=1)
        yield JobExecuting(fact=2, prepared=(Prepared(what="source", duration_ms=self._random.randrange(3000)),))
        yield StepStarted(fact=3, step=0, name="make", shell="bash")
        outcome = Outcome.FAILED if failed else Outcome.SUCCEEDED
        yield StepFinished(fact=4, step=0, name="make", outcome=outcome, exit_code=int(failed), duration_ms=2)
        yield JobUploading(fact=5)
        failure = Failure(failure_class="caller_fixable", reason="make exited with 1", step=0) if failed else None
        yield AttemptFinished(fact=6, outcome=outcome, exit_code=int(failed), failure=failure)

    def _asked(self, ask: AnyAsk, plan: Plan | None = None) -> Iterator[Stored]:
        at = self._clock.wall_us()
        answer, heard = self._desk.hear(ask, actor="bench", now=1.0, at=at, plan=plan)
        assert not answer.refused, answer.refused
        entries = [*heard, *self._desk.decide(now=1.0, at=at)]
        yield from map(self._stored, entries)
        for _ in entries:
            self._clock.advance(self._random.expovariate(1 / self._pause_seconds))

    def _stored(self, entry: Entry) -> Stored:
        self._clock.advance(APPEND_SECONDS)
        logged = self._clock.wall_us()
        return Stored(seq=entry.expect + 1, logged=logged, subject=entry.subject, id=entry.id, body=entry.body)


class Month:
    """So many events of a month, in a file; they can be read as a log is."""

    def __init__(self, path: Path, events: int) -> None:
        self.end_us = 0
        self._path = path
        self._events = events
        encode = msgspec.msgpack.Encoder().encode
        entries = islice(_Scribe(events).entries(), events)
        with path.open("wb") as file:
            while batch := list(islice(entries, BATCH)):
                body = encode(batch)
                file.write(len(body).to_bytes(8) + body)
                self.end_us = batch[-1].logged

    async def last_seq(self) -> int:
        """How many events there are."""
        return self._events

    async def read(self, *, start: int = 1, end: int = 0) -> AsyncGenerator[list[Stored], None]:
        """All of them, in batches."""
        assert (start, end) == (1, self._events), "a month is read from its beginning to its end"
        decode = msgspec.msgpack.Decoder(list[Stored]).decode
        with self._path.open("rb") as file:
            while size := file.read(8):
                yield decode(file.read(int.from_bytes(size)))
