"""What the events of a run do to its row."""

from __future__ import annotations

import msgspec

from headway.core.envelope import Envelope
from headway.core.events import RunAdmitted, RunCancelRequested, RunCompleted, RunPaused, RunResumed
from headway.projections.tables import RunRow
from headway.projections.workbench import OpenRun, Workbench


def run_admitted(bench: Workbench, envelope: Envelope, event: RunAdmitted) -> OpenRun:
    """A new run, with none of its jobs yet."""
    source = event.source
    row = RunRow(
        seq=bench.seq,
        run=envelope.run,
        project=event.project,
        pipeline=event.pipeline,
        branch=source.branch,
        commit=source.commit,
        dirty=int(source.dirty),
        actor=envelope.actor,
        trigger=event.trigger,
        parameters=msgspec.json.encode(event.parameters).decode(),
        pipeline_file=event.pipeline_file,
        pipeline_digest=event.pipeline_digest,
        plan_digest=event.plan_digest,
        source_digest=source.digest,
        config_digest=event.config_digest,
        headway_version=event.headway_version,
        only=event.only,
        admitted=bench.now,
        jobs=event.jobs,
    )
    bench.change(row)
    run = bench.runs[envelope.run] = OpenRun(row=row, names=set(), jobs={})
    return run


def run_cancel_requested(bench: Workbench, run: RunRow, envelope: Envelope, event: RunCancelRequested) -> None:
    """The first who asks is the one who cancelled."""
    if run.cancel_reason is None:
        run.cancelled_by, run.cancel_reason = envelope.actor, event.reason


def run_paused(bench: Workbench, run: RunRow, envelope: Envelope, event: RunPaused) -> None:
    """Paused twice is paused since the first time."""
    if run.paused_since is None:
        run.paused_since, run.paused_by, run.paused_reason = bench.now, envelope.actor, event.reason


def run_resumed(bench: Workbench, run: RunRow, envelope: Envelope, event: RunResumed) -> None:
    run.paused_since = run.paused_by = run.paused_reason = None


def run_completed(bench: Workbench, run: RunRow, envelope: Envelope, event: RunCompleted) -> None:
    """The run is over, once and for all."""
    if run.outcome is None:
        run.outcome = event.outcome.value
        run.completed, run.seq_completed = bench.now, bench.seq
