"""List runs, the latest first. RUN in other commands may be what the first column shows."""

from __future__ import annotations

import argparse

from headway.cli import render
from headway.cli.arguments import add_at, add_json, at_of, positive, seconds
from headway.cli.client import Client
from headway.cli.lists import RUN_HEAD, now_of, print_table, run_row, say_moment

STATUSES = ("pending", "running", "success", "failed", "cancelled", "skipped", "paused")


def arguments(parser: argparse.ArgumentParser) -> None:
    """What may follow `headway runs`."""
    parser.add_argument("--status", choices=STATUSES, help="only runs of this status")
    parser.add_argument("--pipeline", metavar="NAME", help="only runs of this pipeline")
    parser.add_argument("--branch", metavar="NAME", help="only runs of this branch")
    parser.add_argument("--project", metavar="NAME", help="only runs of this project")
    parser.add_argument("--since", metavar="T", type=seconds, help="only runs of the last 30m, 2h, 7d, ...")
    parser.add_argument("--limit", metavar="N", type=positive, default=20, help="at most so many (default: 20)")
    add_at(parser)
    add_json(parser)


def main(args: argparse.Namespace) -> int:
    """Ask and print."""
    wanted = {name: getattr(args, name) for name in ("status", "pipeline", "branch", "project", "since", "limit")}
    found = Client.here().read(
        "runs", **{name: value for name, value in wanted.items() if value is not None}, **at_of(args)
    )
    if args.json:
        render.data(found)
        return 0
    say_moment(found, args.at)
    records = found.get("runs") or []
    if not records:
        render.say("no runs")
        return 0
    now = now_of(found)
    print_table(RUN_HEAD, [run_row(record, now=now) for record in records])
    return 0
