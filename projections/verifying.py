"""Whether the tables are what the log makes of them: it is folded anew beside them, and every row is compared.

`Refold` folds whatever is there. Where the log has lost an event or cannot be read, the copy of it in the tables takes
its place, and that is said; where there is none either, a row stands in for it that is not compared. So one lost event
does not keep the rest from being checked.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
from collections.abc import AsyncGenerator
from contextlib import aclosing, asynccontextmanager, suppress
from pathlib import Path
from typing import Any, Final, Self

import aiosqlite

from headway.core.chain import Read, named, read_entry
from headway.core.envelope import Recorded, digest
from headway.core.findings import Finding
from headway.core.log import Stored
from headway.core.server_config import free_bytes
from headway.projections.apply import Fold
from headway.projections.place import StoreError
from headway.projections.reader import open_reader
from headway.projections.rebuild import Difference, differences
from headway.projections.schema import SCHEMA_VERSION
from headway.projections.scratch import Free, leave_room
from headway.projections.store import Store
from headway.projections.tables import Changes, EventRow

AT_ONCE: Final = 500
HOLES_MAX: Final = 1_000_000
SHOWN_MAX: Final = 120
DAMAGES_SHOWN: Final = 20
SCRATCH: Final = ".verifying-"
AGAIN: Final = "the tables are made of the log again by 'headway projections rebuild'"
GONE: Final = "the log has lost it: restore a backup, and keep the tables' file until then"

TROUBLE: Final = (sqlite3.SQLITE_FULL, sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_NOMEM)
"""What SQLite may say that tells nothing of the file it reads."""


@asynccontextmanager
async def still(path: Path) -> AsyncGenerator[aiosqlite.Connection, None]:
    """The tables as they are at this moment, and stay for this connection. Raises UnavailableError."""
    connection = await open_reader(path)
    try:
        await connection.execute_fetchall("begin")
        await connection.execute_fetchall("select 1 from sqlite_schema")
        yield connection
    finally:
        await connection.close()


async def ends(db: aiosqlite.Connection) -> tuple[int, int]:
    """The position that the tables say they have, and the last event in them."""
    positions = [int(position) for (position,) in await db.execute_fetchall("select position from meta")]
    [(last,)] = await db.execute_fetchall("select coalesce(max(seq), 0) from events")
    return max(positions, default=0), int(last)


async def other_version(db: aiosqlite.Connection) -> list[Finding]:
    """Whether the tables say that they are of this version of Headway."""
    versions = [version for (version,) in await db.execute_fetchall("select schema_version from meta")]
    if versions == [SCHEMA_VERSION]:
        return []
    said = f"schema_version is {versions[0]}" if versions else "the row is missing"
    words = f"the row '1' of meta: {said}, and this version of Headway makes it {SCHEMA_VERSION}"
    return [Finding(code="row", words=words, table="meta", key="1", column="schema_version", next=AGAIN)]


class Refold:
    """The log folded anew into a scratch file, up to the event `until`. `trouble` says why that came to an end.

    There may be one at a time for the same tables in a process.
    """

    def __init__(self, store: Store, db: aiosqlite.Connection, until: int, *, free: Free = free_bytes) -> None:
        self.trouble = ""
        self.until = until
        self.rows = 0
        self._store = store
        self._db = db
        self._fold = Fold()
        self._free = free
        self._holes: set[int] = set()

    @classmethod
    async def begin(cls, path: Path, db: aiosqlite.Connection, until: int, *, free: Free = free_bytes) -> Self:
        """An empty file beside the tables, for as many bytes as they have. What a verifier left that died goes."""
        _remove_left(path)
        store = await Store.open_scratch(path.with_name(f"{path.name}{SCRATCH}{os.getpid()}"))
        return cls(store, db, until, free=free)

    @property
    def position(self) -> int:
        return self._fold.position

    async def take(self, entries: list[Read]) -> list[Finding]:
        """Fold the next entries; what was missing before them and among them comes from the tables."""
        wanted = [one for one in entries if self.position < one.stored.seq <= self.until]
        if not wanted or self.trouble:
            return []
        found: list[Finding] = []
        try:
            found += await self._fill(wanted[0].stored.seq - 1)
            await self._take(await self._mended(wanted, found))
        except StoreError as error:
            self.trouble = error.message
        except sqlite3.Error:
            raise  # the tables', whose copies were wanted
        except Exception as error:  # whatever the log holds: it is to be said, and is no reason to say no more
            self.trouble = f"after event {self.position} the log cannot be folded: {error}"
            found.append(Finding(code="fold", words=self.trouble, seq=self.position + 1, next="report this"))
        return found

    async def finish(self) -> list[Finding]:
        """Fold what only the tables have, and make the file whole."""
        found: list[Finding] = []
        try:
            if not self.trouble:
                found = await self._fill(self.until)
                self._leave_room(self._store.path.stat().st_size // 2)
                await self._store.finish()
        except (StoreError, OSError) as error:
            self.trouble = str(error)
        return found

    async def compare(self) -> AsyncGenerator[list[Finding], None]:
        """What is wrong with the tables, row by row."""
        try:
            async with still(self._store.path) as scratch:
                yield await _damages(self._db)
                yield await _shapes(self._db, scratch)
                rows = await _row_count(scratch)
                async with aclosing(differences(self._db, scratch)) as differing:
                    async for one in differing:
                        if one.table != "events" or one.key[0] not in self._holes:
                            yield [row_finding(one)]
                self.rows = rows
        except StoreError as error:
            self.trouble = error.message
        except (sqlite3.Error, TypeError) as error:
            if is_trouble(error):
                self.trouble = f"they cannot be compared: {error}"
                return
            words = f"the tables cannot be compared: {error}"
            yield [Finding(code="damaged", words=words, table="meta", next=AGAIN)]

    async def close(self) -> None:
        """Drop the scratch file."""
        await self._store.close()
        self._store.remove()

    async def _fill(self, last: int) -> list[Finding]:
        """Take what the log does not have, up to an event, from the tables."""
        found: list[Finding] = []
        if last - self.position > HOLES_MAX:
            raise StoreError(f"more than {HOLES_MAX} events are missing after event {self.position}", next=GONE)
        while self.position < last:
            first, end = self.position + 1, min(self.position + AT_ONCE, last)
            copies = await copies_of(self._db, first, end)
            found += [gone(one) for one in copies]
            by_seq = {one.stored.seq: one for one in copies}
            await self._take([by_seq.get(seq) or _hole(seq) for seq in range(first, end + 1)])
        return found

    async def _mended(self, entries: list[Read], found: list[Finding]) -> list[Read]:
        """These entries without gaps: the tables fill them, and take the place of what cannot be read."""
        by_seq = {one.stored.seq: one for one in entries}
        first, last = entries[0].stored.seq, entries[-1].stored.seq
        if len(by_seq) == last - first + 1 == len(entries) and all(one.envelope for one in entries):
            return entries
        if last - first > HOLES_MAX:
            raise StoreError(f"more than {HOLES_MAX} events are missing after event {first}", next=GONE)
        mended: list[Read] = []
        for start in range(first, last + 1, AT_ONCE):
            end = min(start + AT_ONCE - 1, last)
            copies = {one.stored.seq: one for one in await copies_of(self._db, start, end)}
            found += [gone(one) for seq, one in copies.items() if seq not in by_seq]
            for seq in range(start, end + 1):
                there = by_seq.get(seq)
                if there is None or there.envelope is None:
                    there = copies.get(seq, there or _hole(seq))
                mended.append(there)
        return mended

    def _leave_room(self, more_bytes: int) -> None:
        leave_room(self._store.path.parent, more_bytes, free=self._free)

    async def _take(self, entries: list[Read]) -> None:
        for start in range(0, len(entries), AT_ONCE):
            some = entries[start : start + AT_ONCE]
            await self._fold.prepare([recorded for one in some if (recorded := _recorded(one))], self._store.fetch)
            self._holes.update(one.stored.seq for one in some if one.envelope is None)
            self._leave_room(2 * sum(len(one.stored.body) for one in some))
            await self._store.write(await asyncio.to_thread(_apply, self._fold, some))
            self._fold.settle()


def _apply(fold: Fold, entries: list[Read]) -> Changes:
    holes: list[EventRow] = []
    for one in entries:
        recorded = _recorded(one)
        if recorded is not None:
            fold.apply(recorded)
        else:
            fold.position = one.stored.seq
            holes.append((fold.position, "", 0, "", "", 0, 0, 0, 0, "", b""))
    changes = fold.changes()
    changes.position = fold.position
    changes.events = sorted([*changes.events, *holes], key=lambda row: row[0])
    return changes


def _recorded(one: Read) -> Recorded | None:
    if one.envelope is None:
        return None
    stored = one.stored
    return Recorded(seq=stored.seq, logged=stored.logged, envelope=one.envelope, body=stored.body)


def _hole(seq: int) -> Read:
    return Read(Stored(seq=seq, logged=0, subject="", id="", body=b""), None)


async def copies_of(db: aiosqlite.Connection, first: int, last: int) -> list[Read]:
    """The copies that the tables keep of these events; those that cannot be read are left out."""
    sql = "select seq, logged, body from events where seq between ? and ? order by seq"
    return [one for one in await _reads(db, sql, first, last) if one.envelope is not None]


async def events_in(
    db: aiosqlite.Connection, *, until: int, run: str = "", at_once: int = AT_ONCE
) -> AsyncGenerator[list[Stored], None]:
    """The copies that the tables keep of the events, in order, as entries without a name and a subject."""
    start = 0
    one_run = "and run = ?" if run else ""
    sql = f"select seq, logged, body from events where seq > ? and seq <= ? {one_run} order by seq limit {at_once}"
    while found := await _reads(db, sql, start, until, *([run] if run else [])):
        yield [one.stored for one in found]
        start = found[-1].stored.seq


async def _reads(db: aiosqlite.Connection, sql: str, *parameters: object) -> list[Read]:
    return [
        read_entry(Stored(seq=seq, logged=logged, subject="", id="", body=body))
        for seq, logged, body in await db.execute_fetchall(sql, parameters)
    ]


def is_trouble(error: Exception) -> bool:
    """Whether this keeps tables from being read and says nothing against them."""
    return (getattr(error, "sqlite_errorcode", 0) & 0xFF) in TROUBLE


def gone(copy: Read, *, where: str = "on the log") -> Finding:
    """An event that the tables have and the log has not."""
    envelope, seq = copy.envelope, copy.stored.seq
    what = named(envelope, seq) if envelope is not None else f"event {seq}"
    words = f"{what} is in the tables, and not {where}"
    run, n = (envelope.run, envelope.n) if envelope is not None else ("", 0)
    return Finding(code="gone", words=words, run=run, seq=seq, n=n, next=GONE)


def row_finding(one: Difference) -> Finding:
    """What is wrong with a row, where the first file has the tables and the second what the log makes."""
    row = one.a or one.b or {}
    name = _name(one, row)
    columns = one.columns
    if one.a is None:
        words = f"{name} is missing, and the log makes it"
    elif one.b is None:
        words = f"{name} is there, and nothing on the log makes it"
    else:
        said = [
            f"{column} is {value(one.a[column])}, and the log makes it {value(one.b[column])}" for column in columns
        ]
        words = f"{name}: {'; '.join(said) or 'other columns'}"
    changed = columns[0] if one.a and one.b and columns else ""
    run, n = row.get("run"), row.get("n")
    return Finding(
        code="row",
        words=words,
        run=run if isinstance(run, str) else "",
        seq=one.key[0] if one.table == "events" else 0,
        n=n if one.table == "events" and isinstance(n, int) else 0,
        table=one.table,
        key=" ".join(str(part) for part in one.key),
        column=changed,
        right=value(one.b[changed]) if one.b and changed else "",
        wrong=value(one.a[changed]) if one.a and changed else "",
        next=AGAIN,
    )


def value(found: object) -> str:
    """A column's value in words; bytes by their number and digest."""
    if isinstance(found, bytes):
        return f"{len(found)} bytes {digest(found)[:19]}"
    if found is None:
        return "empty"
    text = repr(found)
    return text if len(text) <= SHOWN_MAX else text[: SHOWN_MAX - 3] + "..."


def _name(one: Difference, row: dict[str, Any]) -> str:
    key = " ".join(str(part) for part in one.key)
    if one.table == "events":
        job = f" of job {row['job']}" if row.get("job") else ""
        run = f", number {row['n']} of run {row['run']}" if row.get("run") else ""
        return f"the row of event {key} ({row.get('type')}{job}{run})"
    if one.table == "runs":
        return f"the row of run {row.get('run')} in runs (number {key})"
    if one.table == "timeline":
        return f"row {key} of timeline (job {row.get('job')}, attempt {row.get('attempt')}, {row.get('state')})"
    return f"the row {key!r} of {one.table}"


async def _damages(db: aiosqlite.Connection) -> list[Finding]:
    """What SQLite itself finds wrong with the file."""
    try:
        said = [str(words) for (words,) in await db.execute_fetchall(f"pragma integrity_check({DAMAGES_SHOWN})")]
    except sqlite3.Error as error:
        if is_trouble(error):
            raise
        said = [str(error)]
    return [
        Finding(code="damaged", words=f"the file of the tables is damaged: {words}", table="meta", next=AGAIN)
        for words in said
        if words != "ok"
    ]


async def _shapes(db: aiosqlite.Connection, scratch: aiosqlite.Connection) -> list[Finding]:
    """Tables, indexes and whatever else is in the file, against what belongs there."""
    sql = "select name, type, sql from sqlite_schema where name not like 'sqlite_%'"
    there = {name: (kind, text) for name, kind, text in await db.execute_fetchall(sql)}
    right = {name: (kind, text) for name, kind, text in await scratch.execute_fetchall(sql)}
    found: list[Finding] = []
    for name in sorted({*there, *right}):
        kind = (there.get(name) or right.get(name) or ("", ""))[0]
        if there.get(name) != right.get(name):
            what = (
                "is missing" if name not in there else "does not belong there" if name not in right else "was changed"
            )
            words = f"the {kind} {name} {what} in the file of the tables"
            found.append(Finding(code="shape", words=words, table=name, next=AGAIN))
    return found


async def _row_count(db: aiosqlite.Connection) -> int:
    names = [name for (name,) in await db.execute_fetchall("select name from sqlite_schema where type = 'table'")]
    total = 0
    for name in names:
        [(count,)] = await db.execute_fetchall(f'select count(*) from "{name}"')
        total += count
    return total


def _remove_left(path: Path) -> None:
    """Remove the scratch files of processes that are gone."""
    for file in path.parent.glob(f"{path.name}{SCRATCH}*"):
        pid = file.name.removeprefix(path.name + SCRATCH).partition("-")[0]
        if pid.isdigit() and (int(pid) == os.getpid() or not _alive(int(pid))):
            with suppress(OSError):
                file.unlink()


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        pass
    return True
