"""What a log means, read the slow and plain way: JSON, the printed table of moves, and what events say of themselves.

Nothing here knows of the fold that the product uses; `tests/projections/test_every_sequence.py` compares the two. The
moves and the statuses are read from `docs/states.md`, as anybody would. The rules:

- The log's time never goes back: it is the latest that any event so far was logged at.
- A run begins with its `run.admitted`, its first event. Its events are numbered; a number counts once, and after
  `run.completed` nothing does.
- A job moves only as the table says. A fact of an attempt that is not the present one, or is over, moves nothing; nor
  does a fact whose number its runner has used.
- An attempt begins when it is assigned and holds a slot until it fails, is lost, or its job completes.
- The first who pauses, cancels or drains is the one who did; a runner that is gone does not come back.

Times are microseconds since 1970 UTC. Answers are plain dictionaries.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

PAGE = Path(__file__).parents[1] / "docs" / "states.md"
WAITS_FOR = {
    "admitted": "dependencies",
    "waiting_for_policy": "gate",
    "queued": "queue",
    "deploying": "controller",
    "converging": "controller",
    "completed": "",
}
"""Who can end a state; where nobody stands here, it is the runner that holds the attempt."""

Answer = dict[str, Any]


def rows_of(page: str, heading: str) -> list[list[str]]:
    """The cells of the table under the line that begins with `heading`."""
    lines = page.splitlines()
    start = next(at for at, line in enumerate(lines) if line.startswith(f"| {heading} |")) + 2
    found = []
    for line in lines[start:]:
        if not line.startswith("|"):
            break
        found.append([cell.strip() for cell in line.strip("|").split("|")])
    return found


_TABLE = rows_of(PAGE.read_text(), "state | meaning")
MOVES = {row[0].strip("*"): tuple(re.findall(r"[a-z_]+", row[2].replace("(final)", ""))) for row in _TABLE}
"""The table of moves as it is printed."""
HOLDING = {row[0].strip("*") for row in _TABLE if row[0].startswith("**")}
"""The states printed in bold: a job holds a slot there."""
STATUS = {(row[0], row[1]): row[2] for row in rows_of(PAGE.read_text(), "state | outcome")}
"""(state, outcome) -> status; the outcome is "" for a state that is not final."""


class Job:
    """A job: what is known of it, its attempts by number, and the states and phases it has left."""

    def __init__(self, run: str, name: str) -> None:
        self.known: Answer = {"run": run, "job": name, "state": "admitted", "attempt": 0, "runner": None}
        self.known |= dict.fromkeys(("outcome", "queued", "started", "completed", "exit_code", "output"))
        self.known |= dict.fromkeys(("failure", "cancelled_by", "cancel_reason", "start_after"))
        self.known |= {"reason": ""}
        self.held = False
        self.fact = 0
        self.rest_us = 0
        self.attempts: dict[int, Answer] = {}
        self.steps: dict[tuple[int, int], Answer] = {}
        self.left: list[Answer] = []


class Run:
    """A run: what is known of it, and its jobs in the order of their admission."""

    def __init__(self, known: Answer) -> None:
        self.known = known
        self.n = 0
        self.pause: Answer | None = None
        self.jobs: dict[str, Job] = {}


class Interpreter:
    """Is told a log event by event, from the first, and says what is true after the last it was told."""

    def __init__(self) -> None:
        self.seq = 0
        self.now = 0
        self.logged = 0
        self.runs: dict[str, Run] = {}
        self.runners: dict[str, Answer] = {}
        self.pause: Answer | None = None
        self.coordinator: Answer | None = None

    def tell(self, seq: int, logged: int, body: bytes) -> None:
        """One more event."""
        self.seq, self.logged, self.now = seq, logged, max(self.now, logged)
        event = json.loads(body)
        said = event["data"]
        if event.get("run"):
            self._of_run(event, said)
        else:
            self._of_fleet(event, said)

    def _of_run(self, event: Answer, said: Answer) -> None:
        """An event of a run: the first makes it, each counts once, none counts when the run is over."""
        name, kind, n = event["run"], said["type"], event.get("n", 0)
        if name not in self.runs:
            if kind != "run.admitted" or n != 1:
                return
            self.runs[name] = Run(self._admitted(event, said))
        run = self.runs[name]
        if n <= run.n or run.known["outcome"]:
            return
        run.n = n
        job = run.jobs.get(event.get("job", ""))
        if kind == "run.cancel_requested" and run.known["cancel_reason"] is None:
            run.known |= {"cancelled_by": event["actor"], "cancel_reason": said.get("reason", "")}
        elif kind == "run.paused":
            run.pause = run.pause or self._paused(event, said)
        elif kind == "run.resumed":
            run.pause = None
        elif kind == "run.completed":
            run.known |= {"outcome": said["outcome"], "completed": self.now, "seq_completed": self.seq}
        elif kind == "job.admitted" and event.get("job") and job is None:
            self._job_admitted(run, event, said)
        elif job is not None and kind in self._ON_JOB:
            self._ON_JOB[kind](self, run, job, event, said)

    def _admitted(self, event: Answer, said: Answer) -> Answer:
        source = said.get("source", {})
        nothing_yet = ("started", "completed", "seq_completed", "outcome", "cancelled_by", "cancel_reason")
        return dict.fromkeys(nothing_yet) | {
            "run": event["run"],
            "actor": event["actor"],
            "seq": self.seq,
            "admitted": self.now,
            "branch": source.get("branch", ""),
            "commit": source.get("commit", ""),
            **{name: said[name] for name in ("project", "pipeline", "jobs")},
        }

    def _paused(self, event: Answer, said: Answer) -> Answer:
        return {"by": event["actor"], "since": self.now, "reason": said.get("reason", "")}

    def _job_admitted(self, run: Run, event: Answer, said: Answer) -> None:
        job = run.jobs[event["job"]] = Job(event["run"], event["job"])
        lists = {name: tuple(said.get(name, ())) for name in ("depends_on", "runs_on")}
        job.known |= {**lists, "seq": self.seq, "seq_entered": self.seq, "entered": self.now}
        job.known |= {"cause": event.get("because", ""), "holder": WAITS_FOR["admitted"]}

    def _may(self, job: Job, state: str) -> bool:
        return state in MOVES[job.known["state"]]

    def _move(self, job: Job, state: str, event: Answer, outcome: str = "") -> None:
        """The job leaves its state now, and is in the next."""
        known = job.known
        was = {name: known[name] for name in ("attempt", "state", "entered", "holder", "cause")}
        was |= {"seq": known["seq_entered"], "seq_left": self.seq}
        if known["state"] == "queued" and job.rest_us:
            rested = {"phase": "back-off", "left": min(known["entered"] + job.rest_us, self.now)}
            job.left.append({**was, **rested, "next": outcome or state})
        job.left.append({**was, "phase": "", "left": self.now, "next": outcome or state})
        known |= {"state": state, "entered": self.now, "seq_entered": self.seq, "cause": event.get("because", "")}
        known |= {"holder": WAITS_FOR.get(state, known["runner"])}

    def _is_news(self, job: Job, event: Answer, said: Answer) -> bool:
        """Whether a runner's fact is of the attempt that holds the slot, and none that it has said already."""
        if not job.held or event.get("attempt", 0) != job.known["attempt"] or said.get("fact", 0) <= job.fact:
            return False
        job.fact = said["fact"]
        attempt = job.attempts[job.known["attempt"]]
        attempt["skews"] = [*attempt["skews"], event["at"] - self.logged]
        return True

    def _job_queued(self, run: Run, job: Job, event: Answer, said: Answer) -> None:
        """The next attempt, unless one still holds a slot."""
        if event.get("attempt", 0) != job.known["attempt"] + 1 or job.held or not self._may(job, "queued"):
            return
        self._move(job, "queued", event)
        job.known |= dict.fromkeys(("runner", "started", "exit_code", "failure", "output"))
        job.known |= {"attempt": event["attempt"], "queued": self.now, "reason": said.get("reason", "ready")}
        job.known["start_after"] = said.get("start_after") or None
        job.rest_us = max(0, said["start_after"] - event["at"]) if said.get("start_after") else 0
        job.fact = 0

    def _job_assigned(self, run: Run, job: Job, event: Answer, said: Answer) -> None:
        if event.get("attempt", 0) != job.known["attempt"] or not self._may(job, "assigned"):
            return
        job.known |= {"runner": said["runner"], "started": self.now, "reason": ""}
        self._move(job, "assigned", event)
        job.held = True
        not_yet = ("preparing", "started", "uploading", "ended", "outcome", "exit_code", "output", "failure")
        attempt = {name: event[name] for name in ("run", "job", "attempt")} | {"runner": said["runner"]}
        attempt |= {"state": "assigned", "assigned": self.now, "reason": "", "output_missing": "", "skews": []}
        job.attempts[event["attempt"]] = dict.fromkeys(not_yet) | attempt
        run.known["started"] = run.known["started"] or self.now

    def _job_on_the_way(self, run: Run, job: Job, event: Answer, said: Answer) -> None:
        """Preparing, executing or uploading."""
        state = said["type"].removeprefix("job.")
        if not self._is_news(job, event, said) or not self._may(job, state):
            return
        before = job.known
        entered = before["entered"]
        for phase in said.get("prepared", ()):
            if not phase["what"]:
                continue
            left = min(entered + max(0, phase["duration_ms"]) * 1000, self.now)
            was = {name: before[name] for name in ("attempt", "state", "holder", "cause")}
            was |= {"seq": before["seq_entered"], "seq_left": self.seq}
            job.left.append({**was, "phase": phase["what"], "entered": entered, "left": left, "next": ""})
            entered = left
        attempt = job.attempts[before["attempt"]]
        attempt |= {"state": state, "started" if state == "executing" else state: self.now}
        self._move(job, state, event)

    def _end_attempt(self, job: Job, **how: object) -> None:
        job.attempts[job.known["attempt"]] |= {"ended": self.now, **how}
        job.held = False

    def _job_attempt_failed(self, run: Run, job: Job, event: Answer, said: Answer) -> None:
        """The slot is free; the job's state is the coordinator's to change."""
        if not self._is_news(job, event, said):
            return
        found = self._result(said)
        self._end_attempt(job, state="completed", outcome="failed", reason=said["failure"]["reason"], **found)
        job.known |= {"runner": None, **found}

    def _job_lost(self, run: Run, job: Job, event: Answer, said: Answer) -> None:
        holds = job.held and event.get("attempt", 0) == job.known["attempt"] and job.known["runner"] == said["runner"]
        if holds:
            self._end_attempt(job, state="lost", reason=said["reason"])
            job.known["runner"] = None

    def _job_output_stored(self, run: Run, job: Job, event: Answer, said: Answer) -> None:
        """What a lost attempt had printed; the first word of it counts."""
        attempt = job.attempts.get(event.get("attempt", 0), {"state": ""})
        if attempt["state"] != "lost" or attempt["output"] is not None or attempt["output_missing"]:
            return
        attempt |= {"output": self._result(said)["output"], "output_missing": said.get("missing", "")}
        if attempt["attempt"] == job.known["attempt"]:
            job.known["output"] = attempt["output"]

    def _job_cancel_requested(self, run: Run, job: Job, event: Answer, said: Answer) -> None:
        if job.known["cancel_reason"] is None and job.known["state"] != "completed":
            job.known |= {"cancelled_by": event["actor"], "cancel_reason": said.get("reason", "")}

    def _job_completed(self, run: Run, job: Job, event: Answer, said: Answer) -> None:
        """Over, once and for all, and so is the attempt that held a slot."""
        if event.get("attempt", 0) != job.known["attempt"] or not self._may(job, "completed"):
            return
        outcome, reason, found = said["outcome"], said.get("reason", ""), self._result(said)
        if job.held:
            self._end_attempt(job, state="completed", outcome=outcome, reason=reason, **found)
        self._move(job, "completed", event, outcome)
        found["output"] = found["output"] or job.known["output"]
        job.known |= {"outcome": outcome, "completed": self.now, "reason": reason, **found}

    def _result(self, said: Answer) -> Answer:
        """What an event tells of an attempt that ended."""
        failure, output = said.get("failure"), said.get("output")
        return {
            "exit_code": said.get("exit_code"),
            "failure": (failure["class"], failure["reason"]) if failure else None,
            "output": output["digest"] if output else None,
        }

    def _step_started(self, run: Run, job: Job, event: Answer, said: Answer) -> None:
        if self._is_news(job, event, said):
            step = {name: said[name] for name in ("step", "name", "shell")} | {"tried": said.get("tried", 1)}
            step |= {"run": event["run"], "job": event["job"], "attempt": event["attempt"]}
            step |= {"started": self.now, "ended": None, "outcome": None, "exit_code": None}
            job.steps[event["attempt"], said["step"]] = step

    def _step_finished(self, run: Run, job: Job, event: Answer, said: Answer) -> None:
        key = (event.get("attempt", 0), said["step"])
        if self._is_news(job, event, said) and key in job.steps:
            found = {"outcome": said["outcome"], "exit_code": said.get("exit_code"), "tried": said.get("tried", 1)}
            job.steps[key] |= {**found, "ended": self.now}

    _ON_JOB = {
        "job.queued": _job_queued,
        "job.assigned": _job_assigned,
        "job.preparing": _job_on_the_way,
        "job.executing": _job_on_the_way,
        "job.uploading": _job_on_the_way,
        "job.attempt_failed": _job_attempt_failed,
        "job.lost": _job_lost,
        "job.output_stored": _job_output_stored,
        "job.cancel_requested": _job_cancel_requested,
        "job.completed": _job_completed,
        "step.started": _step_started,
        "step.finished": _step_finished,
    }

    def _of_fleet(self, event: Answer, said: Answer) -> None:
        """An event of no run: of a runner, of the whole service, or of who coordinates."""
        kind, name = said["type"], said.get("runner", "")
        runner = self.runners.get(name)
        if kind == "fleet.paused":
            self.pause = self.pause or self._paused(event, said)
        elif kind == "fleet.resumed":
            self.pause = None
        elif kind == "coordinator.elected":
            self.coordinator = {"coordinator": said["coordinator"], "elected": self.now}
        elif kind == "runner.registered" and runner is None:
            what = {key: said[key] for key in ("runner", "name", "slots")} | {"labels": tuple(said["labels"])}
            self.runners[name] = {**what, "state": "active", "reason": "", "changed": self.now, "registered": self.now}
        elif runner is not None and runner["state"] in ("active", "draining"):
            turned = {
                ("runner.drained", "active"): "draining",
                ("runner.resumed", "draining"): "active",
                ("runner.lost", runner["state"]): "lost",
                ("runner.left", runner["state"]): "left",
            }.get((kind, runner["state"]))
            if turned:
                runner |= {"state": turned, "reason": said.get("reason", ""), "changed": self.now}

    # The answers

    def job_answer(self, run: Run, job: Job) -> Answer:
        """A job as it is; one that waits is paused while its run or the service is, else tried again or not."""
        known = job.known
        status = STATUS[known["state"], known["outcome"] or ""]
        if status == "pending":
            again = "retry" if known["attempt"] > 1 else status
            status = "paused" if self.held_by(run) else again
        return {**known, "status": status}

    def held_by(self, run: Run) -> Answer | None:
        """The pause that holds a run: its own, else the service's."""
        return None if run.known["outcome"] else run.pause or self.pause

    def run_answer(self, run: Run) -> Answer:
        """A run: running while a job of it is on a runner or has completed, unless a pause holds all that is left."""
        jobs = Counter(self.job_answer(run, job)["status"] for job in run.jobs.values())
        done = sum(job.known["state"] == "completed" for job in run.jobs.values())
        pause = self.held_by(run)
        if run.known["outcome"]:
            status = STATUS["completed", run.known["outcome"]]
        elif jobs["running"] or (done and not pause):
            status = "running"
        else:
            status = "paused" if pause else "pending"
        by = {f"paused_{name}": pause[name] if pause else None for name in ("by", "since", "reason")}
        counts = {"jobs_by_status": dict(jobs), "jobs_completed": done, "events": run.n}
        return {**run.known, **by, **counts, "status": status, "paused": pause is not None}

    def attempt_answers(self, run: Run) -> list[Answer]:
        """The attempts of a run by job and number; the fact that came to the log quickest tells the runner's clock."""
        found = []
        for _, job in sorted(run.jobs.items()):
            for _, attempt in sorted(job.attempts.items()):
                known = {name: value for name, value in attempt.items() if name != "skews"}
                found.append({**known, "skew_us": max(attempt["skews"], default=None)})
        return found

    def runner_answers(self) -> list[Answer]:
        """Every runner there ever was, by name and age, with how many jobs it holds."""
        held = Counter(job.known["runner"] for job in self.all_jobs() if job.held)
        found = []
        for runner in sorted(self.runners.values(), key=lambda one: one["name"]):
            busy = held[runner["runner"]]
            here = "busy" if busy else "idle"
            known = {name: value for name, value in runner.items() if name != "state"}
            status = here if runner["state"] == "active" else runner["state"]
            found.append({**known, "busy": busy, "status": status})
        return found

    def queue_answer(self) -> Answer:
        """How much waits for a slot, since when, and how much holds one."""
        waiting = [job.known["queued"] for job in self.all_jobs() if job.known["state"] == "queued"]
        held = sum(job.held for job in self.all_jobs())
        return {"queued": len(waiting), "on_a_runner": held, "oldest_queued": min(waiting, default=None)}

    def all_jobs(self) -> list[Job]:
        """Every job of every run."""
        return [job for run in self.runs.values() for job in run.jobs.values()]
