"""What a service takes for the time by the log's clock."""

from __future__ import annotations

from headway.cli.plane import LogClock
from headway.core.clock import ManualClock
from headway.core.envelope import Envelope, Recorded
from headway.core.events import FleetResumed


def event(seq: int, logged: int) -> Recorded:
    """An event that was logged at this time."""
    envelope = Envelope(id=f"e{seq}", at=logged, actor="user:anna", data=FleetResumed())
    return Recorded(seq=seq, logged=logged, envelope=envelope, body=b"")


def test_the_time_is_the_logs_where_its_clock_is_another() -> None:
    """An hour behind or ahead is taken into account, and time goes on between events."""
    for ahead_us in (-3_600_000_000, 3_600_000_000):
        clock = ManualClock()
        log_clock = LogClock(clock, floor=7)
        log_clock.heard([event(8, clock.wall_us() + ahead_us)])
        assert log_clock.now_us() == clock.wall_us() + ahead_us
        clock.advance(60)
        assert log_clock.now_us() == clock.wall_us() + ahead_us


def test_the_way_from_the_log_is_no_other_clock() -> None:
    """What comes a little late, or was logged before the service started, says nothing of the clock."""
    clock = ManualClock()
    log_clock = LogClock(clock, floor=7)
    log_clock.heard([event(7, clock.wall_us() - 86_400_000_000)])
    assert log_clock.now_us() == clock.wall_us()
    log_clock.heard([event(8, clock.wall_us() - 20_000)])
    log_clock.heard([event(9, clock.wall_us() - 600_000_000)])
    assert log_clock.now_us() == clock.wall_us()
