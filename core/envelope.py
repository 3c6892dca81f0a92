"""What surrounds an event on the log: its name, its place in its run, who said it and because of what.

An `Envelope` is what is written; its JSON bytes are what the log keeps and what the next event of the run names by
digest. `Recorded` adds what only the log can know: the sequence and the time it was logged.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import msgspec

from headway.core.clock import rfc3339
from headway.core.errors import UnavailableError
from headway.core.events import (
    TO_RUNNER,
    AnyEvent,
    CoordinatorCheckpointed,
    CoordinatorElected,
    type_of,
)
from headway.core.plan import digest_of

FORMAT: Final = 1
"""The version of the envelope; a log with a higher one was written by a newer Headway."""

EVENT_BYTES_MAX: Final = 64 * 1024


class Fact(msgspec.Struct, frozen=True, kw_only=True):
    """Something to be said, before it has a place on the log. `id` is the same each time the same thing is said."""

    event: AnyEvent
    id: str
    actor: str
    run: str = ""
    job: str = ""
    attempt: int = 0
    because: str = ""
    at: int = 0


class Envelope(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An event with its surroundings, as written.

    `at` is the producer's clock in microseconds since 1970 UTC. `n` counts the run's events from 1 and `prev` is the
    digest of the one before; both are empty for events that belong to no run. `because` is the id of the event or
    ask that led to this one.
    """

    id: str
    at: int
    actor: str
    data: AnyEvent
    v: int = FORMAT
    run: str = ""
    job: str = ""
    attempt: int = 0
    because: str = ""
    n: int = 0
    prev: str = ""


class Recorded(msgspec.Struct, frozen=True, kw_only=True):
    """An event as the log keeps it. `logged` is the log's own clock in microseconds since 1970 UTC."""

    seq: int
    logged: int
    envelope: Envelope
    body: bytes

    @property
    def event(self) -> AnyEvent:
        return self.envelope.data


UPCASTS: Final[dict[str, Callable[[dict[str, Any]], dict[str, Any]]]] = {}
"""Retired event type -> what makes today's `data` of it. Old bytes are never rewritten, only read anew."""

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Envelope).decode


def encode(envelope: Envelope) -> bytes:
    """The bytes that go on the log."""
    body = _encode(envelope)
    assert len(body) <= EVENT_BYTES_MAX, f"event {envelope.id} has {len(body)} bytes; larger things are blobs"
    return body


def decode(body: bytes) -> Envelope:
    """The envelope in these bytes, with retired event types brought up to date.

    Raises UnavailableError when a newer Headway wrote them, and a msgspec error for what is no event.
    """
    try:
        try:
            envelope = _decode(body)
        except msgspec.ValidationError as error:
            envelope = _upcast(body, error)
    except (UnicodeDecodeError, RecursionError) as error:
        raise msgspec.DecodeError(str(error)) from error
    if envelope.v > FORMAT:
        raise _newer(f"format {envelope.v}")
    return envelope


def digest(body: bytes) -> str:
    """How the next event of the run names this one."""
    return digest_of(body)


def subject_of(fact: Fact | Envelope, project: str) -> str:
    """The subject an event belongs on; `project` is the run's and is not used for events of no run."""
    event = fact.event if isinstance(fact, Fact) else fact.data
    if fact.run:
        if isinstance(event, TO_RUNNER) and event.runner:
            return f"headway.run.{project}.{fact.run}.to.{event.runner}"
        return f"headway.run.{project}.{fact.run}.ev"
    if isinstance(event, CoordinatorElected | CoordinatorCheckpointed):
        return "headway.ctl"
    return "headway.fleet"


def record(recorded: Recorded) -> dict[str, Any]:
    """The event as people and programs read it: flat, the type outside, times in RFC 3339."""
    envelope = recorded.envelope
    data = msgspec.to_builtins(envelope.data)
    data.pop("type")
    return {
        "seq": recorded.seq,
        "n": envelope.n,
        "type": type_of(envelope.data),
        "run": envelope.run,
        "job": envelope.job,
        "attempt": envelope.attempt,
        "logged": rfc3339(recorded.logged),
        "at": rfc3339(envelope.at),
        "actor": envelope.actor,
        "id": envelope.id,
        "because": envelope.because,
        "prev": envelope.prev,
        "data": data,
    }


def _upcast(body: bytes, error: msgspec.ValidationError) -> Envelope:
    raw = msgspec.json.decode(body)
    data = raw.get("data") if isinstance(raw, dict) else None
    kind = data.get("type") if isinstance(data, dict) else None
    if isinstance(raw, dict) and isinstance(data, dict) and isinstance(kind, str) and kind in UPCASTS:
        return msgspec.convert({**raw, "data": UPCASTS[kind](data)}, Envelope)
    version = raw.get("v", FORMAT) if isinstance(raw, dict) else FORMAT
    if isinstance(version, int) and version > FORMAT:
        raise _newer(f"format {version}") from error
    if "Invalid value" in str(error) and "$.data.type" in str(error):
        raise _newer(f"the event type {kind!r}") from error
    raise error


def _newer(what: str) -> UnavailableError:
    return UnavailableError(
        f"the log holds {what}, which this version of Headway does not know",
        next="install the version that wrote it, or a newer one",
    )
