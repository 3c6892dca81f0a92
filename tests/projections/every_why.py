"""What `why` says of every job that is open, and what the state of the log alone makes it say."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import aiosqlite

from tests.interpreted import may_wait_for, open_dependencies
from tests.interpreter import Interpreter, Run
from tests.projections.every_answer import ALL, EPOCH, later_us

if TYPE_CHECKING:
    from headway.projections.answers import WhyJob


async def why_disagrees(told: Interpreter, db: aiosqlite.Connection) -> str:
    """The first thing that `why` says otherwise than the log, "" for none; one run is asked about, by turns."""
    from headway.projections.ground import Moment
    from headway.projections.why import why_run

    runs = [run for run in told.runs.values() if not run.known["outcome"]]
    if not runs:
        return ""
    run, now = runs[told.seq % len(runs)], told.now + later_us(told.seq)
    name, moment = run.known["run"], Moment(now_us=now, past=True)
    found = await why_run(db, moment, run=name, limit=ALL)
    still = {one for one, job in run.jobs.items() if not job.known["outcome"]}
    behind = sorted(one for one in still if open_dependencies(run, run.jobs[one]) and _admitted(run, one))
    if {one.job for one in found.jobs} != still - set(behind):
        return f"why {name} tells of {[one.job for one in found.jobs]}, and open are {still} with {behind} behind"
    asked = list(found.jobs)
    if behind:
        one = behind[told.seq % len(behind)]
        about = (await why_run(db, moment, run=name, job=one)).job
        assert about is not None, f"why {name} {one} is about that job"
        asked.append(about)
    return next((wrong for one in asked if (wrong := _wrong(told, run, one, now))), "")


def _admitted(run: Run, job: str) -> bool:
    return bool(run.jobs[job].known["state"] == "admitted")


def _wrong(told: Interpreter, run: Run, said: WhyJob, now: int) -> str:
    """What is wrong with the answer about a job."""
    job = run.jobs[said.job]
    fields = ("attempt", "state", "outcome", "holder")
    known: dict[str, Any] = {field: job.known[field] for field in fields}
    known |= {"since": EPOCH + timedelta(microseconds=job.known["entered"]), "because": job.known["cause"]}
    known |= {"age_ms": max(0, now - job.known["entered"]) // 1000}
    for field, value in known.items():
        if getattr(said, field) != value:
            return f"why {said.job}.{field} is {getattr(said, field)!r}, and should be {value!r}"
    causes = may_wait_for(told, run, job, now)
    return "" if said.cause in causes else f"why {said.job} is {said.cause} ({said.words}), and should be of {causes}"
