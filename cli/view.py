"""Where questions look: the tables of a running service or the file of one that is down, now or at a moment."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any, Protocol

import msgspec

from headway.cli.control import Request
from headway.core.blobs import Blobs
from headway.core.clock import rfc3339
from headway.core.errors import NotFoundError, UsageError
from headway.core.hearing import TIME_MAX_US
from headway.core.log import Log
from headway.projections import queries
from headway.projections.past import past, seq_at, time_at
from headway.projections.reader import Connection
from headway.projections.records import Live, ShowRecord

SEQ_MAX = 1 << 63
AHEAD_US_MAX = 1_000_000
"""How far in the future a moment may be and still mean now."""


class View(Protocol):
    """A place to look. `path` is the file of the tables, `log` what they are made of, where it can be reached."""

    blobs: Blobs
    path: Path
    log: Log | None
    past_seats: asyncio.Semaphore
    """How many questions about the past are answered at once: each has tables of its own."""

    def now_us(self) -> int:
        """The time by the log's clock, in microseconds since 1970 UTC."""
        ...

    def present(self, *, patient: bool = True) -> AbstractAsyncContextManager[Connection]:
        """The tables as they are, with all that was written before the question. Raises UnavailableError.

        Who is not `patient` gets them as far as they go, at once.
        """
        ...

    async def caught_up(self, *, seconds: float) -> bool:
        """Whether the tables have all that was written before the question, waiting so long for it at most."""
        ...

    def live(self) -> Live | None:
        """What the service knows; None when none is running."""
        ...

    async def output(self, run: str, job: str, attempt: int) -> list[bytes]:
        """What the output stream holds of an attempt, as far as it can be reached."""
        ...

    async def project(self, folder: str) -> str:
        """The project of a folder, for `@`."""
        ...


class Sight(msgspec.Struct, frozen=True):
    """The tables at one moment. `as_of` is the last event in them; open states are as old as `now_us` says.

    `past` says that the moment was asked for.
    """

    db: Connection
    as_of: int
    now_us: int
    past: bool


@asynccontextmanager
async def look(view: View, request: Request, *, run: str = "", patient: bool = True) -> AsyncGenerator[Sight, None]:
    """The tables at the moment the request asks for, which is now unless it has `at`.

    With a `run` the past may hold only that one; NotFoundError is raised when it was not there yet. Who is not
    `patient` gets the tables as far as they go.
    """
    async with view.present(patient=patient) as db:
        moment = await moment_of(view, request, db)
        if moment is None:
            [(as_of, logged)] = await db.execute_fetchall("select position, logged from meta")
            yield Sight(db, as_of, max(view.now_us(), logged), False)
            return
    seq, now_us = moment
    async with view.past_seats, past(view.path, seq, run=run) as db:
        if run and not list(await db.execute_fetchall("select 1 from runs where run = ?", (run,))):
            raise NotFoundError(
                f"run {run} was not there yet after event {seq} ({rfc3339(now_us)})", next="ask for a later moment"
            )
        yield Sight(db, seq, now_us, True)


async def moment_of(view: View, request: Request, db: Connection) -> tuple[int, int] | None:
    """The event and the time that `at` means; None when it is not asked for."""
    at = request.arguments.get("at")
    if at is None:
        return None
    match at:
        case {"seq": int(seq)} if not isinstance(seq, bool) and 0 <= seq < SEQ_MAX:
            return seq, await time_at(db, seq)
        case {"time_us": int(time_us)} if not isinstance(time_us, bool) and 0 <= time_us <= TIME_MAX_US:
            if time_us > view.now_us() + AHEAD_US_MAX:
                raise UsageError(f"{rfc3339(time_us)} has not come yet", next="give a moment that is over")
            return await seq_at(db, time_us), time_us
        case _:
            raise UsageError("at must be a sequence or a time", next="such as 1234, 14:30 or 10m ago")


async def run_of(view: View, request: Request, name: str = "", *, patient: bool = True) -> str:
    """The id behind the request's RUN: an id, a unique beginning or end of one, or `@`. Raises NotFoundError."""
    name = name or request.text("run")
    async with view.present(patient=patient) as db:
        if name != "@":
            return await queries.resolve(db, name)
        moment = await moment_of(view, request, db)
        until = moment[0] if moment else 0
        try:
            project = await view.project(request.text("cwd"))
        except (OSError, ValueError) as error:
            raise UsageError(f"the present folder cannot be used: {error}", next="name the run by its id") from None
        found = await queries.latest(db, project, request.actor, until=until)
        found = found or await queries.latest(db, project, until=until)
    if found is None:
        when = f"had no run yet after event {until}" if until else "has no run yet"
        raise NotFoundError(f"project {project} {when}", next="start one with 'headway run'")
    return found


async def show_now(view: View, run: str) -> ShowRecord:
    """All there is to know of a run now."""
    async with view.present() as db:
        return await queries.show(db, run)


def answer(found: msgspec.Struct | dict[str, Any], sight: Sight) -> dict[str, Any]:
    """A record as it goes over the socket: first the moment it is of, to which the ages of open states count.

    What is in it stays as it is: whoever sends it makes text of it, once.
    """
    fields = found if isinstance(found, dict) else msgspec.structs.asdict(found)
    return {"as_of": sight.as_of, "now": rfc3339(sight.now_us), **fields}
