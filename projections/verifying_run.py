"""Whether the rows of one run are what its events make of them, and its event rows what the log has."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any, Final

import aiosqlite
import msgspec

from headway.core.chain import Read, read_entry
from headway.core.envelope import Recorded
from headway.core.events import type_of
from headway.core.findings import Finding
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
from headway.projections.verifying import AGAIN, events_in, gone, row_finding, value

KINDS: Final[tuple[type[Row], ...]] = (RunRow, JobRow, AttemptRow, StepRow)
OF_RUN: Final = "on the log among its run's"
TIME: Final = EVENT_COLUMNS.index("time")

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
        kept: dict[int, Read] = {}
        async for batch in events_in(self._db, until=self._until, run=self._run):
            kept.update({one.seq: read_entry(one) for one in batch})
        found = [gone(one, where=OF_RUN) for seq, one in kept.items() if seq not in on_log and one.envelope is not None]
        found += await self._events(on_log)
        readable = {seq: one for seq, one in (*kept.items(), *on_log.items()) if one.envelope is not None}
        times = await self._times(sorted(readable))
        changes = await asyncio.to_thread(_fold, [readable[seq] for seq in sorted(readable)], times)
        return found + await self._rows(changes)

    async def _events(self, on_log: dict[int, Read]) -> list[Finding]:
        """The rows of events: all that is in them but the log's time comes of the entry itself."""
        there: Table = {(row[0],): row for row in await self._select("events", EVENT_COLUMNS, "run = ?", self._run)}
        right: Table = {}
        for seq, one in on_log.items():
            if (seq,) not in there:
                rows = await self._select("events", EVENT_COLUMNS, "seq = ?", seq)
                there.update({(row[0],): row for row in rows})
            row = _event_row(one, there.get((seq,)))
            if row is not None:
                right[(seq,)] = row
        known = {key: row for key, row in there.items() if key[0] in on_log}
        self.rows += len(right)
        return [*self._compare("events", EVENT_COLUMNS, known, right), *await self._event_times(known)]

    async def _event_times(self, there: Table) -> list[Finding]:
        """The log's time of an event is its own, or that of one before it where clocks went back."""
        found: list[Finding] = []
        for row in there.values():
            seq, logged, time = row[0], row[EVENT_COLUMNS.index("logged")], row[TIME]
            if time == logged:
                continue
            sql = "select coalesce(max(logged), 0) from events where seq <= ?"
            [(highest,)] = await self._db.execute_fetchall(sql, (seq,))
            if time != highest:
                words = f"the row of event {seq}: time is {time}, and the log makes it {highest}"
                found.append(
                    Finding(
                        code="row",
                        words=words,
                        run=self._run,
                        seq=seq,
                        table="events",
                        key=str(seq),
                        column="time",
                        right=str(highest),
                        wrong=value(time),
                        next=AGAIN,
                    )
                )
        return found

    async def _times(self, seqs: list[int]) -> dict[int, int]:
        """The log's time at these events, where clocks went back at all."""
        if not await self._select("meta", ("steps_back",), "steps_back <> ?", 0):
            return {}
        rows = await self._select("events", ("seq", "time"), "run = ?", self._run)
        return {seq: time for seq, time in rows if seq in set(seqs)}

    async def _rows(self, changes: Changes) -> list[Finding]:
        found: list[Finding] = []
        number = 0
        for kind in KINDS:
            rows = [msgspec.structs.astuple(row) for row in changes.rows[kind]]
            columns, where, parameter = kind.__struct_fields__, "run = ?", [self._run]
            if kind is RunRow and rows:
                number = rows[0][0]
                where, parameter = "run = ? or seq = ?", [self._run, number]
            places = [columns.index(name) for name in kind.key]
            right: Table = {tuple(row[at] for at in places): row for row in rows}
            there: Table = {
                tuple(row[at] for at in places): row
                for row in await self._select(kind.table, columns, where, *parameter)
            }
            self.rows += len(right)
            found += self._compare(kind.table, columns, there, right)
        return found + await self._timeline(number, changes)

    async def _timeline(self, number: int, changes: Changes) -> list[Finding]:
        columns = TimelineRow.__struct_fields__
        right = _numbered([msgspec.structs.astuple(row) for row in changes.timeline])
        there = _numbered(await self._select("timeline", columns, "run = ? order by id", number))
        self.rows += len(right)
        found = self._compare("timeline", columns, there, right)
        if not found and list(there) != list(right):
            words = f"the rows of run {self._run} in timeline are not in the order in which states were left"
            found = [Finding(code="row", words=words, run=self._run, table="timeline", column="id", next=AGAIN)]
        return found

    def _compare(self, table: str, columns: tuple[str, ...], there: Table, right: Table) -> list[Finding]:
        found: list[Finding] = []
        for key in sorted({*there, *right}):
            a, b = there.get(key), right.get(key)
            if a != b:
                first = dict(zip(columns, a, strict=True)) if a is not None else None
                second = dict(zip(columns, b, strict=True)) if b is not None else None
                one = row_finding(Difference(table, key, first, second))
                found.append(msgspec.structs.replace(one, run=self._run))
        return found

    async def _select(self, table: str, columns: tuple[str, ...], where: str, *parameters: object) -> list[Any]:
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


def _event_row(one: Read, there: tuple[Any, ...] | None) -> tuple[Any, ...] | None:
    """The row that an entry makes; its time is looked at elsewhere. None for one that cannot be read."""
    envelope, stored = one.envelope, one.stored
    if envelope is None:
        return None
    time = there[TIME] if there is not None else stored.logged
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
        fold.replay(recorded, LogTime(times.get(stored.seq, stored.logged), stored.logged))
    return fold.changes()
