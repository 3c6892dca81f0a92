"""Whether what is kept is whole: the chain of events, the seals, the tables against the log, and the blobs.

Nothing is changed or moved. Everything is looked at as it is, also where the tables stand still because of what is
wrong: then that is said, and the rest is looked at all the same.
"""

from __future__ import annotations

import asyncio
import re
import sqlite3
from collections.abc import AsyncGenerator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, aclosing
from typing import Any, Final

import msgspec

from headway.cli.control import Answers, Request
from headway.cli.progress import Throttle
from headway.cli.questions.walk import Walk
from headway.cli.view import View
from headway.core.chain import Read
from headway.core.clock import rfc3339
from headway.core.errors import HeadwayError, NotFoundError, UnavailableError, UsageError
from headway.core.findings import ERROR, Finding, Findings
from headway.core.log import Log, Stored, Unknown
from headway.projections import queries
from headway.projections.reader import Connection
from headway.projections.scratch import WAITING, alone, busy
from headway.projections.verifying import (
    AGAIN,
    HOLES_MAX,
    Refold,
    ends,
    events_in,
    is_trouble,
    other_version,
    still,
)
from headway.projections.verifying_run import RunCheck

RUN: Final = re.compile(r"[A-Za-z0-9_-]{1,128}")
EVENTS: Final = "events"
TABLES: Final = "tables"
BLOBS: Final = "blobs"
TRIES: Final = 10
PAUSE_SECONDS: Final = 0.1
ONE_RUN: Final = "select distinct run from events where run >= ? and run < ? limit 2"


class Verification:
    """What there is to look at, what was found so far, and what could not be looked at."""

    def __init__(self, view: View, request: Request) -> None:
        self.view = view
        self.findings = Findings()
        self.rows = 0
        self.db: Connection | None = None
        self.log: Log | None = view.log
        self.end = 0
        self.until = 0
        self.say = Throttle(request.progress)
        self._not_checked: list[str] = []
        self._incomplete: list[str] = []
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Verification:
        try:
            await self._open_log()
            caught_up = await self._open_tables()
            await self._agree(caught_up)
            if self.db is None and self.log is None:
                raise UnavailableError("neither the log nor the tables can be read", next="see 'headway doctor'")
        except BaseException:
            await self._stack.aclose()
            raise
        return self

    async def __aexit__(self, *raised: object) -> None:
        await self._stack.aclose()

    def not_checked(self, what: str, why: str) -> None:
        """Something of events or tables was to be looked at and could not be."""
        self._not_checked.append(why)
        if what not in self._incomplete:
            self._incomplete.append(what)

    async def _open_log(self) -> None:
        """The log, as far as it goes now."""
        if self.log is None:
            words = "the log: the service is not running; its events are as the tables have them"
            self._not_checked.append(words)
            return
        try:
            self.end = await self.log.last_seq()
        except Unknown as error:
            self._lose_log(error)

    def _lose_log(self, error: Unknown) -> None:
        """Go on with the copies that the tables have of the events."""
        self.log = None
        self.not_checked(EVENTS, f"the log: {error}")

    async def _open_tables(self) -> bool:
        """The tables at one moment. Whether they have all that was written before, as far as they know."""
        caught_up = True
        try:
            async with self.view.present():
                pass
        except HeadwayError as error:
            caught_up = False
            self.not_checked(TABLES, f"what the tables do not have yet: {error.message}")
        try:
            await self._still(TRIES if caught_up else 1)
        except (HeadwayError, sqlite3.Error) as error:
            self.damaged(error)
        return caught_up

    async def _still(self, tries: int) -> None:
        """A moment of the tables in which they are as far as the log was, if that comes."""
        while True:
            tries -= 1
            async with AsyncExitStack() as stack:
                db = await stack.enter_async_context(still(self.view.path))
                until = max(await ends(db))
                if until >= self.end or tries <= 0:
                    self.findings.add(await other_version(db))
                    self.db, self.until = db, until
                    self._stack.push_async_callback(stack.pop_all().aclose)
                    return
            await asyncio.sleep(PAUSE_SECONDS)

    async def _agree(self, caught_up: bool) -> None:
        """Look at the log as far as the tables go, and at least as far as it went when this began."""
        if self.log is not None and self.db is not None and self.until > self.end:
            try:
                self.end = max(self.end, min(self.until, await self.log.last_seq()))
            except Unknown as error:  # nobody knows whether it has what the tables have by now
                self._lose_log(error)
        if self.log is None:
            self.end = self.until
        elif self.db is not None and self.until < self.end and caught_up:
            words = f"the row '1' of meta: the tables end at event {self.until}, and the log at event {self.end}"
            one = Finding(code="row", words=words, table="meta", key="1", column="position", next=AGAIN)
            self.findings.add([one])
        if self.until - self.end > HOLES_MAX:
            self.until = self.end

    def damaged(self, error: Exception) -> None:
        """The tables cannot be read: their own fault, or that of something else."""
        if is_trouble(error):
            self.not_checked(TABLES, f"the rows: the tables cannot be read now: {error}")
        else:
            words = f"the tables cannot be read: {error}"
            self.findings.add([Finding(code="damaged", words=words, table="meta", next=AGAIN)])
            self.not_checked(TABLES, "the rows: the tables cannot be read")
        self.db = None

    def entries(self, *, run: str = "") -> AsyncGenerator[list[Stored], None]:
        """The events there are, of one run or all: the log's, or the tables' copies of them."""
        if self.log is not None:
            return self.log.read(end=self.end, subjects=(f"headway.run.*.{run}.>",) if run else ())
        assert self.db is not None, "there is either a log or tables"
        return events_in(self.db, until=self.end, run=run)

    async def fold(self, refold: Refold, entries: list[Read]) -> None:
        """Fold the next entries, while the tables can be read that are to be compared with what comes of it."""
        if self.db is not None:
            try:
                self.findings.add(await refold.take(entries))
            except sqlite3.Error as error:
                self.damaged(error)

    async def compare(self, refold: Refold) -> None:
        """Compare the tables with what was folded."""
        if self.db is None:
            return
        try:
            self.findings.add(await refold.finish())
            if not refold.trouble:
                async with aclosing(refold.compare()) as found:
                    async for some in found:
                        self.findings.add(some)
        except sqlite3.Error as error:
            self.damaged(error)
            return
        if refold.trouble:
            self.not_checked(TABLES, f"the rows: {refold.trouble}")
        self.rows = refold.rows

    def report(self, run: str, walk: Walk | None) -> dict[str, Any]:
        """What was looked at, what was found, and what could not be looked at."""
        checked = {**(walk.checked() if walk is not None else {}), "rows": self.rows}
        return {
            "as_of": self.end,
            "now": rfc3339(self.view.now_us()),
            "run": run or None,
            "log": self.log is not None,
            "checked": checked,
            "findings": [{"level": ERROR, **msgspec.to_builtins(one)} for one in self.findings.kept],
            "left_out": self.findings.left_out,
            "not_checked": self._not_checked,
            "incomplete": self._incomplete,
            "ok": not self.findings.failed and not self._incomplete,
        }


async def verify(view: View, request: Request) -> Answers:
    """Chain, seal, tables and blobs, of one run or of everything."""
    everything, name = request.flag("all"), request.text("run")
    if everything == bool(name):
        raise UsageError("what is to be verified is not said", next="name a RUN, or say --all for everything")
    async with AsyncExitStack() as stack:
        if everything:
            await stack.enter_async_context(_alone(view, request))
        this = await stack.enter_async_context(Verification(view, request))
        if everything:
            found = await _everything(this, blobs=True)
        else:
            found = await _one(this, await _run(this, name, request))
    yield found


async def projections_verify(view: View, request: Request) -> Answers:
    """Fold the log into another file and compare all rows."""
    async with _alone(view, request), Verification(view, request) as this:
        if this.db is None:
            found = this.report("", None)
        else:
            found = await _everything(this, blobs=False)
    yield found


def _alone(view: View, request: Request) -> AbstractAsyncContextManager[None]:
    """The tables are folded anew by one at a time."""
    if busy(view.path):
        request.progress(WAITING)
    return alone(view.path)


async def _everything(this: Verification, *, blobs: bool) -> dict[str, Any]:
    """All events in order, each once: for its chain, its blobs, and the fold."""
    walk = Walk(this.view.blobs if blobs else None, this.say, on_log=this.log is not None, chain=blobs)
    refold = await _begin(this)
    try:
        async with AsyncExitStack() as stack:
            stack.callback(walk.stop)
            if blobs and this.log is not None:
                await walk.open_aside(this.view.path, stack)
            async with aclosing(this.entries()) as batches:
                async for batch in batches:
                    entries, found = await walk.take(batch)
                    this.findings.add(found)
                    if refold is not None:
                        await this.fold(refold, entries)
            this.findings.add(await walk.finish(this.end))
        if refold is not None:
            await this.compare(refold)
    except Unknown as error:
        raise UnavailableError(f"the log could not be read to its end: {error}", next="try again") from error
    except sqlite3.Error as error:  # there is no log, and the tables gave no more of its events
        this.damaged(error)
        this.not_checked(EVENTS, "the events that follow: the tables have the only copies")
        if blobs:
            this.not_checked(BLOBS, "the blobs of the events that follow")
    finally:
        if refold is not None:
            await refold.close()
    return this.report("", walk)


async def _begin(this: Verification) -> Refold | None:
    if this.db is None:
        return None
    try:
        return await Refold.begin(this.view.path, this.db, this.until)
    except (HeadwayError, OSError) as error:
        this.not_checked(TABLES, f"the rows: {error}")
        return None


async def _one(this: Verification, run: str) -> dict[str, Any]:
    """One run: its events, its blobs, its rows."""
    walk = Walk(this.view.blobs, this.say, on_log=this.log is not None, run=run)
    entries: list[Read] = []
    try:
        async with aclosing(this.entries(run=run)) as batches:
            async for batch in batches:
                read, found = await walk.take(batch)
                this.findings.add(found)
                entries += read
    except Unknown as error:
        raise UnavailableError(f"the log could not be read to its end: {error}", next="try again") from error
    finally:
        walk.stop()
    if not entries and this.db is None:
        raise NotFoundError(f"there is no run {run} on the log", next="see 'headway runs'")
    if this.db is not None:
        later = sum(one.stored.seq > this.until for one in entries)
        if later:
            words = f"{later} events of the run came after event {this.until}, where the tables are"
            this.not_checked(TABLES, words)
        try:
            check = RunCheck(this.db, run, until=this.until)
            this.findings.add(await check.check(entries))
            this.rows = check.rows
        except sqlite3.Error as error:
            this.damaged(error)
        except Exception as error:  # whatever the log holds: it is to be said, and is no reason to say no more
            words = f"the events of run {run} cannot be folded: {error!r}"
            this.findings.add([Finding(code="fold", words=words, run=run, next="report this")])
    return this.report(run, walk)


async def _run(this: Verification, name: str, request: Request) -> str:
    """The run that is meant; one whose row is gone is found by its events."""
    found = name
    try:
        if this.db is not None:
            found = await (_latest(this, request) if name == "@" else _resolved(this.db, name))
    except sqlite3.Error as error:
        this.damaged(error)
    if not RUN.fullmatch(found):
        raise NotFoundError(f"there is no run {name[:100]}", next="see 'headway runs'")
    return found


async def _latest(this: Verification, request: Request) -> str:
    assert this.db is not None, "the tables know which run is the last"
    project = await this.view.project(request.text("cwd"))
    found = await queries.latest(this.db, project, request.actor) or await queries.latest(this.db, project)
    if found is None:
        raise NotFoundError(f"project {project} has no run yet", next="start one with 'headway run'")
    return found


async def _resolved(db: Connection, name: str) -> str:
    try:
        return await queries.resolve(db, name)
    except NotFoundError:
        wanted = name.strip().lower()
        found = [run for (run,) in await db.execute_fetchall(ONE_RUN, (wanted, wanted + "g"))] if wanted else []
        if len(found) == 1:
            return str(found[0])
        if len(wanted) == 36 and not found:
            return wanted  # the log may still have it
        raise
