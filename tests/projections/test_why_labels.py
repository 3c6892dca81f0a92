"""Why nobody offers what a job asks for: which label it is, who had it, and who has it but takes nothing new."""

from __future__ import annotations

from pathlib import Path

import pytest

from headway.core.events import RunnerDrained, RunnerLeft, RunnerLost
from headway.projections.causes import Cause
from tests.projections.histories import RUNNER
from tests.projections.whys import Told

GPU, BIG = "extra-00000001", "other-00000002"


@pytest.fixture
def told(tmp_path: Path) -> Told:
    """A history that has begun."""
    return Told(tmp_path)


async def test_the_label_that_nobody_knows_is_the_one_that_is_named(told: Told) -> None:
    """Not the one whose runner was lost: starting that again would not help."""
    told.history.register(BIG, labels=("arm",))
    told.history.register(GPU, labels=("linux", "gpu"))
    told.history.say(RunnerLost(runner=GPU, reason="silent for 15 s"))
    run = told.admit({"train": {"runs_on": ("linux", "gpuu")}}, queue=["train"])
    found = await told.job(run, "train", after=60)
    assert (found.cause, found.facts.nearest_label) == (Cause.NO_LABEL, "gpu")
    assert found.words == (
        f"no runner has the label gpuu; the nearest is gpu, which {GPU} had until it was lost 1m 0s ago: "
        "silent for 15 s"
    )
    assert found.also == (
        f"no runner has the label linux now; {GPU} had it until it was lost 1m 0s ago: silent for 15 s",
    )


async def test_the_nearest_label_where_no_runner_is_left(told: Told) -> None:
    """There is no runner, and a new one with these labels would not be what was meant."""
    told.history.register(GPU, labels=("linux", "gpu"))
    told.history.say(RunnerLeft(runner=GPU))
    run = told.admit({"train": {"runs_on": ("linux", "gpuu")}}, queue=["train"])
    found = await told.job(run, "train", after=60)
    assert (found.cause, found.facts.nearest_label) == (Cause.NO_RUNNER, "gpu")
    assert found.also == (f"no runner had the label gpuu; the nearest is gpu, which {GPU} had until it left 1m 0s ago",)


async def test_labels_that_are_like_none_are_answered_with_those_there_are(told: Told) -> None:
    """At most five."""
    told.history.register(labels=("a1", "b2"))
    run = told.admit({"train": {"runs_on": ("quantum",)}}, queue=["train"])
    assert (await told.job(run, "train")).words == "no runner has the label quantum; the labels there are: a1 and b2"
    told.history.register(GPU, labels=("c3", "d4", "e5", "f6"))
    assert (await told.job(run, "train")).words == (
        "no runner has the label quantum; the labels there are: a1, b2, c3, d4 and 2 more"
    )


async def test_labels_apart_although_a_runner_with_all_of_them_was_lost(told: Told) -> None:
    """That each label is there is the answer; who had them together is said beside it."""
    told.history.register(GPU, labels=("gpu", "big"))
    told.history.say(RunnerLost(runner=GPU, reason="silent for 15 s"))
    told.history.register(labels=("gpu",))
    told.history.register(BIG, labels=("big",))
    run = told.admit({"train": {"runs_on": ("gpu", "big")}}, queue=["train"])
    found = await told.job(run, "train", after=60)
    assert (found.cause, found.words) == (
        Cause.LABELS_APART,
        f"no runner has the labels gpu and big together: {RUNNER} has gpu and {BIG} has big",
    )
    assert found.also == (f"{GPU} had all of them until it was lost 1m 0s ago: silent for 15 s",)
    assert found.unblocks == "start a runner with all of them: headway runners start --name extra --labels gpu,big"


async def test_labels_whose_runners_all_went_one_by_one(told: Told) -> None:
    """Each with who had it."""
    told.history.register()
    told.history.register(GPU, labels=("gpu",))
    told.history.register(BIG, labels=("big",))
    told.history.say(RunnerLeft(runner=GPU))
    told.history.say(RunnerLeft(runner=BIG))
    run = told.admit({"train": {"runs_on": ("gpu", "big")}}, queue=["train"])
    found = await told.job(run, "train", after=60)
    assert (found.cause, found.words) == (
        Cause.LABEL_GONE,
        f"no runner has the labels gpu and big; {GPU} had gpu until it left 1m 0s ago and "
        f"{BIG} had big until it left 1m 0s ago",
    )


async def test_a_drained_runner_with_free_slots_is_said_beside_the_full_ones(told: Told) -> None:
    """It fits, it has room, it takes nothing new, by whom; and resuming it would help."""
    told.history.register(slots=2)
    told.history.register(GPU, slots=1)
    told.history.say(RunnerDrained(runner=RUNNER, reason="new disk"), actor="user:grace")
    run = told.admit({"build": {}, "lint": {}}, queue=["lint"])
    told.execute(run, "build", GPU)
    found = await told.job(run, "lint", after=60)
    assert (found.cause, found.also) == (
        Cause.SLOTS,
        (f"{RUNNER} fits and has 2 free slots, but takes nothing new: grace drained it 1m 0s ago: new disk",),
    )
    assert found.unblocks == "the end of build, or headway runners resume local"
    assert 4 in found.evidence
