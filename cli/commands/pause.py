"""Start nothing new, in one run or in all of them; what runs now finishes.

Who paused it and since when is an event, and `headway status` shows it.
"""

from __future__ import annotations

import argparse

from headway.cli import render
from headway.cli.arguments import add_json, add_run, cwd
from headway.cli.client import Client
from headway.cli.text import clean


def arguments(parser: argparse.ArgumentParser) -> None:
    """What may follow `headway pause`."""
    add_run(parser, optional=True)
    parser.add_argument("--reason", default="", help="why; kept with the pause")
    add_json(parser)


def main(args: argparse.Namespace) -> int:
    """Pause the run, or everything when none is named."""
    request = {"reason": args.reason, "cwd": cwd()}
    if args.run:
        request["run"] = args.run
    found = Client.here().call("pause", **request)
    if args.json:
        render.data(found)
    elif args.run:
        run = clean(found.get("run") or args.run)
        render.out(f"run {run} is paused; go on with 'headway resume {run}'")
    else:
        render.out("everything is paused; go on with 'headway resume'")
    return 0
