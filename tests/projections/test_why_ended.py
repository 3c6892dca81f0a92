"""How what is over ended, and why; and what took longest."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from headway.cli.text import duration
from headway.core.events import (
    Failure,
    JobAttemptFailed,
    JobCancelRequested,
    JobCompleted,
    JobLost,
    RunCancelRequested,
    StepFinished,
)
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
        "it succeeded after 4m 30s, 2 jobs; what took longest was build being queued, 3m 20s; "
        "the longest job was test, 1m 0s"
    )
    assert [(one.job, one.state) for one in found.facts.longest[:2]] == [("build", "queued"), ("test", "executing")]
    job = await told.job(run, "test")
    assert job.words == f"it succeeded after 1m 0s on {RUNNER}; what took longest was executing, 1m 0s"
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
    assert found.run.words == "it failed after 3.0s: build failed, and for that 2 jobs were skipped"
    assert [one.job for one in found.jobs] == ["build"]
    assert found.jobs[0].words == (
        f"it failed after 3.0s on {RUNNER}: make exited with 2; what took longest was executing, 3.0s"
    )
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
        f"attempt 1 was lost with {RUNNER} after 20.0s: silent for 15 s",
        f"attempt 2 failed on {RUNNER} after 0.0s: make exited with 2",
    ]
    assert found.words == (
        f"it succeeded after 0.0s on {RUNNER}, in attempt 3; what took longest was executing in attempt 1, 20.0s"
    )


async def test_a_job_whose_every_attempt_was_lost(told: Told) -> None:
    """No step failed: how many attempts were lost is said, and which runner was lost last, and why."""
    told.history.register()
    one, two = told.admit({"build": {}}), told.admit({"build": {}})
    told.execute(one, "build", RUNNER)
    told.history.lose(one, "build")
    told.execute(two, "build", RUNNER)
    told.history.lose(two, "build")
    told.history.queue(two, "build", attempt=2, reason="lost")
    told.execute(two, "build", "f-1234", attempt=2, queue=False)
    lost = JobLost(runner="f-1234", reason="runner f-1234 is gone: it has been silent for 15 s")
    told.history.say(lost, run=two, job="build", attempt=2)
    for run, attempt in ((one, 1), (two, 2)):
        reason = "attempts were lost with their runners"
        failure = Failure(failure_class="transient", reason=reason)
        completed = JobCompleted(outcome=Outcome.FAILED, reason=reason, failure=failure)
        told.history.say(completed, run=run, job="build", attempt=attempt)
    found = await told.job(one, "build")
    assert (found.cause, found.words) == (
        Cause.LOST_RUNNER,
        f"it failed after its only attempt was lost with {RUNNER} (silent for 15 s)",
    )
    found = await told.job(two, "build")
    assert (found.cause, found.words) == (
        Cause.LOST_RUNNER,
        "it failed after 2 attempts were lost, the last with f-1234 (it has been silent for 15 s)",
    )


async def test_the_reason_that_was_given_comes_before_how_the_step_ended(told: Told) -> None:
    """A step that ran into the job's timeout was ended by a signal, which says nothing."""
    told.history.register()
    run = told.admit({"slow": {}})
    told.execute(run, "slow", RUNNER)
    told.history.clock.advance(1)
    facts = [told.history.fact(run, "slow", 1) for _ in range(2)]
    ended = StepFinished(fact=facts[0], step=0, name="make", outcome=Outcome.FAILED, signal="SIGTERM", duration_ms=1000)
    told.history.say(ended, run=run, job="slow", attempt=1)
    reason = "step 'make' ran into the job's timeout of 1 s"
    failure = Failure(failure_class="caller_fixable", reason=reason, step=0)
    completed = JobCompleted(outcome=Outcome.FAILED, fact=facts[1], failure=failure)
    told.history.say(completed, run=run, job="slow", attempt=1)
    found = await told.job(run, "slow")
    assert found.words == f"it failed after 1.0s on {RUNNER}: {reason}; what took longest was executing, 1.0s"


async def test_a_rest_after_a_failed_attempt_is_no_waiting_in_line(told: Told) -> None:
    """What took longest tells the rest from what was queued after it; which pause or slot that was is not known."""
    told.history.register()
    run = told.admit({"flaky": {"retry_count": 1}})
    told.execute(run, "flaky", RUNNER)
    told.history.fail_attempt(run, "flaky")
    told.rest(run, "flaky", attempt=2, seconds=3.7)
    told.history.clock.advance(6)
    told.execute(run, "flaky", RUNNER, attempt=2, queue=False)
    told.history.complete(run, "flaky", attempt=2)
    told.history.end(run)
    found = await told.job(run, "flaky")
    assert found.words.endswith("; what took longest was backing off after attempt 1, 3.7s")
    assert [(one.state, one.phase, one.duration_ms) for one in found.facts.longest[:2]] == [
        ("queued", "back-off", 3699),
        ("queued", "", 2302),
    ]
    assert "was flaky backing off after attempt 1, 3.7s" in (await told.run(run)).run.words


async def test_a_cancellation_without_a_reason_gives_none(told: Told) -> None:
    """The word that a runner puts where no reason was given is not one."""
    told.history.register()
    run = told.admit({"build": {}})
    told.execute(run, "build", RUNNER)
    told.history.say(RunCancelRequested(), run=run, actor="user:root")
    cancelled = JobCompleted(outcome=Outcome.CANCELLED, fact=told.history.fact(run, "build", 1), reason="cancelled")
    told.history.say(cancelled, run=run, job="build", attempt=1)
    assert (await told.job(run, "build")).words == "root cancelled the run"


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
        "ada cancelled it: wrong branch; it was over after 0.0s",
    )
    assert (await told.job(run, "build")).words == "ada cancelled the run: wrong branch"
    one = told.admit({"build": {}}, queue=["build"])
    told.history.say(JobCancelRequested(reason="not this"), run=one, job="build", attempt=1, actor="user:grace")
    told.history.drop(one, "build", Outcome.CANCELLED, attempt=1, reason="not this")
    told.history.end(one, Outcome.CANCELLED)
    assert (await told.job(one, "build")).words == "grace cancelled it: not this"
    assert (await told.run(one)).run.words == "grace cancelled its job build: not this; it was over after 0.0s"


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
    assert found.words.startswith(f"attempt 1 failed on {RUNNER} after 0.0s: make exited with 2")


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
        *((-5, "0.0s"), (0, "0.0s"), (669, "0.7s"), (1000, "1.0s"), (12_900, "12.9s"), (59_949, "59.9s")),
        *((59_950, "1m 0s"), (200_000, "3m 20s"), (3_600_000, "1h 0m"), (7_500_000, "2h 5m"), (90_000_000, "1d 1h")),
    ],
)
def test_lengths_of_time(milliseconds: int, words: str) -> None:
    """In at most two units, and as the command says them itself beside it."""
    assert span(milliseconds) == duration(milliseconds / 1000) == words


def test_small_words() -> None:
    """Lists, people and reasons."""
    assert [listed(["a"]), listed(["a", "b"]), listed(list("abc"))] == ["a", "a and b", "a, b and c"]
    assert (listed(list("abcde")), listed([])) == ("a, b and 3 more", "")
    assert (person("user:ada"), person(None), because("x"), because(None)) == ("ada", "someone", ": x", "")
    assert (about(39_600), about(4_250)) == ("about 40s", "about 4.2s")
