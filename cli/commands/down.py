"""Stop the service.

It refuses while runs are unfinished, unless --drain (finish what was submitted first) or --now (what runs is stopped
with its runner, and tried again when the service comes back).
"""

from __future__ import annotations

import argparse

from headway.cli import render
from headway.cli.arguments import add_json, seconds
from headway.cli.client import Client, Gone, answers
from headway.core.errors import UsageError


def arguments(parser: argparse.ArgumentParser) -> None:
    """What may follow `headway down`."""
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--drain", action="store_true", help="finish the runs first, take no new ones")
    how.add_argument("--now", action="store_true", help="stop although runs are unfinished")
    parser.add_argument("--timeout", metavar="T", type=seconds, help="with --drain: give up after this time")
    add_json(parser)


def main(args: argparse.Namespace) -> int:
    """Ask it to stop and wait until it has."""
    if args.timeout is not None and not args.drain:
        raise UsageError("--timeout says how long --drain may take", next="add --drain, or leave --timeout out")
    client = Client.here(any_version=True)
    connection = client.connect_if_running()
    if connection is None:
        _tell({"stopped": False}, "the service is not running", as_json=args.json)
        return 0
    request = {"mode": "drain" if args.drain else "now" if args.now else "refuse"}
    if args.timeout is not None:
        request["timeout_seconds"] = args.timeout
    try:
        connection.ask("down", request)
        for _ in answers(connection):
            pass
    except Gone:  # it went before it could say so, which is what was wanted
        pass
    finally:
        connection.close()
    from headway.cli.starting import wait_until_free

    wait_until_free(client.home)
    _tell({"stopped": True}, "the service has stopped", as_json=args.json)
    return 0


def _tell(record: dict[str, bool], words: str, *, as_json: bool) -> None:
    if as_json:
        render.data(record)
    else:
        render.out(words)
