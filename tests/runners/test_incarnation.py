"""An incarnation at work: what it takes, what it passes over, and how it ends."""

from __future__ import annotations

import asyncio
import collections
import os
from pathlib import Path

import pytest
from memory_link import YES, MemoryLink, assignment
from waiting import until

from headway.core.asks import Answer, RenewRunner, Report, RunnerAsk
from headway.core.blobs import Blobs
from headway.core.clock import SystemClock
from headway.core.events import JobCancelRequested, JobLost
from headway.core.states import Outcome
from headway.runners.attempt import Tools
from headway.runners.incarnation import Incarnation
from headway.runners.scripted import Act, Hang, Say, ScriptedExecutor
from headway.runners.spool import Spool

QUIET: list[Act] = [Say(b"done\n")]
STUCK: list[Act] = [Say(b"ready\n"), Hang(stubborn=True)]


class Runner:
    """An incarnation `r-1` with scripted slots: a step named `hang` hangs."""

    def __init__(self, folder: Path, *, slots: int = 1, lease_seconds: float = 60.0) -> None:
        self.folder = folder
        self.link = MemoryLink()
        self.executors = [ScriptedExecutor(self.script) for _ in range(slots)]
        tools = Tools(
            link=self.link,
            blobs=Blobs(folder / "blobs"),
            spool=Spool(folder / "spool"),
            clock=SystemClock(),
            work=folder / "work",
            system={"PATH": os.environ["PATH"]},
            grace_seconds=0.2,
        )
        self.life = Incarnation(
            "r-1", tools=tools, slots=collections.deque(self.executors), lease_seconds=lease_seconds
        )
        self.stopping = asyncio.Event()
        self.hurry = asyncio.Event()
        self.serving = asyncio.create_task(self.life.serve(stopping=self.stopping, hurry=self.hurry))

    def script(self, command: object) -> list[Act]:
        """By the script's own words."""
        script = Path(command.argv[-1]).read_text()
        return [Say(b"ready\n"), Hang()] if "wait" in script else STUCK if "hang" in script else QUIET

    @property
    def commands(self) -> int:
        """How many commands were started."""
        return sum(len(executor.commands) for executor in self.executors)

    async def stop(self) -> str:
        """Stop at once and say why it ended."""
        self.stopping.set()
        self.hurry.set()
        async with asyncio.timeout(10):
            return await self.serving


@pytest.fixture
async def runner(tmp_path: Path):
    """A runner with one slot; it leaves no workspace behind."""
    found = Runner(tmp_path)
    yield found
    await found.stop()
    assert not (tmp_path / "work").exists() or not os.listdir(tmp_path / "work")


async def test_it_runs_what_it_is_given(runner: Runner):
    """An assignment is acknowledged, run and reported."""
    runner.link.deliver(assignment("quick"))
    assert (await runner.link.finished()).outcome is Outcome.SUCCEEDED
    assert runner.link.acked == [1]


async def test_the_same_twice_runs_once(runner: Runner):
    """A delivery that comes again is acknowledged and nothing else, also long after it was done."""
    for _ in range(3):
        runner.link.deliver(assignment("quick"))
    await runner.link.finished()
    runner.link.deliver(assignment("quick"))
    runner.link.deliver(assignment("quick"), job="other")
    await runner.link.finished(job="other")
    assert runner.commands == 2
    assert runner.link.acked == [1, 2, 3, 4, 5]


async def test_another_incarnations_work_is_never_done(runner: Runner):
    """An assignment that names another runner is passed over."""
    foreign = assignment("quick", runner="r-0")
    runner.link.deliver(foreign)
    queue = runner.link._queues
    queue["r-1"].put_nowait(queue["r-0"].get_nowait())
    runner.link.deliver(assignment("quick"), job="own")
    await runner.link.finished(job="own")
    assert runner.commands == 1
    assert runner.link.acked == [1, 2]


async def test_more_than_fits_waits_for_a_slot(runner: Runner):
    """With one slot there is one attempt at a time, and all come to their turn."""
    for i in range(10):
        runner.link.deliver(assignment("quick"), job=f"job-{i}")
    for i in range(10):
        await runner.link.finished(job=f"job-{i}")
    assert runner.commands == 10


async def test_slots_work_beside_each_other(tmp_path: Path):
    """A slot that is busy does not hold the others."""
    runner = Runner(tmp_path, slots=2)
    runner.link.deliver(assignment("hang"), job="slow")
    for i in range(3):
        runner.link.deliver(assignment("quick"), job=f"job-{i}")
        await runner.link.finished(job=f"job-{i}")
    assert await runner.stop() == ""


async def test_a_cancellation_reaches_its_attempt(runner: Runner):
    """What runs is ended in good order, and only that."""
    runner.link.deliver(assignment("wait"))
    await until(lambda: runner.commands)
    runner.link.deliver(JobCancelRequested(runner="r-1", reason="enough"), attempt=7)
    runner.link.deliver(JobCancelRequested(runner="r-1", reason="not needed"))
    finished = await runner.link.finished()
    assert (finished.outcome, finished.reason) == (Outcome.CANCELLED, "not needed")


async def test_a_cancellation_may_come_before_its_assignment(runner: Runner):
    """Deliveries that overtake each other end the same way, and no step is started."""
    runner.link.deliver(JobCancelRequested(runner="r-1", reason="not needed"))
    runner.link.deliver(assignment("hang"))
    assert (await runner.link.finished()).outcome is Outcome.CANCELLED
    assert runner.commands == 0


async def test_a_lost_attempt_is_killed_and_says_no_more(runner: Runner):
    """After job.lost the slot is free for others, and nothing more is reported of it."""
    runner.link.deliver(assignment("hang"))
    await until(lambda: runner.commands)
    await runner.link.until(lambda: len(runner.link.facts()) == 3)
    runner.link.deliver(JobLost(runner="r-1", reason="silent"))
    runner.link.deliver(assignment("quick"), attempt=2)
    await runner.link.finished(attempt=2)
    assert len(runner.link.facts()) == 3


async def test_the_lease_is_renewed(tmp_path: Path):
    """Renewals go out by themselves, several in each lease, and the work goes on."""
    runner = Runner(tmp_path, lease_seconds=0.6)
    runner.link.deliver(assignment("hang"))
    renewals: list[RunnerAsk] = []
    await runner.link.until(lambda: len([a for a in runner.link.asked if isinstance(a, RenewRunner)]) >= 6)
    assert not renewals
    assert not runner.serving.done()
    assert await runner.stop() == ""


@pytest.mark.parametrize("answer", [None, Answer(retry=True)])
async def test_a_lease_that_cannot_be_renewed_ends_the_work(tmp_path: Path, answer: Answer | None):
    """Without an accepted renewal everything is killed before the lease ends."""
    runner = Runner(tmp_path, lease_seconds=1.0)
    runner.link.answer = lambda ask: answer if isinstance(ask, RenewRunner) else YES
    runner.link.deliver(assignment("hang"))
    loop = asyncio.get_running_loop()
    started = loop.time()
    async with asyncio.timeout(10):
        why = await runner.serving
    assert loop.time() - started < 1.0
    assert runner.life.lapsed
    assert "silent" in why
    assert len(runner.link.facts()) <= 3


async def test_a_replaced_runner_ends(tmp_path: Path):
    """A refused renewal means that this incarnation counts no more."""
    runner = Runner(tmp_path)
    runner.link.answer = lambda ask: Answer(refused="another took its place")
    async with asyncio.timeout(10):
        assert await runner.serving == "another took its place"
    assert not runner.life.lapsed


async def test_stopping_lets_work_finish(tmp_path: Path):
    """What finishes within the grace is reported; what is assigned meanwhile is not begun."""
    runner = Runner(tmp_path)
    runner.link.deliver(assignment("wait"))
    await until(lambda: runner.commands)
    runner.stopping.set()
    runner.link.deliver(assignment("quick"), job="late")
    runner.link.deliver(JobCancelRequested(runner="r-1", reason="so that it ends"))
    assert (await runner.link.finished()).outcome is Outcome.CANCELLED
    async with asyncio.timeout(10):
        assert await runner.serving == ""
    assert runner.link.facts(job="late") == []
    assert 2 not in runner.link.acked


async def test_stopping_does_not_wait_for_ever(tmp_path: Path):
    """What does not finish within the grace is killed and left to be given to others."""
    runner = Runner(tmp_path)
    runner.link.deliver(assignment("hang"))
    await until(lambda: runner.commands)
    runner.stopping.set()
    async with asyncio.timeout(10):
        assert await runner.serving == ""
    reported = [fact for ask in runner.link.asked if isinstance(ask, Report) for fact in ask.facts]
    assert len(reported) <= 3
