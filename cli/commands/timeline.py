"""Where the time of a run went: a waterfall of its jobs, and its critical path.

Every line is a job, or an attempt of one that was retried, with a letter for the state that it was in:

  a  admitted: waits for the jobs it depends on      q  queued: waits for a slot
  w  waits for policy                                s  assigned to a runner, which has not begun
  p  preparing: source and inputs                    x  executing its steps
  u  uploading output                                d  deploying
  c  converging

A line marked with * is on the critical path: the chain of waits and work that made the run as long as it was. Its
parts are listed below and add up to the run's time exactly. TIME is that of the line without what it was admitted for.
All times are by the log's clock; the clocks of runners are not used, and it is said when one is off.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Mapping
from typing import Any, Final

from headway.cli import render
from headway.cli.arguments import add_at, add_json, add_run, at_of, cwd, positive
from headway.cli.client import Client
from headway.cli.clock_notes import of_timeline
from headway.cli.lists import say_moment, text
from headway.cli.render import STATUS_STYLE
from headway.cli.text import count
from headway.cli.waterfall import critical_list, exact, span_us, waterfall

LIMIT: Final = 40
LIMIT_LEAST: Final = 8
PLAIN_COLUMNS: Final = 100
"""The width where there is no terminal."""
AROUND: Final = 24
"""Lines that are printed around the bars: a terminal has room for the others."""


def arguments(parser: argparse.ArgumentParser) -> None:
    """What may follow `headway timeline`."""
    add_run(parser)
    parser.add_argument(
        "--limit", metavar="N", type=positive, help="at most so many lines of jobs (default: as fit, at most 40)"
    )
    parser.add_argument("--all", action="store_true", help="a line for every job")
    add_at(parser)
    add_json(parser)


def main(args: argparse.Namespace) -> int:
    """Ask and draw."""
    found = Client.here().read("timeline", run=args.run, cwd=cwd(), **at_of(args))
    if args.json:
        render.data(found)
        return 0
    say_moment(found, args.at)
    paint = render.paint_for(sys.stdout)
    columns = render.columns_of(sys.stdout) if render.is_terminal(sys.stdout) else PLAIN_COLUMNS
    render.out(_title(found, paint))
    render.out()
    limit = 0 if args.all else args.limit or _room()
    if found.get("handoffs"):
        for line in waterfall(found, paint=paint, columns=columns, limit=limit):
            render.out(line)
        render.out()
    for line in critical_list(found, paint=paint):
        render.out(line)
    for note in of_timeline(found):
        render.out(f"\n{paint('yellow', note)}")
    return 0


def _title(found: Mapping[str, Any], paint: render.Paint) -> str:
    run = found.get("run") or {}
    status = text(run, "status")
    when = "in" if run.get("completed") else "for"
    words = f"{when} {exact(span_us(found) // 1000)}, {count(int(run.get('jobs') or 0), 'job')}"
    name = paint("bold", text(run, "pipeline"))
    return f"{name}  {text(run, 'run')}  {paint(STATUS_STYLE.get(status, ''), status)} {words}"


def _room() -> int:
    """How many lines of jobs are shown unless more are asked for."""
    if not render.is_terminal(sys.stdout):
        return LIMIT
    try:
        rows = os.get_terminal_size(sys.stdout.fileno()).lines
    except (OSError, ValueError):
        return LIMIT
    return min(LIMIT, max(LIMIT_LEAST, rows - AROUND))
