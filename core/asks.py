"""What may be asked of the coordinator, and its answers.

An ask is an intent in the imperative; it may be refused. The same ask may come twice or late: its answer is then what
it was, and nothing happens twice. Runners send facts as an ask too (`Report`): facts are never argued with, but those
of an attempt that no longer counts are refused.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from headway.core.events import (
    Failure,
    JobExecuting,
    JobPreparing,
    JobUploading,
    Output,
    RunAdmitted,
    StepFinished,
    StepStarted,
)
from headway.core.states import Outcome


class Ask(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="ask"):
    """The base of all asks."""


# From users


class AdmitRun(Ask, frozen=True, kw_only=True, tag="admit_run"):
    """Accept a run. The id is made by who asks, so that asking again is harmless; the blobs it names are stored."""

    run: str
    admitted: RunAdmitted


class CancelRun(Ask, frozen=True, kw_only=True, tag="cancel_run"):
    """End a run now."""

    run: str
    reason: str = ""


class CancelJob(Ask, frozen=True, kw_only=True, tag="cancel_job"):
    """End one job of a run now."""

    run: str
    job: str
    reason: str = ""


class PauseRun(Ask, frozen=True, kw_only=True, tag="pause_run"):
    """Start nothing new of a run."""

    run: str
    reason: str = ""


class ResumeRun(Ask, frozen=True, kw_only=True, tag="resume_run"):
    """Go on with a paused run."""

    run: str


class PauseFleet(Ask, frozen=True, kw_only=True, tag="pause_fleet"):
    """Start nothing new in any run."""

    reason: str = ""


class ResumeFleet(Ask, frozen=True, kw_only=True, tag="resume_fleet"):
    """Start work again."""


class DrainRunner(Ask, frozen=True, kw_only=True, tag="drain_runner"):
    """`runner` is a name with or without its incarnation."""

    runner: str
    reason: str = ""


class ResumeRunner(Ask, frozen=True, kw_only=True, tag="resume_runner"):
    """Give a drained runner work again."""

    runner: str


# From runners


class RegisterRunner(Ask, frozen=True, kw_only=True, tag="register_runner"):
    """Offer slots. `replaces` names incarnations proved dead, whose attempts are lost at once.

    `store` is the content of the blob folder's identity file: a runner that sees another store is refused.
    """

    runner: str
    labels: tuple[str, ...]
    slots: int
    executors: tuple[str, ...] = ("host",)
    host: str = ""
    platform: str = ""
    pid: int = 0
    headway_version: str = ""
    replaces: tuple[str, ...] = ()
    store: str = ""


class RenewRunner(Ask, frozen=True, kw_only=True, tag="renew_runner"):
    """I am alive. Refused for a runner that is not registered, or counts no more."""

    runner: str


class LeaveRunner(Ask, frozen=True, kw_only=True, tag="leave_runner"):
    """I stop and hold nothing any more."""

    runner: str


class AttemptFinished(
    msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="type", tag="attempt.finished"
):
    """How an attempt ended, as its runner saw it; what follows is the coordinator's choice."""

    fact: int
    outcome: Outcome
    reason: str = ""
    exit_code: int | None = None
    failure: Failure | None = None
    output: Output | None = None


RunnerFact = JobPreparing | JobExecuting | StepStarted | StepFinished | JobUploading | AttemptFinished


class Said(msgspec.Struct, frozen=True, kw_only=True):
    """A fact with the runner's own clock, in microseconds since 1970 UTC."""

    at: int
    what: RunnerFact


class Report(Ask, frozen=True, kw_only=True, tag="report"):
    """Facts of one attempt, in order, numbered from 1 without gaps (`what.fact`). Known ones are passed over."""

    runner: str
    run: str
    job: str
    attempt: int
    facts: tuple[Said, ...]


# From the coordinator's own helpers


class StoreOutput(Ask, frozen=True, kw_only=True, tag="store_output"):
    """What a lost attempt had printed has been gathered, or cannot be."""

    run: str
    job: str
    attempt: int
    output: Output | None = None
    missing: str = ""


UserAsk = (
    AdmitRun | CancelRun | CancelJob | PauseRun | ResumeRun | PauseFleet | ResumeFleet | DrainRunner | ResumeRunner
)
RunnerAsk = RegisterRunner | RenewRunner | LeaveRunner | Report
AnyAsk = UserAsk | RunnerAsk | StoreOutput


class Answer(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """`seq` is where the ask's last event is (0: nothing new had to be said). `refused` is a reason, and final.

    `retry` means not now, ask again with the same content; `code` is an error code of `headway.core.errors`.
    """

    seq: int = 0
    refused: str = ""
    next: str = ""
    code: str = ""
    retry: bool = False


_encode = msgspec.json.Encoder().encode
_decode_runner_ask: Callable[[bytes], RunnerAsk] = msgspec.json.Decoder(RunnerAsk).decode
_decode_user_ask: Callable[[bytes], UserAsk] = msgspec.json.Decoder(UserAsk).decode
_decode_answer = msgspec.json.Decoder(Answer).decode


def encode(ask: Ask | Answer) -> bytes:
    """The JSON of an ask or an answer."""
    return _encode(ask)


def decode_runner_ask(body: bytes) -> RunnerAsk:
    """An ask that came on a runner's subject. Raises msgspec.DecodeError or ValidationError."""
    return _decode_runner_ask(body)


def decode_user_ask(body: bytes) -> UserAsk:
    """An ask that came on a user's subject. Raises msgspec.DecodeError or ValidationError."""
    return _decode_user_ask(body)


def decode_answer(body: bytes) -> Answer:
    """The coordinator's answer. Raises msgspec.DecodeError or ValidationError."""
    return _decode_answer(body)
