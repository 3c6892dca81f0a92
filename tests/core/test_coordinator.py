"""The coordinator on a log in memory: answers wait for the log, and no failure of an append is guessed about."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from headway.core import asks
from headway.core.asks import Answer
from headway.core.blobs import Blobs
from headway.core.clock import ManualClock, SystemClock
from headway.core.coordinator import Coordinator, Identity
from headway.core.desk import CHECKPOINT_EVERY
from headway.core.envelope import decode
from headway.core.events import JobAssigned, JobCompleted, JobQueued, RunAdmitted, type_of
from headway.core.log import Conflict, Entry, Full, Unknown
from headway.core.memory import MemoryLog
from headway.core.plan import Job, Plan, encode_plan
from headway.core.states import Outcome

CLOCKS_APART_US = 5_000
"""What the machine's two clocks may differ by over a short while; one of them is being corrected all the time."""

RUN = "01977420-dc00-7b45-8c00-000000000001"


class FaultyLog(MemoryLog):
    """A log in memory whose next appends can be told to fail, stored or not."""

    def __init__(self) -> None:
        super().__init__(ManualClock())
        self.faults: list[tuple[Exception, bool]] = []

    def append(self, entry: Entry) -> asyncio.Future[int]:
        if not self.faults:
            return super().append(entry)
        error, stored = self.faults.pop(0)
        if stored:
            self.append_now(entry)
        future: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        future.set_exception(error)
        return future


class Desk:
    """A coordinator, its log and its blobs."""

    def __init__(self, folder: Path) -> None:
        self.log = FaultyLog()
        self.blobs = Blobs(folder)
        self.lost: list[tuple[str, str, int]] = []
        self.coordinator = self.another("one")

    def another(self, name: str) -> Coordinator:
        identity = Identity(coordinator=name, headway_version="0", host="here", pid=1, store="s")
        coordinator = Coordinator(self.log, self.blobs, ManualClock(), identity)
        coordinator.on_lost = lambda run, job, attempt: self.lost.append((run, job, attempt))
        return coordinator

    def admit(self, *jobs: Job) -> asks.AdmitRun:
        plan = Plan(name="p", jobs=jobs or (Job(name="a"),))
        digest = self.blobs.put_bytes(encode_plan(plan))
        return asks.AdmitRun(run=RUN, admitted=RunAdmitted(project="p", pipeline="p", jobs=1, plan_digest=digest))

    def types(self) -> list[str]:
        return [type_of(decode(stored.body).data) for stored in self.log.entries]


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    """A desk whose coordinator is open."""
    desk = Desk(tmp_path)
    await desk.coordinator.open()
    yield desk
    await desk.coordinator.close()


def register(runner: str = "r-00000001", store: str = "s") -> asks.RegisterRunner:
    return asks.RegisterRunner(runner=runner, labels=(), slots=1, store=store)


async def settled(desk: Desk, *, holds: str) -> None:
    """Wait until the log holds an event of this type."""
    async with asyncio.timeout(5):
        async for batch in desk.log.follow(start=1):
            if any(type_of(decode(stored.body).data) == holds for stored in batch):
                return


async def test_an_answer_comes_when_the_event_is_on_the_log(desk: Desk) -> None:
    """The answer names the sequence of what was stored, and the decisions follow."""
    answer = await desk.coordinator.ask(desk.admit(), actor="user:x")
    assert desk.log.entries[answer.seq - 1].body.find(b"run.admitted") > 0
    await settled(desk, holds="job.queued")
    assert desk.types() == ["coordinator.elected", "run.admitted", "job.admitted", "job.queued"]


async def test_the_same_ask_again_is_answered_and_changes_nothing(desk: Desk) -> None:
    """Asking twice is harmless."""
    await desk.coordinator.ask(desk.admit(), actor="user:x")
    await settled(desk, holds="job.queued")
    before = len(desk.log.entries)
    again = await desk.coordinator.ask(desk.admit(), actor="user:x")
    assert (again.refused, again.retry, len(desk.log.entries)) == ("", False, before)


@pytest.mark.parametrize("stored", [True, False])
async def test_an_append_without_an_answer_is_looked_up(desk: Desk, stored: bool) -> None:
    """Stored or not, the ask is answered once it is known, and its event is there exactly once."""
    desk.log.faults = [(Unknown("no answer"), stored)]
    answer = await asyncio.wait_for(desk.coordinator.ask(desk.admit(), actor="user:x"), 5)
    assert answer.seq > 0
    await settled(desk, holds="job.queued")
    assert desk.types().count("run.admitted") == 1


async def test_two_coordinators_never_write_over_one_another(desk: Desk) -> None:
    """The one that has not seen the other's events conflicts, reads on, and says nothing twice."""
    other = desk.another("two")
    await other.open()
    await other.ask(desk.admit(), actor="user:x")
    await settled(desk, holds="job.queued")
    answer = await asyncio.wait_for(desk.coordinator.ask(desk.admit(), actor="user:x"), 5)
    assert answer.seq or answer.retry
    await desk.coordinator.opened()
    assert (await desk.coordinator.ask(register(), actor="runner:r")).seq
    await settled(desk, holds="job.assigned")
    assert [desk.types().count(kind) for kind in ("run.admitted", "job.queued", "job.assigned")] == [1, 1, 1]
    await other.close()


async def test_a_refusal_from_an_old_view_is_not_given(desk: Desk) -> None:
    """Before it refuses, a coordinator makes sure that nobody else has gone on."""
    other = desk.another("two")
    await other.open()
    await other.ask(desk.admit(), actor="user:x")
    await other.ask(register(), actor="runner:r")
    await settled(desk, holds="job.assigned")
    report = asks.Report(
        runner="r-00000001",
        run=RUN,
        job="a",
        attempt=1,
        facts=(asks.Said(at=1, what=asks.AttemptFinished(fact=1, outcome=Outcome.SUCCEEDED)),),
    )
    assert await desk.coordinator.ask(report, actor="runner:r") == Answer(retry=True)
    await desk.coordinator.opened()
    assert (await desk.coordinator.ask(report, actor="runner:r")).seq
    await settled(desk, holds="run.completed")
    completed = [decode(one.body).data for one in desk.log.entries if b'"job.completed"' in one.body]
    assert [event.outcome for event in completed if isinstance(event, JobCompleted)] == [Outcome.SUCCEEDED]
    await other.close()


async def test_a_full_log_refuses_new_runs_and_says_so(desk: Desk) -> None:
    """No space is a clear no for a new run."""
    desk.log.faults = [(Full("no space left"), False)]
    answer = await asyncio.wait_for(desk.coordinator.ask(desk.admit(), actor="user:x"), 5)
    assert answer.code == "unavailable"
    assert "the log is full" in answer.refused


async def test_a_conflict_that_nobody_caused_is_survived(desk: Desk) -> None:
    """A coordinator that is told of a conflict reads and goes on."""
    desk.log.faults = [(Conflict("so it seems"), False)]
    answer = await asyncio.wait_for(desk.coordinator.ask(desk.admit(), actor="user:x"), 5)
    assert answer.seq > 0


async def test_a_runner_of_another_store_is_refused(desk: Desk) -> None:
    """A runner that cannot see the blobs is told so when it registers."""
    answer = await desk.coordinator.ask(register(store="other"), actor="runner:r")
    assert "blob store" in answer.refused


async def test_a_start_reads_from_the_checkpoint(tmp_path: Path) -> None:
    """After many events there is a checkpoint, a new coordinator starts from it, and a damaged one costs only time."""
    desk = Desk(tmp_path)
    await desk.coordinator.open()
    for _ in range(CHECKPOINT_EVERY // 2 + 1):
        await desk.coordinator.ask(asks.PauseFleet(), actor="user:x")
        await desk.coordinator.ask(asks.ResumeFleet(), actor="user:x")
    await settled(desk, holds="coordinator.checkpointed")
    await desk.coordinator.close()
    [blob] = [path for path in (tmp_path / "sha256").rglob("*") if path.is_file()]
    for damage in (False, True):
        if damage:
            blob.chmod(0o600)
            blob.write_bytes(b"junk")
        fresh = desk.another(f"fresh{damage}")
        await fresh.open()
        assert fresh.desk is not None
        assert fresh.desk.world.seq == len(desk.log.entries)
        await fresh.close()


async def test_a_checkpoint_that_cannot_be_stored_costs_nothing(desk: Desk, tmp_path: Path) -> None:
    """Decisions are sent before the checkpoint, and a store that fails is tried again later."""
    for _ in range(CHECKPOINT_EVERY // 2 - 1):
        await desk.coordinator.ask(asks.PauseFleet(), actor="user:x")
        await desk.coordinator.ask(asks.ResumeFleet(), actor="user:x")
    admit = desk.admit()
    (tmp_path / "sha256").rename(tmp_path / "away")
    (tmp_path / "sha256").write_text("not a folder")
    assert len(desk.log.entries) < CHECKPOINT_EVERY
    plan = Plan(name="p", jobs=(Job(name="a"),))
    assert (await desk.coordinator.ask(admit, actor="user:x", plan=plan)).seq
    await settled(desk, holds="job.queued")
    (tmp_path / "sha256").unlink()
    (tmp_path / "away").rename(tmp_path / "sha256")
    assert (await desk.coordinator.ask(register(), actor="runner:r")).seq
    await settled(desk, holds="coordinator.checkpointed")


async def test_a_rest_ends_although_nobody_asks_anything(tmp_path: Path) -> None:
    """The coordinator wakes by itself when a job has rested, and not before."""
    desk = Desk(tmp_path)
    identity = Identity(coordinator="awake", headway_version="0", host="here", pid=1, store="s")
    coordinator = Coordinator(desk.log, desk.blobs, SystemClock(), identity)
    await coordinator.open()
    admit = desk.admit(Job(name="a", retry_count=1))
    admit = asks.AdmitRun(run=RUN, admitted=msgspec.structs.replace(admit.admitted, retry_backoff_ms=100))
    await coordinator.ask(admit, actor="user:x")
    await coordinator.ask(register(), actor="runner:r")
    await settled(desk, holds="job.assigned")
    end = asks.Said(at=1, what=asks.AttemptFinished(fact=1, outcome=Outcome.FAILED))
    report = asks.Report(runner="r-00000001", run=RUN, job="a", attempt=1, facts=(end,))
    began = time.monotonic()
    await coordinator.ask(report, actor="runner:r")
    async with asyncio.timeout(5):
        async for batch in desk.log.follow(start=len(desk.log.entries)):
            if any(type_of(decode(stored.body).data) == "job.assigned" for stored in batch):
                break
    assert time.monotonic() - began >= 0.075
    said = [decode(stored.body) for stored in desk.log.entries]
    (queued,) = (one for one in said if isinstance(one.data, JobQueued) and one.attempt == 2)
    assert isinstance(queued.data, JobQueued)
    (assigned,) = (one for one in said if isinstance(one.data, JobAssigned) and one.attempt == 2)
    assert queued.at < queued.data.start_after <= assigned.at + CLOCKS_APART_US
    await coordinator.close()


async def test_a_plan_out_of_reach_is_waited_for(desk: Desk, tmp_path: Path) -> None:
    """A store that is away for a while must not fail the jobs of a run; a damaged plan does."""
    await desk.coordinator.ask(desk.admit(), actor="user:x")
    await settled(desk, holds="job.queued")
    (tmp_path / "sha256").rename(tmp_path / "away")
    fresh = desk.another("fresh")
    with pytest.raises(Unknown, match="is not in the blob store"):
        await fresh.open()
    (tmp_path / "away").rename(tmp_path / "sha256")
    await fresh.open()
    assert (await fresh.ask(register(), actor="runner:r")).seq
    await settled(desk, holds="job.assigned")
    await fresh.close()
