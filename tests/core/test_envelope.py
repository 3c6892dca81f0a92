"""What surrounds an event: written, read, refused when it is from the future, brought up to date when it is old."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from headway.core.envelope import (
    EVENT_BYTES_MAX,
    FORMAT,
    UPCASTS,
    Envelope,
    Fact,
    Recorded,
    decode,
    digest,
    encode,
    record,
    subject_of,
)
from headway.core.errors import UnavailableError
from headway.core.events import (
    AnyEvent,
    CoordinatorCheckpointed,
    CoordinatorElected,
    FleetPaused,
    JobAssigned,
    JobCancelRequested,
    JobExecuting,
    JobLost,
    JobPreparing,
    JobQueued,
    Prepared,
    RunnerRegistered,
    RunPaused,
)
from headway.core.plan import Job
from tests.core.story import life

A = life("a")


def body(**changed: Any) -> bytes:
    """The bytes of an entry, some of it changed."""
    raw: dict[str, Any] = {"id": "r1:3", "at": 5, "actor": "t", "data": {"type": "job.queued"}, "run": "r1", "n": 3}
    return json.dumps(raw | changed).encode()


# Written and read


def test_what_is_left_out_is_not_written() -> None:
    """An entry is as short as what it says."""
    assert encode(Envelope(id="x", at=1, actor="t", data=JobQueued())) == (
        b'{"id":"x","at":1,"actor":"t","data":{"type":"job.queued"}}'
    )


def test_the_same_entry_is_the_same_bytes() -> None:
    """The next event of the run names these bytes by digest."""
    envelope = decode(body())
    assert digest(encode(envelope)) == digest(encode(decode(encode(envelope))))
    assert digest(b"") == "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


def test_an_entry_that_is_too_large_is_never_written() -> None:
    """Larger things are blobs; who tries has a bug, which is stated."""
    fits = RunPaused(reason="x" * (EVENT_BYTES_MAX - 200))
    assert len(encode(Envelope(id="x", at=1, actor="t", data=fits))) <= EVENT_BYTES_MAX
    with pytest.raises(AssertionError, match="blobs"):
        encode(Envelope(id="x", at=1, actor="t", data=RunPaused(reason="x" * EVENT_BYTES_MAX)))


# From the future


@pytest.mark.parametrize(
    "changed",
    [
        {"data": {"type": "job.teleported"}},
        {"data": {"where": "mars", "type": "job.teleported"}},
        {"v": FORMAT + 1},
        {"v": FORMAT + 1, "data": {"type": "job.teleported"}},
        {"v": FORMAT + 1, "n": "three"},
        {"v": FORMAT + 1, "data": {"type": "job.queued", "reason": 5}},
    ],
    ids=["type", "type last", "format", "both", "format of another shape", "format with another event"],
)
def test_what_a_newer_headway_wrote_is_refused_with_what_to_do(changed: dict[str, Any]) -> None:
    """Guessing at it would give a state that never was."""
    with pytest.raises(UnavailableError) as caught:
        decode(body(**changed))
    assert "newer" in caught.value.next
    assert "does not know" in caught.value.message


@pytest.mark.parametrize(
    "junk",
    [
        b"",
        b"{",
        b"null",
        b"[]",
        b'"x"',
        b"\xff",
        b"{}",
        body(data={}),
        body(data=None),
        body(n="x"),
        body(data={"type": 5}),
    ],
)
def test_bytes_that_are_no_entry_are_told_from_ones_of_a_newer_headway(junk: bytes) -> None:
    """A damaged log is not cured by an upgrade."""
    with pytest.raises(msgspec.MsgspecError):
        decode(junk)


# From the past


@pytest.fixture
def retired() -> Iterator[str]:
    """An event type of an old Headway: `job.parked` said in minutes what `run.paused` says in words."""
    UPCASTS["job.parked"] = lambda data: {"type": "run.paused", "reason": f"for {data['minutes']} minutes"}
    yield "job.parked"
    del UPCASTS["job.parked"]


def test_a_retired_event_is_read_as_what_took_its_place(retired: str) -> None:
    """The bytes stay as they are, and so does their digest."""
    old = body(data={"type": retired, "minutes": 5})
    envelope = decode(old)
    assert envelope.data == RunPaused(reason="for 5 minutes")
    assert (envelope.id, envelope.n, envelope.run) == ("r1:3", 3, "r1")


def test_a_retired_event_that_is_damaged_is_not_read(retired: str) -> None:
    """An upcast does not make up what is missing around it."""
    with pytest.raises(msgspec.ValidationError):
        decode(body(data={"type": retired, "minutes": 5}, n="three"))


def test_a_retired_event_of_a_newer_format_is_refused(retired: str) -> None:
    """The format is looked at whatever the event."""
    with pytest.raises(UnavailableError):
        decode(body(data={"type": retired, "minutes": 5}, v=FORMAT + 1))


def test_a_type_that_nobody_retired_is_still_unknown() -> None:
    """Without its upcast the old type is as unknown as a new one."""
    with pytest.raises(UnavailableError):
        decode(body(data={"type": "job.parked", "minutes": 5}))


# Where it goes


@pytest.mark.parametrize(
    ("event", "run", "subject"),
    [
        (JobQueued(), "r1", "headway.run.shop.r1.ev"),
        (JobPreparing(fact=1), "r1", "headway.run.shop.r1.ev"),
        (JobAssigned(runner=A, definition=Job(name="x")), "r1", f"headway.run.shop.r1.to.{A}"),
        (JobLost(runner=A, reason="x"), "r1", f"headway.run.shop.r1.to.{A}"),
        (JobCancelRequested(runner=A), "r1", f"headway.run.shop.r1.to.{A}"),
        (JobCancelRequested(), "r1", "headway.run.shop.r1.ev"),
        (RunnerRegistered(runner=A, name="a", labels=(), slots=1), "", "headway.fleet"),
        (FleetPaused(), "", "headway.fleet"),
        (CoordinatorElected(coordinator="c"), "", "headway.ctl"),
        (CoordinatorCheckpointed(coordinator="c", checkpoint="", checkpoint_seq=0), "", "headway.ctl"),
    ],
)
def test_an_event_goes_where_those_read_who_need_it(event: AnyEvent, run: str, subject: str) -> None:
    """A runner reads only what names it; everything about a run lies under the run."""
    assert subject_of(Fact(event=event, id="", actor="t", run=run), "shop") == subject
    assert subject_of(Envelope(id="", at=0, actor="t", data=event, run=run), "shop") == subject


# As people read it


def test_a_record_is_flat_and_says_everything() -> None:
    """The type stands outside, times are RFC 3339, and what surrounds the event is there also when it is empty."""
    event = JobExecuting(fact=2, prepared=(Prepared(what="source", duration_ms=3),))
    envelope = Envelope(
        id="i", at=1, actor="t", data=event, run="r1", job="build", attempt=1, because="b", n=6, prev="p"
    )
    found = record(Recorded(seq=9, logged=1_750_000_000_000_001, envelope=envelope, body=b""))
    assert json.loads(json.dumps(found)) == {
        "seq": 9,
        "n": 6,
        "type": "job.executing",
        "run": "r1",
        "job": "build",
        "attempt": 1,
        "logged": "2025-06-15T15:06:40.000001Z",
        "at": "1970-01-01T00:00:00.000001Z",
        "actor": "t",
        "id": "i",
        "because": "b",
        "prev": "p",
        "data": {"fact": 2, "prepared": [{"what": "source", "duration_ms": 3}]},
    }


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\xff\xfe",
        b'{"id":"\xff"}',
        b"[" * 50_000,
        b'{"id":1,"x":' + b"[" * 50_000 + b"]" * 50_000 + b"}",
        b'{"data":{"type":[1]}}',
        b'{"data":{"type":{}},"v":[]}',
        b"null",
    ],
    ids=range(8),
)
def test_bytes_that_are_no_event_are_refused_in_one_way(body: bytes) -> None:
    """Whatever lies on a log, reading it raises what readers expect and nothing else."""
    with pytest.raises(msgspec.MsgspecError):
        decode(body)
