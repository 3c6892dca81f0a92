"""A run as its events make it, up to the end or to a moment, shown as 'headway show' does; nothing is executed.

The events are folded anew, whatever the tables say. --verify checks the run as well, as 'headway verify' does.
"""

from __future__ import annotations

import argparse

from headway.cli import render
from headway.cli.arguments import add_at, add_json, add_run, at_of, cwd
from headway.cli.client import Client
from headway.cli.commands.show import print_run
from headway.cli.commands.verify import code_of, report, verified
from headway.cli.lists import say_moment


def arguments(parser: argparse.ArgumentParser) -> None:
    """What may follow `headway replay`."""
    add_run(parser)
    add_at(parser)
    parser.add_argument("--verify", action="store_true", help="check chain, seal, tables and blobs of the run too")
    add_json(parser)


def main(args: argparse.Namespace) -> int:
    """Ask, print, and check when that is wanted."""
    client = Client.here()
    found = client.read("replay", run=args.run, cwd=cwd(), **at_of(args))
    checked = verified(client, run=args.run) if args.verify else {"ok": True}
    if args.json:
        render.data({**found, "verified": checked} if args.verify else found)
        return code_of(checked)
    say_moment(found, args.at)
    print_run(client, found, at_of(args))
    if not args.verify:
        return 0
    render.out()
    return report(checked, as_json=False)
