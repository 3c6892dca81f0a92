"""What can be wrong with a plan as a graph, in linear time."""

from __future__ import annotations

from typing import Final

from headway.core.plan import Plan

DEPENDS_ON_BYTES_MAX: Final = 48 * 1024


def problems(plan: Plan) -> list[str]:
    """What keeps a plan from being run, in words; [] when it is sound."""
    names = {job.name for job in plan.jobs}
    if not plan.jobs:
        return ["the plan has no jobs"]
    if len(names) != len(plan.jobs):
        return ["two jobs of the plan have one name"]
    heavy = [job.name for job in plan.jobs if sum(len(name) + 3 for name in job.depends_on) > DEPENDS_ON_BYTES_MAX]
    if heavy:
        return [f"job {heavy[0]} depends on more jobs than fit into one event; put a job in between"]
    found = [
        f"job {job.name} depends on {name}, which is not in the plan"
        for job in plan.jobs
        for name in job.depends_on
        if name not in names
    ]
    return found or _cycle(plan)


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
