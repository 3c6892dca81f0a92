"""What a stream server offers, as far as Headway uses it: streams, consumers and single entries, by JSON requests."""

from __future__ import annotations

import base64
import secrets
from datetime import UTC, datetime
from typing import Any, Final, TypeVar

import msgspec

from headway.core.errors import UnavailableError
from headway.core.log import Stored, Unknown
from headway.core.wire import Wire

STREAM: Final = "HEADWAY"
OUTPUT_STREAM: Final = "HEADWAY_OUTPUT"
BATON_STREAM: Final = "HEADWAY_BATON"
MESSAGE_ID: Final = "Nats-Msg-Id"
EXPECTED_LAST: Final = "Nats-Expected-Last-Sequence"
EXPECTED_LAST_ID: Final = "Nats-Expected-Last-Msg-Id"

NOT_FOUND: Final = frozenset({10014, 10037, 10059})
"""No such consumer, message, stream."""

FULL: Final = frozenset({10002, 10023, 10047, 10077})
"""A limit of the account, the server or the stream, or the disk."""

SECOND: Final = 1_000_000_000
T = TypeVar("T")


class ApiError(msgspec.Struct):
    """Why the server said no."""

    code: int = 0
    err_code: int = 0
    description: str = ""


class StreamRefused(Exception):
    """The server understood a request and said no."""

    def __init__(self, error: ApiError) -> None:
        super().__init__(f"{error.description} ({error.err_code})")
        self.error = error


class PubAck(msgspec.Struct):
    """The answer to a publication."""

    seq: int = 0
    duplicate: bool = False
    error: ApiError | None = None


class StreamState(msgspec.Struct):
    """What a stream holds now."""

    messages: int = 0
    bytes: int = 0
    first_seq: int = 0
    last_seq: int = 0


class StreamInfo(msgspec.Struct):
    """A stream's settings, as the server knows them, and its state."""

    config: dict[str, Any]
    state: StreamState


class Delivered(msgspec.Struct, frozen=True):
    """How far a consumer has handed out; `consumer_seq` grows with every delivery, also of the same entry."""

    consumer_seq: int = 0
    stream_seq: int = 0


class ConsumerInfo(msgspec.Struct):
    """A consumer, with how many entries it has still to hand out."""

    name: str
    num_pending: int = 0
    num_ack_pending: int = 0
    delivered: Delivered = Delivered()


class _Found(msgspec.Struct):
    subject: str
    seq: int
    time: str
    hdrs: str = ""
    data: str = ""


class _Message(msgspec.Struct):
    message: _Found


class _Outcome(msgspec.Struct):
    error: ApiError | None = None


async def api(
    wire: Wire, subject: str, request: dict[str, Any] | None, answer: type[T], *, timeout_seconds: float = 5.0
) -> T:
    """Ask the stream server. Raises StreamRefused, or Unknown when there is no answer."""
    body = b"" if request is None else msgspec.json.encode(request)
    found = await wire.request(f"$JS.API.{subject}", body, timeout_seconds=timeout_seconds)
    return answer_in(found, answer)


def answer_in(body: bytes, answer: type[T]) -> T:
    """The answer in these bytes. Raises StreamRefused; Unknown when it is not one."""
    try:
        error = msgspec.json.decode(body, type=_Outcome).error
        if error is not None:
            raise StreamRefused(error)
        return msgspec.json.decode(body, type=answer)
    except msgspec.MsgspecError as error:
        raise Unknown(f"the server's answer cannot be read: {error}") from error


def place_of(reply: str) -> tuple[int, int, int, int]:
    """Sequence, the consumer's count, log time and entries still to come, from an acknowledgement subject.

    It has a short form and one with domain and account.
    """
    part = reply.split(".")
    at = 5 if len(part) < 11 else 7
    return int(part[at]), int(part[at + 1]), int(part[at + 2]) // 1000, int(part[at + 3])


# Streams


async def stream_info(wire: Wire, stream: str) -> StreamInfo:
    """Settings and state of a stream, from its leader."""
    return await api(wire, f"STREAM.INFO.{stream}", None, StreamInfo)


async def ensure_stream(
    wire: Wire, wanted: dict[str, Any], *, fixed: tuple[str, ...] = (), raised: tuple[str, ...] = ()
) -> None:
    """Create a stream, or bring the one there is to these settings. Those in `fixed` are never changed, those in
    `raised` never lowered.

    Other settings, such as replicas, stay as they are; subjects are only added. Raises UnavailableError.
    """
    name = wanted["name"]
    try:
        try:
            found = (await stream_info(wire, name)).config
        except StreamRefused as refusal:
            if refusal.error.err_code not in NOT_FOUND:
                raise
            await api(wire, f"STREAM.CREATE.{name}", wanted, dict[str, Any], timeout_seconds=15)
            return
        wanted = wanted | {key: max(wanted[key], int(found.get(key, 0))) for key in raised}
        changed = {key: value for key, value in wanted.items() if found.get(key, False) != value}
        subjects = {*found.get("subjects", []), *wanted["subjects"]}
        changed["subjects"] = sorted(subjects)
        if subjects == set(found.get("subjects", [])):
            del changed["subjects"]
        wrong = [key for key in fixed if key in changed]
        if wrong:
            raise _incompatible(name, {key: found.get(key) for key in wrong})
        if changed:
            await api(wire, f"STREAM.UPDATE.{name}", {**found, **changed}, dict[str, Any], timeout_seconds=15)
    except StreamRefused as refusal:
        raise _unusable(name, refusal) from refusal
    except Unknown as error:
        raise UnavailableError(
            f"the log's server does not keep streams: {error}",
            next="enable JetStream on it for this user's account, or use the built-in server",
        ) from error


def _incompatible(name: str, found: dict[str, Any]) -> UnavailableError:
    said = ", ".join(f"{key} is {value!r}" for key, value in found.items())
    return UnavailableError(
        f"the stream {name} on the server was made for something else: {said}",
        next="use another server or account, or remove that stream if nobody needs it",
    )


def _unusable(name: str, refusal: StreamRefused) -> UnavailableError:
    if refusal.error.err_code in FULL:
        return UnavailableError(
            f"the server has no room for the stream {name}: {refusal}",
            next="free disk space, or lower log_max_bytes and output_max_bytes in the configuration",
        )
    return UnavailableError(
        f"the server refuses the stream {name}: {refusal}", next="check the server's JetStream limits and this user"
    )


# Consumers


async def ensure_consumer(wire: Wire, stream: str, config: dict[str, Any]) -> ConsumerInfo:
    """Create a consumer; one with the same settings stays as it is, with its position."""
    name = config["name"]
    request = {"stream_name": stream, "config": config}
    return await api(wire, f"CONSUMER.CREATE.{stream}.{name}", request, ConsumerInfo)


async def consumer_info(wire: Wire, stream: str, name: str, *, timeout_seconds: float = 5.0) -> ConsumerInfo:
    """How far a consumer is."""
    return await api(wire, f"CONSUMER.INFO.{stream}.{name}", None, ConsumerInfo, timeout_seconds=timeout_seconds)


async def delete_consumer(wire: Wire, stream: str, name: str) -> None:
    """Remove a consumer; one that is not there is fine."""
    try:
        await api(wire, f"CONSUMER.DELETE.{stream}.{name}", None, dict[str, Any])
    except StreamRefused as refusal:
        if refusal.error.err_code not in NOT_FOUND:
            raise


def reader_config(*, start: int, subjects: tuple[str, ...]) -> dict[str, Any]:
    """A short-lived consumer that hands out entries from `start` on without keeping anything on disk."""
    config: dict[str, Any] = {
        "name": f"reader-{secrets.token_hex(8)}",
        "deliver_policy": "by_start_sequence",
        "opt_start_seq": max(start, 1),
        "ack_policy": "none",
        "replay_policy": "instant",
        "mem_storage": True,
        "num_replicas": 1,
        "inactive_threshold": 60 * SECOND,
    }
    if subjects:
        config["filter_subjects"] = list(subjects)
    return config


# Single entries


async def get_entry(wire: Wire, stream: str, request: dict[str, Any], *, timeout_seconds: float = 5.0) -> Stored | None:
    """One entry from the stream's leader, by `{"seq": n}` or `{"last_by_subj": subject}`; None when there is none."""
    subject = f"$JS.API.STREAM.MSG.GET.{stream}"
    return entry_in(await wire.request(subject, msgspec.json.encode(request), timeout_seconds=timeout_seconds))


def entry_in(body: bytes) -> Stored | None:
    """The entry in an answer to a request for one."""
    try:
        found = answer_in(body, _Message).message
    except StreamRefused as refusal:
        if refusal.error.err_code in NOT_FOUND:
            return None
        raise Unknown(str(refusal)) from refusal
    return Stored(
        seq=found.seq,
        logged=_microseconds(found.time),
        subject=found.subject,
        id=_header(base64.b64decode(found.hdrs), MESSAGE_ID),
        body=base64.b64decode(found.data),
    )


def _header(block: bytes, name: str) -> str:
    for line in block.split(b"\r\n"):
        key, _, value = line.partition(b":")
        if key.decode("ascii", "replace") == name:
            return value.strip().decode("utf-8", "replace")
    return ""


def _microseconds(text: str) -> int:
    """RFC 3339 with up to nine digits after the point, cut like the nanoseconds of a delivered entry."""
    whole, _, fraction = text.rstrip("Z").partition(".")
    seconds = int(datetime.fromisoformat(whole).replace(tzinfo=UTC).timestamp())
    return seconds * 1_000_000 + int((fraction + "000000")[:6])
