"""A runner's life: its lock, its incarnations, what it says in the name of the dead."""

from __future__ import annotations

import asyncio
import fcntl
import os
import secrets
from collections.abc import Callable
from pathlib import Path

import pytest
from memory_link import YES, MemoryLink, accept, assignment
from waiting import with_argument

from headway.core.asks import Answer, LeaveRunner, RegisterRunner, RenewRunner, Report, RunnerAsk
from headway.core.blobs import Blobs
from headway.core.clock import SystemClock
from headway.core.errors import RefusedError, UnavailableError
from headway.core.states import Outcome
from headway.runners.__main__ import main
from headway.runners.agent import Agent, RunnerSettings
from headway.runners.folder import RunnerFolder
from headway.runners.spool import Spool, unanswered


class Living:
    """An agent named `r` on a link in memory."""

    def __init__(self, home: Path, answer: Callable[[RunnerAsk], Answer | None] = accept, **more: object) -> None:
        self.home = home
        self.link = MemoryLink(answer)
        self.connections = 0
        self.unreachable = False
        settings = RunnerSettings(
            home=home,
            name="r",
            labels=("linux",),
            slots=2,
            blobs=home / "blobs",
            environ=dict(os.environ),
            grace_seconds=0.2,
            **more,
        )
        self.agent = Agent(settings, connect=self.connect, clock=SystemClock())
        self.task = asyncio.create_task(self.agent.run())

    async def connect(self) -> MemoryLink:
        """The same link each time, unless it cannot be reached."""
        self.connections += 1
        if self.unreachable:
            raise UnavailableError("there is no log", next="start it")
        return self.link

    def registrations(self) -> list[RegisterRunner]:
        """How it registered, so far."""
        return [ask for ask in self.link.asked if isinstance(ask, RegisterRunner)]

    async def registered(self, times: int = 1) -> RegisterRunner:
        """Wait for a registration."""
        await self.link.until(lambda: len(self.registrations()) >= times)
        return self.registrations()[times - 1]

    async def stop(self) -> None:
        """Stop and wait for the end."""
        self.agent.stop()
        self.agent.stop()
        async with asyncio.timeout(20):
            await self.task


@pytest.fixture
async def start(tmp_path: Path):
    """Starts agents, and stops those that still run."""
    living: list[Living] = []

    def begin(*arguments: object, **more: object) -> Living:
        living.append(Living(tmp_path, *arguments, **more))
        return living[-1]

    yield begin
    for one in living:
        if not one.task.done():
            await one.stop()


async def test_a_runner_registers_works_and_leaves(start: Callable[..., Living], tmp_path: Path):
    """Registration says what it is, a real job runs, and leaving is said."""
    living = start()
    registered = await living.registered()
    assert registered.runner.startswith("r-")
    assert (registered.labels, registered.slots, registered.replaces) == (("linux",), 2, ())
    assert registered.store == Blobs(tmp_path / "blobs").identity()
    living.link.deliver(assignment("echo hello", runner=registered.runner))
    assert (await living.link.finished()).outcome is Outcome.SUCCEEDED
    await living.stop()
    assert living.link.asked[-1] == LeaveRunner(runner=registered.runner)
    assert living.link.closed
    folder = RunnerFolder(tmp_path, "r")
    await folder.lock(wait=False)
    folder.unlock()


async def test_there_is_one_runner_of_a_name(start: Callable[..., Living]):
    """A second one is refused while the first lives, or waits for its end when told to."""
    first = start()
    await first.registered()
    second = start()
    with pytest.raises(RefusedError, match="already runs"):
        await second.task
    third = start(wait_lock=True)
    await first.stop()
    assert (await third.registered()).replaces == ((await first.registered()).runner,)


async def test_waiting_for_the_lock_can_be_ended(start: Callable[..., Living]):
    """A runner that waits for its turn stops when it is told to."""
    first = start()
    await first.registered()
    await start(wait_lock=True).stop()


async def test_a_refused_registration_is_an_error(start: Callable[..., Living]):
    """Another blob store, a bad label: the coordinator's words reach the person."""
    living = start(lambda ask: Answer(refused="it sees another blob store", next="use the same folder"))
    with pytest.raises(RefusedError, match="another blob store") as caught:
        await living.task
    assert caught.value.next == "use the same folder"


async def test_the_dead_are_heard_and_replaced(start: Callable[..., Living], tmp_path: Path):
    """Facts that an earlier incarnation could not deliver go first, then the new one registers in its place."""
    folder = RunnerFolder(tmp_path, "r")
    (tmp_path / "runners" / "r").mkdir(parents=True)
    folder.note(["r-dead"])
    (folder.work / "left").mkdir(parents=True)
    spool = Spool(folder.spool("r-dead"))
    report = Report(runner="r-dead", run="run-1", job="build", attempt=1, facts=())
    await spool.keep(report)
    spool.close()
    living = start()
    registered = await living.registered()
    assert registered.replaces == ("r-dead",)
    assert living.link.asked.index(report) < living.link.asked.index(registered)
    assert unanswered(spool.path) == []
    assert not (folder.work / "left").exists()


async def test_facts_of_the_dead_are_kept_until_they_are_answered(start: Callable[..., Living], tmp_path: Path):
    """However often the coordinator says "not now", it is asked again, and until then they stay on disk."""
    spool = Spool(RunnerFolder(tmp_path, "r").spool("r-dead"))
    await spool.keep(Report(runner="r-dead", run="run-1", job="build", attempt=1, facts=()))
    spool.close()
    asked = 0
    kept: list[bool] = []

    def answer(ask: RunnerAsk) -> Answer:
        nonlocal asked
        if isinstance(ask, Report):
            asked += 1
            kept.append(spool.path.exists())
        return Answer(retry=True) if asked < 23 and isinstance(ask, Report) else YES

    living = start(answer)
    await living.registered()
    assert (asked, all(kept), spool.path.exists()) == (23, True, False)


async def test_a_silent_control_plane_costs_the_incarnation(start: Callable[..., Living]):
    """Work is killed when the lease cannot be renewed, and a new incarnation replaces the old when it can."""
    silent = False

    def answer(ask: RunnerAsk) -> Answer | None:
        return None if silent else YES

    living = start(answer, lease_seconds=1.0)
    first = await living.registered()
    word = f"{secrets.randbelow(10**8) + 10**8}"
    living.link.deliver(assignment(f"echo x; sleep {word}", runner=first.runner))
    await living.link.until(lambda: living.link.published)
    silent = True
    async with asyncio.timeout(10):
        while living.connections < 2:
            await living.link.until(lambda: len(living.link.asked))
            await asyncio.wait((living.task,), timeout=0.01)
    assert not with_argument(word)
    silent = False
    second = await living.registered(times=2)
    fresh = [one for one in living.registrations() if one.runner != first.runner]
    assert second.runner in (first.runner, fresh[0].runner)
    assert first.runner in fresh[0].replaces
    living.link.deliver(assignment("true", runner=fresh[0].runner), attempt=2)
    assert (await living.link.finished(attempt=2)).outcome is Outcome.SUCCEEDED


async def test_with_the_service_it_ends_with_the_service(start: Callable[..., Living]):
    """A local runner does not outlive its control plane by more than a lease."""
    living = start(lambda ask: None if isinstance(ask, RenewRunner) else YES, lease_seconds=0.5, with_service=True)
    with pytest.raises(UnavailableError, match="silent"):
        await asyncio.wait_for(living.task, 10)


async def test_without_a_log_it_waits_or_ends(start: Callable[..., Living]):
    """A runner of its own tries until there is a log; the service's gives up."""
    living = start()
    living.unreachable = True
    async with asyncio.timeout(10):
        while living.connections < 2:
            await asyncio.wait((living.task,), timeout=0.05)
    living.unreachable = False
    await living.registered()
    await living.stop()
    local = start(with_service=True, lease_seconds=0.1)
    local.unreachable = True
    with pytest.raises(UnavailableError, match="no log"):
        await asyncio.wait_for(local.task, 10)


def test_the_command_says_what_is_wrong(tmp_path: Path, capfd: pytest.CaptureFixture[str]):
    """A bad name and a name that is taken end with their exit codes and one line."""
    assert main(["--home", str(tmp_path), "--name", "../x"]) == 2
    assert "cannot be a runner's name" in capfd.readouterr().err
    folder = tmp_path / "runners" / "taken"
    folder.mkdir(parents=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert main(["--home", str(tmp_path), "--name", "taken"]) == 3
    assert "already runs" in capfd.readouterr().err
