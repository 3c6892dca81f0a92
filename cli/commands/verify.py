"""Check that what is kept is whole: events in their order, unchanged and sealed, the tables what the log makes them,
and every blob that an event names there and undamaged. Nothing is changed or repaired.

With RUN one run is checked, with --all everything, which reads the whole log and all blobs. What fails is named. The
exit code is 1 if anything does, and 5 if nothing does but something could not be checked.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from typing import Any, Final

from headway.cli import render
from headway.cli.arguments import add_json, add_run, cwd
from headway.cli.client import Client
from headway.cli.text import clean, count, size
from headway.core.errors import UnavailableError, UsageError

ABOUT: Final = {"blob": "blobs", "row": "tables", "damaged": "tables", "shape": "tables", "fold": "tables"}
"""What a finding is about by its code; all others are about events."""


def arguments(parser: argparse.ArgumentParser) -> None:
    """What may follow `headway verify`."""
    add_run(parser, optional=True)
    parser.add_argument("--all", action="store_true", help="check everything: all runs, all tables, all blobs")
    add_json(parser)


def main(args: argparse.Namespace) -> int:
    """Ask, print what was found, and say by the exit code whether it is well."""
    if args.all == bool(args.run):
        words = "both RUN and --all are given" if args.all else "what is to be verified is not said"
        raise UsageError(words, next="name a RUN, or say --all for everything; @ is your latest run")
    return report(verified(Client.here(), run=args.run, everything=args.all), as_json=args.json)


def verified(client: Client, *, run: str = "", everything: bool = False) -> dict[str, Any]:
    """What the check of a run, or of everything, found."""
    return client.read("verify", run=run, all=everything, cwd=cwd())


def report(found: Mapping[str, Any], *, as_json: bool) -> int:
    """Print what a check found; the exit code."""
    if as_json:
        render.data(found)
        return code_of(found)
    paint = render.paint_for(sys.stdout)
    findings = found.get("findings") or []
    for name, number, words in _checks(found):
        wrong = sum(ABOUT.get(str(one.get("code")), "events") == name for one in findings if _fails(one))
        if wrong:
            status = paint("red", count(wrong, "finding"))
        elif name in (found.get("incomplete") or ()):
            status = paint("yellow", "partly not checked" if number else "not checked")
        elif name == "events" and not found.get("log"):
            status = paint("yellow", "log not checked")
        else:
            status = paint("green", "ok")
        render.out(f"{name:<8}{words:<44}{status}")
    for words in found.get("not_checked") or ():
        render.out(f"{paint('yellow', 'not checked')}: {clean(words)}")
    for one in findings:
        render.out(f"{paint('red', 'wrong') if _fails(one) else paint('yellow', 'warning')}: {clean(one.get('words'))}")
        if one.get("next"):
            render.out(paint("dim", f"  {clean(one['next'])}"))
    if found.get("left_out"):
        render.out(f"and {int(found['left_out'])} more like these")
    return code_of(found)


def code_of(found: Mapping[str, Any]) -> int:
    """The exit code of a check: 0 when all is well, 1 when something is wrong, else 5, for what was not checked."""
    if found.get("ok"):
        return 0
    return 1 if any(_fails(one) for one in found.get("findings") or ()) else UnavailableError.exit_code


def _checks(found: Mapping[str, Any]) -> list[tuple[str, int, str]]:
    """What was looked at: how many events, rows or blobs, and that in words."""
    checked = found.get("checked") or {}
    number = {name: int(value) for name, value in checked.items()}
    events, rows, blobs = (number.get(name, 0) for name in ("events", "rows", "blobs"))
    copies = "" if found.get("log") else ", the tables' copies"
    lines = [
        ("events", events, f"{count(events, 'event')} of {count(number.get('runs', 0), 'run')}{copies}"),
        ("tables", rows, count(rows, "row")),
        ("blobs", blobs, f"{count(blobs, 'blob')}, {size(number.get('bytes', 0))}"),
    ]
    return [line for line in lines if line[0] == "tables" or line[0] in number]


def _fails(one: Mapping[str, Any]) -> bool:
    return one.get("level") != "warning"
