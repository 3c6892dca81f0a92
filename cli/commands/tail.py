"""The events of a run from its start, or of everything from now on, as they come.

With --json one event a line; `seq` of the last one seen is where --from goes on (--from SEQ includes SEQ). Following
a run ends with the run; --at ends with what there was then.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Mapping
from typing import Any

from headway.cli import render
from headway.cli.arguments import add_at, add_json, add_run, at_of, cwd, natural
from headway.cli.client import SENDS_MAX, Client, Gone, gone_for_good
from headway.cli.render import Paint
from headway.cli.text import clean, clock, fit, pad, short

KEYS = ("seq", "n", "type", "run", "job", "attempt", "logged", "at", "actor", "id", "because", "prev", "data")
"""The order of an event's keys is a promise."""


def arguments(parser: argparse.ArgumentParser) -> None:
    """What may follow `headway tail`."""
    add_run(parser, optional=True)
    parser.add_argument(
        "--from",
        metavar="SEQ",
        type=_position,
        dest="start",
        help="begin at this sequence, or at 'start' (default: with RUN or --at the start, else now)",
    )
    parser.add_argument("--type", metavar="T", default="", help="only events of this type, such as job.completed")
    parser.add_argument("--no-follow", action="store_true", help="end with what there is now")
    add_at(parser)
    add_json(parser, "print one event a line")


def main(args: argparse.Namespace) -> int:
    """Print events; a service that dies meanwhile is started again and asked for the rest."""
    paint, columns = render.paint_for(sys.stdout), render.columns_of(sys.stdout)
    for event in _events(args):
        if args.type and event.get("type") != args.type:
            continue
        if args.json:
            render.data(ordered(event))
        else:
            render.out(line(event, paint=paint, columns=columns, with_run=not args.run))
        render.flush()
    return 0


def _position(text: str) -> int | str:
    return text if text in ("start", "now") else natural(text)


def _events(args: argparse.Namespace) -> Iterator[dict[str, Any]]:
    start = args.start if args.start is not None else ("start" if args.run or args.at is not None else "now")
    follow = not args.no_follow and args.at is None
    request: dict[str, Any] = {"cwd": cwd(), "from": start, "follow": follow, **at_of(args)}
    if args.run:
        request["run"] = args.run
    if args.type and not (args.run and follow):  # else the end of the run would be filtered away
        request["type"] = args.type
    client, deaths = Client.here(), 0
    while True:
        try:
            for one in client.once("events", request) if follow else client.reading("events", request):
                event = one.get("event")
                if not isinstance(event, dict):
                    continue
                deaths = 0
                request["from"] = int(event.get("seq") or 0) + 1
                yield event
                if args.run and event.get("type") == "run.completed" and follow:
                    return
            return
        except Gone:
            deaths += 1
            if deaths > SENDS_MAX:
                raise gone_for_good() from None
            render.say("the service went away; starting it again")


def ordered(event: Mapping[str, Any]) -> dict[str, Any]:
    """The event with its keys in the promised order; keys that are not known yet come last."""
    known = {key: event[key] for key in KEYS if key in event}
    return {**known, **{key: value for key, value in event.items() if key not in known}}


def line(event: Mapping[str, Any], *, paint: Paint, columns: int, with_run: bool) -> str:
    """An event for a person: where, when, what, about whom, and the short parts of its data."""
    about = clean(event.get("job") or "")
    if about and event.get("attempt"):
        about += f"#{event['attempt']}"
    parts = [("dim", f"{event.get('seq', ''):>6}"), ("dim", clock(event.get("logged")))]
    if with_run:
        parts.append(("dim", pad(short(event.get("run") or ""), 10)))
    parts.append((_style(event), pad(clean(event.get("type", "")), 20)))
    parts.append(("bold", about))
    used = sum(len(text) + 2 for _, text in parts)
    parts.append(("", fit(brief(event.get("data") or {}), columns - used)))
    return "  ".join(paint(style, text) for style, text in parts if text).rstrip()


def brief(data: Mapping[str, Any]) -> str:
    """The scalars of an event's data; what is larger is only named."""
    found = []
    for name, value in data.items():
        if isinstance(value, dict):
            found.append(f"{name}={{{', '.join(map(str, list(value)[:3]))}}}" if value else "")
        elif isinstance(value, list):
            found.append(f"{name}=[{', '.join(_first(one) for one in value[:3])}{', ...' if len(value) > 3 else ''}]")
        else:
            found.append(f"{name}={str(value)[:23] + '~' if len(str(value)) > 40 else value}")
    return clean(" ".join(part for part in found if part))


def _first(item: object) -> str:
    """An item of a list; of a record its first value, which names it."""
    return str(next(iter(item.values()), "")) if isinstance(item, dict) else str(item)


def _style(event: Mapping[str, Any]) -> str:
    outcome = (event.get("data") or {}).get("outcome")
    if outcome:
        return {"succeeded": "green", "failed": "red", "cancelled": "magenta"}.get(outcome, "dim")
    return "yellow" if str(event.get("type", "")).endswith(("lost", "_failed", "_requested", "paused")) else ""
