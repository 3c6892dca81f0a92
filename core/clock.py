"""Time and fresh names: the only place that asks the machine for either."""

from __future__ import annotations

import os
import time
from datetime import UTC, date, datetime
from functools import lru_cache
from typing import Final, Protocol

_EPOCH: Final = date(1970, 1, 1).toordinal()


class Clock(Protocol):
    """Where time and unique names come from, so that a simulation can own both."""

    def wall_us(self) -> int:
        """Microseconds since 1970 UTC, as this machine believes."""
        ...

    def monotonic(self) -> float:
        """Seconds that never go back; only differences mean something."""
        ...

    def new_id(self) -> str:
        """A UUIDv7 in its usual text form: sortable by the time it was made."""
        ...


def uuid7(wall_us: int, random_bits: int) -> str:
    """A UUIDv7 from a time in microseconds and 74 random bits."""
    value = ((wall_us // 1000) & ((1 << 48) - 1)) << 80
    value |= 0x7 << 76 | ((random_bits >> 62) & 0xFFF) << 64
    value |= 0b10 << 62 | (random_bits & ((1 << 62) - 1))
    text = f"{value:032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def from_us(microseconds: int) -> datetime:
    """A time in UTC from microseconds since 1970, exactly."""
    seconds, rest = divmod(microseconds, 1_000_000)
    return datetime.fromtimestamp(seconds, UTC).replace(microsecond=rest)


def rfc3339(microseconds: int) -> str:
    """Microseconds since 1970 UTC as text: 2026-01-31T12:00:00.000000Z."""
    days, rest = divmod(microseconds, 86_400_000_000)
    minutes, rest = divmod(rest, 60_000_000)
    seconds, rest = divmod(rest, 1_000_000)
    return f"{_day(days)}T{minutes // 60:02}:{minutes % 60:02}:{seconds:02}.{rest:06}Z"


@lru_cache(maxsize=256)
def _day(days: int) -> str:
    """The date so many days after 1970 began: lists of times are long, and have few of these."""
    return date.fromordinal(_EPOCH + days).isoformat()


class SystemClock:
    """The machine's own clock."""

    def wall_us(self) -> int:
        return time.time_ns() // 1000

    def monotonic(self) -> float:
        return time.monotonic()

    def new_id(self) -> str:
        return uuid7(self.wall_us(), int.from_bytes(os.urandom(10), "big"))


class ManualClock:
    """A clock that moves only when told to, with seeded names."""

    def __init__(self, *, seed: int = 0, wall_us: int = 1_750_000_000_000_000) -> None:
        import random  # late: the command line imports this file and does not need it

        self._random = random.Random(seed)
        self._wall_us = wall_us
        self._monotonic = 1000.0

    def wall_us(self) -> int:
        return self._wall_us

    def monotonic(self) -> float:
        return self._monotonic

    def new_id(self) -> str:
        return uuid7(self._wall_us, self._random.getrandbits(74))

    def advance(self, seconds: float) -> None:
        """Let time pass on both clocks."""
        self._monotonic += seconds
        self._wall_us += int(seconds * 1_000_000)

    def step_wall(self, seconds: float) -> None:
        """Set the wall clock forward or back, as an operator or NTP may."""
        self._wall_us += int(seconds * 1_000_000)
