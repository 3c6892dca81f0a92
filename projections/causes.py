"""The causes of waiting, as a table: what `headway why` may answer, what each means, and what would end it.

`python -m headway.projections.causes` prints the page `docs/causes.md`.
"""

from __future__ import annotations

import sys
from enum import StrEnum
from typing import Final, NamedTuple


class Cause(StrEnum):
    """Why a job or a run is where it is."""

    DEPENDENCY = "dependency"
    GATE = "gate"
    PAUSED_SERVICE = "paused_service"
    PAUSED_RUN = "paused_run"
    BACK_OFF = "back_off"
    NO_RUNNER = "no_runner"
    NO_LABEL = "no_label"
    LABEL_GONE = "label_gone"
    LABELS_APART = "labels_apart"
    DRAINING = "draining"
    GROUP = "group"
    SLOTS = "slots"
    DUE = "due"
    UNEXPLAINED = "unexplained"
    ASSIGNED = "assigned"
    PREPARING = "preparing"
    EXECUTING = "executing"
    OVERDUE = "overdue"
    UPLOADING = "uploading"
    SILENT_RUNNER = "silent_runner"
    CANCELLING = "cancelling"
    DEPLOYING = "deploying"
    CONVERGING = "converging"
    ADMISSION = "admission"
    JOBS = "jobs"
    SEALING = "sealing"
    NO_COORDINATOR = "no_coordinator"
    LOG_UNREACHABLE = "log_unreachable"
    SERVICE_DOWN = "service_down"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    LOST_RUNNER = "lost_runner"
    SKIPPED = "skipped"
    CANCELLED = "cancelled"


class Told(NamedTuple):
    """What a cause means, and what would end it; "" for what has ended."""

    means: str
    unblocks: str


CAUSES: Final[dict[Cause, Told]] = {
    Cause.DEPENDENCY: Told("jobs it depends on have not completed", "their end; what holds them up is named"),
    Cause.GATE: Told("a gate has not passed", "the gate's answer"),
    Cause.PAUSED_SERVICE: Told("the whole service is paused; by whom, since when and why is said", "`headway resume`"),
    Cause.PAUSED_RUN: Told("its run is paused; by whom, since when and why is said", "`headway resume RUN`"),
    Cause.BACK_OFF: Told("an attempt failed, the next one rests before it starts; until when is said", "time"),
    Cause.NO_RUNNER: Told("there is no runner at all", "`headway runners start`"),
    Cause.NO_LABEL: Told(
        "no runner has a label it asks for, nor had one; the nearest label is named, or those there are",
        "another `runs_on`, or a runner with that label",
    ),
    Cause.LABEL_GONE: Told("the runner that had the labels was lost or has left", "that runner, started again"),
    Cause.LABELS_APART: Told(
        "each label is there, but no runner has all of them; who has which is said",
        "a runner with all of them, or another `runs_on`",
    ),
    Cause.DRAINING: Told(
        "every runner with its labels is drained; by whom, since when and why is said", "`headway runners resume NAME`"
    ),
    Cause.GROUP: Told("its concurrency group is full; who holds it is said", "the end of a job that holds the group"),
    Cause.SLOTS: Told(
        "every slot that fits is taken; by whom, its number in line and when one is expected is said, or whose runner"
        " is not heard of",
        "the end of a job that holds one, or another runner",
    ),
    Cause.DUE: Told("nothing holds it up; the coordinator's next event is about it", "nothing to do"),
    Cause.UNEXPLAINED: Told(
        "the facts give no cause: what was looked at and excluded is said", "`headway doctor`, then a report"
    ),
    Cause.ASSIGNED: Told("a runner was given it and has not said that it accepts", "the runner's word"),
    Cause.PREPARING: Told("the runner fetches source and inputs", "the end of that"),
    Cause.EXECUTING: Told("its steps run", "their end; how long they usually take is said"),
    Cause.OVERDUE: Told(
        "it takes much longer than it usually does", "its end, or `headway cancel`; its output may say"
    ),
    Cause.UPLOADING: Told("its output is being stored", "the end of that"),
    Cause.SILENT_RUNNER: Told(
        "the runner that holds it is not heard of",
        "the runner's word, or the end of its lease: then it is queued again",
    ),
    Cause.CANCELLING: Told("somebody cancelled it; the runner is stopping it", "the end of its processes"),
    Cause.DEPLOYING: Told("changes are being applied", "the end of that"),
    Cause.CONVERGING: Told("wanted and observed differ, or have not been equal for long enough", "both being equal"),
    Cause.ADMISSION: Told("of a run: its plan is being read", "the coordinator's next events"),
    Cause.JOBS: Told("of a run: jobs are open; what holds them up is said", "their end"),
    Cause.SEALING: Told(
        "of a run: every job has completed, output of lost attempts is being gathered", "the end of it"
    ),
    Cause.NO_COORDINATOR: Told("nobody decides, so nothing new starts", "a coordinator; `headway doctor` says more"),
    Cause.LOG_UNREACHABLE: Told(
        "the log cannot be reached or written to, so nothing new starts", "the log's server; `headway doctor` says more"
    ),
    Cause.SERVICE_DOWN: Told("the service is not running, so nothing new starts", "`headway up`"),
    Cause.SUCCEEDED: Told("it is over; what took longest is said", ""),
    Cause.FAILED: Told("it is over; which step failed, how, on which runner and what took longest is said", ""),
    Cause.LOST_RUNNER: Told("it is over: too many attempts were lost with their runners; the last runner is named", ""),
    Cause.SKIPPED: Told("it is over: its condition did not hold; with which values is said", ""),
    Cause.CANCELLED: Told("it is over; who cancelled it is said, and why if a reason was given", ""),
}

HEAD: Final = """\
# Causes

Printed from `projections/causes.py` by `make docs`; a test keeps this page equal to it. `headway why` answers with one
of these for every job and run (`cause` in `--json`).
"""


def causes_page() -> str:
    """The page `docs/causes.md`, whole."""
    rows = ["| cause | what it means | what ends it |", "| --- | --- | --- |"]
    rows += [f"| `{cause}` | {told.means} | {told.unblocks or '(final)'} |" for cause, told in CAUSES.items()]
    return "\n".join([HEAD, *rows, ""])


if __name__ == "__main__":
    sys.stdout.write(causes_page())
