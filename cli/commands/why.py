"""What everything waits for, the longest waiting first; with RUN why that run, with JOB why that job is where it is.

Each answer is one sentence from facts: the state and since when, who holds it, what it waits for; then what would end
the waiting, and what cannot be known. Jobs of a run that wait for the same are told together. docs/causes.md lists all
causes there are.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Mapping, Sequence
from typing import Any, Final

from headway.cli import render
from headway.cli.arguments import add_at, add_json, add_run, at_of, cwd, positive
from headway.cli.client import Client
from headway.cli.lists import say_moment, text
from headway.cli.render import Paint
from headway.cli.text import clean, clock, count, duration, milliseconds, short, width_of

STYLE: Final = {
    **dict.fromkeys(("succeeded",), "green"),
    **dict.fromkeys(("failed", "lost_runner", "no_label", "label_gone", "labels_apart", "no_runner"), "red"),
    **dict.fromkeys(("unexplained", "no_coordinator", "log_unreachable", "service_down"), "red"),
    **dict.fromkeys(("paused_service", "paused_run", "draining", "back_off", "silent_runner", "overdue"), "yellow"),
    **dict.fromkeys(("cancelled", "cancelling"), "magenta"),
    **dict.fromkeys(("skipped",), "dim"),
    **dict.fromkeys(("assigned", "preparing", "executing", "uploading", "deploying", "converging"), "cyan"),
}
_SGR: Final = re.compile("\x1b\\[[0-9;]*m")
NAMED_MOST: Final = 3
LIMIT_MOST: Final = 1000
LINES_MOST: Final = 36
"""Without a limit no more is printed than a screen holds, though at least one answer is."""

Record = Mapping[str, Any]


def arguments(parser: argparse.ArgumentParser) -> None:
    """What may follow `headway why`."""
    add_run(parser, optional=True)
    parser.add_argument("job", metavar="JOB", nargs="?", default="", help="a job of the run, also one that is over")
    parser.add_argument("-n", "--limit", type=positive, help="how many at most (50, and a screenful)")
    add_at(parser)
    add_json(parser)


def main(args: argparse.Namespace) -> int:
    """Ask and print."""
    arguments = {"run": args.run, "job": args.job, "cwd": cwd()} | ({"limit": args.limit} if args.limit else {})
    found = Client.here().read("why", **arguments, **at_of(args))
    if args.json:
        render.data(found)
        return 0
    say_moment(found, args.at)
    page = Page(render.paint_for(sys.stdout), lines_most=0 if args.limit else LINES_MOST)
    page.service(found)
    if args.run:
        page.run(found)
    else:
        page.all(found)
    for line in page.lines:
        render.out(line)
    return 0


class Page:
    """What is printed, line by line. On a terminal lines are broken at words."""

    def __init__(self, paint: Paint, *, lines_most: int) -> None:
        self.lines: list[str] = []
        self._paint = paint
        self._most = lines_most
        self._columns = render.columns_of(sys.stdout) if render.is_terminal(sys.stdout) else 0

    def service(self, found: Record) -> None:
        """What keeps everything from moving: said once, before all else."""
        service = found.get("service")
        if not isinstance(service, dict):
            return
        behind = f"; what follows is as of event {text(found, 'as_of')}, {milliseconds(service.get('behind_ms'))} ago"
        said = text(service, "cause") == "service_down"  # then the client has told that
        self._line("", self._paint("red", text(service, "words")) + ("" if said else behind))
        self._arrow(text(service, "unblocks"))
        self.lines.append("")

    def all(self, found: Record) -> None:
        """Everything that waits, each group once."""
        groups, total = found.get("groups") or [], int(found.get("total") or 0)
        if not groups:
            self.lines.append("nothing waits")
        before, shown = None, 0
        for group in groups:
            block, first = self._apart(), group.get("first") or {}
            if first.get("run") != before:
                block._line("", block._head(first))
            block._group(group, indent="  ")
            if not self._take(block, shown):
                break
            before, shown = first.get("run"), shown + _jobs(group)
        if total > shown:
            self.lines.append(f"{total - shown} more wait; see them with --limit {min(total, LIMIT_MOST)}")

    def run(self, found: Record) -> None:
        """A run and what it waits for, or one job of it."""
        run = found.get("run") or {}
        if isinstance(found.get("job"), dict):
            self._line("", self._head(run))
            self._told(found["job"], indent="  ")
            for tried in (found["job"].get("facts") or {}).get("attempts") or ():
                self._line("    ", text(tried, "words"))
            return
        self._told(run, indent="")
        shown, total = 0, int(found.get("total") or 0)
        for group in found.get("groups") or ():
            block = self._apart()
            block._group(group, indent="  ")
            if not self._take(block, shown):
                break
            shown += _jobs(group)
        if total > shown:
            self.lines.append(f"  {total - shown} more; see them with --limit {min(total, LIMIT_MOST)}")

    def _apart(self) -> Page:
        return Page(self._paint, lines_most=self._most)

    def _take(self, block: Page, shown: int) -> bool:
        """Add a block if there is room for it, or nothing has been shown yet."""
        if shown and self._most and len(self.lines) + len(block.lines) > self._most:
            return False
        self.lines += block.lines
        return True

    def _head(self, one: Record) -> str:
        return f"{self._paint('bold', short(one.get('run', '')))}  {text(one, 'pipeline')} of {text(one, 'project')}"

    def _group(self, group: Record, *, indent: str) -> None:
        """Jobs that wait for the same: how many and which, the sentence, and when the last one is expected."""
        first = group.get("first") or {}
        number, names = int(group.get("jobs") or 0), [clean(name) for name in group.get("names") or ()]
        if number < 2:
            self._told(first, indent=indent)
            return
        name = f"{self._paint('bold', count(number, 'job'))} ({_some(names, number)})"
        state = text(first, "outcome") or text(first, "state")
        longest = duration(int(group.get("age_ms") or 0) / 1000)
        since = state if first.get("outcome") else f"{state} for up to {longest}"
        words = f"{text(group, 'words')}{_until(first)}{_last(group)}{_behind(group, number)}"
        self._line(indent, f"{name}  {self._paint(STYLE.get(text(first, 'cause'), ''), since)}: {words}")
        self._below({**first, "unknown": group.get("unknown")}, text(group, "unblocks"), indent)

    def _told(self, one: Record, *, indent: str) -> None:
        """A job or a run: name, state and since when, the sentence; below it what would end it."""
        name = text(one, "job") or f"run {short(one.get('run', ''))}"
        outcome, words = text(one, "outcome"), text(one, "words")
        age = duration(int(one.get("age_ms") or 0) / 1000)
        since = f"{outcome} {age} ago" if outcome else f"{text(one, 'state')} for {age}"
        again = next((said for said in (f"it {outcome} ", f"it was {outcome} ") if words.startswith(said)), "")
        told = f", {words.removeprefix(again)}" if outcome and again else f": {words}"
        since = self._paint(STYLE.get(text(one, "cause"), ""), since)
        self._line(indent, f"{self._paint('bold', name)}  {since}{told}{_until(one)}{_behind(one)}")
        self._below(one, text(one, "unblocks"), indent)

    def _below(self, one: Record, unblocks: str, indent: str) -> None:
        """What would end it, what would hold it up besides, and what cannot be known."""
        self._arrow(unblocks, indent)
        for words in one.get("also") or ():
            self._line(f"{indent}  ", f"{self._paint('dim', 'also:')} {clean(words)}")
        if one.get("unknown"):
            self._line(f"{indent}  ", f"{self._paint('dim', 'not known:')} {text(one, 'unknown')}")
        if text(one, "cause") == "unexplained":
            for words in (one.get("facts") or {}).get("excluded") or ():
                self._line(f"{indent}  ", f"{self._paint('dim', 'looked at:')} {clean(words)}")

    def _arrow(self, unblocks: str, indent: str = "") -> None:
        if unblocks:
            self._line(f"{indent}  ", f"{self._paint('green', '→')} {unblocks}")

    def _line(self, indent: str, words: str) -> None:
        self.lines += wrapped(words, self._columns, indent=indent) if self._columns else [indent + words]


def wrapped(words: str, columns: int, *, indent: str) -> list[str]:
    """The words in lines of so many columns, broken at blanks; what follows the first line stands four further in."""
    lines, line, used = [], indent, len(indent)
    begun = False
    for word in words.split(" "):
        wide = width_of(_SGR.sub("", word))
        if begun and used + 1 + wide > columns:
            lines.append(line.rstrip(" "))
            line, used, begun = f"{indent}    ", len(indent) + 4, False
            if not word:
                continue
        line, used = (f"{line} {word}", used + 1 + wide) if begun else (line + word, used + wide)
        begun = True
    return [*lines, line]


def _jobs(group: Record) -> int:
    """How many of what is counted a group stands for: its jobs, or the run itself."""
    return max(1, int(group.get("jobs") or 0))


def _some(names: Sequence[str], number: int) -> str:
    return ", ".join(names[:NAMED_MOST]) + (", ..." if number > NAMED_MOST else "")


def _until(one: Record) -> str:
    """The local time of day at which a rest is over."""
    until = (one.get("facts") or {}).get("start_after")
    rests = until and text(one, "cause") == "back_off"
    return f", until {clock(until, milliseconds=False)}" if rests else ""


def _last(group: Record) -> str:
    """When the last of a group gets a slot."""
    wait = group.get("expected_last_ms")
    if not isinstance(wait, int):
        return ""
    return (
        f"; about {duration(wait / 1000)} for the last (of {count(int(group.get('expected_from') or 0), 'past run')})"
    )


def _behind(one: Record, jobs: int = 1) -> str:
    """The jobs that wait for this one, or these."""
    number, names = int(one.get("behind") or 0), [clean(name) for name in one.get("behind_jobs") or ()]
    if not number:
        return ""
    waits = "waits" if number == 1 else "wait"
    return f"; {count(number, 'job')} {waits} behind {'it' if jobs == 1 else 'them'}: {_some(names, number)}"
