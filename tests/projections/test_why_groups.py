"""Jobs of a run that wait for the same are told once: how many, which is next, and when the last one is expected."""

from __future__ import annotations

from pathlib import Path

import pytest

from headway.core.states import Outcome
from headway.projections.causes import Cause
from tests.projections.histories import RUNNER
from tests.projections.whys import Told

GPU = "extra-00000001"


@pytest.fixture
def told(tmp_path: Path) -> Told:
    """A history that has begun."""
    return Told(tmp_path)


async def test_jobs_behind_the_same_slots_are_one_group(told: Told) -> None:
    """The holders, who is next, and when the last one gets a slot; each job still has its own answer."""
    told.history.register(slots=2)
    names = [f"t{at}" for at in range(9)]
    for name in ("a", "b", *names):
        told.passed(name, RUNNER, seconds=10)
    run = told.admit({name: {} for name in ("a", "b", *names)})
    told.execute(run, "a", RUNNER)
    told.execute(run, "b", RUNNER)
    for name in names:
        told.history.queue(run, name)
    for found in (await told.all(after=4), await told.run(run, after=4)):
        group = next(one for one in found.groups if one.first.cause is Cause.SLOTS)
        assert (group.jobs, group.names) == (9, tuple(names))
        assert group.words == (
            "all 2 slots that fit are taken by a for 4.0s, usually 10.0s (of 1 past run) and "
            "b for 4.0s, usually 10.0s (of 1 past run); next is t0"
        )
        assert group.unblocks == "the end of one of these 2 jobs: a slot is expected in about 6.0s (of 1 past run)"
        assert group.expected_last_ms is not None
        assert 45_900 < group.expected_last_ms < 46_100
        assert group.expected_from == 1
    alone = await told.all(after=4)
    assert {one.group for one in alone.waiting if one.job in names} == {alone.groups[0].group}
    assert (await told.job(run, "t3", after=4)).facts.queue_position == 4


async def test_a_limit_leaves_out_jobs_and_groups_alike(told: Told) -> None:
    """Groups that begin behind the limit of jobs are told, as many as that; all jobs are counted."""
    told.history.register()
    many = told.admit({f"j{at}": {"runs_on": ("nope",)} for at in range(5)}, queue=[f"j{at}" for at in range(5)])
    told.history.clock.advance(1)
    one = told.admit({"x": {"runs_on": ("gone",)}}, queue=["x"])
    found = await told.all(limit=2)
    assert [(each.run, each.job) for each in found.waiting] == [(many, "j0"), (many, "j1")]
    assert [(each.jobs, each.first.run, each.first.job) for each in found.groups] == [(5, many, "j0"), (1, one, "x")]
    assert found.total == 6
    assert found.groups[0].words == "no runner has the label nope; the only label there is is linux"


async def test_what_makes_jobs_wait_for_something_else(told: Told) -> None:
    """Other labels, another group, a rest after a failed attempt: those are told apart."""
    told.history.register(slots=8)
    kinds = {
        "plain": {},
        "plain2": {},
        "labelled": {"runs_on": ("gpu",)},
        "grouped": {"concurrency_group": "g"},
        "holder": {"concurrency_group": "g"},
        "flaky": {"retry_count": 1},
        "flaky2": {"retry_count": 1},
    }
    run = told.admit(kinds, queue=["plain", "plain2", "labelled", "grouped"])
    told.execute(run, "holder", RUNNER)
    for name, seconds in (("flaky", 40), ("flaky2", 30)):
        told.execute(run, name, RUNNER)
        told.history.fail_attempt(run, name)
        told.rest(run, name, attempt=2, seconds=seconds)
    found = await told.run(run)
    by_names = {one.names: one for one in found.groups}
    assert set(by_names) == {("plain", "plain2"), ("labelled",), ("grouped",), ("holder",), ("flaky2", "flaky")}
    assert by_names[("flaky2", "flaky")].words == (
        "they rest after attempts that failed; the first, flaky2, for another 30.0s"
    )


async def test_jobs_at_work_and_jobs_that_failed_alike(told: Told) -> None:
    """Who executes how many is enough to know at a glance; so is one reason that many give."""
    told.history.register(slots=8)
    told.history.register(GPU, slots=8)
    run = told.admit({f"j{at}": {} for at in range(4)})
    for at in range(4):
        told.execute(run, f"j{at}", GPU if at == 3 else RUNNER)
    [group] = (await told.run(run)).groups
    assert (group.jobs, group.words, group.unblocks) == (4, f"on {RUNNER} (3) and {GPU} (1)", "their end")
    for at in range(4):
        told.history.complete(run, f"j{at}", outcome=Outcome.FAILED)
    told.history.end(run, Outcome.FAILED, jobs=4)
    [group] = (await told.run(run)).groups
    assert (group.jobs, group.first.cause) == (4, Cause.FAILED)
    assert group.words == "make exited with 2"
