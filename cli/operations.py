"""What can be asked of a running service, by name: each operation takes a request and answers with data."""

from __future__ import annotations

import asyncio
import os
import re
from contextlib import aclosing
from pathlib import Path
from typing import Any, Final

import msgspec

from headway import __version__
from headway.cli import feeds, output
from headway.cli.checks import checks
from headway.cli.control import Answers, Operation, Request
from headway.cli.plane import Plane
from headway.cli.stopping import down
from headway.cli.submission import admit, described, submission_of
from headway.core import asks
from headway.core.clock import from_us
from headway.core.errors import HeadwayError, NotFoundError, TimedOutError, UnavailableError, UsageError
from headway.core.log import Unknown
from headway.projections import queries
from headway.projections.queries import JobFilter, RunFilter
from headway.projections.records import ShowRecord
from headway.runners.source import project_name

LAST_RUNS: Final = 10
JOBS_MOST: Final = 1000
RUN_ID: Final = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def operations(plane: Plane) -> dict[str, Operation]:
    """The operations of this service, by the name in the request."""
    desk = Operations(plane)
    return {name.removeprefix("op_"): getattr(desk, name) for name in dir(desk) if name.startswith("op_")}


class Operations:
    """One method an operation; the protocol's page is `headway.cli.control`."""

    def __init__(self, plane: Plane) -> None:
        self._plane = plane

    # What goes on

    async def op_hello(self, request: Request) -> Answers:
        """Who is here, and how much is unfinished."""
        record = {"version": __version__, "started": self._plane.started, "home": str(self._plane.home)}
        yield {**record, "pid": os.getpid(), "unfinished": await self._plane.unfinished()}

    async def op_submit(self, request: Request) -> Answers:
        """Admit a run, and with `follow` its events until it is over. The same run may be submitted again."""
        plane = self._plane
        plane.stop.refuse_new()
        submission = submission_of(request)
        if not RUN_ID.fullmatch(submission.run):
            raise UsageError("a run's id is a UUID in lower case", next="use 'headway run', which makes one")
        submitted = await admit(submission, request, office=plane.office, blobs=plane.blobs, config=plane.config)
        yield described(submitted, submission.run)
        if request.flag("follow"):
            async for answer in self._events(feeds.Asked(run=submission.run)):
                yield answer

    async def op_watch(self, request: Request) -> Answers:
        """A run as it is, then its events until it is over."""
        run = await self._run(request)
        show = await self._show(run)
        yield {"show": msgspec.to_builtins(show)}
        if show.run.completed is None:
            async for answer in self._events(feeds.Asked(run=run, start=show.as_of + 1)):
                yield answer

    async def op_events(self, request: Request) -> Answers:
        """Events from a sequence, `start` or `now` on, of one run or all."""
        run = await self._run(request) if request.arguments.get("run") else ""
        start = request.arguments.get("from", "start")
        if start == "now":
            start = max(self._plane.follower.position, self._plane.office.seq) + 1
        elif start == "start":
            start = 1
        if not isinstance(start, int) or start < 0:
            raise UsageError(f"{start!r} is not a sequence", next="give a number, or 'start'")
        asked = feeds.Asked(run=run, start=start, type=request.text("type"), follow=request.flag("follow"))
        if not asked.follow:
            await self._plane.caught_up()
        async for answer in self._events(asked):
            yield answer

    async def _events(self, asked: feeds.Asked) -> Answers:
        async with aclosing(feeds.events(self._plane, asked)) as found:
            async for event in found:
                yield {"event": event}

    async def op_logs(self, request: Request) -> Answers:
        """What a run's jobs printed, and with `follow` what they print until it is over."""
        wanted = output.Wanted(
            run=await self._run(request),
            job=request.text("job"),
            attempt=int(request.number("attempt")),
            step=int(request.number("step", -1)),
        )
        if request.flag("follow"):
            found = output.followed(self._plane, wanted)
        else:
            found = output.stored(self._plane, wanted, output.Shown(wanted))
        async with aclosing(found):
            async for answer in found:
                yield answer

    async def op_wait(self, request: Request) -> Answers:
        """Each of some runs when it is over. Raises TimedOutError."""
        names = request.arguments.get("runs")
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise UsageError("runs must be a list of runs", next="give at least one")
        runs = [await self._resolve(name, request.text("cwd")) for name in names]
        limit = request.number("timeout_seconds", -1)
        try:
            async with asyncio.timeout(limit if limit >= 0 else None):
                for run in dict.fromkeys(runs):
                    async with aclosing(feeds.events(self._plane, feeds.Asked(run=run, type="run.completed"))) as found:
                        async for _ in found:
                            pass
                    yield {"run": msgspec.to_builtins((await self._show(run)).run)}
        except TimeoutError:
            raise TimedOutError(
                f"not every run was over within {round(limit, 2):g} s", next="wait longer, or see 'headway status'"
            ) from None

    # What is known

    async def op_runs(self, request: Request) -> Answers:
        """Runs, the newest first."""
        since = request.number("since")
        asked = RunFilter(
            status=request.text("status"),
            pipeline=request.text("pipeline"),
            branch=request.text("branch"),
            project=request.text("project"),
            since=from_us(self._plane.clock.wall_us() - int(since * 1_000_000)) if since else None,
            limit=int(request.number("limit", 20)),
        )
        await self._plane.caught_up()
        async with self._plane.store.reading() as db:
            found = await queries.runs(db, asked)
        yield msgspec.to_builtins(found)

    async def op_jobs(self, request: Request) -> Answers:
        """Jobs in a state or of a status, by label."""
        limit = int(request.number("limit", JOBS_MOST))
        asked = JobFilter(state=request.text("state"), label=request.text("label"), limit=limit)
        await self._plane.caught_up()
        async with self._plane.store.reading() as db:
            found = await queries.jobs(db, asked)
        yield msgspec.to_builtins(found)

    async def op_show(self, request: Request) -> Answers:
        """All there is to know of a run."""
        yield msgspec.to_builtins(await self._show(await self._run(request)))

    async def op_runners(self, request: Request) -> Answers:
        """The runners."""
        await self._plane.caught_up()
        async with self._plane.store.reading() as db:
            found = await queries.runners(db)
        yield msgspec.to_builtins(found)

    async def op_status(self, request: Request) -> Answers:
        """The service, the queue, the runners and the last runs."""
        plane = self._plane
        await plane.caught_up()
        async with plane.store.reading() as db:
            paused = await queries.fleet_paused(db)
            found = {
                "as_of": await queries.position(db),
                "service": {
                    "version": __version__,
                    "pid": os.getpid(),
                    "started": plane.started,
                    "log": await self._log(),
                },
                "paused": paused,
                "queue": await queries.queue(db),
                "runners": (await queries.runners(db)).runners,
                "runs": (await queries.runs(db, RunFilter(limit=LAST_RUNS))).runs,
            }
        yield msgspec.to_builtins(found)

    async def _log(self) -> dict[str, Any]:
        kind = "embedded" if self._plane.server is not None else "outside"
        trouble = {"trouble": words} if (words := self._plane.disk_trouble) else {}
        try:
            used, most = await self._plane.log.limits()
        except (Unknown, HeadwayError):
            return {"server": f"{kind}, cannot be reached", **trouble}
        return {"server": kind, "bytes": used, "bytes_max": most, **trouble}

    async def op_doctor(self, request: Request) -> Answers:
        """What is found and missing, and what of durability is vouched for."""
        yield {"checks": await checks(self._plane)}

    # What is wanted

    async def op_cancel(self, request: Request) -> Answers:
        """Cancel a run, or one job of it."""
        run, job, reason = await self._run(request), request.text("job"), request.text("reason")
        ask: asks.UserAsk = asks.CancelRun(run=run, reason=reason)
        if job:
            ask = asks.CancelJob(run=run, job=job, reason=reason)
        yield await self._ask(ask, request, run=run)

    async def op_pause(self, request: Request) -> Answers:
        """Start nothing new, in one run or in all."""
        reason = request.text("reason")
        if not request.arguments.get("run"):
            yield await self._ask(asks.PauseFleet(reason=reason), request)
            return
        run = await self._run(request)
        yield await self._ask(asks.PauseRun(run=run, reason=reason), request, run=run)

    async def op_resume(self, request: Request) -> Answers:
        """Go on."""
        if not request.arguments.get("run"):
            yield await self._ask(asks.ResumeFleet(), request)
            return
        run = await self._run(request)
        yield await self._ask(asks.ResumeRun(run=run), request, run=run)

    async def op_drain(self, request: Request) -> Answers:
        """Give a runner nothing new."""
        ask = asks.DrainRunner(runner=request.text("runner"), reason=request.text("reason"))
        yield await self._ask(ask, request)

    async def op_undrain(self, request: Request) -> Answers:
        """Give a runner work again."""
        yield await self._ask(asks.ResumeRunner(runner=request.text("runner")), request)

    async def op_down(self, request: Request) -> Answers:
        """Stop the service."""
        async for answer in down(self._plane, request):
            yield answer

    async def _ask(self, ask: asks.UserAsk, request: Request, *, run: str = "") -> dict[str, Any]:
        answer = await self._plane.office.ask(ask, actor=request.actor)
        try:
            await self._plane.caught_up(answer.seq)
        except UnavailableError as error:  # it is done all the same: only what is shown lags behind
            request.progress(f"done, but {error.message}")
        return {"seq": answer.seq, "run": run} if run else {"seq": answer.seq}

    # Runs by the names people give

    async def _show(self, run: str) -> ShowRecord:
        await self._plane.caught_up()
        async with self._plane.store.reading() as db:
            return await queries.show(db, run)

    async def _run(self, request: Request) -> str:
        return await self._resolve(request.text("run"), request.text("cwd"), actor=request.actor)

    async def _resolve(self, name: str, folder: str, actor: str = "") -> str:
        """The id behind an id, a unique beginning or end of one, or `@`. Raises NotFoundError."""
        await self._plane.caught_up()
        async with self._plane.store.reading() as db:
            if name != "@":
                return await queries.resolve(db, name)
            project = await asyncio.to_thread(project_name, Path(folder or "/"))
            found = await queries.latest(db, project, actor) or await queries.latest(db, project)
        if found is None:
            raise NotFoundError(f"project {project} has no run yet", next="start one with 'headway run'")
        return found
