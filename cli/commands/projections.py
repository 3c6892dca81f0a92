"""The tables that the service makes of the log: make them again (rebuild), or compare them with it (verify).

The log is the truth, and the tables can always be made of it anew; while that goes on the old ones are used.
"""

from __future__ import annotations

import argparse

from headway.cli import render
from headway.cli.arguments import add_json
from headway.cli.client import Client
from headway.cli.commands.verify import report
from headway.cli.text import count, duration


def arguments(parser: argparse.ArgumentParser) -> None:
    """What may follow `headway projections`."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    rebuild = "make the tables of the log again"
    verify = "compare every row with what the log makes of it; exit 1 if one differs, 5 if they could not be compared"
    add_json(actions.add_parser("rebuild", help=rebuild, description=f"{rebuild.capitalize()}."))
    add_json(actions.add_parser("verify", help=verify, description=f"{verify.capitalize()}."))


def main(args: argparse.Namespace) -> int:
    """Do what was named."""
    client = Client.here()
    if args.action == "verify":
        return report(client.read("projections_verify"), as_json=args.json)
    found = client.call("projections_rebuild")
    if args.json:
        render.data(found)
    else:
        events, seconds = int(found.get("events") or 0), float(found.get("seconds") or 0)
        render.out(f"the tables are made again of {count(events, 'event')}, in {duration(seconds)}")
    return 0
