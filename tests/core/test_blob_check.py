"""The blobs that events name are looked at once each; what is wrong with one is said, and nothing is moved."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from headway.core.blob_check import BlobCheck, blobs_of
from headway.core.blobs import Blobs
from headway.core.envelope import Envelope
from headway.core.events import (
    AnyEvent,
    CoordinatorCheckpointed,
    CoordinatorElected,
    JobAssigned,
    JobCompleted,
    JobOutputStored,
    JobQueued,
    Output,
    RunAdmitted,
    Source,
)
from headway.core.plan import Job, Plan, Step, digest_of, encode_job, encode_plan
from headway.core.states import Outcome

LARGE = Job(name="large", steps=(Step(name="make", script="x" * 30_000),))


def said(event: AnyEvent, *, job: str = "") -> Envelope:
    """An event with its surroundings."""
    return Envelope(id="e", at=1, actor="coordinator", data=event, run="r1", job=job, n=1)


def admitted(blobs: Blobs) -> Envelope:
    """A run whose inputs are kept, one job of which has its definition in a blob of its own."""
    slim = Job(name="large", definition_digest=blobs.put_bytes(encode_job(LARGE)))
    plan = blobs.put_bytes(encode_plan(Plan(name="one", jobs=(slim, Job(name="small")))))
    source = Source(digest=blobs.put_bytes(b"tree"))
    pipeline = blobs.put_bytes(b"name: one\n")
    event = RunAdmitted(
        project="shop", pipeline="one", jobs=2, plan_digest=plan, pipeline_digest=pipeline, source=source
    )
    return said(event)


def place(blobs: Blobs, digest: str) -> Path:
    """Where a blob lies, to be changed there."""
    path = blobs.path(digest)
    path.chmod(0o600)
    return path


def test_every_blob_of_an_event_is_known() -> None:
    """Events name plans, pipeline files, sources, definitions, outputs and checkpoints; others name none."""
    output = Output(digest=digest_of(b"out"))
    one = Job(name="a", definition_digest=digest_of(b"d"))
    named = [
        said(JobAssigned(runner="r", definition=one, source_digest=digest_of(b"s")), job="a"),
        said(JobCompleted(outcome=Outcome.SUCCEEDED, output=output)),
        said(JobOutputStored(output=output)),
        said(CoordinatorElected(coordinator="c", checkpoint=digest_of(b"c"))),
        said(CoordinatorCheckpointed(coordinator="c", checkpoint=digest_of(b"c"), checkpoint_seq=1)),
    ]
    assert [[blob.what for blob in blobs_of(one)] for one in named] == [
        ["definition of job a", "source"],
        ["output"],
        ["output"],
        ["checkpoint"],
        ["checkpoint"],
    ]
    for none in (JobQueued(), JobCompleted(outcome=Outcome.SKIPPED), CoordinatorElected(coordinator="c")):
        assert blobs_of(said(none)) == []


def test_whole_blobs_are_counted_once(tmp_path: Path) -> None:
    """A blob is read once, also the definitions that only the plan names."""
    blobs = Blobs(tmp_path)
    event = admitted(blobs)
    check = BlobCheck(blobs)
    assert check.take(event, 1) + check.take(event, 2) == []
    assert check.blobs == 4
    assert check.bytes > 30_000


TAMPERS = ("missing", "changed", "cut", "grown", "emptied", "folder", "pipe", "dangling", "loop", "swapped")


@pytest.mark.parametrize("kind", TAMPERS)
def test_tampered_blob_is_named(tmp_path: Path, kind: str) -> None:
    """Whatever became of a blob, it is named with what it is and what names it, and nothing is moved."""
    blobs = Blobs(tmp_path)
    event = admitted(blobs)
    digest = digest_of(encode_job(LARGE))
    path = place(blobs, digest)
    body = path.read_bytes()
    if kind in ("missing", "folder", "pipe", "dangling", "loop"):
        path.unlink()
    if kind in ("dangling", "loop"):
        path.symlink_to("nowhere" if kind == "dangling" else path.name)
    if kind == "folder":
        path.mkdir()
    if kind == "pipe":
        os.mkfifo(path)
    changes = {"changed": b"y" + body[1:], "cut": body[:-1], "grown": body + b" ", "emptied": b"", "swapped": b"tree"}
    if kind in changes:
        path.write_bytes(changes[kind])
    before = sorted(tmp_path.rglob("*"))
    [found] = BlobCheck(blobs).take(event, 7)
    assert (found.code, found.digest, found.run, found.seq) == ("blob", digest, "r1", 7)
    assert found.words.startswith(f"blob {digest}, the definition of job large that event 7 (run.admitted")
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    ("kind", "words"), [("loop", "too many levels of symbolic links"), ("parent", "not a directory")]
)
def test_unreadable_blob_is_named(tmp_path: Path, kind: str, words: str) -> None:
    """A blob that cannot be read is said to be unreadable, with why, and not to be missing."""
    blobs = Blobs(tmp_path)
    event = admitted(blobs)
    path = blobs.path(digest_of(b"tree"))
    path.unlink()
    if kind == "loop":
        path.symlink_to(path.name)
    else:
        path.parent.rmdir()
        path.parent.touch()
    [found] = BlobCheck(blobs).take(event, 1)
    assert found.words.endswith(f"it cannot be read: {words}")


def test_checkpoint_that_is_missing_is_a_warning(tmp_path: Path) -> None:
    """A checkpoint can be made again, so that its absence is no failure; a changed one tells of a bad disk."""
    blobs = Blobs(tmp_path)
    digest = blobs.put_bytes(b"world")
    event = said(CoordinatorElected(coordinator="c", checkpoint=digest))
    assert BlobCheck(blobs).take(event, 1) == []
    place(blobs, digest).write_bytes(b"another")
    assert [one.level for one in BlobCheck(blobs).take(event, 1)] == ["error"]
    blobs.path(digest).unlink()
    [found] = BlobCheck(blobs).take(event, 1)
    assert (found.level, "makes another one" in found.next) == ("warning", True)


@pytest.mark.parametrize("body", [b"plan", b"", b"[" * 10_000, b'{"name": "\xff"}'])
def test_plan_that_is_none_is_named(tmp_path: Path, body: bytes) -> None:
    """A plan must be readable, for its jobs are in it."""
    blobs = Blobs(tmp_path)
    event = RunAdmitted(project="shop", pipeline="one", jobs=1, plan_digest=blobs.put_bytes(body))
    [found] = BlobCheck(blobs).take(said(event), 1)
    assert "it is no plan" in found.words


def test_digest_that_is_none_is_named(tmp_path: Path) -> None:
    """What is no digest names no file, wherever it would lie."""
    for digest in ("../../etc/passwd", "sha256:", "sha256:" + "g" * 64, "x" * 5000):
        event = RunAdmitted(project="shop", pipeline="one", jobs=1, plan_digest=digest)
        [found] = BlobCheck(Blobs(tmp_path)).take(said(event), 1)
        assert "is not a digest" in found.words
