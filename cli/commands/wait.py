"""Wait until runs have completed, and say how each ended.

Exit code: 0 when all succeeded, else 1 when one failed, else 6 when one was cancelled; 124 when the time is over.
"""

from __future__ import annotations

import argparse
import time
from typing import Any

from headway.cli import render
from headway.cli.arguments import add_json, add_run, cwd, seconds
from headway.cli.board import EXIT_CODES
from headway.cli.client import SENDS_MAX, Client, Gone, gone_for_good
from headway.cli.text import clean, count, milliseconds

GRACE_SECONDS = 5.0
"""The service keeps the time; a service that hangs is left this much later."""


def arguments(parser: argparse.ArgumentParser) -> None:
    """What may follow `headway wait`."""
    add_run(parser, several=True)
    parser.add_argument("--timeout", metavar="T", type=seconds, help="give up after this time, such as 90s or 10m")
    add_json(parser)


def main(args: argparse.Namespace) -> int:
    """Wait; a service that dies meanwhile is started again."""
    found: dict[str, dict[str, Any]] = {}
    end = None if args.timeout is None else time.monotonic() + args.timeout
    client, deaths, folder = Client.here(), 0, cwd()
    while True:
        request: dict[str, Any] = {"runs": args.run, "cwd": folder}
        left = None if end is None else max(0.0, end - time.monotonic())
        if left is not None:
            request["timeout_seconds"] = left
        try:
            for one in client.once("wait", request, timeout_seconds=None if left is None else left + GRACE_SECONDS):
                _take(one, found, as_json=args.json)
                deaths = 0
            break
        except Gone:
            deaths += 1
            if deaths > SENDS_MAX:
                raise gone_for_good() from None
            render.say("the service went away; starting it again")
    if args.json:
        records = list(found.values())
        as_of = max((int(one.get("seq_completed") or 0) for one in records), default=0)
        render.data({"as_of": as_of, "runs": records})
    outcomes = {str(one.get("outcome")) for one in found.values()}
    return next((EXIT_CODES[word] for word in ("failed", "cancelled") if word in outcomes), 0)


def _take(one: dict[str, Any], found: dict[str, dict[str, Any]], *, as_json: bool) -> None:
    record = one.get("run")
    if not isinstance(record, dict) or record.get("run") in found:
        return
    found[str(record.get("run"))] = record
    if not as_json:
        took = milliseconds(record.get("duration_ms"))
        jobs = count(int(record.get("jobs") or 0), "job")
        words = f"{record.get('run')} {record.get('status')}" + (f" in {took}" if took else "")
        render.out(clean(f"{words}: {jobs} of {record.get('pipeline') or 'a pipeline'}"))
        render.flush()
