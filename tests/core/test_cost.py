"""What deciding costs, counted in calls and not in seconds: in step with what there is to say, not with its square."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

import pytest

from headway.core import asks
from headway.core.desk import Desk
from headway.core.envelope import decode
from headway.core.events import JobAssigned
from headway.core.plan import Job
from headway.core.states import Outcome
from tests.core.story import Submitted, job, life, runner, submitted

SLOTS = 8


class Calls:
    """Counts every call made while it is open, of Python and of C functions: the same on every machine."""

    def __init__(self) -> None:
        self.count = 0

    def __enter__(self) -> Calls:
        sys.setprofile(self._called)
        return self

    def __exit__(self, *error: object) -> None:
        sys.setprofile(None)

    def _called(self, frame: FrameType, what: str, argument: Any) -> None:
        if what in ("call", "c_call"):
            self.count += 1


def work(desk: Desk, submissions: list[Submitted], *, slots: int = SLOTS) -> int:
    """Submit, then finish whatever is assigned until nothing is; the number of jobs that were done."""
    ask(desk, runner("a", "linux", slots=slots))
    for each in submissions:
        desk.hear(asks.AdmitRun(run=each.run, admitted=each.admitted), actor="t", now=0.0, at=0, plan=each.plan)
    done, entries = 0, desk.decide(now=0.0, at=0)
    while entries:
        assigned = [one for one in map(decode, (entry.body for entry in entries)) if isinstance(one.data, JobAssigned)]
        entries = []
        for one in assigned:
            end = asks.Said(at=0, what=asks.AttemptFinished(fact=1, outcome=Outcome.SUCCEEDED))
            ask(desk, asks.Report(runner=life("a"), run=one.run, job=one.job, attempt=one.attempt, facts=(end,)))
            entries += desk.decide(now=0.0, at=0)
            done += 1
    return done


def ask(desk: Desk, what: asks.RunnerAsk) -> None:
    """Say something as a runner."""
    answer, _ = desk.hear(what, actor="t", now=0.0, at=0)
    assert not answer.refused


def independent(count: int) -> list[Submitted]:
    """One run, all its jobs ready at once."""
    return [submitted(*(f"j{at}" for at in range(count)))]


def chain(count: int) -> list[Submitted]:
    """One run, each job after the one before."""
    return [submitted(*(job(f"j{at}", after=[f"j{at - 1}"] if at else []) for at in range(count)))]


def fan(count: int) -> list[Submitted]:
    """One run, everything after the first job, and a last one after everything."""
    middle = [job(f"j{at}", after=["first"]) for at in range(count)]
    return [submitted("first", *middle, job("last", after=[one.name for one in middle]))]


def runs(count: int) -> list[Submitted]:
    """Many runs of one project at once."""
    return [submitted("one", job("two", after=["one"]), run=f"r{at}") for at in range(count // 2)]


def projects(count: int) -> list[Submitted]:
    """Many runs at once, each of a project of its own."""
    return [submitted("one", job("two", after=["one"]), run=f"r{at}", project=f"p{at}") for at in range(count // 2)]


def group(count: int) -> list[Submitted]:
    """One run whose jobs all share one place."""
    return [submitted(*(job(f"j{at}", group="db") for at in range(count)))]


def labelled(count: int) -> list[Submitted]:
    """One run with many jobs for labels that nobody offers, beside those that can be done."""
    waiting: list[Job] = [job(f"w{at}", on=["gpu"]) for at in range(count)]
    return [submitted(*waiting, *(job(f"j{at}", on=["linux"]) for at in range(count)))]


@pytest.mark.parametrize("shape", [independent, chain, fan, runs, projects, group, labelled])
def test_a_job_costs_the_same_among_many_as_among_few(shape: Callable[[int], list[Submitted]]) -> None:
    """Eight times the work takes eight times the calls, and a little for the depth of heaps."""
    costs = []
    for count in (60, 480):
        desk, submissions = Desk("c1"), shape(count)
        with Calls() as calls:
            done = work(desk, submissions)
        assert done >= count
        costs.append(calls.count / done)
    assert costs[1] < 1.35 * costs[0], f"a job costs {costs[0]:.0f} calls among few and {costs[1]:.0f} among many"


def test_two_thousand_jobs_in_one_run_and_two_hundred_runs_are_done() -> None:
    """The sizes that are promised, with the calls that a job may cost."""
    for submissions in (independent(2000), runs(400)):
        desk = Desk("c1")
        with Calls() as calls:
            done = work(desk, submissions, slots=64)
        assert done == sum(len(each.plan.jobs) for each in submissions)
        assert not desk.world.runs
        assert calls.count / done < 600


def test_a_runner_that_has_nothing_to_do_costs_the_same_beside_many_jobs() -> None:
    """A sign of life is answered without looking at what waits."""
    costs = []
    for count in (10, 1000):
        desk = Desk("c1")
        work(desk, [submitted(*(job(f"j{at}", on=["gpu"]) for at in range(count)))])
        with Calls() as calls:
            ask(desk, asks.RenewRunner(runner=life("a")))
            desk.decide(now=1.0, at=0)
        costs.append(calls.count)
    assert costs[1] == costs[0]


def test_deciding_costs_the_same_beside_many_jobs_that_rest() -> None:
    """Nobody looks at who rests before the time has come, and then only at those whose time it is."""
    costs = []
    for count in (10, 1000):
        desk = Desk("c1")
        ask(desk, runner("a", slots=count))
        each = submitted(*(job(f"j{at}", retry_count=1) for at in range(count)), retry_backoff_ms=60_000)
        desk.hear(asks.AdmitRun(run=each.run, admitted=each.admitted), actor="t", now=0.0, at=0, plan=each.plan)
        desk.decide(now=0.0, at=0)
        for at in range(count):
            end = asks.Said(at=0, what=asks.AttemptFinished(fact=1, outcome=Outcome.FAILED))
            ask(desk, asks.Report(runner=life("a"), run=each.run, job=f"j{at}", attempt=1, facts=(end,)))
            desk.decide(now=0.0, at=0)
        assert len(desk.world.resting) == count
        with Calls() as calls:
            ask(desk, asks.RenewRunner(runner=life("a")))
            assert desk.decide(now=1.0, at=0) == []
        costs.append(calls.count)
        with Calls() as calls:
            desk.presence.heard(life("a"), 150.0)
            assert len(desk.decide(now=150.0, at=150_000_000)) == count
        costs.append(calls.count // count)
    assert costs[2] == costs[0]
    assert costs[3] < 1.35 * costs[1], f"a rest costs {costs[1]} calls among few and {costs[3]} among many"


def test_a_word_from_a_runner_costs_the_same_beside_many_idle_ones() -> None:
    """Nothing scans the fleet when nobody waits for a slot."""
    costs = []
    for count in (10, 1000):
        desk = Desk("c1")
        for at in range(count):
            ask(desk, runner("b", number=at))
        work(desk, independent(1))
        with Calls() as calls:
            ask(desk, asks.RenewRunner(runner=life("a")))
            desk.decide(now=1.0, at=0)
        costs.append(calls.count)
    assert costs[1] < 2 * costs[0], f"{costs[0]} calls beside 10 runners, {costs[1]} beside 1,000"
