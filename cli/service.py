"""The control plane as one process: the log, the coordinator, the projector, the socket and a runner.

Started by `headway up`, or detached by the first command that needs it; then it leaves by itself when it has been
idle for a while. One service per home, by a lock. Whatever dies is started again or named; what this process held in
memory is on the log, so that `kill -9` of it loses nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import logging
import os
import platform
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Final, TypeVar

from headway import __version__
from headway.cli.control import Control
from headway.cli.keeper import OutputKeeper
from headway.cli.local_runner import LocalRunner
from headway.cli.office import Office
from headway.cli.offline import forget_end, leave_end
from headway.cli.operations import operations
from headway.cli.plane import LogClock, Plane, Stop
from headway.core import config as configs
from headway.core.blobs import Blobs
from headway.core.clock import SystemClock, rfc3339
from headway.core.config import Config
from headway.core.coordinator import Identity
from headway.core.errors import BrokenError, HeadwayError, UnavailableError
from headway.core.home import find_home
from headway.core.jetstream import JetStreamLog
from headway.core.log import Unknown
from headway.core.outputs import Outputs
from headway.core.server import Server, Settings, outside_endpoint
from headway.core.wire import Wire
from headway.projections.follower import Follower
from headway.projections.store import Store

IDLE_LOOK_SECONDS: Final = 1.0
READERS: Final = ("projector", "log")
"""Parts that go on until everything that writes has ended."""
END_SECONDS: Final = 2.0
PREPARE_SECONDS: Final = 15.0
PREPARE_PAUSE_SECONDS: Final = 0.2
SWITCH_SECONDS: Final = 0.0002
"""How long a busy event loop may keep the tables' threads from running; Python's own 5 ms let them starve."""

T = TypeVar("T")
logger = logging.getLogger("headway.service")


class AlreadyRunning(UnavailableError):
    """Another service has this home."""


def main(*, detached: bool = False) -> int:
    """Run the service of this environment's home until it is stopped; the exit status."""
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(name)s: %(message)s", stream=sys.stderr)
    sys.setswitchinterval(SWITCH_SECONDS)
    home = Path(find_home(os.environ))
    try:
        with _home_lock(home):
            config = configs.load(home, os.environ)
            return asyncio.run(_serve(home, config, detached=detached))
    except AlreadyRunning as error:
        if detached:
            return 0  # who started us finds the other one
        raise error from None


@contextlib.contextmanager
def _home_lock(home: Path) -> Iterator[None]:
    """Hold the home for this process; the kernel lets go when the process ends, however it does."""
    try:
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = os.open(home / "service.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        where = error.filename or str(home)
        raise UnavailableError(
            f"cannot use the state folder {home}: {(error.strerror or str(error)).lower()}: {where}",
            next="set HEADWAY_HOME to a folder you may write to",
        ) from None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        raise AlreadyRunning(f"a service is running in {home}", next="see 'headway status'") from None
    yield  # and it stays locked to the end of the process, so that who waits for the lock waits for that


async def _serve(home: Path, config: Config, *, detached: bool) -> int:
    stop = Stop()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        loop.add_signal_handler(number, stop.now)
    async with _plane(home, config, stop) as plane:
        control = Control(home, operations(plane))
        _write_record(home, plane.started)
        await control.start()
        if not detached:
            sys.stderr.write(f"headway {__version__} is up in {home}; Ctrl-C stops it\n")
            sys.stderr.flush()
        try:
            await _watch(plane, control, detached=detached)
        except HeadwayError as error:
            control.last_word = error  # whoever waits for an answer is told why there is none
            raise
        except Exception as error:
            control.last_word = BrokenError(
                f"the service failed: {error!r}", next="its log has the details; please report it"
            )
            raise
        finally:
            (home / "service.json").unlink(missing_ok=True)
            await control.close()
    return 0


async def _watch(plane: Plane, control: Control, *, detached: bool) -> None:
    """Everything that goes on while the service is up; returns when it is to stop. Raises what cannot be mended."""
    keeper = OutputKeeper(plane.office, plane.outputs, plane.blobs)
    plane.office.on_lost = keeper
    plane.office.alone = plane.server is not None and plane.server.owned
    plane.follower.listen(plane.log_clock.heard)
    plane.follower.listen(plane.office.departed)
    plane.follower.listen(plane.runner.heard)
    parts = [
        asyncio.create_task(plane.office.run(), name="coordinator"),
        asyncio.create_task(_project(plane), name="projector"),
        asyncio.create_task(plane.runner.run(), name="runner"),
    ]
    if plane.supervising is not None:
        parts.append(plane.supervising)
    if detached:
        parts.append(asyncio.create_task(_idle(plane, control), name="idle"))
    stopping = asyncio.create_task(plane.stop.wait(), name="stop")
    try:
        done, _ = await asyncio.wait({*parts, stopping}, return_when=asyncio.FIRST_COMPLETED)
        for task in done - {stopping}:
            task.result()
    finally:
        plane.stop.now()
        control.deafen(quietly=plane.stop.idle)
        await plane.runner.stop()
        await _end([stopping, *(part for part in parts if part.get_name() not in READERS)])
        await _leave_word(plane)
        await _end(parts)
        await keeper.close()


async def _end(tasks: list[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def _leave_word(plane: Plane) -> None:
    """Nothing is written any more: bring the tables to the end of the log, and say so to who reads them later."""
    try:
        async with asyncio.timeout(END_SECONDS):
            last = await plane.log.last_seq()
            await plane.follower.wait_for(last)
            leave_end(plane.store.path.parent, last)
    except (HeadwayError, Unknown, TimeoutError, OSError) as error:
        logger.warning("the tables may not be at the end of the log: %s", error)


async def _project(plane: Plane) -> None:
    """Keep the tables at the end of the log. When that cannot go on, every question is answered with why."""
    while True:
        try:
            await plane.follower.run()
        except HeadwayError as error:
            logger.error("the tables do not follow the log any more: %s", error.message)
            await plane.follower.rebuilt()


async def _idle(plane: Plane, control: Control) -> None:
    """End the service when nothing has been asked and nothing has run for as long as the configuration says."""
    loop = asyncio.get_running_loop()
    busy = loop.time()
    while loop.time() - max(busy, control.last_used) < plane.config.idle_exit_seconds:
        await asyncio.sleep(IDLE_LOOK_SECONDS)
        if control.connections or (plane.office.unfinished != 0 and plane.office.fatal is None):
            busy = loop.time()
    plane.stop.because_idle()


@contextlib.asynccontextmanager
async def _plane(home: Path, config: Config, stop: Stop) -> AsyncIterator[Plane]:
    """Open everything in order, close it in reverse."""
    async with contextlib.AsyncExitStack() as stack:
        blobs = Blobs(Path(config.blobs))
        store_id = blobs.identity()
        server, supervising = None, None
        if config.nats_url:
            endpoint = outside_endpoint(config.nats_url)
        else:
            settings = Settings(log_max_bytes=config.log_max_bytes, output_max_bytes=config.output_max_bytes)
            server = await Server.start_or_attach(home / "nats", settings=settings)
            stack.push_async_callback(server.stop)
            supervising = asyncio.create_task(server.supervise(), name="log")
            stack.push_async_callback(_ended, supervising)
            endpoint = server.endpoint
        patience_seconds = PREPARE_SECONDS if server is not None else 0.0
        wire = await _insist(lambda: Wire.connect(endpoint, name="headway-control"), patience_seconds)
        stack.push_async_callback(wire.close)
        log = JetStreamLog(wire)
        await _insist(lambda: _prepare(log, server, config), patience_seconds)
        store = await Store.open(home / "projections" / "headway.db")
        stack.push_async_callback(store.close)
        forget_end(store.path.parent)
        clock = SystemClock()
        identity = Identity(
            coordinator=f"{platform.node() or 'host'}-{clock.new_id()[-8:]}",
            headway_version=__version__,
            host=platform.node(),
            pid=os.getpid(),
            store=store_id,
        )
        floor = await log.last_seq()
        yield Plane(
            home=home,
            config=config,
            clock=clock,
            blobs=blobs,
            server=server,
            supervising=supervising,
            wire=wire,
            log=log,
            outputs=Outputs(wire),
            store=store,
            follower=Follower(log, store),
            office=Office(wire, log, blobs, clock, identity),
            runner=LocalRunner(home, config),
            stop=stop,
            started=rfc3339(clock.wall_us()),
            floor=floor,
            log_clock=LogClock(clock, floor=floor),
        )


async def _prepare(log: JetStreamLog, server: Server | None, config: Config) -> None:
    limits = server.limits if server is not None else None
    await log.prepare(
        max_bytes=limits.log_bytes if limits else config.log_max_bytes,
        output_max_bytes=limits.output_bytes if limits else config.output_max_bytes,
    )


async def _insist(act: Callable[[], Awaitable[T]], patience_seconds: float) -> T:
    """Do it until it works. A server of ours may be killed at this very moment; it comes back."""
    loop = asyncio.get_running_loop()
    end = loop.time() + patience_seconds
    while True:
        try:
            return await act()
        except UnavailableError:
            if loop.time() > end:
                raise
            await asyncio.sleep(PREPARE_PAUSE_SECONDS)


async def _ended(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def _write_record(home: Path, started: str) -> None:
    """Say who runs here; a command reads it before it asks."""
    record = {"pid": os.getpid(), "version": __version__, "started": started}
    fresh = home / f"service.json.{os.getpid()}"
    fresh.write_text(json.dumps(record))
    fresh.replace(home / "service.json")


if __name__ == "__main__":
    try:
        sys.exit(main(detached="--detached" in sys.argv[1:]))
    except HeadwayError as error:
        sys.stderr.write(f"error: {error.message}" + (f"; {error.next}" if error.next else "") + "\n")
        sys.exit(error.exit_code)
