"""The file that the tables live in: opening it, writing a batch, reading it, setting it aside, swapping it.

The only place that opens SQLite, and always through aiosqlite. A whole batch costs one trip to aiosqlite's thread: the
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
from urllib.parse import quote

import aiosqlite

from headway.core.errors import BrokenError, HeadwayError, UnavailableError
from headway.projections.schema import INDEXES, SCHEMA_VERSION, TABLES
from headway.projections.tables import (
    ORDER,
    TIME_COLUMNS,
    Changes,
    LogTime,
)
from headway.projections.writer import Staging, writer_of

Connection = aiosqlite.Connection
"""What questions are asked over."""

READERS_MAX: Final = 4
REST_SECONDS_MAX: Final = 0.005
"""How long the event loop rests for a batch: plenty for a usual one."""
REST_SECONDS_AGAIN: Final = 0.0002
"""How long it rests in each turn after that, so that a slow disk holds up nobody."""

_PRAGMAS: Final = "pragma journal_mode = wal; pragma synchronous = normal; pragma journal_size_limit = 67108864;"
_PRAGMAS_SCRATCH: Final = "pragma journal_mode = off; pragma synchronous = off; pragma locking_mode = exclusive;"
_DAMAGE: Final = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


class StoreError(UnavailableError):
    """The file cannot be used now; nothing was written."""


class DamagedError(StoreError):
    """The file is no database, or no longer one."""


def explained(error: sqlite3.Error, path: Path) -> HeadwayError:
    """What SQLite says, as an error that says what to do."""
    if isinstance(error, (sqlite3.IntegrityError, sqlite3.ProgrammingError, sqlite3.InterfaceError)):
        return BrokenError(f"{path} refused a row or a question: {error}", next="report this")
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if code in _DAMAGE:
        return DamagedError(f"{path} is damaged: {error}", next="it is rebuilt from the log at the next start")
    if code == sqlite3.SQLITE_FULL:
        return StoreError(f"no space is left for {path}", next="free some space on its disk")
    if code in (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM):
        return _unusable(path, str(error))
    return StoreError(f"{path} cannot be used: {error}", next="look at its disk, and for another process that holds it")


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
        _remove(path)
        store = cls(path, scratch=True)
        await store._open()
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
            _set_aside(self.path)
            await self._open()
        self.note = f"{reason}; the old file is kept as {_aside(self.path).name}"

    async def replace_with(self, path: Path) -> None:
        """Put a finished file in this one's place. Whoever reads waits meanwhile."""
        async with self._alone():
            await self._close_all()
            try:
                _remove_beside(self.path)
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
        await asyncio.to_thread(_sync, self.path)

    def remove(self) -> None:
        """Delete the file of a closed store, if it is still there."""
        _remove(self.path)

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
        _check_place(self.path, make=True)
        try:
            unusable = await self._open_writer()
        except DamagedError as error:
            await self._close_all()
            unusable = str(error)
        if unusable:
            await self._close_all()
            _set_aside(self.path)
            self.note = f"{unusable}; the log is folded again, the old file is kept as {_aside(self.path).name}"
            await self._open_writer()

    async def _open_writer(self) -> str:
        """Open or make the tables. Says what is wrong with what is there, "" when nothing is."""
        _keep_private(self.path)
        try:
            self._writer = await aiosqlite.connect(
                self.path, factory=writer_of(self._staging), isolation_level=None, cached_statements=256
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


async def open_reader(path: Path, *, only: bool = True) -> aiosqlite.Connection:
    """A connection for questions, to a file that is there; unless `only`, it may have tables of its own meanwhile."""
    _check_place(path, make=False)
    try:
        connection = await aiosqlite.connect(f"file:{quote(str(path))}?mode=rw", uri=True, isolation_level=None)
        try:
            await connection.execute_fetchall(f"pragma query_only = {int(only)}")
        except BaseException:
            await connection.close()
            raise
    except sqlite3.Error as error:
        raise explained(error, path) from error
    return connection


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
            _set_aside(path)
    _remove_beside(path)
    os.replace(new, path)


def _check_place(path: Path, *, make: bool) -> None:
    """Whether a file can be opened there, before aiosqlite tries: its thread outlives a failed opening.

    The file is not opened for this: closing it again would drop the locks that SQLite has on it.
    """
    why = ""
    try:
        if make:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        if path.is_file():
            why = "" if os.access(path, os.R_OK | os.W_OK) else "permission denied"
        elif path.exists() or not make:
            why = "not a file" if path.exists() else "no such file"
        elif not os.access(path.parent, os.W_OK | os.X_OK):
            why = "permission denied"
    except OSError as error:
        why = (error.strerror or str(error)).lower()
    if why:
        raise _unusable(path, why)


def _keep_private(path: Path) -> None:
    """Make the file, if need be, and let only its user at it and its folder. SQLite's other files take its mode.

    A file that is there is not opened, as above.
    """
    try:
        with suppress(FileExistsError):
            os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        for one, mode in ((path.parent, 0o700), *((file, 0o600) for file in (path, *_beside(path)))):
            with suppress(FileNotFoundError, PermissionError):  # another's folder keeps the mode its owner gave it
                if one.stat().st_mode & 0o077:
                    one.chmod(mode)
    except OSError as error:
        raise _unusable(path, (error.strerror or str(error)).lower()) from error


def _unusable(path: Path, why: str) -> StoreError:
    return StoreError(
        f"{path} cannot be opened for writing: {why}",
        next="give yourself write permission to it and its folder, or set HEADWAY_HOME to another folder",
    )


def _aside(path: Path) -> Path:
    return path.with_name(path.name + ".set-aside")


def _beside(path: Path) -> list[Path]:
    return [path.with_name(path.name + suffix) for suffix in ("-wal", "-shm", "-journal")]


def _remove_beside(path: Path) -> None:
    for one in _beside(path):
        one.unlink(missing_ok=True)


def _remove(path: Path) -> None:
    path.unlink(missing_ok=True)
    _remove_beside(path)


def _set_aside(path: Path) -> None:
    """Rename a file out of the way; what SQLite keeps beside it would be played into its successor."""
    try:
        if path.exists():
            os.replace(path, _aside(path))
        _remove_beside(path)
    except OSError as error:
        raise StoreError(
            f"{path} cannot be set aside: {error.strerror}",
            next="move it away yourself; the log has it all",
        ) from error


def _sync(path: Path) -> None:
    for one in (path, path.parent):
        descriptor = os.open(one, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
