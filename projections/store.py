"""The file that the tables live in: opening it, writing a batch, reading it, setting it aside, swapping it.

Always through aiosqlite, here and in `reader`. A whole batch costs one trip to aiosqlite's thread: the
writer is a connection whose `commit` first writes what is staged. Around each SQL statement that thread gives the
interpreter's lock away, and a busy event loop gives it back only for moments too short for another thread to wake up
in: a single insert was measured to take seconds. So the loop rests while the thread writes, a little each turn.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
from collections.abc import AsyncGenerator, Iterable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, Final, Self

import aiosqlite

from headway.projections.place import (
    DamagedError,
    StoreError,
    aside,
    check_place,
    explained,
    keep_private,
    remove,
    remove_beside,
    set_aside,
    sync,
    unusable,
)
from headway.projections.reader import open_reader
from headway.projections.schema import INDEXES, SCHEMA_VERSION, TABLES
from headway.projections.tables import (
    ORDER,
    TIME_COLUMNS,
    Changes,
    LogTime,
)
from headway.projections.writer import Staging, writer_of

READERS_MAX: Final = 4
REST_SECONDS_MAX: Final = 0.005
"""How long the event loop rests for a batch: plenty for a usual one."""
REST_SECONDS_AGAIN: Final = 0.0002
"""How long it rests in each turn after that, so that a slow disk holds up nobody."""

_PRAGMAS: Final = "pragma journal_mode = wal; pragma synchronous = normal; pragma journal_size_limit = 67108864;"
_PRAGMAS_SCRATCH: Final = "pragma journal_mode = off; pragma synchronous = off; pragma locking_mode = exclusive;"


class Store:
    """One projection file. Made by `open`; `note` says in words when what was found could not be used."""

    def __init__(self, path: Path, *, scratch: bool = False) -> None:
        self.path = path
        self.note = ""
        self.position = 0
        self.time = LogTime()
        self.damaged = False
        self._scratch = scratch
        self._staging = Staging()
        self._writing: asyncio.Future[None] | None = None
        self._writer: aiosqlite.Connection | None = None
        self._idle: list[aiosqlite.Connection] = []
        self._seats = asyncio.Semaphore(READERS_MAX)
        self._swapping = asyncio.Lock()

    @classmethod
    async def open(cls, path: Path) -> Self:
        """The store in this file, which is made if need be. What cannot be read is set aside and begun anew.

        Raises UnavailableError when the place cannot be used.
        """
        store = cls(path)
        await store._open()
        return store

    @classmethod
    async def open_scratch(cls, path: Path) -> Self:
        """A new file to be filled quickly and then finished; it survives nothing until `finish`."""
        store = cls(path, scratch=True)
        try:
            remove(path)
            await store._open()
        except BaseException as error:
            await store._close_all()
            with suppress(OSError):  # nobody owns it yet
                remove(path)
            if isinstance(error, OSError):
                raise unusable(path, (error.strerror or str(error)).lower()) from error
            raise
        return store

    async def write(self, changes: Changes) -> None:
        """Write rows and position in one transaction. Raises StoreError, and nothing was written then."""
        assert self._writer is not None, "the store is open"
        await self._written()
        self._staging.begin(changes)
        self._writing = asyncio.ensure_future(self._writer.commit())
        try:
            await asyncio.sleep(0)  # the task begins: its work is in the thread's queue now
            rest = REST_SECONDS_MAX
            while not self._staging.through.wait(rest) and not self._writing.done():
                rest = REST_SECONDS_AGAIN
                await asyncio.sleep(0)
            if not self._staging.committed:
                await asyncio.shield(self._writing)
        except sqlite3.Error as error:
            raise explained(error, self.path) from error
        self.position, self.time = changes.position, changes.time

    async def fetch(self, sql: str, parameters: Iterable[Any] = ()) -> list[tuple[Any, ...]]:
        """Rows as the writer sees them, for the fold."""
        assert self._writer is not None, "the store is open"
        try:
            return [tuple(row) for row in await self._writer.execute_fetchall(sql, parameters)]
        except sqlite3.Error as error:
            raise explained(error, self.path) from error

    async def refresh(self) -> None:
        """Learn the position from the file, after whatever a cancelled writer left in the thread."""
        await self._written()
        if self._writer is None:
            await self._open()
        [(self.position, *time)] = await self.fetch(f"select position, {TIME_COLUMNS} from meta")
        self.time = LogTime(*time)

    @asynccontextmanager
    async def reading(self) -> AsyncGenerator[aiosqlite.Connection, None]:
        """A connection for questions, in a transaction of its own: all answers are of one moment."""
        async with self._seats:
            if self._writer is None:
                raise StoreError(f"{self.path} is closed", next="try again in a moment")
            connection = self._idle.pop() if self._idle else await open_reader(self.path)
            try:
                await connection.execute_fetchall("begin")
                yield connection
            except sqlite3.Error as error:
                found = explained(error, self.path)
                self.damaged = self.damaged or isinstance(found, DamagedError)
                raise found from error
            finally:
                self._idle.append(connection)  # before the wait: its thread keeps the order, whatever comes next
                await connection.rollback()

    async def start_over(self, reason: str) -> None:
        """Set the file aside and begin an empty one. Whoever reads waits meanwhile."""
        async with self._alone():
            await self._close_all()
            set_aside(self.path)
            await self._open()
        self.note = f"{reason}; the old file is kept as {aside(self.path).name}"

    async def replace_with(self, path: Path) -> None:
        """Put a finished file in this one's place. Whoever reads waits meanwhile."""
        async with self._alone():
            await self._close_all()
            try:
                remove_beside(self.path)
                os.replace(path, self.path)
            finally:
                await self._open()

    async def finish(self) -> None:
        """Make a scratch file whole: indexes, write-ahead log, all of it on the disk. It is closed then."""
        assert self._writer is not None, "the store is open"
        assert self._scratch, "only a scratch file is finished"
        try:
            await self._writer.executescript(INDEXES + "pragma locking_mode = normal; pragma journal_mode = wal;")
        except sqlite3.Error as error:
            raise explained(error, self.path) from error
        finally:
            await self.close()
        try:
            await asyncio.to_thread(sync, self.path)
        except OSError as error:
            raise unusable(self.path, (error.strerror or str(error)).lower()) from error

    def remove(self) -> None:
        """Delete the file of a closed store, if it is still there."""
        remove(self.path)

    async def close(self) -> None:
        """Close every connection; waits for those who read."""
        async with self._alone():
            await self._close_all()

    @asynccontextmanager
    async def _alone(self) -> AsyncGenerator[None, None]:
        async with self._swapping:
            taken = 0
            try:
                for _ in range(READERS_MAX):
                    await self._seats.acquire()
                    taken += 1
                yield
            finally:
                for _ in range(taken):
                    self._seats.release()

    async def _open(self) -> None:
        self.damaged = False
        check_place(self.path, make=True)
        try:
            unusable = await self._open_writer()
        except DamagedError as error:
            await self._close_all()
            unusable = str(error)
        if unusable:
            await self._close_all()
            set_aside(self.path)
            self.note = f"{unusable}; the log is folded again, the old file is kept as {aside(self.path).name}"
            await self._open_writer()

    async def _open_writer(self) -> str:
        """Open or make the tables. Says what is wrong with what is there, "" when nothing is."""
        keep_private(self.path)
        try:
            self._writer = await _connected(
                aiosqlite.connect(
                    self.path, factory=writer_of(self._staging), isolation_level=None, cached_statements=256
                )
            )
            await self._writer.executescript(_PRAGMAS_SCRATCH if self._scratch else _PRAGMAS)
            names = {name for (name,) in await self.fetch("select name from sqlite_schema where type = 'table'")}
            if not names:
                indexes = "" if self._scratch else INDEXES
                meta = f"insert into meta values (1, {SCHEMA_VERSION}, 0, 0, 0, 0, 0, 0);"
                await self._writer.executescript(f"begin immediate; {TABLES} {indexes} {meta} commit;")
            elif not names.issuperset(ORDER):
                return f"{self.path} has other tables than expected"
            rows = await self.fetch(f"select schema_version, position, {TIME_COLUMNS} from meta")
        except sqlite3.Error as error:
            await self._close_all()
            raise explained(error, self.path) from error
        except StoreError:
            await self._close_all()
            raise
        if len(rows) != 1 or rows[0][0] != SCHEMA_VERSION:
            return f"{self.path} was written by a version of Headway with other tables"
        self.position, self.time = rows[0][1], LogTime(*rows[0][2:])
        return ""

    async def _written(self) -> None:
        """Wait until the last writing is over, which may have been cancelled; how it ended shows in the position."""
        if self._writing is not None and not self._writing.done():
            await asyncio.gather(self._writing, return_exceptions=True)
        self._writing = None

    async def _close_all(self) -> None:
        await self._written()
        idle, self._idle = self._idle, []
        writer, self._writer = self._writer, None
        for connection in [*idle, *([writer] if writer else [])]:
            with suppress(sqlite3.Error):
                await connection.close()


async def _connected(connection: aiosqlite.Connection) -> aiosqlite.Connection:
    """The connection once it is open. Who gives up meanwhile closes it: its thread opens the file all the same."""

    async def opened() -> aiosqlite.Connection:
        return await connection

    opening = asyncio.ensure_future(opened())
    try:
        return await asyncio.shield(opening)
    except asyncio.CancelledError:
        with suppress(sqlite3.Error):
            await (await opening).close()
        raise


async def take_place(new: Path, path: Path) -> None:
    """Put a finished file in the place of one that nobody has open. Raises StoreError when somebody has."""
    if path.exists():
        try:
            async with aiosqlite.connect(path, timeout=1.0, isolation_level=None) as connection:
                # Leaving the write-ahead log needs the file for oneself, and takes away what lies beside it.
                await connection.execute_fetchall("pragma journal_mode = delete")
        except sqlite3.Error as error:
            if not isinstance(explained(error, path), DamagedError):
                raise StoreError(
                    f"{path} is in use: {error}", next="let the service do it, or stop it with 'headway down'"
                ) from error
            set_aside(path)
    remove_beside(path)
    os.replace(new, path)
