"""How the log has grown of late, and how much is unfinished, as the tables know it."""

from __future__ import annotations

import aiosqlite
import msgspec

from headway.core.envelope import decode
from headway.core.errors import UnavailableError
from headway.core.events import RunAdmitted
from headway.core.room import DAY_US
from headway.projections.queries import UNFINISHED


class Growth(msgspec.Struct, frozen=True, kw_only=True):
    """So many events came in so long a time by the log's clock."""

    events: int = 0
    span_us: int = 0


class Unfinished(msgspec.Struct, frozen=True, kw_only=True):
    """A run that is not over, with what says how much it may still write."""

    run: str
    plan_digest: str
    parameters: dict[str, str]
    jobs: int
    open_jobs: int
    attempt_losses_max: int


_decode_parameters = msgspec.json.Decoder(dict[str, str]).decode


async def of_last_day(db: aiosqlite.Connection) -> Growth:
    """The log's last 24 hours, to its last event; of a younger log all of it.

    Times have no index, but they grow with the sequence: where the day begins is searched by halves.
    """
    ends = "(select min(seq) from events), (select max(seq) from events)"
    found = list(await db.execute_fetchall(f"select seq, logged from events where seq in ({ends}) order by seq"))
    if not found:
        return Growth()
    (first, began), (last, ended) = found[0], found[-1]
    since = ended - DAY_US
    if began >= since:
        return Growth(events=last - first + 1, span_us=max(0, ended - began))
    before, within = first, last
    while within - before > 1:
        middle = (before + within) // 2
        sql = "select logged from events where seq >= ? order by seq limit 1"
        [(logged,)] = await db.execute_fetchall(sql, (middle,))
        before, within = (middle, within) if logged < since else (before, middle)
    return Growth(events=last - within + 1, span_us=DAY_US)


async def unfinished(db: aiosqlite.Connection) -> list[Unfinished]:
    """The runs that are not over."""
    columns = "runs.run, plan_digest, parameters, jobs, jobs - (success + failed + cancelled + skipped), body"
    sql = f"select {columns} from runs join events on events.seq = runs.seq where {UNFINISHED}"
    return [
        Unfinished(
            run=run,
            plan_digest=digest,
            parameters=_decode_parameters(given),
            jobs=jobs,
            open_jobs=left,
            attempt_losses_max=_attempt_losses_max(body),
        )
        for run, digest, given, jobs, left, body in await db.execute_fetchall(sql)
    ]


def _attempt_losses_max(body: bytes) -> int:
    """What a run was admitted with, from that event; no column has it."""
    try:
        event = decode(body).data
    except (UnavailableError, msgspec.MsgspecError):  # the tables took it, but it need not stay as it was
        return 0
    return event.attempt_losses_max if isinstance(event, RunAdmitted) else 0
