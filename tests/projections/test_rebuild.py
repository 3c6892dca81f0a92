"""Rebuilding gives the same rows, also while others read and follow; comparing finds what differs."""

from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path

import pytest

from headway.core.errors import BrokenError, UnavailableError
from headway.projections import queries
from headway.projections.follower import Follower
from headway.projections.rebuild import compare, rebuild
from headway.projections.store import Store
from tests.projections.histories import eventful
from tests.projections.tables_fixture import fold, following

LIMIT_SECONDS = 20


def schema(path: Path) -> list[tuple[str]]:
    """The words that made the tables and indexes of a file."""
    connection = sqlite3.connect(path)
    try:
        return connection.execute("select sql from sqlite_schema order by name").fetchall()
    finally:
        connection.close()


async def test_rebuilt_equals_live(tmp_path: Path) -> None:
    """The file that was followed and the file that was rebuilt have the same rows and the same tables."""
    history = eventful()
    live, rebuilt = tmp_path / "live.db", tmp_path / "rebuilt.db"
    await fold(history, live)
    await rebuild(history.log, rebuilt)
    assert await compare(live, rebuilt) == []
    assert schema(live) == schema(rebuilt)


async def test_rebuilt_in_place(tmp_path: Path) -> None:
    """A rebuilt file takes the old one's place, and nothing is left beside it."""
    history = eventful()
    path, expected = tmp_path / "headway.db", tmp_path / "expected.db"
    await fold(history, expected)
    await fold(history, path)
    connection = sqlite3.connect(path)
    with connection:
        connection.execute("update jobs set state = 'queued'")
    connection.close()
    assert await compare(path, expected) != []
    await rebuild(history.log, path)
    assert await compare(path, expected) == []
    assert sorted(one.name for one in tmp_path.iterdir()) == ["expected.db", "headway.db"]


async def test_rebuilt_while_in_use(tmp_path: Path) -> None:
    """A file that someone has open is not replaced under him."""
    history = eventful()
    path = tmp_path / "headway.db"
    store = await Store.open(path)
    with pytest.raises(UnavailableError, match="in use"):
        await rebuild(history.log, path)
    await store.close()


async def test_rebuilt_while_followed(tmp_path: Path) -> None:
    """The service rebuilds while events come and questions are asked; nothing is missed and nobody sees less."""
    history = eventful()
    path, expected = tmp_path / "headway.db", tmp_path / "expected.db"
    async with following(history.log, path) as (follower, store):
        await follower.wait_for(history.seq)
        connection = sqlite3.connect(path)
        with connection:
            connection.execute("update runs set project = 'wrong'")
        connection.close()
        rebuilding = asyncio.create_task(follower.rebuild())
        seen = [0]
        while not rebuilding.done():
            history.pass_run()
            await follower.wait_for(history.seq)
            async with store.reading() as db:
                seen.append((await queries.runs(db)).as_of)
        await rebuilding
        history.pass_run()
        await follower.wait_for(history.seq)
        async with store.reading() as db:
            assert {one.project for one in (await queries.runs(db)).runs} == {"shop", "other"}
    assert seen == sorted(seen)
    await rebuild(history.log, expected)
    assert await compare(path, expected) == []
    assert sorted(one.name for one in tmp_path.iterdir()) == ["expected.db", "headway.db"]


@pytest.mark.parametrize(
    ("tamper", "words"),
    [
        ("update steps set exit_code = 77 where step = 0 and exit_code = 2", "exit_code is 2 and 77"),
        ("delete from attempts where attempt = 2", "only in the first"),
        ("insert into runs select * from runs where 0; update meta set position = 3", "position is"),
        ("update events set body = x'00' where seq = 5", "events 5: body is"),
        ("insert into fleet (one) select 2 where 0; delete from coordinator", "coordinator 1: only in the first"),
    ],
)
async def test_differences_are_named(tmp_path: Path, tamper: str, words: str) -> None:
    """A changed, missing or added row is named with its table, its key and what differs."""
    history = eventful()
    path, tampered = tmp_path / "headway.db", tmp_path / "tampered.db"
    await fold(history, path)
    await fold(history, tampered)
    connection = sqlite3.connect(tampered)
    connection.executescript(tamper)
    connection.close()
    found = await compare(path, tampered)
    assert any(words in one for one in found)
    assert len(await compare(tampered, path)) == len(found)


async def test_nothing_to_compare_with(tmp_path: Path) -> None:
    """A file that is not there is an error, and is not made."""
    await fold(eventful(), tmp_path / "headway.db")
    with pytest.raises(UnavailableError):
        await compare(tmp_path / "headway.db", tmp_path / "nowhere.db")
    assert not (tmp_path / "nowhere.db").exists()


async def test_rebuilding_tells_how_far_it_is(tmp_path: Path) -> None:
    """Whoever waits hears of the last event folded and of the end; two who ask at once do not disturb each other."""
    history = eventful()
    heard: list[tuple[int, int]] = []
    async with following(history.log, tmp_path / "headway.db") as (follower, _):
        await follower.wait_for(history.seq)
        told = [follower.rebuild(lambda position, until: heard.append((position, until))) for _ in range(2)]
        await asyncio.gather(*told)
    assert heard == [(history.seq, history.seq)] * 2
    await rebuild(history.log, tmp_path / "expected.db")
    assert await compare(tmp_path / "headway.db", tmp_path / "expected.db") == []


async def test_following_goes_on_in_tables_that_were_made_again(tmp_path: Path) -> None:
    """Tables that took no more events, because somebody changed them, are made again and then followed."""
    history = eventful()
    path = tmp_path / "headway.db"
    store = await Store.open(path)
    follower = Follower(history.log, store)
    following = [asyncio.create_task(follower.run())]
    try:
        async with asyncio.timeout(LIMIT_SECONDS):
            await follower.wait_for(history.seq)
            connection = sqlite3.connect(path)
            with connection:
                connection.execute("update meta set position = position - 1")
            connection.close()
            history.pass_run()
            with pytest.raises(BrokenError, match="the tables are not at event"):
                await following[0]
            with pytest.raises(BrokenError):
                await follower.wait_for(history.seq)
            waiting = asyncio.create_task(follower.rebuilt())
            await asyncio.sleep(0)
            await follower.rebuild()
            await waiting
            following.append(asyncio.create_task(follower.run()))
            await follower.wait_for(history.seq)
    finally:  # also where it failed: a store that stays open keeps the process from ending
        following[-1].cancel()
        await asyncio.gather(*following, return_exceptions=True)
        await store.close()
    await rebuild(history.log, tmp_path / "expected.db")
    assert await compare(path, tmp_path / "expected.db") == []
