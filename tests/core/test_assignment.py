"""Who gets a slot: which job, on which runner, and what must wait although a slot is free."""

from __future__ import annotations

from itertools import pairwise

import pytest

from headway.core import asks
from headway.core.events import JobAssigned
from headway.core.states import Outcome, State
from tests.core.story import PROJECT, RUN, Story, given, job, life, queued, runner, submitted

A, B = life("a"), life("b")


def order(story: Story, *, runs: tuple[str, ...]) -> list[str]:
    """The runs in the order in which their jobs get the one slot there is, each job ended as soon as it has it."""
    found: list[str] = []
    while holder := next(
        (run for run in runs if run in story.world.runs for one in story.run(run).jobs.values() if one.runner), None
    ):
        found.append(holder)
        name = next(name for name, one in story.run(holder).jobs.items() if one.runner)
        story.ends(name, run=holder)
    return found


def holders(story: Story, run: str = RUN) -> dict[str, str]:
    """Which runner holds which job of a run."""
    return {name: one.runner for name, one in story.run(run).jobs.items() if one.runner}


# Labels and slots


def test_a_job_goes_only_where_all_its_labels_are_offered() -> None:
    """A runner without one of them is as good as none."""
    story = given(runner("a", "linux"), submitted(job("build", on=["linux", "gpu"])))
    story.says_nothing()
    story.hears(runner("b", "gpu", "linux", "big"))
    story.says(story.assigned("build", to=B))


def test_a_runner_never_gets_more_than_its_slots() -> None:
    """Each slot is one job, and an ended one frees it for the next."""
    story = given(runner("a", slots=2), submitted("one", "two", "three"))
    assert holders(story) == {"one": A, "two": A}
    story.finishes("two")
    story.says(story.assigned("three", to=A))


def test_a_job_goes_to_the_runner_with_most_free_slots() -> None:
    """Work is spread."""
    story = given(runner("a", slots=2), runner("b", slots=3), submitted("one", "two", "three"))
    assert holders(story) == {"one": B, "two": A, "three": B}


@pytest.mark.parametrize("state", [State.ASSIGNED, State.EXECUTING])
def test_a_drained_runner_gets_nothing_new_and_finishes_what_it_has(state: State) -> None:
    """Draining touches nothing that runs; resumed, the runner works again."""
    story = given(runner("a", slots=2), submitted("one", job("two", after=["one"]))).reaches("one", state)
    story.hears(asks.DrainRunner(runner="a"))
    story.says_nothing()
    story.finishes("one")
    story.says(queued("two"))
    story.hears(asks.ResumeRunner(runner="a"))
    story.says(story.assigned("two", to=A))


# Which job


def test_within_a_project_the_oldest_goes_first() -> None:
    """First come, first served, over all runs of the project."""
    story = given(*(submitted("one", "two", run=run) for run in ("r1", "r2", "r3")), runner("a"))
    assert order(story, runs=("r1", "r2", "r3")) == ["r1", "r1", "r2", "r2", "r3", "r3"]


def test_the_project_that_holds_fewest_slots_goes_first() -> None:
    """A project with many jobs gives way to one that came later; at equal shares the oldest job goes first."""
    story = given(submitted(*(f"j{at}" for at in range(6)), run="r1", project="big"), runner("a", slots=3))
    story.hears(submitted("k0", "k1", run="r2", project="small"))
    story.decides()
    story.finishes("j0", run="r1")
    story.says(story.assigned("k0", to=A, run="r2"))
    story.finishes("j1", run="r1")
    story.says(story.assigned("j3", to=A, run="r1"))
    story.finishes("k0", run="r2")
    story.says(story.assigned("k1", to=A, run="r2"))


def test_a_project_does_not_wait_for_labels_that_nobody_offers() -> None:
    """Its older job that fits nowhere holds back neither it nor others."""
    story = given(submitted(job("gpu", on=["gpu"]), "build"))
    story.hears(runner("a"))
    story.says(story.assigned("build", to=A))


def test_an_attempt_that_is_tried_again_waits_its_turn_anew() -> None:
    """A retry does not go before what has been waiting."""
    story = given(runner("a"), submitted(job("one", retry_count=1), "two"))
    story.finishes("one", Outcome.FAILED)
    story.says(queued("one", reason="failed", attempt=2), story.assigned("two", to=A))


# Which runner, after a failure


@pytest.mark.parametrize("lost", [True, False])
def test_a_job_avoids_the_runner_that_failed_or_lost_it(lost: bool) -> None:
    """Another one that fits gets the next attempt, although the first has more free slots."""
    story = given(runner("a", slots=4), submitted(job("build", retry_count=1)), runner("b"))
    story.finishes("build", Outcome.CANCELLED if lost else Outcome.FAILED)
    story.says(
        queued("build", reason="lost" if lost else "failed", attempt=2), story.assigned("build", to=B, attempt=2)
    )


def test_a_job_avoids_the_next_incarnation_as_well() -> None:
    """A machine that loses a job is not made better by a restart of its runner."""
    story = given(runner("a"), submitted("build"))
    story.hears(runner("a", slots=4, number=2, replaces=[A]))
    story.hears(runner("b"))
    story.decides()
    assert holders(story) == {"build": B}


def test_a_job_goes_back_to_the_runner_that_failed_it_where_no_other_fits() -> None:
    """Avoiding is a preference: without another choice the job does not wait."""
    story = given(runner("a", "linux"), runner("b"), submitted(job("build", on=["linux"], retry_count=1)))
    story.finishes("build", Outcome.FAILED)
    story.says(queued("build", reason="failed", attempt=2), story.assigned("build", to=A, attempt=2))


def test_a_job_never_goes_right_back_to_the_runner_that_just_failed_it() -> None:
    """Also when every runner has failed it once: where another one fits, the last one is the worst choice."""
    story = given(runner("a"), runner("b", slots=3), submitted(job("build", retry_count=5)))
    tried = []
    for _ in range(5):
        tried.append(story.job("build").runner)
        story.ends("build", Outcome.FAILED)
    assert all(one != other for one, other in pairwise(tried)), tried


# Pauses


def test_a_paused_run_starts_nothing_and_keeps_its_turn() -> None:
    """What runs goes on; the jobs that wait are not forgotten and not overtaken after the pause."""
    story = given(runner("a"), submitted("one", "two"), submitted("other", run="r2"))
    story.hears(asks.PauseRun(run=RUN, reason="look first"))
    story.says_nothing()
    story.finishes("one")
    story.says(story.assigned("other", to=A, run="r2"))
    story.finishes("other", run="r2")
    story.decides()
    story.hears(asks.ResumeRun(run=RUN))
    story.says(story.assigned("two", to=A))


def test_a_paused_service_starts_nothing_in_any_run() -> None:
    """Runs are admitted and queued, and start when work is resumed."""
    story = given(runner("a", slots=2), submitted("one"), asks.PauseFleet(reason="upgrade"))
    story.hears(submitted("two", run="r2"))
    story.decides()
    assert story.job("two", "r2").state is State.QUEUED
    story.finishes("one")
    story.decides()
    story.hears(asks.ResumeFleet())
    story.says(story.assigned("two", to=A, run="r2"))


def test_a_pause_of_the_service_outlives_its_coordinator() -> None:
    """It is an event, not a memory."""
    story = given(asks.PauseFleet(), submitted("one")).restarts()
    story.hears(runner("a"))
    story.says_nothing()


# Concurrency groups


def test_a_group_has_no_more_jobs_on_runners_than_its_limit() -> None:
    """Over all runs and projects; the next one starts when a slot of the group is free."""
    jobs = [job(name, group="db", limit=2) for name in ("one", "two", "three")]
    story = given(
        runner("a", slots=9), submitted(*jobs), submitted(job("four", group="db", limit=2), run="r2", project="b")
    )
    assert holders(story) == {"one": A, "two": A}
    assert holders(story, "r2") == {}
    story.finishes("one")
    story.says(story.assigned("four", to=A, run="r2"))
    story.finishes("two")
    story.says(story.assigned("three", to=A))


def test_a_full_group_holds_back_nobody_else() -> None:
    """Younger jobs outside the group pass."""
    story = given(runner("a", slots=2), submitted(*(job(name, group="db") for name in ("one", "two")), "free"))
    assert holders(story) == {"one": A, "free": A}


@pytest.mark.parametrize("ending", [Outcome.SUCCEEDED, Outcome.FAILED, Outcome.CANCELLED])
def test_however_a_group_frees_its_next_job_wakes(ending: Outcome) -> None:
    """Success, failure and loss all give the place back."""
    story = given(runner("a", slots=2), submitted(job("one", group="db"), job("two", group="db")))
    story.finishes("one", ending)
    story.decides()
    assert "two" in holders(story)


def test_a_job_set_aside_behind_its_group_can_be_paused_and_resumed() -> None:
    """Paused, it does not start when the group frees; resumed, it does."""
    story = given(runner("a", slots=3), submitted(job("one", group="db")), submitted(job("two", group="db"), run="r2"))
    story.hears(asks.PauseRun(run="r2"))
    story.finishes("one")
    story.decides()
    assert holders(story, "r2") == {}
    story.hears(asks.ResumeRun(run="r2"))
    story.says(story.assigned("two", to=A, run="r2"))


def test_a_job_resumed_while_its_group_is_full_waits_again() -> None:
    """A pause that comes and goes changes nothing for the one that holds the group."""
    story = given(runner("a", slots=3), submitted(job("one", group="db")), submitted(job("two", group="db"), run="r2"))
    story.hears(asks.PauseRun(run="r2"))
    story.hears(asks.ResumeRun(run="r2"))
    story.says_nothing()
    story.finishes("one")
    story.decides()
    assert holders(story, "r2") == {"two": A}


def test_a_job_set_aside_behind_its_group_can_be_cancelled() -> None:
    """It ends at once, and the group's next one is the one after it."""
    jobs = [job(name, group="db") for name in ("one", "two", "three")]
    story = given(runner("a", slots=3), submitted(*jobs), asks.CancelJob(run=RUN, job="two"))
    story.finishes("one")
    story.says(story.assigned("three", to=A))


def test_jobs_set_aside_behind_their_group_survive_a_restart() -> None:
    """A new coordinator knows who holds the group, and wakes the others."""
    story = given(runner("a", slots=3), submitted(job("one", group="db"), job("two", group="db"))).restarts()
    story.says_nothing()
    story.finishes("one")
    story.says(story.assigned("two", to=A))


def test_a_group_whose_limit_is_nothing_still_lets_one_job_run() -> None:
    """A limit below one would hold its jobs back for ever: it is refused at admission, or counts as one."""
    story = given(runner("a"))
    story.hears(submitted(job("one", group="db", limit=0)))
    story.decides()
    assert story.answer.refused or holders(story) == {"one": A}


def test_the_project_of_a_run_is_what_fairness_counts() -> None:
    """Two runs of one project have one share, not two."""
    both = [submitted("one", "two", run=run, project=PROJECT) for run in ("r1", "r2")]
    story = given(*both, submitted("three", "four", run="r3", project="other"), runner("a", slots=2))
    assert (holders(story, "r1"), holders(story, "r3")) == ({"one": A}, {"three": A})


def test_an_assignment_says_all_that_the_runner_needs() -> None:
    """The job's definition and the run's source, commit, branch and parameters travel with it."""
    wanted = submitted(job("build", on=["linux"]))
    story = given(wanted)
    story.hears(runner("a", "linux"))
    event = story.decides()[0].event
    assert isinstance(event, JobAssigned)
    assert event.definition == wanted.plan.jobs[0]
    assert (event.project, event.pipeline, event.lease_seconds) == (PROJECT, "ci", 15)
