"""How long handoffs took: exact percentiles per state, and per whatever else is asked, over a period of the log.

A handoff counts in the period in which its state was left. States are always told apart; several dimensions make
groups of their combinations. Handoffs that are still open are counted beside those that are over. A state in which a
job was skipped or cancelled is left out, because nobody was waited for to the end there; the states before count.

The columns are counted and sorted in a thread, which is also where the first question loads numpy.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from heapq import nsmallest
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import aiosqlite
import msgspec

from headway.core.clock import from_us
from headway.core.errors import NotFoundError, UsageError
from headway.core.states import State
from headway.projections.dimensions import dimensions
from headway.projections.latency_records import (
    FiguresRecord,
    LatencyFilter,
    LatencyRecord,
    LatencyRow,
    OpenRecord,
    PeriodRecord,
)
from headway.projections.pieces import ASKED, EARLIER, Bounds, Names, Piece, pieces
from headway.projections.queries import position
from headway.projections.samples import JOB_MARK, PHASE_MARK, runner_of

if TYPE_CHECKING:
    from headway.projections.percentiles import Figures, Handoffs

SECONDS_MAX: Final = 100 * 365 * 86_400
_ORDER: Final = {state.value: place for place, state in enumerate(State)}
_OPEN: Final = "j.status in ('pending', 'retry', 'running')"
_OF_OPEN: Final = {
    "job": "r.pipeline || char(31) || j.job",
    "pipeline": "r.pipeline",
    "project": "r.project",
    "branch": "r.branch",
    "runner": runner_of("j"),
    "labels": "coalesce(l.value, '')",
}


class _Open(msgspec.Struct, frozen=True):
    count: int
    oldest_us: int
    together_us: float
    run: str
    job: str


class _Group(NamedTuple):
    """A group before its exact figures. `place` is its number among those of the samples, -1 when all are open."""

    names: tuple[int, ...]
    counts: tuple[int, int] = (0, 0)
    sums: tuple[float, float] = (0.0, 0.0)
    place: int = -1
    open: _Open | None = None

    def moved(self) -> float | None:
        """How much longer it took than at the mean of the earlier period; None when one of them has nothing."""
        now, before = self.counts
        return self.sums[0] - self.sums[1] / before * now if now and before else None

    def spent(self) -> float:
        """The time spent, that of open handoffs so far included: what waits since long is not cut off by a limit."""
        return self.sums[0] + (self.open.together_us if self.open else 0)


class _Counted(NamedTuple):
    """In the asked period and the earlier one."""

    handoffs: tuple[int, int]
    left_out: tuple[int, int]


async def latency(db: aiosqlite.Connection, asked: LatencyFilter, now_us: int) -> LatencyRecord:
    """How long handoffs took. Raises UsageError, and NotFoundError for a pipeline that never ran."""
    columns = _columns(asked)
    await _check_pipeline(db, asked.pipeline)
    start = now_us - _us(asked.since_seconds, "since")
    earlier = start - (_us(asked.against_seconds, "against") if asked.against_seconds else 0)
    bounds = Bounds(earlier, start, now_us)
    names = Names(db)
    handoffs, counted = await _counted(db, asked, bounds, names)
    groups, open_count = await _groups(db, asked, handoffs, names, now_us)
    chosen = await asyncio.to_thread(_chosen, groups, asked)
    known = await names.names(number for group in chosen for number in group.names)
    if not asked.against_seconds:
        chosen.sort(key=lambda group: _place(group, known))
    figures = await asyncio.to_thread(handoffs.figures, [group.place for group in chosen if group.place >= 0])
    exact = iter(figures)
    rows = [_row(group, next(exact) if group.place >= 0 else None, columns, known, asked) for group in chosen]
    return LatencyRecord(
        as_of=await position(db),
        by=asked.by,
        pipeline=asked.pipeline,
        period=_period(bounds.start, bounds.end, counted, ASKED),
        earlier=_period(bounds.earlier, bounds.start, counted, EARLIER) if asked.against_seconds else None,
        open=open_count,
        groups=len(groups),
        rows=rows,
    )


def _columns(asked: LatencyFilter) -> list[str]:
    """The columns that tell groups apart, the state's first. Raises UsageError for a dimension that does not exist."""
    others = [name for name in dimensions(asked.by) if name not in ("state", "phase")]
    return list(dict.fromkeys(["state", *("labels" if name == "label" else name for name in others)]))


def _us(seconds: float, what: str) -> int:
    if not 0 < seconds <= SECONDS_MAX:
        raise UsageError(f"{what} must be a length of time above nothing", next="give one such as 2h, 7d or 30d")
    return round(seconds * 1_000_000)


async def _check_pipeline(db: aiosqlite.Connection, pipeline: str) -> None:
    if not pipeline or list(await db.execute_fetchall("select 1 from runs where pipeline = ? limit 1", (pipeline,))):
        return
    known = [name for (name,) in await db.execute_fetchall("select distinct pipeline from runs")]
    near = get_close_matches(pipeline, known, 1)
    words = f"did you mean '{near[0]}'?" if near else "'headway runs' lists what there is"
    raise NotFoundError(f"no run of a pipeline {pipeline!r}", next=words)


async def _counted(
    db: aiosqlite.Connection, asked: LatencyFilter, bounds: Bounds, names: Names
) -> tuple[Handoffs, _Counted]:
    """The handoffs that are asked for, and how many there are."""
    columns = _columns(asked)
    needed = list(dict.fromkeys(["duration", *columns, *(["pipeline"] if asked.pipeline else [])]))
    found = await pieces(db, needed, bounds, names)
    pipeline = (await names.numbers([asked.pipeline]))[asked.pipeline] if asked.pipeline else 0
    handoffs = await asyncio.to_thread(_loaded, found, needed, bounds, pipeline)
    states = handoffs.distinct("state")
    known = await names.names(states)
    whole = [number for number in states if PHASE_MARK not in known[number]]
    counted = _Counted(*await asyncio.to_thread(handoffs.settle, whole, phases="phase" in asked.by))
    if "labels" in columns:
        several = handoffs.distinct("labels")
        texts = await names.names(several)
        lists = {number: json.loads(texts[number]) or [""] for number in several}
        numbers = await names.numbers(label for labels in lists.values() for label in labels)
        into = {number: [numbers[label] for label in labels] for number, labels in lists.items()}
        await asyncio.to_thread(handoffs.spread, "labels", into)
    return handoffs, counted


def _loaded(found: Sequence[Piece], columns: Sequence[str], bounds: Bounds, pipeline: int) -> Handoffs:
    from headway.projections.percentiles import Handoffs  # late: whoever asks nothing needs no numpy

    handoffs = Handoffs(found, columns, bounds)
    if pipeline:
        handoffs.only("pipeline", pipeline)
    return handoffs


async def _groups(
    db: aiosqlite.Connection, asked: LatencyFilter, handoffs: Handoffs, names: Names, now_us: int
) -> tuple[list[_Group], int]:
    """All groups with what is still open in them, and how many handoffs are open."""
    columns = _columns(asked)
    wide = len(columns)
    rows = await _open_rows(db, columns, asked.pipeline, now_us)
    numbers = await names.numbers(name for row in rows for name in row[:wide])
    opened = {
        tuple(numbers[name] for name in row[:wide]): _Open(row[wide], max(0, now_us - row[wide + 1]), *row[wide + 2 :])
        for row in rows
    }
    total = sum(one.count for one in opened.values())
    if "labels" in columns:  # a job counts under each of its labels, but is one
        total = sum(row[1] for row in await _open_rows(db, ["state"], asked.pipeline, now_us))
    return await asyncio.to_thread(_joined, handoffs, columns, opened), total


def _joined(handoffs: Handoffs, columns: Sequence[str], opened: dict[tuple[int, ...], _Open]) -> list[_Group]:
    found = handoffs.groups(columns)
    groups = [_Group(*one, place, opened.pop(one.names, None)) for place, one in enumerate(found)]
    return groups + [_Group(names, open=one) for names, one in opened.items()]


async def _open_rows(
    db: aiosqlite.Connection, columns: Sequence[str], pipeline: str, now_us: int
) -> list[tuple[Any, ...]]:
    """Of each group its names, count, when the oldest was entered, all ages together, and the oldest's run and job."""
    wanted = ", ".join(["j.state", *(_OF_OPEN[column] for column in columns[1:])])
    labels = "left join json_each(j.runs_on) l" if "labels" in columns else ""
    sql = (
        f"select {wanted}, count(*), min(j.entered), total(max(0, ? - j.entered)), j.run, j.job"
        f" from jobs j join runs r on r.run = j.run {labels} where {_OPEN} and (? = '' or r.pipeline = ?)"
        f" group by {', '.join(map(str, range(1, len(columns) + 1)))}"
    )
    return [tuple(row) for row in await db.execute_fetchall(sql, (now_us, pipeline, pipeline))]


def _chosen(groups: Sequence[_Group], asked: LatencyFilter) -> list[_Group]:
    """The groups to show: those that moved most, first; or those in which most time was spent."""
    ranks: list[tuple[bool, float, float, int]] = []
    for at, group in enumerate(groups):
        moved = group.moved() if asked.against_seconds else 0.0
        ranks.append((moved is None, -abs(moved or 0.0), -group.spent(), at))
    most = asked.limit or len(groups)
    best = sorted(ranks) if most >= len(ranks) else nsmallest(most, ranks)
    return [groups[at] for *_, at in best]


def _place(group: _Group, names: Mapping[int, str]) -> tuple[object, ...]:
    """Where a group stands: by the table of states, the largest sum first."""
    state, _, phase = names[group.names[0]].partition(PHASE_MARK)
    return _ORDER.get(state, len(_ORDER)), bool(phase), -group.sums[0], -group.spent(), group.names


def _row(
    group: _Group,
    figures: tuple[Figures, Figures] | None,
    columns: Sequence[str],
    names: Mapping[int, str],
    asked: LatencyFilter,
) -> LatencyRow:
    told: dict[str, Any] = {
        "label" if name == "labels" else name: names[at] for name, at in zip(columns, group.names, strict=True)
    }
    told["state"], _, phase = told["state"].partition(PHASE_MARK)
    if "phase" in asked.by:
        told["phase"] = phase
    if "job" in told:
        told["pipeline"], _, told["job"] = told["job"].partition(JOB_MARK)
    now, before = figures or (None, None)
    opened = group.open
    moved = None
    if now and before and now.count and before.count and asked.against_seconds:
        moved = (now.sum - before.sum * now.count / before.count) / 1000
    return LatencyRow(
        **told,
        **_figures(now),
        open=OpenRecord(count=opened.count, oldest_ms=opened.oldest_us / 1000, run=opened.run, job=opened.job)
        if opened
        else None,
        earlier=FiguresRecord(**_figures(before)) if asked.against_seconds else None,
        moved_ms=None if moved is None else round(moved, 3),
    )


def _figures(found: Figures | None) -> dict[str, Any]:
    if found is None or not found.count:
        return {"count": 0, "p50_ms": None, "p95_ms": None, "p99_ms": None, "max_ms": None, "sum_ms": 0.0}
    p50, p95, p99, longest = (one / 1000 for one in found.percentiles)
    return {
        "count": found.count,
        "p50_ms": p50,
        "p95_ms": p95,
        "p99_ms": p99,
        "max_ms": longest,
        "sum_ms": found.sum / 1000,
    }


def _period(start: int, end: int, counted: _Counted, which: int) -> PeriodRecord:
    return PeriodRecord(
        since=from_us(start), until=from_us(end), handoffs=counted.handoffs[which], left_out=counted.left_out[which]
    )
