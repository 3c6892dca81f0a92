"""What two worlds must have in common to be the same one: the state, and every index that follows from it."""

from __future__ import annotations

from typing import Any

import msgspec

from headway.core.queue import Key
from headway.core.run import JobState
from headway.core.world import Need, World, need_of, restore


def state(world: World) -> dict[str, Any]:
    """The state as plain data, sets in order, so that two equal worlds compare equal and a difference can be read."""
    found: dict[str, Any] = msgspec.json.decode(world.snapshot())
    for runner in found["fleet"].get("runners", {}).values():
        runner["labels"] = sorted(runner["labels"])
        runner["held"] = sorted(runner.get("held", ()))
    return found


def indexes(world: World) -> dict[str, Any]:
    """The indexes without what no longer means anything in them, and without their order."""
    found: dict[str, Any] = {need.name: set(keys) for need, keys in world.needs.items()}
    found["ASSIGN"] = waiting(world)
    for name in ("group_held", "project_held"):
        found[name] = dict(getattr(world.queue, name))
    for name in ("unadmitted", "closable", "bereaved", "replaced", "strays", "free"):
        found[name] = set(getattr(world, name))
    return found


def waiting(world: World) -> set[Key]:
    """The jobs that wait for a slot, in the queue, set aside behind a full group, or resting before it."""
    resting = {key for key in world.resting if need_of(world.runs[key[0]], _job(world, key)) is Need.ASSIGN}
    assert not resting & set(world.queue), "who rests is not in the queue"
    return set(world.queue) | resting


def _job(world: World, key: Key) -> JobState:
    return world.runs[key[0]].jobs[key[1]]


def needed(world: World) -> dict[str, set[Key]]:
    """What every job needs, by looking at each: what the indexes must agree with."""
    found: dict[str, set[Key]] = {need.name: set() for need in Need}
    for run in world.runs.values():
        for name, job in run.jobs.items():
            need = need_of(run, job)
            if need is not None:
                found[need.name].add((run.id, name))
    return found


def check(world: World) -> None:
    """The indexes say what the state says, and a checkpoint taken here would give back this very world."""
    live = indexes(world)
    assert {name: live[name] for name in needed(world)} == needed(world)
    again = restore(world.snapshot())
    told = {key for key in again.resting if _job(world, key).start_after}
    assert set(world.resting) <= told == set(again.resting), "a checkpoint has everybody who rests"
    assert state(again) == state(world)
    assert indexes(again) == live
    for runner in world.fleet.runners.values():
        held = {
            (run.id, name)
            for run in world.runs.values()
            for name, job in run.jobs.items()
            if job.runner == runner.runner
        }
        assert runner.held == held


def empty(world: World) -> dict[str, Any]:
    """All that is kept beside the fleet and the names of what is over: {} when nothing is left behind."""
    kept: dict[str, Any] = {need.name: keys for need, keys in world.needs.items()}
    for name in ("runs", "plans"):
        kept[name] = getattr(world, name)
    for name in ("group_held", "project_held"):
        kept[name] = getattr(world.queue, name)
    for name in ("unadmitted", "closable", "bereaved", "replaced", "strays"):
        kept[name] = getattr(world, name)
    kept["resting"] = list(world.resting)
    kept["queue"] = [*world.queue, *world.queue.labels]
    kept["held"] = [runner.held for runner in world.fleet.runners.values() if runner.held]
    return {name: what for name, what in kept.items() if what}
