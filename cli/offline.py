"""Questions without a service: the same answers from the file of the tables, and how far behind it may be.

The file is read only. A service that stops in good order leaves word of the last event it wrote; where that is missing
(it was killed), the log may hold more than the tables.
"""

from __future__ import annotations

import asyncio
import json
import os
import sqlite3
import time
from collections.abc import AsyncGenerator, Iterator, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, Final

import msgspec

from headway.cli import render
from headway.cli.control import Answers, Request, user_name
from headway.cli.questions import QUESTIONS
from headway.cli.text import ago, clean
from headway.core import config as configs
from headway.core.blobs import Blobs
from headway.core.clock import SystemClock, rfc3339
from headway.core.config import Config
from headway.core.errors import HeadwayError, UnavailableError
from headway.core.log import Log, Unknown
from headway.projections.place import explained
from headway.projections.reader import Connection, open_reader
from headway.projections.records import Live
from headway.projections.schema import SCHEMA_VERSION
from headway.runners.source import project_name

END_FILE: Final = "end.json"
OUTSIDE_SECONDS: Final = 2.0


def answered(home: str, op: str, arguments: Mapping[str, Any], *, tell: bool) -> Iterator[dict[str, Any]]:
    """The answers to a question; with `tell` the person first learns what they are of."""
    config = configs.load(Path(home), os.environ)
    view = FileView(Path(home), config)
    actor = f"user:{user_name(os.getuid())}"
    request = Request(op=op, arguments=dict(arguments), actor=actor, progress=lambda text: render.say(clean(text)))
    with asyncio.Runner() as runner:
        if tell:
            render.say(runner.run(view.told()))
        answers: Answers = QUESTIONS[op](view, request)
        try:
            while True:
                try:
                    yield msgspec.to_builtins(runner.run(anext(answers)))
                except StopAsyncIteration:
                    return
        finally:
            runner.run(answers.aclose())


class FileView:
    """The tables that a service has left."""

    def __init__(self, home: Path, config: Config) -> None:
        self.past_seats = asyncio.Semaphore(1)
        self.blobs = Blobs(Path(config.blobs))
        self.path = home / "projections" / "headway.db"
        self.log: Log | None = None
        self._config = config

    @asynccontextmanager
    async def present(self, *, patient: bool = True) -> AsyncGenerator[Connection, None]:
        """The tables as they were left."""
        connection = await open_reader(self.path)
        try:
            await connection.execute_fetchall("begin")
            await self._check(connection)
            yield connection
        except sqlite3.Error as error:
            raise explained(error, self.path) from error
        finally:
            await connection.close()

    async def caught_up(self, *, seconds: float) -> bool:
        """There is nothing to wait for."""
        return True

    def now_us(self) -> int:
        """This machine's clock."""
        return SystemClock().wall_us()

    async def _check(self, connection: Connection) -> None:
        """Whether these are the tables that this version reads. Raises UnavailableError."""
        try:
            found = [tuple(row) for row in await connection.execute_fetchall("select schema_version from meta")]
        except sqlite3.OperationalError as error:
            if (error.sqlite_errorcode & 0xFF) != sqlite3.SQLITE_ERROR:
                raise
            found = []  # there is no such table
        if found != [(SCHEMA_VERSION,)]:
            what = "was written by another version of Headway" if found else "does not hold the tables"
            raise UnavailableError(f"{self.path} {what}", next="'headway up' makes them again from the log")

    def live(self) -> Live | None:
        """Nobody is there."""
        return None

    async def output(self, run: str, job: str, attempt: int) -> list[bytes]:
        """The output stream is not served while the service is down."""
        render.say(f"what {clean(job)} printed in attempt {attempt} is not kept as a blob yet, and cannot be shown now")
        return []

    async def project(self, folder: str) -> str:
        """The project of a folder."""
        return await asyncio.to_thread(project_name, Path(folder or "/"))

    async def told(self) -> str:
        """What is shown, and how far behind the log it is, in one sentence."""
        async with self.present() as db:
            [(position, logged)] = await db.execute_fetchall("select position, logged from meta")
        when = f", {ago(rfc3339(logged), now=time.time())}" if position else ""
        return f"the service is not running; this is as of event {position}{when}; {await self._behind(position)}"

    async def _behind(self, position: int) -> str:
        if self._config.nats_url:
            try:
                last = await _end_of(self._config.nats_url)
            except (HeadwayError, Unknown, TimeoutError):
                return "the log cannot be reached, and may hold more"
            return f"the log holds {last - position} more" if last > position else "the log holds no more"
        last = end_left(self.path.parent)
        if last == position:
            return "the log holds no more"
        return "the service did not stop in good order, the log may hold more: 'headway up' brings them in"


def leave_end(folder: Path, seq: int) -> None:
    """Leave word beside the tables that they hold the whole log, up to this event."""
    fresh = folder / f"{END_FILE}.{os.getpid()}"
    fresh.write_text(json.dumps({"seq": seq}))
    fresh.replace(folder / END_FILE)


def forget_end(folder: Path) -> None:
    """A service is there again."""
    with suppress(OSError):  # what cannot be removed is no word of a service, and is not read as one
        (folder / END_FILE).unlink(missing_ok=True)


def end_left(folder: Path) -> int:
    """The last event of the log, as the service left word of it; -1 when it did not."""
    try:
        found = json.loads((folder / END_FILE).read_bytes())
    except (OSError, ValueError, RecursionError):
        return -1
    seq = found.get("seq") if isinstance(found, dict) else None
    return seq if isinstance(seq, int) else -1


async def _end_of(url: str) -> int:
    """The last sequence of the log on an outside server."""
    from headway.core.jetstream import JetStreamLog
    from headway.core.server import outside_endpoint
    from headway.core.wire import Wire

    wire = await Wire.connect(outside_endpoint(url), name="headway", timeout_seconds=OUTSIDE_SECONDS)
    try:
        async with asyncio.timeout(OUTSIDE_SECONDS):
            return await JetStreamLog(wire).last_seq()
    finally:
        await wire.close()
