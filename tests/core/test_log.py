"""The log contract on both logs, and what only a real server can show: kills, restarts, lost answers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from headway.core.clock import SystemClock
from headway.core.errors import UnavailableError
from headway.core.jetstream import JetStreamLog
from headway.core.log import Conflict, Log, Stored, Unknown
from headway.core.memory import MemoryLog
from headway.core.streams import STREAM, api, ensure_stream
from headway.core.wire import Wire
from tests.core.log_contract import LogContract, Opened, entry, fill, read_all, sequences, take
from tests.core.nats_fixture import NatsServer, nats_server, wait_until, wired

MIB = 1 << 20


async def prepared(wire: Wire, *, max_bytes: int = 64 * MIB, timeout_seconds: float = 5.0) -> JetStreamLog:
    """The log of a server, ready."""
    log = JetStreamLog(wire, append_timeout_seconds=timeout_seconds)
    await log.prepare(max_bytes=max_bytes, output_max_bytes=MIB)
    return log


class TestMemoryLog(LogContract):
    """The contract on the log in memory."""

    @pytest.fixture
    def log(self) -> Log:
        return MemoryLog(SystemClock())

    @pytest.fixture
    def other(self, log: Log) -> Log:
        return log

    @pytest.fixture
    def small_log(self) -> Callable[[], Opened]:
        @asynccontextmanager
        async def opened() -> AsyncIterator[Log]:
            yield MemoryLog(SystemClock(), bytes_max=64 * 1024)

        return opened


class TestJetStreamLog(LogContract):
    """The contract on a real server."""

    @pytest.fixture
    async def server(self, tmp_path: Path) -> AsyncIterator[NatsServer]:
        async with nats_server(tmp_path) as server:
            yield server

    @pytest.fixture
    async def log(self, server: NatsServer) -> AsyncIterator[Log]:
        async with wired(server.endpoint) as wire:
            yield await prepared(wire)

    @pytest.fixture
    async def other(self, server: NatsServer, log: Log) -> AsyncIterator[Log]:
        async with wired(server.endpoint) as wire:
            yield JetStreamLog(wire)

    @pytest.fixture
    def small_log(self, server: NatsServer) -> Callable[[], Opened]:
        @asynccontextmanager
        async def opened() -> AsyncIterator[Log]:
            async with wired(server.endpoint) as wire:
                yield await prepared(wire, max_bytes=64 * 1024)

        return opened


async def test_what_was_acknowledged_survives_kills_of_the_server(tmp_path: Path) -> None:
    """With 64 appends in flight at each kill: every future ends, nothing acknowledged is lost, followers go on."""
    acknowledged: dict[int, str] = {}
    outcomes: set[type] = set()

    async def write(log: JetStreamLog, server: NatsServer, kill: bool) -> None:
        last = await log.last_seq()
        wanted = [entry(place, id=f"{last}-{place}") for place in range(last + 1, last + 65)]
        futures = [log.append(one) for one in wanted]
        await futures[10]
        if kill:
            await server.restart()
        for one, result in zip(wanted, await asyncio.gather(*futures, return_exceptions=True), strict=True):
            outcomes.add(type(result))
            if isinstance(result, int):
                acknowledged[result] = one.id

    async with nats_server(tmp_path) as server, wired(server.endpoint) as wire:
        log = await prepared(wire)
        batches = log.follow(start=1)
        async with aclosing(batches):
            following = asyncio.ensure_future(take(batches, 320, seconds=20))
            for kill in (True, True, True, False, False):
                await write(log, server, kill)
            last = await log.last_seq()
            await fill(log, 320 - last, start=last + 1)
            followed = await following
        stored = {one.seq: one.id for one in followed}
        assert sequences(followed) == list(range(1, 321)), "each once, in order"
        assert stored == {one.seq: one.id for one in await read_all(log)}
        assert acknowledged.items() <= stored.items()
        assert outcomes <= {int, Unknown, Conflict}


async def test_a_hanging_server_makes_appends_unknown(tmp_path: Path) -> None:
    """No answer in time is neither yes nor no; the same append later finds out."""
    async with nats_server(tmp_path) as server, wired(server.endpoint) as wire:
        log = await prepared(wire, timeout_seconds=0.3)
        await fill(log, 3)
        server.pause()
        with pytest.raises(Unknown, match="no answer in time"):
            await log.append(entry(4))
        server.resume()
        assert await log.append(entry(4)) == 4
        assert await log.last_seq() == 4


async def test_an_append_without_a_server_is_unknown_and_never_sent_later(tmp_path: Path) -> None:
    """What ran out of time while there was no connection does not turn up afterwards."""
    async with nats_server(tmp_path) as server, wired(server.endpoint) as wire:
        log = await prepared(wire, timeout_seconds=0.3)
        await fill(log, 3)
        server.kill()
        lost = asyncio.Event()
        wire.on_state(lambda connected: None if connected else lost.set())
        if wire.connected:
            await asyncio.wait_for(lost.wait(), 5)
        with pytest.raises(Unknown):
            await log.append(entry(4))
        await server.start()
        await wire.wait_connected()
        assert await log.append(entry(4, id="another")) == 4


async def test_without_knowing_the_stream_appends_wait_for_each_other(tmp_path: Path) -> None:
    """As on a replicated stream, each entry is sent when the one before is stored; a refusal drops all behind it."""
    async with nats_server(tmp_path) as server, wired(server.endpoint) as wire:
        await fill(await prepared(wire), 1)
        log = JetStreamLog(wire)
        futures = [log.append(entry(place, id=f"late-{place}")) for place in range(1, 2001)]
        futures[0].add_done_callback(lambda _: futures.append(log.append(entry(2, id="told-too-late"))))
        results = await asyncio.gather(*futures[:2000], return_exceptions=True)
        assert {type(one) for one in results} == {Conflict}
        await asyncio.gather(*futures, return_exceptions=True)
        await asyncio.gather(*[log.append(entry(place)) for place in range(2, 101)])
        assert sequences(await read_all(log)) == list(range(1, 101))


async def test_a_reader_goes_on_when_its_consumer_is_gone(tmp_path: Path) -> None:
    """An administrator may delete what a follower reads from; it misses nothing."""
    async with nats_server(tmp_path) as server, wired(server.endpoint) as wire:
        log = await prepared(wire)
        await fill(log, 3)
        batches = log.follow(start=1)
        async with aclosing(batches):
            assert sequences(await take(batches, 3)) == [1, 2, 3]
            waiting = asyncio.ensure_future(take(batches, 6))
            (name,) = await consumers(wire)
            await api(wire, f"CONSUMER.DELETE.{STREAM}.{name}", None, dict[str, Any])
            await fill(log, 3, start=4)
            assert sequences(await waiting) == [4, 5, 6]


async def test_a_closed_follower_leaves_nothing_behind(tmp_path: Path) -> None:
    """Closing a follower or an unfinished read removes its consumer from the server."""

    async def none_left() -> bool:
        return not await consumers(wire)

    async with nats_server(tmp_path) as server, wired(server.endpoint) as wire:
        log = await prepared(wire)
        await fill(log, 1500)
        for batches in (log.follow(start=1), log.read()):
            async with aclosing(batches):
                assert await anext(batches)
                assert len(await consumers(wire)) == 1
            await wait_until(none_left)


async def test_preparing_again_changes_only_sizes(tmp_path: Path) -> None:
    """Another configuration keeps what is stored and what was promised; `room` says how full the log is."""
    async with nats_server(tmp_path) as server, wired(server.endpoint) as wire:
        log = await prepared(wire)
        await fill(log, 3)
        await log.prepare(max_bytes=128 * MIB, output_max_bytes=2 * MIB)
        room = await log.room()
        assert (room.bytes_max, room.bytes_hard) == (128 * MIB, 160 * MIB)
        assert (0 < room.bytes < 10_000, room.events) == (True, 3)
        await log.prepare(max_bytes=32 * MIB, output_max_bytes=MIB)
        room = await log.room()
        assert (room.bytes_max, room.bytes_hard) == (32 * MIB, 160 * MIB), "runs were admitted on the strength of it"
        assert sequences(await read_all(log)) == [1, 2, 3]


async def test_a_server_without_streams_is_refused(tmp_path: Path) -> None:
    """The error says what is missing."""
    async with nats_server(tmp_path, jetstream=False) as server, wired(server.endpoint) as wire:
        with pytest.raises(UnavailableError, match="does not keep streams"):
            await prepared(wire)


async def test_a_stream_made_for_something_else_is_refused(tmp_path: Path) -> None:
    """A stream of our name that would lose the log is not used and not changed."""
    async with nats_server(tmp_path) as server, wired(server.endpoint) as wire:
        await ensure_stream(wire, {"name": STREAM, "subjects": ["headway.ctl"], "storage": "memory"})
        with pytest.raises(UnavailableError, match="storage is 'memory'"):
            await prepared(wire)


async def test_a_log_larger_than_the_server_is_refused(tmp_path: Path) -> None:
    """Reserving more than the server may use is said at the start, not when the disk is full."""
    async with nats_server(tmp_path) as server, wired(server.endpoint) as wire:
        with pytest.raises(UnavailableError, match="no room"):
            await prepared(wire, max_bytes=1 << 40)


async def test_the_last_entry_seen_is_known_with_its_time(tmp_path: Path) -> None:
    """Whoever reads learns the log's clock; a later read of older entries does not turn it back."""
    async with nats_server(tmp_path) as server, wired(server.endpoint) as wire:
        log = await prepared(wire)
        assert log.last_logged == (0, 0)
        await fill(log, 5)
        newest: Stored = (await read_all(log))[-1]
        await read_all(log, end=2)
        assert log.last_logged == (5, newest.logged)


async def consumers(wire: Wire) -> list[str]:
    """The names of all consumers of the log."""
    found = await api(wire, f"CONSUMER.NAMES.{STREAM}", {}, dict[str, Any])
    return list(found["consumers"] or [])
