"""What `headway why` answers, as typed records. Their field names are a promise: `--json` prints them.

Times are in UTC and by the log's clock. `evidence` has the sequences of the events that prove what is said.
"""

from __future__ import annotations

from datetime import datetime

from headway.projections.causes import Cause
from headway.projections.records import Record


class Holds(Record, frozen=True, kw_only=True):
    """A job that holds what another waits for. `expected_left_ms` is from `from_runs` past runs, None without any."""

    run: str
    job: str
    runner: str
    since: datetime
    expected_left_ms: int | None
    from_runs: int


class Tried(Record, frozen=True, kw_only=True):
    """How an attempt of the job ended, in words."""

    attempt: int
    runner: str
    ended: datetime | None
    words: str


class Long(Record, frozen=True, kw_only=True):
    """What took long: a stay of a job in a state. `phase` is `back-off` for the rest at its beginning, which is told
    apart from being queued."""

    job: str
    attempt: int
    state: str
    phase: str
    duration_ms: int
    holder: str


class Facts(Record, frozen=True, kw_only=True, omit_defaults=True):
    """What a sentence is made of; only what applies is there.

    `queue_position` counts from 1 among the `queue_length` jobs that could take the same `slots`. `expected_ms` is how
    long the job usually takes, of `expected_from` past runs; `expected_wait_ms` how long it will still wait.
    """

    labels_wanted: tuple[str, ...] = ()
    nearest_label: str = ""
    runners_with_label: tuple[str, ...] = ()
    queue_position: int = 0
    queue_length: int = 0
    slots: int = 0
    held_by: tuple[Holds, ...] = ()
    expected_wait_ms: int | None = None
    expected_ms: int | None = None
    expected_from: int = 0
    step: str = ""
    group: str = ""
    group_limit: int = 0
    paused_by: str = ""
    paused_since: datetime | None = None
    paused_reason: str = ""
    start_after: datetime | None = None
    silent_ms: int | None = None
    lease_left_ms: int | None = None
    blocked_by: tuple[str, ...] = ()
    excluded: tuple[str, ...] = ()
    condition: str = ""
    values: dict[str, str] = {}
    cancelled_by: str = ""
    cancel_reason: str = ""
    exit_code: int | None = None
    failure_class: str = ""
    took_ms: int | None = None
    longest: tuple[Long, ...] = ()
    attempts: tuple[Tried, ...] = ()


class Finding(Record, frozen=True, kw_only=True):
    """A judgement: the cause, the sentence, what would end it, and what cannot be known, "" for nothing.

    `shared` is the sentence for several jobs in the same place, "" when `words` holds for one only.
    """

    cause: Cause
    words: str
    shared: str = ""
    unblocks: str = ""
    unknown: str = ""
    also: tuple[str, ...] = ()
    evidence: tuple[int, ...] = ()
    facts: Facts = Facts()


class WhyJob(Record, frozen=True, kw_only=True):
    """Why a job is where it is. `behind` counts the jobs of its run that wait for it, `behind_jobs` names some.

    Without a `job` it is about the run. `also` says what would hold it up besides; `because` is the id of the event
    that brought it into its state, `group` the number of the group that it is told in, 0 for none.
    """

    run: str
    project: str
    pipeline: str
    job: str
    attempt: int
    state: str
    outcome: str | None
    since: datetime
    age_ms: int
    holder: str
    because: str
    cause: Cause
    words: str
    unblocks: str
    unknown: str
    also: tuple[str, ...]
    evidence: tuple[int, ...]
    behind: int
    behind_jobs: tuple[str, ...]
    facts: Facts
    group: int = 0


class WhyGroup(Record, frozen=True, kw_only=True):
    """Jobs of one run that are where they are for the same cause; `first` is told in full: the next one in line.

    `names` has some of the `jobs`, `age_ms` is the longest. `expected_last_ms` is when the last gets a slot, of
    `expected_from` past runs. A job by itself is a group of one; a run that waits has no jobs.
    """

    group: int
    jobs: int
    names: tuple[str, ...]
    age_ms: int
    words: str
    unblocks: str
    unknown: str
    behind: int
    behind_jobs: tuple[str, ...]
    expected_last_ms: int | None
    expected_from: int
    first: WhyJob


class Service(Record, frozen=True, kw_only=True):
    """What keeps everything from moving, whatever else is said: the cause in words, and what would end it.

    What is said is as of the last event that is known here, which is `behind_ms` old; there may be later ones.
    """

    cause: Cause
    words: str
    unblocks: str
    behind_ms: int = 0


class WhyAll(Record, frozen=True, kw_only=True):
    """Everything that waits, the longest waiting first; `total` counts what the limit has left out too.

    `jobs_waiting` counts all jobs that wait, those behind others among them. `groups` has the same once for each group.
    """

    service: Service | None
    total: int
    jobs_waiting: int
    waiting: list[WhyJob]
    groups: list[WhyGroup]


class WhyRun(Record, frozen=True, kw_only=True):
    """Why a run, and in it a job, is where it is. Of a run `jobs` has what is open, or what failed.

    `total` counts what the limit has left out too; `groups` has the same jobs once for each group.
    """

    service: Service | None
    run: WhyJob
    total: int
    jobs: list[WhyJob]
    groups: list[WhyGroup] = []
    job: WhyJob | None = None
