"""Lists: runs, jobs, runners."""

from __future__ import annotations

from typing import Final

from headway.cli.control import Answers, Request
from headway.cli.view import View, answer, look
from headway.core.clock import from_us
from headway.projections import queries
from headway.projections.queries import JobFilter, RunFilter

JOBS_MOST: Final = 1000
LAST_RUNS: Final = 10


async def runs(view: View, request: Request) -> Answers:
    """Runs, the newest first."""
    since, limit = request.seconds("since"), request.count("limit", 20)
    async with look(view, request) as sight:
        asked = RunFilter(
            status=request.text("status"),
            pipeline=request.text("pipeline"),
            branch=request.text("branch"),
            project=request.text("project"),
            since=from_us(sight.now_us - int(since * 1_000_000)) if since else None,
            limit=limit,
        )
        found = await queries.runs(sight.db, asked)
    yield answer(found, sight)


async def jobs(view: View, request: Request) -> Answers:
    """Jobs in a state or of a status, by label."""
    limit = request.count("limit", JOBS_MOST)
    asked = JobFilter(state=request.text("state"), label=request.text("label"), limit=limit)
    async with look(view, request) as sight:
        found = await queries.jobs(sight.db, asked)
    yield answer(found, sight)


async def status(view: View, request: Request) -> Answers:
    """The queue, the runners and the last runs; who answers says of the service what there is to say."""
    async with look(view, request) as sight:
        found = {
            "service": None,
            "paused": await queries.fleet_paused(sight.db),
            "queue": await queries.queue(sight.db),
            "runners": (await queries.runners(sight.db)).runners,
            "runs": (await queries.runs(sight.db, RunFilter(limit=LAST_RUNS))).runs,
        }
    yield answer(found, sight)


async def runners(view: View, request: Request) -> Answers:
    """The runners."""
    async with look(view, request) as sight:
        found = await queries.runners(sight.db)
    yield answer(found, sight)
