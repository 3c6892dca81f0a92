"""What is asked, and what it is answered. The reports of runners are in `test_reports`."""

from __future__ import annotations

import msgspec
import pytest

from headway.core import asks
from headway.core.events import (
    AnyEvent,
    FleetPaused,
    FleetResumed,
    JobCancelRequested,
    JobOutputStored,
    RunCancelRequested,
    RunnerDrained,
    RunnerLeft,
    RunnerRegistered,
    RunnerResumed,
    RunPaused,
    RunResumed,
)
from headway.core.hearing import ASK_BYTES_MAX, WORDS_MAX
from headway.core.plan import Job, Plan, Step
from headway.core.planning import problems
from headway.core.states import Outcome, State
from tests.core.story import RUN, Given, given, job, life, of_fleet, of_job, of_run, runner, submitted

A, B = life("a"), life("b")


# Every ask twice


TWICE: dict[str, tuple[tuple[Given, ...], Given]] = {
    "admit_run": ((), submitted("build")),
    "cancel_run": ((runner("a"), submitted("build")), asks.CancelRun(run=RUN)),
    "cancel_run that ends it": ((submitted("build"),), asks.CancelRun(run=RUN)),
    "cancel_job": ((runner("a"), submitted("build")), asks.CancelJob(run=RUN, job="build")),
    "cancel_job that ends it": ((submitted("build", "test"),), asks.CancelJob(run=RUN, job="build")),
    "pause_run": ((submitted("build"),), asks.PauseRun(run=RUN)),
    "resume_run": ((submitted("build"), asks.PauseRun(run=RUN)), asks.ResumeRun(run=RUN)),
    "pause_fleet": ((), asks.PauseFleet()),
    "resume_fleet": ((asks.PauseFleet(),), asks.ResumeFleet()),
    "drain_runner": ((runner("a"),), asks.DrainRunner(runner="a")),
    "resume_runner": ((runner("a"), asks.DrainRunner(runner="a")), asks.ResumeRunner(runner="a")),
    "register_runner": ((runner("a"),), runner("a", number=2, replaces=[A])),
    "renew_runner": ((runner("a"),), asks.RenewRunner(runner=A)),
    "leave_runner": ((runner("a"),), asks.LeaveRunner(runner=A)),
    "leave_runner with work": ((runner("a"), submitted("build")), asks.LeaveRunner(runner=A)),
}


@pytest.mark.parametrize("name", TWICE)
@pytest.mark.parametrize("restarted", [False, True], ids=["same", "restarted"])
def test_an_ask_that_comes_twice_is_answered_twice_and_heard_once(name: str, restarted: bool) -> None:
    """The second time nothing is written and nothing is refused, also by the next coordinator."""
    before, ask = TWICE[name]
    story = given(*before)
    story.hears(ask)
    assert not story.answer.refused
    story.decides()
    if restarted:
        story.restarts()
    assert story.hears(ask) == []
    assert not story.answer.refused, story.answer.refused
    story.says_nothing()


# Runs


def test_a_run_is_admitted_with_as_many_jobs_as_its_plan_has() -> None:
    """Who asks does not count the jobs."""
    story = given()
    wanted = submitted("build", "test")
    lines = story.hears(msgspec.structs.replace(wanted, admitted=msgspec.structs.replace(wanted.admitted, jobs=99)))
    assert lines == [of_run(wanted.admitted)]
    assert (story.answer.seq, story.answer.refused) == (1, "")


@pytest.mark.parametrize(
    "wanted",
    [
        submitted("build", run="a.b"),
        submitted("build", run=""),
        submitted("build", run="r*"),
        submitted("build", run="r" * 129),
        submitted("build", project="my shop"),
        submitted("build", project=">"),
        submitted("build", project=""),
    ],
)
def test_names_that_do_not_fit_into_a_subject_are_refused(wanted: asks.Ask) -> None:
    """What others write must not choose where it is kept."""
    given().refuses(wanted, code="usage")


@pytest.mark.parametrize(
    "plan",
    [
        Plan(name="p", jobs=()),
        Plan(name="p", jobs=(job("a"), job("a"))),
        Plan(name="p", jobs=(job("a", after=["b"]),)),
        Plan(name="p", jobs=(job("a", after=["a"]),)),
        Plan(name="p", jobs=(job("a", after=["c"]), job("b", after=["a"]), job("c", after=["b"]), job("d"))),
        Plan(name="p", jobs=(job("a"), job("b", after=["a"] * 13_000))),
    ],
    ids=["empty", "twice", "missing", "itself", "circle", "heavy"],
)
def test_a_plan_that_cannot_be_run_is_refused(plan: Plan) -> None:
    """A graph that could never end is not begun."""
    given().refuses(msgspec.structs.replace(submitted("a"), plan=plan), code="usage")


@pytest.mark.parametrize(
    "one",
    [
        Job(name=""),
        Job(name="x" * 40_000),
        Job(name="big", steps=(Step(name="s", script="x" * 70_000),)),
        Job(name="many", runs_on=("label" * 20_000,)),
        Job(name="named", concurrency_group="g" * 70_000),
        Job(name="quoted", depends_on=("\x01" * 12_000,)),
    ],
    ids=["nameless", "long name", "large definition", "large labels", "large group", "names that grow in JSON"],
)
def test_a_plan_whose_events_could_not_be_written_is_refused(one: Job) -> None:
    """An accepted run that cannot be put on the log would stop the coordinator, at every start again."""
    jobs = (one, *(Job(name=name) for name in one.depends_on))
    assert problems(Plan(name="p", jobs=jobs))


def test_a_run_whose_plan_is_not_there_is_refused() -> None:
    """A run is admitted with everything it needs, or not at all."""
    given().refuses(asks.AdmitRun(run=RUN, admitted=submitted("build").admitted), code="unavailable")


def test_an_ask_that_would_not_fit_into_an_event_is_refused() -> None:
    """What is too large is said to be, before anything is written."""
    wanted = submitted("build")
    huge = msgspec.structs.replace(wanted.admitted, parameters={"a": "x" * ASK_BYTES_MAX})
    reason = given().refuses(msgspec.structs.replace(wanted, admitted=huge), code="usage")
    assert str(ASK_BYTES_MAX) in reason


USER_ASKS: dict[asks.CancelRun | asks.PauseRun, AnyEvent] = {
    asks.CancelRun(run=RUN, reason="x"): RunCancelRequested(reason="x"),
    asks.PauseRun(run=RUN, reason="x"): RunPaused(reason="x"),
}


@pytest.mark.parametrize("ask", USER_ASKS, ids=lambda ask: type(ask).__name__)
def test_a_run_can_be_cancelled_and_paused(ask: asks.CancelRun | asks.PauseRun) -> None:
    """The event says who asked and why; the answer says where it is."""
    story = given(submitted("build"))
    assert story.hears(ask, actor="user:eve") == [of_run(USER_ASKS[ask])]
    assert story.answer.seq == len(story.log.entries)
    assert b'"user:eve"' in story.log.entries[-1].body


def test_a_paused_run_can_be_resumed() -> None:
    """The pause ends with an event of its own."""
    story = given(submitted("build"), asks.PauseRun(run=RUN))
    assert story.hears(asks.ResumeRun(run=RUN)) == [of_run(RunResumed())]


@pytest.mark.parametrize("make", [asks.PauseRun, asks.ResumeRun, asks.CancelRun])
def test_what_is_asked_of_a_run_that_is_not_there_is_refused(make: type[asks.PauseRun]) -> None:
    """A run that nobody knows is not found."""
    given().refuses(make(run="r9"), code="not_found")


@pytest.mark.parametrize("make", [asks.PauseRun, asks.ResumeRun])
def test_a_run_that_is_over_cannot_be_paused_or_resumed(make: type[asks.PauseRun]) -> None:
    """What is over stays as it is, and the reason says that it is over."""
    story = given(runner("a"), submitted("build")).ends("build")
    assert "over" in story.refuses(make(run=RUN), code="refused")


def test_a_run_that_is_over_cannot_be_admitted_again() -> None:
    """Its id is taken; asking again finds it done."""
    story = given(runner("a"), submitted("build")).ends("build")
    assert story.hears(submitted("build")) == []
    assert not story.answer.refused


@pytest.mark.parametrize("state", [State.QUEUED, State.ASSIGNED, State.EXECUTING, State.UPLOADING])
def test_a_job_can_be_cancelled_in_any_state(state: State) -> None:
    """Its runner hears of it, where there is one."""
    story = given(submitted("build"), *([runner("a")] if state is not State.QUEUED else []))
    story.reaches("build", state)
    held = A if state is not State.QUEUED else ""
    line = of_job("build", JobCancelRequested(reason="x", runner=held))
    assert story.hears(asks.CancelJob(run=RUN, job="build", reason="x")) == [line]
    told = story.log.entries[-1].subject
    assert told.endswith(f".to.{A}" if held else ".ev")


def test_a_job_that_is_not_there_or_over_cannot_be_cancelled() -> None:
    """The two are told apart."""
    story = given(runner("a"), submitted("build", job("test", after=["build"]))).ends("build")
    story.refuses(asks.CancelJob(run=RUN, job="deploy"), code="not_found")
    assert "succeeded" in story.refuses(asks.CancelJob(run=RUN, job="build"), code="refused")
    story.refuses(asks.CancelJob(run="r9", job="build"), code="not_found")


def test_long_words_are_kept_in_part() -> None:
    """A reason may have any length; an event may not."""
    story = given(submitted("build"))
    (line,) = story.hears(asks.PauseRun(run=RUN, reason="x" * 20_000))
    assert line.event == RunPaused(reason="x" * WORDS_MAX)


# The fleet


def test_the_service_can_be_paused_and_resumed() -> None:
    """Both are events of the fleet."""
    story = given()
    assert story.hears(asks.PauseFleet(reason="x")) == [of_fleet(FleetPaused(reason="x"))]
    assert story.hears(asks.ResumeFleet()) == [of_fleet(FleetResumed())]


def test_a_runner_is_drained_and_resumed_by_its_name_or_its_incarnation() -> None:
    """A name means all that have it."""
    story = given(runner("a"), runner("a", number=2), runner("b"))
    both = [of_fleet(RunnerDrained(runner=life("a", number), reason="x")) for number in (1, 2)]
    assert story.hears(asks.DrainRunner(runner="a", reason="x")) == both
    assert story.hears(asks.ResumeRunner(runner=A)) == [of_fleet(RunnerResumed(runner=A))]
    assert story.hears(asks.DrainRunner(runner="a")) == [of_fleet(RunnerDrained(runner=A))]
    story.refuses(asks.DrainRunner(runner="c"), code="not_found")
    story.refuses(asks.ResumeRunner(runner="c"), code="not_found")


def test_a_runner_registers_with_what_it_offers() -> None:
    """Only incarnations that are known are replaced."""
    story = given(runner("a"))
    offered = runner("a", "linux", slots=4, number=2, replaces=[A, life("a", 7)])
    event = RunnerRegistered(runner=life("a", 2), name="a", labels=("linux",), slots=4, replaces=(A,))
    assert story.hears(offered) == [of_fleet(event)]


@pytest.mark.parametrize(
    "name", ["", "a", "a-xyz", "a b-00000001", "a.b-00000001", "-00000001", "a-00000001\n", "é-00000001"]
)
def test_a_runner_whose_id_is_not_one_is_refused(name: str) -> None:
    """An id is a name and eight characters of an incarnation, and one word of a subject."""
    given().refuses(asks.RegisterRunner(runner=name, labels=(), slots=1), code="usage")


@pytest.mark.parametrize("slots", [0, -1, 10_001])
def test_a_runner_without_slots_or_with_far_too_many_is_refused(slots: int) -> None:
    """A number that makes no sense is a mistake."""
    given().refuses(runner("a", slots=slots), code="usage")


def test_a_runner_that_sees_another_blob_store_is_refused() -> None:
    """It could neither read sources nor store outputs."""
    story = given()
    story.world.store = "one"
    story.refuses(msgspec.structs.replace(runner("a"), store="two"), code="refused")
    assert story.hears(msgspec.structs.replace(runner("a"), store="one"))


def test_an_incarnation_that_is_gone_never_comes_back() -> None:
    """It is refused by name, whatever it asks, and told to begin anew."""
    story = given(runner("a"), asks.LeaveRunner(runner=A))
    for ask in (runner("a"), asks.RenewRunner(runner=A)):
        assert "it stopped" in story.refuses(ask, code="refused")


def test_a_replaced_runner_is_refused_at_once() -> None:
    """Also before anything else has been decided about it."""
    story = given(runner("a"))
    story.hears(runner("a", number=2, replaces=[A]))
    story.refuses(asks.RenewRunner(runner=A), code="refused")


def test_a_registration_replaces_only_incarnations_of_its_own_name() -> None:
    """A runner can prove its own past dead, and nobody else: the others' processes may be alive."""
    story = given(runner("a"), submitted("build"))
    story.hears(runner("b", replaces=[A]))
    story.says_nothing()
    assert story.job("build").runner == A


def test_a_runner_that_leaves_is_gone_whatever_it_holds() -> None:
    """Leaving is a fact."""
    story = given(runner("a"), submitted("build"))
    assert story.hears(asks.LeaveRunner(runner=A)) == [of_fleet(RunnerLeft(runner=A))]


def test_a_runner_that_nobody_knows_cannot_renew_a_lease() -> None:
    """It is told to register."""
    given().refuses(asks.RenewRunner(runner=A), code="not_found")


# Output of lost attempts


def test_output_is_stored_once_and_only_for_lost_attempts() -> None:
    """An answer that nobody waits for changes nothing, whenever it comes."""
    story = given(runner("a"), submitted("build"))
    stored = asks.StoreOutput(run=RUN, job="build", attempt=1, missing="gone")
    assert story.hears(stored) == []
    story.finishes("build", Outcome.CANCELLED)
    assert story.hears(msgspec.structs.replace(stored, attempt=2)) == []
    assert story.hears(stored) == [of_job("build", JobOutputStored(missing="gone"))]
    assert story.hears(stored) == []
    assert story.hears(msgspec.structs.replace(stored, run="r9")) == []
    assert not story.answer.refused


def test_numbers_that_no_store_can_hold_are_refused() -> None:
    """What a runner counts ends in tables of 64 bits; a process id beyond them is a lie."""
    given().refuses(msgspec.structs.replace(runner("a"), pid=10**30), code="usage")


@pytest.mark.parametrize("number", [-1, 10**30])
@pytest.mark.parametrize("field", ["attempt_losses_max", "retry_backoff_ms"])
def test_a_run_whose_numbers_are_none_is_refused(field: str, number: int) -> None:
    """What a run is admitted with is kept for ever, so it is looked at first."""
    wanted = submitted("build")
    admitted = msgspec.structs.replace(wanted.admitted, **{field: number})
    given().refuses(msgspec.structs.replace(wanted, admitted=admitted), code="usage")
