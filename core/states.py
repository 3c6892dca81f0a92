"""The states of a job and the moves between them: one table, used by the fold, the docs and the tests.

Everything that changes what may follow what lives here. A state says who a job waits for; an outcome says how it
ended; a status is what people call the two together.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final


class State(StrEnum):
    """Which handoff a job is in."""

    ADMITTED = "admitted"
    WAITING_FOR_POLICY = "waiting_for_policy"
    QUEUED = "queued"
    ASSIGNED = "assigned"
    PREPARING = "preparing"
    EXECUTING = "executing"
    UPLOADING = "uploading"
    DEPLOYING = "deploying"
    CONVERGING = "converging"
    COMPLETED = "completed"


class Outcome(StrEnum):
    """How a run, a job or a step ended."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    SKIPPED = "skipped"


class Status(StrEnum):
    """The word people know, derived from state and outcome."""

    PENDING = "pending"
    RUNNING = "running"
    RETRY = "retry"
    SUCCESS = "success"
    FAILED = "failed"
    CANCELLED = "cancelled"
    SKIPPED = "skipped"
    PAUSED = "paused"


MOVES: Final[dict[State, tuple[State, ...]]] = {
    State.ADMITTED: (State.WAITING_FOR_POLICY, State.QUEUED, State.DEPLOYING, State.COMPLETED),
    State.WAITING_FOR_POLICY: (State.QUEUED, State.DEPLOYING, State.COMPLETED),
    State.QUEUED: (State.ASSIGNED, State.COMPLETED),
    State.ASSIGNED: (State.PREPARING, State.QUEUED, State.COMPLETED),
    State.PREPARING: (State.EXECUTING, State.QUEUED, State.COMPLETED),
    State.EXECUTING: (State.UPLOADING, State.QUEUED, State.COMPLETED),
    State.UPLOADING: (State.WAITING_FOR_POLICY, State.DEPLOYING, State.QUEUED, State.COMPLETED),
    State.DEPLOYING: (State.CONVERGING, State.COMPLETED),
    State.CONVERGING: (State.DEPLOYING, State.COMPLETED),
    State.COMPLETED: (),
}

MEANING: Final[dict[State, str]] = {
    State.ADMITTED: "accepted; waits for the jobs it depends on",
    State.WAITING_FOR_POLICY: "waits for gates",
    State.QUEUED: "ready; waits for a slot",
    State.ASSIGNED: "a runner holds the lease",
    State.PREPARING: "the runner fetches source and inputs",
    State.EXECUTING: "steps run",
    State.UPLOADING: "output and artifacts are stored",
    State.DEPLOYING: "changes are being applied",
    State.CONVERGING: "wanted and observed are compared until healthy and stable",
    State.COMPLETED: "carries the outcome; final",
}

HOLDER: Final[dict[State, str]] = {
    State.ADMITTED: "dependencies",
    State.WAITING_FOR_POLICY: "gate",
    State.QUEUED: "queue",
    State.DEPLOYING: "controller",
    State.CONVERGING: "controller",
}
"""Who can end a state; where nobody stands here, it is the runner that holds the attempt."""

ON_A_RUNNER: Final = frozenset({State.ASSIGNED, State.PREPARING, State.EXECUTING, State.UPLOADING})
"""States in which a job may hold a slot."""

STATUS: Final[dict[State, Status]] = {
    State.ADMITTED: Status.PENDING,
    State.WAITING_FOR_POLICY: Status.PENDING,
    State.QUEUED: Status.PENDING,
    State.ASSIGNED: Status.RUNNING,
    State.PREPARING: Status.RUNNING,
    State.EXECUTING: Status.RUNNING,
    State.UPLOADING: Status.RUNNING,
    State.DEPLOYING: Status.RUNNING,
    State.CONVERGING: Status.RUNNING,
}

STATUS_AT_END: Final[dict[Outcome, Status]] = {
    Outcome.SUCCEEDED: Status.SUCCESS,
    Outcome.FAILED: Status.FAILED,
    Outcome.CANCELLED: Status.CANCELLED,
    Outcome.SKIPPED: Status.SKIPPED,
}


WAS: Final[dict[Outcome, str]] = {
    Outcome.SUCCEEDED: "succeeded",
    Outcome.FAILED: "failed",
    Outcome.CANCELLED: "was cancelled",
    Outcome.SKIPPED: "was skipped",
}
"""An outcome as a sentence says it."""


def allowed(before: State, after: State) -> bool:
    """Whether the table has this move."""
    return after in MOVES[before]


def status_of(state: State, outcome: Outcome | None, *, attempt: int = 1, paused: bool = False) -> Status:
    """The status of a job.

    A job that waits is `paused` when its run or the whole service is, and `retry` from its second attempt on.
    """
    if state is State.COMPLETED:
        assert outcome is not None, "a completed job has an outcome"
        return STATUS_AT_END[outcome]
    if STATUS[state] is Status.PENDING:
        if paused:
            return Status.PAUSED
        if attempt > 1:
            return Status.RETRY
    return STATUS[state]


def run_status(outcome: Outcome | None, *, paused: bool, on_a_runner: int, completed: int) -> Status:
    """The status of a run, from how many of its jobs are on a runner and how many have completed."""
    if outcome is not None:
        return STATUS_AT_END[outcome]
    if on_a_runner:
        return Status.RUNNING
    if paused:
        return Status.PAUSED
    return Status.RUNNING if completed else Status.PENDING
