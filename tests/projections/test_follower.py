"""What a follower survives: odd deliveries, restarts at any point, a full disk, a damaged file, another log."""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
import sys
from pathlib import Path

import pytest

from headway.core.envelope import Recorded
from headway.core.errors import BrokenError, HeadwayError, UnavailableError
from headway.core.log import Entry
from headway.projections import queries
from headway.projections.follower import Follower
from headway.projections.reader import open_reader
from headway.projections.rebuild import compare, rebuild
from headway.projections.store import Store
from tests.projections.folding_child import long_history, position_in
from tests.projections.histories import History, eventful
from tests.projections.odd_logs import OddLog
from tests.projections.tables_fixture import fold, following


@pytest.fixture
async def told(tmp_path: Path) -> tuple[History, Path]:
    """An eventful history and the file that a plain rebuild makes of it."""
    history = eventful()
    path = tmp_path / "told.db"
    await rebuild(history.log, path)
    return history, path


@pytest.mark.parametrize(("size", "times"), [(1, 1), (1, 2), (3, 3), (7, 1)])
async def test_deliveries_of_any_size_and_doubled(
    told: tuple[History, Path], tmp_path: Path, size: int, times: int
) -> None:
    """However the log is cut into batches, and however often each comes, the rows are the same."""
    history, expected = told
    path = tmp_path / "headway.db"
    async with following(OddLog(history.log, size=size, times=times), path) as (follower, _):
        await follower.wait_for(history.seq)
    assert await compare(path, expected) == []


async def test_a_restart_after_every_event(told: tuple[History, Path], tmp_path: Path) -> None:
    """A follower that begins with nothing in memory, at any point, goes on as if it had never stopped."""
    history, expected = told
    path = tmp_path / "headway.db"
    for end in range(1, history.seq + 1):
        async with following(OddLog(history.log, end=end), path) as (follower, _):
            await follower.wait_for(end)
    assert await compare(path, expected) == []


async def test_a_batch_that_was_not_committed(told: tuple[History, Path], tmp_path: Path) -> None:
    """What a full disk kept from being written is not there in part, and comes when there is space again."""
    history, expected = told
    path = tmp_path / "headway.db"
    store = await Store.open(path)
    [(pages,)] = await store.fetch("pragma page_count")
    await store.fetch(f"pragma max_page_count = {pages + 2}")
    follower = Follower(OddLog(history.log, size=10), store)
    task = asyncio.create_task(follower.run())
    with pytest.raises(UnavailableError, match="no space is left"):
        await follower.wait_for(history.seq, timeout_seconds=0.5)
    assert "no space" in follower.trouble
    assert follower.position < history.seq
    await store.fetch("pragma max_page_count = 1000000")
    await follower.wait_for(history.seq)
    assert follower.trouble == ""
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await store.close()
    assert await compare(path, expected) == []


async def test_killed_in_the_middle(tmp_path: Path) -> None:
    """A process killed while it writes leaves a file from which the next goes on to the same rows."""
    path, expected = tmp_path / "headway.db", tmp_path / "expected.db"
    history = long_history()
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.projections.folding_child", str(path), cwd=Path(__file__).parents[2]
    )
    try:
        await position_in(path, past=1000)
    finally:
        os.kill(child.pid, signal.SIGKILL)
        await child.wait()
    reader = await open_reader(path)
    assert 1000 < await queries.position(reader) < history.seq
    await reader.close()
    await fold(history, path)
    await rebuild(history.log, expected)
    assert await compare(path, expected) == []


async def test_a_gap_is_a_bug(told: tuple[History, Path], tmp_path: Path) -> None:
    """An event that is missing stops the follower before anything after it counts; whoever waits hears of it."""
    history, _ = told
    store = await Store.open(tmp_path / "headway.db")
    follower = Follower(OddLog(history.log, size=4, missing=10), store)
    waiting = asyncio.create_task(follower.wait_for(history.seq))
    with pytest.raises(BrokenError, match="event 11 came after event 9"):
        await follower.run()
    with pytest.raises(BrokenError):
        await waiting
    with pytest.raises(BrokenError):
        await follower.wait_for(history.seq)
    assert store.position == 8
    await store.close()


async def test_an_event_of_a_newer_headway(tmp_path: Path) -> None:
    """An unknown event type ends the following with words about versions, not with rows that lie."""
    history = History()
    history.elect()
    body = b'{"id":"x","at":1,"actor":"c","data":{"type":"job.teleported"}}'
    history.log.append_now(Entry(subject="headway.ctl", id="x", body=body, expect=1))
    store = await Store.open(tmp_path / "headway.db")
    with pytest.raises(UnavailableError, match=r"job\.teleported"):
        await Follower(history.log, store).run()
    await store.close()


async def test_bytes_that_are_no_event(tmp_path: Path) -> None:
    """An entry that cannot be read is named."""
    history = History()
    history.log.append_now(Entry(subject="headway.ctl", id="x", body=b"\x00junk", expect=0))
    store = await Store.open(tmp_path / "headway.db")
    with pytest.raises(BrokenError, match="event 1 cannot be read"):
        await Follower(history.log, store).run()
    await store.close()


async def test_another_log(told: tuple[History, Path], tmp_path: Path) -> None:
    """A file made from another log, or from one that was longer, is set aside, and this log folded instead."""
    history, expected = told
    path = tmp_path / "headway.db"
    other = History(seed=99)
    other.pass_run(jobs=40)
    await fold(other, path)
    async with following(history.log, path) as (follower, store):
        await follower.wait_for(history.seq)
        assert "is not the one" in store.note
    assert await compare(path, expected) == []
    assert path.with_name("headway.db.set-aside").exists()


async def test_damage_found_on_the_way(told: tuple[History, Path], tmp_path: Path) -> None:
    """A file whose inside is damaged is set aside when that shows, and the log folded again."""
    history, expected = told
    path = tmp_path / "headway.db"
    async with following(OddLog(history.log, end=history.seq - 20), path) as (follower, _):
        await follower.wait_for(history.seq - 20)
    connection = sqlite3.connect(path)
    [root] = connection.execute("select rootpage from sqlite_schema where name = 'events'").fetchone()
    connection.close()
    with path.open("r+b") as file:
        file.seek((root - 1) * 4096)
        file.write(b"\xff" * 4096)
    async with following(history.log, path) as (follower, store):
        await follower.wait_for(history.seq)
        assert "damaged" in store.note
    assert await compare(path, expected) == []


async def test_one_reads_ones_own_writes(tmp_path: Path) -> None:
    """Waiting for an event that is not yet said ends when it is in the tables, in the order of the events."""
    history = History()
    history.elect()
    async with following(history.log, tmp_path / "headway.db") as (follower, store):
        waiting = [asyncio.create_task(follower.wait_for(seq)) for seq in (12, 2)]
        await follower.wait_for(1)
        assert not any(one.done() for one in waiting)
        run = history.pass_run()
        await asyncio.gather(*waiting)
        await follower.wait_for(history.seq)
        async with store.reading() as db:
            assert (await queries.show(db, run)).run.status == "success"


async def test_a_wait_that_is_too_long(tmp_path: Path) -> None:
    """Waiting ends with where the tables are."""
    history = History()
    history.elect()
    async with following(history.log, tmp_path / "headway.db") as (follower, _):
        await follower.wait_for(1)
        with pytest.raises(UnavailableError, match="at event 1 and have not reached 2"):
            await follower.wait_for(2, timeout_seconds=0.01)


async def test_listeners_hear_each_event_once(tmp_path: Path) -> None:
    """Who listens gets every event once and in order, after it is in the tables, until it stops listening."""
    history = eventful()
    heard: list[int] = []
    all_heard = asyncio.Event()
    async with following(OddLog(history.log, size=5, times=2), tmp_path / "headway.db") as (follower, store):

        def listener(news: list[Recorded]) -> None:
            assert news[-1].seq <= store.position
            heard.extend(one.seq for one in news)
            if heard[-1] == history.seq:
                all_heard.set()

        stop = follower.listen(listener)
        await all_heard.wait()
        stop()
        stop()
    assert heard == list(range(1, history.seq + 1))


async def test_listeners_are_told_that_no_more_will_come(tmp_path: Path) -> None:
    """Following that ends for good tells who listens, and who begins to listen later, why."""
    history = eventful()
    told: list[HeadwayError] = []
    ended = asyncio.Event()

    def end(error: HeadwayError) -> None:
        told.append(error)
        ended.set()

    store = await Store.open(tmp_path / "headway.db")
    try:
        follower = Follower(OddLog(history.log, missing=10), store)
        follower.listen(lambda news: None, ended=end)
        with pytest.raises(HeadwayError):
            await follower.run()
        await ended.wait()
        follower.listen(lambda news: None, ended=end)
        assert [str(one) for one in told] == [follower.trouble] * 2
    finally:
        await store.close()
