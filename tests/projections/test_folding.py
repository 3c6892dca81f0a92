"""Stories: what a history does to the rows of a run, its jobs, attempts and steps."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from headway.core.clock import from_us
from headway.core.events import (
    FleetPaused,
    FleetResumed,
    JobCancelRequested,
    JobCompleted,
    JobExecuting,
    JobOutputStored,
    JobQueued,
    RunCancelRequested,
    RunnerDrained,
    RunnerLeft,
    RunnerLost,
    RunnerRegistered,
    RunnerResumed,
    RunPaused,
    RunResumed,
)
from headway.core.states import Outcome
from headway.projections import queries
from tests.projections.histories import OUTPUT, RUNNER, History
from tests.projections.tables_fixture import following, job_of, shown


@pytest.fixture
def history() -> History:
    """A service with one runner."""
    history = History()
    history.elect()
    history.register()
    return history


async def test_a_run_of_one_job(history: History, tmp_path: Path) -> None:
    """Every handoff leaves its time, the end its outcome, and the run counts its jobs."""
    run = history.pass_run()
    show = await shown(history, tmp_path / "headway.db", run)
    assert (show.run.status, show.run.outcome, show.run.jobs_by_status) == ("success", "succeeded", {"success": 1})
    assert (show.run.branch, show.run.commit, show.run.dirty) == ("main", "c0ffee", True)
    assert (show.run.parameters, show.run.events) == ({"level": "3"}, 11)
    assert show.run.seq_completed == history.seq == show.as_of
    assert show.run.completed == from_us(history.clock.wall_us())
    assert show.run.duration_ms == 10
    [job], [attempt], [step] = show.jobs, show.attempts, show.steps
    assert (job.state, job.status, job.attempt, job.runner) == ("completed", "success", 1, RUNNER)
    assert (job.output, job.exit_code, job.failure, job.runs_on) == (OUTPUT.digest, 0, None, ("linux",))
    millisecond = timedelta(milliseconds=1)
    assert job.queued == show.run.admitted + 2 * millisecond
    assert job.started == attempt.assigned == show.run.started == job.queued + millisecond
    assert attempt.started == attempt.assigned + 2 * millisecond
    assert (attempt.state, attempt.outcome, attempt.ended) == ("completed", "succeeded", job.completed)
    assert [(one.what, one.hit) for one in attempt.prepared] == [("source", True)]
    assert (step.name, step.shell, step.outcome, step.exit_code, step.tried) == ("make", "bash", "succeeded", 0, 1)
    assert (step.duration_ms, step.ended) == (5, step.started + millisecond)


async def test_each_state_on_the_way(history: History, tmp_path: Path) -> None:
    """A job is in the state that its last handoff says, since that handoff, and its run's status follows."""
    run = history.admit({"build": ()})
    moves = [
        (lambda: None, "admitted", "pending", "pending"),
        (lambda: history.queue(run, "build"), "queued", "pending", "pending"),
        (lambda: history.assign(run, "build"), "assigned", "running", "running"),
        (lambda: history.prepare(run, "build"), "preparing", "running", "running"),
        (lambda: history.execute(run, "build"), "executing", "running", "running"),
        (lambda: history.upload(run, "build"), "uploading", "running", "running"),
        (lambda: history.complete(run, "build"), "completed", "success", "running"),
    ]
    async with following(history.log, tmp_path / "headway.db") as (follower, store):
        for move, state, status, run_status in moves:
            move()
            await follower.wait_for(history.seq)
            async with store.reading() as db:
                show = await queries.show(db, run)
            assert (show.jobs[0].state, show.jobs[0].status, show.run.status) == (state, status, run_status)
            assert show.jobs[0].entered == from_us(history.clock.wall_us())


async def test_a_failed_attempt_and_the_next(history: History, tmp_path: Path) -> None:
    """A failed attempt leaves its runner at once, changes the state only with the queue, and stays on record."""
    run = history.admit({"build": ()})
    history.queue(run, "build")
    history.work(run, "build", exit_code=2)
    history.fail_attempt(run, "build")
    path = tmp_path / "headway.db"
    job = job_of(await shown(history, path, run), "build")
    assert (job.state, job.runner, job.exit_code) == ("executing", None, 2)
    assert job.failure is not None
    history.queue(run, "build", attempt=2, reason="failed")
    show = await shown(history, path, run)
    job = job_of(show, "build")
    assert (job.state, job.status, job.attempt, job.reason) == ("queued", "retry", 2, "failed")
    assert (job.runner, job.started, job.failure) == (None, None, None)
    assert show.run.jobs_by_status == {"retry": 1}
    history.pass_job(run, "build", attempt=2)
    history.end(run)
    show = await shown(history, path, run)
    assert [(one.attempt, one.outcome, one.exit_code) for one in show.attempts] == [
        (1, "failed", 2),
        (2, "succeeded", 0),
    ]
    assert show.attempts[0].failure is not None
    assert [(one.attempt, one.outcome) for one in show.steps] == [(1, "failed"), (2, "succeeded")]
    assert (show.run.status, job_of(show, "build").status) == ("success", "success")


async def test_a_lost_attempt(history: History, tmp_path: Path) -> None:
    """A lost attempt has no outcome; what its runner still says moves nothing; its output may be found later."""
    run = history.admit({"build": ()})
    history.queue(run, "build")
    history.work(run, "build")
    history.lose(run, "build")
    history.queue(run, "build", attempt=2, reason="lost")
    history.upload(run, "build")
    history.finish_step(run, "build", exit_code=9)
    history.complete(run, "build")
    history.say(JobOutputStored(output=OUTPUT), run=run, job="build", attempt=1)
    history.say(JobOutputStored(missing="too late"), run=run, job="build", attempt=1)
    show = await shown(history, tmp_path / "headway.db", run)
    [attempt], job = show.attempts, job_of(show, "build")
    assert (attempt.state, attempt.outcome, attempt.reason) == ("lost", None, "silent for 15 s")
    assert (attempt.output, attempt.output_missing, attempt.uploading) == (OUTPUT.digest, "", None)
    assert (job.state, job.attempt, job.status, job.output) == ("queued", 2, "retry", None)
    assert show.steps[0].exit_code == 0


async def test_a_loss_named_after_another_runner(history: History, tmp_path: Path) -> None:
    """Only the runner that holds the attempt can lose it."""
    run = history.admit({"build": ()})
    history.queue(run, "build")
    history.assign(run, "build")
    history.lose(run, "build", runner="other-00000001")
    job = job_of(await shown(history, tmp_path / "headway.db", run), "build")
    assert (job.state, job.runner) == ("assigned", RUNNER)


async def test_a_fact_said_twice(history: History, tmp_path: Path) -> None:
    """A runner's fact with a number already used changes nothing, nor does one of a future attempt."""
    run = history.admit({"build": ()})
    history.queue(run, "build")
    history.assign(run, "build")
    history.prepare(run, "build")
    history.say(JobExecuting(fact=1), run=run, job="build", attempt=1)
    history.say(JobExecuting(fact=2), run=run, job="build", attempt=5)
    history.say(JobQueued(), run=run, job="build", attempt=1)
    history.say(JobQueued(), run=run, job="build", attempt=2)
    job = job_of(await shown(history, tmp_path / "headway.db", run), "build")
    assert (job.state, job.attempt) == ("preparing", 1)


async def test_a_cancelled_run(history: History, tmp_path: Path) -> None:
    """Who cancelled and why is the first word of it; running, waiting and skipped jobs each end in their way."""
    run = history.admit({"build": (), "test": ("build",), "ship": ("test",)})
    history.queue(run, "build")
    history.work(run, "build")
    history.say(RunCancelRequested(reason="wrong branch"), run=run, actor="user:ada")
    history.say(RunCancelRequested(reason="me too"), run=run, actor="user:grace")
    history.say(JobCancelRequested(reason="wrong branch", runner=RUNNER), run=run, job="build", attempt=1)
    history.complete(run, "build", outcome=Outcome.CANCELLED)
    history.drop(run, "test", Outcome.CANCELLED, reason="wrong branch")
    history.drop(run, "ship", Outcome.SKIPPED, reason="test was cancelled")
    history.end(run, Outcome.CANCELLED, jobs=3)
    show = await shown(history, tmp_path / "headway.db", run)
    assert (show.run.status, show.run.cancelled_by, show.run.cancel_reason) == ("cancelled", "user:ada", "wrong branch")
    assert show.run.jobs_by_status == {"cancelled": 2, "skipped": 1}
    assert [(one.job, one.status) for one in show.jobs] == [
        ("build", "cancelled"),
        ("test", "cancelled"),
        ("ship", "skipped"),
    ]
    assert job_of(show, "build").cancel_reason == "wrong branch"
    assert (job_of(show, "ship").reason, job_of(show, "ship").attempt) == ("test was cancelled", 0)
    assert [one.outcome for one in show.attempts] == ["cancelled"]


async def test_a_completed_job_stays_completed(history: History, tmp_path: Path) -> None:
    """The first outcome is the job's, also when the next word comes after it has left the memory."""
    run = history.admit({"build": (), "test": ()})
    history.pass_job(run, "build")
    async with following(history.log, tmp_path / "headway.db") as (follower, store):
        await follower.wait_for(history.seq)
        history.say(JobCompleted(outcome=Outcome.FAILED, fact=99), run=run, job="build", attempt=1)
        history.queue(run, "build", attempt=2)
        await follower.wait_for(history.seq)
        async with store.reading() as db:
            show = await queries.show(db, run)
    assert (job_of(show, "build").status, job_of(show, "build").attempt) == ("success", 1)
    assert show.run.jobs_by_status == {"pending": 1, "success": 1}


async def test_a_paused_run(history: History, tmp_path: Path) -> None:
    """A pause holds what waits, says by whom and since when, and leaves alone what runs."""
    run = history.admit({"build": (), "test": ()})
    history.queue(run, "build")
    path = tmp_path / "headway.db"
    history.say(RunPaused(reason="hold on"), run=run, actor="user:ada")
    since = from_us(history.clock.wall_us())
    history.say(RunPaused(reason="again"), run=run, actor="user:grace")
    show = await shown(history, path, run)
    assert (show.run.status, show.run.paused_by, show.run.paused_since) == ("paused", "user:ada", since)
    assert [one.status for one in show.jobs] == ["paused", "paused"]
    assert show.run.jobs_by_status == {"paused": 2}
    history.assign(run, "build")
    show = await shown(history, path, run)
    assert (show.run.status, [one.status for one in show.jobs]) == ("running", ["running", "paused"])
    history.say(RunResumed(), run=run)
    show = await shown(history, path, run)
    assert (show.run.paused, show.run.paused_by, job_of(show, "test").status) == (False, None, "pending")


async def test_a_paused_service(history: History, tmp_path: Path) -> None:
    """A pause of the whole service holds every run that is not over, and no other."""
    done = history.pass_run()
    run = history.admit({"build": ()})
    path = tmp_path / "headway.db"
    history.say(FleetPaused(reason="upgrade"), actor="user:grace")
    async with following(history.log, path) as (follower, store):
        await follower.wait_for(history.seq)
        async with store.reading() as db:
            paused = await queries.fleet_paused(db)
            open_run, done_run = await queries.show(db, run), await queries.show(db, done)
    assert paused is not None
    assert (paused.by, paused.reason) == ("user:grace", "upgrade")
    assert (open_run.run.status, open_run.run.paused_by, open_run.jobs[0].status) == ("paused", "user:grace", "paused")
    assert (done_run.run.status, done_run.run.paused) == ("success", False)
    history.say(FleetResumed())
    assert (await shown(history, path, run)).run.status == "pending"


async def test_a_runners_life(history: History, tmp_path: Path) -> None:
    """A runner is idle, busy, draining and in the end lost or left; gone is gone."""
    run = history.admit({"build": ()})
    steps = [
        (lambda: None, "idle", 0, ""),
        (lambda: (history.queue(run, "build"), history.assign(run, "build")), "busy", 1, ""),
        (lambda: history.say(RunnerDrained(runner=RUNNER, reason="disk")), "draining", 1, "disk"),
        (lambda: history.say(RunnerResumed(runner=RUNNER)), "busy", 1, ""),
        (lambda: history.complete(run, "build"), "idle", 0, ""),
        (lambda: history.say(RunnerLost(runner=RUNNER, reason="silent")), "lost", 0, "silent"),
        (lambda: history.say(RunnerDrained(runner=RUNNER)), "lost", 0, "silent"),
        (lambda: history.say(RunnerLeft(runner=RUNNER)), "lost", 0, "silent"),
    ]
    async with following(history.log, tmp_path / "headway.db") as (follower, store):
        for step, status, busy, reason in steps:
            step()
            await follower.wait_for(history.seq)
            async with store.reading() as db:
                [runner] = (await queries.runners(db)).runners
            assert (runner.status, runner.busy, runner.reason) == (status, busy, reason)
        history.register("local-00000002", replaces=(RUNNER,))
        await follower.wait_for(history.seq)
        async with store.reading() as db:
            here, ever = await queries.runners(db), await queries.runners(db, gone=True)
    assert [one.runner for one in here.runners] == ["local-00000002"]
    assert [one.runner for one in ever.runners] == [RUNNER, "local-00000002"]


async def test_a_runner_registered_twice(history: History, tmp_path: Path) -> None:
    """A runner that is here stays what it said first."""
    again = RunnerRegistered(runner=RUNNER, name="local", labels=("other",), slots=9)
    history.say(again)
    async with following(history.log, tmp_path / "headway.db") as (follower, store):
        await follower.wait_for(history.seq)
        async with store.reading() as db:
            [runner] = (await queries.runners(db)).runners
    assert (runner.slots, runner.labels) == (2, ("linux",))


async def test_a_step_tried_again(history: History, tmp_path: Path) -> None:
    """A step's row tells of the last time it was tried."""
    run = history.admit({"build": ()})
    history.queue(run, "build")
    history.work(run, "build", exit_code=1)
    history.start_step(run, "build", tried=2)
    path = tmp_path / "headway.db"
    [step] = (await shown(history, path, run)).steps
    assert (step.tried, step.outcome, step.ended) == (2, None, None)
    history.finish_step(run, "build", tried=2)
    [step] = (await shown(history, path, run)).steps
    assert (step.tried, step.outcome, step.exit_code) == (2, "succeeded", 0)


async def test_events_that_make_no_sense(history: History, tmp_path: Path) -> None:
    """Events of unknown runs and jobs, and a run admitted twice, are kept and change no row."""
    run = history.admit({"build": ()})
    history.queue("no-such-run", "build")
    history.queue(run, "no-such-job")
    history.admit_again(run)
    path = tmp_path / "headway.db"
    show = await shown(history, path, run)
    assert (show.run.jobs, show.run.project, [one.job for one in show.jobs]) == (1, "shop", ["build"])
    async with following(history.log, path) as (_, store), store.reading() as db:
        assert (await queries.events(db)).as_of == history.seq
        assert len((await queries.events(db)).events) == history.seq
        assert len((await queries.runs(db)).runs) == 1
