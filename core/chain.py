"""Whether a log is what its events say it is: their order, the chain of each run, its seal and its outcome.

`Chain` takes entries in the order of the log and keeps, for each unfinished run, the number and the digest of its last
event, as the coordinator does; and of each run that is over its id and where it ended, which is 200 bytes a run and
grows with the log: nothing may come after an end, however late. After something wrong it goes on from what is there:
a missing event is named once, and not again with every event after it.

An event's own name on the log comes of its bytes, and the next event of its run repeats their digest. So a changed
event is found even where its name was changed too; then one of two neighbours is wrong, and both are named. What
cannot be found here: a last event that was changed together with its name, or cut off, and a history that somebody
wrote anew from some event to its end. Whoever keeps a copy (the tables, a backup) can tell.
"""

from __future__ import annotations

from typing import Final

import msgspec

from headway.core import run as runs
from headway.core.envelope import Envelope, decode, digest, subject_of
from headway.core.errors import HeadwayError
from headway.core.events import JobEvent, RunAdmitted, RunCompleted, RunEvent, StepEvent, type_of
from headway.core.findings import Finding
from headway.core.log import Stored
from headway.core.run import Run

UNREADABLE: Final = (msgspec.MsgspecError, HeadwayError, ValueError, TypeError, RecursionError)
"""What decoding bytes raises that are no event of this version."""

OF_A_RUN: Final = RunEvent | JobEvent | StepEvent
RESTORE: Final = "restore a backup that has it, see 'headway restore --help'"
CHANGED: Final = f"somebody or something changed the log; {RESTORE}"


class Seen(msgspec.Struct):
    """A run on its way: the last event, and the fold while its chain is whole."""

    state: Run
    n: int = 0
    seq: int = 0
    head: str = ""
    whole: bool = True


class Read(msgspec.Struct):
    """An entry of the log, and the event in it where it can be read."""

    stored: Stored
    envelope: Envelope | None


def read_entry(stored: Stored) -> Read:
    """The entry with its event. Never raises."""
    try:
        return Read(stored, decode(stored.body))
    except UNREADABLE:
        return Read(stored, None)


def named(envelope: Envelope, seq: int) -> str:
    """An event as people call it: `event 17, job.queued of job build, the 3rd of run ...`."""
    words = f"event {seq} ({type_of(envelope.data)}"
    if envelope.job:
        words += f" of job {envelope.job}" + (f", attempt {envelope.attempt}" if envelope.attempt else "")
    return words + (f", number {envelope.n} of run {envelope.run})" if envelope.run else ")")


class Chain:
    """Checks entries as they come. `on_log` says that they are the log's own and not copies without names.

    With `run` the entries are those of one run only, so that sequences have gaps.
    """

    def __init__(self, *, on_log: bool = True, run: str = "") -> None:
        self.position = 0
        self.events = 0
        self.runs: dict[str, Seen] = {}
        self._on_log = on_log
        self._run = run
        self._sealed: dict[str, int] = {}

    @property
    def run_count(self) -> int:
        """How many runs there were."""
        return len(self.runs) + len(self._sealed)

    def take(self, entries: list[Read]) -> list[Finding]:
        """What is wrong with the next entries."""
        found: list[Finding] = []
        for one in entries:
            found += self._take(one)
        return found

    def finish(self, end: int) -> list[Finding]:
        """What is wrong at the end, which was said to be the event `end`."""
        if self._run:
            return []
        return self._gap(end + 1)

    def _take(self, one: Read) -> list[Finding]:
        stored = one.stored
        found = self._place(stored)
        self.events += 1
        if self._on_log and stored.id != digest(stored.body)[7:39]:
            found.append(self._misnamed(one))
        if one.envelope is None:
            found.append(_unreadable(stored))
            self._take_unreadable(stored)
            return found
        if not one.envelope.run:
            return [*found, *self._outside(one.envelope, stored)]
        return [*found, *self._of_run(one.envelope, stored)]

    def _place(self, stored: Stored) -> list[Finding]:
        found: list[Finding] = []
        if stored.seq <= self.position:
            words = f"event {stored.seq} comes after event {self.position} on the log"
            return [Finding(code="order", words=words, seq=stored.seq, next=CHANGED)]
        if not self._run:
            found = self._gap(stored.seq)
        self.position = stored.seq
        return found

    def _gap(self, seq: int) -> list[Finding]:
        """The events between the last one and this sequence."""
        first, last = self.position + 1, seq - 1
        if first > last:
            return []
        what = f"event {first} is" if first == last else f"events {first} to {last} are"
        return [Finding(code="missing", words=f"{what} missing on the log", seq=first, next=RESTORE)]

    def _misnamed(self, one: Read) -> Finding:
        stored = one.stored
        what = named(one.envelope, stored.seq) if one.envelope is not None else f"event {stored.seq}"
        return Finding(
            code="changed",
            words=f"{what} was changed: its bytes are not those that it is named by",
            run=one.envelope.run if one.envelope is not None else run_in(stored.subject),
            seq=stored.seq,
            n=one.envelope.n if one.envelope is not None else 0,
            next=CHANGED,
        )

    def _take_unreadable(self, stored: Stored) -> None:
        """It still has a place in its run, and the next event names its bytes."""
        seen = self.runs.get(run_in(stored.subject))
        if seen is not None:
            seen.n, seen.seq, seen.head, seen.whole = seen.n + 1, stored.seq, digest(stored.body), False

    def _outside(self, envelope: Envelope, stored: Stored) -> list[Finding]:
        """An event of no run: nothing follows it, so that only its name and its place can be looked at."""
        found: list[Finding] = []
        what = named(envelope, stored.seq)
        if isinstance(envelope.data, OF_A_RUN) or envelope.n or envelope.prev:
            words = f"{what} says of a run, but names none"
            found.append(Finding(code="subject", words=words, seq=stored.seq, next=CHANGED))
        elif self._on_log and stored.subject != subject_of(envelope, ""):
            found.append(_misplaced(envelope, stored))
        place = envelope.id.rpartition(":")[2]
        if self._on_log and place.isdigit() and place != str(stored.seq):
            words = f"{what} was written as event {place[:20]}"
            found.append(Finding(code="order", words=words, seq=stored.seq, next=CHANGED))
        return found

    def _of_run(self, envelope: Envelope, stored: Stored) -> list[Finding]:
        if self._run not in ("", envelope.run):
            return [_misplaced(envelope, stored)]
        if envelope.run in self._sealed:
            words = f"{named(envelope, stored.seq)} comes after the run's end, which is event "
            return [_about(envelope, stored, "sealed", words + str(self._sealed[envelope.run]))]
        seen = self.runs.get(envelope.run)
        if seen is None:
            seen = self.runs[envelope.run] = Seen(state=Run(id=envelope.run, jobs={}, dependents={}))
        found = self._subject(seen, envelope, stored) + _link(seen, envelope, stored)
        if envelope.n <= seen.n and not _follows(seen, envelope):
            return found  # a second one, or one that is late: the run goes on from the one before it
        if isinstance(envelope.data, RunCompleted):
            found += _seal(seen, envelope, stored)
            self._sealed[envelope.run] = stored.seq
            del self.runs[envelope.run]
        runs.evolve(seen.state, envelope, stored.seq)
        seen.n = seen.n + 1 if _follows(seen, envelope) else envelope.n
        seen.seq, seen.head = stored.seq, digest(stored.body)
        return found

    def _subject(self, seen: Seen, envelope: Envelope, stored: Stored) -> list[Finding]:
        event = envelope.data
        project = event.project if isinstance(event, RunAdmitted) else seen.state.project
        if not isinstance(event, OF_A_RUN):
            words = f"{named(envelope, stored.seq)} names a run, but is not of any"
            return [_about(envelope, stored, "subject", words)]
        if not self._on_log or (not project and not isinstance(event, RunAdmitted)):
            return []
        return [_misplaced(envelope, stored)] if stored.subject != subject_of(envelope, project) else []


def run_in(subject: str) -> str:
    """The run that a subject is of, "" when it is of none."""
    part = subject.split(".")
    return part[3] if len(part) > 4 and part[:2] == ["headway", "run"] else ""


def _follows(seen: Seen, envelope: Envelope) -> bool:
    """Whether an event says that it comes after the last one, whatever number it has."""
    return seen.n > 0 and envelope.prev == seen.head


def _link(seen: Seen, envelope: Envelope, stored: Stored) -> list[Finding]:
    """Whether an event follows the one before it in its run."""
    n, what = envelope.n, named(envelope, stored.seq)
    if n != seen.n + 1:
        seen.whole = False
        if _follows(seen, envelope):
            words = f"{what} was changed: it comes after number {seen.n} of its run"
            return [_about(envelope, stored, "changed", words)]
        if n <= seen.n:
            words = f"{what} comes after number {seen.n} of the run, which is event {seen.seq}"
            return [_about(envelope, stored, "order", words)]
        first, last = seen.n + 1, n - 1
        missing = f"number {first} is" if first == last else f"numbers {first} to {last} are"
        where = f"between event {seen.seq} and event {stored.seq}" if seen.seq else f"before event {stored.seq}"
        words = f"{missing} missing in run {envelope.run}, {where}"
        return [Finding(code="missing", words=words, run=envelope.run, seq=stored.seq, n=first, next=RESTORE)]
    if n == 1 and not isinstance(envelope.data, RunAdmitted):
        seen.whole = False
        return [_about(envelope, stored, "admission", f"{what} is the run's first, and does not admit it")]
    if envelope.prev == seen.head:
        return []
    if n == 1:
        words = f"{what} was changed: it names an event before it, and is the first"
        return [_about(envelope, stored, "changed", words)]
    words = (
        f"event {seen.seq} (number {n - 1} of run {envelope.run}) or event {stored.seq} (number {n}, "
        f"{type_of(envelope.data)}) was changed: the second does not name the bytes of the first"
    )
    return [_about(envelope, stored, "changed", words)]


def _seal(seen: Seen, envelope: Envelope, stored: Stored) -> list[Finding]:
    """Whether the end of a run is what its events come to."""
    event, run = envelope.data, seen.state
    assert isinstance(event, RunCompleted), "only the end seals"
    wrong: list[str] = []
    if event.n != envelope.n:
        wrong.append(f"its seal says number {event.n}")
    if event.prev != envelope.prev:
        wrong.append("its seal names another event before it than it does itself")
    if seen.whole and run.admitted_seq:
        if event.jobs != len(run.jobs):
            wrong.append(f"it counts {event.jobs} jobs, and {len(run.jobs)} were admitted")
        if run.job_count != len(run.jobs):
            wrong.append(f"the run was admitted with {run.job_count} jobs, and has {len(run.jobs)}")
        if run.open_jobs:
            wrong.append(f"{run.open_jobs} of its jobs have not completed")
        elif event.outcome is not (outcome := runs.outcome_of(run)):
            wrong.append(f"it says {event.outcome}, and its jobs come to {outcome}")
    return [_about(envelope, stored, "seal", f"{named(envelope, stored.seq)}: {one}") for one in wrong]


def _unreadable(stored: Stored) -> Finding:
    try:
        decode(stored.body)
        why = "it can be read now"
    except UNREADABLE as error:
        why = str(error)
    words = f"event {stored.seq} on {stored.subject or 'the log'} cannot be read: {why[:200]}"
    return Finding(code="unreadable", words=words, run=run_in(stored.subject), seq=stored.seq, next=RESTORE)


def _misplaced(envelope: Envelope, stored: Stored) -> Finding:
    words = f"{named(envelope, stored.seq)} is on the subject {stored.subject}, where it does not belong"
    return _about(envelope, stored, "subject", words)


def _about(envelope: Envelope, stored: Stored, code: str, words: str) -> Finding:
    return Finding(code=code, words=words, run=envelope.run, seq=stored.seq, n=envelope.n, next=CHANGED)
