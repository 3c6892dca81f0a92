"""The parts of a running service, together, and the one way to stop it."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from pathlib import Path
from typing import Final

import msgspec

from headway.cli.local_runner import LocalRunner
from headway.cli.office import Office
from headway.core.blobs import Blobs
from headway.core.clock import Clock
from headway.core.config import Config
from headway.core.envelope import Recorded
from headway.core.errors import RefusedError, UnavailableError
from headway.core.fleet import LEASE_SECONDS
from headway.core.jetstream import JetStreamLog
from headway.core.log import Unknown
from headway.core.outputs import Outputs
from headway.core.server import Server
from headway.core.wire import Wire
from headway.projections.follower import Follower
from headway.projections.records import Live
from headway.projections.store import Store

CLOCKS_APART_US: Final = 1_000_000
"""Less than this may be the way from the log to here."""


class LogClock:
    """The log's clock as it can be known here: from the events that are logged while this service is up.

    Those come after the event `floor`.
    """

    def __init__(self, clock: Clock, *, floor: int) -> None:
        self._clock = clock
        self._floor = floor
        self._ahead_us: int | None = None

    def heard(self, news: list[Recorded]) -> None:
        """Events came. They may come late, never early: the one that came quickest tells most."""
        if news[-1].seq > self._floor:
            ahead_us = news[-1].logged - self._clock.wall_us()
            self._ahead_us = ahead_us if self._ahead_us is None else max(self._ahead_us, ahead_us)

    def now_us(self) -> int:
        """Microseconds since 1970 UTC by the log's clock. Where that is near this machine's, it is this machine's."""
        ahead_us = self._ahead_us or 0
        return self._clock.wall_us() + (ahead_us if abs(ahead_us) > CLOCKS_APART_US else 0)


class Stop:
    """Asked for once, waited for by the service."""

    def __init__(self) -> None:
        self.draining = False
        self.idle = False
        self._asked = asyncio.Event()

    def now(self) -> None:
        self._asked.set()

    def because_idle(self) -> None:
        """Stop for want of work: whoever comes now must not notice, but start another service."""
        self.idle = True
        self._asked.set()

    @property
    def asked(self) -> bool:
        return self._asked.is_set()

    async def wait(self) -> None:
        await self._asked.wait()

    def refuse_new(self) -> None:
        """Raise when the service takes no new runs."""
        if self.idle:
            raise ConnectionResetError("the service is leaving")
        if self.draining or self.asked:
            raise RefusedError("the service is stopping and takes no new runs", next="wait for it, then run again")


class Plane(msgspec.Struct, kw_only=True):
    """What operations work with."""

    home: Path
    config: Config
    clock: Clock
    blobs: Blobs
    server: Server | None
    supervising: asyncio.Task[None] | None
    wire: Wire
    log: JetStreamLog
    outputs: Outputs
    store: Store
    follower: Follower
    office: Office
    runner: LocalRunner
    stop: Stop
    started: str
    floor: int
    """The end of the log when the service started: tables behind it tell of a past."""
    log_clock: LogClock

    async def caught_up(self, seq: int = 0) -> None:
        """Wait until the tables have everything written here and before, to read one's own writes."""
        seq = max(seq, self.office.seq, self.floor)
        if self.office.coordinator is None:
            with suppress(Unknown):  # another service writes; while the log is away the tables are all there is
                seq = max(seq, await self.log.last_seq())
        await self.follower.wait_for(seq)

    @property
    def disk_trouble(self) -> str:
        """What the disk under the embedded log keeps it from, "" when nothing."""
        disk = self.server.disk() if self.server is not None else None
        if disk is None or not (disk.stuck or disk.full):
            return ""
        return "the disk is full: nothing is stored until there is room" if disk.stuck else "the disk is almost full"

    def live(self) -> Live:
        """What is known here and is not on the log."""
        coordinator = self.office.coordinator
        desk = coordinator.desk if coordinator is not None else None
        log_trouble = self.disk_trouble
        if not self.wire.connected:
            log_trouble = log_trouble or "the log's server cannot be reached"
        trouble = self.office.trouble
        if coordinator is not None and desk is None:
            trouble = coordinator.trouble or trouble or "the log does not answer"
        return Live(
            coordinates=desk is not None,
            coordinator_trouble=trouble if desk is None else "",
            log_trouble=log_trouble,
            silent_seconds=desk.presence.silences(self.clock.monotonic()) if desk is not None else {},
            lease_seconds=LEASE_SECONDS,
        )

    async def unfinished(self) -> int:
        """How many runs have not ended."""
        known = self.office.unfinished
        if known is not None:
            return known
        if not self.wire.connected:
            raise UnavailableError("the log's server cannot be reached", next="see 'headway doctor'")
        rows = await self.store.fetch("select count(*) from runs where outcome is null")
        return int(rows[0][0])
