"""What a run's jobs printed, stdout and stderr in the order it came.

On a terminal colours stay and every other escape is made harmless; in a pipe the bytes of one job are as they were
printed. With several jobs each line begins with its job and `|`, with `!` for stderr; -t puts the time before it.
With --json one record of output a line: job, attempt, step, seq, stream, timestamp, message.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections import deque
from collections.abc import Iterator
from typing import Any, TypeVar

from headway.cli import render
from headway.cli.arguments import add_at, add_json, add_run, at_of, cwd, natural, positive
from headway.cli.client import SENDS_MAX, Client, Gone, gone_for_good
from headway.cli.tails import Lines, OutputLine, body_of
from headway.cli.text import clean, clean_output, clock
from headway.core.errors import UsageError

Kept = TypeVar("Kept")


def arguments(parser: argparse.ArgumentParser) -> None:
    """What may follow `headway logs`."""
    add_run(parser)
    parser.add_argument("job", metavar="JOB", nargs="?", default="", help="only this job (default: all)")
    parser.add_argument("--attempt", metavar="N", type=positive, help="this attempt (default: the last one)")
    parser.add_argument("--step", metavar="S", type=natural, help="only this step, counted from 0")
    parser.add_argument("--tail", metavar="N", type=natural, help="only the last N lines")
    parser.add_argument("--grep", metavar="RE", type=_expression, help="only lines in which this expression is found")
    parser.add_argument("-t", "--timestamps", action="store_true", help="put the time before each line")
    parser.add_argument("-f", "--follow", action="store_true", help="go on while the run does")
    add_at(parser)
    add_json(parser, "print one record of output a line")


def main(args: argparse.Namespace) -> int:
    """Print what was printed."""
    if args.follow and args.at is not None:
        raise UsageError("--at cannot be used with --follow", next="leave one of them out")
    if args.follow and args.tail is not None:
        raise UsageError("--tail cannot be used with --follow", next="leave one of them out")
    if args.json:
        for record in _last(_matching(_records(args), args.grep), args.tail):
            render.data(record)
            render.flush()
        return 0
    printer = Printer(several=not args.job, timestamps=args.timestamps)
    for line in _last(_lines(_records(args), args.grep), args.tail):
        printer.line(line)
        if args.follow:
            render.flush()
    return 0


def _expression(text: str) -> re.Pattern[str]:
    try:
        return re.compile(text)
    except re.error as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not a regular expression: {error}") from None


def _records(args: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Records of output, each once, over a service that dies meanwhile."""
    request: dict[str, Any] = {"run": args.run, "cwd": cwd(), "follow": args.follow, **at_of(args)}
    for name in ("job", "attempt", "step"):
        value = getattr(args, name)
        if value not in ("", None):
            request[name] = value
    client, deaths = Client.here(), 0
    seen: dict[tuple[str, int], int] = {}
    while True:
        try:
            for one in client.once("logs", request) if args.follow else client.reading("logs", request):
                record = one.get("output")
                if not isinstance(record, dict):
                    continue
                deaths = 0
                key, number = (str(record.get("job")), int(record.get("attempt") or 0)), int(record.get("seq") or 0)
                if number <= seen.get(key, -1):
                    continue  # the service came back and began anew
                seen[key] = number
                yield record
            return
        except Gone:
            deaths += 1
            if deaths > SENDS_MAX:
                raise gone_for_good() from None
            render.say("the service went away; starting it again")


def _matching(records: Iterator[dict[str, Any]], found: re.Pattern[str] | None) -> Iterator[dict[str, Any]]:
    for record in records:
        if found is None or found.search(body_of(record).decode(errors="replace")):
            yield record


def _lines(records: Iterator[dict[str, Any]], found: re.Pattern[str] | None) -> Iterator[OutputLine]:
    lines = Lines()
    for record in records:
        for line in lines.add(record):
            if found is None or found.search(line.text()):
                yield line
    for line in lines.rest():
        if found is None or found.search(line.text()):
            yield line


def _last(items: Iterator[Kept], count: int | None) -> Iterator[Kept]:
    return items if count is None else iter(deque(items, maxlen=count))


class Printer:
    """Prints lines of output as the reader of stdout can bear them."""

    def __init__(self, *, several: bool, timestamps: bool) -> None:
        self._several = several
        self._timestamps = timestamps
        self._terminal = render.is_terminal(sys.stdout)
        self._paint = render.paint_for(sys.stdout)

    def line(self, line: OutputLine) -> None:
        """Print one line."""
        before = self._before(line)
        if not self._terminal:
            render.out_bytes(before.encode(errors="replace") + line.body + b"\n")
            return
        text = clean_output(line.text(), colours=self._paint.on)
        error = line.stream == "stderr"
        if not before and error and not self._paint.on:
            before = "! "
        render.out(before + (self._paint("red", text) if error and "\x1b" not in text else text))

    def _before(self, line: OutputLine) -> str:
        parts = []
        if self._timestamps:
            parts.append(self._paint("dim", clock(line.timestamp)))
        if self._several:
            parts.append(self._paint("cyan", clean(line.job)))
        if not parts:
            return ""
        return " ".join([*parts, "!" if line.stream == "stderr" else "|"]) + " "
