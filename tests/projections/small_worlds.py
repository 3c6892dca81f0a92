"""Logs short enough to be looked at after each of their events: simulated worlds, and the same with things that
nobody should have written."""

from __future__ import annotations

import json
import random
from functools import cache
from typing import Any

import msgspec

from headway.core.log import Stored
from tests.core.simulation import Simulation

EVENTS_MAX = 90
ODD_RATE = 0.1
ODD_RATE_RARE = 0.6
RARE = frozenset({"job.lost", "job.attempt_failed", "job.cancel_requested", "job.output_stored", "run.paused"})
SEEDS_LEAST = 100


RUNNERS = ("stranger-00000001", "all-00000001")
INVENTED: tuple[tuple[str, dict[str, Any]], ...] = (
    ("job.queued", {"reason": "lost"}),
    ("job.queued", {"reason": "failed", "start_after": 1_750_000_000_000_000}),
    ("job.assigned", {"runner": "", "definition": {"name": "odd"}}),
    ("job.preparing", {}),
    ("job.executing", {"prepared": [{"what": "source", "duration_ms": 100}, {"what": "inputs", "duration_ms": 10**9}]}),
    ("job.uploading", {}),
    ("job.attempt_failed", {"failure": {"class": "transient", "reason": "odd"}, "exit_code": 3}),
    ("job.lost", {"runner": "", "reason": "odd"}),
    ("job.output_stored", {"missing": "odd"}),
    ("job.output_stored", {"output": {"digest": "sha256:odd"}}),
    ("job.cancel_requested", {"reason": "odd"}),
    ("job.completed", {"outcome": "cancelled", "reason": "odd"}),
    ("step.started", {"step": 0, "name": "odd", "shell": "sh", "tried": 2}),
    ("step.finished", {"step": 0, "name": "odd", "outcome": "failed", "exit_code": 4}),
)


class SmallWorld(Simulation):
    """A simulation of few events in which much goes wrong and people do not leave it alone."""

    def submit(self) -> None:
        if len(self.plans) < 3:
            super().submit()

    def tick(self) -> None:
        super().tick()
        if self.chaos and self.random.random() < 0.3:
            self.user()
        if self.chaos and self.random.random() < 0.1:
            self.trouble()


def world(seed: int) -> list[Stored]:
    """The log of a simulated world; of every third the log's clock steps back now and then."""
    simulation = SmallWorld(seed)
    simulation.run(ticks=10)
    entries = simulation.log.entries
    if seed % 3:
        return entries
    chance, late_us, found = random.Random(seed), 0, []
    for stored in entries:
        late_us += chance.choice((0, 0, 0, 700_000, -700_000, 3_600_000_000))
        found.append(msgspec.structs.replace(stored, logged=stored.logged - late_us))
    return found


@cache
def seeds(count: int) -> list[int]:
    """The seeds of worlds that are small enough, those first in which most different things happen."""
    kinds = {}
    for seed in range(SEEDS_LEAST + 4 * count):
        entries = world(seed)
        if len(entries) <= EVENTS_MAX:
            kinds[seed] = len({json.loads(stored.body)["data"]["type"] for stored in entries})
    return sorted(kinds, key=lambda seed: -kinds[seed])[:count]


def odd_world(seed: int) -> list[Stored]:
    """A simulated log in which events are missing, come twice, late, or about what is not there.

    In most of them the events of a run are numbered anew, so that what comes twice is a new event that says what was
    said before.
    """
    chance = random.Random(seed)
    bodies: list[dict[str, Any]] = []
    for stored in world(seed):
        body = json.loads(stored.body)
        bodies.append(body)
        if chance.random() < (ODD_RATE_RARE if body["data"]["type"] in RARE else ODD_RATE):
            _spoil(chance, bodies)
    numbers: dict[str, int] = {}
    found = []
    for at, body in enumerate(bodies, 1):
        run = body.get("run", "")
        if run and seed % 4:
            body["n"] = numbers[run] = numbers.get(run, 0) + 1
        logged = 1_750_000_000_000_000 + at * 1_000_000
        found.append(Stored(seq=at, logged=logged, subject="headway.odd", id="", body=json.dumps(body).encode()))
    return found


def _spoil(chance: random.Random, bodies: list[dict[str, Any]]) -> None:
    """Do something to the end of the log: its last event goes, or comes too early, or another like it is beside it."""
    again = json.loads(json.dumps(bodies[-1]))
    said = again["data"]
    ways = ["again", "missing", "early", "old", "invented", "invented"]
    ways += [name for name in ("attempt", "job", "run") if name in again]
    ways += [name for name in ("runner", "fact", "outcome") if name in said]
    match chance.choice(ways):
        case "missing":
            bodies.pop()
            return
        case "early":
            bodies[-2:] = bodies[-2:][::-1]
            return
        case "invented":
            again = _invented(chance, again)
        case "old":
            again = json.loads(json.dumps(chance.choice(bodies)))
        case "attempt":
            again["attempt"] += chance.choice((-1, 1))
        case "job" | "run" as name:
            again[name] = "nobody"
        case "runner":
            said["runner"] = "stranger-00000001"
        case "fact":
            said["fact"] += chance.choice((-1, 1, 7))
        case "outcome":
            said["outcome"] = chance.choice(("failed", "succeeded", "cancelled"))
    bodies.insert(len(bodies) - chance.choice((0, 1)), again)


def _invented(chance: random.Random, body: dict[str, Any]) -> dict[str, Any]:
    """Any event about the same run and job, or the same runner, that nobody had a reason to write."""
    runner = chance.choice(RUNNERS) if body.get("run") else body["data"].get("runner", RUNNERS[0])
    event = {"id": "odd", "at": body["at"], "actor": "user:odd"}
    if not body.get("run"):
        kind = chance.choice(("runner.drained", "runner.resumed", "runner.lost", "runner.left", "fleet.paused"))
        said = {"reason": "odd"} if kind in ("runner.drained", "runner.lost", "fleet.paused") else {}
        return {**event, "data": {**said, "type": kind, "runner": runner}}
    event["run"] = body["run"]
    if not body.get("job"):
        return {**event, "data": {"type": chance.choice(("run.paused", "run.resumed", "run.cancel_requested"))}}
    kind, needed = chance.choice(INVENTED)
    said = {"type": kind, "fact": chance.randint(1, 9), **json.loads(json.dumps(needed))}
    if "runner" in said:
        said["runner"] = body["data"].get("runner", runner)
    attempt = max(0, body.get("attempt", 0) + chance.choice((0, 0, 1)))
    return {**event, "job": body["job"], "attempt": attempt, "data": said}
