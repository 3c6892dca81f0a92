"""Follow a run that exists, as `headway run` does.

Ctrl-C leaves; the run goes on. The exit code tells the outcome: 0 succeeded, 1 failed, 6 cancelled.
"""

from __future__ import annotations

import argparse

from headway.cli.arguments import add_json, add_run, cwd
from headway.cli.client import Client


def arguments(parser: argparse.ArgumentParser) -> None:
    """What may follow `headway watch`."""
    add_run(parser, optional=True)
    add_json(parser)


def main(args: argparse.Namespace) -> int:
    """Follow the run, the latest one of this project by default."""
    from headway.cli.following import follow_to_exit

    request = {"run": args.run or "@", "cwd": cwd()}
    return follow_to_exit(Client.here(), "watch", request, cancels=False, as_json=args.json)
