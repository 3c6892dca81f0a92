"""Whole streams out of the server and back, by its own snapshots: sequences, times and gaps stay as they are.

A snapshot is what the stream held at one moment, however much is appended while it is on its way. The server sends it
in chunks and waits for each window of them to be acknowledged, for five seconds at most; the last chunk, a shorter one,
wants no acknowledgement. An empty message ends it, and says 204 when it was whole. What the chunks hold is the server's
own affair (compressed, with checksums), but it reads them back on any server of its version or a later one.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

import msgspec

from headway.core.inflight import Message, status_of
from headway.core.log import Unknown
from headway.core.streams import StreamInfo, StreamState, answer_in, api, stream_info
from headway.core.wire import Wire

CHUNK_BYTES: Final = 128 * 1024
WINDOW_BYTES: Final = 4 * 1024 * 1024
SILENCE_SECONDS: Final = 20.0
START_SECONDS: Final = 10.0
FINISH_SECONDS: Final = 900.0
"""When all has arrived, the server unpacks it and reads it once before it answers."""

COMPLETE: Final = "204"


class _Begun(msgspec.Struct):
    """The server's answer to the request for a snapshot."""

    config: dict[str, Any]
    state: dict[str, Any]


class _Expected(msgspec.Struct):
    """The server's answer to the announcement of a snapshot."""

    deliver_subject: str


class Snapshot:
    """A stream on its way out: its settings and what it held when that began. Made by `taking`."""

    def __init__(self, wire: Wire, stream: str) -> None:
        self.stream = stream
        self.config: dict[str, Any] = {}
        self.state = StreamState()
        self._wire = wire
        self._arrived: asyncio.Queue[Message | None] = asyncio.Queue()
        self._lost = False

    async def chunks(self) -> AsyncGenerator[bytes, None]:
        """The snapshot, in order. A chunk is acknowledged when the next one is asked for: who is slow is waited for.

        Raises Unknown when it breaks off; then nothing of it is of use.
        """
        count = 0
        while True:
            message = await self._next(count)
            if not message.data:
                self._check_end(message, count)
                return
            if message.reply:
                count += 1
                if message.reply.rpartition(".")[2] != str(count):
                    raise Unknown(f"the snapshot of {self.stream} has a hole: chunk {count} is missing")
            yield message.data
            if message.reply:
                self._wire.send(message.reply, b"")

    async def _next(self, count: int) -> Message:
        try:
            message = await asyncio.wait_for(self._arrived.get(), SILENCE_SECONDS)
        except TimeoutError:
            raise Unknown(f"the snapshot of {self.stream} stopped after {count} chunks: no answer in time") from None
        if message is None or self._lost:
            raise Unknown(f"the snapshot of {self.stream} broke off: the connection was lost")
        return message

    def _check_end(self, message: Message, count: int) -> None:
        status = status_of(message)
        if status != COMPLETE and (status or count):  # of what fits in less than one chunk it says nothing
            words = (message.headers or {}).get("Description", "") or "it did not say that it was complete"
            raise Unknown(f"the server ended the snapshot of {self.stream}: {f'{status} {words}'.strip()}")

    async def _begin(self, inbox: str) -> None:
        request = {
            "deliver_subject": inbox,
            "no_consumers": True,  # a runner's is made when it registers, a reader's when it reads
            "chunk_size": CHUNK_BYTES,
            "window_size": WINDOW_BYTES,
        }
        subject = f"STREAM.SNAPSHOT.{self.stream}"
        begun = await api(self._wire, subject, request, _Begun, timeout_seconds=START_SECONDS)
        self.config = begun.config
        self.state = msgspec.convert(begun.state, StreamState)

    def _on_state(self, connected: bool) -> None:
        if not connected:  # when it is back, the server has forgotten what it was sending
            self._lost = True
            self._arrived.put_nowait(None)


@asynccontextmanager
async def taking(wire: Wire, stream: str) -> AsyncIterator[Snapshot]:
    """A snapshot of a stream as it is now. Raises StreamRefused, or Unknown when there is no answer."""
    snapshot = Snapshot(wire, stream)
    inbox = wire.new_inbox()
    stop_watching = wire.on_state(snapshot._on_state)
    subscription = await wire.subscribe(inbox, snapshot._arrived.put_nowait)
    try:
        await snapshot._begin(inbox)
        yield snapshot
    finally:
        stop_watching()
        await subscription.close()


async def put_back(wire: Wire, config: dict[str, Any], state: StreamState, chunks: AsyncIterable[bytes]) -> StreamInfo:
    """Make a stream from a snapshot's chunks, none of which is larger than the server's largest message.

    `config` may differ from the snapshot's in its limits. Raises StreamRefused, with the server's reason, and Unknown.
    """
    name = config["name"]
    request = {"config": config, "state": msgspec.to_builtins(state)}
    expected = await api(wire, f"STREAM.RESTORE.{name}", request, _Expected, timeout_seconds=START_SECONDS)
    async for chunk in chunks:
        if chunk:  # an empty one would say that this was all
            said = await wire.request(expected.deliver_subject, chunk, timeout_seconds=SILENCE_SECONDS)
            if said:
                answer_in(said, dict[str, Any])  # it gave up; else there is nothing to say yet
    said = await wire.request(expected.deliver_subject, b"", timeout_seconds=FINISH_SECONDS)
    answer_in(said, dict[str, Any])
    return await stream_info(wire, name)
