"""Keeping the tables at the end of the log.

The follower reads batches as they come and writes each at once. What it has folded in memory is worth nothing until it
is written: after any trouble it forgets all of it and goes on from the position in the file. It survives a full disk
(tries again), a damaged file (sets it aside and folds again) and a log that is not the one the file was made from.
"""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Callable
from contextlib import aclosing
from typing import Final

from headway.core.envelope import Recorded
from headway.core.errors import BrokenError, HeadwayError, UnavailableError
from headway.core.log import Log, Unknown
from headway.projections.apply import Fold, fold_batch
from headway.projections.place import DamagedError, StoreError
from headway.projections.rebuild import Scratch, Told
from headway.projections.store import Store

PAUSE_SECONDS: Final = 0.2
PAUSE_SECONDS_MAX: Final = 5.0

Listener = Callable[[list[Recorded]], None]
Ended = Callable[[HeadwayError], None]


class Follower:
    """Follows a log into a store. `trouble` says in words why it does not get on, "" while it does."""

    def __init__(self, log: Log, store: Store) -> None:
        self.trouble = ""
        self._log = log
        self._store = store
        self._fold = Fold()
        self._turn = asyncio.Lock()
        self._rebuilding = asyncio.Lock()
        self._rebuilt = asyncio.Event()
        self._listeners: list[tuple[Listener, Ended]] = []
        self._waiting: list[tuple[int, int, asyncio.Future[None]]] = []
        self._waited = 0
        self._checked = False
        self._damage = ""
        self._ended: HeadwayError | None = None

    @property
    def position(self) -> int:
        """The last event that is in the tables."""
        return self._store.position

    def listen(self, listener: Listener, *, ended: Ended = lambda error: None) -> Callable[[], None]:
        """Call `listener` with the events of each batch once they are in the tables; returns what ends that.

        It is called from the event loop, in order, and must not block. `ended` is called when no more will come.
        """
        told = (listener, ended)
        self._listeners.append(told)
        if self._ended is not None:
            ended(self._ended)
        return lambda: self._listeners.remove(told) if told in self._listeners else None

    async def wait_for(self, seq: int, *, timeout_seconds: float = 5.0) -> None:
        """Wait until the tables have what `seq` says, to read one's own writes. Raises UnavailableError."""
        if self._ended is not None:
            raise self._ended
        if self._checked and self.position >= seq:
            return
        reached: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waited += 1
        heapq.heappush(self._waiting, (seq, self._waited, reached))
        try:
            async with asyncio.timeout(timeout_seconds):
                await reached
        except TimeoutError:
            raise UnavailableError(
                f"the tables are at event {self.position} and have not reached {seq}"
                + (f": {self.trouble}" if self.trouble else ""),
                next="try again in a moment; 'headway doctor' says what is wrong",
            ) from None

    async def run(self) -> None:
        """Follow until cancelled. Raises BrokenError for a log that cannot be, UnavailableError for a newer one's."""
        pause = PAUSE_SECONDS
        self._ended = None
        try:
            while True:
                start = self.position
                try:
                    await self._follow()
                except (StoreError, Unknown) as error:
                    self.trouble = str(error)
                    if isinstance(error, DamagedError):
                        self._damage = str(error)
                    pause = PAUSE_SECONDS if self.position > start else min(2 * pause, PAUSE_SECONDS_MAX)
                    await asyncio.sleep(pause)
        except HeadwayError as error:
            self._end(error)
            raise
        except Exception as error:
            broken = BrokenError(f"following the log broke: {error!r}", next="'headway verify --all' looks at the log")
            self._end(broken)
            raise broken from error

    async def rebuild(self, told: Told | None = None) -> None:
        """Fold the whole log into a new file and put it in the old one's place, while following goes on.

        Where following has ended, `rebuilt` lets it be begun again.
        """
        async with self._rebuilding:
            scratch = await Scratch.begin(self._log, self._store.path)
            scratch.told = told or scratch.told
            try:
                await scratch.fold(until=self.position)
                async with self._turn:
                    await scratch.fold(until=self.position)
                    await scratch.finish()
                    await self._store.replace_with(scratch.path)
                    self._forget()
            finally:
                await scratch.close()
        self._ended = None
        self._rebuilt.set()

    async def rebuilt(self) -> None:
        """Wait until the tables have been made anew."""
        self._rebuilt.clear()
        await self._rebuilt.wait()

    async def _follow(self) -> None:
        if self._damage:
            await self._store.start_over(self._damage)
            self._damage = ""
        await self._store.refresh()
        self._forget()
        await self._check_log()
        self._checked = True
        if await self._log.last_seq() <= self.position:
            self.trouble = ""
        self._wake()
        async with aclosing(self._log.follow(start=self.position + 1)) as batches:
            async for batch in batches:
                if self._store.damaged:
                    raise DamagedError(f"{self._store.path} is damaged", next="it is folded again from the log")
                async with self._turn:
                    news = await fold_batch(self._fold, self._store, batch)
                self.trouble = ""
                self._wake()
                if news:
                    self._tell(news)

    async def _check_log(self) -> None:
        """The last event in the tables must be on this log; else they tell of another."""
        if not self.position:
            return
        [(body,)] = await self._store.fetch("select body from events where seq = ?", (self.position,)) or [(b"",)]
        found = [one async for batch in self._log.read(start=self.position, end=self.position) for one in batch]
        if [one.body for one in found] == [body]:
            return
        await self._store.start_over(f"the log is not the one that {self._store.path.name} was made from")
        self._forget()

    def _forget(self) -> None:
        self._fold = Fold(position=self._store.position, time=self._store.time)

    def _end(self, error: HeadwayError) -> None:
        self._ended = error
        self.trouble = str(error)
        for _, _, reached in self._waiting:
            if not reached.done():
                reached.set_exception(error)
        self._waiting.clear()
        for _, ended in list(self._listeners):
            ended(error)

    def _wake(self) -> None:
        """Let go on who has waited for what is now in the tables."""
        while self._waiting and self._waiting[0][0] <= self.position:
            reached = heapq.heappop(self._waiting)[2]
            if not reached.done():
                reached.set_result(None)

    def _tell(self, news: list[Recorded]) -> None:
        loop = asyncio.get_running_loop()
        for listener, _ in self._listeners:
            loop.call_soon(listener, news)
