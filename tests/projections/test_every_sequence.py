"""An interpreter that shares nothing with the fold agrees with every answer, at every sequence, now and in the past."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from headway.core.envelope import decode
from headway.core.events import (
    FleetPaused,
    JobCancelRequested,
    RunCancelRequested,
    RunnerDrained,
    RunnerLost,
    RunPaused,
)
from headway.core.log import Stored
from headway.core.states import MOVES, STATUS, STATUS_AT_END, Outcome, State, Status
from headway.core.world import World
from headway.projections.apply import Fold, fold_batch
from headway.projections.past import past, replayed
from headway.projections.rebuild import compare
from headway.projections.store import Store
from tests import interpreter
from tests.core.test_histories import NAMES, load
from tests.interpreter import Interpreter
from tests.projections.every_answer import Answers, asked, differs, disagreement
from tests.projections.every_why import why_disagrees
from tests.projections.histories import eventful
from tests.projections.small_worlds import odd_world, seeds, world

WORLDS = int(os.environ.get("SEQUENCE_SEEDS", "8"))
BATCH = 4
ODD = 2 * WORLDS // 3


# One log, looked at after each of its events


async def check(entries: list[Stored], folder: Path, *, logs: str) -> None:
    """At every sequence the interpreter, the tables as they grow, the past and the run folded alone say the same."""
    path = folder / f"{logs.replace(' ', '-')}.db"
    store, fold, told = await Store.open(path), Fold(), Interpreter()
    try:
        async with store.reading() as db:
            present = [await asked(db, 0)]
        for stored in entries:
            await fold_batch(fold, store, [stored])
            told.tell(stored.seq, stored.logged, stored.body)
            async with store.reading() as db:
                present.append(await asked(db, stored.seq))
                wrong = disagreement(told, present[-1]) or await why_disagrees(told, db)
            assert not wrong, f"{logs}, sequence {stored.seq}: {wrong}"
        for seq, then in enumerate(present):
            await check_past(path, seq, then, logs=logs)
        await check_at_once(entries, path)
    finally:
        await store.close()


async def check_past(path: Path, seq: int, then: Answers, *, logs: str) -> None:
    """Asked at the end of the log, the answers of then are what they were."""
    async with past(path, seq) as db:
        wrong = differs(then, await asked(db, seq))
        assert not wrong, f"{logs}, sequence {seq}, then and in the past: {wrong}"
        for one in then["runs"].runs:
            alone = {one.run: await replayed(db, one.run, seq)}
            wrong = differs({one.run: then[f"show {one.run}"]}, alone)
            assert not wrong, f"{logs}, sequence {seq}, then and folded alone: {wrong}"


async def check_at_once(entries: list[Stored], path: Path) -> None:
    """Folded in one batch, the tables are the same as event by event."""
    other = path.with_suffix(".at-once.db")
    store = await Store.open(other)
    try:
        await fold_batch(Fold(), store, entries)
    finally:
        await store.close()
    assert await compare(path, other) == []


# What must hold


def test_the_interpreter_has_the_printed_table() -> None:
    """What it read from the page is the table of moves, the states that hold a slot, and the statuses."""
    assert {State(name): tuple(map(State, after)) for name, after in interpreter.MOVES.items()} == MOVES
    assert {State(name) for name in interpreter.HOLDING} == set(State) - {State(one) for one in interpreter.WAITS_FOR}
    printed = {
        (State(state), Outcome(outcome) if outcome else None): Status(status)
        for (state, outcome), status in interpreter.STATUS.items()
    }
    assert printed == {(state, None): status for state, status in STATUS.items()} | {
        (State.COMPLETED, outcome): status for outcome, status in STATUS_AT_END.items()
    }


@pytest.mark.parametrize("first", range(0, WORLDS, BATCH))
async def test_simulated_worlds(first: int, tmp_path: Path) -> None:
    """Whatever goes wrong in a world: the answers at every sequence are right, now and afterwards."""
    for seed in seeds(WORLDS)[first : first + BATCH]:
        await check(world(seed), tmp_path, logs=f"seed {seed}")


def test_the_worlds_have_everything_in_them() -> None:
    """Losses, retries, cancellations, pauses, drains and clocks that step are among what is looked at."""
    kinds = {type(decode(stored.body).data).__name__ for seed in seeds(WORLDS) for stored in world(seed)}
    missing = {"RunnerLeft", "CoordinatorCheckpointed"}
    every = {type(decode(stored.body).data).__name__ for name in NAMES for stored in load(name)} - missing
    assert every <= kinds
    steps = [
        one.logged - other.logged
        for seed in seeds(WORLDS)
        for other, one in zip(world(seed), world(seed)[1:], strict=False)
    ]
    assert min(steps) < 0
    assert 0 in steps


@pytest.mark.parametrize("first", range(0, ODD, BATCH))
async def test_odd_worlds(first: int, tmp_path: Path) -> None:
    """Events that are missing, come twice or late, or are about what is not there: all agree on what they mean."""
    for seed in seeds(WORLDS)[first : first + BATCH]:
        await check(odd_world(seed), tmp_path, logs=f"odd seed {seed}")


@pytest.mark.parametrize("name", NAMES)
async def test_recorded_histories(name: str, tmp_path: Path) -> None:
    """The same of every history that was ever recorded."""
    await check(load(name), tmp_path, logs=name)


async def test_a_day_of_a_service(tmp_path: Path) -> None:
    """The same of a history with phases, a step tried again, runners that leave, and words that mean nothing."""
    history = eventful()
    run = history.admit({"build": ()})
    history.queue(run, "build")
    history.work(run, "build", exit_code=1)
    history.start_step(run, "build", tried=2)
    history.finish_step(run, "build", tried=2)
    history.lose(run, "build", runner="third-00000002")
    history.queue(run, "build", attempt=2, reason="lost")
    for actor in ("user:ada", "user:grace"):
        history.say(RunPaused(reason=actor), run=run, actor=actor)
        history.say(FleetPaused(reason=actor), actor=actor)
        history.say(JobCancelRequested(reason=actor), run=run, job="build", attempt=1, actor=actor)
        history.say(RunCancelRequested(reason=actor), run=run, actor=actor)
    history.say(RunnerDrained(runner="third-00000002"))
    history.say(RunnerLost(runner="third-00000002", reason="silent"))
    history.lose(run, "build")
    history.upload(run, "build")
    await check(history.log.entries, tmp_path, logs="a day")


@pytest.mark.parametrize("make", [world, odd_world])
def test_the_coordinators_own_fold(make: Callable[[int], list[Stored]]) -> None:
    """What the coordinator decides by is what the interpreter says, whatever is on the log."""
    for seed in range(8 * WORLDS):
        decides, told = World(), Interpreter()
        for stored in make(seed):
            decides.apply(decode(stored.body), stored.body, stored.seq)
            told.tell(stored.seq, stored.logged, stored.body)
            assert decided(decides) == known(told), f"seed {seed}, sequence {stored.seq}"


def decided(world: World) -> dict[str, Any]:
    """What a coordinator has of the runs that are not over: their jobs, who holds them, and what was asked for."""
    return {
        name: (
            *(run.cancel, run.paused),
            {one: (job.state, job.attempt, job.runner, job.start_after, job.cancel) for one, job in run.jobs.items()},
        )
        for name, run in world.runs.items()
        if run.admitted_seq
    }


def known(told: Interpreter) -> dict[str, Any]:
    """The same of the interpreter."""
    return {
        name: (
            *(run.known["cancel_reason"], run.pause["reason"] if run.pause else None),
            {one: _known_of(job.known, held=job.held) for one, job in run.jobs.items()},
        )
        for name, run in told.runs.items()
        if not run.known["outcome"]
    }


def _known_of(job: dict[str, Any], *, held: bool) -> tuple[Any, ...]:
    runner = job["runner"] if held else ""
    return (job["state"], job["attempt"], runner, job["start_after"] or 0, job["cancel_reason"])
