"""Why a job waits: each cause there is, in the one sentence that is told, with what would end it."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from headway.core.events import (
    FleetPaused,
    FleetResumed,
    RunnerDrained,
    RunnerLeft,
    RunnerLost,
    RunPaused,
    RunResumed,
)
from headway.projections.causes import Cause
from headway.projections.records import Live
from tests.projections.histories import RUNNER
from tests.projections.whys import WORKS, Told

GPU = "extra-00000001"


@pytest.fixture
def told(tmp_path: Path) -> Told:
    """A history that has begun."""
    return Told(tmp_path)


async def test_a_mistyped_label_is_answered_with_the_nearest_one(told: Told) -> None:
    """No runner has the label or had it: the one meant is named, with the runner that has it."""
    told.history.register(GPU, labels=("gpu-large", "linux"))
    run = told.admit({"train": {"runs_on": ("gpu-lagre",)}}, queue=["train"])
    found = await told.job(run, "train", after=180)
    assert found.cause is Cause.NO_LABEL
    assert found.words == f"no runner has the label gpu-lagre; the nearest is gpu-large, which {GPU} has"
    assert found.unblocks == (
        "correct runs_on of the job, or start a runner with it: headway runners start --labels gpu-lagre"
    )
    assert found.facts.nearest_label == "gpu-large"
    assert found.facts.runners_with_label == (GPU,)
    assert (found.age_ms, found.holder, found.state) == (180_000, "queue", "queued")
    assert found.evidence == (5, 2)


async def test_a_label_that_a_shell_would_read_is_quoted(told: Told) -> None:
    """What is told to be typed can be typed, whatever the pipeline calls its labels."""
    told.history.register()
    run = told.admit({"train": {"runs_on": ("x; rm -r .",)}}, queue=["train"])
    assert "--labels 'x; rm -r .'" in (await told.job(run, "train")).unblocks


async def test_a_label_that_is_like_one_of_a_runner_that_left(told: Told) -> None:
    """The nearest label may be one that nobody has any more."""
    told.history.register()
    told.history.register(GPU, labels=("gpu-large",))
    told.history.say(RunnerLeft(runner=GPU))
    run = told.admit({"train": {"runs_on": ("gpu-lagre",)}}, queue=["train"])
    assert (await told.job(run, "train", after=60)).words == (
        f"no runner has the label gpu-lagre; the nearest is gpu-large, which {GPU} had until it left 1m 0s ago"
    )


async def test_a_label_like_no_other_has_no_nearest(told: Told) -> None:
    """Nothing is guessed."""
    told.history.register(labels=("linux",))
    run = told.admit({"train": {"runs_on": ("quantum",)}}, queue=["train"])
    found = await told.job(run, "train")
    assert (found.cause, found.words) == (
        Cause.NO_LABEL,
        "no runner has the label quantum; the only label there is is linux",
    )
    assert found.facts.nearest_label == ""


async def test_a_label_whose_runner_left_or_was_lost(told: Told) -> None:
    """Who had it is named, until when, and how it went."""
    told.history.register()
    told.history.register(GPU, labels=("gpu",))
    run = told.admit({"train": {"runs_on": ("gpu",)}}, queue=["train"])
    told.history.say(RunnerLeft(runner=GPU))
    found = await told.job(run, "train", after=600)
    assert found.cause is Cause.LABEL_GONE
    assert found.words == f"no runner has the label gpu; {GPU} had it until it left 10m 0s ago"
    assert found.unblocks == "start it again: headway runners start --name extra --labels gpu"
    told.history.register("extra-00000002", labels=("gpu",))
    told.history.say(RunnerLost(runner="extra-00000002", reason="silent for 15 s"))
    found = await told.job(run, "train", after=60)
    assert found.words == (
        "no runner has the label gpu; extra-00000002 had it until it was lost 1m 0s ago: silent for 15 s"
    )


async def test_labels_that_no_runner_has_together(told: Told) -> None:
    """Each label is there, on different runners, which are named."""
    told.history.register(GPU, labels=("gpu",))
    told.history.register("other-00000002", labels=("big",))
    run = told.admit({"train": {"runs_on": ("gpu", "big")}}, queue=["train"])
    found = await told.job(run, "train")
    assert found.cause is Cause.LABELS_APART
    assert found.words == (f"no runner has the labels gpu and big together: {GPU} has gpu and other-00000002 has big")


async def test_no_runner_at_all(told: Told) -> None:
    """There was none, or the last one left."""
    run = told.admit({"a": {}, "b": {"runs_on": ("gpu",)}}, queue=["a", "b"])
    found = await told.run(run)
    assert [(one.cause, one.words) for one in found.jobs] == [
        (Cause.NO_RUNNER, "there is no runner"),
        (Cause.NO_RUNNER, "there is no runner, so none has the label gpu"),
    ]
    assert [one.unblocks for one in found.jobs] == [
        "start one: headway runners start",
        "start one: headway runners start --labels gpu",
    ]
    told.history.register(GPU, labels=("linux",))
    told.history.say(RunnerLeft(runner=GPU))
    assert (await told.job(run, "a", after=60)).words == f"there is no runner; {GPU} left 1m 0s ago"


async def test_a_label_whose_runners_are_all_drained(told: Told) -> None:
    """Who drained it, since when and why."""
    told.history.register(GPU, labels=("gpu",))
    told.history.register()
    told.history.say(RunnerDrained(runner=GPU, reason="new disk"), actor="user:grace")
    run = told.admit({"train": {"runs_on": ("gpu",)}}, queue=["train"])
    found = await told.job(run, "train", after=3600)
    assert found.cause is Cause.DRAINING
    assert found.words == (
        f"the only runner with the label gpu, {GPU}, takes nothing new: grace drained it 1h 0m ago: new disk"
    )
    assert found.unblocks == "headway runners resume extra"
    assert 4 in found.evidence


async def test_a_full_slot_names_who_holds_it_the_place_in_line_and_the_time(told: Told) -> None:
    """The median of past runs of the same job says when a slot is expected, and how many there were."""
    told.history.register(slots=1)
    for seconds in (50, 60, 300):
        told.passed("build", RUNNER, seconds=seconds)
    busy = told.admit({"build": {"runs_on": ("linux",)}})
    told.execute(busy, "build", RUNNER)
    first = told.admit({"lint": {"runs_on": ("linux",)}}, queue=["lint"])
    second = told.admit({"lint": {"runs_on": ("linux",)}}, queue=["lint"])
    found = await told.job(first, "lint", after=20)
    assert found.cause is Cause.SLOTS
    assert found.words == (
        f"the only slot that fits is taken by build of run {busy[-10:]} for 20.0s, usually 1m 0s (of 3 past runs); "
        "it is number 1 of 2 in line"
    )
    assert found.unblocks == "the end of build: a slot is expected in about 40s (of 3 past runs)"
    assert found.unknown == ""
    [held] = found.facts.held_by
    assert (held.run, held.job, held.runner, held.from_runs) == (busy, "build", RUNNER, 3)
    assert (found.facts.queue_position, found.facts.queue_length, found.facts.slots) == (1, 2, 1)
    found = await told.job(second, "lint", after=20)
    assert found.words.endswith("it is number 2 of 2 in line")
    assert (found.facts.expected_wait_ms, found.unknown) == (None, "how long the jobs before it will take")


async def test_nothing_is_expected_of_a_job_that_never_succeeded(told: Told) -> None:
    """What is not known is said to be so."""
    told.history.register(slots=1)
    busy = told.admit({"build": {}, "lint": {}}, queue=["lint"])
    told.execute(busy, "build", RUNNER)
    found = await told.job(busy, "lint", after=20)
    assert found.words == "the only slot that fits is taken by build for 20.0s; it is number 1 of 1 in line"
    assert (found.unblocks, found.unknown) == (
        "the end of build",
        "how long build will take: it has not run before",
    )


async def test_the_project_that_holds_fewest_comes_first(told: Told) -> None:
    """The place in line is the scheduler's, not the time of arrival."""
    told.history.register(slots=1)
    busy = told.admit({"build": {}, "late": {}}, queue=["late"])
    told.execute(busy, "build", RUNNER)
    other = told.admit({"lint": {}}, project="other", queue=["lint"])
    assert (await told.job(busy, "late")).facts.queue_position == 2
    assert (await told.job(other, "lint")).facts.queue_position == 1


async def test_a_full_concurrency_group(told: Told) -> None:
    """The group, its limit, who holds it and since when; a free slot does not help."""
    told.history.register(slots=4)
    ship = {"concurrency_group": "production"}
    one, two, three = (told.admit({"ship": ship}) for _ in range(3))
    told.execute(one, "ship", RUNNER)
    told.history.queue(two, "ship")
    told.history.queue(three, "ship")
    found = await told.job(three, "ship", after=30)
    assert found.cause is Cause.GROUP
    assert found.words == (
        f"its concurrency group production allows 1 at a time, and is taken by ship of run {one[-10:]} for 30.0s; "
        "it is number 2 of 2 in line for it"
    )
    assert found.unblocks == "the end of ship"
    assert (found.facts.group, found.facts.group_limit) == ("production", 1)


async def test_a_pause_of_the_run_and_of_everything(told: Told) -> None:
    """By whom, since when, why; what would hold it up besides is said too."""
    told.history.register()
    run = told.admit({"train": {"runs_on": ("gpu",)}}, queue=["train"])
    seq = told.history.say(RunPaused(reason="look first"), run=run, actor="user:ada")
    found = await told.job(run, "train", after=120)
    assert (found.cause, found.words) == (Cause.PAUSED_RUN, "ada paused the run 2m 0s ago: look first")
    assert found.unblocks == f"headway resume {run}"
    assert found.also == ("no runner has the label gpu; the only label there is is linux",)
    assert seq in found.evidence
    seq = told.history.say(FleetPaused(reason="upgrade"), actor="user:grace")
    found = await told.job(run, "train", after=60)
    assert (found.cause, found.words) == (Cause.PAUSED_SERVICE, "grace paused everything 1m 0s ago: upgrade")
    assert found.unblocks == "headway resume"
    assert found.facts.paused_by == "user:grace"
    assert seq in found.evidence


async def test_a_job_that_backs_off(told: Told) -> None:
    """Until when, and after which attempt; when the time is over it is in line."""
    told.history.register(slots=1)
    run = told.admit({"flaky": {}, "other": {}})
    told.execute(run, "flaky", RUNNER)
    told.history.fail_attempt(run, "flaky")
    told.rest(run, "flaky", attempt=2, seconds=30)
    found = await told.job(run, "flaky", after=10)
    assert found.cause is Cause.BACK_OFF
    assert found.words == "attempt 1 failed, so attempt 2 rests for another 20.0s"
    assert found.unblocks == "time: it is in line for a slot in 20.0s"
    assert found.facts.start_after is not None
    told.execute(run, "other", RUNNER)
    found = await told.job(run, "flaky", after=31)
    assert (found.cause, found.words) == (
        Cause.SLOTS,
        f"attempt 1 failed on {RUNNER} 31.0s ago; the only slot that fits is taken by other for 31.0s; "
        "it is number 1 of 1 in line",
    )


async def test_nobody_can_explain_it(told: Told) -> None:
    """A slot is free and nothing holds it up: for a second that is the coordinator's time, then it is said plainly."""
    told.history.register()
    run = told.admit({"build": {}}, queue=["build"])
    assert (await told.job(run, "build", after=0.9)).cause is Cause.DUE
    found = await told.job(run, "build", after=90)
    assert found.cause is Cause.UNEXPLAINED
    assert found.words == (
        "nothing that is known holds it up, and nothing has happened for 1m 30s: it can be given to a runner"
    )
    assert found.unblocks.startswith("headway doctor")
    assert found.unknown == "why nothing happens"
    assert "a slot of such a runner is free" in found.facts.excluded


async def test_what_ended_just_now_is_not_unexplained(told: Told) -> None:
    """A resume, of the run or of everything, and a slot that became free give the coordinator its second again."""
    told.history.register(slots=1)
    run, other = told.admit({"build": {}}, queue=["build"]), told.admit({"a": {}})
    told.history.say(RunPaused(), run=run, actor="user:ada")
    told.history.clock.advance(60)
    told.history.say(RunResumed(), run=run, actor="user:ada")
    assert (await told.job(run, "build", after=0.5)).cause is Cause.DUE
    told.history.say(FleetPaused(), actor="user:ada")
    told.history.clock.advance(60)
    told.history.say(FleetResumed(), actor="user:ada")
    assert (await told.job(run, "build", after=0.5)).cause is Cause.DUE
    told.execute(other, "a", RUNNER)
    told.history.clock.advance(60)
    told.history.complete(other, "a")
    assert (await told.job(run, "build", after=0.5)).cause is Cause.DUE
    assert (await told.job(run, "build", after=1.5)).cause is Cause.UNEXPLAINED


@pytest.mark.parametrize(
    ("live", "cause", "words"),
    [
        (None, Cause.SERVICE_DOWN, "the service is not running: nothing new starts until it is"),
        (
            msgspec.structs.replace(WORKS, log_trouble="the log's server cannot be reached"),
            Cause.LOG_UNREACHABLE,
            "the log's server cannot be reached: nothing new starts until it can be written to",
        ),
        (
            Live(coordinates=False, coordinator_trouble="the plan is not there"),
            Cause.NO_COORDINATOR,
            "nobody coordinates: the plan is not there",
        ),
    ],
)
async def test_what_keeps_everything_from_moving(told: Told, live: Live | None, cause: Cause, words: str) -> None:
    """It is said once, on top, and of a job only where nothing else holds it up."""
    told.history.register()
    run = told.admit({"build": {}, "odd": {"runs_on": ("gpu",)}}, queue=["build", "odd"])
    found = await told.all(after=90, live=live)
    assert found.service is not None
    assert (found.service.cause, found.service.words) == (cause, words)
    assert found.service.behind_ms == 90_000
    assert [(one.cause, one.job) for one in found.waiting] == [(cause, "build"), (Cause.NO_LABEL, "odd")]
    assert found.waiting[0].words == f"it can be given to a runner, but {words}"
    assert (await told.run(run, live=live)).service is not None


async def test_a_service_that_stands_by_cannot_vouch_for_the_other(told: Told) -> None:
    """It says what it sees: that no word comes from the one that coordinates."""
    told.history.register()
    run = told.admit({"build": {}}, queue=["build"])
    found = await told.job(run, "build", after=12, live=Live(coordinates=False))
    assert found.cause is Cause.NO_COORDINATOR
    assert found.words == (
        "it can be given to a runner, but the service that coordinates has said nothing of it for 12.0s; "
        "this one stands by"
    )
    assert found.unknown == "whether the service that coordinates works"
