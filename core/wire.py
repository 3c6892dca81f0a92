"""The connection to the log's server: the only file that knows its client library.

Everything leaves through one queue and one task, so that whoever sends never waits for a socket and is never stuck in
the library when cancelled. Answers come to one inbox, where they find who asked by a number. One timer looks after
all that is in flight. When the connection breaks, what was sent and not answered is `Unknown` at once; what was not
sent yet waits, within its own time limit, for the connection to come back, which is tried for ever.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections import deque
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any, Final

import msgspec
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription as ClientSubscription
from nats.errors import Error as ClientError

from headway.core.endpoint import Endpoint as Endpoint  # part of this file's face
from headway.core.endpoint import unreachable
from headway.core.errors import UnavailableError
from headway.core.inflight import InFlight, Message, Settle, status_of
from headway.core.log import Unknown

RECONNECT_SECONDS: Final = 0.2
PING_SECONDS: Final = 10
CLOSE_SECONDS: Final = 1.0
FLUSH_SECONDS: Final = 2
HELD_BYTES_MAX: Final = 64 * 1024 * 1024
SUBJECT_CHARACTERS_MAX: Final = 2000
"""A server ends the connection over a line of 4 KiB."""

NO_RESPONDERS: Final = "503"

logger = logging.getLogger("headway.wire")


Receive = Callable[[Message], None]
Reply = Callable[[bytes], None]
Serve = Callable[[str, bytes, Reply], None]


class _Outgoing(msgspec.Struct):
    """One message on its way out; `number` is 0 when nobody waits for an answer."""

    subject: str
    body: bytes
    number: int = 0
    reply: str = ""
    headers: dict[str, str] | None = None


class _Client(Client):
    """The library's client with a faster reading of headers, which take it two fifths of the time of reading back."""

    @staticmethod
    def _parse_header_lines(raw: bytes) -> dict[str, str]:
        found = {}
        for line in raw.decode("utf-8", "replace").split("\r\n"):
            name, colon, value = line.partition(":")
            if colon:
                found[name] = value.strip()
        return found


class Subscription:
    """Interest in a subject, kept over every reconnection until it is closed."""

    def __init__(self, subject: str, receive: Receive, forget: Callable[[Subscription], None]) -> None:
        self.subject = subject
        self._forget = forget
        self._receive = receive
        self._taken: ClientSubscription | None = None

    async def take(self, client: Client) -> None:
        """Subscribe on this client of the library."""
        self._taken = await client.subscribe(self.subject, cb=self._call, pending_msgs_limit=0, pending_bytes_limit=0)

    async def close(self) -> None:
        """End the interest; what has arrived and was not handed over yet is dropped."""
        self._forget(self)
        taken, self._taken = self._taken, None
        if taken is not None:
            try:
                await taken.unsubscribe()
            except ClientError:
                logger.debug("the interest in %s ended with its connection", self.subject)

    async def _call(self, message: Msg) -> None:
        try:
            self._receive(message)
        except Exception:
            logger.exception("a message on %s could not be handled", message.subject)


class Wire:
    """A connection that stays: see the top of this file. Made by `connect`."""

    def __init__(self, endpoint: Endpoint, *, name: str, inbox_prefix: str = "_INBOX") -> None:
        self.name = name
        self.last_violation = ""
        self._endpoint = endpoint
        self._inbox = f"{inbox_prefix}.{secrets.token_hex(8)}"
        self._loop = asyncio.get_running_loop()
        self._client: Client = _Client()
        self._online = asyncio.Event()
        self._closing = False
        self._out: deque[_Outgoing] = deque()
        self._held_bytes = 0
        self._filled = asyncio.Event()
        self._emptied = asyncio.Event()
        self._in_flight = InFlight(self._loop)
        self._inboxes = 0
        self._subscriptions: set[Subscription] = set()
        self._watchers: list[Callable[[bool], None]] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._complaint = ("", 0.0)

    @classmethod
    async def connect(
        cls, endpoint: Endpoint, *, name: str, timeout_seconds: float = 5.0, inbox_prefix: str = "_INBOX"
    ) -> Wire:
        """Connect now, or raise UnavailableError as soon as it is clear that this does not work."""
        wire = cls(endpoint, name=name, inbox_prefix=inbox_prefix)
        wire._client = await wire._dial(timeout_seconds)
        wire._online.set()
        wire._spawn(wire._pump())
        await wire.subscribe(f"{wire._inbox}.*", wire._answered)
        return wire

    async def close(self) -> None:
        """Send what waits, within a second, and end. Whoever still waits for an answer gets Unknown."""
        if self._closing:
            return
        if self._online.is_set() and self._out:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._emptied.wait(), CLOSE_SECONDS)
        self._closing = True
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._client.close()
        self._in_flight.give_up(lambda _: True, "the connection was closed")

    # State

    @property
    def connected(self) -> bool:
        """Whether the server is there, as far as is known."""
        return self._online.is_set() and self._client.is_connected

    async def wait_connected(self) -> None:
        """Wait until there is a connection."""
        await self._online.wait()

    def on_state(self, watcher: Callable[[bool], None]) -> Callable[[], None]:
        """Call `watcher` with False when the connection is lost and True when it is back; returns how to stop that."""
        self._watchers.append(watcher)
        return lambda: self._watchers.remove(watcher)

    # Sending

    def send(self, subject: str, body: bytes, *, reply: str = "") -> None:
        """Send without wanting to know; lost when there is no connection."""
        if self.connected and not self._closing:
            self._put(_Outgoing(subject, body, reply=reply))

    def exchange(
        self,
        subject: str,
        body: bytes,
        *,
        settle: Settle,
        headers: dict[str, str] | None = None,
        timeout_seconds: float = 5.0,
    ) -> None:
        """Send, and call `settle` once, with the answer or with the Unknown that says why there is none."""
        too_much = self._held_bytes + len(body) > HELD_BYTES_MAX or len(body) > self._client.max_payload
        if self._closing or too_much or len(subject) > SUBJECT_CHARACTERS_MAX:
            settle(Unknown("the connection is closed" if self._closing else f"too much to send on {subject[:100]}"))
            return
        number = self._in_flight.add(subject, settle, timeout_seconds)
        self._put(_Outgoing(subject, body, number, f"{self._inbox}.{number}", headers))

    async def request(
        self, subject: str, body: bytes, *, headers: dict[str, str] | None = None, timeout_seconds: float = 5.0
    ) -> bytes:
        """Send and wait for the answer's bytes. Raises Unknown."""
        answer: asyncio.Future[bytes] = self._loop.create_future()

        def settle(found: Message | Unknown) -> None:
            if answer.done():
                return
            if isinstance(found, Unknown):
                answer.set_exception(found)
            else:
                answer.set_result(found.data)

        self.exchange(subject, body, settle=settle, headers=headers, timeout_seconds=timeout_seconds)
        return await answer

    # Receiving

    def new_inbox(self) -> str:
        """A subject that only this connection knows of."""
        self._inboxes += 1
        return f"{self._inbox}.in.{self._inboxes}"

    async def subscribe(self, subject: str, receive: Receive) -> Subscription:
        """Have `receive` called with every message on a subject, in order; it must not take long."""
        subscription = Subscription(subject, receive, self._subscriptions.discard)
        self._subscriptions.add(subscription)
        if not self._client.is_closed:  # else whoever brings the connection back takes it
            await subscription.take(self._client)
        return subscription

    async def serve(self, subject: str, handler: Serve) -> Subscription:
        """Answer requests: `handler(subject, body, reply)` is called in order and may reply then or later.

        When this returns, the server knows where to send them.
        """

        def receive(message: Message) -> None:
            to = message.reply
            handler(message.subject, message.data, lambda body: self.send(to, body) if to else None)

        subscription = await self.subscribe(subject, receive)
        with suppress(ClientError):  # without a connection, the server is told when it is back
            await self._client.flush(FLUSH_SECONDS)  # the library's ping overtakes what it has not written yet,
            await self._client.flush(FLUSH_SECONDS)  # so only the second one says that this has arrived
        return subscription

    # Inside

    def _put(self, message: _Outgoing) -> None:
        self._out.append(message)
        self._held_bytes += len(message.body)
        self._filled.set()

    async def _pump(self) -> None:
        """Hand what is to be sent to the library, in order, while there is a connection."""
        while not self._closing:
            if not self._out:
                self._emptied.set()
                self._filled.clear()
                await self._filled.wait()
                self._emptied.clear()
            if not self.connected:
                self._online.clear()
                await self._online.wait()
            message = self._out.popleft()
            self._held_bytes -= len(message.body)
            asked = self._in_flight.get(message.number)
            if message.number and asked is None:
                continue  # its time ran out while there was no connection
            if asked is not None:
                asked.sent = True
            try:
                await self._client.publish(message.subject, message.body, message.reply, message.headers)
            except (ClientError, OSError, ValueError) as error:
                self._in_flight.settle(message.number, Unknown(f"{message.subject} could not be sent: {error}"))

    def _answered(self, message: Message) -> None:
        number = int(message.subject.rpartition(".")[2])
        if message.headers and status_of(message) == NO_RESPONDERS:
            self._in_flight.settle(number, Unknown("nobody answers there"))
        else:
            self._in_flight.settle(number, message)

    # The library's callbacks, and the library's own end

    async def _dial(self, timeout_seconds: float) -> Client:
        """A connected client of the library. It tries for ever by itself, so its complaints are counted here."""
        urls = self._endpoint.urls
        client, complaints = _Client(), 0
        failed: asyncio.Future[Exception] = self._loop.create_future()

        async def on_error(error: Exception) -> None:
            nonlocal complaints
            complaints += 1
            if client is self._client:
                self._complain(error)
            elif complaints >= len(urls) and not failed.done():
                failed.set_result(error)

        connecting = asyncio.ensure_future(client.connect(urls, error_cb=on_error, **self._options(client)))
        first: set[asyncio.Future[Any]] = {connecting, failed}
        try:
            await asyncio.wait(first, timeout=timeout_seconds, return_when=asyncio.FIRST_COMPLETED)
            if connecting.done():
                connecting.result()
                return client
            raise unreachable(self._endpoint, failed.result() if failed.done() else None)
        except BaseException as error:
            connecting.cancel()
            await asyncio.gather(connecting, return_exceptions=True)
            await client.close()
            if isinstance(error, ClientError | OSError | ValueError):
                raise unreachable(self._endpoint, error) from error
            raise

    def _options(self, client: Client) -> dict[str, Any]:
        def calls(act: Callable[[], None]) -> Callable[[], Coroutine[Any, Any, None]]:
            async def call() -> None:
                if client is self._client and not self._closing:
                    act()

            return call

        options: dict[str, Any] = {
            "name": self.name,
            "disconnected_cb": calls(self._lost),
            "reconnected_cb": calls(self._back),
            "closed_cb": calls(self._abandoned),
            "max_reconnect_attempts": -1,
            "reconnect_time_wait": RECONNECT_SECONDS,
            "ping_interval": PING_SECONDS,
            "max_outstanding_pings": 2,
            "flush_timeout": 2,
            "pending_size": 8 * 1024 * 1024,
        }
        if self._endpoint.user or self._endpoint.password:
            options |= {"user": self._endpoint.user, "password": self._endpoint.password}
        return options

    async def _revive(self) -> None:
        """A fresh client where the library gave up for good, as it does when the server refuses it once."""
        while not self._closing:
            try:
                client = await self._dial(2.0)
            except UnavailableError as error:
                self._complain(error)
                await asyncio.sleep(RECONNECT_SECONDS)
                continue
            self._client = client
            try:
                for subscription in tuple(self._subscriptions):
                    await subscription.take(client)
            except ClientError as error:
                self._complain(error)
                return  # it closed already, which has started the next try
            self._back()
            return

    def _lost(self) -> None:
        if self._online.is_set():
            logger.info("%s lost its connection", self.name)
        self._online.clear()
        self._in_flight.give_up(lambda asked: asked.sent, "the connection was lost before the answer")
        self._tell(False)

    def _abandoned(self) -> None:
        self._lost()
        self._spawn(self._revive())

    def _back(self) -> None:
        logger.info("%s is connected again", self.name)
        self._online.set()
        self._tell(True)

    def _tell(self, connected: bool) -> None:
        for watcher in tuple(self._watchers):
            try:
                watcher(connected)
            except Exception:
                logger.exception("a watcher of the connection failed")

    def _complain(self, error: Exception) -> None:
        """Say what the library or the server complains about: once, not at every try."""
        words = str(error) or type(error).__name__
        now = self._loop.time()
        if "permissions violation" in words.lower():
            self.last_violation = words
            self._in_flight.give_up(lambda asked: f'"{asked.subject.lower()}"' in words.lower(), words)
        said, at = self._complaint
        if not self._closing and (words != said or now > at + PING_SECONDS):
            self._complaint = (words, now)
            logger.warning("%s: %s", self.name, words)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            logger.error("%s: a part of the connection ended", self.name, exc_info=task.exception())
