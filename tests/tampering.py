"""A log as an attacker or a bad disk leaves it: events changed, left out, doubled, swapped, put in."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec

from headway.cli.control import Request
from headway.cli.questions.verify import projections_verify, verify
from headway.cli.view import View
from headway.core.blobs import Blobs
from headway.core.clock import ManualClock
from headway.core.envelope import Envelope, decode, digest, encode
from headway.core.errors import UnavailableError
from headway.core.log import Log, Stored, matches
from headway.core.memory import MemoryLog
from headway.projections.reader import Connection, open_reader
from headway.projections.rebuild import rebuild
from headway.projections.records import Live

Entries = list[Stored]
Tamper = Callable[[Entries], Entries]


class ListLog(MemoryLog):
    """Entries as they are, with whatever gaps they have."""

    def __init__(self, entries: Entries) -> None:
        super().__init__(ManualClock())
        self.entries = entries

    async def last_seq(self) -> int:
        return self.entries[-1].seq if self.entries else 0

    async def _read(self, start: int, end: int, subjects: tuple[str, ...]) -> AsyncGenerator[Entries, None]:
        last = end or await self.last_seq()
        found = [one for one in self.entries if start <= one.seq <= last and matches(one.subject, subjects)]
        for first in range(0, len(found), 7):
            yield found[first : first + 7]

    def read(self, *, start: int = 1, end: int = 0, subjects: tuple[str, ...] = ()) -> AsyncGenerator[Entries, None]:
        return self._read(start, end, subjects)


class QuietView:
    """A place to look without a service: these tables, these blobs, this log. `trouble` keeps the tables behind it."""

    def __init__(self, path: Path, blobs: Blobs, log: Log | None, *, trouble: str = "") -> None:
        self.trouble = trouble
        self.blobs = blobs
        self.path = path
        self.log = log
        self.past_seats = asyncio.Semaphore(1)
        self._clock = ManualClock()

    def now_us(self) -> int:
        return self._clock.wall_us()

    @asynccontextmanager
    async def present(self, *, patient: bool = True) -> AsyncGenerator[Connection, None]:
        if self.trouble and patient:
            raise UnavailableError(self.trouble)
        connection = await open_reader(self.path)
        try:
            yield connection
        finally:
            await connection.close()

    async def caught_up(self, *, seconds: float) -> bool:
        return not self.trouble

    def live(self) -> Live | None:
        return None

    async def output(self, run: str, job: str, attempt: int) -> list[bytes]:
        return []

    async def project(self, folder: str) -> str:
        return "shop"


class Place:
    """Tables and blobs in a folder, made of a log that may have been changed since."""

    def __init__(self, folder: Path, entries: Entries) -> None:
        self.path = folder / "headway.db"
        self.blobs = Blobs(folder / "blobs")
        self.entries = entries
        self.runs = list(dict.fromkeys(run for one in entries if (run := decode(one.body).run)))

    def view(self, entries: Entries | None = None, *, log: bool = True) -> QuietView:
        """A place to look, with this log or that one."""
        return QuietView(self.path, self.blobs, ListLog(entries or self.entries) if log else None)

    def sql(self, script: str) -> None:
        """Change the tables behind everybody's back."""
        connection = sqlite3.connect(self.path)
        connection.executescript(script)
        connection.close()

    async def found(
        self, entries: Entries | None = None, *, log: bool = True, run: str = "", trouble: str = ""
    ) -> dict[str, Any]:
        """What is found there; blobs have tests of their own."""
        view = self.view(entries, log=log)
        view.trouble = trouble
        found = await report(view, run=run)
        found["findings"] = [one for one in found["findings"] if one["code"] != "blob"]
        found["ok"] = not found["incomplete"] and not any(one["level"] == "error" for one in found["findings"])
        return found


async def place_of(entries: Entries, folder: Path) -> Place:
    """The tables that this log makes, and the log."""
    place = Place(folder, entries)
    await rebuild(ListLog(entries), place.path)
    return place


async def report(view: QuietView, *, run: str = "", tables_only: bool = False) -> dict[str, Any]:
    """What verifying one run, or everything, finds."""
    return await asked(view, tables_only=tables_only, **({"run": run} if run else {"all": True}))


async def asked(view: QuietView, *, tables_only: bool = False, **arguments: Any) -> dict[str, Any]:
    """What the question answers to these arguments."""
    request = Request(op="verify", arguments=arguments, actor="user:ada", progress=lambda text: None)
    question = projections_verify if tables_only else verify
    place: View = view  # it is all that questions ask for, as the type checker sees here
    [found] = [one async for one in question(place, request)]
    return found


def words_of(found: dict[str, Any]) -> str:
    """All that a report finds wrong, a line each."""
    return "\n".join(one["words"] for one in found["findings"])


def renamed(stored: Stored, body: bytes) -> Stored:
    """The entry with other bytes, and with the name that goes with them."""
    return msgspec.structs.replace(stored, body=body, id=digest(body)[7:39])


def with_names(entries: Entries) -> Entries:
    """The same events, named by their bytes as the coordinator names them."""
    return [renamed(one, one.body) for one in entries]


def other(stored: Stored, **fields: Any) -> bytes:
    """The bytes of the event with other fields in its envelope; `data` holds fields of the event itself."""
    envelope = decode(stored.body)
    data = msgspec.structs.replace(envelope.data, **fields.pop("data", {}))
    changed: Envelope = msgspec.structs.replace(envelope, data=data, **fields)
    return encode(changed)


def changed(seq: int, *, named: bool = False, **fields: Any) -> Tamper:
    """Change one event; with `named` its name is made to fit."""

    def tamper(entries: Entries) -> Entries:
        at = seq - 1
        body = other(entries[at], **fields)
        one = renamed(entries[at], body) if named else msgspec.structs.replace(entries[at], body=body)
        return [*entries[:at], one, *entries[at + 1 :]]

    return tamper


def left_out(seq: int, *, gap: bool) -> Tamper:
    """Leave one event out, so that its place is empty, or so that those after it close up."""

    def tamper(entries: Entries) -> Entries:
        kept = [one for one in entries if one.seq != seq]
        return kept if gap else numbered(kept)

    return tamper


def numbered(entries: Entries) -> Entries:
    """These entries one after the other, at the times that were logged at those places."""
    return [msgspec.structs.replace(one, seq=at) for at, one in enumerate(entries, 1)]


def swapped(seq: int) -> Tamper:
    """Let two neighbours change places."""

    def tamper(entries: Entries) -> Entries:
        at = seq - 1
        return numbered([*entries[:at], entries[at + 1], entries[at], *entries[at + 2 :]])

    return tamper


def put_in(seq: int, body: bytes, subject: str) -> Tamper:
    """Put an entry before an event."""

    def tamper(entries: Entries) -> Entries:
        at = seq - 1
        one = renamed(msgspec.structs.replace(entries[at], subject=subject), body)
        return numbered([*entries[:at], one, *entries[at:]])

    return tamper
