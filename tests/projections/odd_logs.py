"""Logs that deliver in odd ways: in small batches, twice, with a gap, or only up to a point."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing

from headway.core.log import Stored
from headway.core.memory import MemoryLog


class OddLog(MemoryLog):
    """The entries of another log, read in batches of `size`, each batch `times` times, leaving out `missing`."""

    def __init__(self, log: MemoryLog, *, size: int = 500, times: int = 1, missing: int = 0, end: int = 0) -> None:
        super().__init__(log._clock)
        self.entries = log.entries[:end] if end else log.entries
        self._size = size
        self._times = times
        self._missing = missing

    async def follow(self, *, start: int, subjects: tuple[str, ...] = ()) -> AsyncGenerator[list[Stored], None]:
        async with aclosing(super().follow(start=start, subjects=subjects)) as batches:
            async for batch in batches:
                for first in range(0, len(batch), self._size):
                    some = [one for one in batch[first : first + self._size] if one.seq != self._missing]
                    for _ in range(self._times):
                        if some:
                            yield some
