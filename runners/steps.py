"""Runs the steps of one attempt, one after the other, each as one process of its shell."""

from __future__ import annotations

import asyncio
import os
from contextlib import aclosing
from pathlib import Path
from typing import Final

import msgspec

from headway.core.events import Failure, StepFinished, StepStarted
from headway.core.plan import Job, Step
from headway.core.states import Outcome
from headway.runners.environment import BadEnvironment, Environment
from headway.runners.executor import GRACE_SECONDS, Chunk, Command, Executor, ExecutorBroken, Exited, plain_seconds
from headway.runners.output import OutputWriter
from headway.runners.reporter import Reporter
from headway.runners.shells import NoShell, Shell, choose_shell
from headway.runners.workspace import Workspace, fresh_file

JOB_SECONDS: Final = 60 * 60
"""For a job that does not say. A step that does not say may take what is left of its job."""


class Ended(msgspec.Struct, frozen=True, kw_only=True):
    """How a try of a step, or a whole attempt, ended. `final` says that nothing may follow it."""

    outcome: Outcome
    exit_code: int | None = None
    signal: str = ""
    reason: str = ""
    failure_class: str = "caller_fixable"
    final: bool = False
    failure: Failure | None = None


class Means(msgspec.Struct, frozen=True, kw_only=True):
    """What the steps of an attempt are run with."""

    workspace: Workspace
    environment: Environment
    executor: Executor
    output: OutputWriter
    reporter: Reporter
    grace_seconds: float = GRACE_SECONDS


class Steps:
    """The steps of one attempt. `cancel` may come at any time."""

    def __init__(self, job: Job, means: Means) -> None:
        self._job = job
        self._workspace = means.workspace
        self._environment = means.environment
        self._executor = means.executor
        self._output = means.output
        self._reporter = means.reporter
        self._grace_seconds = means.grace_seconds
        self._cancelled: str | None = None
        self._deadline = 0.0

    def cancel(self, reason: str, *, at_once: bool = False) -> None:
        """End the step that runs; start no other."""
        if self._cancelled is None:
            self._cancelled = reason
        self._executor.stop(reason, at_once=at_once)

    async def run(self) -> Ended:
        """Run them until one fails that may not, or all are done."""
        loop = asyncio.get_running_loop()
        self._deadline = loop.time() + (self._job.timeout_seconds or JOB_SECONDS)
        for index, step in enumerate(self._job.steps):
            ended = await self._step(index, step)
            if ended.outcome is Outcome.FAILED and (ended.final or not step.continue_on_failure):
                reason = f"step {step.name[:100]!r} {ended.reason or _plain(ended)}"
                failure = Failure(failure_class=ended.failure_class, reason=reason, step=index)
                return msgspec.structs.replace(ended, reason=reason, failure=failure)
            if ended.outcome is Outcome.CANCELLED:
                return ended
        return Ended(outcome=Outcome.SUCCEEDED, exit_code=0)

    async def _step(self, index: int, step: Step) -> Ended:
        ended = Ended(outcome=Outcome.CANCELLED, reason=self._cancelled or "")
        for tried in range(1, step.retry_count + 2):
            if self._cancelled is not None:
                break
            ended = await self._try(index, step, tried=tried)
            if ended.final or ended.outcome is not Outcome.FAILED:
                break
        return ended

    async def _try(self, index: int, step: Step, *, tried: int) -> Ended:
        """One try of a step, with what is said about it."""
        loop = asyncio.get_running_loop()
        env_file = self._workspace.step / f"{index}-{tried}.env"
        path_file = self._workspace.step / f"{index}-{tried}.path"
        self._output.begin_step(index)
        started = loop.time()
        wrong = ""
        environment: dict[str, str] = {}
        try:
            environment = self._environment.of(step, env_file=env_file, path_file=path_file)
        except BadEnvironment as error:
            wrong = str(error)
        shell = choose_shell(step.shell, environment.get("PATH", ""))
        fact = self._reporter.next_fact()
        self._reporter.say(StepStarted(fact=fact, step=index, name=step.name, shell=shell.name, tried=tried), hold=True)
        if wrong or isinstance(shell, NoShell):
            ended = Ended(outcome=Outcome.FAILED, reason=wrong or getattr(shell, "reason", ""))
        else:
            ended = await self._execute(index, step, shell=shell, environment=environment)
            if ended.outcome is not Outcome.CANCELLED and (tried > step.retry_count or not _may_retry(ended)):
                ended = self._carry(ended, env_file, path_file)
        self._output.flush()
        self._reporter.say(
            StepFinished(
                fact=self._reporter.next_fact(),
                step=index,
                name=step.name,
                outcome=ended.outcome,
                exit_code=ended.exit_code,
                signal=ended.signal,
                reason=ended.reason,
                duration_ms=round((loop.time() - started) * 1000),
                tried=tried,
            ),
            hold=True,
        )
        return ended

    async def _execute(self, index: int, step: Step, *, shell: Shell, environment: dict[str, str]) -> Ended:
        try:
            script = _write_script(self._workspace.step / f"{index}{shell.suffix}", step.script)
            for name in ("HEADWAY_ENV", "HEADWAY_PATH"):
                os.close(fresh_file(Path(environment[name])))
            folder = working_folder(self._workspace.workspace, step.working_directory)
        except BadEnvironment as error:
            return Ended(outcome=Outcome.FAILED, reason=str(error))
        except OSError as error:
            reason = f"could not be prepared: {(error.strerror or str(error)).lower()}"
            return Ended(outcome=Outcome.FAILED, reason=reason, failure_class="transient")
        if shell.warning:
            self._output.note(shell.warning)
        seconds, reason = self._time_left(step)
        command = Command(
            argv=(*shell.argv, str(script)),
            environment=environment,
            folder=folder,
            timeout_seconds=seconds,
            timeout_reason=reason,
            grace_seconds=self._grace_seconds,
            marker=f"HEADWAY_ENV={self._workspace.step}/",
        )
        try:
            return self._judged(await self._run(command), reason)
        except ExecutorBroken as error:
            why = f"was interrupted: the executor broke: {error}"
            return Ended(outcome=Outcome.FAILED, reason=why, failure_class="platform_bug", final=True)

    async def _run(self, command: Command) -> Exited:
        async with aclosing(self._executor.run(command)) as events:
            async for event in events:
                if isinstance(event, Exited):
                    return event
                assert isinstance(event, Chunk), "an executor yields nothing else"
                self._output.add(event.stream, event.body)
        raise ExecutorBroken("it did not say how the command ended")

    def _time_left(self, step: Step) -> tuple[float, str]:
        """How long the step may take, and what to say when it takes longer."""
        of_step = step.timeout_seconds
        of_job = self._deadline - asyncio.get_running_loop().time()
        if of_step and of_step <= of_job:
            return of_step, f"timed out after {plain_seconds(of_step)}"
        whole = plain_seconds(self._job.timeout_seconds or JOB_SECONDS)
        return max(of_job, 0.0), f"ran into the job's timeout of {whole}"

    def _judged(self, exited: Exited, timeout_reason: str) -> Ended:
        timed_out = exited.stopped and exited.reason == timeout_reason
        if exited.stopped and not timed_out:
            outcome, final = Outcome.CANCELLED, True
        else:
            succeeded = exited.exit_code == 0 and not timed_out
            outcome, final = (Outcome.SUCCEEDED if succeeded else Outcome.FAILED), self._out_of_time()
        killed = exited.signal == "SIGKILL" and not exited.stopped
        return Ended(
            outcome=outcome,
            exit_code=exited.exit_code,
            signal=exited.signal,
            reason=exited.reason or ("was killed by SIGKILL, perhaps for want of memory" if killed else ""),
            failure_class="transient" if killed else "caller_fixable",
            final=final,
        )

    def _out_of_time(self) -> bool:
        return asyncio.get_running_loop().time() >= self._deadline

    def _carry(self, ended: Ended, env_file: Path, path_file: Path) -> Ended:
        try:
            self._environment.carry(env_file, path_file)
        except BadEnvironment as error:
            if ended.outcome is Outcome.SUCCEEDED:
                return msgspec.structs.replace(ended, outcome=Outcome.FAILED, reason=str(error))
        return ended


def working_folder(workspace: Path, asked: str) -> Path:
    """The folder a step starts in. Raises BadEnvironment when it is not one inside the workspace."""
    if not asked:
        return workspace
    top = os.path.realpath(workspace)
    if "\0" in asked:
        raise BadEnvironment("working_directory has a NUL in it")
    found = os.path.realpath(os.path.join(top, asked))
    if found != top and not found.startswith(top + "/"):
        raise BadEnvironment(f"working_directory {asked[:200]!r} is outside of the workspace")
    if not os.path.isdir(found):
        raise BadEnvironment(f"working_directory {asked[:200]!r} is not a folder")
    return Path(found)


def _may_retry(ended: Ended) -> bool:
    return ended.outcome is Outcome.FAILED and not ended.final


def _write_script(path: Path, script: str) -> Path:
    """The script as a file, so that it may have any length and errors name its lines."""
    body = os.fsencode(script if script.endswith("\n") else script + "\n")
    fd = fresh_file(path, mode=0o700)
    try:
        left = memoryview(body)
        while left:
            left = left[os.write(fd, left) :]
    finally:
        os.close(fd)
    return path


def _plain(ended: Ended) -> str:
    return f"was ended by {ended.signal}" if ended.signal else f"exited with code {ended.exit_code}"
