"""The log as a port: what every log must do, whatever keeps it.

A log is one ordered sequence of entries, each on a subject. It is written with an expectation (the sequence of the
last entry the writer has folded), so a writer that has not seen everything cannot write. Sequences start at 1 and
have no gaps. `tests/core/log_contract.py` is this page as a test, run on every implementation.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Protocol

import msgspec


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be appended. `expect` is the sequence of the entry before it, 0 on an empty log."""

    subject: str
    id: str
    body: bytes
    expect: int


class Stored(msgspec.Struct, frozen=True, kw_only=True):
    """An entry as the log keeps it; `logged` is the log's clock in microseconds since 1970 UTC."""

    seq: int
    logged: int
    subject: str
    id: str
    body: bytes


class Conflict(Exception):
    """Another entry is where this one should go: read to the end, fold, decide again."""


class Unknown(Exception):
    """No answer in time: the entry may or may not be there. Read to the end to know."""


class Full(Exception):
    """The log has reached its size limit, or its disk is full; nothing was stored."""


class Log(Protocol):
    """An append-only log. Subjects are dotted; filters may use `*` for one token and a last `>` for the rest."""

    def append(self, entry: Entry) -> asyncio.Future[int]:
        """Send an entry now and return its sequence when it is durable.

        Calls are sent in order, and many may be in flight, each expecting the one before. The future raises
        Conflict, Unknown or Full. An entry whose id is already stored at the expected place gives that sequence.
        """
        ...

    async def last_seq(self) -> int:
        """The sequence of the last durable entry, 0 when there is none; asks the log's leader."""
        ...

    async def last(self, subject: str) -> Stored | None:
        """The last durable entry on exactly this subject; asks the log's leader."""
        ...

    def read(
        self, *, start: int = 1, end: int = 0, subjects: tuple[str, ...] = ()
    ) -> AsyncGenerator[list[Stored], None]:
        """Entries from `start` to `end` (0: to the last one when the call was made), in order, in batches."""
        ...

    def follow(self, *, start: int, subjects: tuple[str, ...] = ()) -> AsyncGenerator[list[Stored], None]:
        """Entries from `start` on, in order, each once, in batches, as they come; ends only by being closed.

        Survives a restart of the server. A slow reader holds back its own reading only. Batches are not empty.
        """
        ...


def matches(subject: str, filters: tuple[str, ...]) -> bool:
    """Whether a subject is covered by one of the filters; no filters cover everything."""
    return not filters or any(_covers(one.split("."), subject.split(".")) for one in filters)


def _covers(pattern: list[str], tokens: list[str]) -> bool:
    for at, word in enumerate(pattern):
        if word == ">":
            return len(tokens) > at
        if at >= len(tokens) or word not in ("*", tokens[at]):
            return False
    return len(pattern) == len(tokens)
