"""Going through events in order: their chain, and the blobs that they name. The work is done in threads."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Final

from headway.cli.progress import Throttle
from headway.cli.text import count
from headway.core.blob_check import BlobCheck
from headway.core.blobs import Blobs
from headway.core.chain import Chain, Read, named, read_entry
from headway.core.errors import HeadwayError
from headway.core.findings import ERROR, WARNING, Finding
from headway.core.log import Stored
from headway.projections.reader import Connection
from headway.projections.verifying import copies_of, ends, still

SET_ASIDE: Final = ".set-aside"
ASIDE_AT_ONCE: Final = 1000
UNFOLDABLE: Final = frozenset({"missing", "unreadable"})
ANOTHER_LOG: Final = "if the log was replaced on purpose, by a backup or by that of another server, delete that file"


class Walk:
    """Takes batches of entries. Without `blobs` none is looked at; without `chain` only what can be read counts."""

    def __init__(self, blobs: Blobs | None, say: Throttle, *, on_log: bool, run: str = "", chain: bool = True) -> None:
        self._chain = Chain(on_log=on_log, run=run)
        self._check_chain = chain
        self._blobs = BlobCheck(blobs) if blobs is not None else None
        self._say = say
        self._stopped = False
        self._aside: Connection | None = None
        self._aside_name = ""
        self._aside_at = 0
        self._aside_end = 0
        self._aside_differs: Read | None = None

    def stop(self) -> None:
        """Nobody waits for this any more."""
        self._stopped = True

    async def open_aside(self, path: Path, stack: AsyncExitStack) -> None:
        """Tables that were set aside, because they told of another log, still know what that one was."""
        aside = path.with_name(path.name + SET_ASIDE)
        if not aside.is_file():
            return
        try:
            db = await stack.enter_async_context(still(aside))
            self._aside_end = (await ends(db))[1]
        except (HeadwayError, sqlite3.Error):
            return  # set aside because it could not be read, or has other tables
        self._aside, self._aside_name = db, aside.name

    async def take(self, batch: list[Stored]) -> tuple[list[Read], list[Finding]]:
        """The entries with their events, and what is wrong with them."""
        entries, found = await asyncio.to_thread(self._look, batch)
        if self._aside is not None and entries:
            await self._compare_aside(self._aside, entries, entries[-1].stored.seq)
        return entries, found

    async def finish(self, end: int) -> list[Finding]:
        """What is wrong at the end, which is the event `end`."""
        found = self._kept(self._chain.finish(end))
        if self._aside is not None and self._aside_end > self._aside_at:
            await self._compare_aside(self._aside, [], self._aside_end)
        differs = self._aside_differs
        if differs is not None and differs.envelope is not None:
            what = named(differs.envelope, differs.stored.seq)
            one = Finding(
                code="rewritten",
                words=f"{what} was on the log once, and is not now: {self._aside_name} has it",
                next=ANOTHER_LOG,
                level=WARNING if differs.stored.seq == 1 else ERROR,
                run=differs.envelope.run,
                seq=differs.stored.seq,
                n=differs.envelope.n,
            )
            found.append(one)
        return found

    def checked(self) -> dict[str, int]:
        """How much was looked at."""
        found = {"runs": self._chain.run_count, "events": self._chain.events}
        if self._blobs is not None:
            found |= {"blobs": self._blobs.blobs, "bytes": self._blobs.bytes}
        return found

    def _look(self, batch: list[Stored]) -> tuple[list[Read], list[Finding]]:
        entries = [read_entry(one) for one in batch]
        found = self._kept(self._chain.take(entries))
        for one in entries:
            if self._stopped:
                break
            if self._blobs is not None and one.envelope is not None:
                found += self._blobs.take(one.envelope, one.stored.seq)
                self._say(f"{count(self._chain.position, 'event')}, {count(self._blobs.blobs, 'blob')} so far")
        if self._blobs is None:
            self._say(f"{count(self._chain.position, 'event')} so far")
        return entries, found

    def _kept(self, found: list[Finding]) -> list[Finding]:
        """Of the chain's findings those that are wanted: what the tables cannot be made of is always said."""
        return found if self._check_chain else [one for one in found if one.code in UNFOLDABLE]

    async def _compare_aside(self, db: Connection, entries: list[Read], last: int) -> None:
        """Find the first event that was another one once, of those behind the last that was looked at."""
        if self._aside_differs is not None:
            return
        first, self._aside_at = self._aside_at + 1, last
        try:
            copies = await copies_of(db, first, min(last, first + ASIDE_AT_ONCE))
        except sqlite3.Error:
            self._aside = None
            return
        bodies = {one.stored.seq: one.stored.body for one in entries}
        for copy in copies:
            if bodies.get(copy.stored.seq) != copy.stored.body:
                self._aside_differs = copy
                return
