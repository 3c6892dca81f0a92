"""How much room the log has, and whether one more run may use it.

The log has a limit that people know, `log_max_bytes`, and above it a reserve. New runs are taken while the log is
below its limit and all that was admitted could still be written below limit and reserve together. So a run that was
admitted can end, also on a log that has passed its limit meanwhile: new runs are refused last, finishing runs never.

What a run may write is estimated from its plan, generously: every retry is counted, and every attempt that may be lost
before the job fails of it, with the definition and the parameters in each. Measured, a job of one step writes nine
events of 650 bytes. Not counted are losses beyond LOSSES_MAX, and attempts that runners gave back when they were
stopped, of which there is no end.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Final, Literal, TypeAlias

import msgspec

from headway.core.plan import DEFINITION_BYTES_MAX, Job, encode_job

Level: TypeAlias = Literal["ok", "warning", "error"]
Verdict: TypeAlias = Literal["fits", "full", "promised"]

MIB: Final = 1 << 20
HOUR_US: Final = 3_600_000_000
DAY_US: Final = 24 * HOUR_US
WARNING_SHARE: Final = 0.80
ERROR_SHARE: Final = 0.95

EVENT_BYTES: Final = 1024
"""More than an event takes on the log, names and definitions not counted."""

RUN_EVENTS: Final = 8
JOB_EVENTS: Final = 4
ATTEMPT_EVENTS: Final = 8

LOSSES_MAX: Final = 9
"""So many lost attempts a job are counted at most: a generous `attempt_losses_max` must not refuse everybody."""

JOB_BYTES: Final = 32 * 1024
"""What a job may write whose plan is not known here, when one attempt is lost."""


class Room(msgspec.Struct, frozen=True, kw_only=True):
    """How full the log is: bytes and events in it, its limit, and what its server stops at. 0: there is no limit."""

    bytes: int
    events: int
    bytes_max: int
    bytes_hard: int

    @property
    def share(self) -> float:
        return self.bytes / self.bytes_max if self.bytes_max > 0 else 0.0

    @property
    def level(self) -> Level:
        """What is to be made of it: a warning from 80 % of the limit on, an error from 95 %."""
        if self.share >= ERROR_SHARE:
            return "error"
        return "warning" if self.share >= WARNING_SHARE else "ok"


class Promise(msgspec.Struct, frozen=True, kw_only=True):
    """What a run may write in all, and what the largest of its jobs may."""

    bytes: int
    job_bytes: int

    def left(self, open_jobs: int) -> int:
        """What it may still write while so many of its jobs are not over."""
        return min(self.bytes, RUN_EVENTS * EVENT_BYTES + open_jobs * self.job_bytes)


def reserve_of(limit: int) -> int:
    """The bytes above a limit: a sixteenth of it and at least 64 MiB, but no more than a quarter of a small limit."""
    return min(limit // 4, max(64 * MIB, limit // 16))


def limit_under(hard: int) -> int:
    """The limit that fits below `hard` together with its reserve."""
    return max(hard * 4 // 5, min(hard - 64 * MIB, hard * 16 // 17))


def judge(room: Room, *, unfinished_bytes: int, new_bytes: int) -> Verdict:
    """Whether a run that may write `new_bytes` fits, while what was admitted may still write `unfinished_bytes`."""
    if room.bytes_max <= 0:
        return "fits"
    if room.bytes >= room.bytes_max:
        return "full"
    whole = min(room.bytes_max + reserve_of(room.bytes_max), room.bytes_hard)
    return "promised" if room.bytes + unfinished_bytes + new_bytes > whole else "fits"


def days_left(room: Room, *, events: int, span_us: int) -> float | None:
    """Days until the limit at the rate of `events` in `span_us`; None for a log too young or still to say."""
    if span_us < HOUR_US or events <= 0 or room.events <= 0 or room.bytes_max <= 0:
        return None
    bytes_a_day = events * (room.bytes / room.events) * (DAY_US / span_us)
    return max(0, room.bytes_max - room.bytes) / bytes_a_day if bytes_a_day > 0 else None


def losses_of(attempt_losses_max: int) -> int:
    """How many lost attempts of a job are counted: one less than it fails of, at least one, at most LOSSES_MAX."""
    return min(max(1, attempt_losses_max - 1), LOSSES_MAX)


def unknown_job_bytes(attempt_losses_max: int) -> int:
    """What a job may write of which only its number is known."""
    return JOB_BYTES * (1 + losses_of(attempt_losses_max)) // 2


def promise_of(
    jobs: Iterable[Job],
    parameters: Mapping[str, str],
    *,
    attempt_losses_max: int,
    whole: Callable[[Job], Job | None] = lambda job: job,
) -> Promise:
    """What a run of these jobs may write. `whole` gives the definition of a job that has it elsewhere, or None."""
    given = sum(
        len(msgspec.json.encode(name)) + len(msgspec.json.encode(value)) + 2 for name, value in parameters.items()
    )
    losses = losses_of(attempt_losses_max)
    unknown = unknown_job_bytes(attempt_losses_max) + (1 + losses) * given
    each = [unknown if (job := whole(one)) is None else _job_bytes(job, given, losses) for one in jobs]
    return Promise(bytes=RUN_EVENTS * EVENT_BYTES + given + sum(each), job_bytes=max(each, default=0))


def _job_bytes(job: Job, given: int, losses: int) -> int:
    event = EVENT_BYTES + len(job.name)
    tried = sum(1 + step.retry_count for step in job.steps)
    attempt = (ATTEMPT_EVENTS + 2 * tried) * event + min(len(encode_job(job)), DEFINITION_BYTES_MAX) + given
    graph = sum(len(name) + 3 for name in (*job.depends_on, *job.runs_on))
    return JOB_EVENTS * event + graph + (1 + job.retry_count + losses) * attempt
