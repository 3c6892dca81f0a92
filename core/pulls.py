"""Reading a stream by pulling: bounded, safe to cancel, in order, and over every restart of the server.

The library's own readers lose messages when they are cancelled or overflow, and are slow to notice a restart. Here
the server sends only what was asked for, a callback puts it into a list, and more is asked for when half of it came.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator
from typing import Final

from headway.core.errors import UnavailableError
from headway.core.inflight import Message, status_of
from headway.core.log import Stored, Unknown
from headway.core.streams import (
    MESSAGE_ID,
    NOT_FOUND,
    SECOND,
    StreamRefused,
    ensure_consumer,
    place_of,
    reader_config,
)
from headway.core.wire import Subscription, Wire

BATCH: Final = 1000
EXPIRES_SECONDS: Final = 5
SILENCE_SECONDS: Final = 8
"""The server ends every pull after five seconds; when it does not, the pull or the consumer is gone."""

PAUSE_SECONDS: Final = 0.1
PAUSE_SECONDS_MAX: Final = 1.0
STALL_SECONDS: Final = 20
"""A reader that must come to an end gives up when the server is away for so long."""

logger = logging.getLogger("headway.wire")


class Broken(Exception):
    """Nothing more will come from these pulls; what came before is whole."""


class Pulls:
    """Pulls on one consumer. Holds at most two batches; `next` hands over what has come."""

    def __init__(self, wire: Wire, stream: str, consumer: str, *, batch: int = BATCH) -> None:
        self.broken = ""
        self._wire = wire
        self._next = f"$JS.API.CONSUMER.MSG.NEXT.{stream}.{consumer}"
        self._batch = batch
        self._request = b'{"batch":%d,"expires":%d}' % (batch, EXPIRES_SECONDS * SECOND)
        self._inbox = wire.new_inbox()
        self._held: list[Message] = []
        self._open = 0
        self._changed = asyncio.Event()
        self._subscription: Subscription | None = None
        self._stop_watching = wire.on_state(self._on_state)

    async def next(self) -> list[Message]:
        """What has come, at least one message. Raises Broken when that is over."""
        if self._subscription is None:
            self._subscription = await self._wire.subscribe(self._inbox, self._receive)
        while True:
            if not self.broken and self._open <= self._batch // 2 and len(self._held) < self._batch:
                self._pull()
            if self._held:
                held, self._held = self._held, []
                return held
            if self.broken:
                raise Broken(self.broken)
            self._changed.clear()
            try:
                await asyncio.wait_for(self._changed.wait(), SILENCE_SECONDS)
            except TimeoutError:
                self._break("the server is silent")

    async def close(self) -> None:
        """Stop; what was held is dropped."""
        self._stop_watching()
        self._break("closed")
        if self._subscription is not None:
            await self._subscription.close()

    def _pull(self) -> None:
        if not self._wire.connected:
            self._break("there is no connection")
            return
        self._open += self._batch
        self._wire.send(self._next, self._request, reply=self._inbox)

    def _receive(self, message: Message) -> None:
        status = status_of(message) if message.headers else ""
        if not status:
            self._held.append(message)
            self._open -= 1
        elif status in ("404", "408") or (status == "409" and "batch" in _words(message)):
            left = (message.headers or {}).get("Nats-Pending-Messages", "")
            self._open = max(0, self._open - int(left)) if left.isdigit() else 0
        elif status != "100":
            self._break(f"{status} {_words(message)}".strip())
        self._changed.set()

    def _on_state(self, connected: bool) -> None:
        self._break("the connection was lost")

    def _break(self, why: str) -> None:
        self.broken = self.broken or why
        self._changed.set()


def _words(message: Message) -> str:
    return (message.headers or {}).get("Description", "").lower()


class Reader:
    """Entries of a stream in order, each once. `waiting` is how many more there were when the last came."""

    def __init__(
        self, wire: Wire, stream: str, *, start: int, subjects: tuple[str, ...] = (), batch: int = BATCH
    ) -> None:
        self.position = max(start, 1) - 1
        self.waiting = 0
        self._wire = wire
        self._stream = stream
        self._subjects = subjects
        self._batch = batch
        self._consumer = ""
        self._delivered = 0
        self._pulls: Pulls | None = None

    async def next(self, *, to_end: bool = False) -> list[Stored]:
        """The entries that came since the last call, at least one; with `to_end` none when there are no more.

        A lost connection, a lost consumer or a gap is answered by a new consumer behind the last entry handed over.
        """
        while True:
            pulls = self._pulls or await self._open()
            if to_end and not self.waiting:
                return []
            try:
                found = self._in_order(await pulls.next())
            except Broken as why:
                logger.info("reading %s begins anew after %d: %s", self._stream, self.position, why)
                await self.close()
                continue
            if found:
                return found

    async def close(self) -> None:
        """Stop reading and have the server forget it. Reading may go on later."""
        pulls, self._pulls = self._pulls, None
        if pulls is None:
            return
        if self._wire.connected:
            subject = f"$JS.API.CONSUMER.DELETE.{self._stream}.{self._consumer}"
            self._wire.exchange(subject, b"", settle=_nothing)
        await pulls.close()

    def _in_order(self, messages: list[Message]) -> list[Stored]:
        assert self._pulls is not None, "messages come from open pulls"
        found: list[Stored] = []
        for message in messages:
            seq, delivered, logged, self.waiting = place_of(message.reply)
            if delivered != self._delivered + 1:
                self._pulls.broken = self._pulls.broken or f"the delivery {self._delivered + 1} is missing"
                break
            self._delivered = delivered
            name = message.headers.get(MESSAGE_ID, "") if message.headers else ""
            found.append(Stored(seq=seq, logged=logged, subject=message.subject, id=name, body=message.data))
        if found:
            self.position = found[-1].seq
        return found

    async def _open(self) -> Pulls:
        pause = PAUSE_SECONDS
        while True:
            await self._wire.wait_connected()
            config = reader_config(start=self.position + 1, subjects=self._subjects)
            try:
                info = await ensure_consumer(self._wire, self._stream, config)
            except StreamRefused as refusal:
                if refusal.error.err_code in NOT_FOUND and not self._consumer:
                    raise UnavailableError(
                        f"the server has no stream {self._stream}", next="start the service, which makes it"
                    ) from refusal
                logger.warning("%s cannot be read now: %s", self._stream, refusal)
            except Unknown as error:
                logger.info("%s cannot be read now: %s", self._stream, error)
            else:
                self._consumer, self._delivered, self.waiting = info.name, 0, info.num_pending
                self._pulls = Pulls(self._wire, self._stream, info.name, batch=self._batch)
                return self._pulls
            await asyncio.sleep(pause)
            pause = min(pause * 2, PAUSE_SECONDS_MAX)


async def follow(
    wire: Wire, stream: str, *, start: int, subjects: tuple[str, ...] = (), batch: int = BATCH
) -> AsyncGenerator[list[Stored], None]:
    """Entries from `start` on, in order, each once, in batches, until closed."""
    reader = Reader(wire, stream, start=start, subjects=subjects, batch=batch)
    try:
        while True:
            yield await reader.next()
    finally:
        await reader.close()


async def read(
    wire: Wire, stream: str, *, start: int, end: int, subjects: tuple[str, ...] = ()
) -> AsyncGenerator[list[Stored], None]:
    """Entries from `start` to `end`, or to the last one, in batches. Raises Unknown when the server stays away."""
    reader = Reader(wire, stream, start=start, subjects=subjects)
    try:
        while reader.position < end:
            try:
                async with asyncio.timeout(STALL_SECONDS):
                    found = await reader.next(to_end=True)
            except TimeoutError:
                raise Unknown(f"reading {stream} stopped after {reader.position}: no answer in time") from None
            if found and found[-1].seq > end:
                found = [one for one in found if one.seq <= end]
            if not found:
                return
            yield found
    finally:
        await reader.close()


def _nothing(answer: Message | Unknown) -> None:
    """Nobody waits for this answer: the server forgets an unused reader by itself."""
