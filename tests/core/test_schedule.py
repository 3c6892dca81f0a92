"""Every rule of the decider, as stories. What concerns only the choice of job and runner is in `test_assignment`."""

from __future__ import annotations

import pytest

from headway.core import asks
from headway.core.events import (
    Failure,
    JobAttemptFailed,
    JobCancelRequested,
    JobCompleted,
    JobLost,
    JobOutputStored,
    RunAdmitted,
    RunnerLost,
)
from headway.core.fleet import LEASE_SECONDS
from headway.core.states import ON_A_RUNNER, Outcome, State
from tests.core.story import (
    BROKE,
    RUN,
    Story,
    admitted,
    completed,
    given,
    job,
    life,
    of_fleet,
    of_job,
    of_run,
    queued,
    runner,
    submitted,
)

A, B = life("a"), life("b")


def gone(story: Story, name: str, *, attempt: int = 1, to: str = A) -> None:
    """The runner is silent for its whole lease, and what it held is lost."""
    story.clock.advance(LEASE_SECONDS - 1)
    for other in story.world.fleet.runners.keys() - {to}:
        story.hears(asks.RenewRunner(runner=other))
    story.clock.advance(1)
    lost = JobLost(runner=to, reason=f"runner {to} is gone: it has been silent for {LEASE_SECONDS} s")
    assert of_job(name, lost, attempt=attempt) in story.decides()


# admit_jobs


def test_the_jobs_of_an_admitted_run_become_nodes_and_the_ready_ones_wait_for_a_slot() -> None:
    """Admission is followed by every job of the plan, in its order, and by the queue for those that wait for none."""
    build, test = job("build", retry_count=2), job("test", after=["build"], on=["linux"])
    story = given()
    story.hears(submitted(build, test))
    story.says(admitted(build), admitted(test), queued("build"))


def test_nothing_is_said_of_a_run_whose_plan_is_still_being_read() -> None:
    """Until its plan is given a run waits, and no other run waits for it."""
    story = given()
    story.hears(of_run(RunAdmitted(project="shop", pipeline="ci", jobs=1, plan_digest="d"), run="r0"))
    story.says_nothing()
    story.hears(submitted("build"))
    story.says(admitted(job("build")), queued("build"))


def test_nothing_of_a_run_starts_before_all_its_jobs_are_known() -> None:
    """A coordinator that stopped in the middle of admitting is followed by one that admits the rest first."""
    story = given(of_run(RunAdmitted(project="shop", pipeline="ci", jobs=2, plan_digest="d")), admitted(job("build")))
    story.says_nothing()
    story.world.give_plan(RUN, submitted("build", "test").plan)
    story.says(admitted(job("test")), queued("build"), queued("test"))


def test_a_plan_that_cannot_be_read_ends_its_run_as_failed() -> None:
    """A run whose jobs will never be known is over at once, and sealed."""
    story = given()
    story.hears(of_run(RunAdmitted(project="shop", pipeline="ci", jobs=2, plan_digest="d")))
    story.world.give_plan(RUN, None)
    story.says(completed(Outcome.FAILED, jobs=0))


def test_a_plan_that_can_no_longer_be_read_lets_what_runs_finish() -> None:
    """Jobs that are admitted fail as a platform bug, a running one ends as it ends, and then the run is over."""
    story = given(runner("a"), of_run(RunAdmitted(project="shop", pipeline="ci", jobs=3, plan_digest="d")))
    for name in ("build", "test"):
        story.hears(admitted(job(name)))
    story.hears(queued("build"))
    story.plans[RUN] = submitted("build").plan
    story.hears(story.assigned("build", to=A))
    story.world.give_plan(RUN, None)
    reason = "the plan d cannot be read"
    failure = Failure(failure_class="platform_bug", reason=reason)
    story.says(of_job("test", JobCompleted(outcome=Outcome.FAILED, reason=reason, failure=failure), attempt=0))
    story.finishes("build")
    story.says(completed(Outcome.FAILED, jobs=2))


def test_a_job_whose_definition_cannot_be_read_fails_when_its_turn_comes() -> None:
    """With the graph known and the plan gone, a job that would be assigned fails, and the run goes on to its end."""
    story = given(submitted("build", job("test", after=["build"])))
    story.world.give_plan(RUN, None)
    story.hears(runner("a"))
    reason = f"the plan sha256:{RUN} cannot be read"
    failure = Failure(failure_class="platform_bug", reason=reason)
    story.says(
        of_job("build", JobCompleted(outcome=Outcome.FAILED, reason=reason, failure=failure)),
        of_job("test", JobCompleted(outcome=Outcome.SKIPPED, reason="build failed"), attempt=0),
        completed(Outcome.FAILED, jobs=2),
    )


def test_a_job_admitted_after_what_it_depends_on_is_ready_or_skipped_at_once() -> None:
    """The set of jobs is not closed: a late node counts the dependencies that are already over."""
    story = given(runner("a"), submitted("good", "bad", "open"))
    story.ends("good")
    story.ends("bad", Outcome.FAILED)
    story.hears(admitted(job("late", after=["good"])))
    story.hears(admitted(job("never", after=["good", "bad"])))
    story.hears(admitted(job("both", after=["good", "open"])))
    story.says(
        of_job("never", JobCompleted(outcome=Outcome.SKIPPED, reason="bad failed"), attempt=0),
        queued("late"),
    )
    assert story.job("both").waiting_on == 1


def test_a_job_admitted_when_all_others_have_completed_keeps_the_run_open() -> None:
    """A run is not complete while a job of it is not."""
    story = given(runner("a"), submitted("build"))
    story.finishes("build")
    story.hears(admitted(job("late")))
    story.hears(queued("late"))
    story.world.plans[RUN] = {one.name: one for one in submitted("build", "late").plan.jobs}
    story.plans[RUN] = submitted("build", "late").plan
    story.says(story.assigned("late", to=A))


# lose_replaced_runners, lose_attempts


@pytest.mark.parametrize("state", sorted(ON_A_RUNNER))
def test_what_a_runner_held_that_left_is_lost_and_queued_again(state: State) -> None:
    """In whichever state the attempt was, it counts no more, and the next one waits for a slot."""
    story = given(runner("a"), submitted("build")).reaches("build", state)
    story.hears(asks.LeaveRunner(runner=A))
    story.says(
        of_job("build", JobLost(runner=A, reason=f"runner {A} is gone: it stopped", given_back=True)),
        queued("build", reason="lost", attempt=2),
    )
    assert story.job("build").outputs_wanted == (1,)
    assert story.job("build").losses == 0, "what was given back in good order is no loss"


def test_a_silent_runner_is_lost_exactly_when_its_lease_ends() -> None:
    """Not before the lease has passed since it was last heard, and then with all it holds."""
    story = given(runner("a", slots=2), submitted("build", "test"))
    story.clock.advance(10)
    story.hears(asks.RenewRunner(runner=A))
    story.clock.advance(LEASE_SECONDS - 0.001)
    story.says_nothing()
    story.clock.advance(0.001)
    why = f"it has been silent for {LEASE_SECONDS} s"
    story.says(
        of_fleet(RunnerLost(runner=A, reason=why)),
        of_job("build", JobLost(runner=A, reason=f"runner {A} is gone: {why}")),
        of_job("test", JobLost(runner=A, reason=f"runner {A} is gone: {why}")),
        queued("build", reason="lost", attempt=2),
        queued("test", reason="lost", attempt=2),
    )


def test_the_next_incarnation_takes_the_place_of_the_one_that_died() -> None:
    """The dead one is lost with what it held, and the living one gets it as a new attempt."""
    story = given(runner("a"), submitted("build")).reaches("build", State.EXECUTING)
    story.hears(runner("a", number=2, replaces=[A]))
    why = "its next incarnation took its place"
    story.says(
        of_fleet(RunnerLost(runner=A, reason=why)),
        of_job("build", JobLost(runner=A, reason=f"runner {A} is gone: {why}")),
        queued("build", reason="lost", attempt=2),
        story.assigned("build", to=life("a", 2), attempt=2),
    )


def test_an_idle_runner_that_was_replaced_is_forgotten() -> None:
    """A runner that held nothing goes without more words."""
    story = given(runner("a"))
    story.hears(runner("a", number=2, replaces=[A]))
    story.says(of_fleet(RunnerLost(runner=A, reason="its next incarnation took its place")))
    assert list(story.world.fleet.runners) == [life("a", 2)]


def test_a_runner_that_leaves_before_its_replacement_is_noticed_is_not_lost_as_well() -> None:
    """A runner goes once, whatever the reasons."""
    story = given(runner("a"))
    story.hears(runner("a", number=2, replaces=[A]))
    story.hears(asks.LeaveRunner(runner=A))
    story.says_nothing()


def test_after_a_restart_nobody_is_lost_before_a_whole_lease() -> None:
    """A new coordinator could not have heard anybody before it was there."""
    story = given(runner("a"), submitted("build"))
    story.clock.advance(LEASE_SECONDS - 1)
    story.restarts()
    story.clock.advance(LEASE_SECONDS)
    story.says_nothing()


# cancel_jobs, request_cancels


def test_a_cancelled_run_that_nobody_holds_is_over_at_once() -> None:
    """Jobs that wait, for a slot or for others, are cancelled with the run's reason."""
    story = given(submitted("build", job("test", after=["build"])))
    story.hears(asks.CancelRun(run=RUN, reason="wrong branch"))
    end = JobCompleted(outcome=Outcome.CANCELLED, reason="wrong branch")
    story.says(of_job("build", end), of_job("test", end, attempt=0), completed(Outcome.CANCELLED, jobs=2))


@pytest.mark.parametrize("state", sorted(ON_A_RUNNER))
def test_a_cancelled_run_asks_the_runner_and_waits_for_it(state: State) -> None:
    """What a runner holds is asked for once, and the runner's word ends it."""
    story = given(runner("a"), submitted("build", "test")).reaches("build", state)
    story.hears(asks.CancelRun(run=RUN, reason="enough"))
    story.says(
        of_job("test", JobCompleted(outcome=Outcome.CANCELLED, reason="enough")),
        of_job("build", JobCancelRequested(reason="enough", runner=A)),
    )
    story.finishes("build", Outcome.CANCELLED)
    story.says(completed(Outcome.CANCELLED, jobs=2))
    assert story.world.finished


def test_a_cancelled_run_whose_runner_dies_is_cancelled() -> None:
    """Nothing is tried again for a run that is to end."""
    story = given(runner("a"), submitted("build"), asks.CancelRun(run=RUN, reason="enough"))
    gone(story, "build")
    assert story.world.runs[RUN].jobs["build"].outcome is Outcome.CANCELLED
    story.hears(asks.StoreOutput(run=RUN, job="build", attempt=1, missing="it is gone"))
    story.says(completed(Outcome.CANCELLED))


def test_a_cancelled_run_whose_job_succeeded_first_has_succeeded() -> None:
    """What was done before the cancellation arrived is done."""
    story = given(runner("a"), submitted("build"), asks.CancelRun(run=RUN))
    story.finishes("build")
    story.says(completed(Outcome.SUCCEEDED))


def test_a_cancelled_job_takes_only_what_depends_on_it_along() -> None:
    """The others go on, and the run that lost one job ends as cancelled."""
    story = given(runner("a"), submitted("build", "lint", job("test", after=["lint"])))
    story.hears(asks.CancelJob(run=RUN, job="lint", reason="flaky"))
    story.says(
        of_job("lint", JobCompleted(outcome=Outcome.CANCELLED, reason="flaky")),
        of_job("test", JobCompleted(outcome=Outcome.SKIPPED, reason="lint was cancelled"), attempt=0),
    )
    story.finishes("build")
    story.says(completed(Outcome.CANCELLED, jobs=3))


def test_a_job_cancelled_while_its_next_attempt_is_owed_ends_there() -> None:
    """Between two attempts a cancellation wins over the retry."""
    story = given(runner("a"), submitted(job("build", retry_count=3)))
    story.finishes("build", Outcome.FAILED)
    story.hears(asks.CancelJob(run=RUN, job="build", reason="stop"))
    story.says(
        of_job("build", JobCompleted(outcome=Outcome.CANCELLED, reason="stop", fact=1)), completed(Outcome.CANCELLED)
    )


def test_a_paused_run_can_be_cancelled() -> None:
    """A pause holds back work, not the end."""
    story = given(submitted("build"), asks.PauseRun(run=RUN))
    story.hears(asks.CancelRun(run=RUN))
    story.says(of_job("build", JobCompleted(outcome=Outcome.CANCELLED)), completed(Outcome.CANCELLED))


# choose_after_attempts


def test_a_failed_attempt_is_tried_again_as_often_as_the_job_says() -> None:
    """`retry_count` attempts follow the first; the one after that is the end."""
    story = given(runner("a"), submitted(job("build", retry_count=1)))
    assert story.finishes("build", Outcome.FAILED) == [of_job("build", JobAttemptFailed(fact=1, failure=BROKE))]
    story.says(queued("build", reason="failed", attempt=2), story.assigned("build", to=A, attempt=2))
    end = JobCompleted(outcome=Outcome.FAILED, fact=1, failure=BROKE)
    assert story.finishes("build", Outcome.FAILED) == [of_job("build", end, attempt=2)]
    story.says(completed(Outcome.FAILED))


@pytest.mark.parametrize("losses_max", [1, 2, 3])
def test_an_attempt_lost_too_often_fails_the_job(losses_max: int) -> None:
    """A job that takes its runners with it is not tried for ever; who is to blame is not known, so it is transient."""
    story = given(submitted("build", attempt_losses_max=losses_max))
    for number in range(1, losses_max + 1):
        story.hears(runner("a", number=number))
        story.decides()
        gone(story, "build", attempt=number, to=life("a", number))
    reason = f"{losses_max} attempts were lost with their runners"
    built = story.job("build")
    assert (built.outcome, built.attempt, built.losses) == (Outcome.FAILED, losses_max, losses_max)
    assert built.failure == Failure(failure_class="transient", reason=reason)


def test_losses_and_failures_are_counted_apart() -> None:
    """A lost attempt costs no retry, and a failed one no loss."""
    story = given(runner("a"), submitted(job("build", retry_count=1), attempt_losses_max=2))
    gone(story, "build")
    story.hears(runner("a", number=2)), story.decides()
    story.ends("build", Outcome.FAILED)
    assert (story.job("build").attempt, story.job("build").failures, story.job("build").losses) == (3, 1, 1)
    story.finishes("build", Outcome.FAILED)
    assert story.job("build").outcome is Outcome.FAILED


def test_an_attempt_that_ends_in_a_paused_run_is_queued_and_waits() -> None:
    """A pause does not lose the choice of what follows."""
    story = given(runner("a"), submitted(job("build", retry_count=1)), asks.PauseRun(run=RUN))
    story.finishes("build", Outcome.FAILED)
    story.says(queued("build", reason="failed", attempt=2))
    story.hears(asks.ResumeRun(run=RUN))
    story.says(story.assigned("build", to=A, attempt=2))


# skip_jobs


def test_what_depends_on_a_failure_is_skipped_down_the_chain() -> None:
    """Each skipped job names the one before it, and the run has failed."""
    chain = [job("a"), job("b", after=["a"]), job("c", after=["b"]), job("d", after=["c", "a"])]
    story = given(runner("a"), submitted(*chain))
    story.finishes("a", Outcome.FAILED)
    why = (("b", "a failed"), ("d", "a failed"), ("c", "b was skipped"))
    skipped = [of_job(name, JobCompleted(outcome=Outcome.SKIPPED, reason=each), attempt=0) for name, each in why]
    story.says(*skipped, completed(Outcome.FAILED, jobs=4))


def test_a_job_is_skipped_while_its_other_dependencies_still_run() -> None:
    """One failure is enough; nobody waits for the rest to know."""
    story = given(runner("a", slots=2), submitted("good", "bad", job("both", after=["good", "bad"])))
    story.finishes("bad", Outcome.FAILED)
    story.says(of_job("both", JobCompleted(outcome=Outcome.SKIPPED, reason="bad failed"), attempt=0))
    story.finishes("good")
    story.says(completed(Outcome.FAILED, jobs=3))


# queue_jobs


def test_a_job_is_queued_when_the_last_of_its_dependencies_has_succeeded() -> None:
    """Not one earlier, and a dependency named twice counts once."""
    story = given(runner("a", slots=2), submitted("one", "two", job("both", after=["one", "two", "one"])))
    story.finishes("one")
    story.says_nothing()
    story.finishes("two")
    story.says(queued("both"), story.assigned("both", to=A))


def test_a_job_is_queued_in_a_paused_run() -> None:
    """What it waits for is then the pause, and the queue keeps its turn."""
    story = given(runner("a"), submitted("one", job("two", after=["one"])))
    story.hears(asks.PauseRun(run=RUN))
    story.finishes("one")
    story.says(queued("two"))


# close_runs


def test_a_run_ends_when_the_output_of_its_lost_attempts_is_stored() -> None:
    """The seal comes after everything there is to say, and only then."""
    story = given(runner("a"), runner("b"), submitted("build"))
    gone(story, "build")
    story.finishes("build")
    story.says_nothing()
    stored = asks.StoreOutput(run=RUN, job="build", attempt=1, missing="the stream was full")
    assert story.hears(stored) == [of_job("build", JobOutputStored(missing="the stream was full"))]
    story.says(completed(Outcome.SUCCEEDED))
