"""The log on NATS JetStream.

Appends are pipelined: each goes out at once with the sequence it expects before it, and its future is resolved by
the answer, without a task of its own. A sequence alone is not enough while the entry before is still under way: if
another writer takes that place, the sequence is right and the entry is not. So the id of that entry is expected too.
A replicated stream gets stuck over that header (nats-server 2.15), so there each waits for the one before instead.

An answer that says "wrong last sequence" may mean that an earlier try of the same entry got through, so the entry at
that place is looked at before it is called a conflict.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any, Final

import msgspec

from headway.core import pulls
from headway.core.errors import UnavailableError
from headway.core.inflight import Message
from headway.core.log import Conflict, Entry, Full, Stored, Unknown
from headway.core.room import Room, limit_under, reserve_of
from headway.core.streams import (
    EXPECTED_LAST,
    EXPECTED_LAST_ID,
    FULL,
    MESSAGE_ID,
    OUTPUT_STREAM,
    SECOND,
    STREAM,
    ApiError,
    PubAck,
    StreamInfo,
    StreamRefused,
    ensure_stream,
    entry_in,
    get_entry,
    stream_info,
)
from headway.core.wire import Wire

APPEND_SECONDS: Final = 5.0
WRONG_LAST: Final = frozenset({10070, 10071, 10164})
WRONG_LAST_SEQUENCE: Final = 10071

_read_ack = msgspec.json.Decoder(PubAck).decode


class JetStreamLog:
    """The stream HEADWAY as a log."""

    def __init__(self, wire: Wire, *, append_timeout_seconds: float = APPEND_SECONDS) -> None:
        self._wire = wire
        self._append_timeout_seconds = append_timeout_seconds
        self._last_logged = (0, 0)
        self._under_way: dict[int, str] = {}
        self._failed: set[int] = set()
        self._alone = False
        self._bytes_max = 0
        self._held: dict[int, list[tuple[Entry, asyncio.Future[int]]]] = {}

    async def prepare(self, *, max_bytes: int, output_max_bytes: int) -> None:
        """Create the streams, or bring them to these sizes. Raises UnavailableError when the server cannot.

        `max_bytes` is the limit that people know. The server stops only above it, by the reserve in which admitted
        runs end; what it once allowed it allows for ever, because runs were admitted on the strength of it.
        """
        self._bytes_max = max_bytes
        hard = max_bytes + reserve_of(max_bytes)
        log = _stream(STREAM, ["headway.run.>", "headway.fleet", "headway.ctl"], hard)
        log |= {"discard": "new", "deny_delete": True}
        output = _stream(OUTPUT_STREAM, ["headway.out.>"], output_max_bytes)
        output |= {"discard": "old", "compression": "s2"}
        for one, raised in ((log, ("max_bytes",)), (output, ())):
            await ensure_stream(self._wire, one, fixed=("storage", "retention"), raised=raised)
        try:
            await self._info()
        except Unknown as error:
            raise UnavailableError(f"the log cannot be used: {error}", next="see the server's own log") from error

    def append(self, entry: Entry) -> asyncio.Future[int]:
        """As the port says."""
        future: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        before = self._under_way.get(entry.expect)
        if entry.expect in self._failed:
            self._fail(entry, future, Conflict("not sent, for the entry before it failed"))
            return future
        self._under_way[entry.expect + 1] = entry.id
        if before is not None and not self._alone:
            self._held.setdefault(entry.expect, []).append((entry, future))
        else:
            self._send(entry, future, before)
        return future

    async def last_seq(self) -> int:
        """The sequence of the last entry, from the leader. Raises Unknown when it does not answer."""
        return (await self._info()).state.last_seq

    async def last(self, subject: str) -> Stored | None:
        """The last entry on a subject, from the leader. Raises Unknown when it does not answer."""
        found = await get_entry(self._wire, STREAM, {"last_by_subj": subject})
        if found is not None:
            self._seen(found)
        return found

    async def room(self) -> Room:
        """How full the log is. Raises Unknown when the server does not say."""
        info = await self._info()
        hard = max(0, int(info.config.get("max_bytes", 0)))
        return Room(
            bytes=info.state.bytes,
            events=info.state.messages,
            bytes_max=min(self._bytes_max, hard) or limit_under(hard),
            bytes_hard=hard,
        )

    @property
    def last_logged(self) -> tuple[int, int]:
        """The highest sequence read so far and its time on the log's clock; zeros when nothing was read."""
        return self._last_logged

    async def read(
        self, *, start: int = 1, end: int = 0, subjects: tuple[str, ...] = ()
    ) -> AsyncGenerator[list[Stored], None]:
        """As the port says. Raises Unknown when the server stays away."""
        last = await self.last_seq()
        async with aclosing(
            pulls.read(self._wire, STREAM, start=start, end=min(end or last, last), subjects=subjects)
        ) as batches:
            async for found in batches:
                self._seen(found[-1])
                yield found

    async def follow(self, *, start: int, subjects: tuple[str, ...] = ()) -> AsyncGenerator[list[Stored], None]:
        """As the port says."""
        async with aclosing(pulls.follow(self._wire, STREAM, start=start, subjects=subjects)) as batches:
            async for found in batches:
                self._seen(found[-1])
                yield found

    def _seen(self, entry: Stored) -> None:
        if entry.seq > self._last_logged[0]:
            self._last_logged = (entry.seq, entry.logged)

    async def _info(self) -> StreamInfo:
        try:
            info = await stream_info(self._wire, STREAM)
        except StreamRefused as refusal:
            raise Unknown(str(refusal)) from refusal
        self._alone = info.config.get("num_replicas") == 1
        return info

    def _send(self, entry: Entry, future: asyncio.Future[int], before: str | None) -> None:
        headers = {MESSAGE_ID: entry.id, EXPECTED_LAST: str(entry.expect)}
        if before is not None:
            headers[EXPECTED_LAST_ID] = before
        self._wire.exchange(
            entry.subject,
            entry.body,
            settle=lambda answer: self._settle(entry, future, answer),
            headers=headers,
            timeout_seconds=self._append_timeout_seconds,
        )

    def _settle(self, entry: Entry, future: asyncio.Future[int], answer: Message | Unknown) -> None:
        """Resolve an append by the server's answer."""
        place = entry.expect + 1
        ack = _ack_in(answer)
        if isinstance(ack, Unknown):
            self._fail(entry, future, ack)
        elif ack.error is None and ack.seq == place:
            self._succeed(entry, future)
        elif ack.error is None:
            self._fail(entry, future, Conflict(f"{entry.id} is already at {ack.seq}, not at {place}"))
        elif ack.error.err_code in WRONG_LAST:
            self._look(entry, future, ack.error)
        elif ack.error.err_code in FULL:
            self._fail(entry, future, Full(ack.error.description))
        else:
            self._fail(entry, future, Unknown(f"{ack.error.description} ({ack.error.err_code})"))

    def _look(self, entry: Entry, future: asyncio.Future[int], said: ApiError) -> None:
        """Was it us? The log's last entry is not the expected one; see what is at the place."""
        place = entry.expect + 1
        last = said.description.rpartition(" ")[2] if said.err_code == WRONG_LAST_SEQUENCE else ""
        if last.isdigit() and int(last) < place:
            self._fail(entry, future, Conflict(said.description))  # the place is empty, and so is one before it
            return

        def settle(answer: Message | Unknown) -> None:
            try:
                found = answer if isinstance(answer, Unknown) else entry_in(answer.data)
            except Unknown as error:
                found = error
            if isinstance(found, Unknown):
                self._fail(entry, future, found)
            elif found is not None and found.id == entry.id:
                self._succeed(entry, future)
            else:
                self._fail(entry, future, Conflict(said.description))

        self._wire.exchange(f"$JS.API.STREAM.MSG.GET.{STREAM}", b'{"seq":%d}' % place, settle=settle)

    def _succeed(self, entry: Entry, future: asyncio.Future[int]) -> None:
        place = entry.expect + 1
        self._under_way.pop(place, None)
        if not future.done():
            future.set_result(place)
        for held, waiting in self._held.pop(place, ()):
            self._send(held, waiting, None)

    def _fail(self, entry: Entry, future: asyncio.Future[int], error: Exception) -> None:
        """Fail an append, and those held back behind it, which were never sent."""
        failing = deque([(entry, future)])
        while failing:
            entry, future = failing.popleft()
            place = entry.expect + 1
            if not future.done():
                future.set_exception(error)
                future.exception()  # seen: a writer that drops what it speculated does not look at each
            if self._under_way.get(place) == entry.id:
                del self._under_way[place]
            # Kept until the writer has been told: what it sends before that would follow another's entry.
            self._failed.add(place)
            asyncio.get_running_loop().call_soon(self._failed.discard, place)
            failing.extend(self._held.pop(place, ()))
            error = type(error)("not sent, for the entry before it failed") if failing else error


def _ack_in(answer: Message | Unknown) -> PubAck | Unknown:
    if isinstance(answer, Unknown):
        return answer
    try:
        return _read_ack(answer.data)
    except msgspec.MsgspecError as error:
        return Unknown(f"the server's answer cannot be read: {error}")


def _stream(name: str, subjects: list[str], max_bytes: int) -> dict[str, Any]:
    return {
        "name": name,
        "subjects": subjects,
        "storage": "file",
        "retention": "limits",
        "max_bytes": max_bytes,
        "max_msgs": -1,
        "max_age": 0,
        "allow_direct": True,
        "duplicate_window": 120 * SECOND,
    }
