"""The log's room: levels, days left, what a run may write, and who is refused."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from headway.core.plan import DEFINITION_BYTES_MAX, Job, Step
from headway.core.room import (
    DAY_US,
    EVENT_BYTES,
    HOUR_US,
    JOB_BYTES,
    LOSSES_MAX,
    MIB,
    Promise,
    Room,
    days_left,
    judge,
    limit_under,
    losses_of,
    promise_of,
    reserve_of,
)

GIB = 1024 * MIB


def room(used: int, *, most: int = 1000 * MIB, events: int = 1000, hard: int = 1 << 60) -> Room:
    """A log that holds so much of so much."""
    return Room(bytes=used, events=events, bytes_max=most, bytes_hard=hard)


@pytest.mark.parametrize(
    ("limit", "reserve"),
    [(16 * MIB, 4 * MIB), (256 * MIB, 64 * MIB), (GIB, 64 * MIB), (8 * GIB, 512 * MIB), (0, 0)],
)
def test_the_reserve_grows_with_the_limit(limit: int, reserve: int) -> None:
    """A sixteenth, at least 64 MiB, at most a quarter; and the limit is found again below both together."""
    assert reserve_of(limit) == reserve
    assert limit_under(limit + reserve) == limit


@pytest.mark.parametrize("hard", [0, 1, 7, MIB + 3, 320 * MIB - 1, 321 * MIB, GIB + 1, 9 * GIB + 5])
def test_a_limit_and_its_reserve_fit_where_they_must(hard: int) -> None:
    """Together they are never more than was given, and hardly less."""
    limit = limit_under(hard)
    assert hard - 2 <= limit + reserve_of(limit) <= hard


@pytest.mark.parametrize(
    ("percent", "level"), [(0, "ok"), (79, "ok"), (80, "warning"), (94, "warning"), (95, "error"), (130, "error")]
)
def test_a_log_that_fills_up_warns_in_time(percent: int, level: str) -> None:
    """A warning from 80 % of the limit on, an error from 95 %."""
    assert room(percent * 10 * MIB).level == level


def test_a_log_without_a_limit_is_never_full() -> None:
    """Its share is nothing, and it refuses nobody."""
    endless = room(GIB, most=0, hard=0)
    assert (endless.share, endless.level, judge(endless, unfinished_bytes=GIB, new_bytes=GIB)) == (0.0, "ok", "fits")
    assert days_left(endless, events=100, span_us=DAY_US) is None


@pytest.mark.parametrize(
    ("used", "events", "span_us", "days"),
    [
        (500 * MIB, 100, DAY_US, 10.0),
        (500 * MIB, 100, DAY_US // 2, 5.0),
        (500 * MIB, 1000, HOUR_US, 1 / 24),
        (500 * MIB, 1000, HOUR_US - 1, None),
        (500 * MIB, 0, DAY_US, None),
        (1100 * MIB, 100, DAY_US, 0.0),
        (0, 100, DAY_US, None),
    ],
)
def test_days_left_follow_from_the_present_rate(used: int, events: int, span_us: int, days: float | None) -> None:
    """Events of the span by the size of an average event; nothing is said of less than an hour, or of no events."""
    assert days_left(room(used), events=events, span_us=span_us) == (days if days is None else pytest.approx(days))


@pytest.mark.parametrize(
    ("used", "unfinished", "new", "verdict"),
    [
        (0, 0, 1, "fits"),
        (999, 0, 65, "fits"),
        (999, 0, 66, "promised"),
        (999, 64, 1, "fits"),
        (999, 65, 1, "promised"),
        (0, 1060, 5, "promised"),
        (1000, 0, 0, "full"),
        (1063, 0, 0, "full"),
    ],
)
def test_new_runs_are_refused_last(used: int, unfinished: int, new: int, verdict: str) -> None:
    """Taken below the limit while all that was admitted fits below limit and reserve: here 1000 and 64 MiB."""
    assert judge(room(used * MIB), unfinished_bytes=unfinished * MIB, new_bytes=new * MIB) == verdict


def test_what_the_server_stops_at_counts_too() -> None:
    """Another service on the same log may have set it lower than this one would."""
    assert judge(room(0, hard=10 * MIB), unfinished_bytes=9 * MIB, new_bytes=2 * MIB) == "promised"


def promised(*jobs: Job, losses_max: int = 2, parameters: Mapping[str, str] | None = None) -> int:
    """The bytes kept for a run of these jobs."""
    return promise_of(jobs, parameters or {}, attempt_losses_max=losses_max).bytes


def test_every_retry_and_a_lost_attempt_are_counted() -> None:
    """Each attempt carries definition and parameters; steps that are tried again have events for each."""
    plain = Job(name="a", steps=(Step(name="s", script="true"),))
    once = promised(plain)
    retried = promised(Job(name="a", steps=plain.steps, retry_count=4))
    stepped = promised(Job(name="a", steps=(Step(name="s", script="true", retry_count=50),)))
    assert once > 9 * 650
    assert retried > 3 * (once - 13 * EVENT_BYTES)
    assert stepped > once + 100 * EVENT_BYTES
    assert promised(plain, parameters={"p": "x" * 10_000}) > once + 3 * 10_000


@pytest.mark.parametrize(
    ("losses_max", "losses"),
    [(-1, 1), (0, 1), (1, 1), (2, 1), (3, 2), (10, 9), (11, LOSSES_MAX), (100, LOSSES_MAX), (1 << 60, LOSSES_MAX)],
)
def test_as_many_losses_are_counted_as_a_job_may_have(losses_max: int, losses: int) -> None:
    """Each lost attempt costs as much as a retry; an absurd number of them is not believed."""
    steps = (Step(name="s", script="true"),)
    retried = promised(Job(name="a", steps=steps, retry_count=losses - 1))
    assert promised(Job(name="a", steps=steps), losses_max=losses_max) == pytest.approx(retried, rel=0.01)
    assert losses_of(losses_max) == losses


def test_a_small_log_has_room_for_a_run_however_many_losses_are_allowed() -> None:
    """A hundred jobs fit into the smallest log there can be, so its limit does not refuse everybody."""
    jobs = [Job(name=f"j{at}", steps=(Step(name="s", script="true"),)) for at in range(100)]
    new = promise_of(jobs, {}, attempt_losses_max=100).bytes
    smallest = room(0, most=16 * MIB, hard=20 * MIB)
    assert judge(smallest, unfinished_bytes=0, new_bytes=new) == "fits"


def test_a_definition_counts_as_far_as_it_is_in_an_event() -> None:
    """A larger one is a blob; what is not known of it is replaced by a safe average."""
    large = Job(name="a", steps=(Step(name="s", script="x" * 500_000),))
    kept = Job(name="a", definition_digest="sha256:0")
    assert DEFINITION_BYTES_MAX < promise_of([large], {}, attempt_losses_max=2).job_bytes < 4 * DEFINITION_BYTES_MAX
    assert promise_of([kept], {}, attempt_losses_max=2, whole=lambda job: large) == promise_of(
        [large], {}, attempt_losses_max=2
    )
    assert promise_of([kept], {}, attempt_losses_max=2, whole=lambda job: None).job_bytes == JOB_BYTES
    assert promise_of([kept], {}, attempt_losses_max=10, whole=lambda job: None).job_bytes == 5 * JOB_BYTES


def test_a_run_that_is_nearly_over_may_write_little_more() -> None:
    """The largest of its jobs for each that is open, and never more than the whole run."""
    promise = Promise(bytes=100_000, job_bytes=20_000)
    assert [promise.left(jobs) for jobs in (0, 1, 4, 50)] == [8192, 28_192, 88_192, 100_000]
