"""Every change of a log is found and named by the event it happened to; a log that is whole is found whole."""

from __future__ import annotations

import msgspec
import pytest

from headway.core.chain import Chain, named, read_entry, run_in
from headway.core.envelope import decode, encode
from headway.core.findings import ALIKE_MAX, Finding, Findings
from headway.core.states import Outcome
from tests.projections.histories import eventful
from tests.tampering import Entries, Tamper, changed, left_out, other, put_in, renamed, swapped, with_names

PASSED, LAST_OF_PASSED, RETRIED = 4, 32, 33
"""Where a run that passed was admitted and sealed, and where the next one was admitted."""


def whole() -> Entries:
    """A service's day as its coordinator wrote it."""
    return with_names(eventful().log.entries)


def wrong(entries: Entries, *, run: str = "", end: int = 0) -> list[Finding]:
    """What is wrong with these entries."""
    chain = Chain(run=run)
    found = chain.take([read_entry(one) for one in entries])
    return found + chain.finish(end or max((one.seq for one in entries), default=0))


def said(found: list[Finding]) -> str:
    """All of it, a line each."""
    return "\n".join(one.words for one in found)


def test_whole_log_is_found_whole() -> None:
    """Nothing is found in a log that is as it was written, and all of it is counted."""
    entries = whole()
    chain = Chain()
    assert chain.take([read_entry(one) for one in entries]) + chain.finish(len(entries)) == []
    assert (chain.events, chain.run_count) == (len(entries), 5)


def test_one_run_is_found_whole() -> None:
    """The events of one run alone, with the gaps that others leave on the log, are whole too."""
    entries = whole()
    run = decode(entries[RETRIED - 1].body).run
    assert wrong([one for one in entries if decode(one.body).run == run], run=run) == []


CHANGES: list[tuple[int, dict[str, object]]] = [
    (4, {"data": {"pipeline": "other"}}),
    (8, {"at": 1}),
    (9, {"actor": "user:eve"}),
    (10, {"because": "nothing"}),
    (11, {"job": "job-1"}),
    (12, {"attempt": 2}),
    (13, {"data": {"exit_code": 0, "duration_ms": 77}}),
    (15, {"data": {"outcome": Outcome.FAILED}}),
    (32, {"data": {"outcome": Outcome.FAILED}}),
    (42, {"prev": "sha256:00"}),
    (57, {"n": 99}),
    (5, {"id": "another"}),
    (1, {"data": {"host": "elsewhere"}}),
    (69, {"data": {"reason": "none"}}),
]


@pytest.mark.parametrize(("seq", "fields"), CHANGES, ids=[f"{seq}-{next(iter(fields))}" for seq, fields in CHANGES])
def test_changed_event_is_named(seq: int, fields: dict[str, object]) -> None:
    """An event whose bytes were changed is named, whatever was changed in it."""
    found = wrong(changed(seq, **fields)(whole()))
    assert next(one.seq for one in found if one.code == "changed") == seq
    assert f"event {seq} (" in said(found)


@pytest.mark.parametrize(
    ("seq", "fields"), [one for one in CHANGES if one[0] not in (1, 69)], ids=lambda one: str(one)[:30]
)
def test_changed_event_with_a_new_name_is_found_by_its_neighbour(seq: int, fields: dict[str, object]) -> None:
    """Where the name was made to fit, the next event of the run still tells, and both are named."""
    found = wrong(changed(seq, named=True, **fields)(whole()))
    assert found != []
    assert f"event {seq} (" in said(found)


def test_every_event_counts() -> None:
    """Whichever event of a whole day is changed or left out, it is named."""
    entries = whole()
    for seq in range(1, len(entries) + 1):
        assert any(one.seq == seq and one.code == "changed" for one in wrong(changed(seq, at=1)(entries)))
        assert f"event {seq} is missing on the log" in said(wrong(left_out(seq, gap=True)(entries), end=len(entries)))


@pytest.mark.parametrize("seq", [1, 2, 4, 5, 9, 20, 31, 33, 60, 75])
def test_event_left_out_is_named(seq: int) -> None:
    """An event that is missing leaves a hole on the log, and in its run, and both are said."""
    entries = whole()
    envelope = decode(entries[seq - 1].body)
    found = wrong(left_out(seq, gap=True)(entries))
    assert f"event {seq} is missing on the log" in said(found)
    if envelope.run:
        assert f"number {envelope.n} is missing in run {envelope.run}" in said(found)


@pytest.mark.parametrize("seq", [4, 5, 9, 20, 31, 33, 60, 75, 90, 99])
def test_event_left_out_is_named_where_the_log_was_closed_up(seq: int) -> None:
    """Without a hole on the log, the run's own numbers tell."""
    entries = whole()
    envelope = decode(entries[seq - 1].body)
    found = wrong(left_out(seq, gap=False)(entries))
    assert [(one.code, one.run, one.n) for one in found if one.code == "missing"] == [
        ("missing", envelope.run, envelope.n)
    ]


@pytest.mark.parametrize("seq", [4, 6, 9, 13, 22, 31, 36, 48, 60, 97])
def test_swapped_events_are_named(seq: int) -> None:
    """Two events of a run in the wrong order are both named, and no others."""
    entries = whole()
    run, n = decode(entries[seq - 1].body).run, decode(entries[seq - 1].body).n
    found = wrong(swapped(seq)(entries))
    assert f"number {n} is missing in run {run}" in said(found)
    assert f"number {n} of run {run}) comes after number {n + 1}" in said(found) or "run's end" in said(found)


@pytest.mark.parametrize("seq", [4, 5, 9, 13, 20, 31, 32, 42, 59, 84])
def test_event_that_is_there_twice_is_named(seq: int) -> None:
    """A second copy of an event is named, before and after the seal."""
    entries = whole()
    again = entries[seq - 1]
    found = wrong(put_in(seq + 1, again.body, again.subject)(entries))
    assert [one.seq for one in found] == [seq + 1]


@pytest.mark.parametrize("seq", [6, 10, 14, 22, 33, 36, 48, 61, 75, 99])
def test_event_put_in_is_named(seq: int) -> None:
    """An event of a run that nobody wrote breaks the chain where it was put, with a number that fits or not."""
    entries = whole()
    before = decode(entries[seq - 2].body)
    foreign = msgspec.structs.replace(before, n=before.n + 1, actor="user:eve")
    found = wrong(put_in(seq, encode(foreign), entries[seq - 2].subject)(entries))
    assert f"event {seq} (" in said(found)


SEALS: list[tuple[Tamper, str]] = [
    (changed(LAST_OF_PASSED, named=True, data={"outcome": Outcome.FAILED}), "its jobs come to succeeded"),
    (changed(LAST_OF_PASSED, named=True, data={"jobs": 7}), "it counts 7 jobs, and 3 were admitted"),
    (changed(LAST_OF_PASSED, named=True, data={"n": 28}), "its seal says number 28"),
    (changed(LAST_OF_PASSED, named=True, data={"prev": "sha256:00"}), "its seal names another event"),
    (changed(PASSED, named=True, data={"jobs": 4}), "the run was admitted with 4 jobs, and has 3"),
]


@pytest.mark.parametrize(("tamper", "words"), SEALS, ids=[words for _, words in SEALS])
def test_seal_that_does_not_fit_is_named(tamper: Tamper, words: str) -> None:
    """The end of a run must be what its events come to."""
    assert words in said(wrong(tamper(whole())))


def test_seal_before_the_end_is_named() -> None:
    """A run that was closed while a job of it goes on was not closed by a coordinator."""
    entries = whole()
    seal = decode(entries[LAST_OF_PASSED - 1].body)
    early = encode(msgspec.structs.replace(seal, n=24, prev="", data=msgspec.structs.replace(seal.data, n=24, prev="")))
    found = wrong([*entries[:26], renamed(entries[26], early), *entries[27:]])
    assert "1 of its jobs have not completed" in said(found)
    assert "comes after the run's end, which is event 27" in said(found)


def test_unreadable_event_is_named() -> None:
    """Bytes that are no event are named with their place, and the chain goes on behind them."""
    for body in (
        b"",
        b"{",
        b"\xff\xfe",
        b'{"id":"\xff"}',
        b"[" * 20_000,
        b"null",
        b'{"data":{"type":[1]}}',
        b'{"v":99}',
    ):
        entries = whole()
        entries[12] = renamed(entries[12], body)
        found = wrong(entries)
        assert [(one.code, one.seq) for one in found] == [("unreadable", 13), ("changed", 14)], body


def test_event_on_another_subject_is_named() -> None:
    """An event lies where its run and its reader look for it, or it is named."""
    entries = whole()
    for seq, subject in (
        (4, "headway.run.other.x.ev"),
        (9, "headway.fleet"),
        (1, "headway.fleet"),
        (69, "headway.ctl"),
    ):
        moved = msgspec.structs.replace(entries[seq - 1], subject=subject)
        found = wrong([*entries[: seq - 1], moved, *entries[seq:]])
        assert [(one.code, one.seq) for one in found] == [("subject", seq)]


def test_event_of_a_run_without_a_run_is_named() -> None:
    """What only a run can say is wrong without one, and what no run can say is wrong in one."""
    entries = whole()
    body = other(entries[8], run="", n=0, prev="")
    assert "names none" in said(wrong(put_in(3, body, "headway.fleet")(entries)))
    body = other(entries[1], run=decode(entries[8].body).run, n=6)
    assert "is not of any" in said(wrong(put_in(10, body, entries[8].subject)(entries)))


def test_beginning_and_end_cut_off_are_named() -> None:
    """What is missing at the beginning is said, and at the end where the end is known."""
    entries = whole()
    assert "events 1 to 10 are missing" in said(wrong(entries[10:]))
    assert f"events 101 to {len(entries)} are missing" in said(wrong(entries[:100], end=len(entries)))


def test_run_that_begins_with_something_else_is_named() -> None:
    """The first event of a run admits it."""
    entries = whole()
    found = wrong(changed(5, named=True, n=1, prev="")([*entries[:3], *entries[4:]]))
    assert found != []
    body = other(entries[4], n=1, prev="")
    found = wrong([*entries[:3], renamed(entries[3], body)])
    assert [(one.code, one.seq) for one in found] == [("admission", 4)]


def test_events_of_no_run_know_their_place() -> None:
    """The coordinator names its own events by their place, so that one put elsewhere is found."""
    entries = whole()
    fits = changed(74, named=True, id="c-1:74")(entries)
    assert wrong(fits) == []
    assert "was written as event 17" in said(wrong(changed(74, named=True, id="c-1:17")(entries)))


def test_entries_without_names_are_not_missed() -> None:
    """Copies of events have neither name nor subject; their chain is checked all the same."""
    entries = [msgspec.structs.replace(one, id="", subject="") for one in whole()]
    chain = Chain(on_log=False)
    assert chain.take([read_entry(one) for one in entries]) == []
    chain = Chain(on_log=False)
    assert [one.seq for one in chain.take([read_entry(one) for one in changed(9, actor="eve")(entries)])] == [10]


def test_findings_that_are_alike_are_counted() -> None:
    """A log that is all wrong fills no memory, and nobody believes it to be well."""
    findings = Findings()
    findings.add([Finding(code="missing", words=str(number)) for number in range(ALIKE_MAX + 5)])
    findings.add([Finding(code="changed", words="one")])
    assert (len(findings.kept), findings.left_out, findings.failed) == (ALIKE_MAX + 1, 5, True)
    mild = Findings()
    mild.add([Finding(code="blob", words="a checkpoint", level="warning")])
    assert not mild.failed
    mild.add([Finding(code="blob", words="a checkpoint", level="warning")] * ALIKE_MAX)
    mild.add([Finding(code="blob", words="a plan")])
    assert (mild.failed, mild.kept[-1].words) == (True, "a plan")


def test_names_of_events_and_runs() -> None:
    """An event is called by its place, its type and its run; a subject tells its run."""
    entries = whole()
    run = decode(entries[8].body).run
    assert named(decode(entries[8].body), 9) == f"event 9 (job.assigned of job job-0, attempt 1, number 6 of run {run})"
    assert run_in(entries[8].subject) == run
    assert run_in("headway.fleet") == run_in("headway.run") == run_in("") == ""
