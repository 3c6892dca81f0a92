"""From one job's start to its dependent's start, in a chain of fifty, beside the bare loop's hop.

A start is when the runner says that it starts the job's process: `at` of step.started, the same moment in both.
"""

from __future__ import annotations

from itertools import pairwise

from bench.figures import percentile, ratio, span
from bench.product import Headway, chain, logged, whole
from bench.table import Row
from bench.throughput import ceiling_hops

JOBS = 50


def hops_ms(headway: Headway) -> list[float]:
    """Milliseconds from each start to the next one in the product."""
    events = headway.run(chain(JOBS))
    whole(events, JOBS)
    starts = [logged(event, "at") for event in events if event["type"] == "step.started"]
    return [(after - before) * 1000 for before, after in pairwise(starts)]


def measure(*, quick: bool) -> list[Row]:
    """Both percentiles, each the median of the rounds."""
    rounds = 1 if quick else 5
    bare: list[list[float]] = []
    ours: list[list[float]] = []
    with Headway(slots=2) as headway:
        for _ in range(rounds):
            bare.append(ceiling_hops(JOBS, "always"))
            ours.append(hops_ms(headway))
    rows = []
    for percent, floor, target in ((50, 4.0, 2.0), (99, None, 2.0)):
        yardsticks = [percentile(one, percent) for one in bare]
        measured = [percentile(one, percent) for one in ours]
        rows.append(
            Row(
                what=f"handoff p{percent}, start to start, chain of {JOBS}",
                yardstick=f"ceiling {span(yardsticks, 2)} ms",
                measured=f"{span(measured, 2)} ms",
                ratio=ratio(measured, yardsticks),
                floor=floor,
                target=target,
                less_is_better=True,
            )
        )
    return rows
