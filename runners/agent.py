"""A runner: it takes assignments, keeps its lease, hears of cancellations, runs attempts and reports.

It lives in incarnations. Each has a random id, registers once, and ends for good: when the runner stops, when the
coordinator says that it counts no more, or when its lease could not be renewed in time. Then its work has been killed,
its unanswered facts are said once more in its name, and the next incarnation registers in its place.
"""

from __future__ import annotations

import asyncio
import collections
import enum
import logging
import os
import platform
import secrets
import socket
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Any, Final, TypeVar

import msgspec

from headway import __version__
from headway.core.asks import Answer, LeaveRunner, RegisterRunner
from headway.core.blobs import Blobs
from headway.core.clock import Clock
from headway.core.errors import RefusedError, UnavailableError
from headway.core.fleet import LEASE_SECONDS
from headway.core.link import Link
from headway.core.log import Unknown
from headway.runners.attempt import Tools
from headway.runners.environment import passed_on
from headway.runners.executor import GRACE_SECONDS, Executor, ExecutorBroken
from headway.runners.folder import RunnerFolder
from headway.runners.host import HostExecutor
from headway.runners.incarnation import Incarnation
from headway.runners.reporter import ask_until_answered
from headway.runners.spool import Spool, unanswered

SPARE_SUPERVISORS: Final = 2
LEAVE_SECONDS: Final = 2.0
RECONNECT_SECONDS: Final = 0.5

logger = logging.getLogger("headway.runner")

T = TypeVar("T")


class RunnerSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What a runner is. `with_service` ends it when the control plane is gone for a whole lease."""

    home: Path
    name: str
    labels: tuple[str, ...] = ()
    slots: int = 1
    blobs: Path
    wait_lock: bool = False
    with_service: bool = False
    lease_seconds: float = LEASE_SECONDS
    grace_seconds: float = GRACE_SECONDS
    environ: dict[str, str] = {}


class End(enum.Enum):
    """Why an incarnation ended."""

    STOPPED = "stopped"
    REPLACED = "replaced"
    LAPSED = "lapsed"


class Agent:
    """The runner's life. `connect` makes a link to wherever the log is now; it is called for each incarnation."""

    def __init__(self, settings: RunnerSettings, *, connect: Callable[[], Awaitable[Link]], clock: Clock) -> None:
        self._settings = settings
        self._connect = connect
        self._clock = clock
        self._folder = RunnerFolder(settings.home, settings.name)
        self._blobs = Blobs(settings.blobs)
        self._slots: collections.deque[Executor] = collections.deque()
        self._stopping = asyncio.Event()
        self._hurry = asyncio.Event()

    def stop(self) -> None:
        """Take nothing new, let what runs finish for a while, leave. Called again: do not wait."""
        if self._stopping.is_set():
            self._hurry.set()
        self._stopping.set()

    async def run(self) -> None:
        """Be a runner until stopped. Raises RefusedError or UnavailableError when that cannot be."""
        await self._until_stopped(self._folder.lock(wait=self._settings.wait_lock))
        if self._stopping.is_set():
            return
        try:
            await asyncio.to_thread(self._folder.clean)
            await asyncio.to_thread(self._blobs.remove_stale)
            self._slots.extend(HostExecutor(lock_fds=(self._folder.lock_fd,)) for _ in range(self._settings.slots))
            for slot in list(self._slots)[:SPARE_SUPERVISORS]:
                assert isinstance(slot, HostExecutor), "slots are host executors"
                slot.start()
            while await self._live_once() is not End.STOPPED:
                logger.warning("the runner begins anew")
        except ExecutorBroken as error:
            raise UnavailableError(
                f"jobs of an earlier runner are still there: {error}", next="end these processes, then start again"
            ) from error
        finally:
            await asyncio.gather(*(slot.close() for slot in self._slots), return_exceptions=True)
            self._folder.unlock()

    async def _live_once(self) -> End:
        """One incarnation, from its connection to its end."""
        link = await self._until_stopped(self._reach())
        if link is None:
            return End.STOPPED
        try:
            name = f"{self._settings.name}-{secrets.token_hex(4)}"
            registering = self._begin(link, name)
            if self._settings.with_service:
                registering = self._limited(registering)
            if await self._until_stopped(registering) is None:
                await self._leave(link, name)  # it may have been registered all the same
                return End.STOPPED
            return await self._serve(link, name)
        finally:
            await link.close()

    async def _serve(self, link: Link, name: str) -> End:
        tools = Tools(
            link=link,
            blobs=self._blobs,
            spool=Spool(self._folder.spool(name)),
            clock=self._clock,
            work=self._folder.work,
            system=passed_on(self._settings.environ),
            grace_seconds=self._settings.grace_seconds,
        )
        life = Incarnation(name, tools=tools, slots=self._slots, lease_seconds=self._settings.lease_seconds)
        try:
            over = await life.serve(stopping=self._stopping, hurry=self._hurry)
        finally:
            tools.spool.close()
        if over == "":
            await self._leave(link, name)
            return End.STOPPED
        logger.warning("runner %s ended: %s", name, over)
        if life.lapsed and self._settings.with_service:
            raise UnavailableError(over, next="see why the control plane is gone, in service.log")
        return End.LAPSED if life.lapsed else End.REPLACED

    async def _reach(self) -> Link:
        """A link to the log, however long it takes; with the service, only so long."""
        loop = asyncio.get_running_loop()
        end = loop.time() + self._settings.lease_seconds
        said = False
        while True:
            try:
                return await self._connect()
            except UnavailableError as error:
                if self._settings.with_service and loop.time() > end:
                    raise
                if not said:
                    logger.warning("%s; trying again until it works", error.message)
                    said = True
            await asyncio.sleep(RECONNECT_SECONDS)

    async def _begin(self, link: Link, name: str) -> Answer:
        """Say what earlier incarnations could not, then register in their place."""
        for path in self._folder.spools():
            for report in await asyncio.to_thread(unanswered, path):
                answer = await ask_until_answered(link, report)
                logger.info("facts of %s were delivered late: %s", report.runner, answer.refused or "accepted")
            path.unlink(missing_ok=True)
        earlier = self._folder.earlier()
        self._folder.note((*earlier, name))
        register = RegisterRunner(
            runner=name,
            labels=self._settings.labels,
            slots=self._settings.slots,
            host=socket.gethostname(),
            platform=f"{platform.system().lower()}-{platform.machine()}",
            pid=os.getpid(),
            headway_version=__version__,
            replaces=earlier,
            store=self._blobs.identity(),
        )
        answer = await ask_until_answered(link, register)
        if answer.refused:
            raise RefusedError(f"the runner was refused: {answer.refused}", next=answer.next or "see 'headway doctor'")
        self._folder.note((name,))
        logger.info("runner %s is registered", name)
        return answer

    async def _leave(self, link: Link, name: str) -> None:
        """Say goodbye; if nobody answers, the lease runs out."""
        try:
            await link.ask(LeaveRunner(runner=name), timeout_seconds=LEAVE_SECONDS)
        except Unknown:
            logger.warning("nobody answered that runner %s leaves", name)

    async def _limited(self, registering: Coroutine[Any, Any, Answer]) -> Answer:
        try:
            async with asyncio.timeout(self._settings.lease_seconds):
                return await registering
        except TimeoutError:
            raise UnavailableError(
                "the control plane does not answer", next="see why in service.log, then 'headway up'"
            ) from None

    async def _until_stopped(self, work: Coroutine[Any, Any, T]) -> T | None:
        """Do this, unless the runner is stopped first: then it is cancelled, and the answer is None."""
        doing = asyncio.create_task(work)
        stopping = asyncio.create_task(self._stopping.wait())
        try:
            await asyncio.wait((doing, stopping), return_when=asyncio.FIRST_COMPLETED)
            return doing.result() if doing.done() else None
        finally:
            stopping.cancel()
            doing.cancel()
            await asyncio.gather(doing, stopping, return_exceptions=True)
