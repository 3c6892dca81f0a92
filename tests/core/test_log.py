"""The log contract on both logs, and what only a real server can show: kills, restarts, lost answers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing
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
from tests.core import log_contract
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
