"""The critical path of a run: the chain of stays in states that explains its whole time, with nothing between them.

Theory of operation. The walk goes back from the run's end. The job that completed last held the run up; it was held up
in its states, and before those by the dependency that completed last while it was waiting; and so on until a job that
waited for no other. What lies before that is the run's own admission, what lies after the last job its closing. Of two
events the one with the higher sequence is the later one, whatever the time says: a batch may share a microsecond.

Each step goes to an earlier event, so the walk ends whatever the plan says. The parts are contiguous: their durations
add up to the run's, exactly.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

from headway.core.states import State

ADMISSION: Final = "admission"
"""Before the first job of the path was admitted, or any."""
CLOSING: Final = "closing"
"""After the last job has completed."""
COORDINATOR: Final = "coordinator"
_ADMITTED: Final = State.ADMITTED.value


class Stay(msgspec.Struct, gc=False):
    """A stay of a job in a state: entered with the event `seq`, left with `seq_left`, both None while it lasts."""

    attempt: int
    state: str
    seq: int
    entered: int
    seq_left: int | None
    left: int | None
    holder: str


class Course(msgspec.Struct, gc=False):
    """What a job has gone through, in order. It is over when it has left its last stay and stands in no other."""

    depends_on: Sequence[str]
    stays: list[Stay]

    @property
    def over(self) -> bool:
        """Whether the job has completed."""
        return bool(self.stays) and self.stays[-1].left is not None


class Span(msgspec.Struct, frozen=True):
    """A run's beginning and its end; while it has none, `seq_completed` is None and `end` is now."""

    admitted: int
    end: int
    seq_completed: int | None


class Part(msgspec.Struct, frozen=True, gc=False):
    """A part of the path, in microseconds since 1970 UTC; `seq` is the event with which the state was entered.

    A part of a run's admission or closing has no attempt and no `seq`.
    """

    job: str
    attempt: int
    state: str
    seq: int
    entered: int
    left: int
    holder: str


def critical_path(span: Span, courses: Mapping[str, Course]) -> list[Part]:
    """The parts in order of time, from the run's admission to its end; stays that took no time are left out."""
    parts: list[Part] = []
    end = span.end
    name = _last(span, courses)
    if name is None:
        parts.append(_own(ADMISSION if span.seq_completed is None else CLOSING, "", span.admitted, end))
    elif courses[name].over:
        end = _ended(courses[name])[1]
        parts.append(_own(CLOSING, "", end, span.end))
    while name is not None:
        course = courses[name]
        waited_for = _waited_for(course, courses)
        begin = span.admitted if waited_for is None else _ended(courses[waited_for])[1]
        for stay in reversed(course.stays):
            if stay.state == _ADMITTED and begin > stay.entered:
                parts.append(_part(name, stay, begin, end))
                break
            parts.append(_part(name, stay, stay.entered, end))
            end = stay.entered
        else:
            parts.append(_own(ADMISSION, name, begin, end))
        end, name = begin, waited_for
    return [part for part in reversed(parts) if part.left > part.entered]


def _last(span: Span, courses: Mapping[str, Course]) -> str | None:
    """The job that the run's end waited for, or waits for."""
    known = {name: course for name, course in courses.items() if course.stays}
    if span.seq_completed is None:
        busy = {name: course.stays[-1].seq for name, course in known.items() if _stands_alone(course, courses)}
        if busy:
            return min(busy, key=busy.__getitem__)
    until = span.seq_completed
    ended = {name: _ended(course)[0] for name, course in known.items() if course.over}
    in_time = {name: seq for name, seq in ended.items() if until is None or seq <= until}
    return max(in_time, key=in_time.__getitem__, default=None)


def _stands_alone(course: Course, courses: Mapping[str, Course]) -> bool:
    """Whether an unfinished job waits for something else than another job."""
    if course.over:
        return False
    if course.stays[-1].state != _ADMITTED:
        return True
    return all(name in courses and courses[name].over for name in course.depends_on)


def _waited_for(course: Course, courses: Mapping[str, Course]) -> str | None:
    """The dependency that completed last of those that had completed when the job stopped waiting."""
    until = course.stays[0].seq_left
    found: str | None = None
    latest = 0
    for name in course.depends_on:
        dependency = courses.get(name)
        if dependency is None or not dependency.over:
            continue
        seq = _ended(dependency)[0]
        if seq > latest and (until is None or seq < until):
            found, latest = name, seq
    return found


def _ended(course: Course) -> tuple[int, int]:
    """The event and the time of a job's end, once it is over."""
    last = course.stays[-1]
    assert last.seq_left is not None, "a job that is over has left its last state"
    assert last.left is not None, "a job that is over has left its last state"
    return last.seq_left, last.left


def _part(job: str, stay: Stay, entered: int, left: int) -> Part:
    return Part(job, stay.attempt, stay.state, stay.seq, entered, left, stay.holder)


def _own(state: str, job: str, entered: int, left: int) -> Part:
    return Part(job, 0, state, 0, entered, left, COORDINATOR)
