"""From a pipeline file and a folder to an admitted run: read, compile, keep the inputs as blobs, ask."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any, Final

import msgspec

from headway import __version__
from headway.cli.control import Request
from headway.cli.plane import Plane
from headway.cli.room import Doorkeeper
from headway.core import asks
from headway.core.blobs import Blobs
from headway.core.diagnostics import Diagnostic
from headway.core.errors import UsageError
from headway.core.events import RunAdmitted
from headway.core.pipeline import compile_pipeline, read_pipeline, select_only
from headway.core.plan import DEFINITION_BYTES_MAX, Job, Plan, encode_job, encode_plan
from headway.runners.source import pack, project_name

PARAMETER_NAME_MAX: Final = 100


class Submission(msgspec.Struct, kw_only=True):
    """What a client asks to be run."""

    run: str
    path: Path
    folder: Path
    project: str
    only: str
    parameters: dict[str, str]


class Submitted(msgspec.Struct, kw_only=True):
    """What became of it."""

    seq: int
    project: str
    plan: Plan
    warnings: list[Diagnostic]


def submission_of(request: Request) -> Submission:
    """The submission in a request. Raises UsageError for what cannot be one."""
    folder = Path(request.text("cwd") or "/")
    path = Path(os.path.normpath(folder / request.text("path", "headway.yml")))
    given = request.arguments.get("parameters") or {}
    if not isinstance(given, dict) or not all(isinstance(value, str) for value in given.values()):
        raise UsageError("parameters must be names with text values", next="give them as -p NAME=VALUE")
    for name, value in given.items():
        if not name.isidentifier() or not name.isascii() or len(name) > PARAMETER_NAME_MAX:
            raise UsageError(f"{name[:100]!r} is not a parameter's name", next="use letters, digits and '_'")
        if "\0" in value:
            raise UsageError(f"the value of parameter {name} holds a NUL", next="leave it out")
    return Submission(
        run=request.text("run"),
        path=path,
        folder=folder,
        project=request.text("project"),
        only=request.text("only"),
        parameters=given,
    )


async def admit(submission: Submission, request: Request, *, plane: Plane, door: Doorkeeper) -> Submitted:
    """Compile, keep, ask. Raises InvalidFile, UsageError, or what the log's room or the coordinator refused."""
    blobs, config = plane.blobs, plane.config
    body, plan, warnings = await asyncio.to_thread(_compile, submission)
    project = submission.project or await asyncio.to_thread(project_name, submission.folder)

    def keep() -> RunAdmitted:
        source = pack(submission.folder, blobs, progress=request.progress)
        return RunAdmitted(
            project=project,
            pipeline=plan.name,
            jobs=len(plan.jobs),
            plan_digest=blobs.put_bytes(encode_plan(plan)),
            pipeline_file=os.path.relpath(submission.path, submission.folder),
            pipeline_digest=blobs.put_bytes(body),
            source=source,
            parameters=submission.parameters,
            only=submission.only,
            attempt_losses_max=config.attempt_losses_max,
            retry_backoff_ms=round(config.retry_backoff_seconds * 1000),
            config_digest=config.digest,
            headway_version=__version__,
        )

    async with door.room_for(submission.run, plan.jobs, submission.parameters):
        plan = msgspec.structs.replace(plan, jobs=tuple(_slim(job, blobs) for job in plan.jobs))
        ask = asks.AdmitRun(run=submission.run, admitted=await asyncio.to_thread(keep))
        answer = await plane.office.ask(ask, actor=request.actor, plan=plan)
    return Submitted(seq=answer.seq, project=project, plan=plan, warnings=warnings)


def _compile(submission: Submission) -> tuple[bytes, Plan, list[Diagnostic]]:
    body = read_pipeline(submission.path)
    shown = os.path.relpath(submission.path, submission.folder)
    plan, warnings = compile_pipeline(body, file=shown if not shown.startswith("..") else str(submission.path))
    if submission.only:
        plan = select_only(plan, submission.only)
    return body, plan, warnings


def _slim(job: Job, blobs: Blobs) -> Job:
    """The job, its definition kept as a blob when it is too large for an event."""
    body = encode_job(job)
    if len(body) <= DEFINITION_BYTES_MAX:
        return job
    return msgspec.structs.replace(job, steps=(), variables={}, definition_digest=blobs.put_bytes(body))


def described(submitted: Submitted, run: str) -> dict[str, Any]:
    """What the client is told."""
    return {
        "run": run,
        "seq": submitted.seq,
        "project": submitted.project,
        "pipeline": submitted.plan.name,
        "jobs": len(submitted.plan.jobs),
        "job_names": [job.name for job in submitted.plan.jobs],
        "warnings": [msgspec.to_builtins(one) for one in submitted.warnings],
    }
