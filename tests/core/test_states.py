"""The table of moves and what is derived from it."""

from __future__ import annotations

from pathlib import Path

import pytest

from headway.core.printed import states_page
from headway.core.states import MOVES, ON_A_RUNNER, Outcome, State, Status, allowed, run_status, status_of


def test_the_docs_print_the_tables_as_they_are() -> None:
    """`docs/states.md` is what `make docs` writes today."""
    assert states_page() == (Path(__file__).parents[2] / "docs" / "states.md").read_text()


def test_every_state_leads_to_the_end() -> None:
    """From anywhere a job can be completed, and from there nothing follows."""
    assert set(MOVES) == set(State)
    assert MOVES[State.COMPLETED] == ()
    assert all(allowed(state, State.COMPLETED) for state in State if state not in (State.COMPLETED,))


def test_only_a_runners_states_lead_back_to_the_queue() -> None:
    """An attempt is tried again from where a slot was held, and from nowhere else but admission and gates."""
    back = {state for state in State if allowed(state, State.QUEUED)}
    assert back == ON_A_RUNNER | {State.ADMITTED, State.WAITING_FOR_POLICY}


@pytest.mark.parametrize(
    ("state", "outcome", "attempt", "paused", "status"),
    [
        (State.ADMITTED, None, 0, False, Status.PENDING),
        (State.QUEUED, None, 1, False, Status.PENDING),
        (State.QUEUED, None, 2, False, Status.RETRY),
        (State.QUEUED, None, 2, True, Status.PAUSED),
        (State.EXECUTING, None, 1, True, Status.RUNNING),
        (State.COMPLETED, Outcome.SUCCEEDED, 1, True, Status.SUCCESS),
        (State.COMPLETED, Outcome.FAILED, 3, False, Status.FAILED),
        (State.COMPLETED, Outcome.CANCELLED, 0, False, Status.CANCELLED),
        (State.COMPLETED, Outcome.SKIPPED, 0, False, Status.SKIPPED),
    ],
)
def test_a_status_follows_from_state_and_outcome(
    state: State, outcome: Outcome | None, attempt: int, paused: bool, status: Status
) -> None:
    """The words people know, row by row."""
    assert status_of(state, outcome, attempt=attempt, paused=paused) is status


@pytest.mark.parametrize(
    ("outcome", "paused", "on_a_runner", "completed", "status"),
    [
        (None, False, 0, 0, Status.PENDING),
        (None, True, 0, 0, Status.PAUSED),
        (None, True, 1, 0, Status.RUNNING),
        (None, False, 0, 1, Status.RUNNING),
        (Outcome.CANCELLED, True, 0, 3, Status.CANCELLED),
    ],
)
def test_a_run_has_a_status_too(
    outcome: Outcome | None, paused: bool, on_a_runner: int, completed: int, status: Status
) -> None:
    """A run's status follows from its jobs, its pause and its outcome."""
    assert run_status(outcome, paused=paused, on_a_runner=on_a_runner, completed=completed) is status
