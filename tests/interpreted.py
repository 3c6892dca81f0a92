"""What an interpreter of the log knows of the way of each job: where its time went, and what it may wait for now."""

from __future__ import annotations

from tests.interpreter import Answer, Interpreter, Job, Run


def stay_answers(run: Run, now: int) -> list[Answer]:
    """Every stay of every job in a state, the open ones as old as `now` says, each before the phases in it."""
    found: list[Answer] = []
    for name, job in run.jobs.items():
        phases: list[Answer] = []
        for one in job.left:
            stay = {**one, "job": name, "duration_us": one["left"] - one["entered"]}
            if one["phase"]:
                phases.append(stay)
                continue
            found += [stay, *phases]
            phases = []
        found += _open_stays(job, now)
    return found


def _open_stays(job: Job, now: int) -> list[Answer]:
    """The state that a job is in, and the rest that an attempt in line has before it may start."""
    known = job.known
    if known["state"] == "completed":
        return []
    stay = {name: known[name] for name in ("job", "attempt", "state", "entered", "holder", "cause")}
    age = max(0, now - known["entered"])
    stay |= {"phase": "", "left": None, "seq": known["seq_entered"], "seq_left": None, "next": ""}
    stay |= {"duration_us": age}
    if known["state"] != "queued" or not job.rest_us:
        return [stay]
    over = known["entered"] + job.rest_us if age >= job.rest_us else None
    return [stay, {**stay, "phase": "back-off", "left": over, "duration_us": min(age, job.rest_us)}]


def open_dependencies(run: Run, job: Job) -> list[str]:
    """The jobs that it waits for, before it is in line."""
    return [name for name in job.known["depends_on"] if name in run.jobs and not run.jobs[name].known["outcome"]]


def may_wait_for(told: Interpreter, run: Run, job: Job, now: int) -> set[str]:
    """The causes that may be said of an open job, as far as the log alone tells; the coordinator may be due."""
    known, overdue = job.known, {"due", "unexplained"}
    cancelled = run.known["cancel_reason"] is not None or known["cancel_reason"] is not None
    if known["state"] == "admitted":
        return {"dependency"} if open_dependencies(run, job) else overdue
    if known["state"] != "queued":
        runner = told.runners.get(known["runner"] or "")
        if not job.held or runner is None or runner["state"] not in ("active", "draining"):
            return overdue
        return {"cancelling"} if cancelled else {known["state"], "overdue"}
    if cancelled:
        return overdue
    pauses = {"paused_service": told.pause, "paused_run": run.pause}
    if any(pauses.values()):
        return {name for name, pause in pauses.items() if pause}
    if job.rest_us and known["entered"] + job.rest_us > now:
        return {"back_off"}
    return overdue | {"no_runner", "no_label", "label_gone", "labels_apart", "draining", "group", "slots"}
