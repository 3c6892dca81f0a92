"""The fold of a run: what each event means, and that no history whatever can break it."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as some

from headway.core.desk import Desk
from headway.core.envelope import Envelope, Fact
from headway.core.events import (
    AnyEvent,
    FleetPaused,
    FleetResumed,
    JobAdmitted,
    JobAssigned,
    JobAttemptFailed,
    JobCancelRequested,
    JobCompleted,
    JobExecuting,
    JobLost,
    JobOutputStored,
    JobPreparing,
    JobQueued,
    JobUploading,
    RunAdmitted,
    RunCancelRequested,
    RunCompleted,
    RunnerDrained,
    RunnerLeft,
    RunnerLost,
    RunnerRegistered,
    RunnerResumed,
    RunPaused,
    RunResumed,
    StepFinished,
    StepStarted,
)
from headway.core.plan import Job, Plan
from headway.core.run import JobState, Run, evolve, outcome_of, runner_name
from headway.core.schedule import next_events
from headway.core.states import MOVES, ON_A_RUNNER, Outcome, State
from tests.core import worlds
from tests.core.story import BROKE, life

A, B = life("a"), life("b")
ADMITTED = RunAdmitted(project="shop", pipeline="ci", jobs=3, plan_digest="d")
WORK = Job(name="x")


class History:
    """A run's events, one after the other, as the coordinator would number them."""

    def __init__(self) -> None:
        self.run = Run(id="r1", jobs={}, dependents={})
        self.say(ADMITTED)
        self.say(JobAdmitted(), "a")
        self.say(JobAdmitted(depends_on=("a",)), "b")

    def say(self, event: AnyEvent, job: str = "", attempt: int = 0) -> None:
        n = self.run.n + 1
        envelope = Envelope(id=f"r1:{n}", at=0, actor="test", data=event, run="r1", job=job, attempt=attempt, n=n)
        evolve(self.run, envelope, 100 + n)

    def reach(self, state: State, *, attempt: int = 1) -> History:
        """Bring job a into a state."""
        steps: list[AnyEvent] = [JobQueued(), JobAssigned(runner=A, definition=WORK)]
        steps += [
            JobPreparing(fact=1),
            JobExecuting(fact=2),
            JobUploading(fact=3),
            JobCompleted(outcome=Outcome.SUCCEEDED),
        ]
        for event in steps:
            if self.a.state is state and self.a.attempt == attempt:
                break
            self.say(event, "a", attempt)
        assert self.a.state is state
        return self

    @property
    def a(self) -> JobState:
        return self.run.jobs["a"]


# What events mean


@pytest.mark.parametrize("state", sorted(ON_A_RUNNER))
def test_an_attempt_holds_its_runner_until_it_ends(state: State) -> None:
    """However it ends the runner is let go, and remembered where that was no success."""
    for event, avoided in (
        (JobAttemptFailed(fact=9, failure=BROKE), ("a",)),
        (JobLost(runner=A, reason="x"), ("a",)),
        (JobCompleted(outcome=Outcome.FAILED), ()),
    ):
        history = History().reach(state)
        assert history.a.runner == A
        history.say(event, "a", 1)
        assert (history.a.runner, history.a.avoid) == ("", avoided)


@pytest.mark.parametrize("state", sorted(ON_A_RUNNER))
@pytest.mark.parametrize("attempt", [0, 1, 3])
@pytest.mark.parametrize(
    "event",
    [
        JobPreparing(fact=9),
        JobExecuting(fact=9),
        JobUploading(fact=9),
        JobAttemptFailed(fact=9, failure=BROKE),
        JobLost(runner=A, reason="late"),
        JobCompleted(outcome=Outcome.SUCCEEDED),
        JobAssigned(runner=B, definition=WORK),
        JobOutputStored(missing="x"),
    ],
    ids=lambda event: type(event).__name__,
)
def test_an_event_of_another_attempt_moves_nothing(event: AnyEvent, attempt: int, state: State) -> None:
    """That is the fence between runners."""
    history = History()
    history.reach(State.ASSIGNED)
    history.say(JobAttemptFailed(fact=1, failure=BROKE), "a", 1)
    history.say(JobQueued(reason="failed"), "a", 2)
    history.reach(state, attempt=2)
    before = msgspec.to_builtins(history.a)
    history.say(event, "a", attempt)
    assert msgspec.to_builtins(history.a) == before


@pytest.mark.parametrize(
    "event",
    [
        JobQueued(),
        JobAssigned(runner=B, definition=WORK),
        JobExecuting(fact=9),
        JobLost(runner=A, reason="x"),
        JobCompleted(outcome=Outcome.FAILED),
        JobCancelRequested(reason="x"),
    ],
)
@pytest.mark.parametrize("attempt", [1, 2])
def test_a_completed_job_is_final(event: AnyEvent, attempt: int) -> None:
    """Nothing that comes after its outcome changes it."""
    history = History().reach(State.COMPLETED)
    before = msgspec.to_builtins(history.a)
    history.say(event, "a", attempt)
    assert msgspec.to_builtins(history.a) == before
    assert history.run.open_jobs == 1


def test_an_event_that_was_folded_changes_nothing() -> None:
    """A number counts once."""
    history = History().reach(State.EXECUTING)
    before = msgspec.to_builtins(history.run)
    for n in range(1, history.run.n + 1):
        late = Envelope(id="x", at=0, actor="test", data=JobCompleted(outcome=Outcome.FAILED), job="a", attempt=1, n=n)
        evolve(history.run, late, 999)
    assert msgspec.to_builtins(history.run) == before


def test_an_event_of_a_job_that_is_not_there_changes_nothing_but_the_count() -> None:
    """A hostile history names what it likes."""
    history = History()
    before = msgspec.to_builtins(history.run.jobs)
    history.say(JobQueued(), "nobody", 1)
    history.say(JobAdmitted(), "")
    assert msgspec.to_builtins(history.run.jobs) == before


def test_a_late_dependency_is_waited_for_all_the_same() -> None:
    """A node may be admitted before what it depends on."""
    history = History()
    history.say(JobAdmitted(depends_on=("later",)), "c")
    history.say(JobAdmitted(), "later")
    assert history.run.jobs["c"].waiting_on == 1
    history.say(JobCompleted(outcome=Outcome.FAILED), "later")
    assert (history.run.jobs["c"].waiting_on, history.run.jobs["c"].blocked_by) == (0, "later")


def test_the_first_reason_counts() -> None:
    """A second pause or cancellation does not rewrite the first."""
    history = History()
    for reason in ("one", "two"):
        history.say(RunPaused(reason=reason))
        history.say(RunCancelRequested(reason=reason))
        history.say(JobCancelRequested(reason=reason), "a")
    assert (history.run.paused, history.run.cancel, history.a.cancel) == ("one", "one", "one")
    history.say(RunResumed())
    assert history.run.paused is None


@pytest.mark.parametrize(
    ("outcomes", "cancelled", "outcome"),
    [
        ("succeeded succeeded", False, "succeeded"),
        ("succeeded skipped", False, "succeeded"),
        ("failed skipped", False, "failed"),
        ("failed cancelled", False, "failed"),
        ("succeeded cancelled", False, "cancelled"),
        ("failed cancelled", True, "cancelled"),
        ("failed succeeded", True, "failed"),
        ("succeeded succeeded", True, "succeeded"),
    ],
)
def test_the_outcome_of_a_run_follows_from_its_jobs(outcomes: str, cancelled: bool, outcome: str) -> None:
    """A failure outweighs a cancelled job, unless the run itself was to end."""
    run = Run(id="r1", cancel="x" if cancelled else None)
    run.jobs = {str(at): JobState(outcome=Outcome(one)) for at, one in enumerate(outcomes.split())}
    assert outcome_of(run) == outcome


def test_the_name_of_a_runner_is_all_but_its_incarnation() -> None:
    """Names may have hyphens."""
    assert runner_name("big-box-2-0000000a") == "big-box-2"


# Any history at all

RUNS, JOBS, RUNNERS = ("r1", "r2"), ("a", "b", "c"), (A, B)
numbers = some.integers(0, 4)
names = some.sampled_from(JOBS)
outcomes = some.sampled_from(list(Outcome))
runners = some.sampled_from(RUNNERS)
JOB_EVENTS: some.SearchStrategy[AnyEvent] = some.one_of(
    some.builds(
        JobAdmitted,
        depends_on=some.lists(names, max_size=2).map(tuple),
        runs_on=some.sampled_from([(), ("linux",)]),
        retry_count=numbers,
        concurrency_group=some.sampled_from(["", "db"]),
        concurrency_limit=some.integers(1, 2),
    ),
    some.just(JobQueued()),
    some.builds(JobAssigned, runner=runners, definition=some.just(WORK)),
    some.builds(JobPreparing, fact=numbers),
    some.builds(JobExecuting, fact=numbers),
    some.builds(JobUploading, fact=numbers),
    some.builds(StepStarted, fact=numbers, step=numbers, name=names, shell=names),
    some.builds(StepFinished, fact=numbers, step=numbers, name=names, outcome=outcomes),
    some.builds(JobAttemptFailed, fact=numbers, failure=some.just(BROKE)),
    some.builds(JobLost, runner=runners, reason=names),
    some.just(JobOutputStored(missing="x")),
    some.builds(JobCancelRequested, runner=runners),
    some.builds(JobCompleted, outcome=outcomes, fact=numbers),
)
RUN_EVENTS: some.SearchStrategy[AnyEvent] = some.sampled_from(
    [ADMITTED, RunCancelRequested(), RunPaused(), RunResumed(), RunCompleted(outcome=Outcome.FAILED, jobs=1)]
)
FLEET_EVENTS: some.SearchStrategy[AnyEvent] = some.one_of(
    some.builds(
        RunnerRegistered,
        runner=runners,
        name=names,
        labels=some.just(("linux",)),
        slots=some.integers(1, 3),
        replaces=some.lists(runners, max_size=2).map(tuple),
    ),
    some.builds(RunnerDrained, runner=runners),
    some.builds(RunnerResumed, runner=runners),
    some.builds(RunnerLost, runner=runners, reason=names),
    some.builds(RunnerLeft, runner=runners),
    some.sampled_from([FleetPaused(), FleetResumed()]),
)
runs = some.sampled_from(RUNS)
PRESENT, NEXT = 100, 101
attempts = some.sampled_from([0, 1, 2, PRESENT, PRESENT, PRESENT, PRESENT, NEXT, NEXT])
FACTS = some.one_of(
    some.builds(Fact, event=JOB_EVENTS, id=some.just(""), actor=some.just("t"), run=runs, job=names, attempt=attempts),
    some.builds(Fact, event=RUN_EVENTS, id=some.just(""), actor=some.just("t"), run=runs),
    some.builds(Fact, event=FLEET_EVENTS, id=some.just(""), actor=some.just("t")),
)


def meant(run: Run | None, job: str, attempt: int) -> int:
    """The attempt that is meant: mostly one that may make sense, so that a walk gets somewhere."""
    present = run.jobs[job].attempt if run is not None and job in run.jobs else 0
    return {PRESENT: present, NEXT: present + 1}.get(attempt, attempt)


ANY = settings(
    max_examples=120,
    deadline=None,
    derandomize=True,
    database=None,
    phases=[Phase.generate],  # long walks take minutes to shrink
    suppress_health_check=list(HealthCheck),
)


@ANY
@given(some.lists(some.tuples(JOB_EVENTS, names, attempts), min_size=30, max_size=60))
def test_any_history_folds_and_only_moves_of_the_table_happen(said: list[tuple[AnyEvent, str, int]]) -> None:
    """Whatever is said, nothing raises, states follow the table, attempts only grow, and an outcome is for ever."""
    history = History()
    for event, job, attempt in said:
        states = {name: (one.state, one.attempt, one.outcome) for name, one in history.run.jobs.items()}
        history.say(event, job, meant(history.run, job, attempt))
        for name, (state, tried, outcome) in states.items():
            one = history.run.jobs[name]
            assert one.state is state or one.state in MOVES[state], f"{state} -> {one.state} by {event}"
            assert one.attempt in (tried, tried + 1)
            assert outcome is None or (one.state, one.attempt, one.outcome) == (state, tried, outcome)
            assert bool(one.runner) <= (one.state in ON_A_RUNNER), "only an attempt that is on a runner is held by one"
            assert (one.state is State.COMPLETED) == (one.outcome is not None)
    assert history.run.open_jobs == sum(one.outcome is None for one in history.run.jobs.values())
    assert history.run.outputs_wanted == sum(len(one.outputs_wanted) for one in history.run.jobs.values())


@ANY
@given(some.integers(1, 3), some.lists(FACTS, min_size=40, max_size=80))
def test_after_any_history_the_coordinator_finds_its_way(jobs: int, said: list[Fact]) -> None:
    """Whatever the log holds, deciding does not raise, comes to an end, and the indexes agree with the state."""
    desk = Desk("c1")
    admitted = msgspec.structs.replace(ADMITTED, jobs=jobs)
    known = [RunnerRegistered(runner=one, name=one[0], labels=("linux",), slots=2) for one in RUNNERS]
    begun = [Fact(event=one, id="", actor="t") for one in known]
    begun += [Fact(event=admitted, id="", actor="t", run=run) for run in RUNS]
    for fact in begun + said:
        attempt = meant(desk.world.runs.get(fact.run), fact.job, fact.attempt)
        desk.write([msgspec.structs.replace(fact, attempt=attempt)], at=0)
        for run, _ in desk.plans_missing():
            desk.world.give_plan(run, Plan(name="ci", jobs=tuple(Job(name=name) for name in JOBS)))
    worlds.check(desk.world)
    for _ in range(200):
        facts = next_events(desk.world)
        if not facts:
            break
        desk.write(facts, at=0)
        worlds.check(desk.world)
    else:
        raise AssertionError("there is always something more to say")
