"""The connection that writes: a whole batch in one call, so that it is one trip to aiosqlite's thread."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Sequence
from functools import cache
from itertools import chain
from typing import Any, ClassVar, Final

import msgspec

from headway.core.errors import BrokenError
from headway.projections.tables import EVENT_COLUMNS, Changes, Row, quoted

AT_ONCE: Final = (64, 8, 1)
"""How many rows go into one statement; few sizes, so that the prepared statements are found again."""


class Staging:
    """What the loop hands to the writer's thread, and how it learns that the thread is through with it."""

    def __init__(self) -> None:
        self.changes: list[Changes] = []
        self.committed = False
        self.through = threading.Event()

    def begin(self, changes: Changes) -> None:
        """Stage a batch; the writer's next commit writes it."""
        self.changes = [changes]
        self.committed = False
        self.through.clear()


class Writer(sqlite3.Connection):
    """A connection whose commit writes what is staged, and the position, in one transaction."""

    staging: ClassVar[Staging]

    def commit(self) -> None:
        try:
            self.execute("begin immediate")
            for changes in self.staging.changes:
                self._write(changes)
            self.execute("commit")
            self.staging.committed = True
        except BaseException:
            if self.in_transaction:
                self.execute("rollback")
            raise
        finally:
            self.staging.changes = []
            self.staging.through.set()

    def _write(self, changes: Changes) -> None:
        before = changes.position - len(changes.events)
        moved = self.execute(
            "update meta set position = ?, logged = ? where position = ?", (changes.position, changes.logged, before)
        )
        if moved.rowcount != 1:
            raise BrokenError(
                f"the tables are not at event {before}", next="look for a second service on the same folder"
            )
        self._write_rows(None, changes.events)
        for kind, rows in changes.rows.items():
            self._write_rows(kind, [msgspec.structs.astuple(row) for row in rows])

    def _write_rows(self, kind: type[Row] | None, rows: Sequence[tuple[Any, ...]]) -> None:
        start = 0
        for size in AT_ONCE:
            while len(rows) - start >= size:
                self.execute(_insert(kind, size), list(chain.from_iterable(rows[start : start + size])))
                start += size


def writer_of(shared: Staging) -> type[sqlite3.Connection]:
    """The kind of connection that writes what is staged there."""

    class Bound(Writer):
        """A writer of this one store."""

        staging = shared

    return Bound


@cache
def _insert(kind: type[Row] | None, count: int) -> str:
    """SQL that adds `count` events (kind None), or adds or changes that many rows."""
    columns = EVENT_COLUMNS if kind is None else kind.__struct_fields__
    one = f"({', '.join('?' * len(columns))})"
    table = "events" if kind is None else kind.table
    sql = f"insert into {table} ({quoted(columns)}) values {', '.join([one] * count)}"
    if kind is None:
        return sql
    changing = [name for name in columns if name not in kind.key and name not in kind.fixed]
    return f"{sql} on conflict ({quoted(kind.key)}) do update set " + ", ".join(
        f'"{name}" = excluded."{name}"' for name in changing
    )
