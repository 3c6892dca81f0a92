"""One run: what it is, its jobs with their attempts, and the last lines of what failed."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from typing import Any, Final

from headway.cli import render
from headway.cli.arguments import add_at, add_json, add_run, at_of, cwd
from headway.cli.board import waits
from headway.cli.client import Client, Gone
from headway.cli.clock_notes import of_attempts
from headway.cli.lists import now_of, print_table, say_moment, status_cell, text, took
from headway.cli.render import Cell, Paint
from headway.cli.text import actor, ago, clean, clean_output, clock, milliseconds, parse_time
from headway.core.errors import HeadwayError

FAILED_SHOWN: Final = 3
OUTPUT_LINES: Final = 10


def arguments(parser: argparse.ArgumentParser) -> None:
    """What may follow `headway show`."""
    add_run(parser)
    add_at(parser)
    add_json(parser)


def main(args: argparse.Namespace) -> int:
    """Ask and print."""
    client = Client.here()
    found = client.read("show", run=args.run, cwd=cwd(), **at_of(args))
    if args.json:
        render.data(found)
    else:
        say_moment(found, args.at)
        print_run(client, found, at_of(args))
    return 0


def print_run(client: Client, found: Mapping[str, Any], at: Mapping[str, Any]) -> None:
    """A run as a person reads it; `at` is the argument that says of which moment."""
    paint, now = render.paint_for(sys.stdout), now_of(found)
    run = found.get("run") or {}
    for line in render.facts(_header(run, paint, now), paint=paint):
        render.out(line)
    render.out()
    jobs = found.get("jobs") or []
    head = ("JOB", "STATUS", "STATE", ">ATTEMPT", ">TIME", "RUNNER", "WHY")
    print_table(head, [_job(one, found, now) for one in jobs])
    _retried(found)
    for note in of_attempts(found.get("attempts") or []):
        render.out(f"\n{paint('yellow', note)}")
    failed = [one for one in jobs if one.get("outcome") == "failed"]
    for one in failed[:FAILED_SHOWN]:
        _failed(client, one, found, at)
    if len(failed) > FAILED_SHOWN:
        render.out(f"\n{len(failed) - FAILED_SHOWN} more failed; see 'headway logs {clean(run.get('run'))} JOB'")


def _header(run: Mapping[str, Any], paint: Paint, now: float) -> list[tuple[str, str]]:
    commit = text(run, "commit")[:12] + (" with changes" if run.get("dirty") else "")
    paused = (
        f"by {actor(run.get('paused_by') or 'someone')} {ago(run.get('paused_since'), now=now)}"
        if run.get("paused")
        else ""
    )
    parameters = run.get("parameters") or {}
    return [
        ("run", clean(run.get("run", ""))),
        ("status", paint.status(text(run, "status"))),
        ("pipeline", f"{text(run, 'pipeline')}  {paint('dim', text(run, 'pipeline_file'))}".rstrip()),
        ("project", text(run, "project")),
        ("source", "  ".join(part for part in (text(run, "branch"), commit.strip()) if part)),
        ("by", actor(run.get("actor") or "")),
        ("admitted", f"{clock(run.get('admitted'), milliseconds=False)}  {ago(run.get('admitted'), now=now)}".strip()),
        ("time", took(run, "admitted", now=now)),
        ("paused", paused),
        ("cancelled", _cancelled(run)),
        ("parameters", clean(" ".join(f"{name}={value}" for name, value in parameters.items()))),
    ]


def _cancelled(record: Mapping[str, Any]) -> str:
    """Who asked for the end of a run or job, and why; "" when nobody did."""
    reason = text(record, "cancel_reason")
    if not record.get("cancelled_by"):
        return reason
    return f"by {actor(record['cancelled_by'])}" + (f": {reason}" if reason else "")


def _job(job: Mapping[str, Any], found: Mapping[str, Any], now: float) -> list[Cell]:
    return [
        text(job, "job"),
        status_cell(job),
        text(job, "state"),
        str(job.get("attempt") or ""),
        took(job, "started", now=now),
        text(job, "runner"),
        _why(job, found),
    ]


def _why(job: Mapping[str, Any], found: Mapping[str, Any]) -> str:
    if job.get("state") == "admitted":
        return clean("after " + ", ".join(job.get("depends_on") or ())) if job.get("depends_on") else ""
    if job.get("outcome") == "succeeded":
        return ""
    if job.get("state") == "queued":
        return _queued(job, found.get("run") or {}, now_of(found))
    if job.get("outcome") == "cancelled" and job.get("cancelled_by"):
        return f"cancelled {_cancelled(job)}"
    if reason := _reason(job):
        return reason
    step = _failed_step(job, found)
    name = f"step {text(step, 'name')!r}" if step else ""
    code = job.get("exit_code")
    return f"{name} exited with code {code}".strip() if code else name


def _queued(job: Mapping[str, Any], run: Mapping[str, Any], now: float) -> str:
    """What a queued job waits for; of a new attempt also why there is one."""
    paused_by = str(run.get("paused_by") or "someone") if run.get("paused") else ""
    after = {"lost": ", after its runner was lost", "failed": ", after a failed attempt"}
    words = waits(job.get("runs_on") or (), paused_by=paused_by)
    if not paused_by and (parse_time(job.get("start_after")) or 0.0) > now:
        words = f"backs off until {clock(job['start_after'], milliseconds=False)}"
    return clean(words + after.get(text(job, "reason"), ""))


def _reason(record: Mapping[str, Any]) -> str:
    """The reason given for how a job or an attempt ended."""
    failure = record.get("failure")
    return text(record, "reason") or (text(failure, "reason") if isinstance(failure, dict) else "")


def _failed_step(job: Mapping[str, Any], found: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The last step of the job's last attempt that failed."""
    if job.get("outcome") != "failed":
        return None
    for step in reversed(found.get("steps") or []):
        same = step.get("job") == job.get("job") and step.get("attempt") == job.get("attempt")
        if same and step.get("outcome") == "failed":
            assert isinstance(step, dict), "a step is a record"
            return step
    return None


def _retried(found: Mapping[str, Any]) -> None:
    """Attempts of jobs that needed more than one."""
    last = {one.get("job"): one.get("attempt") or 1 for one in found.get("jobs") or []}
    again = [one for one in found.get("attempts") or [] if last.get(one.get("job"), 1) > 1]
    if not again:
        return
    render.out()
    rows: list[list[Cell]] = []
    for one in again:
        outcome = text(one, "outcome") or text(one, "state")
        rows.append(
            [
                f"{text(one, 'job')}#{one.get('attempt')}",
                outcome,
                text(one, "runner"),
                clock(one.get("assigned"), milliseconds=False),
                clock(one.get("ended"), milliseconds=False),
                _reason(one),
            ]
        )
    print_table(("ATTEMPT", "OUTCOME", "RUNNER", "ASSIGNED", "ENDED", "WHY"), rows)


def _failed(client: Client, job: Mapping[str, Any], found: Mapping[str, Any], at: Mapping[str, Any]) -> None:
    """What a failed job printed last."""
    if not job.get("started"):
        return
    from headway.cli.tails import last_lines

    name = str(job.get("job", ""))
    asked = {"run": job.get("run"), "job": name, "attempt": int(job.get("attempt") or 1), **at}
    try:
        records = (one["output"] for one in client.reading("logs", asked) if isinstance(one.get("output"), dict))
        lines = last_lines(records, OUTPUT_LINES)
    except (HeadwayError, Gone, OSError):
        render.say(f"the output of {clean(name)} cannot be read now")
        return
    paint = render.paint_for(sys.stdout)
    step = _failed_step(job, found)
    about = f", step {text(step, 'name')!r} after {milliseconds(step.get('duration_ms'))}" if step else ""
    render.out(f"\n{paint('bold', clean(name) + about)}")
    for line in lines:
        render.out(f"  {paint('dim', '|')} {clean_output(line, colours=paint.on)}")
