"""What jobs printed, for those who ask: from blobs where attempts have ended, from the output stream where they run.

A record is numbered within its attempt, so that what comes from the stream and what comes from the blob join without
a gap and without doubles.
"""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import AsyncGenerator, Iterable, Iterator
from contextlib import aclosing
from typing import Any

import msgspec

from headway.cli.control import Request
from headway.cli.feeds import Asked, events
from headway.cli.plane import Plane
from headway.cli.view import View, show_now
from headway.core.clock import rfc3339
from headway.core.errors import HeadwayError, NotFoundError
from headway.projections.records import AttemptRecord, ShowRecord

Key = tuple[str, int]
"""A job and an attempt of it."""

MERGED_BYTES_MAX = 64 * 1024 * 1024
STREAMS = {"out": "stdout", "err": "stderr"}


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """Whose output: `job` "" means all jobs, `attempt` 0 the last one of each, `step` -1 all steps."""

    run: str
    job: str = ""
    attempt: int = 0
    step: int = -1


class _Line(msgspec.Struct):
    """An output record as the runner wrote it."""

    i: int
    t: int
    s: str
    step: int = 0
    d: str | None = None
    b: str | None = None


_decode = msgspec.json.Decoder(_Line).decode


class Shown:
    """Turns output records into answers, each number of an attempt once; with `until_us`, what was printed by then."""

    def __init__(self, wanted: Wanted, *, until_us: int = 0) -> None:
        self._wanted = wanted
        self._until_us = until_us
        self._last: dict[Key, int] = {}

    def take(self, key: Key, chunks: Iterable[bytes], skew_ms: int | None = None) -> Iterator[dict[str, Any]]:
        """The answers for what is new and wanted; bytes that are no record are passed over.

        Output has the time of its runner's clock, which was ahead of the log's by `skew_ms` at least; one below zero
        may only say that its facts came late.
        """
        until_us = self._until_us + max(0, skew_ms or 0) * 1000 if self._until_us else 0
        for chunk in chunks:
            for raw in chunk.splitlines():
                try:
                    line = _decode(raw)
                except msgspec.MsgspecError:
                    continue
                if line.i <= self._last.get(key, -1) or (until_us and line.t > until_us):
                    continue
                self._last[key] = line.i
                if self._wanted.step in (-1, line.step):
                    yield _answer(key, line)


def _answer(key: Key, line: _Line) -> dict[str, Any]:
    found: dict[str, Any] = {
        "job": key[0],
        "attempt": key[1],
        "step": line.step,
        "seq": line.i,
        "stream": STREAMS.get(line.s, "stdout"),
        "timestamp": rfc3339(line.t),
        "message": line.d or "",
    }
    if line.b is not None:
        found["message_base64"] = line.b
    return {"output": found}


def wanted_of(request: Request, run: str) -> Wanted:
    """What the request asks for, of a run whose id is known."""
    step, attempt = int(request.number("step", -1)), int(request.number("attempt"))
    return Wanted(run=run, job=request.text("job"), attempt=attempt, step=step)


def attempts(show: ShowRecord, wanted: Wanted) -> list[AttemptRecord]:
    """The attempts whose output is wanted. Raises NotFoundError for a job or attempt that does not exist."""
    known = {job.job: job.attempt for job in show.jobs}
    if wanted.job and wanted.job not in known:
        names = ", ".join(list(known)[:10])
        raise NotFoundError(f"run {wanted.run} has no job {wanted.job!r}", next=f"its jobs are: {names}")
    found = [
        one
        for one in show.attempts
        if wanted.job in ("", one.job) and one.attempt == (wanted.attempt or known.get(one.job))
    ]
    if wanted.attempt and wanted.job and not found:
        raise NotFoundError(
            f"job {wanted.job} has no attempt {wanted.attempt}", next="see 'headway show' for its attempts"
        )
    return found


def as_now(then: list[AttemptRecord], show: ShowRecord) -> list[AttemptRecord]:
    """The same attempts as they are now: what an attempt had printed by then may have become a blob since."""
    now = {(one.job, one.attempt): one for one in show.attempts}
    return [now.get((one.job, one.attempt), one) for one in then]


async def stored(
    view: View, wanted: Wanted, found: list[AttemptRecord], shown: Shown
) -> AsyncGenerator[dict[str, Any], None]:
    """What there is of these attempts now, in the order in which it was printed.

    Of each attempt it is its blob when it has ended, else what the output stream holds. Where all of it would be too
    much to hold at once, it comes attempt by attempt.
    """
    if sum(one.output_bytes for one in found) > MERGED_BYTES_MAX:
        for one in found:
            for answer in shown.take((one.job, one.attempt), await _chunks(view, wanted, one), one.skew_ms):
                yield answer
        return
    every = [list(shown.take((one.job, one.attempt), await _chunks(view, wanted, one), one.skew_ms)) for one in found]
    for answer in heapq.merge(*every, key=lambda answer: answer["output"]["timestamp"]):
        yield answer


async def _chunks(view: View, wanted: Wanted, one: AttemptRecord) -> list[bytes]:
    if one.output:
        return [await asyncio.to_thread(view.blobs.get, one.output)]
    if one.ended is None or one.state == "lost":
        return await view.output(wanted.run, one.job, one.attempt)
    return []


async def _stored_now(view: View, wanted: Wanted, shown: Shown) -> AsyncGenerator[dict[str, Any], None]:
    found = attempts(await show_now(view, wanted.run), wanted)
    async with aclosing(stored(view, wanted, found, shown)) as answers:
        async for answer in answers:
            yield answer


async def followed(plane: Plane, view: View, wanted: Wanted) -> AsyncGenerator[dict[str, Any], None]:
    """What there is and what comes, until the run is over, or the one job that is wanted."""
    shown = Shown(wanted)
    async for answer in _stored_now(view, wanted, shown):
        yield answer
    queue: asyncio.Queue[tuple[Key, list[bytes]] | None] = asyncio.Queue(maxsize=256)
    parts = [asyncio.create_task(_pour(plane, wanted, queue)), asyncio.create_task(_until_over(plane, wanted, queue))]
    try:
        while (item := await queue.get()) is not None:
            key, chunks = item
            if wanted.attempt in (0, key[1]):
                for answer in shown.take(key, chunks):
                    yield answer
    finally:
        for part in parts:
            part.cancel()
        await asyncio.gather(*parts, return_exceptions=True)
    async for answer in _stored_now(view, wanted, shown):
        yield answer


async def _pour(plane: Plane, wanted: Wanted, queue: asyncio.Queue[tuple[Key, list[bytes]] | None]) -> None:
    async with aclosing(plane.outputs.follow(wanted.run, wanted.job, wanted.attempt)) as chunks:
        async for batch in chunks:
            for chunk in batch:
                await queue.put(((chunk.job, chunk.attempt), [chunk.body]))


async def _until_over(plane: Plane, wanted: Wanted, queue: asyncio.Queue[tuple[Key, list[bytes]] | None]) -> None:
    try:
        async with aclosing(events(plane, Asked(run=wanted.run))) as found:
            async for event in found:
                if wanted.job and event["type"] == "job.completed" and event["job"] == wanted.job:
                    break
    except HeadwayError:
        pass  # the follower's own trouble; what is stored is shown all the same
    await queue.put(None)
