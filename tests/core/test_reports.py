"""What runners say of their attempts, and what the coordinator makes of it."""

from __future__ import annotations

import pytest

from headway.core import asks
from headway.core.clock import from_us
from headway.core.envelope import decode
from headway.core.events import (
    Failure,
    JobAttemptFailed,
    JobCompleted,
    JobExecuting,
    JobLost,
    JobPreparing,
    JobUploading,
    Prepared,
    StepStarted,
)
from headway.core.hearing import WORDS_MAX
from headway.core.states import ON_A_RUNNER, Outcome, State
from tests.core.story import BROKE, RUN, Story, given, job, life, of_job, runner, submitted

A, B = life("a"), life("b")


def working(*, retry_count: int = 0) -> Story:
    """One job on one runner, another runner idle."""
    return given(runner("a"), submitted(job("build", retry_count=retry_count)), runner("b"))


def said(*facts: asks.RunnerFact, by: str = A, attempt: int = 1, at: int = 1) -> asks.Report:
    """A report about the one job."""
    return asks.Report(
        runner=by, run=RUN, job="build", attempt=attempt, facts=tuple(asks.Said(at=at, what=one) for one in facts)
    )


def end(outcome: Outcome, *, fact: int = 1, failure: Failure | None = None, reason: str = "") -> asks.AttemptFinished:
    return asks.AttemptFinished(fact=fact, outcome=outcome, failure=failure, reason=reason)


# Facts


def test_facts_are_kept_in_their_order_each_because_of_the_one_before() -> None:
    """Each has the name that only it can have, and the runner's own clock beside the log's."""
    story = working()
    cause = story.job("build").cause
    story.hears(said(JobPreparing(fact=1), JobExecuting(fact=2), at=77), actor=f"runner:{A}")
    first, second = (decode(stored.body) for stored in story.log.entries[-2:])
    assert (first.id, second.id) == (f"{RUN}:build:1:1", f"{RUN}:build:1:2")
    assert (first.because, second.because) == (cause, first.id)
    assert (first.at, first.actor) == (77, f"runner:{A}")


def test_a_fact_that_is_known_is_passed_over() -> None:
    """Said again alone it is answered; said again with news, only the news is written."""
    story = working()
    story.hears(said(JobPreparing(fact=1)))
    assert story.hears(said(JobPreparing(fact=1))) == []
    assert not story.answer.refused
    news = of_job("build", JobExecuting(fact=2))
    assert story.hears(said(JobPreparing(fact=1), JobExecuting(fact=2))) == [news]


@pytest.mark.parametrize("numbers", [(2,), (1, 3), (2, 1), (5, 6)])
def test_facts_with_a_gap_are_asked_for_again(numbers: tuple[int, ...]) -> None:
    """Nothing is written out of order: the runner is to say all that was not answered."""
    story = working()
    assert story.hears(said(*(JobPreparing(fact=one) for one in numbers))) == []
    assert story.answer == asks.Answer(retry=True)


def test_a_report_without_facts_changes_nothing() -> None:
    """There is nothing to hear."""
    story = working()
    assert story.hears(said()) == []
    assert not story.answer.refused


def test_what_is_said_after_the_end_is_not_heard() -> None:
    """An attempt ends once, and nothing of it comes later."""
    story = working()
    lines = story.hears(said(end(Outcome.SUCCEEDED), JobUploading(fact=2)))
    assert lines == [of_job("build", JobCompleted(outcome=Outcome.SUCCEEDED, fact=1))]


def test_a_fact_that_makes_no_sense_is_kept_and_moves_nothing() -> None:
    """Facts are never argued with, and the table of moves holds."""
    story = working()
    assert story.hears(said(JobUploading(fact=1)))
    assert story.job("build").state is State.ASSIGNED


# Who may speak


@pytest.mark.parametrize("state", sorted(ON_A_RUNNER))
def test_only_the_runner_that_holds_an_attempt_may_speak_of_it(state: State) -> None:
    """In every state another runner's facts are refused, and so is its end."""
    story = working().reaches("build", state)
    news = story.job("build").fact + 1
    story.refuses(said(JobPreparing(fact=news), by=B), code="refused")
    story.refuses(said(end(Outcome.SUCCEEDED, fact=news), by=B), code="refused")
    story.refuses(said(end(Outcome.SUCCEEDED, fact=news), attempt=2), code="refused")


def test_the_facts_of_a_lost_attempt_are_refused() -> None:
    """Whoever lost an attempt may go on talking, and moves nothing."""
    story = working().reaches("build", State.EXECUTING)
    story.hears(asks.LeaveRunner(runner=A))
    story.decides()
    story.refuses(said(end(Outcome.SUCCEEDED, fact=3)), code="refused")
    assert story.job("build").runner == B


def test_the_end_of_a_run_that_is_over_is_refused() -> None:
    """A runner that comes back after everything learns that it is late."""
    story = working().ends("build")
    story.refuses(said(JobPreparing(fact=7)), code="refused")


def test_a_report_of_nothing_known_is_refused() -> None:
    """Neither run nor job are there."""
    given().refuses(said(JobPreparing(fact=1)), code="not_found")
    working().refuses(
        asks.Report(runner=A, run=RUN, job="deploy", attempt=1, facts=said(JobPreparing(fact=1)).facts),
        code="not_found",
    )


@pytest.mark.parametrize("attempt", [0, 1])
def test_a_report_without_a_runner_is_refused(attempt: int) -> None:
    """A job that nobody holds is nobody's to end, whoever says that it is nobody."""
    waits = job("build", after=["lint"] if attempt == 0 else [])
    story = given(submitted("lint", waits))
    story.refuses(said(end(Outcome.SUCCEEDED), by="", attempt=attempt), code="refused")
    assert story.job("build").outcome is None


# How an attempt ended


def test_a_failure_with_attempts_left_is_the_attempts_failure() -> None:
    """And without, it is the job's."""
    story = working(retry_count=1)
    assert story.hears(said(end(Outcome.FAILED, failure=BROKE))) == [
        of_job("build", JobAttemptFailed(fact=1, failure=BROKE))
    ]
    story.decides()
    last = said(end(Outcome.FAILED, failure=BROKE), by=B, attempt=2)
    assert story.hears(last) == [
        of_job("build", JobCompleted(outcome=Outcome.FAILED, fact=1, failure=BROKE), attempt=2)
    ]


def test_a_failure_without_a_reason_is_tried_again_like_any_other() -> None:
    """What a runner leaves out costs the job nothing."""
    story = working(retry_count=1)
    (line,) = story.hears(said(end(Outcome.FAILED)))
    assert isinstance(line.event, JobAttemptFailed)


def test_an_attempt_that_its_runner_gave_up_is_lost() -> None:
    """Nobody had asked for its end, so it is tried again like one whose runner died."""
    story = working()
    lines = story.hears(said(end(Outcome.CANCELLED, reason="no lease")))
    assert lines == [of_job("build", JobLost(runner=A, reason="no lease"))]
    story.decides()
    assert (story.job("build").runner, story.job("build").attempt) == (B, 2)


@pytest.mark.parametrize(
    "ask", [asks.CancelRun(run=RUN, reason="enough"), asks.CancelJob(run=RUN, job="build", reason="enough")]
)
def test_an_attempt_that_was_to_end_is_cancelled_with_the_reason_of_who_asked(ask: asks.Ask) -> None:
    """The runner only says that it stopped."""
    story = working(retry_count=3)
    story.hears(ask)
    story.decides()
    event = JobCompleted(outcome=Outcome.CANCELLED, fact=1, reason="enough")
    assert story.hears(said(end(Outcome.CANCELLED, reason="SIGTERM"))) == [of_job("build", event)]


def test_a_failure_under_cancellation_is_final() -> None:
    """Nothing is tried again that was to end."""
    story = working(retry_count=3)
    story.hears(asks.CancelRun(run=RUN))
    (line,) = story.hears(said(end(Outcome.FAILED, failure=BROKE)))
    assert line.event == JobCompleted(outcome=Outcome.FAILED, fact=1, failure=BROKE)


def test_a_success_under_cancellation_is_a_success() -> None:
    """It was done when the cancellation arrived."""
    story = working()
    story.hears(asks.CancelJob(run=RUN, job="build"))
    (line,) = story.hears(said(end(Outcome.SUCCEEDED)))
    assert line.event == JobCompleted(outcome=Outcome.SUCCEEDED, fact=1)


@pytest.mark.parametrize("state", sorted(ON_A_RUNNER))
def test_an_attempt_can_end_in_any_state(state: State) -> None:
    """A runner that fails to prepare ends there, and the slot is free."""
    story = working().reaches("build", state)
    story.ends("build", Outcome.FAILED)
    assert RUN in story.world.finished
    assert story.world.fleet.runners[A].free == 1


def test_the_output_of_a_lost_attempt_is_gathered_before_the_seal() -> None:
    """Also when the attempt was given up, and also when the job is over meanwhile."""
    story = working()
    story.hears(said(end(Outcome.CANCELLED)))
    story.decides()
    story.hears(said(end(Outcome.SUCCEEDED), by=B, attempt=2))
    story.says_nothing()
    story.hears(asks.StoreOutput(run=RUN, job="build", attempt=1, missing="none"))
    assert [type(line.event).__name__ for line in story.decides()] == ["RunCompleted"]


# What runners may say


def test_long_words_of_a_runner_are_kept_in_part() -> None:
    """What others write is kept as far as it fits."""
    story = working()
    (line,) = story.hears(said(end(Outcome.SUCCEEDED, reason="x" * 20_000)))
    assert isinstance(line.event, JobCompleted)
    assert len(line.event.reason) == WORDS_MAX


def test_a_fact_that_would_not_fit_into_an_event_is_refused() -> None:
    """Many small facts fit, one that is too large does not."""
    story = working()
    steps = [StepStarted(fact=at, step=at, name="x" * 5_000, shell="sh") for at in range(1, 20)]
    assert len(story.hears(said(*steps))) == 19
    story.refuses(said(StepStarted(fact=20, step=20, name="x" * 40_000, shell="sh")), code="usage")


def test_a_phase_without_a_name_is_refused() -> None:
    """In the tables it would pass for the state that it is a part of."""
    story = working()
    story.hears(said(JobPreparing(fact=1)))
    claims = (Prepared(what="source", duration_ms=1), Prepared(what="", duration_ms=1))
    story.refuses(said(JobExecuting(fact=2, prepared=claims)), code="usage")


@pytest.mark.parametrize("at", [10**30, 2**62, -(2**62)])
def test_a_time_that_is_none_is_not_written(at: int) -> None:
    """A runner's clock may be wrong, and a runner may lie; whoever shows the event later can still show its time."""
    story = working()
    if story.hears(said(JobPreparing(fact=1), at=at)):
        assert from_us(decode(story.log.entries[-1].body).at)
    else:
        assert story.answer.refused


def test_a_number_that_no_table_can_hold_is_refused() -> None:
    """Tables have 64 bits; an event that cannot be projected would stop every projection for good."""
    story = working()
    fact = asks.AttemptFinished(fact=1, outcome=Outcome.SUCCEEDED, exit_code=10**30)
    story.refuses(said(fact), code="usage")
