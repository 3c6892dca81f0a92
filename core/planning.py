"""What can be wrong with a plan as a graph, in linear time."""

from __future__ import annotations

from typing import Final

import msgspec

from headway.core.plan import DEFINITION_BYTES_MAX, Job, Plan, encode_job

ADMITTED_BYTES_MAX: Final = 48 * 1024
NAME_MAX: Final = 200


def problems(plan: Plan) -> list[str]:
    """What keeps a plan from being run, in words; [] when it is sound."""
    names = {job.name for job in plan.jobs}
    if not plan.jobs:
        return ["the plan has no jobs"]
    if len(names) != len(plan.jobs):
        return ["two jobs of the plan have one name"]
    found = [words for job in plan.jobs for words in _job_problems(job)]
    if found:
        return found
    found = [
        f"job {job.name} depends on {name}, which is not in the plan"
        for job in plan.jobs
        for name in job.depends_on
        if name not in names
    ]
    return found or _cycle(plan)


def _job_problems(job: Job) -> list[str]:
    """What keeps one job's events from being written, or the job from ever running."""
    if not job.name or len(job.name) > NAME_MAX:
        return [f"a job's name has 1 to {NAME_MAX} characters, unlike {job.name[:20]!r}"]
    found = []
    admitted = (job.depends_on, job.runs_on, job.executor, job.concurrency_group)
    if len(msgspec.json.encode(admitted)) > ADMITTED_BYTES_MAX:
        found.append(f"the dependencies and labels of job {job.name} do not fit into one event; put a job in between")
    if len(encode_job(msgspec.structs.replace(job, depends_on=()))) > DEFINITION_BYTES_MAX:
        found.append(f"the definition of job {job.name} does not fit into one event; it has to be kept as a blob")
    if job.concurrency_group and job.concurrency_limit < 1:
        found.append(f"no job of the group {job.concurrency_group[:NAME_MAX]} could run with a limit below 1")
    return found


def _cycle(plan: Plan) -> list[str]:
    waiting = {job.name: len(set(job.depends_on)) for job in plan.jobs}
    dependents: dict[str, list[str]] = {}
    for job in plan.jobs:
        for name in set(job.depends_on):
            dependents.setdefault(name, []).append(job.name)
    ready = [name for name, count in waiting.items() if not count]
    for name in ready:  # grows while it is walked: each job once
        for dependent in dependents.get(name, ()):
            waiting[dependent] -= 1
            if not waiting[dependent]:
                ready.append(dependent)
    left = [name for name, count in waiting.items() if count]
    return [f"the jobs {', '.join(left[:10])} wait for each other"] if left else []
