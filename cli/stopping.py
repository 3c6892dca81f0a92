"""Stopping the service: refused while runs are unfinished, unless they may finish first or are left for later."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Final

from headway.cli.control import Answers, Request
from headway.cli.plane import Plane
from headway.core.errors import RefusedError, TimedOutError, UsageError

SAY_SECONDS: Final = 2.0


async def down(plane: Plane, request: Request) -> Answers:
    """Stop the service. `mode` is refuse (the default), drain or now."""
    mode = request.text("mode", "refuse")
    if mode not in ("refuse", "drain", "now"):
        raise UsageError(f"there is no mode {mode!r}", next="use refuse, drain or now")
    unfinished = 0 if mode == "now" else await plane.unfinished()
    if mode == "refuse" and unfinished:
        runs = "1 run is" if unfinished == 1 else f"{unfinished} runs are"
        raise RefusedError(
            f"{runs} unfinished", next="wait with 'headway down --drain', or leave them for the next start with --now"
        )
    if mode == "drain":
        await _drain(plane, request)
    plane.stop.now()
    yield {"stopped": True}


async def _drain(plane: Plane, request: Request) -> None:
    """Take no new runs and wait for the others. Raises TimedOutError, and takes new runs again then."""
    limit = request.number("timeout_seconds", -1)
    changed = asyncio.Event()
    stop_listening = plane.follower.listen(lambda _: changed.set())
    plane.stop.draining = True
    try:
        async with asyncio.timeout(limit if limit >= 0 else None):
            while (left := await plane.unfinished()) > 0:
                request.progress(f"waiting for {left} unfinished run{'s' if left != 1 else ''}")
                with suppress(TimeoutError):
                    await asyncio.wait_for(changed.wait(), SAY_SECONDS)
                changed.clear()
    except TimeoutError:
        raise TimedOutError(
            f"not every run was over within {limit:g} s", next="wait longer, or stop with 'headway down --now'"
        ) from None
    finally:
        stop_listening()
        plane.stop.draining = False
