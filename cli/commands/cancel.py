"""End a run, or one of its jobs.

What runs gets SIGTERM, and SIGKILL when it does not end in time; what waits does not start.
"""

from __future__ import annotations

import argparse

from headway.cli import render
from headway.cli.arguments import add_json, add_run, cwd
from headway.cli.client import Client
from headway.cli.text import clean


def arguments(parser: argparse.ArgumentParser) -> None:
    """What may follow `headway cancel`."""
    add_run(parser)
    parser.add_argument("job", metavar="JOB", nargs="?", default="", help="only this job, and what depends on it")
    parser.add_argument("--reason", default="", help="why; kept with the run")
    add_json(parser)


def main(args: argparse.Namespace) -> int:
    """Ask for it; the answer comes when it is on the log."""
    request = {"run": args.run, "cwd": cwd(), "reason": args.reason}
    if args.job:
        request["job"] = args.job
    found = Client.here().call("cancel", **request)
    if args.json:
        render.data(found)
    else:
        what = f"job {clean(args.job)} of run" if args.job else "run"
        how = "was cancelled already" if found.get("over") else "is being cancelled"
        render.out(f"{what} {clean(found.get('run') or args.run)} {how}")
    return 0
