"""The critical path of runs of every shape, by hand."""

from __future__ import annotations

import pytest

from headway.projections.path import ADMISSION, CLOSING, COORDINATOR, Course, Part, Span, Stay, critical_path


class Clock:
    """Events one after the other, each so many microseconds after the one before."""

    def __init__(self) -> None:
        self.seq = 0
        self.now = 1_000

    def tick(self, microseconds: int) -> tuple[int, int]:
        """The next event's sequence and time."""
        self.seq += 1
        self.now += microseconds
        return self.seq, self.now


def course(depends_on: tuple[str, ...], *moments: tuple[str, tuple[int, int]], attempt: int = 1) -> Course:
    """A job that entered these states at these moments; the last one may be `completed`."""
    stays = []
    for at, (state, (seq, entered)) in enumerate(moments):
        if state == "completed":
            break
        following = moments[at + 1][1] if at + 1 < len(moments) else (None, None)
        stays.append(Stay(0 if state == "admitted" else attempt, state, seq, entered, *following, f"who has {state}"))
    return Course(depends_on, stays)


def told(parts: list[Part]) -> list[tuple[str, str, int]]:
    """What a person remembers of a path."""
    return [(part.job, part.state, part.left - part.entered) for part in parts]


def whole(parts: list[Part], span: Span) -> None:
    """The parts follow each other from the beginning of the run to its end."""
    assert [part.entered for part in parts] == [span.admitted, *(part.left for part in parts[:-1])][: len(parts)]
    assert sum(part.left - part.entered for part in parts) == span.end - span.admitted


def test_a_diamond_is_explained_by_its_slower_side() -> None:
    """The path goes through the dependency that completed last, and through all of a job from its queue on."""
    clock = Clock()
    run = clock.now
    top, left, right, end = (clock.tick(10) for _ in range(4))
    top_queued, top_done = clock.tick(5), clock.tick(100)
    left_queued, right_queued = clock.tick(1), clock.tick(2)
    left_done, right_done = clock.tick(30), clock.tick(40)
    end_queued, end_begun, end_done = clock.tick(3), clock.tick(7), clock.tick(50)
    seq, now = clock.tick(9)
    courses = {
        "top": course((), ("admitted", top), ("queued", top_queued), ("completed", top_done)),
        "left": course(("top",), ("admitted", left), ("queued", left_queued), ("completed", left_done)),
        "right": course(("top",), ("admitted", right), ("queued", right_queued), ("completed", right_done)),
        "end": course(
            ("right", "left"),
            *(("admitted", end), ("queued", end_queued), ("assigned", end_begun), ("completed", end_done)),
        ),
    }
    span = Span(run, now, seq)
    found = critical_path(span, courses)
    assert told(found) == [
        ("top", ADMISSION, 10),
        ("top", "admitted", 35),
        ("top", "queued", 100),
        ("right", "admitted", 3),
        ("right", "queued", 70),
        ("end", "admitted", 3),
        ("end", "queued", 7),
        ("end", "assigned", 50),
        ("", CLOSING, 9),
    ]
    assert (found[0].holder, found[-1].holder, found[3].holder) == (COORDINATOR, COORDINATOR, "who has admitted")
    whole(found, span)


def test_of_two_that_end_in_one_microsecond_the_later_event_counts() -> None:
    """Time does not tell them apart, the sequence does; parts that took no time are left out."""
    courses = {
        "a": course((), ("admitted", (2, 10)), ("queued", (5, 20)), ("completed", (9, 30))),
        "b": course((), ("admitted", (3, 10)), ("queued", (6, 20)), ("completed", (8, 30))),
        "c": course(("a", "b"), ("admitted", (4, 10)), ("queued", (10, 30)), ("completed", (11, 35))),
    }
    found = critical_path(Span(10, 35, 12), courses)
    assert told(found) == [("a", "admitted", 10), ("a", "queued", 10), ("c", "queued", 5)]


def test_all_attempts_of_a_retried_job_are_on_the_path() -> None:
    """What a failed attempt took was waited for as well."""
    course_of_it = course((), ("admitted", (2, 0)), ("queued", (3, 1)), ("executing", (4, 3)), ("queued", (5, 9)))
    course_of_it.stays[-1].attempt = 2
    course_of_it.stays[-1].seq_left, course_of_it.stays[-1].left = 6, 20
    found = critical_path(Span(0, 20, 7), {"flaky": course_of_it})
    assert [(part.attempt, part.state, part.left - part.entered) for part in found] == [
        (0, "admitted", 1),
        (1, "queued", 2),
        (1, "executing", 6),
        (2, "queued", 11),
    ]


def test_a_job_that_was_added_after_its_dependency_had_ended() -> None:
    """Between the end of the one and the admission of the other the run waited for the coordinator."""
    courses = {
        "first": course((), ("admitted", (2, 0)), ("queued", (3, 0)), ("completed", (4, 10))),
        "added": course(("first",), ("admitted", (5, 25)), ("queued", (6, 27)), ("completed", (7, 40))),
    }
    found = critical_path(Span(0, 41, 8), courses)
    assert told(found) == [
        ("first", "queued", 10),
        ("added", ADMISSION, 15),
        ("added", "admitted", 2),
        ("added", "queued", 13),
        ("", CLOSING, 1),
    ]


def test_a_job_that_stopped_waiting_before_its_dependency_ended() -> None:
    """A cancelled job waited for what had ended by then, not for what ended later."""
    courses = {
        "slow": course((), ("admitted", (2, 0)), ("queued", (4, 1)), ("completed", (9, 40))),
        "quick": course((), ("admitted", (3, 0)), ("queued", (5, 2)), ("completed", (6, 12))),
        "never": course(("quick", "slow"), ("admitted", (7, 13)), ("completed", (10, 50))),
        "gone": course(("quick", "slow"), ("admitted", (8, 13)), ("completed", (11, 38))),
    }
    courses["slow"].stays[-1].seq_left = 12
    courses["slow"].stays[-1].left = 51
    assert told(critical_path(Span(0, 52, 13), courses))[-2:] == [("slow", "queued", 50), ("", CLOSING, 1)]
    del courses["slow"]
    found = critical_path(Span(0, 52, 13), courses)
    assert told(found)[-3:] == [("gone", ADMISSION, 1), ("gone", "admitted", 25), ("", CLOSING, 14)]
    whole(found, Span(0, 52, 13))


@pytest.mark.parametrize(("seq_completed", "state"), [(None, ADMISSION), (5, CLOSING)])
def test_a_run_without_jobs_is_the_coordinators(seq_completed: int | None, state: str) -> None:
    """Before its jobs are there, and when it never had any."""
    assert critical_path(Span(10, 30, seq_completed), {}) == [Part("", 0, state, 0, 10, 30, COORDINATOR)]


def test_an_unfinished_run_ends_with_what_stands_longest() -> None:
    """The open job that has been longest in its state without waiting for another; its state goes up to now."""
    courses = {
        "done": course((), ("admitted", (2, 0)), ("queued", (5, 1)), ("completed", (8, 9))),
        "new": course(("done",), ("admitted", (3, 0)), ("queued", (9, 10)), ("assigned", (10, 12))),
        "old": course((), ("admitted", (4, 0)), ("queued", (6, 1)), ("assigned", (7, 5))),
        "waits": course(("old",), ("admitted", (1, 0))),
    }
    found = critical_path(Span(0, 30, None), courses)
    assert told(found) == [("old", "admitted", 1), ("old", "queued", 4), ("old", "assigned", 25)]


def test_an_unfinished_run_whose_jobs_wait_for_the_coordinator() -> None:
    """A job that could be queued and is not stands too; with every job over the run is closing."""
    courses = {
        "done": course((), ("admitted", (2, 0)), ("queued", (5, 1)), ("completed", (8, 9))),
        "ready": course(("done",), ("admitted", (3, 0))),
    }
    found = critical_path(Span(0, 30, None), courses)
    assert told(found) == [("done", "admitted", 1), ("done", "queued", 8), ("ready", "admitted", 21)]
    del courses["ready"]
    assert told(critical_path(Span(0, 30, None), courses))[-1] == ("", CLOSING, 21)


def test_jobs_that_wait_for_each_other_end_the_walk() -> None:
    """No plan is so; a log may be, and every step of the walk still goes to an earlier event."""
    courses = {
        "a": course(("b", "a"), ("admitted", (2, 0)), ("completed", (4, 10))),
        "b": course(("a", "missing"), ("admitted", (3, 0)), ("completed", (5, 20))),
    }
    found = critical_path(Span(0, 21, 6), courses)
    assert told(found) == [("a", "admitted", 10), ("b", "admitted", 10), ("", CLOSING, 1)]


def test_what_ended_after_the_seal_is_not_on_the_path() -> None:
    """A run's end cannot have waited for what came after it."""
    courses = {
        "a": course((), ("admitted", (2, 0)), ("completed", (3, 10))),
        "late": course((), ("admitted", (4, 5)), ("completed", (9, 99))),
        "open": course((), ("admitted", (5, 5)), ("queued", (6, 7))),
    }
    assert told(critical_path(Span(0, 20, 8), courses)) == [("a", "admitted", 10), ("", CLOSING, 10)]
