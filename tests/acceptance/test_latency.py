"""`headway latency` on the real binary: where the time of real runs went, told exactly as the events tell it."""

from __future__ import annotations

import math
from datetime import datetime
from typing import Any

from tests.acceptance.product import Product

PIPELINE = """\
name: three
jobs:
  build:
    steps:
      - script: "true"
  test:
    depends_on: [build]
    steps:
      - script: "false"
  ship:
    depends_on: [test]
    steps:
      - script: "true"
"""

LEAVES = {
    "job.queued": "admitted",
    "job.assigned": "queued",
    "job.preparing": "assigned",
    "job.executing": "preparing",
    "job.uploading": "executing",
    "job.completed": "uploading",
}


def by_events(events: list[dict[str, Any]]) -> dict[str, list[float]]:
    """Milliseconds in each state, from the log's times in the events."""
    entered: dict[str, datetime] = {}
    found: dict[str, list[float]] = {}
    for event in events:
        left, job = datetime.fromisoformat(event["logged"]), event["job"]
        state = LEAVES.get(event["type"])
        if state and event["data"].get("outcome") not in ("skipped", "cancelled"):
            found.setdefault(state, []).append((left - entered[job]).total_seconds() * 1000)
        if state or event["type"] == "job.admitted":
            entered[job] = left
    return found


def test_where_the_time_of_runs_went(product: Product) -> None:
    """Counts, percentiles and sums are those of the events; skipped jobs count nowhere; the past is asked as well."""
    product.write(PIPELINE)
    assert product.run("run").returncode == 1
    seq = product.json("runs")["as_of"]
    then = product.json("latency")
    assert product.run("run").returncode == 1
    events = [event for run in product.json("runs")["runs"] for event in product.events(run["run"])]
    expected = by_events(events)
    found = product.json("latency")
    assert [row["state"] for row in found["rows"]] == list(dict.fromkeys(LEAVES.values()))
    for row in found["rows"]:
        times = sorted(expected[row["state"]])
        ranks = [times[math.ceil(percent * len(times) / 100) - 1] for percent in (50, 95, 99, 100)]
        assert row["count"] == len(times)
        told = [row["p50_ms"], row["p95_ms"], row["p99_ms"], row["max_ms"], row["sum_ms"]]
        assert [round(one, 3) for one in told] == [round(one, 3) for one in (*ranks, sum(times))]
    assert found["period"]["left_out"] == 2
    assert found["period"]["handoffs"] == sum(map(len, expected.values()))
    past = product.json("latency", "--at", str(seq))
    assert [row["count"] for row in past["rows"]] == [row["count"] for row in then["rows"]]
    printed = product.ok("latency", "--by", "job,runner", "--against", "7d")
    assert all(f"  three     {job}  " in printed for job in ("build", "test "))
    assert "biuld" in product.fails(4, "latency", "--pipeline", "biuld")
