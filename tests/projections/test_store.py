"""What a store makes of the place and the file it is given."""

from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path

import pytest

from headway.core.errors import BrokenError, UnavailableError
from headway.projections import queries
from headway.projections.apply import Fold, fold_batch
from headway.projections.store import READERS_MAX, Store
from headway.projections.tables import KINDS, ORDER
from tests.projections.histories import History
from tests.projections.tables_fixture import fold, following


async def test_a_new_file(tmp_path: Path) -> None:
    """Missing folders are made; the file begins at no event, with nothing to say about it."""
    store = await Store.open(tmp_path / "a" / "b" / "headway.db")
    assert (store.position, store.note) == (0, "")
    await store.close()


@pytest.mark.parametrize("earlier", [True, False])
async def test_the_file_is_for_its_user_alone(tmp_path: Path, earlier: bool) -> None:
    """Nobody else may read it, also when the folders, or the file itself, were there and open to all."""
    tmp_path.chmod(0o755)
    path = tmp_path / "projections" / "headway.db"
    if earlier:
        path.parent.mkdir()
        path.parent.chmod(0o755)
        path.touch()
        path.chmod(0o644)
    store = await Store.open(path)
    assert path.parent.stat().st_mode & 0o777 == 0o700
    assert {one.stat().st_mode & 0o777 for one in path.parent.iterdir()} == {0o600}
    await store.start_over("a test")
    assert {one.stat().st_mode & 0o777 for one in path.parent.iterdir()} == {0o600}
    await store.close()


async def test_the_rows_are_the_tables(tmp_path: Path) -> None:
    """The fields of each row are the columns of its table, in order, and every table has its order."""
    store = await Store.open(tmp_path / "headway.db")
    for kind in KINDS:
        columns = [name for _, name, *_ in await store.fetch(f"pragma table_info({kind.table})")]
        assert columns == list(kind.__struct_fields__)
    tables = {name for (name,) in await store.fetch("select name from sqlite_schema where type = 'table'")}
    assert tables == set(ORDER)
    await store.close()


@pytest.mark.parametrize("junk", [b"not a database at all, " * 400, b"SQLite format 3\x00" + b"\xff" * 5000])
async def test_a_file_that_is_no_database(tmp_path: Path, junk: bytes) -> None:
    """Junk is kept aside, said, and the log folded anew."""
    path = tmp_path / "headway.db"
    path.write_bytes(junk)
    history = History()
    run = history.pass_run()
    async with following(history.log, path) as (follower, store):
        assert "headway.db.set-aside" in store.note
        await follower.wait_for(history.seq)
        async with store.reading() as db:
            assert (await queries.show(db, run)).run.status == "success"
    assert path.with_name("headway.db.set-aside").read_bytes() == junk


@pytest.mark.parametrize("change", ["update meta set schema_version = 99", "drop table steps", "delete from meta"])
async def test_a_file_of_another_version(tmp_path: Path, change: str) -> None:
    """Tables of another version are set aside, with what lies beside the file, and begun anew."""
    path = tmp_path / "headway.db"
    history = History()
    history.pass_run()
    await fold(history, path)
    connection = sqlite3.connect(path)
    with connection:
        connection.execute(change)
    connection.close()
    store = await Store.open(path)
    assert store.position == 0
    assert "set-aside" in store.note
    await store.close()
    store = await Store.open(path)
    assert store.note == ""
    await store.close()


async def test_an_empty_file(tmp_path: Path) -> None:
    """A file of no bytes is a new one."""
    path = tmp_path / "headway.db"
    path.touch()
    store = await Store.open(path)
    assert store.note == ""
    await store.close()


async def test_places_that_cannot_be_used(tmp_path: Path) -> None:
    """A folder in the file's place, or a file in the folder's, is an error that says what to do."""
    (tmp_path / "folder.db").mkdir()
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "folder.db", tmp_path / "file" / "headway.db"):
        with pytest.raises(UnavailableError) as caught:
            await Store.open(path)
        assert str(path.parent.name) in caught.value.message
        assert "write permission" in caught.value.next


async def test_two_writers(tmp_path: Path) -> None:
    """Two that write the same file find out, and nothing is written twice."""
    path = tmp_path / "headway.db"
    history = History()
    history.pass_run()
    first, second = await Store.open(path), await Store.open(path)
    await fold_batch(Fold(), first, history.log.entries[:5])
    with pytest.raises(BrokenError, match="not at event 0"):
        await fold_batch(Fold(), second, history.log.entries)
    assert await second.fetch("select position, (select count(*) from events) from meta") == [(5, 5)]
    await first.close()
    await second.close()


async def test_answers_of_one_moment(tmp_path: Path) -> None:
    """Whoever reads sees one moment for as long as he reads, whatever is written meanwhile."""
    path = tmp_path / "headway.db"
    history = History()
    run = history.admit({"build": ()})
    async with following(history.log, path) as (follower, store):
        await follower.wait_for(history.seq)
        async with store.reading() as db:
            before = await queries.show(db, run)
            history.pass_job(run, "build")
            await follower.wait_for(history.seq)
            assert await queries.show(db, run) == before
        async with store.reading() as db:
            assert (await queries.show(db, run)).as_of == history.seq


async def test_more_readers_than_seats(tmp_path: Path) -> None:
    """Many may ask at once; they take turns, and an error of one leaves its seat to the next."""
    path = tmp_path / "headway.db"
    history = History()
    run = history.pass_run()
    await fold(history, path)
    store = await Store.open(path)

    async def ask(number: int) -> str:
        async with store.reading() as db:
            if number % 2:
                await queries.show(db, "no-such-run")
            return (await queries.show(db, run)).run.status

    answers = await asyncio.gather(*(ask(number) for number in range(3 * READERS_MAX)), return_exceptions=True)
    assert answers.count("success") == 3 * READERS_MAX // 2
    await store.close()
