"""What can be asked of a running service, by name: each operation takes a request and answers with data."""

from __future__ import annotations

import asyncio
import os
import re
from contextlib import aclosing
from functools import partial
from typing import Any, Final

import msgspec

from headway import __version__
from headway.cli import feeds, output
from headway.cli.backup import backup
from headway.cli.checks import checks
from headway.cli.control import Answers, Operation, Request
from headway.cli.plane import Plane
from headway.cli.progress import Throttle
from headway.cli.questions import QUESTIONS
from headway.cli.questions.one import first_of
from headway.cli.room import Doorkeeper, look
from headway.cli.service_view import ServiceView
from headway.cli.stopping import down
from headway.cli.submission import admit, described, submission_of
from headway.cli.text import count
from headway.cli.view import run_of, show_now
from headway.core import asks
from headway.core.errors import HeadwayError, RefusedError, TimedOutError, UnavailableError, UsageError
from headway.core.log import Unknown
from headway.core.states import Outcome
from headway.projections import queries
from headway.projections.scratch import WAITING, busy

RUN_ID: Final = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def operations(plane: Plane) -> dict[str, Operation]:
    """The operations of this service, by the name in the request."""
    desk = Operations(plane)
    asked: dict[str, Operation] = {name: partial(question, desk.view) for name, question in QUESTIONS.items()}
    return asked | {name.removeprefix("op_"): getattr(desk, name) for name in dir(desk) if name.startswith("op_")}


class Operations:
    """One method an operation; the protocol's page is `headway.cli.control`."""

    def __init__(self, plane: Plane) -> None:
        self._plane = plane
        self.view = ServiceView(plane)
        self._door = Doorkeeper(plane)

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
        submitted = await admit(submission, request, plane=plane, door=self._door)
        yield described(submitted, submission.run)
        if request.flag("follow"):
            async for answer in self._events(feeds.Asked(run=submission.run)):
                yield answer

    async def op_watch(self, request: Request) -> Answers:
        """A run as it is, then its events until it is over."""
        run = await self._run(request)
        show = await show_now(self.view, run)
        yield {"show": msgspec.to_builtins(show)}
        if show.run.completed is None:
            async for answer in self._events(feeds.Asked(run=run, start=show.as_of + 1)):
                yield answer

    async def op_events(self, request: Request) -> Answers:
        """Events from a sequence, `start` or `now` on, of one run or all."""
        if not request.flag("follow"):
            async for answer in QUESTIONS["events"](self.view, request):
                yield answer
            return
        run = await self._run(request) if request.arguments.get("run") else ""
        start = request.arguments.get("from", "start")
        if start == "now":
            start = max(self._plane.follower.position, self._plane.office.seq) + 1
        async for answer in self._events(feeds.Asked(run=run, start=first_of(start), type=request.text("type"))):
            yield answer

    async def _events(self, asked: feeds.Asked) -> Answers:
        async with aclosing(feeds.events(self._plane, asked)) as found:
            async for event in found:
                yield {"event": event}

    async def op_logs(self, request: Request) -> Answers:
        """What a run's jobs printed, and with `follow` what they print until it is over."""
        if request.flag("follow"):
            wanted = output.wanted_of(request, await self._run(request))
            found = output.followed(self._plane, self.view, wanted)
        else:
            found = QUESTIONS["logs"](self.view, request)
        async with aclosing(found):
            async for answer in found:
                yield answer

    async def op_wait(self, request: Request) -> Answers:
        """Each of some runs when it is over. Raises TimedOutError."""
        names = request.arguments.get("runs")
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise UsageError("runs must be a list of runs", next="give at least one")
        runs = [await self._run(request, name) for name in names]
        limit = request.number("timeout_seconds", -1)
        try:
            async with asyncio.timeout(limit if limit >= 0 else None):
                for run in dict.fromkeys(runs):
                    async with aclosing(feeds.events(self._plane, feeds.Asked(run=run, type="run.completed"))) as found:
                        async for _ in found:
                            pass
                    yield {"run": msgspec.to_builtins((await show_now(self.view, run)).run)}
        except TimeoutError:
            raise TimedOutError(
                f"not every run was over within {round(limit, 2):g} s", next="wait longer, or see 'headway status'"
            ) from None

    # What is known

    async def op_status(self, request: Request) -> Answers:
        """The service, the queue, the runners and the last runs; of a moment of the past all but the service."""
        service = None
        if request.arguments.get("at") is None:
            service = {"version": __version__, "pid": os.getpid(), "started": self._plane.started}
            service["log"] = await self._log()
        async with aclosing(QUESTIONS["status"](self.view, request)) as answers:
            async for answer in answers:
                yield {**answer, "service": service}

    async def _log(self) -> dict[str, Any]:
        kind = "embedded" if self._plane.server is not None else "outside"
        trouble = {"trouble": words} if (words := self._plane.disk_trouble) else {}
        try:
            return {"server": kind, **await look(self._plane), **trouble}
        except (Unknown, HeadwayError):
            return {"server": f"{kind}, cannot be reached", **trouble}

    async def op_doctor(self, request: Request) -> Answers:
        """What is found and missing, and what of durability is vouched for."""
        yield {"checks": await checks(self._plane)}

    async def op_backup(self, request: Request) -> Answers:
        """Everything that is kept, in one file."""
        async with aclosing(backup(self._plane, request)) as answers:
            async for answer in answers:
                yield answer

    async def op_projections_rebuild(self, request: Request) -> Answers:
        """Make the tables of the log again."""
        plane, say = self._plane, Throttle(request.progress)
        began = plane.clock.monotonic()
        if busy(plane.store.path):
            request.progress(WAITING)
        await plane.follower.rebuild(lambda position, until: say(f"{position} of {count(until, 'event')}"))
        await plane.caught_up()
        yield {"events": plane.follower.position, "seconds": round(plane.clock.monotonic() - began, 3)}

    # What is wanted

    async def op_cancel(self, request: Request) -> Answers:
        """Cancel a run, or one job of it. What was cancelled already stays so, and `over` says that."""
        run, job, reason = await self._run(request), request.text("job"), request.text("reason")
        async with self.view.present() as db:
            ended = await queries.ended(db, run, job)
        if ended is not None:
            if ended.outcome != Outcome.CANCELLED:
                what = f"job {job} of run {run}" if job else f"run {run}"
                raise RefusedError(f"{what} is already over", next="start a new run with 'headway run'")
            yield {"seq": ended.seq, "run": run, "over": ended.outcome}
            return
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

    async def _run(self, request: Request, name: str = "") -> str:
        return await run_of(self.view, request, name)
