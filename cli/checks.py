"""What the service can say of its own health, a line each."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any, Final

from headway.cli.plane import Plane
from headway.cli.room import look, more_room
from headway.core.durability import describe
from headway.core.errors import HeadwayError
from headway.core.log import Unknown
from headway.projections import clocks

SETTLE_SECONDS: Final = 3.0


def check(name: str, level: str, words: str, *, next: str = "") -> dict[str, Any]:
    """One line of `headway doctor`: ok, warning or error; only an error is wrong."""
    return {"name": name, "ok": level != "error", "level": level, "words": words, "next": next}


async def checks(plane: Plane) -> list[dict[str, Any]]:
    """Log, coordinator, tables, runner, clocks, disk, and what of durability is and is not vouched for."""
    await _settled(plane)
    found = [_coordinator(plane), await _log(plane), await _tables(plane), _runner(plane), await _clocks(plane)]
    try:
        findings = await describe(server=plane.server, wire=plane.wire)
    except (Unknown, HeadwayError) as error:
        return [*found, check("durability", "warning", f"could not be read: {error}", next="see the log's server")]
    return [
        *found,
        *(check(f"durability: {one.what}", "ok" if one.vouched else "warning", one.words) for one in findings),
    ]


async def _settled(plane: Plane) -> None:
    """Let a service that has just been started get on its feet, so that its first seconds are no trouble."""
    with suppress(TimeoutError):
        async with asyncio.timeout(SETTLE_SECONDS if plane.office.alone else 0):
            await plane.office.settled.wait()


def _coordinator(plane: Plane) -> dict[str, Any]:
    coordinator = plane.office.coordinator
    if coordinator is not None and coordinator.desk is not None:
        return check("coordinator", "ok", "this service coordinates")
    trouble = plane.office.trouble
    if coordinator is not None:
        trouble = coordinator.trouble or trouble or "the log does not answer"
    if trouble:
        return check("coordinator", "error", trouble, next="see the service's log")
    return check("coordinator", "warning", "this service stands by; another one coordinates")


async def _log(plane: Plane) -> dict[str, Any]:
    try:
        found = await look(plane)
    except (Unknown, HeadwayError) as error:
        return check("log", "error", f"cannot be read: {error}", next="see the log's server")
    if plane.disk_trouble:
        return check("log", "error", plane.disk_trouble, next="free some space, and it goes on by itself")
    return check("log", found["level"], found["words"], next=more_room(plane.config, found["bytes_max"]))


async def _tables(plane: Plane) -> dict[str, Any]:
    try:
        await plane.caught_up()
    except HeadwayError as error:
        return check("tables", "error", error.message, next=error.next)
    behind = max(0, plane.office.seq - plane.follower.position)
    if plane.follower.trouble:
        return check("tables", "error", f"{behind} events behind: {plane.follower.trouble}", next="free space, restart")
    return check("tables", "ok", f"{behind} events behind the log" if behind else "at the end of the log")


def _runner(plane: Plane) -> dict[str, Any]:
    if plane.runner.pid:
        return check("runner", "ok", f"local, process {plane.runner.pid}, {plane.config.slots} slots")
    return check("runner", "warning", "the local runner has not started yet")


async def _clocks(plane: Plane) -> dict[str, Any]:
    try:
        async with plane.store.reading() as db:
            found = await clocks.clocks(db)
    except HeadwayError as error:
        return check("clocks", "warning", f"cannot be compared: {error.message}", next=error.next)
    return check("clocks", *clocks.verdict(found), next="let the machines keep their clocks by NTP")
