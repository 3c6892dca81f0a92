"""List jobs over all runs, the newest first; with --state those in one state, with --label those that ask for it."""

from __future__ import annotations

import argparse
import time
from typing import Any

from headway.cli import render
from headway.cli.arguments import add_json
from headway.cli.client import Client
from headway.cli.lists import JOB_HEAD, job_row, print_table

STATES = (
    "admitted",
    "waiting_for_policy",
    "queued",
    "assigned",
    "preparing",
    "executing",
    "uploading",
    "deploying",
    "converging",
    "completed",
)
STATUSES = ("pending", "running", "retry", "success", "failed", "cancelled", "skipped", "paused")
WORDS = f"only jobs in this state ({', '.join(STATES)}) or of this status ({', '.join(STATUSES)})"


def arguments(parser: argparse.ArgumentParser) -> None:
    """What may follow `headway jobs`."""
    parser.add_argument("--state", metavar="S", choices=(*STATES, *STATUSES), help=WORDS)
    parser.add_argument("--label", metavar="L", help="only jobs that ask for this label")
    add_json(parser)


def main(args: argparse.Namespace) -> int:
    """Ask and print."""
    request: dict[str, Any] = {name: value for name in ("state", "label") if (value := getattr(args, name))}
    found = Client.here().call("jobs", **request)
    if args.json:
        render.data(found)
        return 0
    records = found.get("jobs") or []
    if not records:
        render.say("no such jobs")
        return 0
    now = time.time()
    print_table(JOB_HEAD, [job_row(record, now=now) for record in records])
    return 0
