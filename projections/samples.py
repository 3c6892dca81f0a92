"""Finished handoffs packed into columns, so that percentiles of millions of them are found in milliseconds.

The rows of `timeline` are only ever added. Each full `CHUNK_ROWS` of them are packed once, in the transaction that
wrote the last of them: a chunk is a number of arrays of the same length, `left` and `duration` in microseconds (64 bit)
and the others numbers of `names` (32 bit). Which rows make a chunk depends on the log alone, so that folding the log
again makes the same chunks. Rows after the last chunk are read from `timeline` itself.

Left out are the states in which a job was skipped or cancelled: nobody was waited for to the end there.
"""

from __future__ import annotations

import sqlite3
from array import array
from typing import Any, Final

CHUNK_ROWS: Final = 4096
NUMBERS: Final = ("left", "duration")
NAMES: Final = ("state", "phase", "job", "pipeline", "project", "branch", "runner", "labels")

SELECT: Final = """
select t."left", t."left" - t.entered, t.state, t.phase, t.job, r.pipeline, r.project, r.branch,
    case when t.state in ('assigned', 'preparing', 'executing', 'uploading')
        then substr(t.holder, 1, max(0, length(t.holder) - 9)) else '' end,
    t.labels
from timeline t join runs r on r.seq = t.run
where t.id > ? and t.id <= ? and t.next not in ('cancelled', 'skipped')
order by t.id
"""
"""Samples as rows: the columns of `NUMBERS`, then those of `NAMES`. A runner's id ends with `-` and eight letters."""


def seal(connection: sqlite3.Connection) -> None:
    """Pack what is full and not packed yet."""
    [(last, sealed)] = connection.execute("select (select max(id) from timeline), (select max(chunk) from chunks)")
    chunk = 0 if sealed is None else sealed + 1
    while (chunk + 1) * CHUNK_ROWS <= (last or 0):
        _seal(connection, chunk)
        chunk += 1


def _seal(connection: sqlite3.Connection, chunk: int) -> None:
    bounds = (chunk * CHUNK_ROWS, (chunk + 1) * CHUNK_ROWS)
    [(first, last)] = connection.execute(
        'select min("left"), max("left") from timeline where id > ? and id <= ?', bounds
    )
    rows = connection.execute(SELECT, bounds).fetchall()
    columns: list[tuple[Any, ...]] = list(zip(*rows, strict=True)) or [()] * len(NUMBERS + NAMES)
    numbers = _numbers(connection, dict.fromkeys(name for column in columns[len(NUMBERS) :] for name in column))
    connection.execute("insert into chunks values (?, ?, ?, ?)", (chunk, first, last, len(rows)))
    packed = [array("q", column).tobytes() for column in columns[: len(NUMBERS)]]
    packed += [array("i", map(numbers.__getitem__, column)).tobytes() for column in columns[len(NUMBERS) :]]
    connection.executemany(
        "insert into samples values (?, ?, ?)",
        [(chunk, name, body) for name, body in zip(NUMBERS + NAMES, packed, strict=True)],
    )


def _numbers(connection: sqlite3.Connection, wanted: dict[str, None]) -> dict[str, int]:
    """The number of each name, given in the order in which names come."""
    found: dict[str, int] = {}
    for name in wanted:
        known = connection.execute("select id from names where name = ?", (name,)).fetchone()
        if known is None:
            known = connection.execute("insert into names (name) values (?) returning id", (name,)).fetchone()
        found[name] = known[0]
    return found
