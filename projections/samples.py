"""Handoffs packed into columns, so that percentiles of millions of them are found in milliseconds.

The rows of `timeline` are only ever added. Each full `CHUNK_ROWS` of them are packed once, in the transaction that
wrote the last of them: a chunk is a number of arrays of that length, `left` and `duration` in microseconds (64 bit)
and the others numbers of `names`, as wide as the largest of them needs. The row at a place of a chunk is the row of the
timeline with that id. Which rows make a chunk depends on the log alone, so that folding the log again makes the same
chunks. Rows after the last chunk are read from `timeline` itself.

A state in which a job was skipped or cancelled has the duration `LEFT_OUT`: nobody was waited for to the end there. A
phase of a state is a state of its own here, `preparing/source`. A job has its pipeline in front, because jobs of one
name in two pipelines are two jobs.
"""

from __future__ import annotations

import sqlite3
from array import array
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

from headway.core.states import ON_A_RUNNER, Outcome, State
from headway.projections.tables import TimelineRow, quoted

CHUNK_ROWS: Final = 4096
LEFT_OUT: Final = -1
NUMBERS: Final = ("left", "duration")
NAMES: Final = ("state", "job", "pipeline", "project", "branch", "runner", "labels")
PHASE_MARK: Final = "/"
JOB_MARK: Final = "\x1f"
_OF_RUNS: Final = ("job", "pipeline", "project", "branch")
_HELD: Final = tuple(state.value for state in State if state in ON_A_RUNNER)
_NOWHERE: Final = (Outcome.CANCELLED.value, Outcome.SKIPPED.value)
"""How a job ended that was handed to nobody."""
_ASK_AT_ONCE: Final = 500


def runner_of(row: str) -> str:
    """SQL: the name of the runner that holds a row's state, "" when none does; its id ends with `-` and 8 letters."""
    held = f"{row}.state in {_HELD}"
    return f"case when {held} then substr({row}.holder, 1, max(0, length({row}.holder) - 9)) else '' end"


_EXPRESSIONS: Final = {
    "left": 't."left"',
    "duration": f'case when t.next in {_NOWHERE} then {LEFT_OUT} else t."left" - t.entered end',
    "state": f"case when t.phase = '' then t.state else t.state || '{PHASE_MARK}' || t.phase end",
    "job": "r.pipeline || char(31) || t.job",
    "runner": runner_of("t"),
    "labels": "t.labels",
    **{column: f"r.{column}" for column in ("pipeline", "project", "branch")},
}


def select(columns: Sequence[str]) -> str:
    """SQL for these columns of the rows with ids above the first parameter, up to the second, in that order."""
    joined = "join runs r on r.seq = t.run" if any(column in _OF_RUNS for column in columns) else ""
    wanted = ", ".join(_EXPRESSIONS[column] for column in columns)
    return f"select {wanted} from timeline t {joined} where t.id > ? and t.id <= ? order by t.id"


class Sealer:
    """Packs what is full as rows are written. In memory are the rows that are in no chunk yet."""

    def __init__(self) -> None:
        self._waiting: list[tuple[Any, ...]] | None = None
        self._chunk = 0

    def forget(self) -> None:
        """What was written may not be there."""
        self._waiting = None

    def wrote(self, connection: sqlite3.Connection, rows: Sequence[tuple[Any, ...]]) -> None:
        """These rows of the timeline have been written, in the transaction that goes on."""
        if self._waiting is None:
            [(self._chunk,)] = connection.execute("select coalesce(max(chunk) + 1, 0) from chunks")
            after = self._chunk * CHUNK_ROWS
            columns = quoted(TimelineRow.__struct_fields__)
            sql = f"select {columns} from timeline where id > ? order by id"
            self._waiting = connection.execute(sql, (after,)).fetchall()
        else:
            self._waiting += rows
        while len(self._waiting) >= CHUNK_ROWS:
            _seal(connection, self._chunk, self._waiting[:CHUNK_ROWS])
            del self._waiting[:CHUNK_ROWS]
            self._chunk += 1


def pack(column: str, values: Sequence[int]) -> bytes:
    """Values of a column as a chunk has them; names are numbers already."""
    if column in NUMBERS:
        return array("q", values).tobytes()
    most = max(values, default=0)
    return array("B" if most < 1 << 8 else "H" if most < 1 << 16 else "I", values).tobytes()


def _seal(connection: sqlite3.Connection, chunk: int, rows: list[tuple[Any, ...]]) -> None:
    columns = dict(zip(TimelineRow.__struct_fields__, zip(*rows, strict=True), strict=True))
    left, entered = columns["left"], columns["entered"]
    duration = [
        LEFT_OUT if after in _NOWHERE else end - begin
        for begin, end, after in zip(entered, left, columns["next"], strict=True)
    ]
    handoffs = CHUNK_ROWS - duration.count(LEFT_OUT)
    connection.execute("insert into chunks values (?, ?, ?, ?)", (chunk, min(left), max(left), handoffs))
    packed = [("left", pack("left", left)), ("duration", pack("duration", duration))]
    packed += _packed_names(connection, columns)
    connection.executemany("insert into samples values (?, ?, ?)", [(chunk, *one) for one in packed])


def _packed_names(connection: sqlite3.Connection, columns: dict[str, tuple[Any, ...]]) -> list[tuple[str, bytes]]:
    """The columns of names: first what they are made of, each different one turned into its name and number once."""
    runs = _runs(connection, dict.fromkeys(columns["run"]))
    made: dict[str, tuple[Sequence[Any], Callable[[Any], str]]] = {
        "state": (list(zip(columns["state"], columns["phase"], strict=True)), _state),
        "job": (
            list(zip(columns["run"], columns["job"], strict=True)),
            lambda one: f"{runs[one[0]][0]}{JOB_MARK}{one[1]}",
        ),
        "pipeline": (columns["run"], lambda run: runs[run][0]),
        "project": (columns["run"], lambda run: runs[run][1]),
        "branch": (columns["run"], lambda run: runs[run][2]),
        "runner": (list(zip(columns["state"], columns["holder"], strict=True)), _runner),
        "labels": (columns["labels"], str),
    }
    named = {name: {one: name_of(one) for one in dict.fromkeys(keys)} for name, (keys, name_of) in made.items()}
    numbers = _numbers(connection, dict.fromkeys(one for name in NAMES for one in named[name].values()))
    packed: list[tuple[str, bytes]] = []
    for name in NAMES:
        number = {one: numbers[text] for one, text in named[name].items()}
        packed.append((name, pack(name, [number[one] for one in made[name][0]])))
    return packed


def _state(made: tuple[str, str]) -> str:
    return PHASE_MARK.join(made) if made[1] else made[0]


def _runner(made: tuple[str, str]) -> str:
    state, holder = made
    return holder[:-9] if state in _HELD else ""


def _runs(connection: sqlite3.Connection, wanted: Iterable[int]) -> dict[int, tuple[str, str, str]]:
    """Pipeline, project and branch of each run."""
    seqs = list(wanted)
    found: dict[int, tuple[str, str, str]] = {}
    for start in range(0, len(seqs), _ASK_AT_ONCE):
        some = seqs[start : start + _ASK_AT_ONCE]
        sql = f"select seq, pipeline, project, branch from runs where seq in ({places(len(some))})"
        found.update(
            (seq, (pipeline, project, branch)) for seq, pipeline, project, branch in connection.execute(sql, some)
        )
    return found


def _numbers(connection: sqlite3.Connection, wanted: dict[str, None]) -> dict[str, int]:
    """The number of each name; new names get the next ones in the order in which they come."""
    names: list[Any] = list(wanted)
    found: dict[str, int] = {}
    for start in range(0, len(names), _ASK_AT_ONCE):
        some = names[start : start + _ASK_AT_ONCE]
        found.update(connection.execute(f"select name, id from names where name in ({places(len(some))})", some))
    [(last,)] = connection.execute("select coalesce(max(id), 0) from names")
    new = {name: number for number, name in enumerate((name for name in names if name not in found), last + 1)}
    connection.executemany("insert into names (name, id) values (?, ?)", new.items())
    return found | new


def places(count: int) -> str:
    """So many parameters for SQL."""
    return ", ".join("?" * count)
