"""A projection on a folder of its own, and the few words that tests say to it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

from headway.core.log import Log
from headway.projections import queries
from headway.projections.follower import Follower
from headway.projections.records import JobRecord, ShowRecord
from headway.projections.store import Store
from tests.projections.histories import History


@asynccontextmanager
async def following(log: Log, path: Path) -> AsyncGenerator[tuple[Follower, Store], None]:
    """A follower at work on a store; both are ended in good order."""
    store = await Store.open(path)
    follower = Follower(log, store)
    task = asyncio.create_task(follower.run())
    try:
        yield follower, store
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await store.close()


async def fold(history: History, path: Path) -> None:
    """Bring the file to the end of the history."""
    async with following(history.log, path) as (follower, _):
        await follower.wait_for(history.seq)


async def shown(history: History, path: Path, run: str) -> ShowRecord:
    """The run as the tables have it at the end of the history."""
    async with following(history.log, path) as (follower, store):
        await follower.wait_for(history.seq)
        async with store.reading() as db:
            return await queries.show(db, run)


def job_of(show: ShowRecord, name: str) -> JobRecord:
    """One job of the run."""
    [job] = [one for one in show.jobs if one.job == name]
    return job
