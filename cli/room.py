"""The log's room as the service sees it: how full it is in words, and who may still submit.

What unfinished runs may still write follows from their plans and from how many of their jobs are open: the coordinator
in this process knows, and where there is none the tables do.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import msgspec

from headway.cli.plane import Plane
from headway.cli.text import size
from headway.core.blobs import Blobs
from headway.core.config import Config, config_path
from headway.core.errors import HeadwayError, RefusedError
from headway.core.log import Unknown
from headway.core.plan import Job, decode_job, decode_plan
from headway.core.room import Promise, Room, days_left, judge, promise_of, unknown_job_bytes
from headway.core.run import Run
from headway.core.world import World
from headway.projections import growth, queries
from headway.projections.growth import Unfinished

DAYS_SAID_MAX: Final = 3650
"""Further ahead than this nobody plans."""

UNREADABLE: Final = (HeadwayError, OSError, msgspec.MsgspecError)


async def look(plane: Plane) -> dict[str, Any]:
    """How full the log is, as data and in words. Raises Unknown when the log's server does not say."""
    room = await plane.log.room()
    days = None
    try:
        async with plane.store.reading() as db:
            grown = await growth.of_last_day(db)
        days = days_left(room, events=grown.events, span_us=grown.span_us)
    except HeadwayError:
        pass  # without tables nobody knows the rate
    return {
        "bytes": room.bytes,
        "bytes_max": room.bytes_max,
        "share": round(room.share, 4),
        "days_left": None if days is None else round(days, 1),
        "level": room.level,
        "words": words(room, days),
    }


def words(room: Room, days: float | None) -> str:
    """How full the log is, for people, and how long it will do."""
    said = used(room)
    if 0 < room.bytes_max <= room.bytes:
        return f"{said}: no new runs are taken, those under way end"
    if days is None or days > DAYS_SAID_MAX:
        return said
    left = "less than a day" if days < 1 else "1 day" if days < 2 else f"{int(days)} days"
    return f"{said}, {left} left at the present rate"


def used(room: Room) -> str:
    """How full the log is, for people."""
    if room.bytes_max <= 0:
        return f"{size(room.bytes)} used, without a limit"
    return f"{size(room.bytes)} of {size(room.bytes_max)} used ({int(room.share * 100)} %)"


def more_room(config: Config, bytes_max: int) -> str:
    """What gives a log of this limit more room."""
    again = "and restart with 'headway down' and 'headway up'"
    if 0 < bytes_max < config.log_max_bytes:
        return f"free some space on the log's disk, which allows {size(bytes_max)}, {again}"
    if config.origins.get("log_max_bytes") == "environment":
        return f"raise HEADWAY_LOG_MAX_BYTES {again}"
    return f"raise log_max_bytes in {config_path(Path(config.home))} {again}"


class Doorkeeper:
    """Refuses a run that might leave no room for those that were admitted."""

    def __init__(self, plane: Plane) -> None:
        self._plane = plane
        self._promises: dict[str, Promise] = {}
        self._entering: dict[str, int] = {}
        self._at_the_door = asyncio.Lock()

    @asynccontextmanager
    async def room_for(self, run: str, jobs: Iterable[Job], parameters: Mapping[str, str]) -> AsyncIterator[None]:
        """Hold room for a run while it is admitted. Raises RefusedError when there is none.

        A run that is known already enters again: who asks twice gets the answer of the first time.
        """
        promise = promise_of(jobs, parameters, attempt_losses_max=self._plane.config.attempt_losses_max)
        silent = await self._is_log_silent()  # asked before the door: who waits for that need not wait in line
        async with self._at_the_door:  # one at a time: who comes next finds the room of the one before taken
            refusal = None if silent else await self._refusal(run, promise)
            if refusal is not None and not await self._is_known(run):
                raise refusal
            self._entering[run] = promise.bytes
            self._promises[run] = promise
        try:
            yield
        finally:
            self._entering.pop(run, None)

    async def _is_log_silent(self) -> bool:
        try:
            await self._plane.log.room()
        except Unknown:
            return True  # the coordinator waits for the log, or says that it is away
        return False

    async def _is_known(self, run: str) -> bool:
        world = self._world()
        if run in self._entering or (world is not None and (run in world.runs or run in world.finished)):
            return True
        try:
            async with self._plane.store.reading() as db:
                await queries.resolve(db, run)
        except HeadwayError:
            return False
        return True

    async def _refusal(self, run: str, promise: Promise) -> RefusedError | None:
        plane = self._plane
        unfinished = await self._unfinished()
        unfinished += sum(one for other, one in self._entering.items() if other != run)
        try:
            room = await plane.log.room()  # last: what is written meanwhile counts twice rather than not at all
        except Unknown:
            return None
        verdict = judge(room, unfinished_bytes=unfinished, new_bytes=promise.bytes)
        if verdict == "fits":
            return None
        if verdict == "full":
            message, next_step = f"the log is at its limit and takes no new runs: {used(room)}", ""
        else:
            others = f"unfinished runs may write {size(unfinished)} more, " if unfinished else ""
            this = f"this one up to {size(promise.bytes)}"
            message = f"the log has no room for this run: {used(room)}, {others}{this}"
            next_step = "wait for runs to end, or " if unfinished else ""
        return RefusedError(message, next=next_step + more_room(plane.config, room.bytes_max))

    async def _unfinished(self) -> int:
        """What admitted runs may still write at most."""
        runs = {one.run: one for one in await self._runs() if one.run not in self._entering}
        self._promises = {run: one for run, one in self._promises.items() if run in runs or run in self._entering}
        for one in runs.values():
            if one.run not in self._promises:  # it was admitted by another process, or before this one began
                self._promises[one.run] = await asyncio.to_thread(_promise_again, one, self._plane.blobs)
        return sum(self._promises[run].left(one.open_jobs) for run, one in runs.items() if run in self._promises)

    async def _runs(self) -> list[Unfinished]:
        """The unfinished runs."""
        world = self._world()
        if world is not None:
            return [_unfinished(run) for run in world.runs.values()]
        try:
            await self._plane.caught_up()
            async with self._plane.store.reading() as db:
                return await growth.unfinished(db)
        except HeadwayError:
            return []  # what there is to say of the tables is said by who needs them

    def _world(self) -> World | None:
        coordinator = self._plane.office.coordinator
        return coordinator.desk.world if coordinator is not None and coordinator.desk is not None else None


def _unfinished(run: Run) -> Unfinished:
    return Unfinished(
        run=run.id,
        plan_digest=run.plan_digest,
        parameters=run.parameters,
        jobs=run.job_count,
        open_jobs=run.job_count - len(run.jobs) + run.open_jobs,
        attempt_losses_max=run.attempt_losses_max,
    )


def _promise_again(run: Unfinished, blobs: Blobs) -> Promise:
    """The promise of a run that was admitted earlier, from its plan; by a safe average where that cannot be read."""

    def whole(job: Job) -> Job | None:
        if not job.definition_digest:
            return job
        try:
            return decode_job(blobs.get(job.definition_digest))
        except UNREADABLE:
            return None

    try:
        plan = decode_plan(blobs.get(run.plan_digest))
    except UNREADABLE:
        job_bytes = unknown_job_bytes(run.attempt_losses_max)
        return Promise(bytes=(run.jobs + 1) * job_bytes, job_bytes=job_bytes)
    return promise_of(plan.jobs, run.parameters, attempt_losses_max=run.attempt_losses_max, whole=whole)
