"""Measure everything, or what is named, and print one table; the exit status is 1 when a floor is missed."""

from __future__ import annotations

import argparse
import json
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path

from bench import answers, commands, handoff, lag, loading, memory, rebuilding, throughput
from bench.ceiling import KINDS
from bench.product import EVENTS_A_JOB, EVENTS_A_RUN
from bench.table import Row, machine, render

MEASURES: dict[str, Callable[..., list[Row]]] = {
    "commands": commands.measure,
    "loading": loading.measure,
    "throughput": throughput.measure,
    "handoff": handoff.measure,
    "lag": lag.measure,
    "memory": memory.measure,
    "rebuilding": rebuilding.measure,
    "answers": answers.measure,
}

NOTES = f"""
Medians [least-most] of pairs taken in turn; a ratio is the median of the rounds' ratios. Every event is on disk before
it is acknowledged (sync_interval: always), but where it says without fsync: there an outside server syncs as
nats-server does by default. ceiling: the bare loop of bench/ceiling.py in this run, with the same slots and sync mode
and {len(KINDS)} events a job; Headway writes {EVENTS_A_JOB} a job and {EVENTS_A_RUN} a run, and every history
is checked to hold exactly these. The ceiling spawns /bin/true; Headway runs a script in bash, in a workspace of its
own with a copy of the source. answers: the tables of a month made up by bench/month.py, asked in-process. A row without
floor and target is for orientation.
"""


def main() -> int:
    """The command `python -m bench`."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("names", metavar="NAME", nargs="*", help=f"what to measure: {', '.join(MEASURES)}; else all")
    parser.add_argument("--quick", action="store_true", help="small and rough: to see that everything works")
    parser.add_argument("--json", metavar="FILE", type=Path, help="write the rows to this file too")
    options = parser.parse_args()
    unknown = [name for name in options.names if name not in MEASURES]
    if unknown:
        parser.error(f"nothing is called {', '.join(unknown)}; there are {', '.join(MEASURES)}")
    where, began = machine(), time.perf_counter()
    rows: list[Row] = []
    for name in options.names or MEASURES:
        print(f"{time.perf_counter() - began:6.1f} s  {name}", file=sys.stderr, flush=True)
        rows += MEASURES[name](quick=options.quick)
    print(f"\n{where}\n\n{render(rows)}\n\n{textwrap.fill(NOTES.strip(), 118)}\n")
    missed = [row.what for row in rows if row.verdict == "BELOW FLOOR"]
    print(f"{time.perf_counter() - began:.0f} s; below a floor: {'; '.join(missed) or 'nothing'}")
    if options.json:
        found = {"machine": where, "quick": options.quick, "rows": [row.record() for row in rows]}
        options.json.write_text(json.dumps(found, indent=2) + "\n")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
