"""The runners as folded, and who has been heard of lately."""

from __future__ import annotations

import pytest

from headway.core.envelope import Envelope
from headway.core.events import (
    AnyEvent,
    FleetPaused,
    FleetResumed,
    RunnerDrained,
    RunnerLeft,
    RunnerLost,
    RunnerRegistered,
    RunnerResumed,
)
from headway.core.fleet import DEPARTED_KEPT, LEASE_SECONDS, Fleet, Presence, bury, evolve
from tests.core.story import life

A, B = life("a"), life("b")


def fleet(*events: AnyEvent) -> Fleet:
    """The fleet after these events."""
    found = Fleet(runners={}, departed={})
    for at, event in enumerate(events, 1):
        evolve(found, Envelope(id=f"e{at}", at=0, actor="test", data=event))
    return found


def registered(runner: str = A, *, slots: int = 2, replaces: tuple[str, ...] = ()) -> RunnerRegistered:
    return RunnerRegistered(runner=runner, name=runner[:-9], labels=("linux",), slots=slots, replaces=replaces)


# The fold


def test_a_registered_runner_offers_its_slots() -> None:
    """Less what it holds."""
    known = fleet(registered()).runners[A]
    known.held.add(("r1", "build"))
    assert (known.name, known.labels, known.slots, known.free) == ("a", frozenset({"linux"}), 2, 1)


@pytest.mark.parametrize(
    "events",
    [
        (RunnerDrained(runner=A),),
        (RunnerLost(runner=A, reason="silent"),),
        (RunnerLeft(runner=A),),
        (registered(B, replaces=(A,)),),
        (registered(B, replaces=(A,)), RunnerResumed(runner=A)),
    ],
    ids=["drained", "lost", "left", "replaced", "replaced and resumed"],
)
def test_a_runner_that_must_not_get_work_has_nothing_free(events: tuple[AnyEvent, ...]) -> None:
    """Drained, lost, left or replaced."""
    assert fleet(registered(), *events).runners[A].free == 0


def test_a_resumed_runner_is_free_again() -> None:
    """Draining can be taken back."""
    assert fleet(registered(), RunnerDrained(runner=A), RunnerResumed(runner=A)).runners[A].free == 2


def test_a_second_registration_changes_nothing() -> None:
    """A runner is what it was registered as; also one that is gone stays gone."""
    known = fleet(registered(), RunnerDrained(runner=A), registered(slots=9)).runners[A]
    assert (known.slots, known.drained) == (2, True)
    departed = fleet(registered(), RunnerLeft(runner=A))
    bury(departed, A)
    evolve(departed, Envelope(id="x", at=0, actor="test", data=registered()))
    assert departed.runners == {}
    assert departed.departed == {A: "it stopped"}


def test_a_runner_goes_once_for_the_first_reason() -> None:
    """What comes later does not rewrite why."""
    known = fleet(registered(), RunnerLost(runner=A, reason="silent"), RunnerLeft(runner=A)).runners[A]
    assert (known.gone, known.cause) == ("silent", "e2")


def test_a_runner_lost_without_a_reason_is_gone_all_the_same() -> None:
    """Being gone does not depend on words."""
    assert fleet(registered(), RunnerLost(runner=A, reason="")).runners[A].gone


def test_a_runner_cannot_replace_itself() -> None:
    """It is alive, or it could not register."""
    assert not fleet(registered(replaces=(A,))).runners[A].replaced


@pytest.mark.parametrize(
    "event",
    [
        RunnerDrained(runner=B),
        RunnerResumed(runner=B),
        RunnerLost(runner=B, reason="x"),
        RunnerLeft(runner=B),
        FleetResumed(),
    ],
)
def test_what_concerns_nobody_changes_nothing(event: AnyEvent) -> None:
    """The fold takes any history."""
    assert fleet(registered(), event) == fleet(registered())


def test_the_first_pause_counts_until_it_is_resumed() -> None:
    """A pause has one reason."""
    assert fleet(FleetPaused(reason="a"), FleetPaused(reason="b")).paused == "a"
    assert fleet(FleetPaused(), FleetResumed()).paused is None
    assert fleet(FleetPaused()).paused == ""


def test_only_the_last_departed_runners_are_remembered() -> None:
    """A fleet that comes and goes for years does not fill the memory."""
    found = Fleet(runners={}, departed={})
    for at in range(DEPARTED_KEPT + 5):
        evolve(found, Envelope(id="e", at=0, actor="test", data=registered(life("a", at))))
        evolve(found, Envelope(id="e", at=0, actor="test", data=RunnerLeft(runner=life("a", at))))
        bury(found, life("a", at))
    assert len(found.departed) == DEPARTED_KEPT
    assert next(iter(found.departed)) == life("a", 5)


# Presence


def test_a_runner_is_silent_exactly_a_lease_after_it_was_last_heard() -> None:
    """Each word of it begins the lease anew, and its silence is told once."""
    presence = Presence()
    presence.heard(A, 0.0)
    presence.heard(A, 10.0)
    assert presence.silent(LEASE_SECONDS) == []
    assert presence.silent(10.0 + LEASE_SECONDS - 0.001) == []
    assert presence.silent(10.0 + LEASE_SECONDS) == [A]
    assert presence.silent(100.0) == []


def test_everybody_has_a_whole_lease_from_the_beginning() -> None:
    """Whoever begins to listen could not have heard anybody before."""
    presence = Presence()
    presence.begin([A, B], 100.0)
    assert presence.silent(99.9 + LEASE_SECONDS) == []
    assert sorted(presence.silent(100.0 + LEASE_SECONDS)) == [A, B]


def test_a_word_heard_early_takes_nothing_from_the_time_given_at_the_beginning() -> None:
    """An earlier coordinator may have answered the runner after that word: its lease may end later than we know."""
    presence = Presence()
    presence.begin([A], 3.0)
    presence.heard(A, 0.5)
    assert presence.silent(0.5 + LEASE_SECONDS) == []
    assert presence.silent(3.0 + LEASE_SECONDS) == [A]


def test_a_runner_heard_again_after_its_silence_is_watched_again() -> None:
    """Silence is not for ever."""
    presence = Presence()
    presence.heard(A, 0.0)
    assert presence.silent(20.0) == [A]
    presence.heard(A, 21.0)
    assert presence.silent(21.0 + LEASE_SECONDS) == [A]


def test_there_is_always_a_next_moment_to_look_while_anybody_is_there() -> None:
    """And never one that lies after somebody's lease."""
    presence = Presence(lease_seconds=5)
    assert presence.next_deadline() is None
    presence.heard(A, 0.0)
    presence.heard(B, 1.0)
    presence.heard(A, 2.0)
    deadlines = []
    while (deadline := presence.next_deadline()) is not None:
        deadlines.append(deadline)
        presence.silent(deadline)
    assert deadlines == [5.0, 6.0, 7.0]


def test_presence_remembers_no_more_than_who_is_there() -> None:
    """However often a runner is heard, it is one line."""
    presence = Presence()
    for at in range(1000):
        presence.heard(A, float(at))
        presence.heard(life("x", at), float(at))
        presence.silent(float(at))
    assert presence.silent(2000.0)
    assert presence.next_deadline() is None
