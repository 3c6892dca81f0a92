"""Streams of events for those who follow: first what the tables have, then each batch as it gets there.

What a client sees is in the tables already, so whatever it asks next agrees with it. A client that reads slowly loses
nothing and holds nobody up: its backlog is bounded, and what went over it is read from the tables again.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator
from typing import Any, Final

import msgspec

from headway.cli.plane import Plane
from headway.core.envelope import Recorded, record
from headway.core.errors import HeadwayError
from headway.core.events import type_of
from headway.projections import queries

BACKLOG_MAX: Final = 20_000
PAGE: Final = 1_000


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """Which events: of one run or all (""), of one type or all, from a sequence on."""

    run: str = ""
    start: int = 1
    type: str = ""


class _Backlog:
    """What has come since the tables were read, as far as it is wanted."""

    def __init__(self, asked: Asked) -> None:
        self.overflowed = False
        self._asked = asked
        self._ended: HeadwayError | None = None
        self._held: deque[Recorded] = deque()
        self._filled = asyncio.Event()

    def add(self, batch: list[Recorded]) -> None:
        run = self._asked.run
        wanted = [one for one in batch if one.envelope.run == run] if run else batch
        if not wanted:
            return
        if len(self._held) + len(wanted) > BACKLOG_MAX:
            self._held.clear()
            self.overflowed = True
        else:
            self._held.extend(wanted)
        self._filled.set()

    def end(self, error: HeadwayError) -> None:
        """No more will come, and this is why."""
        self._ended = error
        self._filled.set()

    async def next(self) -> list[Recorded]:
        """All that has come; waits until there is something. Empty when the tables have to be read again.

        Raises what ended the tables' following of the log.
        """
        await self._filled.wait()
        if self._ended is not None and not self._held and not self.overflowed:
            raise self._ended
        if self._ended is None:
            self._filled.clear()
        found = list(self._held)
        self._held.clear()
        return [] if self.overflowed else found


async def events(plane: Plane, asked: Asked) -> AsyncGenerator[dict[str, Any], None]:
    """Events as records, in order, each once. With one run it ends after `run.completed`."""
    if asked.run and await _is_past(plane, asked):
        return
    backlog = _Backlog(asked)
    stop_listening = plane.follower.listen(backlog.add, ended=backlog.end)
    try:
        at = asked.start - 1
        while True:
            backlog.overflowed = False
            async for one in _stored(plane, asked, at + 1):
                at = one["seq"]
                yield one
                if asked.run and one["type"] == "run.completed":
                    return
            while not backlog.overflowed:
                for recorded in await backlog.next():
                    if recorded.seq <= at:
                        continue
                    at = recorded.seq
                    kind = type_of(recorded.event)
                    if asked.type in ("", kind):
                        yield record(recorded)
                    if asked.run and kind == "run.completed":
                        return
    finally:
        stop_listening()


async def _is_past(plane: Plane, asked: Asked) -> bool:
    """Whether the run was over before the sequence asked for: then nothing will ever come."""
    rows = await plane.store.fetch("select seq_completed from runs where run = ?", (asked.run,))
    return bool(rows) and rows[0][0] is not None and asked.start > int(rows[0][0])


async def _stored(plane: Plane, asked: Asked, start: int) -> AsyncGenerator[dict[str, Any], None]:
    while True:
        async with plane.store.reading() as db:
            found = await queries.events(db, run=asked.run, start=start, type=asked.type, limit=PAGE)
        for one in found.events:
            yield one
        if len(found.events) < PAGE:
            return
        start = found.events[-1]["seq"] + 1
