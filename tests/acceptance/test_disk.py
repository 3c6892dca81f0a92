"""The disk under a home fills up in the middle of a run, and gets room again: said while it lasts, nothing lost."""

from __future__ import annotations

import json
import os
from collections import Counter
from pathlib import Path
from typing import Any

from tests.acceptance.product import Product
from tests.acceptance.small_disk import fill_disk, on_its_own_disk
from tests.acceptance.tables import rebuilt_differs_from_live
from tests.waiting import wait_until

JOBS = 50
STUCK = "the disk is full: nothing is stored until there is room"


def test_a_disk_that_fills_up_in_a_run_loses_nothing(tmp_path: Path) -> None:
    """Every job ends with one outcome, whoever asks is told of the disk, and what was shown before is still there."""
    on_its_own_disk(fill_in_a_run, tmp_path / "disk")


def test_a_job_that_fills_the_disk_itself_stops_nobody_else(tmp_path: Path) -> None:
    """Its files go when it ends, the log comes back by itself, and the next run is fine."""
    on_its_own_disk(fill_by_a_job, tmp_path / "disk", options="size=64m")


def fill_in_a_run(disk: Path) -> None:
    """Fill the disk once some jobs have run, look at it, make room, and count."""
    product = Product(disk.parent, home=disk / "home")
    marks = disk.parent / "marks"
    marks.mkdir()
    script = f"echo hello; echo $$ >> {marks}/$HEADWAY_JOB; sleep 0.05"
    jobs = {f"j{at}": {"steps": [script], "retry_count": 3} for at in range(JOBS)}
    product.write(json.dumps({"name": "disk", "jobs": jobs}))
    run = product.submit()
    following = product.start("run", "--json")
    tail = product.start("tail", run, "--json")
    wait_until(lambda: len(os.listdir(marks)) > JOBS // 5, what="some jobs have run", timeout_seconds=60)
    filler = fill_disk(disk)
    said_while_full(product)
    filler.unlink()
    out, errors = following.communicate(timeout=80)
    assert following.returncode == 0, out + errors
    product.ok("wait", run)
    seen = [json.loads(line) for line in tail.communicate(timeout=30)[0].splitlines()]
    check_run(product, run, seen)
    doctor = product.run("doctor")
    assert doctor.returncode == 0, doctor.stdout
    product.ok("down")
    assert rebuilt_differs_from_live(product) == []


def said_while_full(product: Product) -> None:
    """Doctor names the disk, as do status and a new run."""
    doctor = ""

    def stuck() -> bool:
        nonlocal doctor
        doctor = product.run("doctor").stdout
        return f"error    log                      {STUCK}; free some space, and it goes on by itself" in doctor

    wait_until(stuck, what="the service says that the disk is full", timeout_seconds=40)
    assert product.run("doctor").returncode == 1
    assert "another one coordinates" not in doctor
    status = product.run("status")
    assert (status.returncode, STUCK in status.stdout) == (0, True) or (
        status.returncode == 5 and "no space is left" in status.stderr
    )
    refused = product.fails(5, "run", "--detach")  # by whichever of the two writes first needs room
    assert any(words in refused for words in ("no space left on device; free some space", "no answer in")), refused


def check_run(product: Product, run: str, seen: list[dict[str, Any]]) -> None:
    """One accepted outcome a job, no gap, one seal; what a follower was shown is there word for word."""
    events = product.events(run)
    assert [event["n"] for event in events] == list(range(1, len(events) + 1))
    ended = Counter(event["job"] for event in events if event["type"] == "job.completed")
    assert ended == Counter(f"j{at}" for at in range(JOBS))
    assert events[-1]["type"] == "run.completed"
    assert {one["outcome"] for one in product.json("show", run)["jobs"]} == {"succeeded"}
    assert seen == events


def fill_by_a_job(disk: Path) -> None:
    """A job writes until there is no room, and fails."""
    product = Product(disk.parent, home=disk / "home")
    product.write("jobs:\n  greedy:\n    steps: [cat /dev/zero > all]\n")
    done = product.run("run")
    assert done.returncode == 1, done.stdout + done.stderr
    product.write("jobs:\n  quiet:\n    steps: [echo hello]\n")
    product.ok("run")
    assert product.ok("logs", "@", "quiet") == "hello\n"
    product.close()
