"""How long handoffs took: count, percentiles and sum, per state or whatever else tells them apart.

A handoff counts in the period in which its state was left, by the log's clock. Percentiles are exact, by nearest rank:
p95 is the shortest time that 95 % of the handoffs did not exceed. SUM is all of them together.

What is still open is in no percentile: OPEN says how many and how old the oldest is, and OLDEST whose it is.
A state in which a job was skipped or cancelled counts nowhere, because nobody was waited for to the end there; the
states that the job was in before do count. A job with several labels counts once under each.

With --against, what moved most comes first. MOVED is the difference of the means times the count: how much longer (+)
or shorter (-) the handoffs took together than they would have at the mean of the earlier period.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from typing import Any, Final

from headway.cli import render
from headway.cli.arguments import add_at, add_json, at_of, natural, seconds
from headway.cli.client import Client
from headway.cli.lists import print_table, say_moment, text
from headway.cli.render import Cell
from headway.cli.text import clean, clock, duration, parse_time, short
from headway.projections.dimensions import DIMENSIONS, dimensions

WEEK_SECONDS: Final = 7 * 86_400.0
NONE: Final = "(none)"
SLIGHT: Final = 0.05
"""A mean that changed by less than this share of itself is not called slower or faster."""

Row = Mapping[str, Any]


def arguments(parser: argparse.ArgumentParser) -> None:
    """What may follow `headway latency`."""
    parser.add_argument("--by", metavar="WORDS", default="state", help=f"some of {','.join(DIMENSIONS)}")
    parser.add_argument(
        "--since", metavar="T", type=seconds, default=WEEK_SECONDS, help="over the last 2h, 7d, 30d, ... (default: 7d)"
    )
    parser.add_argument("--pipeline", metavar="NAME", help="only jobs of this pipeline")
    parser.add_argument("--against", metavar="T", type=seconds, help="compare with a period of this length just before")
    parser.add_argument(
        "--limit", metavar="N", type=natural, default=30, help="at most so many groups, 0 for all (default: 30)"
    )
    add_at(parser)
    add_json(parser)


def main(args: argparse.Namespace) -> int:
    """Ask and print."""
    by = dimensions([word.strip() for word in args.by.split(",") if word.strip()])
    wanted: dict[str, Any] = {"by": ",".join(by), "since": args.since, "limit": args.limit, **at_of(args)}
    wanted |= {name: value for name in ("pipeline", "against") if (value := getattr(args, name)) is not None}
    found = Client.here().read("latency", **wanted)
    if args.json:
        render.data(found)
        return 0
    say_moment(found, args.at)
    for line in _head(found):
        render.out(line)
    rows = found.get("rows") or []
    if rows:
        render.out()
        (_print_moved if found.get("earlier") else _print_plain)(rows, _told(found))
    if not (found.get("period") or {}).get("handoffs"):
        render.say("no handoff was over in this time; look further back, as in 'headway latency --since 30d'")
    hidden = int(found.get("groups") or 0) - len(rows)
    if hidden > 0:
        render.say(f"{hidden:,} more; '--limit 0' shows all, '--pipeline NAME' those of one pipeline")
    return 0


def _head(found: Row) -> list[str]:
    """What is being looked at, in a line for each period."""
    paint = render.paint_for(sys.stdout)
    period, earlier = found.get("period") or {}, found.get("earlier")
    of = f" of {clean(found['pipeline'])}" if found.get("pipeline") else ""
    words = [f"{_handoffs(period)}{of}", f"{found.get('open', 0):,} open"]
    if period.get("left_out"):
        words.append(f"{period['left_out']:,} left out (skipped or cancelled)")
    lines = [f"{paint('bold', _span(period))}: {', '.join(words)}; as of event {text(found, 'as_of')}"]
    if earlier:
        lines.append(f"{paint('bold', _span(earlier))}: {_handoffs(earlier)}, to compare with")
    return lines


def _handoffs(period: Row) -> str:
    number = int(period.get("handoffs") or 0)
    return f"{number:,} handoff" + ("" if number == 1 else "s")


def _span(period: Row) -> str:
    since, until = parse_time(period.get("since")) or 0.0, parse_time(period.get("until")) or 0.0
    return (
        f"{_exact(until - since)} from {_moment(since, period.get('since'))} to {_moment(until, period.get('until'))}"
    )


def _exact(length: float) -> str:
    """A length that somebody typed: 7d, 36h, 90m; anything odd as durations are shown."""
    for unit, size in (("d", 86_400), ("h", 3_600), ("m", 60)):
        if length >= size and round(length) % size == 0:
            return f"{round(length) // size}{unit}"
    return duration(length)


def _moment(at: float, value: object) -> str:
    from datetime import datetime

    return f"{datetime.fromtimestamp(at).astimezone():%Y-%m-%d} {clock(value, milliseconds=False)}"


def _told(found: Row) -> list[str]:
    """The columns that tell the rows apart."""
    by = {"state", *(found.get("by") or ())}
    if "job" in by:
        by.add("pipeline")
    order = ("state", "phase", "project", "pipeline", "job", "branch", "runner", "label")
    return [name for name in order if name in by]


def _print_plain(rows: Sequence[Row], told: Sequence[str]) -> None:
    head = (*map(str.upper, told), ">COUNT", ">P50", ">P95", ">P99", ">MAX", ">SUM", "OPEN", "OLDEST")
    cells: list[list[Cell]] = []
    state = ""
    for row in rows:
        figures = [length(row.get(f"{name}_ms")) for name in ("p50", "p95", "p99", "max")]
        total = length(row.get("sum_ms")) if row.get("count") else ""
        numbers: list[Cell] = [f"{row.get('count') or 0:,}", *figures, ("bold", total)]
        cells.append([*_names(row, told, state), *numbers, *_open(row)])
        state = text(row, "state")
    _print(head, cells)


def _print_moved(rows: Sequence[Row], told: Sequence[str]) -> None:
    """What moved first, then what it was and is."""
    head = (*map(str.upper, told), ">MOVED", ">MEAN", ">WAS", ">P50", ">WAS", ">P95", ">WAS", ">COUNT", ">WAS", "OPEN")
    cells: list[list[Cell]] = []
    for row in rows:
        earlier = row.get("earlier") or {}
        numbers: list[Cell] = [_moved(row, earlier), length(_mean(row)), ("dim", length(_mean(earlier)))]
        for name in ("p50_ms", "p95_ms"):
            numbers += [length(row.get(name)), ("dim", length(earlier.get(name)))]
        numbers += [f"{row.get('count') or 0:,}", ("dim", f"{earlier.get('count') or 0:,}")]
        cells.append([*_names(row, told, ""), *numbers, _open(row)[0]])
    _print(head, cells)


def _print(head: Sequence[str], cells: Sequence[Sequence[Cell]]) -> None:
    """Without the columns at the end in which there is nothing to say."""
    while head[-1] in ("OPEN", "OLDEST") and not any(row[len(head) - 1] for row in cells):
        head = head[:-1]
    print_table(head, [row[: len(head)] for row in cells])


def _names(row: Row, told: Sequence[str], above: str) -> list[Cell]:
    """What tells the row apart; a state that stands above already is dim."""
    cells: list[Cell] = []
    for name in told:
        value = text(row, name)
        if name == "state":
            cells.append(("dim" if value == above else "cyan", value))
        else:
            cells.append(value or ("dim", "" if name == "phase" else NONE))
    return cells


def _open(row: Row) -> tuple[Cell, Cell]:
    """How many are open and how old the oldest is; whose that is."""
    found = row.get("open")
    if not found:
        return "", ""
    words = f"{found.get('count', 0):,} open, oldest {length(found.get('oldest_ms'))}"
    return ("yellow", words), ("dim", f"{short(found.get('run', ''))} {text(found, 'job')}")


def _moved(row: Row, earlier: Row) -> Cell:
    moved = row.get("moved_ms")
    if moved is None:
        return ("yellow", "new") if row.get("count") else ("dim", "not now" if earlier.get("count") else "")
    now, before = _mean(row) or 0.0, _mean(earlier) or 0.0
    words = f"{'+' if moved >= 0 else '-'}{length(abs(moved))}"
    if abs(now - before) <= SLIGHT * before:
        return words
    return ("red", f"{words} slower") if moved > 0 else ("green", f"{words} faster")


def _mean(figures: Row) -> float | None:
    return float(figures["sum_ms"]) / int(figures["count"]) if figures.get("count") else None


def length(milliseconds: object) -> str:
    """A length of time, finer than usual below a second; "" for none."""
    if not isinstance(milliseconds, int | float):
        return ""
    if milliseconds < 9.95:
        return f"{milliseconds:.1f}ms"
    return f"{milliseconds:.0f}ms" if milliseconds < 999.5 else duration(milliseconds / 1000)
