"""What a coordinator has heard of runners: a word that is overdue, and none at all since it began."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from headway.core.states import State
from headway.projections.ground import Ground, Open
from headway.projections.words import listed, span

BEGAN_US: Final = 1_000_000
"""A coordinator counts the silence of all runners from when it began, which is so exact."""


class Silence(NamedTuple):
    """Runners that are silent, for how long, how long the first lease still goes, and all of that in words."""

    runners: tuple[str, ...]
    silent_ms: int
    left_ms: int
    words: str


def silent_ms(ground: Ground, job: Open) -> int | None:
    """For how long the runner that holds a job has not been heard, when that is long enough to say."""
    live = ground.moment.live
    if live is None or not job.runner or not live.lease_seconds:
        return None
    silent = live.silent_seconds.get(job.runner, 0.0)
    return round(silent * 1000) if silent > live.lease_seconds / 2 else None


def lease_left_ms(ground: Ground, silent: int) -> int:
    """How much is left of the lease of a runner that has been silent for so long."""
    live = ground.moment.live
    return max(0, round(live.lease_seconds * 1000) - silent) if live is not None else 0


def heard(ground: Ground, job: Open) -> bool:
    """Whether what the log says of a runner may be said as what it does now.

    It may not while no service runs, nor when the coordinator has not heard the runner since it began. Of the past the
    log is all there is.
    """
    live = ground.moment.live
    if live is None:
        return ground.moment.past
    machine = ground.machines.get(job.runner or "")
    said_since = machine is not None and machine.registered >= ground.elected_us
    said_since = said_since or (job.state != State.ASSIGNED.value and job.entered >= ground.elected_us)
    if said_since or not live.coordinates:
        return True
    silent = live.silent_seconds.get(job.runner or "")
    return silent is not None and silent * 1_000_000 < ground.now_us - ground.elected_us - BEGAN_US


def silence_of(ground: Ground, holders: Sequence[Open]) -> Silence | None:
    """What is to be said of the runners that hold these jobs, if some of them are silent."""
    silent = {one.runner or "": ms for one in holders if (ms := silent_ms(ground, one)) is not None}
    if not silent:
        return None
    most = max(silent.values())
    left, runners = lease_left_ms(ground, most), tuple(silent)
    if len(runners) > 1:
        words = f"the runners {listed(runners)} have not been heard for up to {span(most)}; the first lease"
    else:
        whose = _whose(holders, runners[0])
        words = f"{whose} {runners[0]} has not been heard for {span(most)}; its lease"
    return Silence(runners, most, left, f"{words} ends in {span(left)}")


def _whose(holders: Iterable[Open], runner: str) -> str:
    mine = [one.runner == runner for one in holders]
    return ("their runner" if len(mine) > 1 else "its runner") if all(mine) else "the runner"
