"""The tables of the running service, as its questions see them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

from headway.cli.plane import Plane
from headway.core.errors import UnavailableError
from headway.core.log import Log
from headway.projections.reader import Connection
from headway.projections.records import Live
from headway.runners.source import project_name

PAST_AT_ONCE = 2


class ServiceView:
    """What is here; a question sees everything that was written before it was asked."""

    def __init__(self, plane: Plane) -> None:
        self.past_seats = asyncio.Semaphore(PAST_AT_ONCE)
        self.blobs = plane.blobs
        self.path = plane.store.path
        self.log: Log | None = plane.log
        self._plane = plane

    @asynccontextmanager
    async def present(self, *, patient: bool = True) -> AsyncGenerator[Connection, None]:
        """The tables, with all that was written before; who is not patient gets them as far as they go."""
        if patient:
            await self._plane.caught_up()
        async with self._plane.store.reading() as db:
            yield db

    async def caught_up(self, *, seconds: float) -> bool:
        """Whether the tables have all that was written; what the log is known not to give is not waited for."""
        if self._plane.live().log_trouble:
            return False
        try:
            async with asyncio.timeout(seconds):
                await self._plane.caught_up()
        except (TimeoutError, UnavailableError):
            return False
        return True

    def now_us(self) -> int:
        """This machine's clock, corrected where the log's is known to be another."""
        return self._plane.log_clock.now_us()

    def live(self) -> Live | None:
        """How coordinator, log and runners are."""
        return self._plane.live()

    async def output(self, run: str, job: str, attempt: int) -> list[bytes]:
        """From the output stream."""
        return await self._plane.outputs.read(run, job, attempt)

    async def project(self, folder: str) -> str:
        """The project of a folder."""
        return await asyncio.to_thread(project_name, Path(folder or "/"))
