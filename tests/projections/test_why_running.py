"""Why jobs that wait for others, or that a runner holds, are where they are; and what is told of the past."""

from __future__ import annotations

from pathlib import Path

import pytest

from headway.core.errors import NotFoundError
from headway.core.events import (
    CoordinatorElected,
    JobAdmitted,
    JobCancelRequested,
    RunAdmitted,
    RunCancelRequested,
    RunnerLost,
)
from headway.core.plan import digest_of
from headway.core.states import Outcome
from headway.projections.answers import WhyAll, WhyRun
from headway.projections.causes import Cause
from headway.projections.records import Live
from tests.projections.histories import RUNNER
from tests.projections.whys import Told

GPU = "extra-00000001"


@pytest.fixture
def told(tmp_path: Path) -> Told:
    """A history that has begun."""
    return Told(tmp_path)


async def test_jobs_that_a_plan_would_never_have(told: Told) -> None:
    """A circle is said as it is; a job whose run is still being read has no other cause yet."""
    told.history.register()
    run = told.admit({"a": {"depends_on": ("b",)}, "b": {"depends_on": ("a",)}})
    assert (await told.job(run, "a")).words == "it waits for b, and that waits for it"
    run = told.history.clock.new_id()
    admitted = RunAdmitted(project="shop", pipeline="build", jobs=2, plan_digest=digest_of(b"plan"))
    told.history.say(admitted, run=run, actor="user:ada")
    assert (
        await told.run(run)
    ).run.words == "its plan is being read: 0 of 2 jobs are known: the coordinator's word is due"
    told.history.say(JobAdmitted(), run=run, job="a")
    assert (await told.job(run, "a")).words == "the plan of its run is being read: the coordinator's word is due"
    assert {one.job for one in (await told.all()).waiting if one.run == run} == {"", "a"}


async def test_a_job_that_is_about_to_be_skipped(told: Told) -> None:
    """What it depends on failed, and the coordinator has not said yet what follows."""
    told.history.register()
    run = told.admit({"build": {}, "lint": {}, "test": {"depends_on": ("build",)}}, queue=["lint"])
    told.execute(run, "build", RUNNER)
    told.history.complete(run, "build", outcome=Outcome.FAILED)
    found = await told.job(run, "test")
    assert (found.cause, found.words) == (
        Cause.DUE,
        "build failed, so it is to be skipped: the coordinator's word is due",
    )
    assert "; build failed" in (await told.run(run)).run.words


async def test_a_job_that_waits_for_others_is_told_by_what_holds_them_up(told: Told) -> None:
    """Down the dependencies to the end of it; the jobs behind are counted there and told nowhere else."""
    told.history.register()
    jobs = {"compile": {"runs_on": ("gppu",)}, "test": {"depends_on": ("compile",)}, "ship": {"depends_on": ("test",)}}
    run = told.admit(jobs, queue=["compile"])
    found = await told.job(run, "ship", after=60)
    assert found.cause is Cause.DEPENDENCY
    assert found.words == (
        "it waits for compile (through test), queued for 1m 0s: no runner has the label gppu; "
        "the only label there is is linux"
    )
    assert found.facts.blocked_by == ("compile",)
    whole = await told.run(run, after=60)
    assert whole.run.words == "0 of 3 jobs completed; it waits for compile (queued for 1m 0s)"
    assert [(one.job, one.behind, one.behind_jobs) for one in whole.jobs] == [("compile", 2, ("test", "ship"))]
    everything = await told.all()
    assert [one.job for one in everything.waiting] == ["compile"]
    assert (everything.total, everything.jobs_waiting) == (1, 3)


async def test_a_job_at_work_is_no_waiting_unless_it_is_late_or_others_wait(told: Told) -> None:
    """Executing is told with its step and usual time; late is twice that and ten seconds more."""
    told.history.register()
    for _ in range(2):
        told.passed("build", RUNNER, seconds=60)
    run = told.admit({"build": {}})
    told.execute(run, "build", RUNNER)
    assert (await told.all(after=100)).waiting == []
    found = await told.job(run, "build", after=30)
    assert (found.cause, found.unblocks) == (Cause.EXECUTING, "its end, expected in about 30s")
    assert found.words == (
        f"runner {RUNNER} executes it, step 'make' for 30.0s; in all it usually takes 1m 0s (of 2 past runs)"
    )
    [found] = (await told.all(after=130)).waiting
    assert found.cause is Cause.OVERDUE
    assert found.words == (
        f"runner {RUNNER} executes it, step 'make' for 2m 10s; in all it usually takes 1m 0s (of 2 past runs), "
        "and now 2m 10s"
    )
    assert (found.facts.expected_ms, found.facts.expected_from) == (60_006, 2)
    told.admit({"a": {}})
    waiting = told.admit({"build": {}, "test": {"depends_on": ("build",)}})
    told.execute(waiting, "build", RUNNER)
    assert ("build", waiting) in [(one.job, one.run) for one in (await told.all()).waiting]


async def test_given_to_a_runner_that_does_not_accept(told: Told) -> None:
    """Assigned is waiting when it lasts."""
    told.history.register()
    run = told.admit({"build": {}}, queue=["build"])
    told.history.assign(run, "build")
    assert (await told.all(after=0.5)).waiting == []
    [found] = (await told.all(after=4)).waiting
    assert (found.cause, found.words) == (Cause.ASSIGNED, f"runner {RUNNER} was given it and has not accepted it yet")
    told.history.prepare(run, "build")
    assert (await told.job(run, "build")).words == f"runner {RUNNER} prepares its workspace"
    told.history.execute(run, "build")
    told.history.upload(run, "build")
    assert (await told.job(run, "build")).words == f"runner {RUNNER} stores its output"


async def test_a_job_that_is_being_cancelled(told: Told) -> None:
    """Whoever cancelled the run is who cancelled the job, though the coordinator passed it on."""
    told.history.register()
    run = told.admit({"build": {}})
    told.execute(run, "build", RUNNER)
    told.history.say(RunCancelRequested(reason="wrong branch"), run=run, actor="user:ada")
    told.history.say(JobCancelRequested(reason="wrong branch", runner=RUNNER), run=run, job="build", attempt=1)
    [found] = (await told.all()).waiting
    assert found.cause is Cause.CANCELLING
    assert found.words == f"ada cancelled it: wrong branch; its runner {RUNNER} is stopping it"


async def test_a_run_whose_plan_is_read_and_one_that_is_not_sealed(told: Told) -> None:
    """What a run itself waits for has no job to be told by."""
    told.history.register()
    reading = told.admit({})
    found = await told.run(reading, after=5)
    assert found.run.cause is Cause.UNEXPLAINED
    lost = told.admit({"build": {}})
    told.execute(lost, "build", RUNNER)
    told.history.lose(lost, "build")
    told.history.queue(lost, "build", attempt=2, reason="lost")
    told.history.drop(lost, "build", Outcome.CANCELLED, attempt=2)
    found = await told.run(lost, after=5)
    assert found.run.cause is Cause.SEALING
    assert found.run.words == (
        f"every job has completed, and the output of build (attempt 1, lost with {RUNNER}) is being gathered"
    )


async def test_a_job_whose_runner_is_silent_and_then_lost(told: Told) -> None:
    """First the lease that is about to end, then who was lost when, and what the next attempt waits for."""
    told.history.register(GPU, labels=("gpu",))
    run = told.admit({"train": {"runs_on": ("gpu",)}})
    told.execute(run, "train", GPU)
    silent = Live(coordinates=True, lease_seconds=15.0, silent_seconds={GPU: 9.0})
    found = await told.job(run, "train", after=9, live=silent)
    assert found.cause is Cause.SILENT_RUNNER
    assert found.words == f"its runner {GPU} has not been heard for 9.0s; its lease ends in 6.0s"
    assert found.unknown == "whether the runner still works on it"
    assert (found.facts.silent_ms, found.facts.lease_left_ms) == (9000, 6000)
    assert [one.job for one in (await told.all(live=silent)).waiting] == ["train"]
    told.history.say(RunnerLost(runner=GPU, reason="it has been silent for 15 s"))
    told.history.lose(run, "train", runner=GPU)
    told.history.queue(run, "train", attempt=2, reason="lost")
    found = await told.job(run, "train", after=20)
    assert (found.cause, found.attempt) == (Cause.LABEL_GONE, 2)
    assert found.words == (
        f"attempt 1 was lost with {GPU} 20.0s ago; no runner has the label gpu; {GPU} had it until it was "
        "lost 20.0s ago: it has been silent for 15 s"
    )


async def test_the_past_has_the_same_answers_and_blames_nobody_who_was_not_asked(told: Told) -> None:
    """As of every event the sentence is that of then; that no service is asked is not held against it."""
    told.history.register(slots=1)
    busy = told.admit({"build": {}, "lint": {}}, queue=["lint"])
    told.execute(busy, "build", RUNNER)
    seq = told.history.seq
    told.history.complete(busy, "build")
    told.history.assign(busy, "lint")
    found = await told.then(seq, run=busy, job="lint")
    assert isinstance(found, WhyRun)
    assert found.job is not None
    assert (found.service, found.job.cause) == (None, Cause.SLOTS)
    assert found.job.words == "the only slot that fits is taken by build for 0.0s; it is number 1 of 1 in line"
    everything = await told.then(seq)
    assert isinstance(everything, WhyAll)
    assert [one.job for one in everything.waiting] == ["lint"]
    for one in range(told.history.seq + 1):
        await told.then(one)


async def test_more_wait_than_are_told(told: Told) -> None:
    """The longest waiting come first, and all of them are counted."""
    run = told.admit({f"j{at}": {} for at in range(5)}, queue=[f"j{at}" for at in range(5)])
    found = await told.all(limit=2)
    assert [one.job for one in found.waiting] == ["j0", "j1"]
    assert (found.total, found.jobs_waiting) == (5, 5)
    assert all(one.run == run for one in found.waiting)


async def test_runs_and_jobs_that_are_not_there(told: Told) -> None:
    """They are not found, with what to do."""
    run = told.admit({"build": {}}, queue=["build"])
    with pytest.raises(NotFoundError):
        await told.run("0197")
    with pytest.raises(NotFoundError) as caught:
        await told.run(run, job="biuld")
    assert caught.value.next == f"did you mean 'build'? 'headway show {run}' lists its jobs"
    with pytest.raises(NotFoundError) as caught:
        await told.run(run, job="quantum")
    assert "did you mean" not in caught.value.next


async def test_longer_than_usual_is_not_any_moment(told: Told) -> None:
    """A job that has taken its usual time is expected at no time; who waits for it is told the same."""
    told.history.register(slots=1)
    told.passed("build", RUNNER, seconds=60)
    run = told.admit({"build": {}, "lint": {}}, queue=["lint"])
    told.execute(run, "build", RUNNER)
    found = await told.job(run, "build", after=65)
    assert (found.cause, found.unblocks) == (
        Cause.EXECUTING,
        "its end; it takes longer than usual (1m 0s, of 1 past run)",
    )
    found = await told.job(run, "lint", after=65)
    assert found.unblocks == "the end of build, which takes longer than usual (1m 0s, of 1 past run)"
    assert (found.unknown, found.facts.expected_wait_ms) == ("how much longer build will take", None)


async def test_whether_a_job_has_run_before(told: Told) -> None:
    """One that never ran is not one whose runs all failed; of several holders all are named."""
    told.history.register(slots=3)
    failed = told.admit({"bad": {}})
    told.execute(failed, "bad", RUNNER)
    told.history.complete(failed, "bad", outcome=Outcome.FAILED)
    run = told.admit({"a": {}, "b": {}, "bad": {}, "lint": {}}, queue=["lint"])
    told.execute(run, "bad", RUNNER)
    assert (await told.job(run, "bad")).unknown == "how long it will take: none of its past runs succeeded"
    told.execute(run, "a", RUNNER)
    assert (await told.job(run, "a")).unknown == "how long it will take: it has not run before"
    told.execute(run, "b", RUNNER)
    found = await told.job(run, "lint")
    assert found.unknown == "how long bad, a and b will take: no past run of them succeeded"
    told.history.complete(run, "bad")
    told.admit({"c": {}})
    other = told.admit({"c": {}})
    told.execute(other, "c", RUNNER)
    assert (await told.job(run, "lint")).unknown == "how long a, b and c will take: none of them has run before"


async def test_slots_whose_runner_is_silent(told: Told) -> None:
    """That the holders' runner is not heard, until when its lease goes, and what its word or its loss would do."""
    told.history.register(GPU, slots=2)
    run = told.admit({"f2": {}, "f3": {}, "next": {}}, queue=["next"])
    told.execute(run, "f2", GPU)
    told.execute(run, "f3", GPU)
    live = Live(coordinates=True, lease_seconds=15.0, silent_seconds={GPU: 8.8})
    found = await told.job(run, "next", after=8.8, live=live)
    assert found.cause is Cause.SLOTS
    assert found.words == (
        f"all 2 slots that fit are taken by f2 for 8.8s and f3 for 8.8s; their runner {GPU} has not been heard for "
        "8.8s; its lease ends in 6.2s; it is number 1 of 1 in line"
    )
    assert found.unblocks == f"the word of {GPU}; without it its slots go with it when the lease ends"
    assert found.unknown == f"whether {GPU} still works on what it holds"
    assert (found.facts.silent_ms, found.facts.lease_left_ms) == (8800, 6200)


async def test_a_runner_that_this_coordinator_has_not_heard(told: Told) -> None:
    """What the log says of it is what it did when it was last heard, until it is heard again."""
    told.history.register()
    run = told.admit({"build": {}})
    told.execute(run, "build", RUNNER)
    told.history.clock.advance(60)
    told.history.say(CoordinatorElected(coordinator="c-2", headway_version="0.1.0", host="here", pid=8))
    for silent in ({}, {RUNNER: 3.0}):
        live = Live(coordinates=True, lease_seconds=15.0, silent_seconds=silent)
        found = await told.job(run, "build", after=3, live=live)
        assert found.words.startswith(f"runner {RUNNER} was executing it when it was last heard, step 'make' for ")
        assert found.unknown.endswith("whether its runner still works on it")
    heard = Live(coordinates=True, lease_seconds=15.0, silent_seconds={RUNNER: 0.2})
    assert (await told.job(run, "build", after=3, live=heard)).words.startswith(f"runner {RUNNER} executes it")


async def test_assigned_while_the_service_is_down(told: Told) -> None:
    """What ends it is the runner's word, and that nobody takes it until the service runs."""
    told.history.register()
    run = told.admit({"build": {}}, queue=["build"])
    told.history.assign(run, "build")
    assert (await told.job(run, "build")).unblocks == "the runner's word"
    assert (await told.job(run, "build", live=None)).unblocks == (
        "the runner's word, which nobody takes until the service runs: headway up"
    )
