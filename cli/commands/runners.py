"""List runners, start one here, or let one take nothing new (drain) and take work again (resume).

RUNNER is a name, with or without the random end that each start gives it.
"""

from __future__ import annotations

import argparse
import os
import re
from typing import Final

from headway.cli import render
from headway.cli.arguments import add_at, add_json, at_of, positive
from headway.cli.client import Client
from headway.cli.lists import RUNNER_HEAD, now_of, print_table, runner_row, say_moment
from headway.cli.text import clean
from headway.core.home import find_home

NAME: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]{0,63}")
SLOTS_MAX: Final = 1024
LABELS: Final = "labels it offers; a job with runs_on goes only to runners that offer all of its labels (default: none)"


def arguments(parser: argparse.ArgumentParser) -> None:
    """What may follow `headway runners`."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    listed = actions.add_parser("list", help="list the runners", description="List the runners.")
    add_at(listed)
    add_json(listed)
    start = actions.add_parser(
        "start", help="be a runner, in the foreground", description="Be a runner, in the foreground, until Ctrl-C."
    )
    start.add_argument("--name", type=_name, default=None, help="its name (default: the host's)")
    start.add_argument("--labels", metavar="A,B", type=_labels, default=(), help=LABELS)
    start.add_argument("--slots", metavar="N", type=_slots, default=0, help="jobs at once (default: processors)")
    drain = actions.add_parser("drain", help="take nothing new", description="Let a runner take nothing new.")
    drain.add_argument("--reason", default="", help="why; kept with it")
    resume = actions.add_parser("resume", help="take work again", description="Let a drained runner take work again.")
    for one in (drain, resume):
        one.add_argument("runner", metavar="RUNNER", help="a runner's name or id")
        add_json(one)


def main(args: argparse.Namespace) -> int:
    """Do what was named."""
    if args.action == "start":
        return _start(args)
    client = Client.here()
    if args.action == "list":
        return _list(client, args)
    if args.action == "drain":
        found = client.call("drain", runner=args.runner, reason=args.reason)
        words = "takes nothing new; what it runs finishes"
    else:
        found = client.call("undrain", runner=args.runner)
        words = "takes work again"
    if args.json:
        render.data(found)
    else:
        render.out(f"runner {clean(args.runner)} {words}")
    return 0


def _start(args: argparse.Namespace) -> int:
    from headway.runners.__main__ import serve as be_runner

    words = ["--home", find_home(os.environ)]
    if args.name:
        words += ["--name", args.name]
    if args.labels:
        words += ["--labels", ",".join(args.labels)]
    if args.slots:
        words += ["--slots", str(args.slots)]
    be_runner(words)
    return 0


def _list(client: Client, args: argparse.Namespace) -> int:
    found = client.read("runners", **at_of(args))
    if args.json:
        render.data(found)
        return 0
    say_moment(found, args.at)
    records = found.get("runners") or []
    if not records:
        render.say("no runners; start one with 'headway runners start'")
        return 0
    now = now_of(found)
    print_table(RUNNER_HEAD, [runner_row(record, now=now) for record in records])
    return 0


def _name(text: str) -> str:
    if not NAME.fullmatch(text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a name of letters, digits, _ and -, at most 64")
    return text


def _labels(text: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(part for part in (one.strip() for one in text.split(",")) if part))


def _slots(text: str) -> int:
    number = positive(text)
    if number > SLOTS_MAX:
        raise argparse.ArgumentTypeError(f"at most {SLOTS_MAX}")
    return number
