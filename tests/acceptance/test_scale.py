"""Many jobs, many runs, a long chain: all of them end, each once. What it costs is measured in `make bench`."""

from __future__ import annotations

import json
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.acceptance.product import Product

CLIENTS = 8
RUNS = 200


def check_sealed(product: Product, run: str, jobs: int) -> None:
    """Every job of the run completed once, the events have no gap, and the run is sealed once."""
    events = product.events(run)
    types = Counter(event["type"] for event in events)
    assert [event["n"] for event in events] == list(range(1, len(events) + 1))
    assert (types["job.completed"], types["run.completed"]) == (jobs, 1)
    assert len({event["job"] for event in events if event["type"] == "job.completed"}) == jobs
    assert events[-1]["type"] == "run.completed"


@pytest.mark.timeout(200)
def test_a_thousand_jobs_in_one_run(product: Product) -> None:
    """Every one of them succeeds, and the run is asked about like any other."""
    jobs = {f"j{at}": {"steps": ["true"]} for at in range(1000)}
    product.write(json.dumps({"name": "wide", "jobs": jobs}))
    record = json.loads(product.ok("run", "--json"))["run"]
    assert (record["outcome"], record["jobs"], record["jobs_completed"]) == ("succeeded", 1000, 1000)
    assert record["jobs_by_status"] == {"success": 1000}
    assert len(product.json("show", "@")["jobs"]) == 1000
    check_sealed(product, record["run"], 1000)


@pytest.mark.timeout(200)
def test_two_hundred_runs_at_once(product: Product) -> None:
    """Submitted by eight clients at a time: each is taken, each ends, each is sealed."""
    product.write("name: small\njobs:\n  only:\n    steps: ['true']\n")
    with ThreadPoolExecutor(CLIENTS) as pool:
        runs = list(pool.map(lambda _: product.submit(), range(RUNS)))
    assert len(set(runs)) == RUNS
    product.ok("wait", *runs)
    found = product.json("runs", "--limit", "1000")["runs"]
    assert {one["run"]: one["outcome"] for one in found} == dict.fromkeys(runs, "succeeded")
    printed = product.ok("tail", "--from", "start", "--no-follow", "--json").splitlines()
    events = [json.loads(line) for line in printed]
    assert [event["seq"] for event in events] == list(range(1, len(events) + 1))
    for kind in ("run.admitted", "job.completed", "run.completed"):
        assert Counter(event["run"] for event in events if event["type"] == kind) == Counter(runs)


@pytest.mark.timeout(200)
def test_a_chain_of_two_hundred(product: Product) -> None:
    """Each job waits for the one before, and none begins before that has ended."""
    jobs = {f"j{at}": {"depends_on": [f"j{at - 1}"] if at else [], "steps": ["true"]} for at in range(200)}
    product.write(json.dumps({"name": "chain", "jobs": jobs}))
    record = json.loads(product.ok("run", "--json"))["run"]
    assert (record["outcome"], record["jobs_completed"]) == ("succeeded", 200)
    check_sealed(product, record["run"], 200)
    order = [
        (event["type"], event["job"])
        for event in product.events("@")
        if event["type"] in ("job.assigned", "job.completed")
    ]
    assert order == [(kind, f"j{at}") for at in range(200) for kind in ("job.assigned", "job.completed")]
