"""What is said of a log that fills up."""

from __future__ import annotations

from pathlib import Path

import pytest

from headway.cli.room import more_room, words
from headway.core.config import load
from headway.core.room import MIB, Room


@pytest.mark.parametrize(
    ("used", "days", "said"),
    [
        (100, None, "100.0 MiB of 1000.0 MiB used (10 %)"),
        (100, 9e9, "100.0 MiB of 1000.0 MiB used (10 %)"),
        (799, 0.4, "799.0 MiB of 1000.0 MiB used (79 %), less than a day left at the present rate"),
        (800, 1.9, "800.0 MiB of 1000.0 MiB used (80 %), 1 day left at the present rate"),
        (900, 12.7, "900.0 MiB of 1000.0 MiB used (90 %), 12 days left at the present rate"),
        (1000, 0.0, "1000.0 MiB of 1000.0 MiB used (100 %): no new runs are taken, those under way end"),
    ],
)
def test_how_full_the_log_is_in_words(used: int, days: float | None, said: str) -> None:
    """Used, limit, share and days, as far as they are known and of use."""
    assert words(Room(bytes=used * MIB, events=9, bytes_max=1000 * MIB, bytes_hard=2000 * MIB), days) == said


def test_a_log_without_a_limit_says_so() -> None:
    """There is no share of nothing."""
    assert words(Room(bytes=MIB, events=9, bytes_max=0, bytes_hard=0), None) == "1.0 MiB used, without a limit"


def test_what_to_do_names_what_sets_the_limit(tmp_path: Path) -> None:
    """The file, the variable, or the disk: raising a number that another one overrules would be no help."""
    again = "and restart with 'headway down' and 'headway up'"
    by_file, by_variable = load(tmp_path, {}), load(tmp_path, {"HEADWAY_LOG_MAX_BYTES": "64MiB"})
    assert more_room(by_file, by_file.log_max_bytes) == f"raise log_max_bytes in {tmp_path}/config.yml {again}"
    assert more_room(by_variable, 64 * MIB) == f"raise HEADWAY_LOG_MAX_BYTES {again}"
    allowed = f"free some space on the log's disk, which allows 20.0 MiB, {again}"
    assert more_room(by_file, 20 * MIB) == more_room(by_variable, 20 * MIB) == allowed
