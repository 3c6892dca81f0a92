"""A runner's side of the log: it asks, takes deliveries, and publishes output. It can do nothing else.

A runner has an account of its own on the server. All that it publishes:

    headway.ask.runner.<runner>                               asks, answered by the coordinator
    headway.out.<run>.<job>.<attempt>                         output, answered by the output stream
    $JS.API.CONSUMER.MSG.NEXT.HEADWAY.runner-<runner>         pulls, answered by many messages
    $JS.ACK.HEADWAY.runner-<runner>.>                         acknowledgements, not answered

and all that it subscribes to is its own inbox, `_INBOX.>`. The consumer `runner-<runner>` is made by the coordinator.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from typing import Final, Protocol

import msgspec

from headway.core import asks
from headway.core.asks import Answer, RunnerAsk
from headway.core.envelope import Recorded, decode
from headway.core.errors import UnavailableError, UsageError
from headway.core.inflight import Message
from headway.core.log import Unknown
from headway.core.outputs import publish_output, subject_of
from headway.core.pulls import Broken, Pulls
from headway.core.streams import SECOND, STREAM, StreamRefused, delete_consumer, ensure_consumer, place_of
from headway.core.wire import Wire

ACK_SECONDS: Final = 5
FORGET_SECONDS: Final = 6 * 60 * 60
BATCH: Final = 64
PAUSE_SECONDS: Final = 0.1
PAUSE_SECONDS_MAX: Final = 1.0

logger = logging.getLogger("headway.link")
_RUNNER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]{0,80}")


class Delivery(msgspec.Struct, frozen=True):
    """An event for this runner. Until `ack` was called it comes again every five seconds.

    It may come again after that too: a server that is killed forgets the last acknowledgements.
    """

    recorded: Recorded
    ack: Callable[[], None]


class Link(Protocol):
    """What a runner needs of the log."""

    async def ask(self, ask: RunnerAsk, *, timeout_seconds: float = 5.0) -> Answer:
        """The coordinator's answer. Raises Unknown when there is none in time: ask again with the same content."""
        ...

    def deliveries(self, runner: str) -> AsyncIterator[Delivery]:
        """job.assigned, job.cancel_requested and job.lost for this runner: in order, each at least once."""
        ...

    def publish_output(self, run: str, job: str, attempt: int, body: bytes, *, id: str) -> asyncio.Future[None]:
        """Send some output; the future raises Unknown or Full. The same id may be sent again."""
        ...

    async def close(self) -> None:
        """End the connection."""
        ...


class NatsLink:
    """The link over a connection to the log's server, which it owns."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire

    async def ask(self, ask: RunnerAsk, *, timeout_seconds: float = 5.0) -> Answer:
        """As the protocol says."""
        subject = f"headway.ask.runner.{_checked(ask.runner)}"
        body = await self._wire.request(subject, asks.encode(ask), timeout_seconds=timeout_seconds)
        try:
            return asks.decode_answer(body)
        except msgspec.MsgspecError as error:
            raise Unknown(f"the coordinator's answer cannot be read: {error}") from error

    async def deliveries(self, runner: str) -> AsyncGenerator[Delivery, None]:
        """As the protocol says. Raises UnavailableError for an event of a newer Headway."""
        consumer = consumer_name(runner)
        pause = PAUSE_SECONDS
        while True:
            await self._wire.wait_connected()
            pulls = Pulls(self._wire, STREAM, consumer, batch=BATCH)
            try:
                while True:
                    for message in await pulls.next():
                        delivery = self._delivery_in(message)
                        if delivery is not None:
                            yield delivery
                    pause = PAUSE_SECONDS
            except Broken as why:
                logger.info("waiting for assignments begins anew: %s", why)
            finally:
                await pulls.close()
            await asyncio.sleep(pause)
            pause = min(pause * 2, PAUSE_SECONDS_MAX)

    def publish_output(self, run: str, job: str, attempt: int, body: bytes, *, id: str) -> asyncio.Future[None]:
        """As the protocol says."""
        return publish_output(self._wire, subject_of(run, job, attempt), body, id=id)

    async def close(self) -> None:
        """As the protocol says."""
        await self._wire.close()

    def _delivery_in(self, message: Message) -> Delivery | None:
        seq, _, logged, _ = place_of(message.reply)
        to = message.reply

        def ack() -> None:
            self._wire.send(to, b"+ACK")

        try:
            envelope = decode(message.data)
        except UnavailableError:
            raise
        except (msgspec.MsgspecError, ValueError) as error:
            logger.error("entry %d of the log is no event and is passed over: %s", seq, error)
            ack()
            return None
        return Delivery(Recorded(seq=seq, logged=logged, envelope=envelope, body=message.data), ack)


# The coordinator's side


def consumer_name(runner: str) -> str:
    """The durable consumer that holds what a runner has not acknowledged."""
    return f"runner-{_checked(runner)}"


async def ensure_runner_consumer(wire: Wire, runner: str, *, ack_seconds: float = ACK_SECONDS) -> None:
    """Make a runner's consumer; one that is there keeps its position. Raises Unknown or UnavailableError.

    It begins at the start of the log: an incarnation is new when it registers, so there is nothing for it yet, and
    should the consumer ever be made a second time, nothing is passed over.
    """
    name = consumer_name(runner)
    config = {
        "name": name,
        "durable_name": name,
        "filter_subject": f"headway.run.*.*.to.{runner}",
        "deliver_policy": "all",
        "ack_policy": "explicit",
        "ack_wait": int(ack_seconds * SECOND),
        "max_deliver": -1,
        "max_ack_pending": 1000,
        "inactive_threshold": FORGET_SECONDS * SECOND,
    }
    try:
        await ensure_consumer(wire, STREAM, config)
    except StreamRefused as refusal:
        raise UnavailableError(
            f"the server does not keep deliveries for the runner {runner}: {refusal}",
            next="check the server's limit of consumers",
        ) from refusal


async def delete_runner_consumer(wire: Wire, runner: str) -> None:
    """Forget what a runner has not acknowledged: it has left or is lost. Raises Unknown or UnavailableError."""
    try:
        await delete_consumer(wire, STREAM, consumer_name(runner))
    except StreamRefused as refusal:
        raise UnavailableError(
            f"the server does not forget the runner {runner}: {refusal}", next="it will by itself, after six hours"
        ) from refusal


def _checked(runner: str) -> str:
    if not _RUNNER.fullmatch(runner):
        raise UsageError(
            f"{runner[:100]!r} cannot be the name of a runner",
            next="use letters, digits, - and _; the first is not a -",
        )
    return runner
