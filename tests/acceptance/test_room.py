"""A log at its limit: said on the way there, new runs refused, and every run that was admitted ends whole."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from headway.cli.client import Connection, answers
from headway.core.pipeline import compile_pipeline
from headway.core.room import Promise, promise_of, reserve_of
from tests.acceptance.product import Product, command_of
from tests.waiting import wait_until

LIMIT = 16 << 20
WIDE = "x" * 20_000
PADDED = ("-p", f"pad={'y' * 20_000}")
"""A definition and a parameter that make each attempt some 45 KB long on the log."""

RAISE = "raise HEADWAY_LOG_MAX_BYTES and restart with 'headway down' and 'headway up'"


@pytest.fixture
def small(product: Product) -> Product:
    """A product whose log may hold as little as can be configured."""
    product.environ |= {"HEADWAY_LOG_MAX_BYTES": "16MiB", "HEADWAY_SLOTS": "8"}
    return product


def wide(product: Product, jobs: int, **more: Any) -> Path:
    """A pipeline of jobs that do nothing, at length."""
    named = {f"j{at}": {"steps": [f"true # {WIDE}"], **more} for at in range(jobs)}
    return product.write(json.dumps({"name": "wide", "jobs": named}))


def log_of(product: Product) -> dict[str, Any]:
    """What status says of the log."""
    found: dict[str, Any] = product.json("status")["service"]["log"]
    return found


def log_line(product: Product) -> tuple[int, str]:
    """Doctor's exit code and what it says of the log."""
    done = product.run("doctor")
    [line] = [one for one in done.stdout.splitlines() if one.split()[1:2] == ["log"]]
    return done.returncode, line


def test_a_log_that_fills_up_warns_refuses_and_lets_runs_end(small: Product, tmp_path: Path) -> None:
    """Doctor and status warn at 80 and 95 %, new runs get exit code 3, and a run from before passes the limit."""
    gate = tmp_path / "gate"
    waits = {"steps": [f"until [ -e {gate} ]; do sleep 0.05; done"]}
    after = {f"j{at}": {"steps": [f"true # {WIDE}"], "depends_on": ["gate"]} for at in range(5)}
    small.write(json.dumps({"name": "gated", "jobs": {"gate": waits, **after}}))
    gated = small.submit(*PADDED)
    wide(small, 15)
    levels: dict[str, tuple[int, str]] = {}
    while True:
        done = small.run("run", *PADDED)
        if done.returncode != 0:
            break
        log = log_of(small)
        assert log["bytes_max"] == LIMIT
        assert log["share"] == round(log["bytes"] / LIMIT, 4)
        assert log["days_left"] is None, "nobody knows the rate of a log of a few seconds"
        assert log["words"] in small.ok("status")
        if log["level"] not in levels:
            levels[log["level"]] = log_line(small)
            assert log["words"] in levels[log["level"]][1]
    assert [(level, code) for level, (code, _) in levels.items()] == [("ok", 0), ("warning", 0), ("error", 1)]
    assert levels["warning"][1].startswith("warning  log  ")
    assert levels["warning"][1].endswith(f"; {RAISE}")
    assert (done.returncode, done.stdout) == (3, ""), done.stderr
    assert done.stderr.startswith("error: the log is at its limit and takes no new runs: 1")
    assert done.stderr.strip().endswith(f"of 16.0 MiB used ({int(log_of(small)['share'] * 100)} %); {RAISE}")

    gate.touch()
    small.ok("wait", gated)
    check_whole(small, gated, jobs=6)
    assert LIMIT < log_of(small)["bytes"] < LIMIT + reserve_of(LIMIT)
    submitted_again(small, gated)
    small.ok("down")
    small.environ["HEADWAY_LOG_MAX_BYTES"] = "32MiB"
    small.ok("run", *PADDED)
    assert log_of(small)["level"] == "ok"


def test_runs_that_wait_have_their_room_kept(small: Product) -> None:
    """Of runs that come at once only those that fit are taken, also by a service that starts anew; then all end."""
    path = wide(small, 20, retry_count=1)
    small.ok("pause")
    asking = [small.start("run", "--detach", *PADDED) for _ in range(10)]
    answered = [(one, *one.communicate(timeout=60)) for one in asking]
    admitted = [out.strip() for one, out, _ in answered if one.returncode == 0]
    promise = promise_for(path)
    assert len(admitted) == (LIMIT + reserve_of(LIMIT) - log_of(small)["bytes"]) // promise.bytes
    for one, _, said in answered:
        if one.returncode != 0:
            refused_for_others(one.returncode, said, small)
    assert small.kill(small.service_pid())
    wait_until(lambda: not small.service_pid(), what="the service is gone")
    again = small.run("run", "--detach", *PADDED)
    refused_for_others(again.returncode, again.stderr, small)
    small.ok("resume")
    small.ok("wait", *admitted)
    for run in admitted:
        check_whole(small, run, jobs=20)
    small.ok("run", *PADDED)


def test_a_run_larger_than_the_log_is_refused_at_once(small: Product) -> None:
    """It would never fit, so nobody is told to wait."""
    wide(small, 400, retry_count=1)
    said = small.fails(3, "run", *PADDED)
    assert said.startswith("error: the log has no room for this run: ")
    assert said.strip().endswith(f" MiB; {RAISE}")
    assert "this one up to" in said
    assert "wait" not in said


def test_a_run_writes_no_more_than_was_kept_for_it(small: Product) -> None:
    """Long names, many steps, every retry used up: the estimate is above all of it, and not absurdly so."""
    name = "n" * 90
    step = {"name": "s" * 100, "script": "false", "retry_count": 2, "continue_on_failure": True}
    last = {"name": "t" * 100, "script": "echo why; exit 1", "retry_count": 1}
    jobs = {f"{name}{at}": {"steps": [*[step] * 10, last], "retry_count": 2} for at in range(4)}
    jobs |= {f"{at}{name}": {"steps": ["true"], "depends_on": list(jobs)[:4]} for at in range(4)}
    path = small.write(json.dumps({"name": "long", "jobs": jobs}))
    small.ok("status")
    before = log_of(small)["bytes"]
    assert small.run("run", *PADDED).returncode == 1
    wrote, kept = log_of(small)["bytes"] - before, promise_for(path).bytes
    assert kept / 6 < wrote < kept


def test_a_run_whose_runners_die_writes_no_more_than_was_kept_for_it(small: Product, tmp_path: Path) -> None:
    """As many attempts as may be lost are lost, each far into its work: the estimate has room for all of them."""
    steps = [*["true"] * 8, f"echo $HEADWAY_ATTEMPT >> {tmp_path}/$HEADWAY_JOB; exec sleep 600"]
    path = small.write(json.dumps({"name": "dies", "jobs": {f"j{at}": {"steps": steps} for at in range(4)}}))
    small.ok("status")
    before = log_of(small)["bytes"]
    run = small.submit(*PADDED)
    for lost in range(1, 4):
        wait_until(
            lambda lost=lost: all(begun(tmp_path / f"j{at}") == lost for at in range(4)),
            what=f"attempt {lost} of each job executes",
            timeout_seconds=30,
        )
        (pid,) = [pid for pid in small.runner_pids() if "--name local" in command_of(pid)]
        assert small.kill(pid)
    assert small.run("wait", run).returncode == 1
    lost_events = [event for event in small.events(run) if event["type"] == "job.lost"]
    assert len(lost_events) == 4 * 3
    wrote, kept = log_of(small)["bytes"] - before, promise_for(path).bytes
    assert kept / 4 < wrote < kept


def begun(path: Path) -> int:
    """How many attempts of a job have come to its last step."""
    return len(path.read_text().splitlines()) if path.exists() else 0


def promise_for(path: Path) -> Promise:
    """What is kept for a run of this pipeline, padded, when as much may be lost as by default."""
    plan, _ = compile_pipeline(path.read_bytes(), file="headway.yml")
    return promise_of(plan.jobs, {"pad": "y" * 20_000}, attempt_losses_max=3)


def refused_for_others(code: int, said: str, product: Product) -> None:
    """The room is there, but promised."""
    assert code == 3, said
    assert said.startswith("error: the log has no room for this run: ")
    assert "unfinished runs may write 1" in said
    assert said.strip().endswith(f"; wait for runs to end, or {RAISE}")
    assert log_of(product)["share"] < 0.1


def check_whole(product: Product, run: str, *, jobs: int) -> None:
    """Every job succeeded, no event is missing, and the run is sealed."""
    events = product.events(run)
    assert [event["n"] for event in events] == list(range(1, len(events) + 1))
    assert events[-1]["type"] == "run.completed"
    assert [one["outcome"] for one in product.json("show", run)["jobs"]] == ["succeeded"] * jobs


def submitted_again(product: Product, run: str) -> None:
    """Who got no answer and asks again gets it, however full the log is."""
    connection = Connection.open(str(product.home))
    try:
        connection.ask("submit", {"run": run, "cwd": str(product.project), "parameters": {}})
        assert [one["run"] for one in answers(connection)] == [run]
    finally:
        connection.close()
