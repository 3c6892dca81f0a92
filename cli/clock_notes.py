"""Which clocks were off, in sentences for people. No duration is taken from a runner's clock."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from headway.cli.text import clean, duration

NOTABLE_MS: Final = 1000


def of_timeline(found: Mapping[str, Any]) -> list[str]:
    """The runners whose clocks were off during a run, and the log's own clock."""
    notes = [skew(one.get("runner"), int(one.get("skew_ms") or 0)) for one in found.get("clocks") or ()]
    if behind := int(found.get("log_behind_ms") or 0):
        notes.append(
            f"the log's own clock was up to {duration(behind / 1000)} behind its earlier time while this run went on;"
            " here time stands still until it had caught up"
        )
    return notes


def of_attempts(attempts: list[Mapping[str, Any]]) -> list[str]:
    """What attempts tell of the clocks of their runners, by the quickest thing said in each.

    Whoever seems to be behind may only have been heard late; the timeline, which looks at every event, can tell.
    """
    worst: dict[str, int] = {}
    for one in attempts:
        runner, skew_ms = str(one.get("runner")), int(one.get("skew_ms") or 0)
        if abs(skew_ms) >= max(NOTABLE_MS, abs(worst.get(runner, 0))):
            worst[runner] = skew_ms
    return [skew(runner, skew_ms) if skew_ms > 0 else _late(runner, -skew_ms) for runner, skew_ms in worst.items()]


def skew(runner: object, skew_ms: int) -> str:
    """How a runner's clock is off, and what of it."""
    where = "ahead of" if skew_ms > 0 else "behind"
    return (
        f"the clock of runner {clean(runner)} is {duration(abs(skew_ms) / 1000)} {where} the log's;"
        " its own times are not used"
    )


def _late(runner: str, late_ms: int) -> str:
    return (
        f"what runner {clean(runner)} said is dated {duration(late_ms / 1000)} before it came to the log: it came late,"
        " or the runner's clock is behind; 'headway timeline' tells which"
    )
