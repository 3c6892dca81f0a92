"""Facts: in order, numbered, each until it is answered; and the spool that keeps them meanwhile."""

from __future__ import annotations

from pathlib import Path

import pytest
from memory_link import YES, MemoryLink
from waiting import until

from headway.core.asks import Answer, AttemptFinished, Report, RunnerAsk
from headway.core.clock import ManualClock
from headway.core.events import JobPreparing, JobUploading
from headway.core.states import Outcome
from headway.runners.reporter import Attempted, Reporter
from headway.runners.spool import Spool, unanswered

WHO = Attempted(runner="r-1", run="run-1", job="build", attempt=1)


class Made:
    """A reporter and both of its ends."""

    def __init__(self, folder: Path) -> None:
        self.link = MemoryLink()
        self.spool = Spool(folder / "spool" / "r-1")
        self.refused: list[str] = []
        self.reporter = Reporter(
            WHO, link=self.link, spool=self.spool, clock=ManualClock(), on_refused=self.refused.append
        )

    def say(self, *, hold: bool = False) -> None:
        """Any fact."""
        self.reporter.say(JobPreparing(fact=self.reporter.next_fact()), hold=hold)

    def end(self) -> None:
        """The last fact."""
        self.reporter.say(AttemptFinished(fact=self.reporter.next_fact(), outcome=Outcome.SUCCEEDED))

    def batches(self) -> list[int]:
        """How many facts each report had."""
        return [len(ask.facts) for ask in self.link.asked if isinstance(ask, Report)]


@pytest.fixture
async def made(tmp_path: Path):
    """A reporter."""
    found = Made(tmp_path)
    yield found
    found.reporter.drop()
    found.spool.close()


async def test_facts_that_may_wait_travel_together(made: Made):
    """A quick attempt is one report, and nothing touches the disk."""
    made.say(hold=True)
    made.say(hold=True)
    made.end()
    await made.reporter.drained()
    assert made.batches() == [3]
    assert [fact.fact for fact in made.link.facts()] == [1, 2, 3]
    assert not made.spool.path.exists()


async def test_a_held_fact_does_not_wait_for_ever(made: Made):
    """Without company it goes by itself."""
    made.say(hold=True)
    await made.link.until(lambda: made.link.facts())


async def test_facts_queue_while_one_report_is_on_its_way(made: Made):
    """One report at a time: what comes meanwhile goes together in the next."""
    for _ in range(5):
        made.say()
    await made.link.until(lambda: len(made.link.facts()) == 5)
    assert made.batches() in ([5], [1, 4])


async def test_no_answer_means_the_same_again(made: Made):
    """An unanswered report is repeated, unchanged, and kept on disk until there is an answer."""
    made.link.answer = lambda ask: None
    made.say()
    await until(lambda: made.spool.path.exists() and unanswered(made.spool.path))
    await made.link.until(lambda: len(made.link.asked) >= 2)
    assert len({id(ask) for ask in made.link.asked}) == 1
    made.link.answer = lambda ask: YES
    made.end()
    await made.reporter.drained()
    assert [fact.fact for fact in made.link.facts()] == [1, 2]
    made.spool.close()
    assert not made.spool.path.exists()


async def test_not_now_means_again_later(made: Made):
    """A coordinator that is not ready is asked again."""
    answers = [Answer(retry=True), Answer(retry=True)]
    made.link.answer = lambda ask: answers.pop() if answers else YES
    made.end()
    await made.reporter.drained()
    assert len(made.link.asked) == 3


async def test_a_refusal_is_final(made: Made):
    """An attempt that no longer counts says so once, and nothing more is sent."""
    made.link.answer = lambda ask: Answer(refused="lost")
    made.say()
    await made.reporter.drained()
    made.end()
    await made.reporter.drained()
    assert made.refused == ["lost"]
    assert len(made.link.asked) == 1


async def test_a_dropped_attempt_waits_for_nothing(made: Made):
    """Whoever waits for answers is let go when the attempt is dropped."""
    made.link.answer = lambda ask: None
    made.end()
    await made.link.until(lambda: made.link.asked)
    made.reporter.drop()
    await made.reporter.drained()


async def test_reports_survive_in_the_spool(tmp_path: Path):
    """What was kept and not answered is read back, in order; a line cut short is passed over."""
    spool = Spool(tmp_path / "deep" / "r-1")
    reports = [Report(runner="r-1", run="run-1", job=f"job-{i}", attempt=1, facts=()) for i in range(5)]
    keys = [await spool.keep(report) for report in reports]
    spool.answered(keys[1])
    await spool.keep(reports[0])
    spool.close()
    with spool.path.open("ab") as file:
        file.write(b'{"key":99,"report":{"ask":"rep')
    assert unanswered(spool.path) == [reports[0], *reports[2:], reports[0]]
    assert unanswered(tmp_path / "absent") == []


async def test_a_long_spool_is_rewritten(tmp_path: Path):
    """The file does not grow with what was answered."""
    spool = Spool(tmp_path / "r-1")
    first = Report(runner="r-1", run="first", job="j", attempt=1, facts=())
    await spool.keep(first)
    for i in range(60):
        filler = Report(runner="r-1", run="x" * 100_000, job=str(i), attempt=1, facts=())
        spool.answered(await spool.keep(filler))
    assert spool.path.stat().st_size < 5_000_000
    spool.close()
    assert unanswered(spool.path)[0] == first


async def test_a_spool_that_cannot_be_written_does_not_stop_the_report(tmp_path: Path):
    """With a full disk the fact is still sent."""
    (tmp_path / "spool").write_text("not a folder")
    made = Made(tmp_path)
    asked: list[RunnerAsk] = []

    def answer(ask: RunnerAsk) -> Answer | None:
        asked.append(ask)
        return YES if len(asked) > 1 else None

    made.link.answer = answer
    made.reporter.say(JobUploading(fact=made.reporter.next_fact()))
    await made.reporter.drained()
    assert len(made.link.facts()) == 1
