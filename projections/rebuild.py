"""Folding the whole log into a new file, and telling whether two files are equal.

Deleting a projection and folding it again must give the same rows; `compare` says where it does not.
"""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncGenerator
from contextlib import aclosing
from pathlib import Path
from typing import Any, Final, Self

import aiosqlite

from headway.core.errors import UnavailableError
from headway.core.log import Log
from headway.projections.apply import Fold, fold_batch
from headway.projections.store import Store, open_reader, take_place
from headway.projections.tables import ORDER, quoted

DIFFERENCES_MAX: Final = 100
ROWS_AT_ONCE: Final = 1000


class Scratch:
    """A new file beside the one it is to replace, filled from the beginning of the log."""

    def __init__(self, log: Log, store: Store) -> None:
        self.path = store.path
        self._log = log
        self._store = store
        self._fold = Fold()

    @classmethod
    async def begin(cls, log: Log, path: Path) -> Self:
        """An empty file for the place of `path`; what an interrupted attempt left is dropped."""
        return cls(log, await Store.open_scratch(path.with_name(path.name + ".rebuilding")))

    async def fold(self, *, until: int) -> None:
        """Fold what is not yet folded, up to and with the event `until`."""
        if self._fold.position >= until:
            return
        async for batch in self._log.read(start=self._fold.position + 1, end=until):
            await fold_batch(self._fold, self._store, batch)
        if self._fold.position != until:
            raise UnavailableError(
                f"the log ended at event {self._fold.position} where {until} was expected", next="try again"
            )

    async def finish(self) -> None:
        """Make the file whole and close it."""
        await self._store.finish()

    async def close(self) -> None:
        """Drop whatever has not taken its place."""
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


async def compare(path_a: Path, path_b: Path) -> list[str]:
    """What differs between two files, row by row, in words; empty when they are equal."""
    a, b = await open_reader(path_a), None
    try:
        b = await open_reader(path_b)
        found: list[str] = []
        for table, key in ORDER.items():
            found += await _compare_table(a, b, table, key)
        return found[:DIFFERENCES_MAX]
    except sqlite3.Error as error:
        raise UnavailableError(f"{path_a} and {path_b} cannot be compared: {error}", next="rebuild both") from error
    finally:
        await a.close()
        if b is not None:
            await b.close()


async def _compare_table(
    a: aiosqlite.Connection, b: aiosqlite.Connection, table: str, key: tuple[str, ...]
) -> list[str]:
    """Walk both tables side by side in the order of their keys."""
    found: list[str] = []
    async with aclosing(_rows(a, table, key)) as rows_a, aclosing(_rows(b, table, key)) as rows_b:
        row_a, row_b = await anext(rows_a, None), await anext(rows_b, None)
        while (row_a or row_b) and len(found) < DIFFERENCES_MAX:
            if row_b is None or (row_a is not None and _key(row_a, key) < _key(row_b, key)):
                found.append(f"{table} {_name(row_a, key)}: only in the first")
                row_a = await anext(rows_a, None)
            elif row_a is None or _key(row_b, key) < _key(row_a, key):
                found.append(f"{table} {_name(row_b, key)}: only in the second")
                row_b = await anext(rows_b, None)
            else:
                if row_a != row_b:
                    found.append(f"{table} {_name(row_a, key)}: {_difference(row_a, row_b)}")
                row_a, row_b = await anext(rows_a, None), await anext(rows_b, None)
    return found


def _key(row: sqlite3.Row, key: tuple[str, ...]) -> list[Any]:
    return [row[column] for column in key]


def _name(row: sqlite3.Row | None, key: tuple[str, ...]) -> str:
    return " ".join(str(value) for value in _key(row, key)) if row else ""


def _difference(a: sqlite3.Row, b: sqlite3.Row) -> str:
    columns = [column for column in a.keys() if column in b.keys() and a[column] != b[column]]  # noqa: SIM118
    return ", ".join(f"{column} is {a[column]!r} and {b[column]!r}" for column in columns) or "other columns"


async def _rows(
    connection: aiosqlite.Connection, table: str, key: tuple[str, ...]
) -> AsyncGenerator[sqlite3.Row, None]:
    async with connection.execute(f"select * from {table} order by {quoted(key)}") as cursor:
        cursor.row_factory = sqlite3.Row
        while some := list(await cursor.fetchmany(ROWS_AT_ONCE)):
            for row in some:
                yield row
