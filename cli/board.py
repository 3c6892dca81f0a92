"""What a follower of a run knows: a small fold of its events, for the eye only.

The truth is the service's; this is what a live view needs between two events. It takes any history without raising:
a line that makes no sense moves nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any, Final

from headway.cli.text import actor, clean, count, duration, parse_time

STATUS_AT_END: Final = {
    "succeeded": "success",
    "failed": "failed",
    "cancelled": "cancelled",
    "skipped": "skipped",
}
WAITING: Final = frozenset({"admitted", "waiting_for_policy", "queued"})
STATUSES: Final = ("success", "failed", "cancelled", "skipped", "running", "retry", "paused", "pending")
EXIT_CODES: Final = {"succeeded": 0, "skipped": 0, "failed": 1, "cancelled": 6}

_STATE_AFTER: Final = {
    "job.admitted": "admitted",
    "job.queued": "queued",
    "job.assigned": "assigned",
    "job.preparing": "preparing",
    "job.executing": "executing",
    "job.uploading": "uploading",
    "job.completed": "completed",
}


def waits(runs_on: Iterable[object], *, paused_by: str = "") -> str:
    """What a queued job waits for, as far as its record tells: whether a runner offers its labels is not in there."""
    if paused_by:
        return f"paused by {actor(paused_by)}"
    labels = ", ".join(map(str, runs_on))
    return f"waits for a runner with {labels}" if labels else "waits for a slot"


class JobLine:
    """One job as the view shows it; times are seconds since 1970 by the log's clock, 0 for not yet."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.state = "admitted"
        self.outcome = ""
        self.attempt = 1
        self.runner = ""
        self.step = ""
        self.failed_step = ""
        self.reason = ""
        self.exit_code: int | None = None
        self.depends_on: tuple[str, ...] = ()
        self.runs_on: tuple[str, ...] = ()
        self.began = 0.0
        self.ended = 0.0
        self.backoff_seconds = 0.0

    def status(self, *, paused: bool) -> str:
        """The word people know for the job's state and outcome."""
        if self.state == "completed":
            return STATUS_AT_END.get(self.outcome, self.outcome)
        if self.state not in WAITING:
            return "running"
        if paused:
            return "paused"
        return "retry" if self.attempt > 1 else "pending"

    def seconds(self, now: float) -> float | None:
        """How long the attempt has been with its runner, None before."""
        if not self.began:
            return None
        return max(0.0, (self.ended or now) - self.began)

    def why(self) -> str:
        """How it ended: the reason given as it is, only without one the step and its exit code."""
        if self.reason:
            return self.reason
        step = self.failed_step and f"step {self.failed_step!r}"
        return f"{step} exited with code {self.exit_code}".strip() if self.exit_code else step

    def detail(self, *, paused_by: str = "") -> str:
        """What a person wants to know next about it; `paused_by` is who paused the run, "" when nobody has."""
        parts: list[str] = []
        if self.state == "admitted" and self.depends_on:
            shown = ", ".join(self.depends_on[:3]) + (", ..." if len(self.depends_on) > 3 else "")
            parts.append(f"after {shown}")
        elif self.state in ("queued", "waiting_for_policy"):
            parts.append(self._waits(paused_by) if self.state == "queued" else "waits for gates")
        elif self.state == "completed":
            parts.append(self.why() if self.outcome != "succeeded" else self.runner)
        else:
            parts.append(self.runner)
            parts.append(self.step if self.state == "executing" and self.step else self.state)
        if self.attempt > 1:
            parts.append(f"attempt {self.attempt}")
        return clean("  ".join(part for part in parts if part))

    def _waits(self, paused_by: str) -> str:
        if self.backoff_seconds and not paused_by:
            return f"tries again after a back-off of {duration(self.backoff_seconds)}"
        return waits(self.runs_on, paused_by=paused_by)


class Board:
    """The run and its jobs, in the order of the pipeline."""

    def __init__(self) -> None:
        self.run = ""
        self.project = ""
        self.pipeline = ""
        self.expected = 0
        self.jobs: dict[str, JobLine] = {}
        self.paused = False
        self.paused_by = ""
        self.cancelling = False
        self.outcome = ""
        self.began = 0.0
        self.ended = 0.0
        self.now = 0.0
        self.last_seq = 0

    def accepted(self, info: Mapping[str, Any]) -> None:
        """The service took the run; its jobs are named before their events come."""
        self.run = str(info.get("run") or self.run)
        self.project = str(info.get("project") or self.project)
        self.pipeline = str(info.get("pipeline") or self.pipeline)
        self.expected = int(info.get("jobs") or 0)
        for name in info.get("job_names") or ():
            self.job(str(name))

    def show(self, record: Mapping[str, Any]) -> None:
        """Begin from what the service's tables say."""
        run = record.get("run") or {}
        self.accepted({"run": run.get("run"), "project": run.get("project"), "pipeline": run.get("pipeline")})
        self.expected = int(run.get("jobs") or 0)
        self.paused, self.paused_by = bool(run.get("paused")), str(run.get("paused_by") or "")
        self.outcome = str(run.get("outcome") or "")
        self.began = parse_time(run.get("admitted")) or 0.0
        self.ended = parse_time(run.get("completed")) or 0.0
        self.last_seq = max(self.last_seq, int(record.get("as_of") or 0))
        for one in record.get("jobs") or ():
            self._show_job(one)

    def _show_job(self, record: Mapping[str, Any]) -> None:
        line = self.job(str(record.get("job", "")))
        line.state = str(record.get("state") or line.state)
        line.outcome = str(record.get("outcome") or "")
        line.attempt = int(record.get("attempt") or 1)
        line.runner = str(record.get("runner") or "")
        line.reason = str(record.get("reason") or "")
        line.exit_code = record.get("exit_code")
        line.depends_on = tuple(record.get("depends_on") or ())
        line.runs_on = tuple(record.get("runs_on") or ())
        line.began = parse_time(record.get("started")) or 0.0
        line.ended = parse_time(record.get("completed")) or 0.0

    def job(self, name: str) -> JobLine:
        """The line of a job, made when it is new."""
        line = self.jobs.get(name)
        if line is None:
            line = self.jobs[name] = JobLine(name)
        return line

    def event(self, record: Mapping[str, Any]) -> bool:
        """Take an event in; False when it was known already."""
        seq = int(record.get("seq") or 0)
        if seq and seq <= self.last_seq:
            return False
        self.last_seq = seq or self.last_seq
        self.now = parse_time(record.get("logged")) or self.now
        kind, data = str(record.get("type", "")), record.get("data") or {}
        if kind.startswith("run."):
            self._run_event(kind, data, record)
        elif kind.startswith(("job.", "step.")) and record.get("job"):
            self._job_event(kind, data, record)
        return True

    def _run_event(self, kind: str, data: Mapping[str, Any], record: Mapping[str, Any]) -> None:
        if kind == "run.admitted":
            self.accepted({"run": record.get("run"), **data})
            self.began = self.now
        elif kind == "run.cancel_requested":
            self.cancelling = True
        elif kind in ("run.paused", "run.resumed"):
            self.paused = kind == "run.paused"
            self.paused_by = str(record.get("actor") or "") if self.paused else ""
        elif kind == "run.completed":
            self.outcome = str(data.get("outcome") or "")
            self.ended = self.now

    def _job_event(self, kind: str, data: Mapping[str, Any], record: Mapping[str, Any]) -> None:
        line = self.job(str(record["job"]))
        attempt = int(record.get("attempt") or 0)
        if attempt < line.attempt and attempt and kind != "job.completed":
            return  # a fact of an attempt that no longer counts
        line.state = _STATE_AFTER.get(kind, line.state)
        line.attempt = attempt or line.attempt
        if kind == "job.admitted":
            line.depends_on = tuple(data.get("depends_on") or ())
            line.runs_on = tuple(data.get("runs_on") or ())
        elif kind == "job.queued":
            line.runner, line.step, line.began = "", "", 0.0
            line.backoff_seconds = max(0.0, float(data.get("start_after") or 0) / 1e6 - self.now)
        elif kind == "job.assigned":
            line.runner, line.began = str(data.get("runner") or ""), self.now
            line.failed_step, line.reason, line.exit_code = "", "", None
        elif kind == "step.started":
            line.step = str(data.get("name") or "")
        elif kind == "step.finished" and data.get("outcome") == "failed":
            line.failed_step = str(data.get("name") or "")
        elif kind in ("job.attempt_failed", "job.completed", "job.lost"):
            self._ended(kind, line, data)

    def _ended(self, kind: str, line: JobLine, data: Mapping[str, Any]) -> None:
        line.exit_code = data.get("exit_code")
        line.reason = str(data.get("reason") or (data.get("failure") or {}).get("reason") or "")
        if kind == "job.completed":
            line.outcome = str(data.get("outcome") or "")
            line.ended = self.now if line.began else 0.0
            if line.outcome == "succeeded":
                line.failed_step = ""

    def counts(self) -> Counter[str]:
        """How many jobs have which status; jobs that were promised and not seen yet are pending."""
        found = Counter(line.status(paused=self.paused) for line in self.jobs.values())
        unseen = self.expected - len(self.jobs)
        if unseen > 0:
            found["pending"] += unseen
        return found

    def total(self) -> int:
        """How many jobs the run has."""
        return max(self.expected, len(self.jobs))

    def completed(self) -> int:
        """How many jobs are over."""
        return sum(1 for line in self.jobs.values() if line.state == "completed")

    def summary(self) -> str:
        """The run's end in one line: outcome, time and counts."""
        found = self.counts()
        parts = ", ".join(f"{found[status]} {status}" for status in STATUSES if found[status])
        took = f" in {duration(self.ended - self.began)}" if self.began and self.ended else ""
        word = STATUS_AT_END.get(self.outcome, self.outcome) or "running"
        return clean(f"run {self.run} {word}{took}, {count(self.total(), 'job')}: {parts or 'nothing to do'}")
