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
from functools import partial
from pathlib import Path

from bench.figures import in_turn, median, span, timed
from bench.product import EVENTS_A_JOB, EVENTS_A_RUN, Headway, independent, length_seconds, whole
from bench.servers import PlainServer
from bench.table import Row

ROOT = Path(__file__).parents[1]
SPAWNS = 200


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
    rows, two_slots = _two_slots(jobs, rounds, growth=not quick)
    for slots in () if quick else (8, 16):
        with Headway(slots=slots) as headway:
            bare, ours = in_turn_cold(rounds, partial(ceiling, jobs, slots, "always"), partial(product, headway, jobs))
        rows += [_against_ceiling(jobs, slots, bare, ours), _against_two(slots, two_slots, ours)]
    return [*_spawns(), *rows, *without_fsync(jobs, rounds)]


def _two_slots(jobs: int, rounds: int, *, growth: bool) -> tuple[list[Row], float]:
    """The rows of two slots, and how many jobs a second those are."""
    with Headway(slots=2) as headway:
        bare, lean, ours = in_turn_cold(
            rounds,
            partial(ceiling, jobs, 2, "always"),
            partial(ceiling, jobs, 2, "always", events=EVENTS_A_JOB),
            partial(product, headway, jobs),
        )
        rows = [_against_ceiling(jobs, 2, bare, ours), _against_lean(jobs, 2, lean, ours)]
        return rows + ([_growth(headway, rounds)] if growth else []), median(ours)


def without_fsync(jobs: int, rounds: int) -> list[Row]:
    """The product on a plain server that does not sync, beside the bare loop and `make -j2`."""
    with PlainServer("default") as server, Headway(slots=2, nats_url=server.url) as headway:
        bare, made, ours = in_turn_cold(
            rounds, partial(ceiling, jobs, 2, "default"), partial(make, jobs), partial(product, headway, jobs)
        )
    what = f"no-op jobs/s, 2 slots, N={jobs}, outside server without fsync"
    measured = f"{span(ours)} jobs/s"
    return [
        Row(what=what, yardstick=f"ceiling {span(bare)}", measured=measured, ratio=median(ours) / median(bare)),
        Row(
            what=what,
            yardstick=f"make -j2 {span(made)}",
            measured=measured,
            ratio=median(ours) / median(made),
            target=0.10,
        ),
    ]


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


def _against_ceiling(jobs: int, slots: int, bare: list[float], ours: list[float]) -> Row:
    return Row(
        what=f"no-op jobs/s, {slots} slots, N={jobs}, sync always",
        yardstick=f"ceiling {span(bare)}, 11 events a job",
        measured=f"{span(ours)}, {EVENTS_A_JOB} events a job + {EVENTS_A_RUN} a run",
        ratio=median(ours) / median(bare),
        floor=0.25 if slots == 2 else None,
        target=0.5 if slots <= 8 else None,
    )


def _against_lean(jobs: int, slots: int, lean: list[float], ours: list[float]) -> Row:
    return Row(
        what=f"the same, against a ceiling with as many events, {slots} slots, N={jobs}",
        yardstick=f"ceiling {span(lean)}, {EVENTS_A_JOB} events a job",
        measured=f"{span(ours)}",
        ratio=median(ours) / median(lean),
    )


def _against_two(slots: int, two: float, ours: list[float]) -> Row:
    return Row(
        what=f"jobs/s with {slots} slots against 2 slots, sync always",
        yardstick=f"2 slots {two:.0f}",
        measured=f"{span(ours)}",
        ratio=median(ours) / two,
        floor=1.0,
    )


def _growth(headway: Headway, rounds: int) -> Row:
    small, large = in_turn_cold(rounds, partial(product, headway, 200), partial(product, headway, 1000))
    return Row(
        what="jobs/s, N=1000 against N=200, 2 slots, sync always",
        yardstick=f"N=200 {span(small)}",
        measured=f"N=1000 {span(large)}",
        ratio=median(large) / median(small),
        floor=0.85,
        target=0.95,
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
    return [
        Row(
            what="spawns/s, one at a time: what the product runs (bash) against what the ceiling runs",
            yardstick=f"/bin/true {span(program)}",
            measured=f"bash -c true {span(bash)}",
            ratio=median(bash) / median(program),
        )
    ]


def _ceiling(*words: str) -> dict[str, list[float] | float]:
    done = subprocess.run(
        [sys.executable, "-m", "bench.ceiling", *words], cwd=ROOT, capture_output=True, timeout=180, check=False
    )
    if done.returncode != 0:
        raise RuntimeError(f"the ceiling failed: {done.stderr.decode(errors='replace')[-2000:]}")
    return json.loads(done.stdout)
