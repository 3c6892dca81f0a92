"""Streams taken out of a real server and put back into another one: the same to the last digit, or not at all."""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest

from headway.core import pulls, snapshots
from headway.core.inflight import Message
from headway.core.jetstream import JetStreamLog
from headway.core.log import Entry, Stored, Unknown
from headway.core.snapshots import put_back, taking
from headway.core.streams import OUTPUT_STREAM, STREAM, StreamRefused, StreamState, api, get_entry, stream_info
from headway.core.wire import Wire
from tests.core.nats_fixture import NatsServer, nats_server, wired

COUNT = 5000
MIB = 1 << 20


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[NatsServer]:
    """The server that has something."""
    async with nats_server(tmp_path / "one", sync='"2m"') as found:
        yield found


@pytest.fixture
async def wire(server: NatsServer) -> AsyncIterator[Wire]:
    """A connection to it."""
    async with wired(server.endpoint) as found:
        yield found


@pytest.fixture
async def other(tmp_path: Path) -> AsyncIterator[Wire]:
    """A connection to a server that has nothing."""
    async with nats_server(tmp_path / "two", sync='"2m"') as found, wired(found.endpoint) as wire:
        yield wire


async def filled(wire: Wire, count: int) -> JetStreamLog:
    """The log with so many entries."""
    log = JetStreamLog(wire)
    await log.prepare(max_bytes=256 * MIB, output_max_bytes=64 * MIB)
    for start in range(0, count, 1000):
        await append(log, start, min(count, start + 1000))
    return log


async def append(log: JetStreamLog, start: int, end: int) -> None:
    """Entries behind the one at `start`, up to the one at `end`."""
    entries = [entry_after(at) for at in range(start, end)]
    await asyncio.gather(*(log.append(one) for one in entries))


def entry_after(at: int) -> Entry:
    """The entry behind the one at this sequence; its body does not get smaller when it is compressed."""
    noise = random.Random(at).randbytes(600)
    return Entry(subject=f"headway.run.{at % 7}", id=f"id-{at}", body=noise, expect=at)


async def all_of(wire: Wire, stream: str) -> list[Stored]:
    """Every entry of a stream: sequence, time, subject, id and body."""
    found: list[Stored] = []
    end = (await stream_info(wire, stream)).state.last_seq
    async with aclosing(pulls.read(wire, stream, start=1, end=end)) as batches:
        async for batch in batches:
            found += batch
    return found


async def taken(wire: Wire, stream: str) -> tuple[dict[str, Any], StreamState, list[bytes]]:
    """A whole snapshot: settings, state and chunks."""
    async with taking(wire, stream) as snapshot:
        return snapshot.config, snapshot.state, [chunk async for chunk in snapshot.chunks()]


async def one_by_one(chunks: list[bytes]) -> AsyncIterator[bytes]:
    """Chunks as they come from a file."""
    for chunk in chunks:
        yield chunk


async def test_a_log_comes_back_with_its_sequences_ids_and_times(wire: Wire, other: Wire) -> None:
    """All of 5,000 entries are the same on another server, and the log goes on behind them."""
    await filled(wire, COUNT)
    config, state, chunks = await taken(wire, STREAM)
    assert (state.messages, state.first_seq, state.last_seq) == (COUNT, 1, COUNT)
    assert len(chunks) > 2
    assert max(map(len, chunks)) <= snapshots.CHUNK_BYTES
    info = await put_back(other, config, state, one_by_one(chunks))
    assert info.state == state
    assert await all_of(other, STREAM) == await all_of(wire, STREAM)
    log = JetStreamLog(other)
    await log.prepare(max_bytes=256 * MIB, output_max_bytes=64 * MIB)
    assert await log.append(entry_after(COUNT)) == COUNT + 1


async def test_gaps_and_a_beginning_that_is_gone_stay(wire: Wire, other: Wire) -> None:
    """What was purged is not there, and what is left has the sequences it had."""
    await filled(wire, 10)
    for at in range(300):
        await wire.request(f"headway.out.r.j.{at % 3}", b"%d" % at)
    await api(wire, f"STREAM.PURGE.{OUTPUT_STREAM}", {"seq": 100}, dict[str, Any])
    await api(wire, f"STREAM.PURGE.{OUTPUT_STREAM}", {"filter": "headway.out.r.j.1"}, dict[str, Any])
    config, state, chunks = await taken(wire, OUTPUT_STREAM)
    await put_back(other, config, state, one_by_one(chunks))
    before = await all_of(wire, OUTPUT_STREAM)
    assert [one.seq for one in before[:3]] == [100, 102, 103]
    assert await all_of(other, OUTPUT_STREAM) == before
    assert await get_entry(other, OUTPUT_STREAM, {"seq": 101}) is None


async def test_what_is_appended_meanwhile_is_not_in_it(wire: Wire, other: Wire) -> None:
    """A snapshot ends where the log ended when it began, though entries come between all of its chunks."""
    log = await filled(wire, COUNT)
    end = COUNT
    chunks = []
    async with taking(wire, STREAM) as snapshot:
        async for chunk in snapshot.chunks():
            chunks.append(chunk)
            await append(log, end, end + 50)
            end += 50
    assert snapshot.state.last_seq == COUNT < await log.last_seq() == end
    info = await put_back(other, snapshot.config, snapshot.state, one_by_one(chunks))
    assert (info.state.messages, info.state.last_seq) == (COUNT, COUNT)
    assert await all_of(other, STREAM) == (await all_of(wire, STREAM))[:COUNT]


async def test_consumers_do_not_come_along(wire: Wire, other: Wire) -> None:
    """Whoever listened to the log has to say so again."""
    await filled(wire, 10)
    durable = {"durable_name": "runner-x", "ack_policy": "explicit"}
    request = {"stream_name": STREAM, "config": durable}
    await api(wire, f"CONSUMER.DURABLE.CREATE.{STREAM}.runner-x", request, dict[str, Any])
    config, state, chunks = await taken(wire, STREAM)
    await put_back(other, config, state, one_by_one(chunks))
    with pytest.raises(StreamRefused, match="consumer not found"):
        await api(other, f"CONSUMER.INFO.{STREAM}.runner-x", None, dict[str, Any])


async def test_an_empty_stream_comes_back(wire: Wire, other: Wire) -> None:
    """Nothing is also something: the stream is there."""
    await filled(wire, 0)
    config, state, chunks = await taken(wire, OUTPUT_STREAM)
    info = await put_back(other, config, state, one_by_one(chunks))
    assert (info.state.messages, info.config["subjects"]) == (0, ["headway.out.>"])


async def test_limits_may_be_others(wire: Wire, other: Wire) -> None:
    """The size of a stream is that of the machine it comes to."""
    await filled(wire, 100)
    config, state, chunks = await taken(wire, STREAM)
    info = await put_back(other, {**config, "max_bytes": 20 * MIB}, state, one_by_one(chunks))
    assert (info.config["max_bytes"], info.state.messages) == (20 * MIB, 100)


async def test_no_such_stream_is_refused(wire: Wire) -> None:
    """The server's own word is raised."""
    with pytest.raises(StreamRefused, match="stream not found"):
        await taken(wire, "NOTHING")


async def test_a_stream_that_is_there_is_not_overwritten(wire: Wire) -> None:
    """The server refuses, and the stream is as it was."""
    await filled(wire, 10)
    config, state, chunks = await taken(wire, STREAM)
    with pytest.raises(StreamRefused, match="already in use"):
        await put_back(wire, config, state, one_by_one(chunks))
    assert (await stream_info(wire, STREAM)).state == state


@pytest.mark.parametrize("how", ["cut", "changed", "nothing"])
async def test_a_damaged_snapshot_makes_no_stream(wire: Wire, other: Wire, how: str) -> None:
    """Cut short, changed in the middle or empty: the server says no, and has nothing."""
    await filled(wire, 2000)
    config, state, chunks = await taken(wire, STREAM)
    body = b"".join(chunks)
    middle = len(body) // 2
    damaged = {"cut": body[:middle], "changed": body[:middle] + bytes(100) + body[middle + 100 :], "nothing": b""}[how]
    pieces = [damaged[at : at + snapshots.CHUNK_BYTES] for at in range(0, len(damaged), snapshots.CHUNK_BYTES)]
    with pytest.raises((StreamRefused, Unknown)):
        await put_back(other, config, state, one_by_one(pieces))
    with pytest.raises(StreamRefused, match="stream not found"):
        await stream_info(other, STREAM)


async def test_a_server_that_dies_is_noticed_at_once(server: NatsServer, wire: Wire) -> None:
    """Half a snapshot ends with an error, not with what there was."""
    await filled(wire, COUNT)
    async with taking(wire, STREAM) as snapshot, aclosing(snapshot.chunks()) as chunks:
        await anext(chunks)
        server.kill()
        with pytest.raises(Unknown, match="the connection was lost"):
            async for _ in chunks:
                pass


async def test_a_missing_chunk_is_noticed(server: NatsServer, wire: Wire) -> None:
    """What the server sends is counted: a hole ends it."""
    await filled(wire, COUNT)

    class Loses(Wire):
        """A wire that loses a message."""

        async def subscribe(self, subject: str, receive: Any) -> Any:
            """The same, but for the second chunk."""

            def take(message: Message) -> None:
                if not message.reply.endswith(".2"):
                    receive(message)

            return await super().subscribe(subject, take)

    lossy = await Loses.connect(server.endpoint, name="lossy")
    try:
        with pytest.raises(Unknown, match="chunk 2 is missing"):
            await taken(lossy, STREAM)
    finally:
        await lossy.close()


async def test_who_takes_no_more_is_let_go(wire: Wire) -> None:
    """A reader that stops in the middle costs the server nothing that another snapshot would need."""
    await filled(wire, COUNT)
    async with taking(wire, STREAM) as snapshot, aclosing(snapshot.chunks()) as chunks:
        await anext(chunks)
    _, state, whole = await taken(wire, STREAM)
    assert state.messages == COUNT
    assert sum(map(len, whole)) > snapshots.CHUNK_BYTES
