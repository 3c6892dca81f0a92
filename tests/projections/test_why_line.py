"""The place in line that is told is the one that the scheduler gives."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from random import Random

import pytest

from headway.core.asks import AdmitRun, AnyAsk, RegisterRunner
from headway.core.clock import ManualClock
from headway.core.desk import Desk
from headway.core.envelope import decode
from headway.core.events import JobAssigned, RunAdmitted
from headway.core.log import Entry
from headway.core.memory import MemoryLog
from headway.core.plan import Job, Plan, Step, digest_of, encode_plan
from headway.core.queue import Queue, Waiting
from headway.projections.causes import Cause
from headway.projections.ground import Moment
from headway.projections.line import FORESEEN, expected_wait, in_order
from headway.projections.why import why_run
from tests.projections.tables_fixture import following
from tests.projections.whys import WORKS

PROJECTS = ("shop", "bank", "zoo")
LABELS: tuple[tuple[str, ...], ...] = ((), ("a",), ("b",), ("a", "b"))


@pytest.mark.parametrize("seed", range(200))
def test_the_order_is_the_queues(seed: int) -> None:
    """Whatever waits and is held: slots given one after the other go to the same jobs in the same order."""
    random = Random(seed)
    waiting = [
        Waiting(
            seq=at,
            run=f"r{at}",
            job="j",
            labels=random.choice(LABELS),
            project=random.choice(PROJECTS),
            group=random.choice(("", "", "g", "h")),
            limit=random.choice((1, 2)),
        )
        for at in range(random.randrange(30))
    ]
    queue, held = (
        Queue(),
        [(random.choice(PROJECTS), random.choice(("", "g", "h"))) for _ in range(random.randrange(5))],
    )
    for project, group in held:
        queue.hold(project, group)
    project_held, group_held = dict(queue.project_held), dict(queue.group_held)
    for one in random.sample(waiting, len(waiting)):
        queue.add(one)
    offer = set(random.choice(LABELS))
    fitting = [one for one in waiting if offer.issuperset(one.labels)]
    order = in_order(fitting, project_held=project_held, group_held=group_held)
    assert [(one.run, one.job) for one in order] == list(_served(queue, waiting, offer))


def _served(queue: Queue, waiting: list[Waiting], offer: set[str]) -> Iterator[tuple[str, str]]:
    known = {(one.run, one.job): one for one in waiting}
    while (key := queue.next(offer.issuperset)) is not None:
        queue.hold(known[key].project, known[key].group)
        queue.remove(key)
        yield key


class Shop:
    """A coordinator's desk and its log."""

    def __init__(self, random: Random) -> None:
        self.clock = ManualClock(seed=1)
        self.log = MemoryLog(self.clock)
        self.random = random
        self._desk = Desk("c-1")
        self._desk.begin(0.0, at=self.clock.wall_us())

    def ask(self, ask: AnyAsk, plan: Plan | None = None) -> list[Entry]:
        """Have it heard; what follows is on the log."""
        self.clock.advance(0.001)
        at = self.clock.wall_us()
        answer, entries = self._desk.hear(ask, actor="user:ada", now=1.0, at=at, plan=plan)
        assert not answer.refused
        entries += self._desk.decide(now=1.0, at=at)
        for entry in entries:
            self.log.append_now(entry)
        return entries

    def register(self, runner: str, *, slots: int) -> list[Entry]:
        """A runner that offers everything."""
        return self.ask(RegisterRunner(runner=runner, labels=("a", "b"), slots=slots))

    def submit(self) -> str:
        """A run of some jobs, of any project."""
        random = self.random
        jobs = tuple(
            Job(
                name=f"j{at}",
                steps=(Step(name="s", script="true"),),
                runs_on=random.choice(LABELS),
                concurrency_group=random.choice(("", "", "g")),
                concurrency_limit=2,
            )
            for at in range(random.randrange(1, 4))
        )
        plan, run = Plan(name="made", jobs=jobs), self.clock.new_id()
        project = random.choice(PROJECTS)
        admitted = RunAdmitted(
            project=project, pipeline="made", jobs=len(jobs), plan_digest=digest_of(encode_plan(plan))
        )
        self.ask(AdmitRun(run=run, admitted=admitted), plan)
        return run


@pytest.mark.parametrize("seed", range(12))
async def test_who_is_told_to_be_next_is_assigned_next(tmp_path: Path, seed: int) -> None:
    """The decider itself, when slots that fit come free, assigns in the order of the places that were told."""
    shop = Shop(Random(seed))
    shop.register("full-00000001", slots=2)
    runs = [shop.submit() for _ in range(6)]
    told: dict[int, tuple[str, str]] = {}
    async with following(shop.log, tmp_path / "headway.db") as (follower, store):
        await follower.wait_for(len(shop.log.entries))
        async with store.reading() as db:
            moment = Moment(now_us=shop.clock.wall_us(), live=WORKS)
            found = [await why_run(db, moment, run=run) for run in runs]
    for one in chain.from_iterable(each.jobs for each in found):
        if one.cause is Cause.SLOTS and one.facts.queue_position:
            told[one.facts.queue_position] = (one.run, one.job)
    envelopes = [decode(entry.body) for entry in shop.register("free-00000002", slots=len(told))]
    assigned = [(one.run, one.job) for one in envelopes if isinstance(one.data, JobAssigned)]
    assert sorted(told) == list(range(1, len(told) + 1))
    assert assigned[: len(told)] == [told[at] for at in sorted(told)]
    assert told


@pytest.mark.parametrize(
    ("held", "ahead", "wait"),
    [
        ([5], [], 5),
        ([9, 5, 7], [], 5),
        ([5], [10], 15),
        ([5, 6], [10], 6),
        ([5, 6], [10, 10], 15),
        ([], [], None),
        ([5, None], [], None),
        ([5], [None], None),
        ([0], [0] * (FORESEEN + 1), None),
    ],
)
def test_when_a_slot_is_expected(held: list[int | None], ahead: list[int | None], wait: int | None) -> None:
    """Each job before it takes the first slot that is free, for as long as it usually takes."""
    assert expected_wait(held, ahead) == wait
