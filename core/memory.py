"""The log in memory: the same rules without a server, for tests and the simulator.

Nothing survives the process. `append_now` needs no event loop, so that a simulator can own time and order.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Final

from headway.core.clock import Clock
from headway.core.log import Conflict, Entry, Full, Stored, matches

BATCH: Final = 500


class MemoryLog:
    """An append-only log in a list. `bytes_max` of 0 means no limit."""

    def __init__(self, clock: Clock, *, bytes_max: int = 0) -> None:
        self.entries: list[Stored] = []
        self.bytes_max = bytes_max
        self.bytes = 0
        self._clock = clock
        self._ids: dict[str, int] = {}
        self._last: dict[str, Stored] = {}
        self._waiting: set[asyncio.Event] = set()
        self._refused: dict[int, str] = {}

    @property
    def last_logged(self) -> tuple[int, int]:
        """The sequence and the log's time of the last entry; zeros when there is none."""
        return (self.entries[-1].seq, self.entries[-1].logged) if self.entries else (0, 0)

    def append_now(self, entry: Entry) -> int:
        """Store an entry and return its sequence. Raises Conflict or Full, and stores nothing then."""
        place = entry.expect + 1
        known = self._ids.get(entry.id)
        if known is not None:
            if known == place:
                return known
            raise Conflict(f"{entry.id} is already at {known}, not at {place}")
        if entry.expect != len(self.entries):
            raise Conflict(f"the last entry is {len(self.entries)}, not {entry.expect}")
        size = len(entry.subject) + len(entry.id) + len(entry.body)
        if self.bytes_max and self.bytes + size > self.bytes_max:
            raise Full(f"the log holds {self.bytes} of {self.bytes_max} bytes")
        stored = Stored(seq=place, logged=self._now(), subject=entry.subject, id=entry.id, body=entry.body)
        self.bytes += size
        self.entries.append(stored)
        self._ids[entry.id] = place
        self._last[entry.subject] = stored
        for waiting in self._waiting:
            waiting.set()
        return place

    def append(self, entry: Entry) -> asyncio.Future[int]:
        """As the port says; the future is already done.

        Until its writer can have looked at it, a refused entry also refuses what was to follow it.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[int] = loop.create_future()
        try:
            if entry.expect in self._refused:
                raise Conflict(f"{self._refused[entry.expect]}, which was to come before, was refused")
            future.set_result(self.append_now(entry))
        except (Conflict, Full) as error:
            self._refused[entry.expect + 1] = entry.id
            loop.call_soon(self._refused.pop, entry.expect + 1, None)
            future.set_exception(error)
            future.exception()  # seen: a writer that drops what it speculated does not look at each
        return future

    async def last_seq(self) -> int:
        """The sequence of the last entry, 0 when there is none."""
        return len(self.entries)

    async def last(self, subject: str) -> Stored | None:
        """The last entry on exactly this subject."""
        return self._last.get(subject)

    def read(
        self, *, start: int = 1, end: int = 0, subjects: tuple[str, ...] = ()
    ) -> AsyncGenerator[list[Stored], None]:
        """Entries from `start` to `end`, in batches."""
        return self._read(max(start, 1), min(end or len(self.entries), len(self.entries)), subjects)

    async def _read(self, start: int, end: int, subjects: tuple[str, ...]) -> AsyncGenerator[list[Stored], None]:
        for first in range(start, end + 1, BATCH):
            found = self._between(first, min(first + BATCH - 1, end), subjects)
            if found:
                yield found

    async def follow(self, *, start: int, subjects: tuple[str, ...] = ()) -> AsyncGenerator[list[Stored], None]:
        """Entries from `start` on, as they come."""
        following = max(start, 1)
        grown = asyncio.Event()
        self._waiting.add(grown)
        try:
            while True:
                grown.clear()
                while following <= len(self.entries):
                    last = min(following + BATCH - 1, len(self.entries))
                    found = self._between(following, last, subjects)
                    following = last + 1
                    if found:
                        yield found
                await grown.wait()
        finally:
            self._waiting.discard(grown)

    def _between(self, first: int, last: int, subjects: tuple[str, ...]) -> list[Stored]:
        return [one for one in self.entries[first - 1 : last] if matches(one.subject, subjects)]

    def _now(self) -> int:
        """The log's time, which may repeat but not go back, as a server's would be corrected for."""
        return max(self._clock.wall_us(), self.entries[-1].logged if self.entries else 0)
