"""How long a job usually takes: the median of its last successes, in the same pipeline of the same project.

A time is from assignment to completion. Only the last runs of the pipeline are looked at, so that the answer costs the
same on a long history.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice
from typing import Final, NamedTuple

import msgspec

from headway.projections.reader import Connection

RUNS_MOST: Final = 20
"""The median is of so many successes at most."""

LOOKED_AT: Final = 60
"""So many of the pipeline's last runs are looked at to find them."""

ASKED_MOST: Final = 64
"""So many jobs are looked up for one question; of others nothing is expected."""


class Kind(NamedTuple):
    """What makes jobs of different runs the same job."""

    project: str
    pipeline: str
    job: str


class Usual(NamedTuple):
    """How long a job usually takes, and how many past runs say so."""

    ms: int
    runs: int


class Past(NamedTuple):
    """What past runs say of jobs: how long they usually take, and of those that never succeeded whether they have run.

    What was not looked up is in neither.
    """

    usual: dict[Kind, Usual]
    ran: dict[Kind, bool]


PIPELINES_MOST: Final = 16
"""And of so many pipelines at most."""

SAME_NAME: Final = 2_000
"""Pipelines of other projects may have the same name; so many runs by that name are gone through."""

_RUNS: Final = f"""
select run from (select run, project from runs where pipeline = ? order by seq desc limit {SAME_NAME})
where project = ? limit {LOOKED_AT}
"""
_TIMES: Final = f"""
select k.value, (
    select json_group_array(took) from (
        select j.completed - j.started as took
        from json_each(?1) r cross join jobs j on j.run = r.value and j.job = k.value
        where j.outcome = 'succeeded' and j.started is not null
        limit {RUNS_MOST}
    )
) from json_each(?2) k
"""
_RAN: Final = """
select k.value, exists (
    select 1 from json_each(?1) r cross join jobs j on j.run = r.value and j.job = k.value
    where j.outcome is not null and j.started is not null
) from json_each(?2) k
"""


async def past_of(db: Connection, kinds: Iterable[Kind]) -> Past:
    """What is known of these jobs, the first ones of them."""
    by_pipeline: dict[tuple[str, str], list[str]] = {}
    for kind in islice(dict.fromkeys(kinds), ASKED_MOST):
        by_pipeline.setdefault((kind.project, kind.pipeline), []).append(kind.job)
    found = Past({}, {})
    for (project, pipeline), jobs in islice(by_pipeline.items(), PIPELINES_MOST):
        runs = _json([run for (run,) in await db.execute_fetchall(_RUNS, (pipeline, project))])
        for job, times in await db.execute_fetchall(_TIMES, (runs, _json(jobs))):
            took = sorted(msgspec.json.decode(times, type=list[int]))
            if took:
                found.usual[Kind(project, pipeline, job)] = Usual(_median(took) // 1000, len(took))
        strange = [job for job in jobs if Kind(project, pipeline, job) not in found.usual]
        for job, ran in await db.execute_fetchall(_RAN, (runs, _json(strange))) if strange else ():
            found.ran[Kind(project, pipeline, job)] = bool(ran)
    return found


def _json(names: list[str]) -> str:
    return msgspec.json.encode(names).decode()


def _median(ordered: list[int]) -> int:
    middle = len(ordered) // 2
    return ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) // 2
