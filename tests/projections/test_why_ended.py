"""How what is over ended, and why; and what took longest."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from headway.core.events import Failure, JobAttemptFailed, JobCancelRequested, JobCompleted, RunCancelRequested
from headway.core.states import Outcome
from headway.projections.answers import WhyAll, WhyRun
from headway.projections.causes import CAUSES, Cause, causes_page
from headway.projections.expected import RUNS_MOST
from headway.projections.words import about, because, listed, person, span
from tests.projections.histories import RUNNER, eventful
from tests.projections.tables_fixture import following
from tests.projections.whys import Told

ROOT = Path(__file__).parents[2]


@pytest.fixture
def told(tmp_path: Path) -> Told:
    """A history that has begun."""
    return Told(tmp_path)


async def test_a_run_that_succeeded_says_what_took_longest(told: Told) -> None:
    """The longest stay in a state, and the longest job when that is another one."""
    told.history.register()
    run = told.admit({"build": {}, "test": {"depends_on": ("build",)}})
    told.history.queue(run, "build")
    told.history.clock.advance(200)
    told.execute(run, "build", RUNNER, queue=False)
    told.history.clock.advance(10)
    told.history.complete(run, "build")
    told.execute(run, "test", RUNNER)
    told.history.clock.advance(60)
    told.history.complete(run, "test")
    told.history.end(run, jobs=2)
    found = (await told.run(run)).run
    assert found.cause is Cause.SUCCEEDED
    assert found.words == (
        "it succeeded after 4m 30s, 2 jobs; what took longest was build waiting for a slot, 3m 20s; "
        "the longest job was test, 1m"
    )
    assert [(one.job, one.state) for one in found.facts.longest[:2]] == [("build", "queued"), ("test", "executing")]
    job = await told.job(run, "test")
    assert job.words == f"it succeeded after 1m on {RUNNER}; what took longest was executing, 1m"
    assert (job.unblocks, job.unknown) == ("", "")


async def test_a_failed_run_names_the_job_that_failed_first_and_what_was_skipped_for_it(told: Told) -> None:
    """The step with its exit code, the runner, the jobs that were skipped with their condition and its values."""
    told.history.register()
    jobs = {"build": {}, "lint": {}, "test": {"depends_on": ("build", "lint")}, "ship": {"depends_on": ("test",)}}
    run = told.admit(jobs)
    told.execute(run, "lint", RUNNER)
    told.history.complete(run, "lint")
    told.execute(run, "build", RUNNER)
    told.history.clock.advance(3)
    told.history.finish_step(run, "build", exit_code=2)
    told.history.complete(run, "build", outcome=Outcome.FAILED)
    told.history.drop(run, "test", Outcome.SKIPPED, reason="build failed")
    told.history.drop(run, "ship", Outcome.SKIPPED, reason="test was skipped")
    told.history.end(run, Outcome.FAILED, jobs=4)
    found = await told.run(run)
    assert found.run.cause is Cause.FAILED
    assert found.run.words == "it failed after 3s: build failed, and for that 2 jobs were skipped"
    assert [one.job for one in found.jobs] == ["build"]
    assert found.jobs[0].words == f"it failed after 3s on {RUNNER}: step make exited with code 2"
    assert (found.jobs[0].facts.exit_code, found.jobs[0].facts.failure_class) == (2, "caller_fixable")
    test, ship = await told.job(run, "test"), await told.job(run, "ship")
    assert (test.cause, test.words) == (Cause.SKIPPED, "its condition success() did not hold: build failed")
    assert (test.facts.condition, test.facts.values) == ("success()", {"build": "failed", "lint": "succeeded"})
    assert ship.words == "its condition success() did not hold: test was skipped, because build failed"
    assert ship.facts.blocked_by == ("test", "build")
    assert ship.unblocks == f"headway why {run} build says why that was"


async def test_a_job_that_was_tried_again_tells_of_every_attempt(told: Told) -> None:
    """One was lost with its runner, one failed, the third succeeded."""
    told.history.register()
    run = told.admit({"build": {"retry_count": 1}})
    told.execute(run, "build", RUNNER)
    told.history.clock.advance(20)
    told.history.lose(run, "build")
    told.history.queue(run, "build", attempt=2, reason="lost")
    told.execute(run, "build", RUNNER, attempt=2, queue=False)
    told.history.fail_attempt(run, "build", attempt=2)
    told.execute(run, "build", RUNNER, attempt=3)
    told.history.complete(run, "build", attempt=3)
    found = await told.job(run, "build")
    assert [one.words for one in found.facts.attempts] == [
        f"attempt 1 was lost with {RUNNER} after 20s: silent for 15 s",
        f"attempt 2 failed on {RUNNER} after 4ms: make exited with 2",
    ]
    assert found.words.startswith(f"it succeeded after 4ms on {RUNNER}, in attempt 3 (attempt 2 failed on ")


async def test_a_job_whose_every_attempt_was_lost(told: Told) -> None:
    """No step failed: its runners were lost too often."""
    told.history.register()
    run = told.admit({"build": {}})
    told.execute(run, "build", RUNNER)
    told.history.lose(run, "build")
    reason = "3 attempts were lost with their runners"
    failure = Failure(failure_class="transient", reason=reason)
    told.history.say(
        JobCompleted(outcome=Outcome.FAILED, reason=reason, failure=failure), run=run, job="build", attempt=1
    )
    found = await told.job(run, "build")
    assert (found.cause, found.words.partition(": ")[2]) == (Cause.LOST_RUNNER, reason)


async def test_who_cancelled_what_and_why(told: Told) -> None:
    """The run, by whom and why; or one job of it, by whom and why."""
    told.history.register()
    run = told.admit({"build": {}, "test": {"depends_on": ("build",)}}, queue=["build"])
    told.history.say(RunCancelRequested(reason="wrong branch"), run=run, actor="user:ada")
    told.history.drop(run, "build", Outcome.CANCELLED, attempt=1, reason="wrong branch")
    told.history.drop(run, "test", Outcome.CANCELLED, reason="wrong branch")
    told.history.end(run, Outcome.CANCELLED, jobs=2)
    found = await told.run(run)
    assert (found.run.cause, found.run.words) == (
        Cause.CANCELLED,
        "ada cancelled it: wrong branch; it was over after 7ms",
    )
    assert (await told.job(run, "build")).words == "ada cancelled the run: wrong branch"
    one = told.admit({"build": {}}, queue=["build"])
    told.history.say(JobCancelRequested(reason="not this"), run=one, job="build", attempt=1, actor="user:grace")
    told.history.drop(one, "build", Outcome.CANCELLED, attempt=1, reason="not this")
    told.history.end(one, Outcome.CANCELLED)
    assert (await told.job(one, "build")).words == "grace cancelled it: not this"
    assert (await told.run(one)).run.words == "grace cancelled its job build: not this; it was over after 5ms"


async def test_a_job_whose_next_attempt_has_not_been_said(told: Told) -> None:
    """Between the end of an attempt and the coordinator's word it is due, with how it ended."""
    told.history.register()
    run = told.admit({"build": {}})
    told.execute(run, "build", RUNNER)
    failure = Failure(failure_class="caller_fixable", reason="make exited with 2", step=0)
    fact = told.history.fact(run, "build", 1)
    told.history.say(JobAttemptFailed(fact=fact, failure=failure), run=run, job="build", attempt=1)
    found = await told.job(run, "build")
    assert found.cause is Cause.DUE
    assert found.words.startswith(f"attempt 1 failed on {RUNNER} after 4ms: make exited with 2")


async def test_no_more_past_runs_count_than_the_last_ones(told: Told) -> None:
    """The median is of the last twenty successes; a pipeline of another project is another one."""
    told.history.register()
    told.passed("build", RUNNER, seconds=999, project="other")
    for _ in range(5):
        told.passed("build", RUNNER, seconds=500)
    for seconds in range(RUNS_MOST):
        told.passed("build", RUNNER, seconds=1 + seconds % 3)
    run = told.admit({"build": {}})
    told.execute(run, "build", RUNNER)
    found = await told.job(run, "build")
    assert found.facts.expected_from == RUNS_MOST
    assert found.facts.expected_ms is not None
    assert 1900 < found.facts.expected_ms < 2100


async def test_every_job_has_an_answer_at_every_moment(tmp_path: Path) -> None:
    """For each event of an eventful day, each run and job that was there: a cause of the table, in a sentence."""
    told = Told(tmp_path)
    told.history = eventful()
    async with following(told.history.log, told.path) as (follower, store):
        await follower.wait_for(told.history.seq)
        jobs = await store.fetch("select r.seq, j.seq, j.run, j.job from jobs j join runs r on r.run = j.run")
    for seq in range(0, told.history.seq + 1, 3):
        everything = await told.then(seq)
        assert isinstance(everything, WhyAll)
        told_of = list(everything.waiting)
        for run_seq, job_seq, run, job in jobs:
            if run_seq <= seq:
                found = await told.then(seq, run=run, job=job if job_seq <= seq else "")
                assert isinstance(found, WhyRun)
                told_of += [found.run, *found.jobs, *([found.job] if found.job else [])]
        for one in told_of:
            assert one.words
            assert one.cause in CAUSES
            assert all(0 < evidence <= seq for evidence in one.evidence)
            assert msgspec.json.encode(one)


def test_the_page_of_causes_is_printed_from_the_table() -> None:
    """`make docs` has been run, and every cause has its row."""
    page = (ROOT / "docs" / "causes.md").read_text(encoding="utf-8")
    assert page == causes_page()
    assert set(CAUSES) == set(Cause)


@pytest.mark.parametrize(
    ("milliseconds", "words"),
    [
        *((-5, "0ms"), (0, "0ms"), (999, "999ms"), (1000, "1s"), (4250, "4.2s"), (12_900, "12s"), (60_000, "1m")),
        *((200_000, "3m 20s"), (3_600_000, "1h"), (7_500_000, "2h 5m"), (90_000_000, "1d 1h"), (172_800_000, "2d")),
    ],
)
def test_lengths_of_time(milliseconds: int, words: str) -> None:
    """In at most two units, the smaller one left out when it is nothing."""
    assert span(milliseconds) == words


def test_small_words() -> None:
    """Lists, people and reasons."""
    assert [listed(["a"]), listed(["a", "b"]), listed(list("abc"))] == ["a", "a and b", "a, b and c"]
    assert (listed(list("abcde")), listed([])) == ("a, b and 3 more", "")
    assert (person("user:ada"), person(None), because("x"), because(None)) == ("ada", "someone", ": x", "")
    assert (about(39_600), about(4_250)) == ("about 40s", "about 4.2s")
