"""How far the clocks of runners are off the log's, and whether the log's own clock has stepped back.

A runner says something at a time between the log's time of its assignment and the log's time of the saying. So what it
gives as its time bounds how far it is off: by the saying it is ahead at least so far, by the assignment behind at
least so far. A fact that waited in a spool widens the bounds and says nothing false: late is not behind.

No duration is taken from a runner's clock, so this is for people to know.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

import aiosqlite
import msgspec

from headway.projections.records import Record

NOTABLE_US: Final = 1_000_000
"""Clocks that differ by less are alike."""
RECENT_EVENTS: Final = 2_000
RUNNERS_NAMED: Final = 3
_RUNNER: Final = "runner:"
_FACTS: Final = "select run, job, attempt, type, actor, logged, at from events"


class ClockRecord(Record, frozen=True, kw_only=True):
    """A runner whose clock is at least `skew_ms` ahead of the log's, or behind where it is negative."""

    runner: str
    skew_ms: int


class ClocksRecord(Record, frozen=True, kw_only=True):
    """The clocks of the last events: runners that are off, the worst first, and the log's own steps back.

    `step_back_ms` is the largest step that the log's clock ever made back, `step_back_seq` the event of the last one.
    """

    as_of: int
    runners: list[ClockRecord]
    steps_back: int
    step_back_ms: int
    step_back_seq: int


class Bounds(msgspec.Struct):
    """How far a runner's clock is ahead at least (`low`) and at most (`high`) during an attempt, in microseconds."""

    runner: str
    low: int
    high: int | None

    @property
    def skew_us(self) -> int:
        """How far it is off for certain: 0 when it need not be."""
        if self.low > 0:
            return self.low
        return min(0, self.high) if self.high is not None else 0


def bounds(facts: Iterable[tuple[Any, ...]]) -> dict[tuple[str, str, int], Bounds]:
    """What events, as rows of `_FACTS` in the order of the log, tell of the clock during each attempt."""
    assigned: dict[tuple[str, str, int], int] = {}
    found: dict[tuple[str, str, int], Bounds] = {}
    for run, job, attempt, kind, actor, logged, at in facts:
        key = (run, job, attempt)
        if kind == "job.assigned":
            assigned[key] = logged
        elif actor.startswith(_RUNNER) and job:
            high = at - assigned[key] if key in assigned else None
            known = found.get(key)
            if known is None:
                found[key] = Bounds(actor.removeprefix(_RUNNER), at - logged, high)
                continue
            known.low = max(known.low, at - logged)
            if high is not None:
                known.high = high if known.high is None else min(known.high, high)
    return found


def notable(found: Iterable[Bounds]) -> list[ClockRecord]:
    """The runners whose clock is off by a second or more, each by its worst attempt, the worst runner first."""
    worst: dict[str, int] = {}
    for one in found:
        if abs(one.skew_us) >= max(NOTABLE_US, abs(worst.get(one.runner, 0))):
            worst[one.runner] = one.skew_us
    order = sorted(worst.items(), key=lambda item: (-abs(item[1]), item[0]))
    return [ClockRecord(runner=runner, skew_ms=round(skew_us / 1000)) for runner, skew_us in order]


async def run_clocks(db: aiosqlite.Connection, run: str) -> list[ClockRecord]:
    """The runners of a run whose clocks are off. Its events are read only when an attempt looks as if."""
    suspect = "select 1 from attempts where run = ? and abs(skew_us) >= ? limit 1"
    if not await db.execute_fetchall(suspect, (run, NOTABLE_US)):
        return []
    facts = await db.execute_fetchall(f"{_FACTS} where run = ? and attempt > 0 order by seq", (run,))
    return notable(bounds(tuple(row) for row in facts).values())


async def log_behind_us(db: aiosqlite.Connection, run: str) -> int:
    """How far the log's clock was behind its own earlier time while a run went on; what it timed then stood still."""
    [(steps_back,)] = await db.execute_fetchall("select steps_back from meta")
    if not steps_back:
        return 0
    [(behind,)] = await db.execute_fetchall("select max(time - logged) from events where run = ?", (run,))
    return int(behind or 0)


async def clocks(db: aiosqlite.Connection, *, events: int = RECENT_EVENTS) -> ClocksRecord:
    """The clocks in the last so many events."""
    [(position, steps, step_us, seq)] = await db.execute_fetchall(
        "select position, steps_back, step_back_us, step_back_seq from meta"
    )
    facts = await db.execute_fetchall(f"{_FACTS} where seq > ? and attempt > 0 order by seq", (position - events,))
    return ClocksRecord(
        as_of=position,
        runners=notable(bounds(tuple(row) for row in facts).values()),
        steps_back=steps,
        step_back_ms=round(step_us / 1000),
        step_back_seq=seq,
    )


def verdict(found: ClocksRecord) -> tuple[str, str]:
    """Whether the clocks are in order (ok, or warning), and in words what is known of them."""
    words = []
    for one in found.runners[:RUNNERS_NAMED]:
        where = "ahead of" if one.skew_ms > 0 else "behind"
        words.append(f"runner {one.runner} is {abs(one.skew_ms) / 1000:.1f} s {where} the log")
    if len(found.runners) > RUNNERS_NAMED:
        words.append(f"{len(found.runners) - RUNNERS_NAMED} more runners are off")
    if found.steps_back:
        times = "once" if found.steps_back == 1 else f"{found.steps_back} times"
        words.append(
            f"the log's own clock went back {times}, by {found.step_back_ms / 1000:.1f} s at most,"
            f" last at event {found.step_back_seq}"
        )
    if not words:
        return "ok", "runners and log agree to the second, and the log's never went back"
    stepped = found.steps_back and found.step_back_seq > found.as_of - RECENT_EVENTS
    level = "warning" if found.runners or stepped else "ok"
    return level, "; ".join(words) + "; no latency is taken from a runner's clock"
