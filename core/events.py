"""Every event there is, grouped by what it is about.

An event is a fact in the past tense, subject first. The envelope (`headway.core.envelope`) says which run, job and
attempt it is about, who said it and why; the event itself only says what is now true. Adding a field needs a
default. Any other change is a new event, and the old one is upcast when read.

Events of one run are on `headway.run.<project>.<run>.ev`, except those a runner must hear (`TO_RUNNER`), which are on
`headway.run.<project>.<run>.to.<runner>`. Both belong to the run's one history. `headway.fleet` and `headway.ctl`
carry the runners and the coordinator.
"""

from __future__ import annotations

from typing import Final

import msgspec

from headway.core.plan import Job
from headway.core.states import Outcome


class Event(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="type"):
    """The base of all events; the wire tag is the subject and the verb, `job.queued`."""


class Source(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The tree a run was submitted with. `digest` names the snapshot blob; "" means there was no tree."""

    digest: str = ""
    bytes: int = 0
    files: int = 0
    commit: str = ""
    branch: str = ""
    dirty: bool = False


class Output(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What an attempt printed, as a blob of output records (one JSON object a line)."""

    digest: str
    bytes: int = 0
    records: int = 0
    truncated: bool = False


class Failure(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Why an attempt failed. `failure_class` is one of caller_fixable, platform_bug, transient, state_changed.

    On the wire it is `class`, a word that Python keeps for itself.
    """

    failure_class: str = msgspec.field(name="class")
    reason: str
    step: int = -1


class Prepared(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One phase of preparation: what, how long it took, how many bytes, and whether it was already there."""

    what: str
    duration_ms: int
    bytes: int = 0
    hit: bool = False


# A run


class RunAdmitted(Event, frozen=True, kw_only=True, tag="run.admitted"):
    """The coordinator accepted a run of `jobs` jobs, whose plan, pipeline text and source are kept as blobs.

    `retry_backoff_ms` is how long a job rests after its first failed attempt; 0 means not at all.
    """

    project: str
    pipeline: str
    jobs: int
    plan_digest: str
    pipeline_file: str = ""
    pipeline_digest: str = ""
    source: Source = Source()
    parameters: dict[str, str] = {}
    trigger: str = "manual"
    only: str = ""
    attempt_losses_max: int = 3
    retry_backoff_ms: int = 0
    config_digest: str = ""
    headway_version: str = ""


class RunCancelRequested(Event, frozen=True, kw_only=True, tag="run.cancel_requested"):
    """Someone asked that the run end now."""

    reason: str = ""


class RunPaused(Event, frozen=True, kw_only=True, tag="run.paused"):
    """Nothing new of the run starts until it is resumed; what runs goes on."""

    reason: str = ""


class RunResumed(Event, frozen=True, kw_only=True, tag="run.resumed"):
    """A paused run goes on."""


class RunCompleted(Event, frozen=True, kw_only=True, tag="run.completed"):
    """Every job has completed. `n` and `prev` repeat the envelope's: the run is sealed."""

    outcome: Outcome
    jobs: int
    n: int = 0
    prev: str = ""


# A job


class JobAdmitted(Event, frozen=True, kw_only=True, tag="job.admitted"):
    """The job is a node of the run's graph; what the scheduler has to know of it is here."""

    depends_on: tuple[str, ...] = ()
    runs_on: tuple[str, ...] = ()
    executor: str = "host"
    retry_count: int = 0
    concurrency_group: str = ""
    concurrency_limit: int = 1


class JobQueued(Event, frozen=True, kw_only=True, tag="job.queued"):
    """The attempt waits for a slot. `reason` is ready, failed or lost: why there is this attempt.

    It backs off until `start_after`, in microseconds since 1970 UTC; 0 is at once. That is by the clock of the
    envelope's `at`, the coordinator's own: what the two differ by is how long the attempt rests.
    """

    reason: str = "ready"
    start_after: int = 0


class JobAssigned(Event, frozen=True, kw_only=True, tag="job.assigned"):
    """The coordinator gave the attempt to `runner`, with all it needs to do the work."""

    runner: str
    definition: Job
    source_digest: str = ""
    project: str = ""
    pipeline: str = ""
    commit: str = ""
    branch: str = ""
    parameters: dict[str, str] = {}
    lease_seconds: int = 15


class JobPreparing(Event, frozen=True, kw_only=True, tag="job.preparing"):
    """The runner accepted the attempt and prepares its workspace. `fact` numbers what it says of this attempt."""

    fact: int


class JobExecuting(Event, frozen=True, kw_only=True, tag="job.executing"):
    """The workspace is ready; the first step is about to start."""

    fact: int
    prepared: tuple[Prepared, ...] = ()


class JobUploading(Event, frozen=True, kw_only=True, tag="job.uploading"):
    """No step runs any more; output is being stored."""

    fact: int


class JobAttemptFailed(Event, frozen=True, kw_only=True, tag="job.attempt_failed"):
    """The attempt failed, the job may try again. The slot is free."""

    fact: int
    failure: Failure
    exit_code: int | None = None
    output: Output | None = None


class JobLost(Event, frozen=True, kw_only=True, tag="job.lost"):
    """The runner that held the attempt is gone or silent; the attempt no longer counts.

    `given_back` says that the runner stopped in good order: then it is no loss that a job could have caused.
    """

    runner: str
    reason: str
    given_back: bool = False


class JobOutputStored(Event, frozen=True, kw_only=True, tag="job.output_stored"):
    """What a lost attempt had printed was gathered from the output stream, or `missing` says why it could not be."""

    output: Output | None = None
    missing: str = ""


class JobCancelRequested(Event, frozen=True, kw_only=True, tag="job.cancel_requested"):
    """The job must end. `runner` holds it now, "" if nobody does."""

    reason: str = ""
    runner: str = ""


class JobCompleted(Event, frozen=True, kw_only=True, tag="job.completed"):
    """The job is over, once and for all. `reason` says why in a few words when the outcome alone does not."""

    outcome: Outcome
    fact: int = 0
    reason: str = ""
    exit_code: int | None = None
    failure: Failure | None = None
    output: Output | None = None


# A step


class StepStarted(Event, frozen=True, kw_only=True, tag="step.started"):
    """A step's process is about to start; `step` counts from 0, `tried` from 1."""

    fact: int
    step: int
    name: str
    shell: str
    tried: int = 1


class StepFinished(Event, frozen=True, kw_only=True, tag="step.finished"):
    """A step's process ended, or was stopped; `outcome` failed does not end the job when the step may fail."""

    fact: int
    step: int
    name: str
    outcome: Outcome
    exit_code: int | None = None
    signal: str = ""
    reason: str = ""
    duration_ms: int = 0
    tried: int = 1


# Runners


class RunnerRegistered(Event, frozen=True, kw_only=True, tag="runner.registered"):
    """A runner offers its slots. `runner` is its name and a random incarnation; what it `replaces` is dead."""

    runner: str
    name: str
    labels: tuple[str, ...]
    slots: int
    executors: tuple[str, ...] = ("host",)
    host: str = ""
    platform: str = ""
    pid: int = 0
    headway_version: str = ""
    replaces: tuple[str, ...] = ()


class RunnerDrained(Event, frozen=True, kw_only=True, tag="runner.drained"):
    """The runner takes nothing new; what it runs goes on."""

    runner: str
    reason: str = ""


class RunnerResumed(Event, frozen=True, kw_only=True, tag="runner.resumed"):
    """A drained runner takes work again; `runner` is its name alone when no process of that name is there."""

    runner: str


class RunnerLost(Event, frozen=True, kw_only=True, tag="runner.lost"):
    """The runner has been silent for its whole lease, or another one took its place."""

    runner: str
    reason: str


class RunnerLeft(Event, frozen=True, kw_only=True, tag="runner.left"):
    """The runner stopped in good order."""

    runner: str


# The whole service


class FleetPaused(Event, frozen=True, kw_only=True, tag="fleet.paused"):
    """Nothing new starts in any run."""

    reason: str = ""


class FleetResumed(Event, frozen=True, kw_only=True, tag="fleet.resumed"):
    """Work starts again."""


class CoordinatorElected(Event, frozen=True, kw_only=True, tag="coordinator.elected"):
    """A coordinator became the one writer. `checkpoint` is the last one known, so that the next start finds it."""

    coordinator: str
    headway_version: str = ""
    host: str = ""
    pid: int = 0
    checkpoint: str = ""
    checkpoint_seq: int = 0


class CoordinatorCheckpointed(Event, frozen=True, kw_only=True, tag="coordinator.checkpointed"):
    """The state after `checkpoint_seq` lies in the blob `checkpoint`; a start may begin there."""

    coordinator: str
    checkpoint: str
    checkpoint_seq: int


RunEvent = RunAdmitted | RunCancelRequested | RunPaused | RunResumed | RunCompleted
JobEvent = (
    JobAdmitted
    | JobQueued
    | JobAssigned
    | JobPreparing
    | JobExecuting
    | JobUploading
    | JobAttemptFailed
    | JobLost
    | JobOutputStored
    | JobCancelRequested
    | JobCompleted
)
StepEvent = StepStarted | StepFinished
FleetEvent = RunnerRegistered | RunnerDrained | RunnerResumed | RunnerLost | RunnerLeft | FleetPaused | FleetResumed
CoordinatorEvent = CoordinatorElected | CoordinatorCheckpointed
AnyEvent = RunEvent | JobEvent | StepEvent | FleetEvent | CoordinatorEvent

TO_RUNNER: Final = (JobAssigned, JobCancelRequested, JobLost)
"""All that a runner reads: events of these types that name a runner go to its own subject."""


def type_of(event: AnyEvent) -> str:
    """The wire tag, such as `job.queued`."""
    tag = event.__struct_config__.tag
    assert isinstance(tag, str), "every event has a text tag"
    return tag
