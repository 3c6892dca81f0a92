"""One run: as it is or was, its events so far, and what its jobs have printed."""

from __future__ import annotations

from contextlib import aclosing
from typing import Final

from headway.cli import output
from headway.cli.control import Answers, Request
from headway.cli.view import View, answer, look, moment_of, run_of, show_now
from headway.core.errors import UsageError
from headway.projections import queries
from headway.projections.past import replayed

PAGE: Final = 1_000


async def show(view: View, request: Request) -> Answers:
    """All there is to know of a run."""
    run = await run_of(view, request)
    async with look(view, request, run=run) as sight:
        found = await queries.show(sight.db, run)
    yield answer(found, sight)


async def replay(view: View, request: Request) -> Answers:
    """The same, from its events alone: they are folded up to the moment, whatever the rows say."""
    run = await run_of(view, request)
    async with look(view, request, run=run) as sight:
        found = await replayed(sight.db, run, sight.as_of)
    yield answer(found, sight)


async def events(view: View, request: Request) -> Answers:
    """The events there are from a sequence on, of one run or all."""
    run = await run_of(view, request) if request.arguments.get("run") else ""
    start = request.arguments.get("from", "start")
    if start == "now":
        return  # nothing has come since
    start = first_of(start)
    async with view.present() as db:
        moment = await moment_of(view, request, db)
        until = moment[0] if moment else await queries.position(db)
    while start <= until:
        async with view.present() as db:  # for one page only: whoever reads slowly must not keep the tables
            found = await queries.events(db, run=run, start=start, until=until, type=request.text("type"), limit=PAGE)
        for one in found.events:
            yield {"event": one}
        if len(found.events) < PAGE:
            return
        start = found.events[-1]["seq"] + 1


def first_of(start: object) -> int:
    """The sequence that `from` means. Raises UsageError."""
    if start == "start":
        return 1
    if not isinstance(start, int) or isinstance(start, bool) or start < 0:
        raise UsageError(f"{start!r} is not a sequence", next="give a number, or 'start'")
    return start


async def logs(view: View, request: Request) -> Answers:
    """What a run's jobs have printed; in the past, what they had printed by then."""
    run = await run_of(view, request)
    wanted = output.wanted_of(request, run)
    async with look(view, request, run=run) as sight:
        known = output.attempts(await queries.show(sight.db, run), wanted)
        until_us = sight.now_us if sight.past else 0
    if until_us:
        known = output.as_now(known, await show_now(view, run))
    shown = output.Shown(wanted, until_us=until_us)
    async with aclosing(output.stored(view, wanted, known, shown)) as answers:
        async for one in answers:
            yield one
