"""A process that folds a long history, to be killed while it does; and how to see how far it has come."""

from __future__ import annotations

import asyncio
import sqlite3
import sys
from contextlib import closing
from pathlib import Path

from tests.projections.histories import History
from tests.projections.tables_fixture import fold
from tests.waiting import until


def long_history() -> History:
    """The same twenty thousand events in every process."""
    history = History(seed=3)
    history.register()
    while history.seq < 20_000:
        history.pass_run(jobs=5)
    return history


async def position_in(path: Path, *, past: int) -> None:
    """Wait until another process has brought the file past an event."""
    await until(lambda: _position(path) > past, what=f"the file is past event {past}", timeout_seconds=30)


def _position(path: Path) -> int:
    """How far the file is, 0 while it is not there or still being made."""
    try:
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as db:
            return int(db.execute("select position from meta").fetchone()[0])
    except (sqlite3.Error, TypeError):
        return 0


if __name__ == "__main__":
    asyncio.run(fold(long_history(), Path(sys.argv[1])))
