"""Why something waits, or is where it is. It is answered when the log is away too: then above all it is asked."""

from __future__ import annotations

from typing import Final

import msgspec

from headway.cli.control import Answers, Request
from headway.cli.view import View, answer, look, run_of
from headway.core.clock import rfc3339
from headway.core.errors import NotFoundError, UsageError
from headway.projections.answers import WhyAll, WhyRun
from headway.projections.ground import Moment
from headway.projections.why import LIMIT, why_all, why_run

LIMIT_MOST: Final = 1000
PATIENCE_SECONDS: Final = 1.0
"""How long the tables have to catch up, before what they have is taken."""


async def why(view: View, request: Request) -> Answers:
    """What everything waits for; with a run what that one, with a job what that job waits for, or how it ended."""
    limit = request.count("limit", LIMIT)
    if not 1 <= limit <= LIMIT_MOST:
        raise UsageError(f"limit must be from 1 to {LIMIT_MOST}", next="leave it out for 50")
    up = await view.caught_up(seconds=PATIENCE_SECONDS)
    run = await run_of(view, request, patient=False) if request.text("run") else ""
    async with look(view, request, patient=False) as sight:
        live = None if sight.past else view.live()
        if live is not None and not up and not live.log_trouble:
            live = msgspec.structs.replace(live, log_trouble="the log does not answer")
        moment = Moment(now_us=sight.now_us, live=live, past=sight.past)
        found: WhyAll | WhyRun
        if run:
            there = await sight.db.execute_fetchall("select 1 from runs where run = ?", (run,))
            if not list(there):
                raise NotFoundError(
                    f"run {run} was not there yet after event {sight.as_of} ({rfc3339(sight.now_us)})",
                    next="ask for a later moment",
                )
            found = await why_run(sight.db, moment, run=run, job=request.text("job"), limit=limit)
        else:
            found = await why_all(sight.db, moment, limit=limit)
    yield answer(found, sight)
