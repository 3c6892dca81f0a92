"""Reading samples: of the chunks and rows of some time those columns that a question needs.

The tables may be those of a past moment: `timeline` ends earlier then, and so does what is read of the chunks.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

import aiosqlite

from headway.projections import samples
from headway.projections.samples import CHUNK_ROWS, NUMBERS

ASKED, EARLIER = 0, 1
_ASK_AT_ONCE: Final = 500


class Bounds(NamedTuple):
    """The asked period goes from `start` to `end`, both in it; the earlier one from `earlier` to before `start`."""

    earlier: int
    start: int
    end: int

    def period(self, first: int, last: int) -> int | None:
        """The period that all moments from first to last lie in; None when that has to be asked of each."""
        if self.start <= first and last <= self.end:
            return ASKED
        return EARLIER if self.earlier <= first and last < self.start else None


class Piece(NamedTuple):
    """Some rows as columns of bytes; with a `period` all are in that one, and `left` is not among the columns."""

    columns: Mapping[str, bytes]
    period: int | None


class Names:
    """Names and their numbers: those of the table, and further ones for names that no chunk has yet."""

    def __init__(self, db: aiosqlite.Connection) -> None:
        self._db = db
        self._numbers: dict[str, int] = {}
        self._names: dict[int, str] = {}
        self._next = 0

    async def numbers(self, names: Iterable[str]) -> Mapping[str, int]:
        """The numbers of these names, and of others."""
        missing = [name for name in dict.fromkeys(names) if name not in self._numbers]
        await self._read("name", missing)
        for name in missing:
            if name not in self._numbers:
                self._learn(name, await self._free())
        return self._numbers

    async def names(self, numbers: Iterable[int]) -> Mapping[int, str]:
        """The names of these numbers, and of others."""
        await self._read("id", [number for number in dict.fromkeys(numbers) if number not in self._names])
        return self._names

    async def _free(self) -> int:
        if not self._next:
            [(self._next,)] = await self._db.execute_fetchall("select coalesce(max(id), 0) from names")
        self._next += 1
        return self._next

    async def _read(self, column: str, missing: Sequence[Any]) -> None:
        for start in range(0, len(missing), _ASK_AT_ONCE):
            some = missing[start : start + _ASK_AT_ONCE]
            sql = f"select name, id from names where {column} in ({samples.places(len(some))})"
            for name, number in await self._db.execute_fetchall(sql, some):
                self._learn(name, number)

    def _learn(self, name: str, number: int) -> None:
        self._numbers[name], self._names[number] = number, name


async def pieces(db: aiosqlite.Connection, columns: Sequence[str], bounds: Bounds, names: Names) -> list[Piece]:
    """These columns of all rows in one of the periods; some others may be among them where `left` is given."""
    last = await _one(db, "select id from timeline order by id desc limit 1")
    chunks = {
        chunk: bounds.period(first, left)
        for chunk, first, left in await db.execute_fetchall(
            f"select chunk, first_left, last_left from chunks where last_left >= ? and first_left <= ?"
            f" and chunk * {CHUNK_ROWS} < ?",
            (bounds.earlier, bounds.end, last),
        )
    }
    found = await _of_chunks(db, columns, chunks)
    kept = [Piece(_cut(one, last - chunk * CHUNK_ROWS), chunks[chunk]) for chunk, one in found.items()]
    sealed = await _one(db, f"select (max(chunk) + 1) * {CHUNK_ROWS} from chunks")
    if sealed < last:
        kept.append(await _rest(db, columns, (sealed, last), names))
    return kept


async def _of_chunks(
    db: aiosqlite.Connection, columns: Sequence[str], chunks: Mapping[int, int | None]
) -> dict[int, dict[str, bytes]]:
    """The columns of chunks; `left` too of those that have no period."""
    found: dict[int, dict[str, bytes]] = {chunk: {} for chunk in chunks}
    if chunks:
        ends, several = (min(chunks), max(chunks)), samples.places(len(columns))
        wanted = f'"column" in ({several})'
        cut = [chunk for chunk, period in chunks.items() if period is None]
        if cut:
            wanted = f"({wanted} or \"column\" = 'left' and chunk in ({', '.join(map(str, cut))}))"
        sql = f'select chunk, "column", body from samples where chunk between ? and ? and {wanted} order by chunk'
        for chunk, column, body in await db.execute_fetchall(sql, (*ends, *columns)):
            if chunk in found:
                found[chunk][column] = body
    return found


def _cut(columns: Mapping[str, bytes], rows: int) -> Mapping[str, bytes]:
    """Of a chunk only what was there."""
    if rows >= CHUNK_ROWS:
        return columns
    return {name: body[: len(body) // CHUNK_ROWS * rows] for name, body in columns.items()}


async def _rest(db: aiosqlite.Connection, columns: Sequence[str], ids: tuple[int, int], names: Names) -> Piece:
    """The rows that are in no chunk yet, packed as they will be."""
    wanted = ["left", *columns]
    rows = await db.execute_fetchall(samples.select(wanted), ids)
    packed: dict[str, bytes] = {}
    for column, values in zip(wanted, zip(*rows, strict=True), strict=True):
        if column in NUMBERS:
            packed[column] = samples.pack(column, values)
        else:
            numbers = await names.numbers(dict.fromkeys(values))
            packed[column] = samples.pack(column, [numbers[one] for one in values])
    return Piece(packed, None)


async def _one(db: aiosqlite.Connection, sql: str) -> int:
    found = list(await db.execute_fetchall(sql))
    return int(found[0][0] or 0) if found else 0
