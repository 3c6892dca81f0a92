"""Folding the whole log into a new file, and telling whether two files are equal.

Deleting a projection and folding it again must give the same rows; `compare` says where it does not.
"""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncGenerator, Callable
from contextlib import AsyncExitStack, aclosing
from pathlib import Path
from typing import Any, Final, Self

import aiosqlite
import msgspec

from headway.core.errors import UnavailableError
from headway.core.log import Log
from headway.core.server_config import free_bytes
from headway.projections.apply import Fold, fold_batch
from headway.projections.reader import open_reader
from headway.projections.scratch import Free, alone, leave_room
from headway.projections.store import Store, take_place
from headway.projections.tables import ORDER, quoted

DIFFERENCES_MAX: Final = 100
ROWS_AT_ONCE: Final = 1000

Told = Callable[[int, int], None]
"""Hears of the last event folded, and of the one that it goes up to."""


class Scratch:
    """A new file beside the one it is to replace, filled from the beginning of the log. `told` hears how far it is.

    There is one at a time, and it leaves the log its room on the disk.
    """

    def __init__(self, log: Log, store: Store, turn: AsyncExitStack, *, free: Free = free_bytes) -> None:
        self.path = store.path
        self.told: Told = lambda position, until: None
        self._log = log
        self._store = store
        self._turn = turn
        self._free = free
        self._fold = Fold()

    @classmethod
    async def begin(cls, log: Log, path: Path, *, free: Free = free_bytes) -> Self:
        """An empty file for the place of `path`; what an interrupted attempt left is dropped."""
        async with AsyncExitStack() as turn:
            await turn.enter_async_context(alone(path))
            store = await Store.open_scratch(path.with_name(path.name + ".rebuilding"))
            return cls(log, store, turn.pop_all(), free=free)

    async def fold(self, *, until: int) -> None:
        """Fold what is not yet folded, up to and with the event `until`."""
        if self._fold.position >= until:
            return
        async with aclosing(self._log.read(start=self._fold.position + 1, end=until)) as batches:
            async for batch in batches:
                leave_room(self.path.parent, 2 * sum(len(one.body) for one in batch), free=self._free)
                await fold_batch(self._fold, self._store, batch)
                self.told(self._fold.position, until)
        if self._fold.position != until:
            raise UnavailableError(
                f"the log ended at event {self._fold.position} where {until} was expected", next="try again"
            )

    async def finish(self) -> None:
        """Make the file whole and close it."""
        leave_room(self.path.parent, self.path.stat().st_size // 2, free=self._free)
        await self._store.finish()

    async def close(self) -> None:
        """Drop whatever has not taken its place."""
        async with self._turn:
            await self._store.close()
            self._store.remove()


async def rebuild(log: Log, path: Path) -> None:
    """Fold the whole log into a new file and put it in the place of `path`, which nobody may have open.

    While a service follows the log into it, `Follower.rebuild` does the same.
    """
    scratch = await Scratch.begin(log, path)
    try:
        await scratch.fold(until=await log.last_seq())
        await scratch.finish()
        await take_place(scratch.path, path)
    finally:
        await scratch.close()


class Difference(msgspec.Struct, frozen=True):
    """A row that two files do not have alike; `a` or `b` is None where it is missing."""

    table: str
    key: tuple[Any, ...]
    a: dict[str, Any] | None
    b: dict[str, Any] | None

    @property
    def columns(self) -> list[str]:
        """What differs, where both have the row."""
        if self.a is None or self.b is None:
            return []
        return [name for name, value in self.a.items() if name in self.b and not _alike(value, self.b[name])]


async def compare(path_a: Path, path_b: Path) -> list[str]:
    """What differs between two files, row by row, in words; empty when they are equal."""
    a, b = await open_reader(path_a), None
    try:
        b = await open_reader(path_b)
        found: list[str] = []
        async with aclosing(differences(a, b)) as differing:
            async for one in differing:
                found.append(_words(one))
                if len(found) >= DIFFERENCES_MAX:
                    break
        return found
    except sqlite3.Error as error:
        raise UnavailableError(f"{path_a} and {path_b} cannot be compared: {error}", next="rebuild both") from error
    finally:
        await a.close()
        if b is not None:
            await b.close()


async def differences(a: aiosqlite.Connection, b: aiosqlite.Connection) -> AsyncGenerator[Difference, None]:
    """Where the tables of two files differ: each pair is walked side by side in the order of its keys."""
    for table, key in ORDER.items():
        async with aclosing(_rows(a, table, key)) as rows_a, aclosing(_rows(b, table, key)) as rows_b:
            row_a, row_b = await anext(rows_a, None), await anext(rows_b, None)
            while row_a is not None or row_b is not None:
                key_a, key_b = _key(row_a, key), _key(row_b, key)
                if row_b is None or (row_a is not None and key_a < key_b):
                    yield Difference(table, key_a, _dict(row_a), None)
                    row_a = await anext(rows_a, None)
                elif row_a is None or key_b < key_a:
                    yield Difference(table, key_b, None, _dict(row_b))
                    row_b = await anext(rows_b, None)
                else:
                    if row_a != row_b:
                        yield Difference(table, key_a, _dict(row_a), _dict(row_b))
                    row_a, row_b = await anext(rows_a, None), await anext(rows_b, None)


def _key(row: sqlite3.Row | None, key: tuple[str, ...]) -> tuple[Any, ...]:
    return tuple(row[column] for column in key) if row is not None else ()


def _dict(row: sqlite3.Row | None) -> dict[str, Any] | None:
    return dict(zip(row.keys(), row, strict=True)) if row is not None else None


def _alike(a: object, b: object) -> bool:
    return type(a) is type(b) and a == b


def _words(one: Difference) -> str:
    name = f"{one.table} {' '.join(str(value) for value in one.key)}"
    if one.a is None or one.b is None:
        return f"{name}: only in the {'first' if one.b is None else 'second'}"
    said = ", ".join(f"{column} is {one.a[column]!r} and {one.b[column]!r}" for column in one.columns)
    return f"{name}: {said or 'other columns'}"


async def _rows(
    connection: aiosqlite.Connection, table: str, key: tuple[str, ...]
) -> AsyncGenerator[sqlite3.Row, None]:
    async with connection.execute(f"select * from {table} order by {quoted(key)}") as cursor:
        cursor.row_factory = sqlite3.Row
        while some := list(await cursor.fetchmany(ROWS_AT_ONCE)):
            for row in some:
                yield row
