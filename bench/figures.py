"""Numbers out of samples, and commands under a clock."""

from __future__ import annotations

import math
import statistics
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path


def median(samples: Sequence[float]) -> float:
    """The middle one."""
    return statistics.median(samples)


def ratio(ours: Sequence[float], bare: Sequence[float]) -> float:
    """The middle one of the ratios of each round: a machine that slows down between rounds does not move it."""
    return median([one / other for one, other in zip(ours, bare, strict=True)])


def percentile(samples: Sequence[float], percent: float) -> float:
    """The smallest sample that this many percent of all are not above."""
    ordered = sorted(samples)
    return ordered[max(0, math.ceil(len(ordered) * percent / 100) - 1)]


def timed(argv: Sequence[str], *, env: dict[str, str] | None = None, cwd: Path | None = None) -> float:
    """How many seconds a command takes; it must succeed."""
    began = time.perf_counter()
    done = subprocess.run(argv, env=env, cwd=cwd, stdin=subprocess.DEVNULL, capture_output=True, check=False)
    seconds = time.perf_counter() - began
    if done.returncode != 0:
        words = done.stderr.decode(errors="replace").strip()[-500:]
        raise RuntimeError(f"{' '.join(argv)} ended with {done.returncode}: {words}")
    return seconds


def in_turn(rounds: int, *measures: Callable[[], float]) -> list[list[float]]:
    """The samples of each measure, taken one after the other in every round, after one round that does not count."""
    for measure in measures:
        measure()
    samples: list[list[float]] = [[] for _ in measures]
    for _ in range(rounds):
        for kept, measure in zip(samples, measures, strict=True):
            kept.append(measure())
    return samples


def span(samples: Sequence[float], digits: int = 0) -> str:
    """The median with the least and the most behind it; thousands as k where there are many."""
    large = median(samples) >= 10_000
    middle, least, most = (
        f"{one / 1000:.0f}k" if large else f"{one:.{digits}f}" for one in (median(samples), min(samples), max(samples))
    )
    return f"{middle} [{least}-{most}]" if len(samples) > 1 else middle
