"""One run's timeline and critical path."""

from __future__ import annotations

from headway.cli.control import Answers, Request
from headway.cli.view import View, answer, look, run_of
from headway.projections import timeline as projection


async def timeline(view: View, request: Request) -> Answers:
    """Where the time of a run went."""
    run = await run_of(view, request)
    async with look(view, request, run=run) as sight:
        found = await projection.timeline(sight.db, run, sight.now_us)
    yield answer(found, sight)
