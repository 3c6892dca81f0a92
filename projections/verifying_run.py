"""Whether the rows of one run are what its events make of them, and its event rows what the log has."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable
from typing import Any, Final

import aiosqlite
import msgspec

from headway.core.chain import Read, read_entry
from headway.core.envelope import Recorded
from headway.core.events import type_of
from headway.core.findings import Finding
from headway.core.log import Stored
from headway.projections.apply import Fold
from headway.projections.rebuild import Difference
from headway.projections.tables import (
    EVENT_COLUMNS,
    AttemptRow,
    Changes,
    JobRow,
    LogTime,
    Row,
    RunRow,
    StepRow,
    TimelineRow,
    quoted,
)
from headway.projections.verifying import AGAIN, gone, row_finding

KINDS: Final[tuple[type[Row], ...]] = (RunRow, JobRow, AttemptRow, StepRow)
OF_RUN: Final = "on the log among its run's"
TIMES_AT_ONCE: Final = 10_000
LOGGED: Final = EVENT_COLUMNS.index("logged")
TIME: Final = EVENT_COLUMNS.index("time")
BODY: Final = EVENT_COLUMNS.index("body")

Rows = list[tuple[Any, ...]]
Table = dict[tuple[Any, ...], tuple[Any, ...]]


class RunCheck:
    """Compares the tables of `db` with the events of a run up to `until`; `rows` counts what was compared."""

    def __init__(self, db: aiosqlite.Connection, run: str, *, until: int) -> None:
        self.rows = 0
        self._db = db
        self._run = run
        self._until = until

    async def check(self, entries: list[Read]) -> list[Finding]:
        """What is wrong, by the log's entries; what it has lost is taken from the tables' own copies."""
        own = [one for one in entries if one.envelope is None or one.envelope.run == self._run]
        on_log = {one.stored.seq: one for one in own if one.stored.seq <= self._until}
        there = await self._copies(on_log)
        lost = await asyncio.to_thread(_lost, there, on_log, self._until)
        found = [gone(one, where=OF_RUN) for seq, one in lost.items() if seq not in on_log]
        readable = {seq: one for seq, one in (*lost.items(), *on_log.items()) if one.envelope is not None}
        events = [readable[seq] for seq in sorted(readable)]
        times = await self._times(events, there)
        found += await asyncio.to_thread(self._events, on_log, there, times)
        changes = await asyncio.to_thread(_fold, events, times)
        return found + await self._rows(changes)

    async def _copies(self, on_log: dict[int, Read]) -> Table:
        """The rows of events that are said to be of the run, and those in the places of events that are."""
        there: Table = {(row[0],): row for row in await self._select("events", EVENT_COLUMNS, "run = ?", self._run)}
        for seq in on_log:
            if (seq,) not in there:
                rows = await self._select("events", EVENT_COLUMNS, "seq = ?", seq)
                there.update({(row[0],): row for row in rows})
        return there

    async def _times(self, events: list[Read], there: Table) -> dict[int, int]:
        """The log's time at these events: the latest at which any event up to there was logged, as long as it is known.

        Where no clock went back that is the event's own. Else all events are looked at that the tables have up to the
        last of these, once; of the run itself the log's own word counts.
        """
        own = {one.stored.seq: one.stored.logged for one in events}
        stepped = await self._select("meta", ("steps_back",), "steps_back <> ?", 0)
        if not own or (not stepped and all(row[TIME] == row[LOGGED] for row in there.values())):
            return own
        first, last = events[0].stored.seq, events[-1].stored.seq
        sql = "select coalesce(max(logged), 0) from events where seq < ?"
        [(latest,)] = await self._db.execute_fetchall(sql, (first,))
        clock, before = _Clock(own, latest), first - 1
        while before < last:
            sql = f"select seq, logged from events where seq > ? and seq <= ? order by seq limit {TIMES_AT_ONCE}"
            some = [(seq, logged) for seq, logged in await self._db.execute_fetchall(sql, (before, last))]
            before = some[-1][0] if len(some) == TIMES_AT_ONCE else last
            await asyncio.to_thread(clock.go_on, some, before)
        return clock.times

    def _events(self, on_log: dict[int, Read], there: Table, times: dict[int, int]) -> list[Finding]:
        """The rows of events, against the log's entries."""
        right = {(seq,): _event_row(one, times[seq]) for seq, one in on_log.items() if one.envelope is not None}
        self.rows += len(right)
        return self._compare("events", EVENT_COLUMNS, {key: row for key, row in there.items() if key in right}, right)

    async def _rows(self, changes: Changes) -> list[Finding]:
        found: list[Finding] = []
        number = 0
        for kind in KINDS:
            rows = [msgspec.structs.astuple(row) for row in changes.rows[kind]]
            columns, where, parameter = kind.__struct_fields__, "run = ?", [self._run]
            if kind is RunRow and rows:
                number = rows[0][0]
                where, parameter = "run = ? or seq = ?", [self._run, number]
            there = await self._select(kind.table, columns, where, *parameter)
            self.rows += len(rows)
            found += await asyncio.to_thread(self._compare_all, kind, there, rows)
        columns = TimelineRow.__struct_fields__
        there = await self._select("timeline", columns, "run = ? order by id", number)
        self.rows += len(changes.timeline)
        return found + await asyncio.to_thread(self._timeline, there, changes)

    def _compare_all(self, kind: type[Row], there: Rows, right: Rows) -> list[Finding]:
        columns = kind.__struct_fields__
        places = [columns.index(name) for name in kind.key]
        return self._compare(kind.table, columns, _by_key(there, places), _by_key(right, places))

    def _timeline(self, rows: Rows, changes: Changes) -> list[Finding]:
        right = _numbered([msgspec.structs.astuple(row) for row in changes.timeline])
        there = _numbered(rows)
        found = self._compare("timeline", TimelineRow.__struct_fields__, there, right)
        if not found and list(there) != list(right):
            words = f"the rows of run {self._run} in timeline are not in the order in which states were left"
            found = [Finding(code="row", words=words, run=self._run, table="timeline", column="id", next=AGAIN)]
        return found

    def _compare(self, table: str, columns: tuple[str, ...], there: Table, right: Table) -> list[Finding]:
        if there == right:
            return []
        found: list[Finding] = []
        for key in sorted({*there, *right}):
            a, b = there.get(key), right.get(key)
            if a != b:
                first = dict(zip(columns, a, strict=True)) if a is not None else None
                second = dict(zip(columns, b, strict=True)) if b is not None else None
                one = row_finding(Difference(table, key, first, second))
                found.append(msgspec.structs.replace(one, run=self._run))
        return found

    async def _select(self, table: str, columns: tuple[str, ...], where: str, *parameters: object) -> Rows:
        sql = f"select {quoted(columns)} from {table} where {where}"
        return [tuple(row) for row in await self._db.execute_fetchall(sql, parameters)]


def _numbered(rows: list[tuple[Any, ...]]) -> Table:
    """Rows of the timeline by what they are of: the job, the event that ended the state, the phase and its turn."""
    columns = TimelineRow.__struct_fields__
    places = [columns.index(name) for name in ("job", "seq_left", "phase")]
    turns: Counter[tuple[Any, ...]] = Counter()
    found: Table = {}
    for row in rows:
        key = tuple(row[at] for at in places)
        turns[key] += 1
        found[(*key, turns[key])] = row
    return found


def _by_key(rows: Rows, places: list[int]) -> Table:
    return {tuple(row[at] for at in places): row for row in rows}


def _lost(there: Table, on_log: dict[int, Read], until: int) -> dict[int, Read]:
    """The tables' copies of events that the log has not, or has as what cannot be read."""
    found: dict[int, Read] = {}
    for row in there.values():
        seq, logged, body = row[0], row[LOGGED], row[BODY]
        known = on_log.get(seq)
        if seq <= until and (known is None or known.envelope is None):
            copy = read_entry(Stored(seq=seq, logged=logged, subject="", id="", body=body))
            if copy.envelope is not None:
                found[seq] = copy
    return found


class _Clock:
    """The log's time, which never goes back, as it goes through all events; `times` has it at those of one run."""

    def __init__(self, own: dict[int, int], latest: int) -> None:
        self.times: dict[int, int] = {}
        self._own = own
        self._waiting = sorted(own, reverse=True)
        self._latest = latest

    def go_on(self, rows: Iterable[tuple[int, int]], last: int) -> None:
        """Sequences with the times at which they were logged, in order, and how far they go."""
        for seq, logged in rows:
            self._own_until(seq - 1)
            if seq not in self._own and logged > self._latest:
                self._latest = logged
        self._own_until(last)

    def _own_until(self, last: int) -> None:
        while self._waiting and self._waiting[-1] <= last:
            seq = self._waiting.pop()
            self._latest = self.times[seq] = max(self._latest, self._own[seq])


def _event_row(one: Read, time: int) -> tuple[Any, ...]:
    """The row that an entry makes which was written at this time by the log's clock."""
    envelope, stored = one.envelope, one.stored
    assert envelope is not None, "only what can be read makes a row"
    return (
        *(stored.seq, envelope.run, envelope.n, type_of(envelope.data), envelope.job, envelope.attempt),
        *(stored.logged, time, envelope.at, envelope.actor, stored.body),
    )


def _fold(events: list[Read], times: dict[int, int]) -> Changes:
    fold = Fold()
    for one in events:
        stored, envelope = one.stored, one.envelope
        assert envelope is not None, "only what can be read is folded"
        recorded = Recorded(seq=stored.seq, logged=stored.logged, envelope=envelope, body=stored.body)
        fold.replay(recorded, LogTime(times[stored.seq], stored.logged))
    return fold.changes()
