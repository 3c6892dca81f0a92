"""The world as a whole: what is left of what is over, checkpoints in the middle of things, and two desks on one log."""

from __future__ import annotations

import msgspec
import pytest

from headway.core import asks
from headway.core.desk import open_desk
from headway.core.envelope import Fact, decode
from headway.core.events import JobAssigned, RunCompleted
from headway.core.log import Conflict
from headway.core.states import Outcome, State
from headway.core.world import FINISHED_KEPT, World, restore
from tests.core import worlds
from tests.core.story import RUN, Story, given, job, life, runner, submitted

A = life("a")


# What is left


def test_nothing_is_left_of_a_run_that_is_over() -> None:
    """No index keeps a word of it; only its name is remembered, to know an ask that comes late."""
    story = given(runner("a"), submitted("build", job("test", after=["build"])))
    story.ends("build").ends("test", Outcome.FAILED)
    assert worlds.empty(story.world) == {}
    assert list(story.world.finished) == [RUN]


def test_nothing_is_left_of_a_run_that_waited_for_labels_nobody_offers() -> None:
    """Its jobs leave the queue when they are cancelled, although no runner ever looked at it."""
    story = given(submitted(job("build", on=["gpu"]), "lint"), asks.CancelRun(run=RUN))
    assert worlds.empty(story.world) == {}


def test_nothing_is_left_of_labels_that_nobody_waits_for() -> None:
    """Each set of labels has a queue while somebody is in it."""
    story = given(
        runner("a", "linux", slots=9), *(submitted(job("j", on=["linux"] * at), run=f"r{at}") for at in range(9))
    )
    for at in range(9):
        story.ends("j", run=f"r{at}")
    assert story.world.queue.labels == []


def test_pausing_and_resuming_does_not_grow_the_queue() -> None:
    """However often somebody changes their mind, a job waits once."""
    story = given(runner("a"), submitted(*(job(f"j{at}", group="db") for at in range(4)), job("gpu", on=["gpu"])))
    sizes = []
    for _ in range(5):
        story.hears(asks.PauseRun(run=RUN))
        story.hears(asks.ResumeRun(run=RUN))
        story.decides()
        sizes.append(len(story.world.queue))
    assert sizes[-1] <= 4 + 1


def test_nothing_is_left_of_runners_that_come_and_go() -> None:
    """Each incarnation leaves its name and the reason, and no more."""
    story = given(submitted("build", attempt_losses_max=9))
    for number in range(1, 6):
        story.hears(runner("a", number=number, replaces=[life("a", number - 1)]))
        story.decides()
    assert list(story.world.fleet.runners) == [life("a", 5)]
    assert len(story.world.fleet.departed) == 4
    assert (story.world.bereaved, story.world.replaced) == ({}, {})


def test_a_run_sealed_before_its_jobs_were_over_leaves_nothing_behind() -> None:
    """No coordinator writes that; should a log hold it, the next one still goes on with everything else."""
    story = given(runner("a", slots=2), submitted("build", job("test", group="db"), job("gpu", on=["gpu"])))
    desk = story.desk
    desk.write([Fact(event=RunCompleted(outcome=Outcome.FAILED, jobs=3), id="", actor="t", run=RUN)], at=0)
    desk.hear(asks.LeaveRunner(runner=A), actor="t", now=0.0, at=0)
    assert desk.decide(now=0.0, at=0) == []
    assert worlds.empty(desk.world) == {}


def test_only_the_last_finished_runs_are_remembered() -> None:
    """A service that runs for years does not fill the memory with names."""
    story = given()
    world = story.world
    world.finished = {f"old{at}": Outcome.FAILED for at in range(FINISHED_KEPT)}
    fresh = open_desk("c9", checkpoint=world.snapshot())
    plan = submitted("build").plan
    fresh.hear(asks.AdmitRun(run=RUN, admitted=submitted("build").admitted), actor="t", now=0.0, at=0, plan=plan)
    fresh.hear(asks.CancelRun(run=RUN), actor="t", now=0.0, at=0)
    fresh.decide(now=0.0, at=0)
    assert len(fresh.world.finished) == FINISHED_KEPT
    assert list(fresh.world.finished)[-1] == RUN


# Folding


def test_an_entry_that_repeats_a_number_of_its_run_changes_nothing() -> None:
    """A run's events are numbered, and one with a number already folded is not its head either."""
    story = given(runner("a"), submitted("build"))
    before = worlds.state(story.world)
    old = next(one for one in story.log.entries if b"job.admitted" in one.body)
    story.world.apply(decode(old.body), old.body, story.world.seq + 1)
    after = worlds.state(story.world)
    assert after.pop("seq") == before.pop("seq") + 1
    assert after == before


def test_events_of_a_run_whose_beginning_is_gone_change_nothing() -> None:
    """A log whose old runs were removed can still be folded."""
    story = given(runner("a"), submitted("build"))
    world = World()
    for stored in story.log.entries[2:]:
        world.apply(decode(stored.body), stored.body, stored.seq)
    assert (world.runs, world.seq) == ({}, len(story.log.entries))


# Checkpoints


def eventful() -> Story:
    """A little of everything, with something unfinished of each kind."""
    jobs = [job("one", group="db"), job("two", group="db"), job("three", after=["one"]), job("four", retry_count=2)]
    story = given(runner("a", slots=2), runner("b"), submitted(*jobs, retry_backoff_ms=9_000))
    story.hears(submitted("big", run="r2", project="b"))
    story.decides()
    story.reaches("one", State.EXECUTING)
    story.hears(asks.PauseRun(run="r2"))
    story.finishes("four", Outcome.FAILED)
    story.hears(runner("b", number=2, replaces=[life("b")]))
    story.hears(asks.CancelJob(run=RUN, job="two"))
    story.hears(submitted("late", run="r3"))
    story.decides()
    story.hears(asks.LeaveRunner(runner=A))
    story.decides()
    story.hears(asks.DrainRunner(runner="b"))
    return story


def test_from_a_checkpoint_at_any_point_the_same_world_comes_back() -> None:
    """Whatever was under way: what follows is folded as if nothing had been interrupted."""
    entries = eventful().log.entries
    whole = World()
    for stored in entries:
        whole.apply(decode(stored.body), stored.body, stored.seq)
    once = World()
    for at, stored in enumerate(entries):
        once.apply(decode(stored.body), stored.body, stored.seq)
        resumed = restore(once.snapshot())
        for later in entries[at + 1 :]:
            resumed.apply(decode(later.body), later.body, later.seq)
        assert worlds.state(resumed) == worlds.state(whole)
        assert worlds.indexes(resumed) == worlds.indexes(whole)


@pytest.mark.parametrize("body", [b"", b"{}", b"[]", b'{"seq":1}', b"\xff\xfe", b'{"seq":"x","runs":[],"fleet":{}}'])
def test_a_checkpoint_that_is_none_is_told_from_one(body: bytes) -> None:
    """It raises, so that everything is read instead."""
    with pytest.raises(msgspec.MsgspecError):
        open_desk("c1", checkpoint=body)


def test_a_finished_run_is_known_from_a_checkpoint() -> None:
    """An ask that comes late is recognised after a restart as well."""
    story = given(runner("a"), submitted("build")).ends("build").restarts()
    assert story.hears(submitted("build")) == []
    assert not story.answer.refused


# Two desks


def test_of_two_desks_only_one_writes() -> None:
    """Both decide from what they know; the second append is refused, and what was read again says nothing new."""
    story = given(runner("a"), submitted("build", "lint"))
    other = open_desk("c2")
    for stored in story.log.entries:
        other.take(stored)
    other.world.plans = dict(story.world.plans)
    story.finishes("build")
    story.decides()
    _, entries = other.hear(asks.CancelJob(run=RUN, job="lint"), actor="t", now=0.0, at=0)
    with pytest.raises(Conflict):
        story.log.append_now(entries[0])
    again = open_desk("c3")
    for stored in story.log.entries:
        again.take(stored)
    again.world.plans = dict(story.world.plans)
    assert again.decide(now=0.0, at=0) == []


def test_two_desks_that_say_the_same_say_it_once() -> None:
    """An entry is known by its bytes: the same decision made twice is one entry, another one a conflict."""
    story = given(submitted("build"))
    desks = []
    for _ in range(2):
        desk = open_desk("c2", checkpoint=story.world.snapshot())
        desk.world.plans = dict(story.world.plans)
        desks.append(desk.hear(runner("a"), actor="t", now=0.0, at=5)[1] + desk.decide(now=0.0, at=5))
    assert desks[0] == desks[1]
    assert [story.log.append_now(entry) for entry in desks[0]] == [story.log.append_now(entry) for entry in desks[1]]
    assert isinstance(decode(desks[0][-1].body).data, JobAssigned)


def test_a_plan_given_late_to_a_finished_run_is_not_kept() -> None:
    """Plans are the largest things in memory, and go with their run."""
    story = given(runner("a"), submitted("build")).ends("build")
    story.world.give_plan(RUN, submitted("build").plan)
    assert story.world.plans == {}
