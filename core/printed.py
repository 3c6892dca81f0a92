"""The tables of `headway.core.states` as the page that people read: `python -m headway.core.printed` prints it."""

from __future__ import annotations

import sys

from headway.core.states import MEANING, MOVES, ON_A_RUNNER, STATUS, STATUS_AT_END, Outcome, State

HEAD = """\
# States of a job

Printed from `core/states.py` by `make docs`; a test keeps this page equal to it. A job is in exactly one state, and
moves only as the table says. States in bold hold a slot on a runner.
"""

STATUS_HEAD = """\
# Statuses

The words people know follow from state and outcome.
"""

STATUS_NOTES = """\
A job that waits (`pending`) is `paused` while its run or the whole service is, and `retry` from its second attempt on.
A run is `running` while a job of it is on a runner or has completed, `paused` while nothing of it runs and it or the
service is paused, else `pending`; when it is over it has the status of its outcome.
"""


def states_page() -> str:
    """The page `docs/states.md`, whole."""
    return "\n".join([HEAD, _moves(), _diagram(), STATUS_HEAD, _statuses(), STATUS_NOTES])


def _moves() -> str:
    rows = ["| state | meaning | may move to |", "| --- | --- | --- |"]
    for state, after in MOVES.items():
        name = f"**{state}**" if state in ON_A_RUNNER else str(state)
        rows.append(f"| {name} | {MEANING[state]} | {', '.join(after) or '(final)'} |")
    return "\n".join([*rows, ""])


def _diagram() -> str:
    arrows = [f"    {state} --> {one}" for state, after in MOVES.items() for one in after]
    lines = [
        "```mermaid",
        "stateDiagram-v2",
        f"    [*] --> {State.ADMITTED}",
        *arrows,
        f"    {State.COMPLETED} --> [*]",
        "```",
    ]
    return "\n".join([*lines, ""])


def _statuses() -> str:
    rows = ["| state | outcome | status |", "| --- | --- | --- |"]
    rows += [f"| {state} | | {status} |" for state, status in STATUS.items()]
    rows += [f"| {State.COMPLETED} | {outcome} | {STATUS_AT_END[outcome]} |" for outcome in Outcome]
    return "\n".join([*rows, ""])


if __name__ == "__main__":
    sys.stdout.write(states_page())
