"""A runner's side of the log, in memory: a coordinator that accepts everything, unless it is told otherwise."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable

from waiting import breathe

from headway.core.asks import Answer, AttemptFinished, Report, RunnerAsk, RunnerFact
from headway.core.envelope import Envelope, Recorded
from headway.core.events import AnyEvent, JobAssigned
from headway.core.link import Delivery
from headway.core.log import Unknown
from headway.core.plan import Job, Step

Key = tuple[str, str, int]
YES = Answer(seq=1)


def accept(ask: RunnerAsk) -> Answer | None:
    """The friendliest coordinator."""
    return YES


class MemoryLink:
    """A link whose other end is the test. `answer` decides over each ask; None means that no answer comes."""

    def __init__(self, answer: Callable[[RunnerAsk], Answer | None] = accept) -> None:
        self.answer = answer
        self.asked: list[RunnerAsk] = []
        self.published: dict[Key, dict[str, bytes]] = {}
        self.publish_fails = False
        self.acked: list[int] = []
        self.closed = False
        self._facts: dict[Key, list[RunnerFact]] = {}
        self._queues: dict[str, asyncio.Queue[Delivery]] = {}
        self._changed = asyncio.Condition()
        self._seq = 0

    async def ask(self, ask: RunnerAsk, *, timeout_seconds: float = 5.0) -> Answer:
        """Note the ask and give the test's answer; what is accepted twice counts once."""
        await breathe()
        self.asked.append(ask)
        answer = self.answer(ask)
        if isinstance(ask, Report) and answer is not None and not answer.refused and not answer.retry:
            known = self._facts.setdefault((ask.run, ask.job, ask.attempt), [])
            for said in ask.facts:
                assert said.what.fact <= len(known) + 1, "facts come without gaps"
                if said.what.fact > len(known):
                    known.append(said.what)
        async with self._changed:
            self._changed.notify_all()
        if answer is None:
            raise Unknown("no answer")
        return answer

    async def deliveries(self, runner: str) -> AsyncGenerator[Delivery, None]:
        """What the test delivers, as it comes."""
        queue = self._queues.setdefault(runner, asyncio.Queue())
        while True:
            yield await queue.get()

    def publish_output(self, run: str, job: str, attempt: int, body: bytes, *, id: str) -> asyncio.Future[None]:
        """Keep the message, or fail as a server that is away does."""
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if self.publish_fails:
            done.set_exception(Unknown("no server"))
        else:
            self.published.setdefault((run, job, attempt), {})[id] = body
            done.set_result(None)
        return done

    async def close(self) -> None:
        """Note it."""
        self.closed = True

    def deliver(self, event: AnyEvent, *, run: str = "run-1", job: str = "build", attempt: int = 1) -> None:
        """Hand an event to the runner it names."""
        self._seq += 1
        envelope = Envelope(id=str(self._seq), at=0, actor="coordinator", data=event, run=run, job=job, attempt=attempt)
        recorded = Recorded(seq=self._seq, logged=0, envelope=envelope, body=b"")
        seq = self._seq
        queue = self._queues.setdefault(event.runner, asyncio.Queue())
        queue.put_nowait(Delivery(recorded, lambda: self.acked.append(seq)))

    def facts(self, run: str = "run-1", job: str = "build", attempt: int = 1) -> list[RunnerFact]:
        """What was accepted of an attempt, each fact once."""
        return self._facts.get((run, job, attempt), [])

    async def until(self, true: Callable[[], object], *, seconds: float = 10.0) -> None:
        """Wait until it is true; looked at after every ask."""
        async with asyncio.timeout(seconds), self._changed:
            await self._changed.wait_for(lambda: bool(true()))

    async def finished(self, run: str = "run-1", job: str = "build", attempt: int = 1) -> AttemptFinished:
        """How an attempt ended, once it has."""

        def last() -> RunnerFact | None:
            return (self.facts(run, job, attempt) or [None])[-1]

        await self.until(lambda: isinstance(last(), AttemptFinished))
        found = last()
        assert isinstance(found, AttemptFinished)
        return found


def assignment(*scripts: str | Step, runner: str = "r-1", **more: object) -> JobAssigned:
    """A job of these steps for a runner; fields of the job and of the event by name."""
    steps = tuple(one if isinstance(one, Step) else Step(name=one[:20], script=one) for one in scripts)
    of_job = {name: more.pop(name) for name in list(more) if name in Job.__struct_fields__}
    return JobAssigned(runner=runner, definition=Job(name="build", steps=steps, **of_job), **more)
