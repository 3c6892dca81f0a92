"""Long histories for measuring readers: written by the product's own rules, published faster than jobs could run."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

from nats.aio.client import Client

from headway.core.asks import AdmitRun, AnyAsk, AttemptFinished, RegisterRunner, Report, RunnerFact, Said
from headway.core.clock import SystemClock
from headway.core.desk import Desk
from headway.core.events import JobExecuting, JobPreparing, JobUploading, RunAdmitted, StepFinished, StepStarted
from headway.core.log import Entry
from headway.core.plan import Job, Plan, Step, digest_of, encode_plan
from headway.core.states import Outcome

RUNNER = "local-0123abcd"
JOBS_A_RUN = 100
BATCH = 500


class Scribe:
    """A coordinator's desk with a runner whose every attempt succeeds at once."""

    def __init__(self) -> None:
        self._clock = SystemClock()
        self._desk = Desk("bench")
        self._desk.begin(0.0, at=self._clock.wall_us())

    def entries(self) -> Iterator[Entry]:
        """Whole runs, one after the other, without end."""
        yield from self._asked(RegisterRunner(runner=RUNNER, labels=("local",), slots=2))
        while True:
            yield from self._run()

    def _run(self) -> Iterator[Entry]:
        step = Step(name="true", script="true")
        plan = Plan(name="made", jobs=tuple(Job(name=f"job-{n}", steps=(step,)) for n in range(JOBS_A_RUN)))
        admitted = RunAdmitted(
            project="bench", pipeline="made", jobs=JOBS_A_RUN, plan_digest=digest_of(encode_plan(plan))
        )
        run = self._clock.new_id()
        yield from self._asked(AdmitRun(run=run, admitted=admitted), plan)
        for job in plan.jobs:
            at = self._clock.wall_us()
            facts = tuple(Said(at=at, what=fact) for fact in _facts())
            yield from self._asked(Report(runner=RUNNER, run=run, job=job.name, attempt=1, facts=facts))

    def _asked(self, ask: AnyAsk, plan: Plan | None = None) -> Iterator[Entry]:
        answer, entries = self._desk.hear(ask, actor="bench", now=1.0, at=self._clock.wall_us(), plan=plan)
        assert not answer.refused, answer.refused
        yield from entries
        yield from self._desk.decide(now=1.0, at=self._clock.wall_us())


def _facts() -> Iterator[RunnerFact]:
    yield JobPreparing(fact=1)
    yield JobExecuting(fact=2)
    yield StepStarted(fact=3, step=0, name="true", shell="bash")
    yield StepFinished(fact=4, step=0, name="true", outcome=Outcome.SUCCEEDED, exit_code=0, duration_ms=2)
    yield JobUploading(fact=5)
    yield AttemptFinished(fact=6, outcome=Outcome.SUCCEEDED, exit_code=0)


async def publish(client: Client, count: int) -> int:
    """Put so many events on the stream, a whole number of batches; only the last of each batch is acknowledged."""
    assert count % BATCH == 0, f"{count} is no whole number of batches of {BATCH}"
    for written, entry in enumerate(islice(Scribe().entries(), count), 1):
        headers = {"Nats-Msg-Id": entry.id}
        if written % BATCH:
            await client.publish(entry.subject, entry.body, headers=headers)
        else:
            await client.request(entry.subject, entry.body, headers=headers, timeout=30)
    return count
