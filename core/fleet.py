"""The runners as folded from their events, and who has been heard of lately.

`Fleet` is a fold and can be rebuilt from the log. `Presence` is not: it is what this coordinator remembers of when a
runner last asked anything, by its own monotonic clock, and it begins anew with every election. Nobody is lost before
a whole lease has passed in which this coordinator could have heard them.
"""

from __future__ import annotations

import heapq
from typing import Final

import msgspec

from headway.core.envelope import Envelope
from headway.core.events import (
    FleetPaused,
    FleetResumed,
    RunnerDrained,
    RunnerLeft,
    RunnerLost,
    RunnerRegistered,
    RunnerResumed,
)

LEASE_SECONDS: Final = 15
"""How long a runner may be silent before what it holds is given to others."""


DEPARTED_KEPT: Final = 10_000


class RunnerState(msgspec.Struct, kw_only=True, omit_defaults=True):
    """A runner as it stands. `held` has the (run, job) pairs that occupy its slots; `gone` is why it is no more,
    `left` that it went in good order.

    A `replaced` one was proved dead by its next incarnation, and is about to be lost.
    """

    runner: str
    name: str
    labels: frozenset[str]
    slots: int
    drained: bool = False
    gone: str = ""
    left: bool = False
    replaced: bool = False
    held: set[tuple[str, str]] = set()
    cause: str = ""

    @property
    def free(self) -> int:
        return 0 if self.gone or self.drained or self.replaced else self.slots - len(self.held)


class Fleet(msgspec.Struct, kw_only=True, omit_defaults=True):
    """All runners that offer slots or still hold some, and whether everything is paused.

    `departed` remembers why the last ones went: an incarnation that is gone never comes back. `drained` has the names
    that are to take nothing new, until they are resumed.
    """

    runners: dict[str, RunnerState] = {}
    departed: dict[str, str] = {}
    drained: tuple[str, ...] = ()
    paused: str | None = None


def evolve(fleet: Fleet, envelope: Envelope) -> Fleet:
    """Fold one event about runners. Never raises; one that makes no sense changes nothing."""
    match envelope.data:
        case RunnerRegistered() as event:
            if event.runner not in fleet.runners and event.runner not in fleet.departed:
                fleet.runners[event.runner] = RunnerState(
                    runner=event.runner,
                    name=event.name,
                    labels=frozenset(event.labels),
                    slots=event.slots,
                    cause=envelope.id,
                )
            for runner in event.replaces:
                if runner in fleet.runners and runner != event.runner:
                    fleet.runners[runner].replaced = True
        case RunnerDrained(runner=runner) if runner in fleet.runners:
            fleet.runners[runner].drained = True
            fleet.drained = tuple(sorted({*fleet.drained, fleet.runners[runner].name}))
        case RunnerResumed(runner=runner):
            _resume(fleet, runner)
        case RunnerLost(runner=runner, reason=reason) if runner in fleet.runners:
            _gone(fleet.runners[runner], reason, envelope.id)
        case RunnerLeft(runner=runner) if runner in fleet.runners:
            fleet.runners[runner].left = True
            _gone(fleet.runners[runner], "it stopped", envelope.id)
        case FleetPaused(reason=reason) if fleet.paused is None:
            fleet.paused = reason
        case FleetResumed():
            fleet.paused = None
        case _:
            pass
    return fleet


def _resume(fleet: Fleet, runner: str) -> None:
    """`runner` is an incarnation, or the name of one that is away."""
    known = fleet.runners.get(runner)
    if known is not None:
        known.drained = False
    name = known.name if known is not None else runner
    fleet.drained = tuple(one for one in fleet.drained if one != name)


def bury(fleet: Fleet, runner: str) -> None:
    """Forget a runner that is gone and holds nothing, but for its name."""
    fleet.departed[runner] = fleet.runners.pop(runner).gone
    if len(fleet.departed) > DEPARTED_KEPT:
        del fleet.departed[next(iter(fleet.departed))]


def _gone(runner: RunnerState, reason: str, cause: str) -> None:
    if not runner.gone:
        runner.gone = reason or "it is gone"
        runner.cause = cause


class Presence:
    """When each runner was last heard, and who has been silent for a whole lease. Times are monotonic seconds."""

    def __init__(self, *, lease_seconds: float = LEASE_SECONDS) -> None:
        self.lease_seconds = lease_seconds
        self._heard: dict[str, float] = {}
        self._deadlines: list[tuple[float, str]] = []

    def heard(self, runner: str, now: float) -> None:
        """The runner has asked something just now."""
        if runner not in self._heard:
            heapq.heappush(self._deadlines, (now + self.lease_seconds, runner))
        self._heard[runner] = now

    def begin(self, runners: list[str], now: float) -> None:
        """Everybody has a whole lease from now: after an election, or when nobody could be heard for a while."""
        for runner in runners:
            self.heard(runner, now)

    def silences(self, now: float) -> dict[str, float]:
        """How long each runner has been silent, in seconds."""
        return {runner: max(0.0, now - heard) for runner, heard in self._heard.items()}

    def silent(self, now: float) -> list[str]:
        """The runners whose lease has ended, each named once. Costs what it says."""
        found = []
        while self._deadlines and self._deadlines[0][0] <= now:
            _, runner = heapq.heappop(self._deadlines)
            last = self._heard.get(runner)
            if last is None:
                continue
            if last + self.lease_seconds > now:
                heapq.heappush(self._deadlines, (last + self.lease_seconds, runner))
                continue
            del self._heard[runner]
            found.append(runner)
        return found

    def next_deadline(self) -> float | None:
        """The earliest moment at which `silent` could have something to say."""
        return self._deadlines[0][0] if self._deadlines else None
