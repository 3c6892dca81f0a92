"""Whatever goes wrong, by thousands of seeds: the promises of the control plane hold on every log that comes out."""

from __future__ import annotations

import os
from collections import Counter

import pytest

from headway.core.desk import open_desk
from headway.core.envelope import decode, digest
from headway.core.events import JobAssigned, JobAttemptFailed, JobCompleted, JobLost, RunCompleted, RunnerRegistered
from headway.core.log import Stored
from headway.core.world import World, restore
from tests.core import worlds
from tests.core.simulation import Simulation

SEEDS = int(os.environ.get("SIMULATION_SEEDS", "2000"))
BATCH = 100


@pytest.mark.parametrize("first", range(0, SEEDS, BATCH))
def test_the_promises_hold_whatever_goes_wrong(first: int) -> None:
    """Every run ends once, no slot or group is overbooked, the chain holds, and folding is repeatable."""
    for seed in range(first, min(first + BATCH, SEEDS)):
        simulation = Simulation(seed)
        try:
            simulation.run()
            check_history(simulation)
            check_folds(simulation)
        except Exception as error:
            raise AssertionError(f"seed {seed}: {type(error).__name__}: {error}") from error


def check_history(simulation: Simulation) -> None:
    """The log itself, read with rules of its own: it shares nothing with the fold."""
    outcomes: Counter[tuple[str, str]] = Counter()
    ends: Counter[str] = Counter()
    heads: dict[str, tuple[int, str]] = {}
    slots: dict[str, int] = {}
    held: dict[tuple[str, str], tuple[str, int]] = {}
    for stored in simulation.log.entries:
        envelope = decode(stored.body)
        event = envelope.data
        key = (envelope.run, envelope.job)
        if envelope.run:
            n, head = heads.get(envelope.run, (0, ""))
            assert (envelope.n, envelope.prev) == (n + 1, head), "the chain of a run is whole"
            assert ends[envelope.run] == 0, "nothing follows the seal"
            heads[envelope.run] = (envelope.n, digest(stored.body))
        if isinstance(event, RunnerRegistered):
            slots[event.runner] = event.slots
        elif isinstance(event, JobAssigned):
            assert key not in held, "an attempt is assigned while another holds a slot"
            held[key] = (event.runner, envelope.attempt)
            assert sum(runner == event.runner for runner, _ in held.values()) <= slots[event.runner], "slots overbooked"
            check_groups(simulation, held)
        elif isinstance(event, JobCompleted):
            outcomes[key] += 1
            held.pop(key, None)
        elif isinstance(event, JobLost | JobAttemptFailed):
            assert held.pop(key)[1] == envelope.attempt
        elif isinstance(event, RunCompleted):
            ends[envelope.run] += 1
            assert (event.n, event.prev) == (envelope.n, envelope.prev)
    assert not held
    assert ends == Counter(dict.fromkeys(simulation.plans, 1))
    assert outcomes == Counter({(run, job.name): 1 for run, plan in simulation.plans.items() for job in plan.jobs})


def check_groups(simulation: Simulation, held: dict[tuple[str, str], tuple[str, int]]) -> None:
    """No concurrency group has more jobs on runners than its limit."""
    groups: Counter[str] = Counter()
    for run, name in held:
        job = next(one for one in simulation.plans[run].jobs if one.name == name)
        groups[job.concurrency_group] += 1
    assert groups["g1"] <= 1
    assert groups["g2"] <= 2


def check_folds(simulation: Simulation) -> None:
    """Folded twice, or from a checkpoint anywhere, the state is the same."""
    once, doubled = World(), World()
    cut = simulation.random.randrange(len(simulation.log.entries))
    resumed: World | None = None
    for stored in simulation.log.entries:
        fold(once, stored)
        fold(doubled, stored)
        fold(doubled, stored)
        if resumed is not None:
            fold(resumed, stored)
        if stored.seq == cut:
            resumed = restore(once.snapshot())
    assert worlds.state(once) == worlds.state(doubled)  # not the bytes: sets are written in any order
    assert resumed is None or worlds.state(resumed) == worlds.state(once)
    assert not once.runs
    assert not once.queue.project_held
    assert not once.queue.group_held
    assert not len(once.queue)
    assert not len(once.resting)
    assert not any(once.needs.values())


def fold(world: World, stored: Stored) -> None:
    world.apply(decode(stored.body), stored.body, stored.seq)


def test_the_same_seed_is_the_same_history() -> None:
    """A failure can be had again: one seed gives one log, byte for byte."""
    logs = []
    for _ in range(2):
        simulation = Simulation(7)
        simulation.run()
        logs.append([stored.body for stored in simulation.log.entries])
    assert logs[0] == logs[1]


def test_attempts_rest_in_the_simulation_and_are_assigned_after_it() -> None:
    """What is promised of rests is tried: there are rests, most of them end in an assignment, and clocks step."""
    rested = assigned = 0
    for seed in range(20):
        simulation = Simulation(seed)
        simulation.run()
        rested += len(simulation.rests)
        for stored in simulation.log.entries:
            envelope = decode(stored.body)
            key = (envelope.run, envelope.job, envelope.attempt)
            assigned += isinstance(envelope.data, JobAssigned) and key in simulation.rests
    assert rested > 20
    assert assigned > rested // 2


def test_a_fresh_desk_has_nothing_to_say_about_a_finished_log() -> None:
    """Deciding is about the state: a new coordinator on an old log stays silent."""
    simulation = Simulation(11)
    simulation.run()
    desk = open_desk("new")
    for stored in simulation.log.entries:
        desk.take(stored)
    assert desk.decide(now=0.0, at=0) == []
