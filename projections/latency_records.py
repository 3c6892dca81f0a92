"""What `latency` is asked and answers."""

from __future__ import annotations

from datetime import datetime

import msgspec

from headway.projections.records import Record


class LatencyFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Which handoffs, and how they are told apart. `against_seconds` is the length of the earlier period, 0 for none.

    `limit` is how many groups at most, 0 for all.
    """

    by: tuple[str, ...] = ("state",)
    since_seconds: float = 7 * 86_400
    against_seconds: float = 0
    pipeline: str = ""
    limit: int = 30


class PeriodRecord(Record, frozen=True, kw_only=True):
    """A period: so many handoffs were over in it, and so many more were left out: the job was skipped or cancelled."""

    since: datetime
    until: datetime
    handoffs: int
    left_out: int


class FiguresRecord(Record, frozen=True, kw_only=True):
    """Figures of handoffs that are over; percentiles by nearest rank, None when there was no handoff."""

    count: int
    p50_ms: float | None
    p95_ms: float | None
    p99_ms: float | None
    max_ms: float | None
    sum_ms: float


class OpenRecord(Record, frozen=True, kw_only=True):
    """Handoffs that are still open, and the job whose is the oldest."""

    count: int
    oldest_ms: float
    run: str
    job: str


class LatencyRow(FiguresRecord, frozen=True, kw_only=True):
    """A group. A dimension that was not asked for is None; "" is none, and for a phase the whole of its state.

    `earlier` has the figures of the earlier period, and `moved_ms` how much longer the handoffs took together than
    they would have at its mean: the difference of the means, times the count.
    """

    state: str
    phase: str | None = None
    job: str | None = None
    pipeline: str | None = None
    project: str | None = None
    branch: str | None = None
    runner: str | None = None
    label: str | None = None
    open: OpenRecord | None = None
    earlier: FiguresRecord | None = None
    moved_ms: float | None = None


class LatencyRecord(Record, frozen=True, kw_only=True):
    """The groups by the table of states and then by their sums; those that moved most first when periods are compared.

    `groups` is how many there are, of which the limit may have kept those with the largest sums, or those that moved
    most. `open` is how many handoffs are open.
    """

    as_of: int
    by: tuple[str, ...]
    pipeline: str
    period: PeriodRecord
    earlier: PeriodRecord | None
    open: int
    groups: int
    rows: list[LatencyRow]
