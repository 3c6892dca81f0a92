"""What may be given to --at."""

from __future__ import annotations

import argparse
import time
from datetime import datetime, timedelta

import pytest

from headway.cli.arguments import moment


def us(when: datetime) -> int:
    """Microseconds since 1970."""
    return round(when.timestamp() * 1_000_000)


def test_a_bare_number_is_a_sequence() -> None:
    """Whatever its length."""
    assert moment("1234") == {"seq": 1234}
    assert moment("0") == {"seq": 0}


def test_a_time_with_a_zone_is_that_time() -> None:
    """RFC 3339, in UTC or elsewhere."""
    expected = {"time_us": us(datetime.fromisoformat("2026-01-31T12:00:00.5+00:00"))}
    assert moment("2026-01-31T12:00:00.5Z") == moment("2026-01-31T13:00:00.5+01:00") == expected


def test_a_time_without_a_zone_is_local() -> None:
    """As a person reads the clock on the wall."""
    assert moment("2026-01-31 12:00") == {"time_us": us(datetime(2026, 1, 31, 12).astimezone())}


def test_a_time_of_day_is_the_last_one_that_has_been() -> None:
    """Today's if it has been, else yesterday's."""
    now = datetime.now().astimezone()
    for hours in (-1, 1):
        wall = now + timedelta(hours=hours)
        found = moment(wall.strftime("%H:%M"))["time_us"] / 1_000_000
        assert time.time() - 86_400 - 60 < found <= time.time()
        assert datetime.fromtimestamp(found).strftime("%H:%M") == wall.strftime("%H:%M")


def test_a_length_of_time_is_counted_back() -> None:
    """`10m ago`, `1h30m ago`, `2 h ago`."""
    for text, seconds in (("10m ago", 600), ("1h30m ago", 5400), ("2 h ago", 7200)):
        assert abs(time.time() - moment(text)["time_us"] / 1_000_000 - seconds) < 5


@pytest.mark.parametrize(
    "text", ["", "soon", "25:00", "10m", "-5", "ago", "1e9", "2026-13-01", "99999999999h ago", "٣"]
)
def test_anything_else_is_refused(text: str) -> None:
    """With what may be written instead."""
    with pytest.raises(argparse.ArgumentTypeError, match=r"10m ago|whole number"):
        moment(text)
