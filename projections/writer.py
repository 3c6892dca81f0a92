"""The connection that writes: a whole batch in one call, so that it is one trip to aiosqlite's thread."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Sequence
from functools import cache
from itertools import chain
from typing import Any, ClassVar, Final, NamedTuple

import msgspec

from headway.core.errors import BrokenError
from headway.projections import samples
from headway.projections.tables import EVENT_COLUMNS, TIME_COLUMNS, Changes, Row, TimelineRow, quoted

AT_ONCE: Final = (64, 8, 1)
"""How many rows go into one statement; few sizes, so that the prepared statements are found again."""


class Added(NamedTuple):
    """A table whose rows are only ever added."""

    table: str
    columns: tuple[str, ...]


EVENTS: Final = Added("events", EVENT_COLUMNS)
TIMELINE: Final = Added("timeline", TimelineRow.__struct_fields__)


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

    def __init__(self, *about: Any, **more: Any) -> None:  # noqa: ANN401 - as sqlite3 has them
        super().__init__(*about, **more)
        self._sealer = samples.Sealer()

    def commit(self) -> None:
        try:
            self.execute("begin immediate")
            for changes in self.staging.changes:
                self._write(changes)
            self.execute("commit")
            self.staging.committed = True
        except BaseException:
            self._sealer.forget()
            if self.in_transaction:
                self.execute("rollback")
            raise
        finally:
            self.staging.changes = []
            self.staging.through.set()

    def _write(self, changes: Changes) -> None:
        before = changes.position - len(changes.events)
        moved = self.execute(
            f"update meta set (position, {TIME_COLUMNS}) = (?, ?, ?, ?, ?, ?) where position = ?",
            (changes.position, *msgspec.structs.astuple(changes.time), before),
        )
        if moved.rowcount != 1:
            raise BrokenError(
                f"the tables are not at event {before}", next="look for a second service on the same folder"
            )
        self._write_rows(EVENTS, changes.events)
        left = [msgspec.structs.astuple(row) for row in changes.timeline]
        self._write_rows(TIMELINE, left)
        for kind, rows in changes.rows.items():
            self._write_rows(kind, [msgspec.structs.astuple(row) for row in rows])
        if left:
            self._sealer.wrote(self, left)

    def _write_rows(self, kind: type[Row] | Added, rows: Sequence[tuple[Any, ...]]) -> None:
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
def _insert(kind: type[Row] | Added, count: int) -> str:
    """SQL that adds `count` rows, and for a kind of row that may change, changes what is there already."""
    columns = kind.columns if isinstance(kind, Added) else kind.__struct_fields__
    one = f"({', '.join('?' * len(columns))})"
    sql = f"insert into {kind.table} ({quoted(columns)}) values {', '.join([one] * count)}"
    if isinstance(kind, Added):
        return sql
    changing = [name for name in columns if name not in kind.key and name not in kind.fixed]
    return f"{sql} on conflict ({quoted(kind.key)}) do update set " + ", ".join(
        f'"{name}" = excluded."{name}"' for name in changing
    )
