"""Back-off: after a failed attempt a job rests, for as long as the log says and never longer, whatever clocks do."""

from __future__ import annotations

from hashlib import sha256

import pytest

from headway.core import asks
from headway.core.events import JobCompleted
from headway.core.resting import BACKOFF_MAX_SECONDS, Resting, backoff_us
from headway.core.run import JobState, Run
from headway.core.states import Outcome, State
from tests.core import worlds
from tests.core.story import RUN, Story, completed, given, job, life, of_job, queued, runner, submitted

A = life("a")
BASE_MS = 4_000
JUST = 0.001


def resting(*, retry_count: int = 3, base_ms: int = BASE_MS) -> Story:
    """A job whose first attempt has failed, with a free runner at hand."""
    story = given(runner("a"), submitted(job("build", retry_count=retry_count), retry_backoff_ms=base_ms))
    return story.ends("build", Outcome.FAILED)


def left(story: Story) -> float:
    """How long the job still rests by the wall clock, in seconds."""
    return (story.job("build").start_after - story.clock.wall_us()) / 1_000_000


def passes(story: Story, seconds: float) -> Story:
    """Time goes by, and the runner says that it is alive."""
    story.clock.advance(seconds)
    story.hears(asks.RenewRunner(runner=A))
    return story


def waits(story: Story) -> None:
    """The job is queued and nobody gets it."""
    story.says_nothing()
    assert (story.job("build").state, story.job("build").runner) == (State.QUEUED, "")


# How long


def wait_us(failures: int, *, base_ms: int = 5_000, run: str = RUN, name: str = "build", attempt: int = 0) -> int:
    """The back-off after so many failures."""
    return backoff_us(Run(id=run, retry_backoff_ms=base_ms), name, JobState(failures=failures), attempt=attempt)


def test_the_wait_doubles_with_each_failure_up_to_two_minutes() -> None:
    """5, 10, 20, 40, 80, 120 s and never more, but for the jitter, which is the same for one attempt."""
    share = wait_us(1) / 5_000_000
    expected = [5, 10, 20, 40, 80, 120, 120]
    assert [round(wait_us(failures) / share) / 1_000_000 for failures in range(1, 8)] == expected
    assert wait_us(101) == wait_us(6)


def test_the_jitter_is_at_most_a_quarter_and_uses_it() -> None:
    """Over many jobs the waits lie between three and five quarters of the base, close to both ends."""
    waits = [wait_us(1, name=f"j{at}") for at in range(1000)]
    assert 3_750_000 <= min(waits) < 3_800_000
    assert 6_200_000 < max(waits) <= 6_250_000
    assert 4_900_000 < sum(waits) / len(waits) < 5_100_000


def test_the_jitter_follows_from_run_job_and_attempt_alone() -> None:
    """Whoever decides says the same; another run, job or attempt waits differently; so for ever."""
    assert wait_us(1, attempt=2) == wait_us(1, attempt=2)
    others = {wait_us(1, attempt=2), wait_us(1, attempt=3), wait_us(1, name="b"), wait_us(1, run="r2")}
    assert len(others) == 4
    number = int.from_bytes(sha256(b"r1:build:2").digest()[:8], "big")
    assert wait_us(1, attempt=2) == 5_000_000 * (750_000 + number % 500_001) // 1_000_000


@pytest.mark.parametrize("base_ms", [0, -5_000])
def test_without_a_base_there_is_no_wait(base_ms: int) -> None:
    """0 turns it off; so does a number that nobody could mean."""
    assert wait_us(3, base_ms=base_ms) == 0


def test_a_base_beyond_all_bounds_waits_no_longer_than_the_cap() -> None:
    """Who admits a run does not choose how long a job can rest."""
    assert wait_us(1, base_ms=1 << 52) <= 1.25 * BACKOFF_MAX_SECONDS * 1_000_000


# What is said


def test_a_failed_attempt_is_followed_by_a_rest_and_then_by_the_next() -> None:
    """The log says until when; just before nothing is assigned, and at that time it is."""
    story = given(runner("a"), submitted(job("build", retry_count=1), retry_backoff_ms=BASE_MS))
    story.finishes("build", Outcome.FAILED)
    rest_us = wait_us(1, base_ms=BASE_MS, attempt=2)
    story.says(queued("build", reason="failed", attempt=2, start_after=story.clock.wall_us() + rest_us))
    passes(story, rest_us / 1_000_000 - JUST)
    waits(story)
    story.clock.advance(2 * JUST)
    story.says(story.assigned("build", to=A, attempt=2))
    assert worlds.indexes(story.world)["ASSIGN"] == set()


def test_each_further_failure_rests_twice_as_long() -> None:
    """The failures of the job count, not the attempts."""
    story = given(runner("a"), submitted(job("build", retry_count=7), retry_backoff_ms=BASE_MS))
    for failures, seconds in enumerate((4, 8, 16, 32, 64, 120, 120), 1):
        story.ends("build", Outcome.FAILED)
        assert 0.75 * seconds <= left(story) <= 1.25 * seconds
        assert story.job("build").failures == failures
        while story.job("build").state is State.QUEUED:
            passes(story, min(left(story) + JUST, 10.0)).decides()


def test_after_a_lost_attempt_there_is_no_rest() -> None:
    """Who lost a runner goes on at once, also when an earlier attempt had failed."""
    story = resting()
    passes(story, left(story) + JUST).decides()
    story.hears(runner("a", number=2, replaces=[A]))
    assert queued("build", reason="lost", attempt=3) in story.decides()
    assert story.job("build").runner == life("a", 2)


def test_the_desk_says_when_to_look_again() -> None:
    """The next deadline is the end of the rest where no lease ends before it, and none when nobody rests."""
    story = resting()
    deadline = story.desk.next_deadline()
    assert deadline is not None
    assert deadline - story.clock.monotonic() == pytest.approx(left(story), abs=1e-5)
    story.hears(asks.CancelRun(run=RUN)), story.decides()
    later = story.desk.next_deadline()
    assert later is not None
    assert later == story.desk.presence.next_deadline()


def test_a_rest_that_is_over_keeps_the_place_it_was_queued_at() -> None:
    """What was queued after the failure waits behind it; a slot that came free meanwhile is given to who can start."""
    story = resting()
    story.hears(submitted("one", "two", run="r2"))
    story.decides()
    assert story.job("one", run="r2").runner == A
    passes(story, left(story) + JUST)
    waits(story)
    story.finishes("one", run="r2")
    story.says(story.assigned("build", to=A, attempt=2))


def test_who_rests_holds_neither_slot_nor_place_of_a_group() -> None:
    """Another job of the group goes on meanwhile."""
    story = given(
        runner("a"),
        submitted(job("build", retry_count=1, group="db"), job("next", group="db"), retry_backoff_ms=BASE_MS),
    )
    story.ends("build", Outcome.FAILED)
    assert story.job("next").runner == A


# Cancel and pause


@pytest.mark.parametrize(
    "ask", [asks.CancelJob(run=RUN, job="build", reason="no"), asks.CancelRun(run=RUN, reason="no")]
)
def test_who_rests_is_cancelled_at_once(ask: asks.Ask) -> None:
    """Nobody waits for the end of a rest to be told to stop, and nothing of it is left."""
    story = resting()
    story.hears(ask)
    lines = story.decides()
    assert of_job("build", JobCompleted(outcome=Outcome.CANCELLED, reason="no"), attempt=2) in lines
    assert completed(Outcome.CANCELLED) in lines
    assert story.leftovers() == {}
    passes(story, 10).says_nothing()


@pytest.mark.parametrize(
    ("pause", "resume"),
    [(asks.PauseRun(run=RUN), asks.ResumeRun(run=RUN)), (asks.PauseFleet(), asks.ResumeFleet())],
)
def test_a_rest_goes_on_while_everything_is_paused(pause: asks.Ask, resume: asks.Ask) -> None:
    """Its time passes: resumed early the rest of it is rested, resumed late the job starts."""
    for share, rested in ((0.5, False), (1.5, True)):
        story = resting()
        whole = left(story)
        story.hears(pause)
        passes(story, whole * share)
        waits(story)
        story.hears(resume)
        if not rested:
            waits(story)
            passes(story, whole * (1 - share) + JUST)
        story.says(story.assigned("build", to=A, attempt=2))


# Checkpoints, restarts, clocks


def test_a_coordinator_that_takes_over_rests_what_is_left() -> None:
    """From a checkpoint in the middle of a rest: not before its time, and then at once."""
    story = resting()
    whole = left(story)
    passes(story, whole / 2).restarts()
    passes(story, whole / 2 - JUST)
    waits(story)
    passes(story, 2 * JUST).says(story.assigned("build", to=A, attempt=2))


def test_a_rest_that_ended_while_nobody_was_there_is_over() -> None:
    """A service that comes back the next day starts the attempt right away."""
    story = resting()
    story.clock.advance(left(story) + JUST)
    story.restarts().says(story.assigned("build", to=A, attempt=2))


@pytest.mark.parametrize("step", [-3600, -1, 1, 3600])
def test_a_clock_that_is_set_changes_no_rest(step: float) -> None:
    """What counts is the time that passes."""
    story = resting()
    whole = left(story)
    passes(story.steps_clock(step), whole - JUST)
    waits(story)
    passes(story, 2 * JUST).says(story.assigned("build", to=A, attempt=2))


def test_who_takes_over_with_a_clock_that_was_set_back_rests_the_whole_once_more_at_most() -> None:
    """An hour back does not make a retry wait for an hour."""
    story = resting()
    whole = left(story)
    passes(story, whole / 2).steps_clock(-3600).restarts()
    passes(story, whole - JUST)
    waits(story)
    passes(story, 2 * JUST).says(story.assigned("build", to=A, attempt=2))


def test_who_takes_over_with_a_clock_that_was_set_forward_does_not_wait() -> None:
    """By its clock the time has come."""
    story = resting().steps_clock(3600).restarts()
    story.says(story.assigned("build", to=A, attempt=2))


def test_a_rest_that_was_over_before_the_restart_does_not_come_back() -> None:
    """A job that waits for a slot after its rest waits for the slot only."""
    story = resting()
    story.hears(submitted("other", run="r2"))
    story.decides()
    passes(story, left(story) + JUST)
    waits(story)
    story.restarts()
    story.finishes("other", run="r2")
    story.decides()
    assert story.job("build").runner == A


# The order of rests


def test_rests_are_over_in_their_order_each_once() -> None:
    """Whoever left in between is passed over, and whose time was changed is there at the new one."""
    rests = Resting()
    for at, until in enumerate((3.0, 1.0, 2.0, 4.0)):
        rests.add(("r", f"j{at}"), until)
    rests.remove(("r", "j2"))
    rests.add(("r", "j3"), 0.5)
    assert rests.next_deadline() == 0.5
    assert rests.over(1.0) == [("r", "j3"), ("r", "j1")]
    assert rests.next_deadline() == 3.0
    assert rests.over(9.0) == [("r", "j0")]
    assert (rests.over(9.0), rests.next_deadline(), len(rests)) == ([], None, 0)
