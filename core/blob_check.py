"""The blobs that events name: whether each is there and whole. Nothing is moved, unlike where a blob is read.

Each blob is read once, when the first event names it; what is damaged is said again for no other event.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import msgspec

from headway.core.blobs import DIGEST, Blobs
from headway.core.chain import named
from headway.core.envelope import Envelope
from headway.core.errors import HeadwayError
from headway.core.events import (
    CoordinatorCheckpointed,
    CoordinatorElected,
    JobAssigned,
    JobAttemptFailed,
    JobCompleted,
    JobOutputStored,
    RunAdmitted,
)
from headway.core.findings import ERROR, WARNING, Finding
from headway.core.plan import decode_plan

PLAN: Final = "plan"
CHECKPOINT: Final = "checkpoint"
AGAIN: Final = "it only saves time: the coordinator reads more of the log without it, and makes another one"
LOST: Final = "a backup has it: restore that into another home and copy the file from there; and check the disk"


class Named(NamedTuple):
    """A blob that an event names, and what it is."""

    digest: str
    what: str


def blobs_of(envelope: Envelope) -> list[Named]:
    """The blobs that an event names itself."""
    event = envelope.data
    found: list[Named] = []
    if isinstance(event, RunAdmitted):
        found = [
            Named(event.plan_digest, PLAN),
            Named(event.pipeline_digest, "pipeline file"),
            Named(event.source.digest, "source"),
        ]
    elif isinstance(event, JobAssigned):
        found = [
            Named(event.definition.definition_digest, f"definition of job {envelope.job}"),
            Named(event.source_digest, "source"),
        ]
    elif isinstance(event, JobAttemptFailed | JobCompleted | JobOutputStored):
        found = [Named(event.output.digest if event.output else "", "output")]
    elif isinstance(event, CoordinatorElected | CoordinatorCheckpointed):
        found = [Named(event.checkpoint, CHECKPOINT)]
    return [one for one in found if one.digest]


class BlobCheck:
    """Looks at the blobs of events as they come. It reads files: not for the event loop."""

    def __init__(self, blobs: Blobs) -> None:
        self.blobs = 0
        self.bytes = 0
        self._store = blobs
        self._seen: set[bytes] = set()

    def take(self, envelope: Envelope, seq: int) -> list[Finding]:
        """What is wrong with the blobs of one event that were not looked at before."""
        found: list[Finding] = []
        for one in blobs_of(envelope):
            found += self._look(one, envelope, seq)
        return found

    def _look(self, one: Named, envelope: Envelope, seq: int) -> list[Finding]:
        match = DIGEST.fullmatch(one.digest)
        if match is None:
            return [_finding(one, f"{one.digest[:80]!r} is not a digest", envelope, seq)]
        name = bytes.fromhex(match[1])
        if name in self._seen:
            return []
        self._seen.add(name)
        trouble, size = self._store.trouble(one.digest)
        self.blobs += 1
        self.bytes += size
        if trouble:
            return [_finding(one, trouble, envelope, seq)]
        return self._in_plan(one, envelope, seq) if one.what == PLAN else []

    def _in_plan(self, plan: Named, envelope: Envelope, seq: int) -> list[Finding]:
        """A plan names the definitions of its large jobs, also of those that nobody was given yet."""
        try:
            jobs = decode_plan(self._store.path(plan.digest).read_bytes()).jobs
        except (msgspec.MsgspecError, HeadwayError, OSError, ValueError, RecursionError) as error:
            return [_finding(plan, f"it is no plan: {error}", envelope, seq)]
        found: list[Finding] = []
        for job in jobs:
            if job.definition_digest:
                found += self._look(Named(job.definition_digest, f"definition of job {job.name}"), envelope, seq)
        return found


def _finding(one: Named, trouble: str, envelope: Envelope, seq: int) -> Finding:
    can_be_made_again = one.what == CHECKPOINT and trouble == "it is missing"
    return Finding(
        code="blob",
        words=f"blob {one.digest[:80]}, the {one.what} that {named(envelope, seq)} names: {trouble}",
        level=WARNING if can_be_made_again else ERROR,
        run=envelope.run,
        seq=seq,
        n=envelope.n,
        digest=one.digest[:80],
        next=AGAIN if can_be_made_again else LOST,
    )
