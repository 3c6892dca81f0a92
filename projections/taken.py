"""What others hold that a job waits for: who they are, how long they will still take, and what is not known of that."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec

from headway.core.clock import from_us
from headway.core.queue import Waiting
from headway.projections.answers import Facts, Holds
from headway.projections.expected import Usual
from headway.projections.ground import Ground, Open
from headway.projections.line import FORESEEN, expected_wait
from headway.projections.silence import silence_of, silent_ms
from headway.projections.words import about, counted, listed, short, span

HOLDERS_MOST: Final = 10
"""So many holders and runners are told; all of them count."""


class Taken:
    """Slots or places of a group that these jobs hold, as another one sees it that waits for them."""

    def __init__(self, ground: Ground, job: Open, holders: Sequence[Open]) -> None:
        self.holders = holders
        self._ground = ground
        self._job = job
        self._silence = silence_of(ground, holders)
        self._left = [None if silent_ms(ground, one) is not None else ground.left_ms(one) for one in holders]

    @property
    def words(self) -> str:
        """By whom they are taken, for how long already, how long that usually takes, and whether that is known now."""
        said = []
        for one in self.holders:
            age = span((self._ground.now_us - (one.started or one.entered)) // 1000)
            usual = self._ground.usual_of(one)
            usually = f", usually {span(usual.ms)} ({of_runs(usual)})" if usual else ""
            run = f" of run {short(one.run)}" if one.run != self._job.run else ""
            said.append(f"{one.job}{run} for {age}{usually}")
        return f"by {listed(said)}" + (f"; {self._silence.words}" if self._silence else "")

    def wait(self, before: Sequence[Waiting]) -> int | None:
        """How long until one is free for who has these before it; None when that is not known."""
        if len(before) > FORESEEN:
            return None
        ahead = [self._ground.usual_of(self._ground.open_of[one.run][one.job]) for one in before]
        return expected_wait(self._left, [one.ms if one else None for one in ahead])

    def unblocks(self, wait: int | None, what: str) -> str:
        """What would make room."""
        if self._silence and all(silent_ms(self._ground, one) is not None for one in self.holders):
            return f"the word of {listed(self._silence.runners)}; without it its slots go with it when the lease ends"
        one = self.holders[0]
        alone = len(self.holders) == 1
        which = f"the end of {one.job}" if alone else f"the end of one of these {len(self.holders)} jobs"
        usual = [found for held in self.holders if (found := self._ground.usual_of(held))]
        late = [held for held in self.holders if self._ground.over(held)]
        if wait is not None:
            return f"{which}: {what} is expected in {about(wait)} ({of_runs(min(usual, key=lambda each: each.runs))})"
        if late and alone:
            return f"{which}, which takes {longer(usual[0])}"
        if late:
            return f"{which}; {listed([held.job for held in late])} take{'s' * (len(late) == 1)} longer than usual"
        return which

    @property
    def unknown(self) -> str:
        """What keeps their end from being foreseen, "" for nothing."""
        late = [one.job for one in self.holders if self._ground.over(one)]
        if self._silence:
            runners = self._silence.runners
            return f"whether {listed(runners)} still work{'s' * (len(runners) == 1)} on what {_hold(runners)}"
        return unknown_end(self._ground, self.holders) or (f"how much longer {listed(late)} will take" if late else "")

    def facts(self, facts: Facts) -> Facts:
        """The facts with who holds what."""
        held = tuple(
            Holds(
                run=one.run,
                job=one.job,
                runner=one.runner or "",
                since=from_us(one.started or one.entered),
                expected_left_ms=left,
                from_runs=usual.runs if (usual := self._ground.usual_of(one)) else 0,
            )
            for one, left in zip(self.holders[:HOLDERS_MOST], self._left, strict=False)
        )
        silence = self._silence
        return msgspec.structs.replace(
            facts,
            held_by=held,
            silent_ms=silence.silent_ms if silence else None,
            lease_left_ms=silence.left_ms if silence else None,
        )


def _hold(runners: Sequence[str]) -> str:
    return "it holds" if len(runners) == 1 else "they hold"


def unknown_end(ground: Ground, jobs: Sequence[Open], *, name: str = "") -> str:
    """Why it is not known how long these jobs take; "" when past runs say it. One alone may have another `name`."""
    strange = [one for one in jobs if ground.usual_of(one) is None]
    if not strange:
        return ""
    how = f"how long {name or listed(list(dict.fromkeys(one.job for one in strange)))} will take"
    ran, alone = [ground.ran(one) for one in strange], len(strange) == 1
    if None in ran:
        return how
    if not any(ran):
        return f"{how}: {'it has not' if alone else 'none of them has'} run before"
    return f"{how}: {'none of its past runs' if alone else 'no past run of them'} succeeded"


def longer(usual: Usual) -> str:
    """That something takes longer than it usually does."""
    return f"longer than usual ({span(usual.ms)}, {of_runs(usual)})"


def of_runs(usual: Usual) -> str:
    """Of how many past runs a usual time is."""
    return f"of {counted(usual.runs, 'past run')}"
