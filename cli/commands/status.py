"""The service, the queue, the runners and the last runs on one screen."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from typing import Any, Final

from headway.cli import render
from headway.cli.arguments import add_at, add_json, at_of
from headway.cli.client import Client
from headway.cli.lists import RUN_HEAD, RUNNER_HEAD, now_of, print_table, run_row, runner_row, say_moment, text
from headway.cli.render import Paint
from headway.cli.text import actor, ago, clean

LEVEL_STYLE: Final = {"warning": "yellow", "error": "red"}


def arguments(parser: argparse.ArgumentParser) -> None:
    """What may follow `headway status`."""
    add_at(parser)
    add_json(parser)


def main(args: argparse.Namespace) -> int:
    """Ask and print."""
    found = Client.here().read("status", **at_of(args))
    if args.json:
        render.data(found)
        return 0
    say_moment(found, args.at)
    paint, now = render.paint_for(sys.stdout), now_of(found)
    service, queue = found.get("service"), found.get("queue") or {}
    paused = found.get("paused")
    pairs = [
        ("service", _service(service, now) if service else "" if args.at is not None else "not running"),
        ("log", _log((service or {}).get("log") or {}, found, paint)),
        ("paused", paint("yellow", _paused(paused, now)) if isinstance(paused, dict) else ""),
        ("queue", _queue(queue, now)),
    ]
    for line in render.facts(pairs, paint=paint):
        render.out(line)
    runners, runs = found.get("runners") or [], found.get("runs") or []
    render.out()
    if runners:
        print_table(RUNNER_HEAD, [runner_row(one, now=now) for one in runners])
    else:
        render.out("no runners; start one with 'headway runners start'")
    if runs:
        render.out()
        print_table(RUN_HEAD, [run_row(one, now=now) for one in runs])
    return 0


def _service(service: Mapping[str, Any], now: float) -> str:
    began = ago(service.get("started"), now=now)
    return f"Headway {text(service, 'version')}, process {text(service, 'pid')}" + (
        f", started {began}" if began else ""
    )


def _log(log: Mapping[str, Any], found: Mapping[str, Any], paint: Paint) -> str:
    """Where its end is, whose server keeps it, how full it is, and what is wrong with it."""
    parts = [f"at {found['as_of']}"] if found.get("as_of") is not None else []
    parts += [f"server {log['server']}"] if log.get("server") else []
    level = "error" if log.get("trouble") else str(log.get("level"))
    parts += ["almost full"] * (level == "warning" or (level == "error" and not log.get("trouble")))
    parts += [str(log[name]) for name in ("words", "trouble") if log.get(name)]
    return paint(LEVEL_STYLE.get(level, ""), clean(", ".join(parts)))


def _paused(paused: Mapping[str, Any], now: float) -> str:
    who = actor(paused.get("by") or paused.get("paused_by") or paused.get("actor") or "someone")
    since = ago(paused.get("since") or paused.get("paused_since"), now=now)
    reason = text(paused, "reason")
    return f"by {who} {since}".strip() + (f": {reason}" if reason else "") + "; go on with 'headway resume'"


def _queue(queue: Mapping[str, Any], now: float) -> str:
    oldest = ago(queue.get("oldest_queued"), now=now)
    waiting = f"{queue.get('queued') or 0} queued" + (f" (the oldest {oldest})" if oldest else "")
    return f"{waiting}, {queue.get('on_a_runner') or 0} on a runner"
