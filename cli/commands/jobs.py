"""List jobs over all runs, the newest first; with --state those in one state, with --label those that ask for it."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import Any

from headway.cli import render
from headway.cli.arguments import add_at, add_json, at_of, positive
from headway.cli.client import Client
from headway.cli.lists import JOB_HEAD, job_row, now_of, print_table, say_moment

LIMIT = 1000
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
    words = f"at most so many (default: {LIMIT})"
    parser.add_argument("--limit", metavar="N", type=positive, default=LIMIT, help=words)
    add_at(parser)
    add_json(parser)


def main(args: argparse.Namespace) -> int:
    """Ask and print."""
    wanted = {name: getattr(args, name) for name in ("state", "label", "limit")}
    found = Client.here().read(
        "jobs", **{name: value for name, value in wanted.items() if value is not None}, **at_of(args)
    )
    records = found.get("jobs") or []
    if args.json:
        render.data(found)
    else:
        _print(found, args)
    if len(records) >= args.limit:
        render.say(f"these are the newest {len(records)}; there may be more: ask for more with --limit")
    return 0


def _print(found: Mapping[str, Any], args: argparse.Namespace) -> None:
    say_moment(found, args.at)
    records, now = found.get("jobs") or [], now_of(found)
    if records:
        print_table(JOB_HEAD, [job_row(record, now=now) for record in records])
    else:
        render.say("no such jobs")
