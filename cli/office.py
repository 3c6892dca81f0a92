"""This machine's coordinator, when it holds the baton, and the way to whoever else holds it.

One control plane of many coordinates; the others stand by. Asks made here go to the coordinator in this process, or
over the log's server to the active one. They are sent again until there is an answer, which is safe: asks are
idempotent.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any, Final

import msgspec

from headway.core import asks
from headway.core.asks import Answer, AnyAsk
from headway.core.baton import Baton
from headway.core.blobs import Blobs
from headway.core.clock import Clock
from headway.core.coordinator import Coordinator, Identity, Keeper
from headway.core.envelope import Recorded
from headway.core.errors import HeadwayError, UnavailableError, UsageError, from_record
from headway.core.events import RunnerLeft, RunnerLost
from headway.core.jetstream import JetStreamLog
from headway.core.link import delete_runner_consumer, ensure_runner_consumer
from headway.core.log import Conflict, Full, Unknown
from headway.core.plan import Plan
from headway.core.wire import Subscription, Wire

ASK_SECONDS: Final = 30.0
AGAIN_SECONDS: Final = 0.05
OPEN_PAUSE_SECONDS: Final = 0.5

logger = logging.getLogger("headway.office")
Reply = Callable[[bytes], None]


class Office:
    """Runs for the baton, coordinates while it holds it, and asks."""

    def __init__(self, wire: Wire, log: JetStreamLog, blobs: Blobs, clock: Clock, identity: Identity) -> None:
        self.coordinator: Coordinator | None = None
        self.on_lost: Keeper | None = None
        self.trouble = ""
        self.fatal: HeadwayError | None = None
        self.alone = False
        self.settled = asyncio.Event()
        """It is known whether this service coordinates, or why it cannot."""
        self._wire = wire
        self._log = log
        self._blobs = blobs
        self._clock = clock
        self._identity = identity
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def unfinished(self) -> int | None:
        """How many runs have not ended, None where this is not known here."""
        desk = self.coordinator.desk if self.coordinator else None
        return len(desk.world.runs) if desk else None

    @property
    def seq(self) -> int:
        """The last event written here; what a query should have seen."""
        desk = self.coordinator.desk if self.coordinator else None
        return desk.world.seq if desk else 0

    async def run(self) -> None:
        """Take the baton, coordinate until it is lost, again; until cancelled."""
        baton = Baton(self._wire, alone=self.alone)
        try:
            while True:
                await baton.acquire()
                await self._coordinate(baton)
                await baton.release()
        finally:
            await baton.release()

    async def _coordinate(self, baton: Baton) -> None:
        coordinator = Coordinator(self._log, self._blobs, self._clock, self._identity)
        coordinator.on_lost = self.on_lost
        lost = asyncio.create_task(baton.lost())
        subscriptions: list[Subscription] = []
        try:
            while not lost.done():
                try:
                    await coordinator.open()
                    break
                except Conflict:
                    continue  # an earlier coordinator had one more word; read on
                except HeadwayError as error:
                    self.fatal = error  # a log that this version cannot read: no waiting mends that
                    self.trouble = error.message
                    self.settled.set()
                    await lost
                except (Unknown, Full) as error:
                    self.trouble = str(error)
                    self.settled.set()
                    await asyncio.sleep(OPEN_PAUSE_SECONDS)
                    if not self.alone:
                        return  # another service may be able to
            if not lost.done():
                self.trouble = ""
                self.coordinator = coordinator
                self.settled.set()
                subscriptions.append(await self._wire.serve("headway.ask.runner.*", self._runner_asks))
                subscriptions.append(await self._wire.serve("headway.ask.user.*", self._user_asks))
                await lost
        finally:
            lost.cancel()
            self.coordinator = None
            for subscription in subscriptions:
                await subscription.close()
            await coordinator.close()

    async def ask(self, ask: AnyAsk, *, actor: str, plan: Plan | None = None) -> Answer:
        """Have an ask answered by whoever coordinates. Raises what the refusal says, UnavailableError for silence."""
        end = self._clock.monotonic() + ASK_SECONDS
        while True:
            if self.fatal is not None:
                raise self.fatal
            try:
                async with asyncio.timeout(max(0.0, end - self._clock.monotonic())):
                    answer = await self._ask_once(ask, actor, plan)
            except TimeoutError:
                answer = Answer(retry=True)
            if answer.refused:
                raise from_record({"code": answer.code, "message": answer.refused, "next": answer.next})
            if not answer.retry:
                return answer
            if self._clock.monotonic() > end:
                why = (self.coordinator and self.coordinator.trouble) or self.trouble or "nobody coordinates"
                raise UnavailableError(
                    f"no answer in {ASK_SECONDS:g} s: {why}; it may be done all the same later",
                    next="look with 'headway runs' before asking again, and see 'headway doctor'",
                )
            await asyncio.sleep(AGAIN_SECONDS)

    async def _ask_once(self, ask: AnyAsk, actor: str, plan: Plan | None) -> Answer:
        if self.coordinator is not None:
            return await self.coordinator.ask(ask, actor=actor, plan=plan)
        kind, _, name = actor.partition(":")
        if kind != "user" or not self._wire.connected:
            return Answer(retry=True)
        try:
            body = await self._wire.request(f"headway.ask.user.{name}", asks.encode(ask), timeout_seconds=5.0)
            return asks.decode_answer(body)
        except (Unknown, msgspec.MsgspecError) as error:
            self.trouble = str(error)
            return Answer(retry=True)

    def _runner_asks(self, subject: str, body: bytes, reply: Reply) -> None:
        try:
            ask = asks.decode_runner_ask(body)
        except msgspec.MsgspecError as error:
            reply(asks.encode(Answer(refused=f"not an ask: {error}", code="usage")))
            return
        name = subject.rpartition(".")[2]
        if ask.runner != name:
            reply(asks.encode(Answer(refused=f"{name} cannot ask for {ask.runner[:100]}", code="refused")))
            return
        if isinstance(ask, asks.RegisterRunner):
            self._spawn(self._register(ask, f"runner:{name}", reply))
        else:
            self._hear(ask, f"runner:{name}", reply)

    async def _register(self, ask: asks.RegisterRunner, actor: str, reply: Reply) -> None:
        """A runner can be given work as soon as it is registered, so what it listens to is made first."""
        try:
            await ensure_runner_consumer(self._wire, ask.runner)
        except UsageError as error:
            reply(asks.encode(Answer(refused=error.message, code=error.code, next=error.next)))
        except (Unknown, UnavailableError) as error:
            self.trouble = str(error)
            reply(asks.encode(Answer(retry=True)))
        else:
            self._hear(ask, actor, reply)

    def departed(self, batch: list[Recorded]) -> None:
        """Forget what runners that are gone listened to."""
        if self.coordinator is None:
            return
        for one in batch:
            if isinstance(one.event, RunnerLost | RunnerLeft):
                self._spawn(self._forget(one.event.runner))

    async def _forget(self, runner: str) -> None:
        with suppress(Unknown, UnavailableError, UsageError):  # the server forgets it by itself after a while
            await delete_runner_consumer(self._wire, runner)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _user_asks(self, subject: str, body: bytes, reply: Reply) -> None:
        try:
            ask = asks.decode_user_ask(body)
        except msgspec.MsgspecError as error:
            reply(asks.encode(Answer(refused=f"not an ask: {error}", code="usage")))
            return
        self._hear(ask, f"user:{subject.rpartition('.')[2]}", reply)

    def _hear(self, ask: AnyAsk, actor: str, reply: Reply) -> None:
        if self.coordinator is None:
            reply(asks.encode(Answer(retry=True)))
            return
        answered = self.coordinator.ask(ask, actor=actor)
        answered.add_done_callback(lambda done: reply(asks.encode(done.result())))
