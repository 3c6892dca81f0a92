"""Runners beside the one that comes with the service: labels, draining, and what a killed one leaves."""

from __future__ import annotations

import json
import signal
import subprocess
from pathlib import Path
from typing import Any

from tests.acceptance.product import Product, command_of, processes_with
from tests.waiting import wait_until

UNTIL_TOLD = 'echo $$ >> "{gate}.pids"; until [ -e "{gate}" ]; do sleep 0.05; done'


def start_runner(product: Product) -> subprocess.Popen[str]:
    """The runner `extra`, with a label of its own, once it is registered."""
    before = {one["runner"] for one in extras(product)}
    runner = product.start("runners", "start", "--name", "extra", "--labels", "gpu, big", "--slots", "1")
    wait_until(lambda: {one["runner"] for one in extras(product)} - before, what="the runner is there")
    return runner


def extras(product: Product) -> list[dict[str, Any]]:
    """All that is known of runners of this name, the latest last."""
    found = [one for one in product.json("runners", "list")["runners"] if one["name"] == "extra"]
    return sorted(found, key=lambda one: str(one["registered"]))


def jobs_of(product: Product, run: str) -> dict[str, dict[str, Any]]:
    """The jobs of a run by name."""
    return {job["job"]: job for job in product.json("show", run)["jobs"]}


def labelled(product: Product, gate: Path) -> None:
    """A pipeline with two jobs for a gpu, one after the other's end or beside it, and one for anywhere."""
    step = [UNTIL_TOLD.format(gate=gate)]
    jobs = {
        "first": {"runs_on": ["gpu"], "steps": step},
        "second": {"runs_on": ["gpu", "big"], "steps": ["true"], "depends_on": ["first"]},
        "anywhere": {"steps": ["true"]},
    }
    product.write(json.dumps({"name": "labels", "jobs": jobs}))


def test_a_job_waits_for_a_runner_with_its_labels(product: Product, tmp_path: Path) -> None:
    """It is queued until there is one, runs there and nowhere else, and waits again while that one is drained."""
    gate = tmp_path / "gate"
    labelled(product, gate)
    run = product.submit()
    wait_until(lambda: jobs_of(product, run)["anywhere"]["outcome"] == "succeeded", what="the other job")
    assert jobs_of(product, run)["first"]["state"] == "queued"
    assert [job["job"] for job in product.json("jobs", "--state", "queued", "--label", "gpu")["jobs"]] == ["first"]
    runner = start_runner(product)
    extra = extras(product)[0]
    assert (sorted(extra["labels"]), extra["slots"], extra["name"]) == (["big", "gpu"], 1, "extra")
    wait_until(lambda: jobs_of(product, run)["first"]["state"] == "executing", what="the job executes")
    assert product.ok("runners", "drain", "extra", "--reason", "cleaning") == (
        "runner extra takes nothing new; what it runs finishes\n"
    )
    gate.touch()
    wait_until(lambda: jobs_of(product, run)["first"]["outcome"] == "succeeded", what="what it ran has finished")
    assert (extras(product)[0]["status"], extras(product)[0]["reason"]) == ("draining", "cleaning")
    assert jobs_of(product, run)["second"]["state"] == "queued"
    product.ok("runners", "resume", "extra")
    product.ok("wait", run)
    assert {job["runner"] for job in jobs_of(product, run).values() if job["job"] != "anywhere"} == {extra["runner"]}
    assert jobs_of(product, run)["anywhere"]["runner"].startswith("local-")
    runner.send_signal(signal.SIGINT)
    _, errors = runner.communicate(timeout=30)
    assert runner.returncode == 0, errors
    wait_until(lambda: extras(product)[0]["status"] == "left", what="it is known to have left")


def test_a_killed_runners_job_is_tried_again_when_it_is_back(product: Product, tmp_path: Path) -> None:
    """kill -9: its processes are gone before the next attempt starts, which is numbered 2 and succeeds."""
    gate = tmp_path / "gate"
    labelled(product, gate)
    run = product.submit()
    killed = start_runner(product)
    wait_until(Path(f"{gate}.pids").exists, what="the job executes")
    assert product.kill(killed.pid)
    killed.communicate()
    again = start_runner(product)
    wait_until(lambda: len(Path(f"{gate}.pids").read_text().split()) == 2, what="the job executes again")
    first, _ = Path(f"{gate}.pids").read_text().split()
    assert not Path(f"/proc/{first}").exists()
    gate.touch()
    product.ok("wait", run)
    shown = product.json("show", run)
    attempts = [(one["attempt"], one["state"], one["outcome"]) for one in shown["attempts"] if one["job"] == "first"]
    assert [attempt for attempt, _, _ in attempts] == [1, 2]
    assert attempts[1][2] == "succeeded"
    lost = [event for event in product.events(run) if event["type"] == "job.lost"]
    assert [(event["job"], event["attempt"]) for event in lost] == [("first", 1)]
    assert extras(product)[-1]["status"] == "idle"
    again.terminate()
    again.communicate(timeout=30)
    assert again.returncode == 0


def test_two_runners_of_one_name_are_refused(product: Product) -> None:
    """The second says who is there, exit code 3."""
    product.write("jobs:\n  a: {steps: ['true']}\n")
    product.ok("run")
    runner = start_runner(product)
    said = product.fails(3, "runners", "start", "--name", "extra")
    assert said.startswith("error: ")
    assert "extra" in said
    runner.terminate()
    runner.communicate(timeout=30)


def test_a_runner_needs_no_name(product: Product) -> None:
    """Without --name it is called as its machine."""
    product.write("jobs:\n  a: {runs_on: [own], steps: ['true']}\n")
    run = product.submit()
    runner = product.start("runners", "start", "--labels", "own", "--slots", "1")
    product.ok("wait", run)
    assert not jobs_of(product, run)["a"]["runner"].startswith("local-")
    runner.terminate()
    runner.communicate(timeout=30)
    assert not [pid for pid in processes_with(product.home) if "own" in command_of(pid)]


def test_a_killed_local_runner_is_started_again(product: Product, tmp_path: Path) -> None:
    """Its job is lost, and tried again by the new one, without anybody's help."""
    gate = tmp_path / "gate"
    product.write(json.dumps({"jobs": {"long": {"steps": [UNTIL_TOLD.format(gate=gate)]}}}))
    run = product.submit()
    wait_until(Path(f"{gate}.pids").exists, what="the job executes")
    (pid,) = [pid for pid in product.runner_pids() if "--name local" in command_of(pid)]
    assert product.kill(pid)
    wait_until(lambda: len(Path(f"{gate}.pids").read_text().split()) == 2, what="the job executes again")
    gate.touch()
    product.ok("wait", run)
    assert jobs_of(product, run)["long"]["attempt"] == 2
