"""What jobs print, on a limited stream of its own, so that it can never stop the log.

Each message is one or more lines of output records. The oldest give way when the stream is full; what an attempt
printed ends as a blob, and the stream only serves those who watch, and attempts that were lost.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Final
from urllib.parse import unquote

import msgspec

from headway.core import pulls
from headway.core.inflight import Message
from headway.core.log import Full, Stored, Unknown
from headway.core.streams import FULL, MESSAGE_ID, OUTPUT_STREAM, PubAck, StreamRefused, answer_in, stream_info
from headway.core.wire import Wire

PUBLISH_SECONDS: Final = 5.0
_UNSAFE = re.compile(rb"[^A-Za-z0-9_-]")


class Chunk(msgspec.Struct, frozen=True, kw_only=True):
    """Some output records of one attempt, as published."""

    run: str
    job: str
    attempt: int
    seq: int
    body: bytes


def token(name: str) -> str:
    """A name as one token of a subject: what is not a letter, digit, - or _ is percent-encoded."""
    assert name, "a token is not empty"
    return _UNSAFE.sub(lambda found: b"%%%02X" % found[0][0], name.encode("utf-8", "surrogatepass")).decode()


def untoken(text: str) -> str:
    """The name behind a token."""
    return unquote(text, errors="surrogatepass")


def subject_of(run: str, job: str, attempt: int) -> str:
    """Where an attempt's output goes."""
    return f"headway.out.{run}.{token(job)}.{attempt}"


def publish_output(
    wire: Wire, subject: str, body: bytes, *, id: str, timeout_seconds: float = PUBLISH_SECONDS
) -> asyncio.Future[None]:
    """Send some output. The future raises Unknown, or Full; the same id may be sent again."""
    future: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def settle(answer: Message | Unknown) -> None:
        if future.done():
            return
        try:
            if isinstance(answer, Unknown):
                raise answer
            answer_in(answer.data, PubAck)
            future.set_result(None)
            return
        except StreamRefused as refusal:
            full = refusal.error.err_code in FULL
            future.set_exception(Full(str(refusal)) if full else Unknown(str(refusal)))
        except Unknown as error:
            future.set_exception(error)
        future.exception()  # seen: not everybody looks

    wire.exchange(subject, body, settle=settle, headers={MESSAGE_ID: id}, timeout_seconds=timeout_seconds)
    return future


class Outputs:
    """The output stream."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire

    def publish(self, run: str, job: str, attempt: int, body: bytes, *, id: str) -> asyncio.Future[None]:
        """Send some output of an attempt; see `publish_output`."""
        return publish_output(self._wire, subject_of(run, job, attempt), body, id=id)

    async def read(self, run: str, job: str, attempt: int) -> list[bytes]:
        """What the stream holds of an attempt now, in order. Raises Unknown when the server does not answer."""
        try:
            end = (await stream_info(self._wire, OUTPUT_STREAM)).state.last_seq
        except StreamRefused as refusal:
            raise Unknown(str(refusal)) from refusal
        found: list[bytes] = []
        filters = (subject_of(run, job, attempt),)
        async with aclosing(pulls.read(self._wire, OUTPUT_STREAM, start=1, end=end, subjects=filters)) as batches:
            async for batch in batches:
                found += [stored.body for stored in batch]
        return found

    async def follow(self, run: str, job: str = "", attempt: int = 0) -> AsyncGenerator[list[Chunk], None]:
        """What the stream holds of a run, a job or one attempt, and then what comes, until closed."""
        filters = (f"headway.out.{run}.{token(job) if job else '*'}.{attempt or '*'}",)
        following = pulls.follow(self._wire, OUTPUT_STREAM, start=1, subjects=filters, batch=200)
        async with aclosing(following) as batches:
            async for batch in batches:
                chunks = [chunk for chunk in map(_chunk_in, batch) if chunk is not None]
                if chunks:
                    yield chunks


def _chunk_in(stored: Stored) -> Chunk | None:
    """Runners may publish what they like below headway.out; what is not a chunk is nobody's."""
    part = stored.subject.split(".")
    if len(part) != 5 or not part[4].isascii() or not part[4].isdigit():
        return None
    try:
        job = untoken(part[3])
    except UnicodeDecodeError:
        return None
    return Chunk(run=part[2], job=job, attempt=int(part[4][:9]), seq=stored.seq, body=stored.body)
