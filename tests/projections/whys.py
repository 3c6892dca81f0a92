"""What tests of `why` share: a history at its end, asked about at a moment after it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from headway.core.events import CoordinatorElected, JobAdmitted, JobQueued, RunAdmitted
from headway.core.plan import digest_of
from headway.projections.answers import WhyAll, WhyJob, WhyRun
from headway.projections.ground import Moment
from headway.projections.past import past
from headway.projections.records import Live
from headway.projections.why import why_all, why_run
from tests.projections.histories import History
from tests.projections.tables_fixture import following

WORKS = Live(coordinates=True, lease_seconds=15.0)
"""A service that has no trouble."""


class Told:
    """A history and its tables: what is waited for, `after` so many seconds."""

    def __init__(self, folder: Path) -> None:
        self.history = History()
        self.path = folder / "headway.db"
        self.history.say(CoordinatorElected(coordinator="c-1", headway_version="0.1.0", host="here", pid=7))

    def admit(self, jobs: Mapping[str, Mapping[str, Any]], *, project: str = "shop", queue: Sequence[str] = ()) -> str:
        """A run of these jobs, each with the fields of its `job.admitted`; those of `queue` are ready."""
        run = self.history.clock.new_id()
        admitted = RunAdmitted(project=project, pipeline="build", jobs=len(jobs), plan_digest=digest_of(b"plan"))
        self.history.say(admitted, run=run, actor="user:ada")
        for name, fields in jobs.items():
            self.history.say(JobAdmitted(**fields), run=run, job=name)
        for name in queue:
            self.history.queue(run, name)
        return run

    def execute(self, run: str, job: str, runner: str, *, attempt: int = 1, queue: bool = True) -> None:
        """A job in the middle of its step on a runner."""
        if queue:
            self.history.queue(run, job, attempt=attempt)
        self.history.assign(run, job, attempt=attempt, runner=runner)
        self.history.prepare(run, job, attempt=attempt)
        self.history.execute(run, job, attempt=attempt)
        self.history.start_step(run, job, attempt=attempt)

    def passed(self, job: str, runner: str, *, seconds: float, project: str = "shop") -> str:
        """A past run of one job, which took so long."""
        run = self.admit({job: {}}, project=project)
        self.execute(run, job, runner)
        self.history.clock.advance(seconds)
        self.history.finish_step(run, job)
        self.history.upload(run, job)
        self.history.complete(run, job)
        self.history.end(run)
        return run

    def rest(self, run: str, job: str, *, attempt: int, seconds: float) -> None:
        """The next attempt of a job that failed; it may start in so many seconds."""
        until = self.history.clock.wall_us() + round(seconds * 1_000_000)
        self.history.say(JobQueued(reason="failed", start_after=until), run=run, job=job, attempt=attempt)

    async def all(self, *, after: float = 0.0, live: Live | None = WORKS, limit: int = 50) -> WhyAll:
        """Everything that waits."""
        async with following(self.history.log, self.path) as (follower, store):
            await follower.wait_for(self.history.seq)
            async with store.reading() as db:
                return await why_all(db, self.moment(after, live), limit=limit)

    async def run(self, run: str, *, job: str = "", after: float = 0.0, live: Live | None = WORKS) -> WhyRun:
        """Why a run is where it is, or a job of it."""
        async with following(self.history.log, self.path) as (follower, store):
            await follower.wait_for(self.history.seq)
            async with store.reading() as db:
                return await why_run(db, self.moment(after, live), run=run, job=job)

    async def job(self, run: str, job: str, *, after: float = 0.0, live: Live | None = WORKS) -> WhyJob:
        """Why a job is where it is."""
        found = (await self.run(run, job=job, after=after, live=live)).job
        assert found is not None, "it was asked for"
        return found

    async def then(self, seq: int, *, run: str = "", job: str = "") -> WhyAll | WhyRun:
        """The same as of an event."""
        async with following(self.history.log, self.path) as (follower, _):
            await follower.wait_for(self.history.seq)
        async with past(self.path, seq) as db:
            [(logged,)] = await db.execute_fetchall("select logged from meta")
            moment = Moment(now_us=logged, past=True)
            return await why_run(db, moment, run=run, job=job) if run else await why_all(db, moment)

    def moment(self, after: float, live: Live | None) -> Moment:
        """So many seconds after the last event."""
        return Moment(now_us=self.history.clock.wall_us() + round(after * 1_000_000), live=live)
