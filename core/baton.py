"""One active coordinator: whoever holds the baton.

The baton is one message that is never acknowledged. The server hands it to one waiting process at a time, and to the
next when the holder has not renewed its hold for three seconds. Who gets it writes its name beside it: a server that
was killed may have forgotten that it had handed the baton out, and would let two renew it for ever. A holder has lost
it when it reads another name there, or when three seconds pass without the server's word.

It is for quiet only: that two who both believe to hold it do no harm is the business of the log's expectations.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from contextlib import suppress
from typing import Final

from headway.core.errors import UnavailableError
from headway.core.inflight import Message
from headway.core.log import Unknown
from headway.core.pulls import Broken, Pulls
from headway.core.streams import (
    BATON_STREAM,
    SECOND,
    PubAck,
    StreamRefused,
    answer_in,
    delete_consumer,
    ensure_consumer,
    ensure_stream,
    get_entry,
)
from headway.core.wire import Wire

HOLD_SECONDS: Final = 3.0
RENEW_SECONDS: Final = 1.0
ANSWER_SECONDS: Final = 1.0
PAUSE_SECONDS: Final = 0.2
CONSUMER: Final = "baton"
SUBJECT: Final = "headway.baton"
HOLDER: Final = "headway.baton.holder"

logger = logging.getLogger("headway.baton")


class Baton:
    """This process's hold on the baton, or its wait for it.

    `alone` says that nobody else can want it, because the server is this process's own: then a hold that is still
    there is that of a process that died, and is not waited for.
    """

    def __init__(
        self,
        wire: Wire,
        *,
        alone: bool = False,
        hold_seconds: float = HOLD_SECONDS,
        renew_seconds: float = RENEW_SECONDS,
    ) -> None:
        self._wire = wire
        self._alone = alone
        self._hold_seconds = hold_seconds
        self._renew_seconds = renew_seconds
        self._name = secrets.token_hex(16).encode()
        self._held: Message | None = None
        self._sure = 0.0
        self._lost = asyncio.Event()
        self._lost.set()
        self._keeping: asyncio.Task[None] | None = None

    @property
    def held(self) -> bool:
        """Whether this process holds it, as far as it knows."""
        return self._held is not None

    async def acquire(self) -> None:
        """Wait until this process holds the baton, however long the server is away meanwhile."""
        assert self._held is None, "the baton is acquired once at a time"
        while True:
            await self._wire.wait_connected()
            try:
                if self._alone:
                    await delete_consumer(self._wire, BATON_STREAM, CONSUMER)
                await self._prepare()
                message = await self._take()
                self._sure = asyncio.get_running_loop().time()
                answer_in(await self._wire.request(HOLDER, self._name, timeout_seconds=ANSWER_SECONDS), PubAck)
                if await self._renewed(message, ANSWER_SECONDS):
                    break
            except (Broken, Unknown, StreamRefused, UnavailableError) as error:
                logger.info("waiting for the baton begins anew: %s", error)
                await asyncio.sleep(PAUSE_SECONDS)
        self._held = message
        self._lost.clear()
        self._keeping = asyncio.create_task(self._keep(message))

    async def lost(self) -> None:
        """Wait until this process does not hold the baton; at once if it does not now."""
        await self._lost.wait()

    async def release(self) -> None:
        """Hand the baton on, so that the next one need not wait. Harmless without it."""
        message, self._held = self._held, None
        self._lost.set()
        if self._keeping is not None:
            self._keeping.cancel()
            await asyncio.gather(self._keeping, return_exceptions=True)
            self._keeping = None
        if message is not None:
            with suppress(Unknown):
                await self._wire.request(message.reply, b"-NAK", timeout_seconds=ANSWER_SECONDS)

    async def _prepare(self) -> None:
        """The stream, its one message and its one consumer."""
        stream = {
            "name": BATON_STREAM,
            "subjects": [SUBJECT, HOLDER],
            "storage": "file",
            "retention": "limits",
            "max_bytes": 64 * 1024,
            "max_msgs_per_subject": 1,
        }
        await ensure_stream(self._wire, stream, fixed=("storage", "retention"))
        if await get_entry(self._wire, BATON_STREAM, {"last_by_subj": SUBJECT}) is None:
            # Whoever else makes it at this moment makes the same.
            await self._wire.request(SUBJECT, b"baton", headers={"Nats-Expected-Last-Subject-Sequence": "0"})
        config = {
            "name": CONSUMER,
            "durable_name": CONSUMER,
            "filter_subject": SUBJECT,
            "deliver_policy": "all",
            "ack_policy": "explicit",
            "ack_wait": int(self._hold_seconds * SECOND),
            "max_deliver": -1,
            "max_ack_pending": 1,
        }
        await ensure_consumer(self._wire, BATON_STREAM, config)

    async def _take(self) -> Message:
        pulls = Pulls(self._wire, BATON_STREAM, CONSUMER, batch=1)
        try:
            return (await pulls.next())[0]
        finally:
            await pulls.close()

    async def _renewed(self, message: Message, timeout_seconds: float) -> bool:
        """Renew the hold; False when it is somebody else's by now. Raises Unknown or StreamRefused."""
        await self._wire.request(message.reply, b"+WPI", timeout_seconds=timeout_seconds)
        holder = await get_entry(self._wire, BATON_STREAM, {"last_by_subj": HOLDER}, timeout_seconds=timeout_seconds)
        return holder is not None and holder.body == self._name

    async def _keep(self, message: Message) -> None:
        loop = asyncio.get_running_loop()
        while True:
            left = self._sure + self._hold_seconds - loop.time()
            await asyncio.sleep(max(0.0, min(self._renew_seconds, left)))
            sent = loop.time()
            left = self._sure + self._hold_seconds - sent
            why = "no word from the server in time"
            try:
                if left > 0 and not await self._renewed(message, min(ANSWER_SECONDS, left)):
                    why, left = "somebody else has it", 0.0
            except (Unknown, StreamRefused) as error:
                why = str(error)
                sent = self._sure
            if left <= 0 or loop.time() > self._sure + self._hold_seconds:
                logger.warning("the baton is lost: %s", why)
                self._held = None
                self._lost.set()
                return
            self._sure = sent
