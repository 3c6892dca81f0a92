"""`kill -9` of everything, at random moments of a run of 200 jobs, witnessed from outside.

Each job takes an exclusive lock that its processes inherit, and appends its process id to a file of its own. So two
attempts of one job at once, or a process of a killed runner that is still there when the next attempt starts, leave a
mark that no event could hide.
"""

from __future__ import annotations

import json
import os
import random
from collections import Counter
from pathlib import Path

import pytest

from tests.acceptance.product import Product
from tests.acceptance.tables import rebuilt_differs_from_live
from tests.waiting import wait_until

JOBS = 200
KILLS = 9
SEED = int(os.environ.get("HEADWAY_CHAOS_SEED", "1"))

WITNESS = """\
exec 9>>"$WITNESS/$HEADWAY_JOB.lock"
flock --nonblock 9 || { echo "$HEADWAY_JOB $HEADWAY_ATTEMPT" >> "$WITNESS/violations"; exit 1; }
echo $$ >> "$WITNESS/$HEADWAY_JOB.pids"
sleep 0.05
"""


def chaos_pipeline(witness: Path) -> str:
    """200 jobs in four layers of fifty, each depending on one of the layer before."""
    jobs = {
        f"j{at}": {
            "depends_on": [f"j{at - 50}"] if at >= 50 else [],
            "environment": {"WITNESS": str(witness)},
            "steps": [{"name": "witness", "script": WITNESS}],
        }
        for at in range(JOBS)
    }
    return json.dumps({"name": "chaos", "jobs": jobs})


@pytest.mark.timeout(280)
def test_whatever_is_killed_the_run_ends_right(product: Product, tmp_path: Path) -> None:
    """Killed three times each, control plane, runner and log server: every job has one outcome, nothing is missing."""
    witness = tmp_path / "witness"
    witness.mkdir()
    product.write(chaos_pipeline(witness))
    product.environ["HEADWAY_ATTEMPT_LOSSES_MAX"] = "50"
    chance = random.Random(SEED)
    following = product.start("run", "--json")
    wait_until(lambda: started(witness) > 2, what="the first jobs", timeout_seconds=60)
    run = product.json("runs")["runs"][0]["run"]
    tail = product.start("tail", run, "--json")
    targets = ["service", "runner", "server"] * (KILLS // 3)
    chance.shuffle(targets)
    for target in targets:
        aim = min(JOBS - 10, started(witness) + chance.randint(1, 15))
        wait_until(lambda aim=aim: started(witness) >= aim, what=f"{aim} attempts", timeout_seconds=100)
        kill(product, target)
    out, errors = following.communicate(timeout=200)
    assert following.returncode == 0, f"seed {SEED}, {targets}\n{out}\n{errors}"
    seen, _ = tail.communicate(timeout=60)
    events = product.events(run)
    check_events(events)
    check_nothing_missing([json.loads(line) for line in seen.splitlines()], events)
    assert not (witness / "violations").exists(), (witness / "violations").read_text()
    check_witness(witness, events)
    product.ok("down")
    assert rebuilt_differs_from_live(product) == []


def started(witness: Path) -> int:
    """How many attempts have begun."""
    return sum(path.read_text().count("\n") for path in witness.glob("*.pids"))


def kill(product: Product, target: str) -> None:
    """Kill one process of this kind, once it is there."""
    find = {
        "service": lambda: [product.service_pid()],
        "server": lambda: [product.server_pid()],
        "runner": product.runner_pids,
    }[target]
    wait_until(lambda: any(product.kill(pid) for pid in find()[:1]), what=f"a {target} to kill", timeout_seconds=60)


def check_events(events: list[dict[str, object]]) -> None:
    """One accepted outcome a job, one seal, no gap in the numbers."""
    assert [event["n"] for event in events] == list(range(1, len(events) + 1))
    completed = Counter(event["job"] for event in events if event["type"] == "job.completed")
    assert completed == Counter({f"j{at}": 1 for at in range(JOBS)})
    assert [event["type"] for event in events].count("run.completed") == 1
    outcomes = {event["data"]["outcome"] for event in events if event["type"] == "job.completed"}  # type: ignore[index]
    assert outcomes == {"succeeded"}


def check_nothing_missing(seen: list[dict[str, object]], events: list[dict[str, object]]) -> None:
    """What a follower was ever shown is still there, word for word."""
    kept = {event["seq"]: event for event in events}
    assert seen
    for event in seen:
        assert kept[event["seq"]] == event


def check_witness(witness: Path, events: list[dict[str, object]]) -> None:
    """Every job left its mark, and no more often than it was assigned."""
    assigned = Counter(event["job"] for event in events if event["type"] == "job.assigned")
    for at in range(JOBS):
        marks = (witness / f"j{at}.pids").read_text().count("\n")
        assert 1 <= marks <= assigned[f"j{at}"]
