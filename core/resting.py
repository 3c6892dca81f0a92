"""Back-off: how long a job rests after a failed attempt, and who rests now.

The wait is a function of the run's base and the job's failures, with a jitter from a digest: whoever decides says the
same. What is on the log is a time (`start_after`); what is waited for is time that passes, by the monotonic clock of
the coordinator, so that a clock that is set forward or back neither shortens nor lengthens a rest. Only who starts
anew has nothing but the two times to compare, and then nobody rests longer than the job's whole back-off.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from hashlib import sha256
from typing import Final

from headway.core.queue import Key
from headway.core.run import JobState, Run

BACKOFF_MAX_SECONDS: Final = 120
DOUBLINGS_MAX: Final = 32
JITTER_PERCENT: Final = 25

_MAX_MS: Final = BACKOFF_MAX_SECONDS * 1000
_WHOLE: Final = 1_000_000
_JITTER: Final = _WHOLE * JITTER_PERCENT // 100


def backoff_us(run: Run, name: str, job: JobState, *, attempt: int) -> int:
    """How long this attempt of a job that has failed rests: the base, doubled for each failure after the first, at
    most 120 s, and up to a quarter more or less, so that jobs that failed together do not come back together."""
    base_ms = min(max(0, run.retry_backoff_ms), _MAX_MS)
    doublings = min(max(0, job.failures - 1), DOUBLINGS_MAX)
    number = int.from_bytes(sha256(f"{run.id}:{name}:{attempt}".encode()).digest()[:8], "big")
    share = _WHOLE - _JITTER + number % (2 * _JITTER + 1)
    return min(base_ms << doublings, _MAX_MS) * 1000 * share // _WHOLE


class Resting:
    """The jobs whose time has not come, and when it does, in monotonic seconds. Everything costs O(log n) at most."""

    def __init__(self) -> None:
        self._until: dict[Key, float] = {}
        self._order: list[tuple[float, Key]] = []

    def __len__(self) -> int:
        return len(self._until)

    def __contains__(self, key: Key) -> bool:
        return key in self._until

    def __iter__(self) -> Iterator[Key]:
        """The jobs that rest, in no order."""
        return iter(self._until)

    def add(self, key: Key, until: float) -> None:
        """Let a job rest; one that rests already has its time changed."""
        self._until[key] = until
        heapq.heappush(self._order, (until, key))

    def remove(self, key: Key) -> None:
        """The job rests no more, or never did. Its place in the order is dropped when its time comes."""
        self._until.pop(key, None)

    def over(self, now: float) -> list[Key]:
        """Those whose time has come, each named once; they rest no more."""
        found = []
        while (first := self._first()) is not None and first[0] <= now:
            heapq.heappop(self._order)
            del self._until[first[1]]
            found.append(first[1])
        return found

    def next_deadline(self) -> float | None:
        """The earliest moment at which `over` has something to say."""
        first = self._first()
        return first[0] if first is not None else None

    def _first(self) -> tuple[float, Key] | None:
        """The first in the order that still counts."""
        while self._order:
            until, key = self._order[0]
            if self._until.get(key) == until:
                return until, key
            heapq.heappop(self._order)
        return None
