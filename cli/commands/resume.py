"""Go on after a pause, in one run or in all of them."""

from __future__ import annotations

import argparse

from headway.cli import render
from headway.cli.arguments import add_json, add_run, cwd
from headway.cli.client import Client
from headway.cli.text import clean


def arguments(parser: argparse.ArgumentParser) -> None:
    """What may follow `headway resume`."""
    add_run(parser, optional=True)
    add_json(parser)


def main(args: argparse.Namespace) -> int:
    """Resume the run, or the service when none is named."""
    request = {"cwd": cwd()}
    if args.run:
        request["run"] = args.run
    found = Client.here().call("resume", **request)
    if args.json:
        render.data(found)
    else:
        render.out(f"run {clean(found.get('run') or args.run)} goes on" if args.run else "the service goes on")
    return 0
