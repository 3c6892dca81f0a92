"""One attempt of a job on this runner, from its assignment to the answer to its last fact.

What it says, numbered from 1: `job.preparing`; `job.executing`; for each try of a step `step.started` and
`step.finished`; `job.uploading`; and how the attempt ended. It may end early at any point.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Final

import msgspec

from headway.core.asks import AttemptFinished
from headway.core.blobs import Blobs
from headway.core.clock import Clock
from headway.core.errors import HeadwayError, RefusedError
from headway.core.events import Failure, JobAssigned, JobExecuting, JobPreparing, JobUploading, Output, Prepared
from headway.core.link import Link
from headway.core.plan import Job, decode_job
from headway.core.states import Outcome
from headway.runners.environment import Environment, Place
from headway.runners.executor import GRACE_SECONDS, Executor, ExecutorBroken
from headway.runners.output import KEPT_BYTES_MAX, OutputWriter, Publisher
from headway.runners.reporter import Attempted, Reporter
from headway.runners.spool import Spool
from headway.runners.steps import Ended, Means, Steps
from headway.runners.workspace import Workspace

INLINE_BYTES: Final = 64 * 1024
"""Unpacking less than this is quicker than handing it to a thread."""

logger = logging.getLogger("headway.runner")


class Tools(msgspec.Struct, frozen=True, kw_only=True):
    """What all attempts of one incarnation of a runner share."""

    link: Link
    blobs: Blobs
    spool: Spool
    clock: Clock
    work: Path
    system: dict[str, str]
    grace_seconds: float = GRACE_SECONDS
    kept_bytes_max: int = KEPT_BYTES_MAX


class Attempt:
    """An assignment being worked off. `cancel` and `drop` may come at any time, also before `run`."""

    def __init__(self, attempted: Attempted, assigned: JobAssigned, *, tools: Tools) -> None:
        self.attempted = attempted
        self._assigned = assigned
        self._tools = tools
        self._reporter = Reporter(
            attempted, link=tools.link, spool=tools.spool, clock=tools.clock, on_refused=self.drop
        )
        self._steps: Steps | None = None
        self._cancelled: str | None = None
        self._dropped: str | None = None
        self._workspace: Workspace | None = None
        self._output: OutputWriter | None = None

    def cancel(self, reason: str) -> None:
        """Someone asked that the job end: stop the work in good order and say so."""
        if self._cancelled is None:
            self._cancelled = reason or "cancelled"
        if self._steps is not None:
            self._steps.cancel(self._cancelled)

    def drop(self, reason: str) -> None:
        """The attempt no longer counts: kill the work at once and say nothing more."""
        self._dropped = self._dropped or reason
        self._reporter.drop()
        if self._steps is not None:
            self._steps.cancel(reason, at_once=True)

    async def run(self, executor: Executor, *, sweep: Callable[[Workspace], None]) -> None:
        """Do the work and return when the coordinator has answered for all of it. `sweep` removes the workspace."""
        ended = await self._ended(executor)
        try:
            await executor.clear()
        except ExecutorBroken as error:
            logger.error("%s left processes behind: %s", self._named(), error)
        try:
            if self._dropped is not None:
                return
            output, problem = await self._store_output()
            if problem:
                ended = msgspec.structs.replace(
                    ended, reason="; ".join(part for part in (ended.reason, problem) if part)
                )
            self._reporter.say(
                AttemptFinished(
                    fact=self._reporter.next_fact(),
                    outcome=ended.outcome,
                    reason=ended.reason,
                    exit_code=ended.exit_code,
                    failure=ended.failure,
                    output=output,
                )
            )
            await self._reporter.drained()
        finally:
            if self._output is not None:
                self._output.close()
            if self._workspace is not None:
                sweep(self._workspace)

    async def _ended(self, executor: Executor) -> Ended:
        """Prepare and execute; whatever goes wrong becomes how the attempt ended."""
        try:
            if self._dropped is not None:
                return Ended(outcome=Outcome.CANCELLED, reason=self._dropped)
            self._reporter.say(JobPreparing(fact=self._reporter.next_fact()), hold=True)
            job, prepared = await self._prepare()
            if (stopped := self._stopped()) is not None:
                return stopped
            steps = self._make_steps(job, executor)
            self._reporter.say(JobExecuting(fact=self._reporter.next_fact(), prepared=prepared), hold=True)
            ended = await steps.run()
            self._reporter.say(JobUploading(fact=self._reporter.next_fact()), hold=True)
            return ended
        except RefusedError as error:
            return _failed("caller_fixable", error.message)
        except HeadwayError as error:
            return _failed("transient", error.message)
        except Exception as error:
            logger.exception("%s broke the runner", self._named())
            return _failed("platform_bug", f"the runner broke: {type(error).__name__}: {error}"[:500])

    def _stopped(self) -> Ended | None:
        reason = self._dropped if self._dropped is not None else self._cancelled
        return None if reason is None else Ended(outcome=Outcome.CANCELLED, reason=reason)

    async def _prepare(self) -> tuple[Job, tuple[Prepared, ...]]:
        """Get what the steps need: their definition, a workspace, the source in it."""
        phases: list[Prepared] = []
        job = self._assigned.definition
        loop = asyncio.get_running_loop()
        if job.definition_digest:
            started = loop.time()
            body = await asyncio.to_thread(self._tools.blobs.get, job.definition_digest)
            try:
                job = decode_job(body)
            except msgspec.DecodeError as error:
                raise RefusedError(f"{job.definition_digest} is not a job: {error}", next="submit again") from error
            phases.append(_phase("definition", loop.time() - started, size=len(body)))
        started = loop.time()
        self._workspace = workspace = Workspace.make(self._tools.work, self.attempted.run)
        phases.append(_phase("workspace", loop.time() - started))
        if self._assigned.source_digest:
            started = loop.time()
            size = await self._fill(workspace)
            phases.append(_phase("source", loop.time() - started, size=size))
        return job, tuple(phases)

    async def _fill(self, workspace: Workspace) -> int:
        digest = self._assigned.source_digest
        if self._tools.blobs.path(digest).stat().st_size <= INLINE_BYTES:
            return workspace.fill(self._tools.blobs, digest)
        return await asyncio.to_thread(
            workspace.fill, self._tools.blobs, digest, cancelled=lambda: self._stopped() is not None
        )

    def _make_steps(self, job: Job, executor: Executor) -> Steps:
        assert self._workspace is not None, "a workspace was made"
        tools, who = self._tools, self.attempted
        place = Place(
            runner=who.runner,
            run=who.run,
            job=who.job,
            attempt=who.attempt,
            workspace=self._workspace.workspace,
            tmp=self._workspace.tmp,
        )
        path = self._workspace.folder / "output.jsonl"
        publisher = Publisher(path, self._publish, name=f"{who.run}:{who.job}:{who.attempt}:{who.runner}")
        self._output = OutputWriter(path, clock=tools.clock, publisher=publisher, kept_bytes_max=tools.kept_bytes_max)
        means = Means(
            workspace=self._workspace,
            environment=Environment(place, self._assigned, variables=job.variables, system=tools.system),
            executor=executor,
            output=self._output,
            reporter=self._reporter,
            grace_seconds=tools.grace_seconds,
        )
        self._steps = Steps(job, means)
        return self._steps

    def _publish(self, body: bytes, message_id: str) -> asyncio.Future[None]:
        who = self.attempted
        return self._tools.link.publish_output(who.run, who.job, who.attempt, body, id=message_id)

    async def _store_output(self) -> tuple[Output | None, str]:
        """What was printed, as a blob, and what is to be said if that could not be done."""
        if self._output is None:
            return None, ""
        await self._output.caught_up()
        self._output.close()
        if not self._output.records:
            return None, ""
        try:
            return await asyncio.to_thread(self._output.finish, self._tools.blobs), ""
        except HeadwayError as error:
            return None, f"its output was lost: {error.message}"

    def _named(self) -> str:
        return f"attempt {self.attempted.attempt} of {self.attempted.run} {self.attempted.job}"


def _phase(what: str, seconds: float, *, size: int = 0) -> Prepared:
    return Prepared(what=what, duration_ms=round(seconds * 1000), bytes=size)


def _failed(failure_class: str, reason: str) -> Ended:
    return Ended(outcome=Outcome.FAILED, reason=reason, failure=Failure(failure_class=failure_class, reason=reason))
