"""How late the tables are while a run of 1,000 jobs goes on.

Lag is from the time the log gave an event to when its sequence is in the tables, as another process sees it: a reader
of the projection file asks for its position every millisecond, which is also the resolution.
"""

from __future__ import annotations

import bisect
import sqlite3
import threading
import time
from typing import Self

from bench.figures import median, percentile
from bench.product import Headway, independent, logged, whole
from bench.table import Row

SLOTS = 2
JOBS = 1000
POLL_SECONDS = 0.001


class Watch(threading.Thread):
    """Looks at the position of the tables until it is stopped; `seen` and `times` say what and when."""

    def __init__(self, headway: Headway) -> None:
        super().__init__(daemon=True)
        self.seen: list[int] = []
        self.times: list[float] = []
        self._path = headway.home / "projections" / "headway.db"
        self._over = threading.Event()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *about: object) -> None:
        self._over.set()
        self.join()

    def run(self) -> None:
        tables = sqlite3.connect(f"file:{self._path}?mode=ro", uri=True, isolation_level=None)
        while not self._over.is_set():
            (position,) = tables.execute("select position from meta").fetchone()
            if not self.seen or position > self.seen[-1]:
                self.times.append(time.time())
                self.seen.append(position)
            time.sleep(POLL_SECONDS)
        tables.close()


def lags_ms(headway: Headway, jobs: int) -> list[float]:
    """Milliseconds of each event of a run."""
    with Watch(headway) as watch:
        events = headway.run(independent(jobs))
    whole(events, jobs)
    return [(watch.times[bisect.bisect_left(watch.seen, event["seq"])] - logged(event)) * 1000 for event in events]


def measure(*, quick: bool) -> list[Row]:
    """One row: percentiles over all events of a run, each the median of the rounds."""
    with Headway(slots=SLOTS) as headway:
        found = [lags_ms(headway, JOBS) for _ in range(1 if quick else 3)]
    p50, p99, most = (median([percentile(one, percent) for one in found]) for percent in (50, 99, 100))
    return [
        Row(
            what=f"projection lag p99, a run of {JOBS:,} jobs, {SLOTS} slots",
            yardstick="-",
            measured=f"p50 {p50:.1f}, p99 {p99:.1f}, most {most:.1f} ms",
            ratio=p99,
            unit="ms",
            floor=25,
            target=5,
            less_is_better=True,
        )
    ]
