"""What a pipeline compiles to: jobs in a graph, with everything a runner needs and nothing it has to guess.

A plan is data. Its JSON is the same bytes for the same pipeline, so its digest names it.
"""

from __future__ import annotations

import hashlib

import msgspec

DEFINITION_BYTES_MAX = 24 * 1024
"""A job's definition larger than this travels as a blob; the event names its digest."""


class Step(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A command list: `script` is given as one text to one process of `shell` ("" lets the runner choose)."""

    name: str
    script: str
    shell: str = ""
    variables: dict[str, str] = {}
    working_directory: str = ""
    timeout_seconds: int = 0
    retry_count: int = 0
    continue_on_failure: bool = False


class Job(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A node of the graph. `variables` holds the pipeline's and the job's own, already merged.

    `retry_count` is how many new attempts follow a failed one. At most `concurrency_limit` jobs of one
    `concurrency_group` hold a slot at once, over all runs. A `definition_digest` stands for steps kept as a blob.
    """

    name: str
    steps: tuple[Step, ...] = ()
    depends_on: tuple[str, ...] = ()
    runs_on: tuple[str, ...] = ()
    executor: str = "host"
    variables: dict[str, str] = {}
    timeout_seconds: int = 0
    retry_count: int = 0
    concurrency_group: str = ""
    concurrency_limit: int = 1
    definition_digest: str = ""


class Plan(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A compiled pipeline. Jobs are in the order of the file; `depends_on` names jobs of the same plan."""

    name: str
    jobs: tuple[Job, ...]


_encode = msgspec.json.Encoder(order="deterministic").encode
_decode_plan = msgspec.json.Decoder(Plan).decode
_decode_job = msgspec.json.Decoder(Job).decode


def encode_plan(plan: Plan) -> bytes:
    """The plan's canonical JSON: equal plans give equal bytes."""
    return _encode(plan)


def decode_plan(body: bytes) -> Plan:
    """The plan back from its JSON. Raises msgspec.DecodeError or ValidationError for anything else."""
    return _decode_plan(body)


def encode_job(job: Job) -> bytes:
    """One job's canonical JSON, the form it is kept in as a blob."""
    return _encode(job)


def decode_job(body: bytes) -> Job:
    """The job back from its JSON. Raises msgspec.DecodeError or ValidationError for anything else."""
    return _decode_job(body)


def digest_of(body: bytes) -> str:
    """`sha256:` and the hexadecimal digest of these bytes: the one form in which bytes are named."""
    return "sha256:" + hashlib.sha256(body).hexdigest()
