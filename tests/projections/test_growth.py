"""How the log has grown of late, as the tables say it."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import aiosqlite
import pytest

from headway.core.room import DAY_US
from headway.core.states import Outcome
from headway.projections.growth import Growth, of_last_day, unfinished
from tests.projections.histories import History
from tests.projections.tables_fixture import following

HOUR_SECONDS = 3600.0


@asynccontextmanager
async def tables(history: History, folder: Path) -> AsyncGenerator[aiosqlite.Connection, None]:
    """The tables at the end of a history."""
    async with following(history.log, folder / "headway.db") as (follower, store):
        await follower.wait_for(history.seq)
        async with store.reading() as db:
            yield db


async def test_an_empty_log_has_not_grown(tmp_path: Path) -> None:
    """No event, no time."""
    async with tables(History(), tmp_path) as db:
        assert await of_last_day(db) == Growth()


async def test_a_young_log_is_counted_whole(tmp_path: Path) -> None:
    """The span is from its first event to its last."""
    history = History()
    history.elect()
    history.clock.advance(2 * HOUR_SECONDS)
    history.elect()
    async with tables(history, tmp_path) as db:
        grown = await of_last_day(db)
    assert grown.events == 2
    assert grown.span_us == pytest.approx(DAY_US / 12, abs=10_000)


@pytest.mark.parametrize("old", [1, 2, 3, 10, 37])
@pytest.mark.parametrize("new", [1, 2, 5, 16])
async def test_of_an_old_log_the_last_day_counts(tmp_path: Path, old: int, new: int) -> None:
    """However many events lie before and in it, exactly those in it are found."""
    history = History()
    for _ in range(old):
        history.clock.advance(HOUR_SECONDS)
        history.elect()
    history.clock.advance(30 * HOUR_SECONDS)
    for _ in range(new):
        history.elect()
        history.clock.advance(HOUR_SECONDS)
    async with tables(history, tmp_path) as db:
        assert await of_last_day(db) == Growth(events=new, span_us=DAY_US)


async def test_a_clock_that_stepped_back_breaks_nothing(tmp_path: Path) -> None:
    """The numbers may be off, but there are some."""
    history = History()
    for seconds in (0.0, 40 * HOUR_SECONDS, -39 * HOUR_SECONDS, HOUR_SECONDS, -80 * HOUR_SECONDS):
        history.clock.step_wall(seconds)
        history.elect()
    async with tables(history, tmp_path) as db:
        grown = await of_last_day(db)
    assert 1 <= grown.events <= 5
    assert 0 <= grown.span_us <= DAY_US


async def test_jobs_that_are_not_over_are_counted(tmp_path: Path) -> None:
    """Those of finished runs are not, nor those that ended in a run that goes on."""
    history = History()
    history.register()
    history.pass_run(jobs=2)
    run = history.admit({"a": (), "b": (), "c": ()})
    history.pass_job(run, "a")
    async with tables(history, tmp_path) as db:
        [left] = await unfinished(db)
    assert (left.run, left.jobs, left.open_jobs, left.parameters) == (run, 3, 2, {"level": "3"})
    assert left.attempt_losses_max == 3
    history.pass_job(run, "b")
    history.drop(run, "c", Outcome.SKIPPED)
    history.end(run, jobs=3)
    async with tables(history, tmp_path) as db:
        assert await unfinished(db) == []
