"""Run a pipeline and follow it to its end.

Where the service is not running it is started; it leaves by itself when it has been idle for a while. Progress goes
to stderr, the outcome to stdout as one line (with --json as {"as_of": ..., "run": {...}}). Ctrl-C cancels the run and
waits for its end, a second Ctrl-C leaves without waiting. The exit code tells the outcome: 0 succeeded, 1 failed,
6 cancelled.
"""

from __future__ import annotations

import argparse
import os
import sys
from typing import Any, Final

from headway.cli import render
from headway.cli.arguments import add_json, cwd
from headway.cli.client import Client
from headway.core.clock import SystemClock
from headway.core.errors import UsageError

FILE: Final = "headway.yml"


def arguments(parser: argparse.ArgumentParser) -> None:
    """What may follow `headway run`."""
    parser.add_argument("file", metavar="FILE", nargs="?", default="", help=f"the pipeline file (default: {FILE})")
    parser.add_argument(
        "-p",
        "--parameter",
        metavar="K=V",
        action="append",
        default=[],
        dest="parameters",
        help="a parameter; may be given again",
    )
    parser.add_argument("--project", default="", help="whose run it is (default: the git remote's name, or the folder)")
    parser.add_argument("--only", metavar="JOB", default="", help="run this job and what it depends on")
    parser.add_argument("--detach", action="store_true", help="print the run's id and do not follow it")
    add_json(parser)


def main(args: argparse.Namespace) -> int:
    """Submit, and follow unless detached."""
    client = Client.here()
    request = {
        "run": SystemClock().new_id(),  # made here, so that asking again after a lost connection is harmless
        "path": existing(args.file),
        "cwd": cwd(),
        "project": args.project,
        "parameters": parameters(args.parameters),
        "only": args.only,
        "follow": not args.detach,
    }
    if args.detach:
        return _detached(client, request, as_json=args.json)
    from headway.cli.following import follow_to_exit

    return follow_to_exit(client, "submit", request, cancels=True, as_json=args.json)


def _detached(client: Client, request: dict[str, Any], *, as_json: bool) -> int:
    accepted = client.call("submit", **request)
    for line in render.diagnostics(accepted.get("warnings") or [], render.paint_for(sys.stderr)):
        render.say(line)
    if as_json:
        render.data(accepted)
    else:
        render.out(str(accepted.get("run", request["run"])))
    return 0


def existing(file: str) -> str:
    """The file to run, refused here when it is plain that it cannot be one: no service is needed to see that."""
    path = file or FILE
    if not os.path.lexists(path):
        hint = "name a pipeline file" if file else "write one with 'headway init', or name a pipeline file"
        raise UsageError(f"there is no file {path}", next=hint)
    if os.path.isdir(path):
        raise UsageError(f"{path} is a folder", next="name a pipeline file")
    return path


def parameters(words: list[str]) -> dict[str, str]:
    """Parameters from K=V."""
    found: dict[str, str] = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not name or not equals:
            raise UsageError(f"the parameter {word!r} is not of the form NAME=VALUE", next="write -p NAME=VALUE")
        if name in found:
            raise UsageError(f"the parameter {name!r} is given twice", next="give it once")
        found[name] = value
    return found
