"""What is said of a log that fills up, and who is let in."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from headway.cli.office import Office
from headway.cli.plane import LogClock, Plane
from headway.cli.room import Doorkeeper, more_room, words
from headway.core.blobs import Blobs
from headway.core.clock import SystemClock
from headway.core.config import load
from headway.core.coordinator import Identity
from headway.core.errors import RefusedError
from headway.core.jetstream import JetStreamLog
from headway.core.plan import Job, Step
from headway.core.room import MIB, Room, promise_of, reserve_of
from tests.core.nats_fixture import nats_server, wired
from tests.projections.tables_fixture import following

LIMIT = 16 * MIB
JOBS = [Job(name=f"j{at}", steps=(Step(name="s", script="true"),), retry_count=9) for at in range(120)]
"""More than half of what a log of this limit and its reserve can hold."""


@pytest.mark.parametrize(
    ("used", "days", "said"),
    [
        (100, None, "100.0 MiB of 1000.0 MiB used (10 %)"),
        (100, 9e9, "100.0 MiB of 1000.0 MiB used (10 %)"),
        (799, 0.4, "799.0 MiB of 1000.0 MiB used (79 %), less than a day left at the present rate"),
        (800, 1.9, "800.0 MiB of 1000.0 MiB used (80 %), 1 day left at the present rate"),
        (900, 12.7, "900.0 MiB of 1000.0 MiB used (90 %), 12 days left at the present rate"),
        (1000, 0.0, "1000.0 MiB of 1000.0 MiB used (100 %): no new runs are taken, those under way end"),
    ],
)
def test_how_full_the_log_is_in_words(used: int, days: float | None, said: str) -> None:
    """Used, limit, share and days, as far as they are known and of use."""
    assert words(Room(bytes=used * MIB, events=9, bytes_max=1000 * MIB, bytes_hard=2000 * MIB), days) == said


def test_a_log_without_a_limit_says_so() -> None:
    """There is no share of nothing."""
    assert words(Room(bytes=MIB, events=9, bytes_max=0, bytes_hard=0), None) == "1.0 MiB used, without a limit"


def test_what_to_do_names_what_sets_the_limit(tmp_path: Path) -> None:
    """The file, the variable, or the disk: raising a number that another one overrules would be no help."""
    again = "and restart with 'headway down' and 'headway up'"
    by_file, by_variable = load(tmp_path, {}), load(tmp_path, {"HEADWAY_LOG_MAX_BYTES": "64MiB"})
    assert more_room(by_file, by_file.log_max_bytes) == f"raise log_max_bytes in {tmp_path}/config.yml {again}"
    assert more_room(by_variable, 64 * MIB) == f"raise HEADWAY_LOG_MAX_BYTES {again}"
    allowed = f"free some space on the log's disk, which allows 20.0 MiB, {again}"
    assert more_room(by_file, 20 * MIB) == more_room(by_variable, 20 * MIB) == allowed


@pytest.fixture
async def plane(tmp_path: Path) -> AsyncIterator[Plane]:
    """What a service has that waits for another one to coordinate: a log of little room, and the tables of it."""
    async with nats_server(tmp_path / "nats", sync='"2m"') as server, wired(server.endpoint) as wire:
        log, clock, blobs = JetStreamLog(wire), SystemClock(), Blobs(tmp_path / "blobs")
        await log.prepare(max_bytes=LIMIT, output_max_bytes=LIMIT)
        office = Office(wire, log, blobs, clock, Identity(coordinator="c", host="h", pid=1, headway_version="1"))
        async with following(log, tmp_path / "headway.db") as (follower, store):
            unused: Any = None
            yield Plane(
                home=tmp_path,
                config=load(tmp_path, {"HEADWAY_LOG_MAX_BYTES": "16MiB"}),
                clock=clock,
                blobs=blobs,
                server=None,
                supervising=None,
                wire=wire,
                log=log,
                outputs=unused,
                store=store,
                follower=follower,
                office=office,
                runner=unused,
                stop=unused,
                started="",
                floor=0,
                log_clock=LogClock(clock, floor=0),
            )


async def test_of_two_that_come_at_once_one_is_let_in_when_there_is_room_for_one(plane: Plane) -> None:
    """The second finds the room of the first taken, though neither has written anything; then it is free again."""
    promise = promise_of(JOBS, {}, attempt_losses_max=plane.config.attempt_losses_max)
    whole = LIMIT + reserve_of(LIMIT)
    assert whole / 2 < promise.bytes < whole
    door = Doorkeeper(plane)
    answers: dict[str, str] = {}
    answered = asyncio.Event()

    def answer(run: str, how: str) -> None:
        answers[run] = how
        if len(answers) == 2:
            answered.set()

    async def enter(run: str) -> None:
        try:
            async with door.room_for(run, JOBS, {}):
                answer(run, "in")
                await asyncio.wait_for(answered.wait(), 15)
        except RefusedError:
            answer(run, "refused")

    await asyncio.gather(enter("one"), enter("two"))
    assert sorted(answers.values()) == ["in", "refused"]
    async with door.room_for("three", JOBS, {}), door.room_for("three", JOBS, {}):
        pass  # the same once more: it has its room already
