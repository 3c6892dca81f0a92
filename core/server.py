"""The embedded log: one nats-server, owned by one control plane, attached to by whoever comes second.

What holds it together is one lock, `server.lock`: nats-server itself does not guard its store, and two of them on
one store lose each other's writes. The lock is taken before the server starts, and the server inherits it, so it is
held for as long as either the owner or the server lives. Who cannot have it attaches.

    start_or_attach   own the store and start a server on it, or find the one that runs
    supervise         keep it running: after a crash, and after a full disk, on the same port
    restart, stop     in good order
    disk              whether the disk is full, and whether the server is stuck because it was

A full disk leaves a server stuck: it stores nothing any more, whatever is freed, until it is started again. Publishers
see time-outs only. So the server is listened to, and restarted once there is room.
"""

from __future__ import annotations

import asyncio
import fcntl
import logging
import os
import signal
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import msgspec

from headway.core.endpoint import Endpoint
from headway.core.errors import UnavailableError
from headway.core.log import Unknown
from headway.core.server_child import Child, find_binary
from headway.core.server_config import (
    HOST,
    ROOM_FLOOR_BYTES,
    Limits,
    Record,
    Settings,
    config_text,
    current_limits,
    folder_errors,
    free_bytes,
    load_endpoint,
    load_record,
    new_record,
    outside_endpoint,
    pick_port,
    save_record,
    url_of,
    write_private,
)
from headway.core.server_probe import Probe, read_json

__all__ = ["Disk", "Limits", "Server", "Settings", "load_endpoint", "outside_endpoint"]

PORT_TRIES: Final = 20
SETTLED_SECONDS: Final = 10.0
BACKOFF_FIRST_SECONDS: Final = 0.05
LOOK_SECONDS: Final = 0.25

logger = logging.getLogger("headway.server")


class Disk(msgspec.Struct, frozen=True, kw_only=True):
    """The disk under the log. `stuck`: the server met a full disk and stores nothing until it is restarted."""

    free_bytes: int
    full: bool
    stuck: bool
    said: str = ""


class PortTaken(Exception):
    """Somebody else listens on the port that the server was to have."""


class Server:
    """The log's server, owned or attached to. Made by `start_or_attach`."""

    def __init__(self, folder: Path, settings: Settings, *, lock: int = -1) -> None:
        self.folder = folder
        self.restarts = 0
        self._settings = settings
        self._lock = lock
        self._record = load_record(folder) or new_record(settings.port or pick_port())
        self.limits = self._record.limits
        self._child: Child | None = None
        self._stopped = asyncio.Event()
        self._turn = asyncio.Lock()

    @classmethod
    async def start_or_attach(cls, folder: Path, *, settings: Settings | None = None) -> Server:
        """A server that answers: the one that runs in `folder`, else a new one. Safe to call from many processes."""
        settings = settings or Settings()
        with folder_errors(folder):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        deadline = asyncio.get_running_loop().time() + settings.start_timeout_seconds
        while True:
            with folder_errors(folder):
                lock = _try_lock(folder)
            if lock >= 0:
                server = cls(folder, settings, lock=lock)
                await server._start_first()
                return server
            if (record := load_record(folder)) is not None and await _answers(record):
                return cls(folder, settings)
            if asyncio.get_running_loop().time() > deadline:
                who = f"process {record.pid}" if record is not None and record.pid else "another process"
                raise UnavailableError(
                    f"the log in {folder} is held by {who}, which does not answer", next=f"end {who} and try again"
                )
            await asyncio.sleep(0.02)

    @property
    def owned(self) -> bool:
        """Whether this process started the server, and so stops it."""
        return self._lock >= 0

    @property
    def pid(self) -> int:
        return self._child.pid if self._child is not None else self._record.pid

    @property
    def endpoint(self) -> Endpoint:
        """How the coordinator gets in."""
        return Endpoint(url=self._record.url, user=self._record.user, password=self._record.password)

    @property
    def runner_endpoint(self) -> Endpoint:
        """How a runner gets in, to do its part only."""
        record = self._record
        return Endpoint(url=record.url, user=record.runner_user, password=record.runner_password)

    def system_probe(self) -> Probe:
        """Asks the server about itself."""
        return _probe(self._record, self._record.system_user, self._record.system_password)

    def disk(self) -> Disk:
        """How the disk is; cheap enough to be asked after every append that got no answer."""
        free = free_bytes(self.folder)
        said = self._child.no_room_said if self._child is not None else ""
        return Disk(free_bytes=free, full=free < ROOM_FLOOR_BYTES, stuck=bool(said), said=said)

    async def wait_dead(self) -> str:
        """Wait until the present server process is gone, and say how it went."""
        if self._child is None:
            while (lock := _try_lock(self.folder)) < 0 and not self._stopped.is_set():
                await self._sleep(LOOK_SECONDS)
            if lock < 0:
                return "it was let go"
            os.close(lock)
            return "it ended with the process that owned it"
        return _how(await asyncio.shield(self._child.exited), self._child)

    async def supervise(self) -> None:
        """Keep a server there until `stop`: restart it after a crash, and once a disk that was full has room.

        Who only attached takes over when the owner is gone. Raises UnavailableError when no server will start.
        """
        loop = asyncio.get_running_loop()
        delay, started = 0.0, loop.time()
        while not self._stopped.is_set():
            if (child := self._child) is None:
                await self._take_over()
                continue
            await child.changed.wait()
            async with self._turn:  # a restart that was asked for is left to finish
                if self._stopped.is_set() or self._child is not child:
                    continue
            if child.exited.done():
                delay = 0.0 if loop.time() - started > SETTLED_SECONDS else self._longer(delay)
                logger.warning("nats-server is gone, %s; starting it again", _how(child.exited.result(), child))
                await self._sleep(delay)
                await self._start_again(child)
                started = loop.time()
            elif self.disk().full:
                await self._sleep(LOOK_SECONDS)
            else:
                logger.warning("the disk was full and has room again; stopping nats-server to start it afresh")
                await child.end(timeout_seconds=self._settings.stop_timeout_seconds)

    async def restart(self, reason: str) -> None:
        """Stop the server and start it again on the same port; clients reconnect by themselves."""
        if self._child is None:
            raise UnavailableError("the log's server belongs to another process", next="restart it there")
        async with self._turn:
            logger.warning("restarting nats-server: %s", reason)
            await self._child.end(timeout_seconds=self._settings.stop_timeout_seconds)
            try:
                await self._start_on_port()
            except PortTaken:
                raise self._port_error() from None
            self.restarts += 1

    async def stop(self) -> None:
        """Stop the server if it is ours, and let go of its store."""
        self._stopped.set()
        if self._child is not None:
            self._child.changed.set()
        async with self._turn:
            if self._child is not None:
                await self._child.end(timeout_seconds=self._settings.stop_timeout_seconds)
            if self.owned:
                with suppress(OSError):
                    save_record(self.folder, msgspec.structs.replace(self._record, pid=0))
                self._release()

    # Starting

    async def _start_first(self) -> None:
        """Start on the port asked for, the one kept, or another one where the kept one is taken."""
        taken: set[int] = set()
        try:
            while True:
                port = self._settings.port or (pick_port(frozenset(taken)) if taken else self._record.port)
                self._record = msgspec.structs.replace(self._record, url=url_of(port))
                try:
                    return await self._start_on_port()
                except PortTaken:
                    taken.add(port)
                    if self._settings.port or len(taken) >= PORT_TRIES:
                        raise self._port_error() from None
        except BaseException:
            self._release()
            raise

    async def _start_on_port(self) -> None:
        """Configuration, process, readiness. Raises PortTaken, or UnavailableError with the server's last words."""
        with folder_errors(self.folder):
            self.limits = current_limits(self.folder, self._settings)
            write_private(self.folder / "nats.conf", config_text(self._record, self.limits).encode())
            argv = [self._settings.binary or find_binary(), "-c", str(self.folder / "nats.conf")]
            child = await Child.spawn(argv, folder=self.folder, held=self._lock)
        try:
            await self._until_ready(child)
            self._record = msgspec.structs.replace(
                self._record,
                pid=child.pid,
                log_bytes=self.limits.log_bytes,
                log_bytes_hard=self.limits.log_bytes_hard,
                output_bytes=self.limits.output_bytes,
            )
            with folder_errors(self.folder):
                save_record(self.folder, self._record)
        except BaseException:
            child.send(signal.SIGKILL)
            raise
        self._child = child
        logger.info("nats-server %d listens on %s", child.pid, self._record.url)

    async def _until_ready(self, child: Child) -> None:
        seconds = self._settings.start_timeout_seconds
        answered = asyncio.create_task(_until_answers(self._record))
        stopped = asyncio.create_task(self._stopped.wait())
        first: set[asyncio.Future[Any]] = {answered, stopped, child.exited}
        try:
            await asyncio.wait(first, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
            if child.exited.done():
                raise self._start_error(child)
            if not answered.done():
                words = "stopped before it was ready" if stopped.done() else f"not ready after {seconds:g} s"
                raise UnavailableError(
                    _with(f"nats-server was {words}", child), next=f"look into {self.folder / 'nats.log'}"
                )
        finally:
            answered.cancel()
            stopped.cancel()

    def _start_error(self, child: Child) -> Exception:
        if any("address already in use" in line for line in child.lines):
            return PortTaken()
        if child.no_room_said:
            return UnavailableError(f"the disk of {self.folder} is full", next="free some space and try again")
        return UnavailableError(
            f"nats-server ended at once, {_how(child.exited.result(), child)}",
            next=f"look into {self.folder / 'nats.log'}",
        )

    def _port_error(self) -> UnavailableError:
        return UnavailableError(
            f"port {self._record.port} on {HOST} is in use by another program",
            next="end that program, or start Headway again once the port is free",
        )

    # Staying

    async def _start_again(self, dead: Child) -> None:
        """Start a new process for one that died; tries a few times, and for ever while the disk is full."""
        delay, tries = 0.0, 0
        while not self._stopped.is_set():
            async with self._turn:
                if self._child is not dead:
                    return
                try:
                    await self._start_on_port()
                    self.restarts += 1
                    return
                except PortTaken:
                    error = self._port_error()
                except UnavailableError as found:
                    error = found
            tries += not self.disk().full
            if tries >= self._settings.restart_tries:
                raise error
            delay = self._longer(delay)
            logger.warning("nats-server did not start: %s; trying again in %.1f s", error.message, delay)
            await self._sleep(delay)

    async def _take_over(self) -> None:
        """Wait, as one who attached, for the store to be free; then own it."""
        lock = _try_lock(self.folder)
        if lock < 0:
            await self._sleep(LOOK_SECONDS)
            return
        logger.warning("the owner of the log's server is gone; taking over")
        async with self._turn:
            if self._stopped.is_set():
                os.close(lock)
                return
            self._lock = lock
            self._record = load_record(self.folder) or self._record
            await self._start_first()

    async def _sleep(self, seconds: float) -> None:
        with suppress(TimeoutError):
            await asyncio.wait_for(self._stopped.wait(), seconds)

    def _longer(self, delay: float) -> float:
        return min(self._settings.backoff_max_seconds, max(BACKOFF_FIRST_SECONDS, delay * 2))

    def _release(self) -> None:
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1


def _try_lock(folder: Path) -> int:
    """A descriptor that holds the store's lock, or -1 when somebody else holds it."""
    lock = os.open(folder / "server.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        return -1
    except OSError:
        os.close(lock)
        raise
    return lock


async def _until_answers(record: Record) -> None:
    delay = 0.005
    while not await _answers(record):
        await asyncio.sleep(delay)
        delay = min(0.1, delay * 1.5)


async def _answers(record: Record) -> bool:
    """Whether the server of this record listens, knows its password, and has its store open."""
    try:
        probe = _probe(record, record.user, record.password)
        return "error" not in await read_json(probe, "$JS.API.INFO")
    except Unknown:
        return False


def _probe(record: Record, user: str, password: str) -> Probe:
    return Probe(host=HOST, port=record.port, user=user, password=password)


def _how(code: int, child: Child) -> str:
    return _with(f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}", child)


def _with(words: str, child: Child) -> str:
    return f"{words}: {said}" if (said := child.last_words()) else words
