"""How long handoffs took."""

from __future__ import annotations

from headway.cli.control import Answers, Request
from headway.cli.view import View, answer, look
from headway.projections import latency as latencies
from headway.projections.dimensions import dimensions
from headway.projections.latency_records import LatencyFilter


async def latency(view: View, request: Request) -> Answers:
    """Percentiles of handoffs over a period, per whatever `by` names (`state,job`), beside those of an earlier one."""
    default = LatencyFilter()
    asked = LatencyFilter(
        by=dimensions([word.strip() for word in request.text("by").split(",") if word.strip()]),
        since_seconds=request.number("since", default.since_seconds),
        against_seconds=request.number("against"),
        pipeline=request.text("pipeline"),
        limit=max(0, int(request.number("limit", default.limit))),
    )
    async with look(view, request) as sight:
        found = await latencies.latency(sight.db, asked, sight.now_us)
    yield answer(found, sight)
