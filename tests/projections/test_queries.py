"""What can be asked of the tables, and what the answers are."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from datetime import timedelta
from pathlib import Path
from typing import TypeVar

import aiosqlite
import msgspec
import pytest

from headway.core.clock import from_us
from headway.core.errors import NotFoundError, UsageError
from headway.core.events import FleetPaused, RunPaused
from headway.core.states import Outcome
from headway.projections import queries
from headway.projections.queries import JobFilter, RunFilter
from headway.projections.store import Store
from tests.projections.histories import RUNNER, History, eventful
from tests.projections.tables_fixture import following

T = TypeVar("T")
Ask = Callable[[History, Callable[[aiosqlite.Connection], Awaitable[T]]], Awaitable[T]]


@pytest.fixture
async def ask(tmp_path: Path) -> Ask[object]:
    """Asks one question at the end of a history."""

    async def answered(history: History, question: Callable[[aiosqlite.Connection], Awaitable[object]]) -> object:
        async with following(history.log, tmp_path / "headway.db") as (follower, store):
            await follower.wait_for(history.seq)
            async with store.reading() as db:
                return await question(db)

    return answered


@pytest.fixture
async def db(tmp_path: Path) -> AsyncGenerator[aiosqlite.Connection, None]:
    """A connection at the end of the eventful history."""
    history = eventful()
    async with following(history.log, tmp_path / "headway.db") as (follower, store):
        await follower.wait_for(history.seq)
        async with store.reading() as connection:
            yield connection


async def test_runs_newest_first(db: aiosqlite.Connection) -> None:
    """All runs, the newest first, as of the last event."""
    found = await queries.runs(db)
    assert found.as_of == await queries.position(db) == eventful().seq
    assert [one.status for one in found.runs] == ["pending", "cancelled", "running", "failed", "success"]
    assert [one.seq for one in found.runs] == sorted((one.seq for one in found.runs), reverse=True)


@pytest.mark.parametrize(
    ("asked", "statuses"),
    [
        (RunFilter(status="success"), ["success"]),
        (RunFilter(status="running"), ["running"]),
        (RunFilter(status="retry"), []),
        (RunFilter(branch="side"), ["running"]),
        (RunFilter(project="other"), ["pending"]),
        (RunFilter(project="shop", limit=2), ["cancelled", "running"]),
        (RunFilter(pipeline="nothing"), []),
        (RunFilter(pipeline="build", status="failed"), ["failed"]),
    ],
)
async def test_runs_by_what_is_asked(db: aiosqlite.Connection, asked: RunFilter, statuses: list[str]) -> None:
    """Each filter narrows, all of them together."""
    assert [one.status for one in (await queries.runs(db, asked)).runs] == statuses


async def test_runs_since(db: aiosqlite.Connection) -> None:
    """Runs admitted since a moment, that moment included."""
    newest = (await queries.runs(db)).runs[0]
    assert len((await queries.runs(db, RunFilter(since=newest.admitted))).runs) == 1
    assert (await queries.runs(db, RunFilter(since=newest.admitted + timedelta(microseconds=1)))).runs == []


async def test_words_that_are_no_status(db: aiosqlite.Connection) -> None:
    """An unknown status or state is refused with the known ones."""
    with pytest.raises(UsageError) as caught:
        await queries.runs(db, RunFilter(status="green"))
    assert "success" in caught.value.next
    with pytest.raises(UsageError) as caught:
        await queries.jobs(db, JobFilter(state="'; drop table jobs"))
    assert "queued" in caught.value.next


@pytest.mark.parametrize(
    ("asked", "count"),
    [
        (JobFilter(), 12),
        (JobFilter(state="completed"), 9),
        (JobFilter(state="admitted"), 3),
        (JobFilter(state="success"), 5),
        (JobFilter(state="skipped"), 1),
        (JobFilter(state="pending"), 3),
        (JobFilter(state="retry"), 0),
        (JobFilter(label="linux"), 12),
        (JobFilter(label="linu"), 0),
        (JobFilter(label="linux", state="failed"), 1),
        (JobFilter(limit=2), 2),
    ],
)
async def test_jobs_by_what_is_asked(db: aiosqlite.Connection, asked: JobFilter, count: int) -> None:
    """Jobs by state, by status and by label."""
    found = (await queries.jobs(db, asked)).jobs
    assert len(found) == count
    assert [one.seq for one in found] == sorted((one.seq for one in found), reverse=True)


async def test_what_a_pause_holds(ask: Ask[object]) -> None:
    """Asked for `paused`, runs and jobs are those that wait and are held; they are no longer `pending` then."""
    history = History()
    held, free = history.admit({"a": (), "b": ()}), history.admit({"c": ()})
    history.queue(held, "a")
    history.assign(held, "a")
    history.queue(held, "b")
    history.pass_run()
    history.say(RunPaused(), run=held)

    async def names(db: aiosqlite.Connection) -> list[list[str]]:
        states = ("paused", "pending", "running", "queued")
        return [[one.job for one in (await queries.jobs(db, JobFilter(state=state))).jobs] for state in states]

    async def ids(db: aiosqlite.Connection) -> list[list[str]]:
        statuses = ("paused", "pending", "running", "success")
        return [[one.run for one in (await queries.runs(db, RunFilter(status=one))).runs][:2] for one in statuses]

    assert await ask(history, names) == [["b"], ["c"], ["a"], ["b"]]
    found = await ask(history, ids)
    assert isinstance(found, list)
    assert found[:3] == [[], [free], [held]]
    history.say(FleetPaused(reason="x"))
    assert await ask(history, names) == [["c", "b"], [], ["a"], ["b"]]
    found = await ask(history, ids)
    assert isinstance(found, list)
    assert found[:3] == [[free], [], [held]]
    assert len(found[3]) == 1


async def test_a_prefix(ask: Ask[object]) -> None:
    """A unique prefix names a run; none and several are errors with something to do next."""
    history = History()
    runs = [history.pass_run() for _ in range(7)]
    assert await ask(history, lambda db: queries.resolve(db, runs[3])) == runs[3]
    assert await ask(history, lambda db: queries.resolve(db, runs[3][:-2].upper())) == runs[3]
    with pytest.raises(NotFoundError) as caught:
        await ask(history, lambda db: queries.resolve(db, runs[0][:8]))
    assert runs[6] in caught.value.next
    assert "and others" in caught.value.next
    for wrong in ("ffff", "", "%", "0197_", "no such run"):
        with pytest.raises(NotFoundError) as caught:
            await ask(history, lambda db, wrong=wrong: queries.resolve(db, wrong))
        assert "headway runs" in caught.value.next


async def test_the_latest_run(db: aiosqlite.Connection) -> None:
    """The last run of a project, by anyone or by one person."""
    newest = (await queries.runs(db)).runs
    assert await queries.latest(db, "other") == await queries.latest(db, "other", "user:grace") == newest[0].run
    assert await queries.latest(db, "shop", "user:ada") == newest[1].run
    assert await queries.latest(db, "shop", "user:grace") is None


async def test_events_of_a_run(db: aiosqlite.Connection) -> None:
    """A run's events in order, from any sequence, of one type, each as the log has it."""
    oldest = (await queries.runs(db)).runs[-1]
    found = (await queries.events(db, run=oldest.run)).events
    assert [one["n"] for one in found] == list(range(1, oldest.events + 1))
    assert (found[0]["type"], found[-1]["type"]) == ("run.admitted", "run.completed")
    assert found[0]["data"]["project"] == "shop"
    later = (await queries.events(db, run=oldest.run, start=found[5]["seq"], limit=2)).events
    assert later == found[5:7]
    assert len((await queries.events(db, run=oldest.run, type="job.admitted")).events) == oldest.jobs
    assert (await queries.events(db, run="no-such-run")).events == []


async def test_the_queue_and_the_service(ask: Ask[object]) -> None:
    """What waits, what holds a slot, how many runs are not over, and who coordinates."""
    history = History()
    history.elect()
    run = history.admit({"a": (), "b": (), "c": ("a",)})
    history.queue(run, "a")
    first = from_us(history.clock.wall_us())
    history.queue(run, "b")
    history.pass_run()
    found = await ask(history, queries.queue)
    assert msgspec.to_builtins(found, builtin_types=(type(first),)) == {
        "queued": 2,
        "on_a_runner": 0,
        "oldest_queued": first,
    }
    history.assign(run, "a")
    found = await ask(history, queries.queue)
    assert (getattr(found, "queued", 0), getattr(found, "on_a_runner", 0)) == (1, 1)
    assert await ask(history, queries.unfinished) == 1
    assert getattr(await ask(history, queries.coordinator), "coordinator", "") == "c-1"


async def test_answers_as_json(db: aiosqlite.Connection) -> None:
    """Answers become JSON with times in UTC and the class of a failure under its own name."""
    [failed] = (await queries.runs(db, RunFilter(status="failed"))).runs
    text = msgspec.json.encode(await queries.show(db, failed.run)).decode()
    assert '"class":"caller_fixable"' in text
    assert f'"admitted":"{failed.admitted.isoformat().replace("+00:00", "Z")}"' in text


async def test_a_run_of_a_thousand_jobs(tmp_path: Path) -> None:
    """A large run is shown whole, its jobs in the order of their admission."""
    history = History()
    names = [f"job-{number:04}" for number in range(1000)]
    run = history.admit(dict.fromkeys(reversed(names), ()))
    for name in names[:50]:
        history.pass_job(run, name)
    history.queue(run, names[60])
    history.work(run, names[60], exit_code=2)
    history.upload(run, names[60])
    history.complete(run, names[60], outcome=Outcome.FAILED)
    async with following(history.log, tmp_path / "headway.db") as (follower, store):
        await follower.wait_for(history.seq)
        async with store.reading() as db:
            show = await queries.show(db, run)
    assert [one.job for one in show.jobs] == list(reversed(names))
    assert show.run.jobs_by_status == {"pending": 949, "success": 50, "failed": 1}
    assert {one.runner for one in show.attempts} == {RUNNER}
    assert len(show.attempts) == len(show.steps) == 51


async def test_nothing_yet(tmp_path: Path) -> None:
    """Before the first event every list is empty and every question has an answer."""
    store = await Store.open(tmp_path / "headway.db")
    async with store.reading() as db:
        assert (await queries.runs(db)).runs == (await queries.jobs(db)).jobs == []
        assert (await queries.runners(db)).runners == (await queries.events(db)).events == []
        assert await queries.fleet_paused(db) is await queries.coordinator(db) is None
        assert await queries.latest(db, "shop") is None
        assert await queries.position(db) == await queries.unfinished(db) == 0
        with pytest.raises(NotFoundError):
            await queries.show(db, "none")
    await store.close()


async def test_a_run_is_found_by_the_end_of_its_id(ask: Ask[object]) -> None:
    """Lists show the end of an id, for beginnings are times and alike; six characters of it are enough."""
    history = History()
    runs = [history.pass_run() for _ in range(3)]
    for end in (runs[1][-10:], runs[1][-6:]):
        assert await ask(history, lambda db, end=end: queries.resolve(db, end)) == runs[1]
    other = "e" if runs[1][-7] != "e" else "d"
    for wrong in (runs[1][-5:], other + runs[1][-6:]):
        with pytest.raises(NotFoundError, match="begins or ends so"):
            await ask(history, lambda db, wrong=wrong: queries.resolve(db, wrong))
