"""A log as an attacker or a bad disk leaves it: events changed, left out, doubled, swapped, put in."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec

from headway.cli.control import Request
from headway.cli.questions.verify import projections_verify, verify
from headway.core.blobs import Blobs
from headway.core.clock import Clock, ManualClock
from headway.core.envelope import Envelope, decode, digest, encode
from headway.core.errors import UnavailableError
from headway.core.log import Log, Stored, matches
from headway.core.memory import MemoryLog
from headway.projections.records import Live
from headway.projections.store import Connection, open_reader

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
        self.clock: Clock = ManualClock()
        self.blobs = blobs
        self.path = path
        self.log = log

    @asynccontextmanager
    async def _present(self) -> AsyncGenerator[Connection, None]:
        if self.trouble:
            raise UnavailableError(self.trouble)
        connection = await open_reader(self.path)
        try:
            yield connection
        finally:
            await connection.close()

    def present(self) -> AbstractAsyncContextManager[Connection]:
        return self._present()

    def live(self) -> Live | None:
        return None

    async def output(self, run: str, job: str, attempt: int) -> list[bytes]:
        return []

    async def project(self, folder: str) -> str:
        return "shop"


async def report(view: QuietView, *, run: str = "", tables_only: bool = False) -> dict[str, Any]:
    """What verifying one run, or everything, finds."""
    return await asked(view, tables_only=tables_only, **({"run": run} if run else {"all": True}))


async def asked(view: QuietView, *, tables_only: bool = False, **arguments: Any) -> dict[str, Any]:
    """What the question answers to these arguments."""
    request = Request(op="verify", arguments=arguments, actor="user:ada", progress=lambda text: None)
    question = projections_verify if tables_only else verify
    [found] = [one async for one in question(view, request)]
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
