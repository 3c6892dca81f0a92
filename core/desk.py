"""The coordinator's desk: asks come in, entries for the log go out. No I/O, no clock of its own, no waiting.

The desk holds the world as if everything it has written were already durable. Its entries expect one another, so when
one of them fails the desk is thrown away and a new one is made from the log; asks that were under way are heard again
by the new one, and find what was stored. `headway.core.coordinator` is the shell with the I/O; a simulator is another.
"""

from __future__ import annotations

from typing import Final

import msgspec

from headway.core import asks
from headway.core.asks import Answer, AnyAsk
from headway.core.envelope import Envelope, Fact, decode, encode, subject_of
from headway.core.errors import BrokenError
from headway.core.events import CoordinatorCheckpointed, CoordinatorElected, RunCompleted, RunnerLost
from headway.core.fleet import Presence
from headway.core.hearing import Heard, hear
from headway.core.log import Entry, Stored
from headway.core.plan import Plan, digest_of
from headway.core.schedule import COORDINATOR, next_events
from headway.core.world import World, restore

CHECKPOINT_EVERY: Final = 10_000
ELECTION_GRACE_SECONDS: Final = 3.0
"""How long a coordinator that lost the baton may not know it yet, and still renew leases."""


class Desk:
    """One coordinator's view of the log, up to and including what it has written itself."""

    def __init__(self, coordinator: str, *, world: World | None = None, presence: Presence | None = None) -> None:
        self.coordinator = coordinator
        self.world = world or World()
        self.presence = presence or Presence()

    def take(self, stored: Stored) -> None:
        """Fold an entry read from the log. Raises a HeadwayError for one that cannot be read."""
        try:
            envelope = decode(stored.body)
        except msgspec.MsgspecError as error:
            raise BrokenError(
                f"event {stored.seq} of the log cannot be read: {error}",
                next="'headway verify --all' names all that is wrong; restore a backup",
            ) from error
        self.world.apply(envelope, stored.body, stored.seq)

    def begin(self, now: float, *, at: int) -> None:
        """Start to listen: every runner known has a whole lease from when no earlier coordinator answers any more."""
        self.world.begin(now, at=at)
        self.presence.begin(list(self.world.fleet.runners), now + ELECTION_GRACE_SECONDS)

    def plans_missing(self) -> list[tuple[str, str]]:
        """(run, plan digest) of runs whose plan has not been given yet."""
        return [(run.id, run.plan_digest) for run in self.world.runs.values() if run.id not in self.world.plans]

    def hear(
        self, ask: AnyAsk, *, actor: str, now: float, at: int, plan: Plan | None = None
    ) -> tuple[Answer, list[Entry]]:
        """Judge an ask. The answer holds once the entries are durable; with none, once all that is written is."""
        runner = getattr(ask, "runner", "")
        if isinstance(ask, asks.RunnerAsk) and (
            runner in self.world.fleet.runners or isinstance(ask, asks.RegisterRunner)
        ):
            self.presence.heard(runner, now)
        heard: Heard = hear(self.world, ask, actor=actor, plan=plan)
        if heard.answer is not None:
            return heard.answer, []
        if plan is not None and isinstance(ask, asks.AdmitRun):
            self.world.give_plan(ask.run, plan)
        entries = self.write(heard.facts, at=at)
        return Answer(seq=self.world.seq), entries

    def decide(self, *, now: float, at: int) -> list[Entry]:
        """Everything that follows from the state as it is, until all is quiet."""
        self.world.pass_time(now, at=at)
        entries: list[Entry] = []
        for runner in self.presence.silent(now):
            state = self.world.fleet.runners.get(runner)
            if state is not None and not state.gone:
                reason = f"it has been silent for {self.presence.lease_seconds:g} s"
                entries += self.write(
                    [Fact(event=RunnerLost(runner=runner, reason=reason), id="", actor=COORDINATOR)], at=at
                )
        while facts := next_events(self.world):
            entries += self.write(facts, at=at)
        return entries

    def next_deadline(self) -> float | None:
        """The earliest moment at which time alone could make `decide` say something, by the monotonic clock."""
        deadlines = (self.presence.next_deadline(), self.world.resting.next_deadline())
        return min((one for one in deadlines if one is not None), default=None)

    def elected(self, *, at: int, headway_version: str, host: str, pid: int) -> list[Entry]:
        """The first word of a new coordinator; it hands on the last checkpoint known."""
        event = CoordinatorElected(
            coordinator=self.coordinator,
            headway_version=headway_version,
            host=host,
            pid=pid,
            checkpoint=self.world.checkpoint,
            checkpoint_seq=self.world.checkpoint_seq,
        )
        return self.write([Fact(event=event, id="", actor=COORDINATOR)], at=at)

    def checkpoint_due(self) -> bool:
        return self.world.seq - self.world.checkpoint_seq >= CHECKPOINT_EVERY

    def checkpointed(self, *, digest: str, seq: int, at: int) -> list[Entry]:
        """A checkpoint of the world at `seq` has been stored as a blob."""
        event = CoordinatorCheckpointed(coordinator=self.coordinator, checkpoint=digest, checkpoint_seq=seq)
        return self.write([Fact(event=event, id="", actor=COORDINATOR)], at=at)

    def write(self, facts: list[Fact], *, at: int) -> list[Entry]:
        """Give each fact its place, fold it, and return what is to be appended, in order."""
        return [self._write(fact, at) for fact in facts]

    def _write(self, fact: Fact, at: int) -> Entry:
        world = self.world
        run = world.runs.get(fact.run)
        n = (run.n if run else 0) + 1 if fact.run else 0
        prev = run.head if run else ""
        event = fact.event
        if isinstance(event, RunCompleted):
            event = msgspec.structs.replace(event, n=n, prev=prev)
        envelope = Envelope(
            id=fact.id or (f"{fact.run}:{n}" if fact.run else f"{self.coordinator}:{world.seq + 1}"),
            at=fact.at or at,
            actor=fact.actor,
            data=event,
            run=fact.run,
            job=fact.job,
            attempt=fact.attempt,
            because=fact.because,
            n=n,
            prev=prev,
        )
        project = run.project if run else getattr(event, "project", "")
        body = encode(envelope)
        seq = world.seq + 1
        world.apply(envelope, body, seq)
        # The log knows an entry by its bytes, so that "already there" can only ever mean this very entry.
        return Entry(subject=subject_of(envelope, project), id=digest_of(body)[7:39], body=body, expect=seq - 1)


def open_desk(coordinator: str, *, checkpoint: bytes | None = None, presence: Presence | None = None) -> Desk:
    """A desk that starts from a checkpoint, or from the beginning. Raises msgspec errors for bytes that are neither."""
    world = restore(checkpoint) if checkpoint is not None else None
    return Desk(coordinator, world=world, presence=presence)
