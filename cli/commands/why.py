"""What everything waits for, the longest waiting first; with RUN why that run, with JOB why that job is where it is.

Each answer is one sentence from facts: the state and since when, who holds it, what it waits for; then what would
end the waiting, and what cannot be known. docs/causes.md lists all causes there are.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from typing import Any, Final

from headway.cli import render
from headway.cli.arguments import add_at, add_json, add_run, at_of, cwd, positive
from headway.cli.client import Client
from headway.cli.lists import say_moment, text
from headway.cli.render import Paint
from headway.cli.text import clean, count, duration, milliseconds, short

STYLE: Final = {
    **dict.fromkeys(("succeeded",), "green"),
    **dict.fromkeys(("failed", "lost_runner", "no_label", "label_gone", "labels_apart", "no_runner"), "red"),
    **dict.fromkeys(("unexplained", "no_coordinator", "log_unreachable", "service_down"), "red"),
    **dict.fromkeys(("paused_service", "paused_run", "draining", "back_off", "silent_runner", "overdue"), "yellow"),
    **dict.fromkeys(("cancelled", "cancelling"), "magenta"),
    **dict.fromkeys(("skipped",), "dim"),
    **dict.fromkeys(("assigned", "preparing", "executing", "uploading", "deploying", "converging"), "cyan"),
}
NAMED_MOST: Final = 3


def arguments(parser: argparse.ArgumentParser) -> None:
    """What may follow `headway why`."""
    add_run(parser, optional=True)
    parser.add_argument("job", metavar="JOB", nargs="?", default="", help="a job of the run, also one that is over")
    parser.add_argument("-n", "--limit", type=positive, default=50, help="how many at most (50)")
    add_at(parser)
    add_json(parser)


def main(args: argparse.Namespace) -> int:
    """Ask and print."""
    arguments = {"run": args.run, "job": args.job, "limit": args.limit, "cwd": cwd()}
    found = Client.here().read("why", **arguments, **at_of(args))
    if args.json:
        render.data(found)
        return 0
    say_moment(found, args.at)
    paint = render.paint_for(sys.stdout)
    _service(found, paint)
    if args.run:
        _print_run(found, paint)
    else:
        _print_all(found, paint)
    return 0


def _service(found: Mapping[str, Any], paint: Paint) -> None:
    """What keeps everything from moving: said once, before all else."""
    service = found.get("service")
    if not isinstance(service, dict):
        return
    behind = f"; what follows is as of event {text(found, 'as_of')}, {milliseconds(service.get('behind_ms'))} ago"
    said = text(service, "cause") == "service_down"  # then the client has told that
    render.out(paint("red", text(service, "words")) + ("" if said else behind))
    _arrow(service, paint)
    render.out()


def _print_all(found: Mapping[str, Any], paint: Paint) -> None:
    waiting = found.get("waiting") or []
    for at, one in enumerate(waiting):
        before = waiting[at - 1] if at else {}
        if one.get("run") != before.get("run"):
            render.out(_run_line(one, paint))
        _told(one, paint, indent="  ")
    total = int(found.get("total") or 0)
    if not waiting:
        render.out("nothing waits")
    elif total > len(waiting):
        render.out(f"{total - len(waiting)} more wait; see them with --limit {total}")


def _print_run(found: Mapping[str, Any], paint: Paint) -> None:
    run = found.get("run") or {}
    if isinstance(found.get("job"), dict):
        render.out(_run_line(run, paint))
        _told(found["job"], paint, indent="  ")
        _attempts(found["job"])
        return
    _told(run, paint, indent="")
    for one in found.get("jobs") or []:
        _told(one, paint, indent="  ")
    left = int(found.get("total") or 0) - len(found.get("jobs") or [])
    if left > 0:
        render.out(f"  {left} more; see them with --limit {found.get('total')}")


def _run_line(one: Mapping[str, Any], paint: Paint) -> str:
    return f"{paint('bold', short(one.get('run', '')))}  {text(one, 'pipeline')} of {text(one, 'project')}"


def _told(one: Mapping[str, Any], paint: Paint, *, indent: str) -> None:
    """A job or a run: name, state and since when, the sentence; below it what would end it."""
    name = text(one, "job") or f"run {short(one.get('run', ''))}"
    state = text(one, "outcome") or text(one, "state")
    age = duration(int(one.get("age_ms") or 0) / 1000)
    since = f"{state} {age} ago" if one.get("outcome") else f"{state} for {age}"
    style = STYLE.get(text(one, "cause"), "")
    render.out(f"{indent}{paint('bold', name)}  {paint(style, since)}: {text(one, 'words')}{_behind(one)}")
    _arrow(one, paint, indent=indent)
    for words in one.get("also") or ():
        render.out(f"{indent}  {paint('dim', 'also:')} {clean(words)}")
    if one.get("unknown"):
        render.out(f"{indent}  {paint('dim', 'not known:')} {text(one, 'unknown')}")
    if text(one, "cause") == "unexplained":
        for words in (one.get("facts") or {}).get("excluded") or ():
            render.out(f"{indent}  {paint('dim', 'looked at:')} {clean(words)}")


def _behind(one: Mapping[str, Any]) -> str:
    """The jobs that wait for this one."""
    number, names = int(one.get("behind") or 0), [clean(name) for name in one.get("behind_jobs") or ()]
    if not number:
        return ""
    shown = ", ".join(names[:NAMED_MOST]) + (", ..." if number > NAMED_MOST else "")
    return f"; {count(number, 'job')} {'waits' if number == 1 else 'wait'} behind it: {shown}"


def _arrow(one: Mapping[str, Any], paint: Paint, *, indent: str = "") -> None:
    if one.get("unblocks"):
        render.out(f"{indent}  {paint('green', '→')} {text(one, 'unblocks')}")


def _attempts(one: Mapping[str, Any]) -> None:
    """How the attempts before the last one went, and what took longest."""
    facts = one.get("facts") or {}
    for tried in facts.get("attempts") or ():
        render.out(f"    {text(tried, 'words')}")
