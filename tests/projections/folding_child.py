"""A process that folds a long history, to be killed while it does; and how to see how far it has come."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from headway.core.errors import UnavailableError
from headway.projections import queries
from headway.projections.store import open_reader
from tests.projections.histories import History
from tests.projections.tables_fixture import fold


def long_history() -> History:
    """The same twenty thousand events in every process."""
    history = History(seed=3)
    history.register()
    while history.seq < 20_000:
        history.pass_run(jobs=5)
    return history


async def position_in(path: Path, *, past: int) -> None:
    """Wait until another process has brought the file past an event."""
    async with asyncio.timeout(30):
        while await _position(path) <= past:  # noqa: ASYNC110 - nothing of another process can be awaited
            await asyncio.sleep(0.005)


async def _position(path: Path) -> int:
    """How far the file is, 0 while it is not there or still being made."""
    try:
        reader = await open_reader(path)
    except UnavailableError:
        return 0
    try:
        tables = await reader.execute_fetchall("select name from sqlite_schema where name = 'meta'")
        return await queries.position(reader) if list(tables) else 0
    finally:
        await reader.close()


if __name__ == "__main__":
    asyncio.run(fold(long_history(), Path(sys.argv[1])))
