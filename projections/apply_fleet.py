"""What the events of runners and of the whole service do to their rows."""

from __future__ import annotations

from typing import Final

import msgspec

from headway.core.envelope import Envelope
from headway.core.events import (
    CoordinatorElected,
    FleetPaused,
    RunnerDrained,
    RunnerLost,
    RunnerRegistered,
)
from headway.projections.tables import CoordinatorRow, FleetRow, RunnerRow
from headway.projections.workbench import Workbench

ACTIVE: Final = "active"
DRAINING: Final = "draining"
LOST: Final = "lost"
LEFT: Final = "left"
GONE: Final = frozenset({LOST, LEFT})


def runner_registered(bench: Workbench, envelope: Envelope) -> None:
    """A runner offers its slots; one that is known changes nothing, for a runner that is gone never comes back."""
    event = envelope.data
    assert isinstance(event, RunnerRegistered), "the table of handlers says so"
    if event.runner in bench.runners:
        return
    row = bench.runners[event.runner] = RunnerRow(
        runner=event.runner,
        seq=bench.seq,
        name=event.name,
        labels=msgspec.json.encode(event.labels).decode(),
        slots=event.slots,
        executors=msgspec.json.encode(event.executors).decode(),
        host=event.host,
        platform=event.platform,
        pid=event.pid,
        headway_version=event.headway_version,
        registered=bench.now,
        state=ACTIVE,
        reason="",
        changed=bench.now,
    )
    bench.change(row)


def runner_drained(bench: Workbench, envelope: Envelope) -> None:
    event = envelope.data
    assert isinstance(event, RunnerDrained), "the table of handlers says so"
    _turn(bench, event.runner, ACTIVE, DRAINING, event.reason)


def runner_resumed(bench: Workbench, envelope: Envelope) -> None:
    _turn(bench, getattr(envelope.data, "runner", ""), DRAINING, ACTIVE, "")


def runner_lost(bench: Workbench, envelope: Envelope) -> None:
    event = envelope.data
    assert isinstance(event, RunnerLost), "the table of handlers says so"
    _turn(bench, event.runner, "", LOST, event.reason)


def runner_left(bench: Workbench, envelope: Envelope) -> None:
    _turn(bench, getattr(envelope.data, "runner", ""), "", LEFT, "")


def _turn(bench: Workbench, runner: str, before: str, after: str, reason: str) -> None:
    """From one state (or from any in which the runner is here) to another."""
    row = bench.runners.get(runner)
    if row is None or row.state in GONE or (before and row.state != before):
        return
    row.state, row.reason, row.changed = after, reason, bench.now
    bench.change(row)


def fleet_paused(bench: Workbench, envelope: Envelope) -> None:
    """Paused twice is paused since the first time."""
    event = envelope.data
    assert isinstance(event, FleetPaused), "the table of handlers says so"
    fleet = _fleet(bench)
    if fleet.paused_since is None:
        fleet.paused_since, fleet.paused_by, fleet.paused_reason = bench.now, envelope.actor, event.reason


def fleet_resumed(bench: Workbench, envelope: Envelope) -> None:
    fleet = _fleet(bench)
    fleet.paused_since = fleet.paused_by = fleet.paused_reason = None


def _fleet(bench: Workbench) -> FleetRow:
    if bench.fleet is None:
        bench.fleet = FleetRow()
    bench.change(bench.fleet)
    return bench.fleet


def coordinator_elected(bench: Workbench, envelope: Envelope) -> None:
    event = envelope.data
    assert isinstance(event, CoordinatorElected), "the table of handlers says so"
    row = CoordinatorRow(
        one=1,
        coordinator=event.coordinator,
        elected=bench.now,
        headway_version=event.headway_version,
        host=event.host,
        pid=event.pid,
        checkpoint=event.checkpoint,
        checkpoint_seq=event.checkpoint_seq,
    )
    bench.change(row)
