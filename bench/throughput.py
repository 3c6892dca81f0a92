"""No-op jobs a second through the product, beside the bare loop with the same slots and sync mode.

A job is one step `true` on the host executor. The product's clock runs from `run.admitted` to `run.completed` on the
log's own time; the bare loop's from the first append to the last acknowledgement with the rows written.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

from bench.figures import in_turn, ratio, span, timed
from bench.product import EVENTS_A_JOB, Headway, independent, length_seconds, whole
from bench.servers import PlainServer
from bench.table import Row

ROOT = Path(__file__).parents[1]
SPAWNS = 200
MORE_SLOTS = (8, 16)


def ceiling(jobs: int, slots: int, sync: str, *, events: int = 11) -> float:
    """Jobs a second of the bare loop, in processes of its own."""
    words = ("--jobs", str(jobs), "--slots", str(slots), "--sync", sync, "--events", str(events))
    return float(_ceiling(*words)["jobs_per_second"])


def ceiling_hops(jobs: int, sync: str) -> list[float]:
    """Milliseconds from each start to the next one in a chain of the bare loop."""
    return list(_ceiling("--jobs", str(jobs), "--slots", "2", "--sync", sync, "--chain")["hops_ms"])


def product(headway: Headway, jobs: int) -> float:
    """Jobs a second of the product, with its history checked."""
    events = headway.run(independent(jobs))
    whole(events, jobs)
    return jobs / length_seconds(events)


def measure(*, quick: bool) -> list[Row]:
    """All rows of throughput."""
    jobs, rounds = (200, 1) if quick else (1000, 3)
    return [*_spawns(), *with_fsync(jobs, rounds, more=not quick), *without_fsync(jobs, rounds)]


def with_fsync(jobs: int, rounds: int, *, more: bool) -> list[Row]:
    """Two slots, and with `more` eight and sixteen too: all services are up, and each has its turn in every round."""
    with ExitStack() as stack:
        services = {slots: stack.enter_context(Headway(slots=slots)) for slots in ((2, *MORE_SLOTS) if more else (2,))}
        measures = {
            "small": partial(_small, services[2]),
            "ceiling with as many events": partial(ceiling, jobs, 2, "always", events=EVENTS_A_JOB),
        }
        for slots, headway in services.items():
            measures[f"ceiling {slots}"] = partial(ceiling, jobs, slots, "always")
            measures[f"ours {slots}"] = partial(product, headway, jobs)
        found = dict(zip(measures, in_turn_cold(rounds, *measures.values()), strict=True))
    rows = [
        _row(
            f"no-op jobs/s, 2 slots, N={jobs:,}", "ceiling", found["ceiling 2"], found["ours 2"], floor=0.25, target=0.5
        )
    ]
    lean = found["ceiling with as many events"]
    rows.append(_row(f"the same, the ceiling with {EVENTS_A_JOB} events a job too", "ceiling", lean, found["ours 2"]))
    if more:
        rows.append(
            _row(
                f"the same, N={jobs:,} against N=200", "N=200", found["small"], found["ours 2"], floor=0.85, target=0.95
            )
        )
    for slots in MORE_SLOTS if more else ():
        ours, target = found[f"ours {slots}"], 0.5 if slots == 8 else None
        what = f"no-op jobs/s, {slots} slots, N={jobs:,}"
        rows.append(_row(what, "ceiling", found[f"ceiling {slots}"], ours, target=target))
        rows.append(_row("the same, against 2 slots", "2 slots", found["ours 2"], ours, floor=1.0))
    return rows


def without_fsync(jobs: int, rounds: int) -> list[Row]:
    """The product on a plain server that does not sync, beside the bare loop and `make -j2`."""
    with PlainServer("default") as server, Headway(slots=2, nats_url=server.url) as headway:
        bare, made, ours = in_turn_cold(
            rounds, partial(ceiling, jobs, 2, "default"), partial(make, jobs), partial(product, headway, jobs)
        )
    what = f"no-op jobs/s, 2 slots, N={jobs:,}, without fsync"
    return [_row(what, "ceiling", bare, ours), _row("the same, against make", "make -j2", made, ours, target=0.10)]


def _small(headway: Headway) -> float:
    """Jobs a second in short runs: the better one of two, for they are over before anything evens out."""
    return max(product(headway, 200), product(headway, 200))


def make(jobs: int) -> float:
    """Jobs a second of `make -j2`: as many phony targets, each `/bin/true`, start-up included."""
    folder = Path(tempfile.mkdtemp(prefix="headway-bench-make-"))
    try:
        names = " ".join(f"job-{number}" for number in range(jobs))
        (folder / "Makefile").write_text(f".PHONY: all {names}\nall: {names}\n{names}:\n\t@/bin/true\n")
        return jobs / timed(["make", "-j2", "-s"], cwd=folder)
    finally:
        shutil.rmtree(folder)


def in_turn_cold(rounds: int, *measures: partial[float]) -> list[list[float]]:
    """As `in_turn`, without the round that does not count: what is measured here warms itself up."""
    samples: list[list[float]] = [[] for _ in measures]
    for _ in range(rounds):
        for kept, one in zip(samples, measures, strict=True):
            kept.append(one())
    return samples


def _row(
    what: str,
    yardstick: str,
    bare: list[float],
    ours: list[float],
    *,
    floor: float | None = None,
    target: float | None = None,
) -> Row:
    return Row(
        what=what,
        yardstick=f"{yardstick} {span(bare)}",
        measured=span(ours),
        ratio=ratio(ours, bare),
        floor=floor,
        target=target,
    )


def _spawns() -> list[Row]:
    """What processes alone cost: the ceiling spawns `/bin/true`, the product a shell that runs `true`."""

    def rate(*argv: str) -> float:
        began = time.perf_counter()
        for _ in range(SPAWNS):
            subprocess.run(argv, stdin=subprocess.DEVNULL, check=True)
        return SPAWNS / (time.perf_counter() - began)

    shell = ("bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", "true")
    program, bash = in_turn(3, lambda: rate("/bin/true"), lambda: rate(*shell))
    return [_row("bare spawns/s: bash -c true against /bin/true", "/bin/true", program, bash)]


def _ceiling(*words: str) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-m", "bench.ceiling", *words], cwd=ROOT, capture_output=True, timeout=180, check=False
    )
    if done.returncode != 0:
        raise RuntimeError(f"the ceiling failed: {done.stderr.decode(errors='replace')[-2000:]}")
    found: dict[str, Any] = json.loads(done.stdout)
    return found
