"""Recorded histories: what was folded from them once is what is folded from them for ever.

Each `histories/<name>.jsonl` is a log, one entry a line, and `<name>.end.json` is the world after it. Neither is ever
written again: a log that exists somewhere cannot be changed either. To add one, write its story below, name it in
`STORIES`, and run `python -m tests.core.test_histories NAME`; a name that is taken is refused. The state may get new
fields; those that were recorded keep their meaning.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from headway.core import asks
from headway.core.desk import open_desk
from headway.core.envelope import decode, digest
from headway.core.events import (
    JobExecuting,
    JobPreparing,
    JobUploading,
    Output,
    RunCompleted,
    StepFinished,
    StepStarted,
)
from headway.core.fleet import LEASE_SECONDS
from headway.core.log import Stored
from headway.core.states import Outcome, State
from headway.core.world import World
from tests.core import worlds
from tests.core.story import RUN, Story, given, job, life, runner, submitted

FOLDER = Path(__file__).with_name("histories")
NAMES = sorted(path.stem for path in FOLDER.glob("*.jsonl"))
A = life("a")


class Line(msgspec.Struct, frozen=True):
    """An entry as it is kept in a file: the body as text, so that it is the same bytes and can be read."""

    seq: int
    logged: int
    subject: str
    body: str


def load(name: str) -> list[Stored]:
    """The log of a recorded history."""
    lines = [msgspec.json.decode(one, type=Line) for one in (FOLDER / f"{name}.jsonl").read_bytes().splitlines()]
    return [Stored(seq=one.seq, logged=one.logged, subject=one.subject, id="", body=one.body.encode()) for one in lines]


def folded(entries: list[Stored]) -> World:
    """The world after these entries."""
    world = World()
    for stored in entries:
        world.apply(decode(stored.body), stored.body, stored.seq)
    return world


def record(name: str) -> None:
    """Write a new history and its end. Never an old one anew."""
    entries = STORIES[name]().log.entries
    with (FOLDER / f"{name}.jsonl").open("x") as file:
        for one in entries:
            line = Line(seq=one.seq, logged=one.logged, subject=one.subject, body=one.body.decode())
            file.write(msgspec.json.encode(line).decode() + "\n")
    with (FOLDER / f"{name}.end.json").open("x") as file:
        json.dump(worlds.state(folded(entries)), file, indent=1)
        file.write("\n")


def shared(now: Any, recorded: Any) -> Any:
    """What is now without fields that were not known when the end was recorded."""
    if isinstance(now, dict) and isinstance(recorded, dict):
        return {name: shared(one, recorded[name]) for name, one in now.items() if name in recorded}
    if isinstance(now, list) and isinstance(recorded, list) and len(now) == len(recorded):
        return [shared(one, other) for one, other in zip(now, recorded, strict=True)]
    return now


# What must hold


def test_every_story_is_recorded() -> None:
    """A history that is written down here is kept there, with its end."""
    assert set(NAMES) == set(STORIES)
    assert {path.name for path in FOLDER.glob("*.end.json")} == {f"{name}.end.json" for name in NAMES}


@pytest.mark.parametrize("name", NAMES)
def test_a_recorded_history_folds_to_its_recorded_end(name: str) -> None:
    """Whatever changes in the code, what was true stays true."""
    recorded = json.loads((FOLDER / f"{name}.end.json").read_text())
    assert shared(worlds.state(folded(load(name))), recorded) == recorded


@pytest.mark.parametrize("name", NAMES)
def test_a_recorded_history_is_one_whole_chain_for_each_run(name: str) -> None:
    """Numbers without gaps, each event naming the one before, the seal repeating it, the subject under the run."""
    heads: dict[str, tuple[int, str]] = {}
    for at, stored in enumerate(load(name), 1):
        envelope = decode(stored.body)
        assert stored.seq == at
        if not envelope.run:
            continue
        n, head = heads.get(envelope.run, (0, ""))
        assert (envelope.n, envelope.prev) == (n + 1, head)
        assert stored.subject.split(".")[3] == envelope.run
        heads[envelope.run] = (envelope.n, digest(stored.body))
        if isinstance(envelope.data, RunCompleted):
            assert (envelope.data.n, envelope.data.prev) == (envelope.n, envelope.prev)


@pytest.mark.parametrize("name", NAMES)
def test_a_coordinator_that_starts_on_a_recorded_history_has_nothing_to_add(name: str) -> None:
    """All that followed from it had been said: today's rules agree with the ones it was written under."""
    desk = open_desk("new")
    for stored in load(name):
        desk.take(stored)
    assert desk.decide(now=0.0, at=0) == []


def test_a_recorded_history_is_never_written_again() -> None:
    """The recorder refuses a name that is taken."""
    before = (FOLDER / "one_job.jsonl").read_bytes()
    with pytest.raises(FileExistsError):
        record("one_job")
    assert (FOLDER / "one_job.jsonl").read_bytes() == before


def test_the_history_of_a_run_of_one_job_is_eleven_events() -> None:
    """From admission to the seal, in this order and nothing else."""
    types = [msgspec.json.decode(stored.body)["data"]["type"] for stored in load("one_job")]
    assert types[0] == "runner.registered"
    assert types[1:] == [
        "run.admitted",
        "job.admitted",
        "job.queued",
        "job.assigned",
        "job.preparing",
        "job.executing",
        "step.started",
        "step.finished",
        "job.uploading",
        "job.completed",
        "run.completed",
    ]


# The stories as they were told


def one_job() -> Story:
    """One job of one step, from end to end."""
    story = given(runner("a", "linux"), submitted("build"))
    story.clock.advance(0.25)
    story.reports("build", JobPreparing(fact=1), JobExecuting(fact=2))
    step = StepFinished(fact=4, step=0, name="make", outcome=Outcome.SUCCEEDED, exit_code=0, duration_ms=1200)
    story.reports("build", StepStarted(fact=3, step=0, name="make", shell="bash"), step, JobUploading(fact=5))
    output = Output(digest="sha256:" + "0" * 64, bytes=12, records=1)
    story.reports("build", asks.AttemptFinished(fact=6, outcome=Outcome.SUCCEEDED, exit_code=0, output=output))
    story.decides()
    return story


def failing_with_retry() -> Story:
    """A job that fails twice and then succeeds, and one that fails for good."""
    story = given(runner("a"), runner("b"), submitted(job("flaky", retry_count=2), job("bad", retry_count=1)))
    for _ in range(2):
        story.ends("flaky", Outcome.FAILED).ends("bad", Outcome.FAILED)
    return story.ends("flaky")


def lost_runner() -> Story:
    """A runner falls silent in the middle of one job, its next incarnation loses another, the output is gathered."""
    story = given(runner("a", slots=2), submitted("build", "lint")).reaches("build", State.EXECUTING)
    story.clock.advance(LEASE_SECONDS)
    story.decides()
    for number, replaced in ((2, 1), (3, 2)):
        story.hears(runner("a", slots=2, number=number, replaces=[life("a", replaced)]))
        story.decides()
    story.ends("build").ends("lint")
    for name in ("build", "lint"):
        for attempt in (1, 2):
            story.hears(asks.StoreOutput(run=RUN, job=name, attempt=attempt, missing="nothing was printed"))
    story.decides()
    return story


def cancelled() -> Story:
    """A run cancelled in the middle: one job on a runner, one queued, one that waits for others; and one job alone."""
    jobs = ("build", "lint", job("test", after=["build"]))
    story = given(runner("a"), submitted(*jobs), submitted("one", "two", run="r2"), asks.CancelJob(run="r2", job="one"))
    story.reaches("build", State.EXECUTING)
    story.hears(asks.CancelRun(run=RUN, reason="wrong branch"))
    story.decides()
    return story.ends("build", Outcome.CANCELLED).ends("two", run="r2")


def paused() -> Story:
    """A run and the whole service, paused and resumed while something runs."""
    story = given(runner("a"), submitted("one", "two"), asks.PauseRun(run=RUN, reason="look"), asks.PauseFleet())
    story.ends("one")
    for ask in (asks.ResumeRun(run=RUN), asks.ResumeFleet()):
        story.hears(ask)
        story.decides()
    return story.ends("two")


def skip_chain() -> Story:
    """A failure takes all that depends on it along, and nothing else."""
    chain = [job("a"), job("b", after=["a"]), job("c", after=["b"]), job("d", after=["c", "free"]), job("free")]
    return given(runner("a", slots=2), submitted(*chain)).ends("a", Outcome.FAILED).ends("free")


def groups() -> Story:
    """Two runs share a group of one place; the second is paused while it waits behind it. One run is left open."""
    story = given(runner("a", slots=4), submitted(job("one", group="db"), "free"))
    story.hears(submitted(job("two", group="db"), job("three", group="db"), run="r2", project="other"))
    story.decides()
    story.hears(asks.PauseRun(run="r2"))
    story.ends("one").ends("free")
    story.hears(asks.ResumeRun(run="r2"))
    story.decides()
    return story.ends("two", run="r2")


def drained() -> Story:
    """A runner is drained, finishes what it has, works again, and leaves with a job in hand. The run is left open."""
    story = given(runner("a"), submitted("one", job("two", after=["one"])), asks.DrainRunner(runner="a", reason="disk"))
    story.ends("one")
    story.hears(asks.ResumeRunner(runner="a"))
    story.decides()
    story.reaches("two", State.UPLOADING)
    story.hears(asks.LeaveRunner(runner=A))
    story.decides()
    return story


def backed_off() -> Story:
    """Two jobs fail: one rests and then succeeds, one has failed again and rests when the log ends."""
    jobs = (job("flaky", retry_count=2), job("bad", retry_count=2))
    story = given(runner("a", slots=2), submitted(*jobs, retry_backoff_ms=4_000))
    story.ends("flaky", Outcome.FAILED).ends("bad", Outcome.FAILED)
    story.clock.advance(5.1)
    story.decides()
    return story.ends("flaky").ends("bad", Outcome.FAILED)


STORIES: dict[str, Callable[[], Story]] = {
    story.__name__: story
    for story in (one_job, failing_with_retry, lost_runner, cancelled, paused, skip_chain, groups, drained, backed_off)
}


if __name__ == "__main__":
    for wanted in sys.argv[1:]:
        record(wanted)
