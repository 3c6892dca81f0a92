"""Gathers what lost attempts had printed: from the output stream into a blob, named by an event."""

from __future__ import annotations

import asyncio
import logging
from typing import Final

from headway.cli.office import Office
from headway.core import asks
from headway.core.blobs import Blobs
from headway.core.errors import HeadwayError
from headway.core.events import Output
from headway.core.outputs import Outputs

TRIES: Final = 5
PAUSE_SECONDS: Final = 1.0

logger = logging.getLogger("headway.keeper")


class OutputKeeper:
    """Called with every lost attempt; asks the coordinator to store what was found."""

    def __init__(self, office: Office, outputs: Outputs, blobs: Blobs) -> None:
        self._office = office
        self._outputs = outputs
        self._blobs = blobs
        self._tasks: dict[tuple[str, str, int], asyncio.Task[None]] = {}

    def __call__(self, run: str, job: str, attempt: int) -> None:
        key = (run, job, attempt)
        if key not in self._tasks:
            task = asyncio.create_task(self._keep(run, job, attempt))
            self._tasks[key] = task
            task.add_done_callback(lambda _: self._tasks.pop(key, None))

    async def close(self) -> None:
        """Stop; what is not kept yet is asked for again at the next start."""
        for task in list(self._tasks.values()):
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)

    async def _keep(self, run: str, job: str, attempt: int) -> None:
        output: Output | None = None
        missing = "the output stream could not be read"
        for _ in range(TRIES):
            try:
                output = await self._gather(run, job, attempt)
                missing = "" if output else "nothing had been printed, or it is no longer in the output stream"
                break
            except Exception as error:  # whatever it is, the run must not wait for it for ever
                logger.warning("the output of %s %s/%d could not be gathered: %r", run, job, attempt, error)
                missing = f"the output stream could not be read: {error}"
                await asyncio.sleep(PAUSE_SECONDS)
        ask = asks.StoreOutput(run=run, job=job, attempt=attempt, output=output, missing=missing)
        while True:
            try:
                await self._office.ask(ask, actor="coordinator")
                return
            except HeadwayError as error:
                logger.warning("the output of %s %s/%d is not kept yet: %s", run, job, attempt, error)
                await asyncio.sleep(PAUSE_SECONDS)

    async def _gather(self, run: str, job: str, attempt: int) -> Output | None:
        chunks = await self._outputs.read(run, job, attempt)
        if not chunks:
            return None
        body = b"".join(chunk if chunk.endswith(b"\n") else chunk + b"\n" for chunk in chunks)
        return Output(
            digest=await asyncio.to_thread(self._blobs.put_bytes, body), bytes=len(body), records=body.count(b"\n")
        )
