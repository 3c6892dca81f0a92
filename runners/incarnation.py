"""One registered incarnation of a runner at work: taking, renewing, hearing of cancellations, running."""

from __future__ import annotations

import asyncio
import collections
import contextlib
import logging
from typing import Any, Final, TypeVar

from headway.core.asks import RenewRunner
from headway.core.errors import UnavailableError
from headway.core.events import JobAssigned, JobCancelRequested, JobLost
from headway.core.link import Delivery
from headway.core.log import Unknown
from headway.runners.attempt import Attempt, Tools
from headway.runners.executor import Executor
from headway.runners.reporter import Attempted
from headway.runners.workspace import Workspace

RENEWALS_A_LEASE: Final = 3
LIVES: Final = 0.8
"""The part of a lease after which the work is ended, if the lease was not renewed."""
LIVES_UNWATCHED: Final = 0.9
"""The part after which executors end it by themselves: this process hangs, or it would have come first."""
RENEW_PAUSE_SECONDS: Final = 0.2
REMEMBERED_MAX: Final = 10_000
TAKE_PAUSE_SECONDS: Final = 1.0

Key = tuple[str, str, int]
V = TypeVar("V")
logger = logging.getLogger("headway.runner")


class Incarnation:
    """Serves until it is stopped or its time is over. Idle executors are in `slots`, and are back there at the end."""

    def __init__(self, runner: str, *, tools: Tools, slots: collections.deque[Executor], lease_seconds: float) -> None:
        self.runner = runner
        self.lapsed = False
        self._tools = tools
        self._slots = slots
        self._all_slots = tuple(slots)
        self._lease_seconds = lease_seconds
        self._waiting: collections.deque[Attempt] = collections.deque()
        self._attempts: dict[Key, Attempt] = {}
        self._running: set[asyncio.Task[None]] = set()
        self._sweeping: set[asyncio.Task[None]] = set()
        self._known: collections.OrderedDict[Key, None] = collections.OrderedDict()
        self._cancelled: collections.OrderedDict[Key, str] = collections.OrderedDict()
        self._over: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._taking = True

    async def serve(self, *, stopping: asyncio.Event, hurry: asyncio.Event) -> str:
        """Work until the end; return why it ended, "" for being stopped. Then nothing of it runs any more."""
        for slot in self._all_slots:
            slot.renew(self._lease_seconds * LIVES_UNWATCHED)
        parts: list[asyncio.Future[None]] = [
            asyncio.create_task(part) for part in (self._take(), self._renew(), self._stop(stopping, hurry))
        ]
        try:
            waited_for: list[asyncio.Future[Any]] = [self._over, *parts]
            await asyncio.wait(waited_for, return_when=asyncio.FIRST_COMPLETED)
            for part in parts:
                if part.done() and not self._over.done():
                    part.result()  # a part that ends by itself has failed
            return self._over.result()
        finally:
            self._taking = False
            for part in parts:
                part.cancel()
            await asyncio.gather(*parts, return_exceptions=True)
            await self._kill("the runner ended")

    async def _take(self) -> None:
        """Hear what is for this runner. What is doubled, late or for another incarnation does nothing."""
        while True:
            try:
                async with contextlib.aclosing(self._tools.link.deliveries(self.runner)) as deliveries:  # type: ignore[type-var]
                    async for delivery in deliveries:
                        self._hear(delivery)
            except UnavailableError as error:
                logger.error("assignments cannot be read: %s", error.message)
            await asyncio.sleep(TAKE_PAUSE_SECONDS)

    def _hear(self, delivery: Delivery) -> None:
        envelope = delivery.recorded.envelope
        event = envelope.data
        key = (envelope.run, envelope.job, envelope.attempt)
        if isinstance(event, JobAssigned) and event.runner == self.runner:
            if not self._taking:
                return  # it is given back by leaving
            self._accept(key, event)
        elif isinstance(event, JobCancelRequested) and event.runner == self.runner:
            if (attempt := self._attempts.get(key)) is not None:
                attempt.cancel(event.reason)
            elif key not in self._known:
                _remember(self._cancelled, key, event.reason)
        elif isinstance(event, JobLost) and event.runner == self.runner and key in self._attempts:
            self._attempts[key].drop(event.reason)
        delivery.ack()

    def _accept(self, key: Key, assigned: JobAssigned) -> None:
        if key in self._known:
            return
        _remember(self._known, key, None)
        run, job, number = key
        attempt = Attempt(Attempted(runner=self.runner, run=run, job=job, attempt=number), assigned, tools=self._tools)
        if (reason := self._cancelled.pop(key, None)) is not None:
            attempt.cancel(reason)
        self._attempts[key] = attempt
        self._waiting.append(attempt)
        self._fill()

    def _fill(self) -> None:
        """Give waiting attempts the slots that are free, the one used last first: it is warm."""
        while self._waiting and self._slots:
            task = asyncio.create_task(self._run(self._waiting.popleft(), self._slots.popleft()))
            self._running.add(task)
            task.add_done_callback(self._running.discard)

    async def _run(self, attempt: Attempt, slot: Executor) -> None:
        who = attempt.attempted
        try:
            await attempt.run(slot, sweep=self._sweep)
        except Exception:  # nobody would ever hear of it again, so the next incarnation takes this one's place
            logger.exception("attempt %d of %s %s was given up", who.attempt, who.run, who.job)
            self._end(f"attempt {who.attempt} of {who.run} {who.job} broke the runner")
        finally:
            del self._attempts[(who.run, who.job, who.attempt)]
            self._slots.appendleft(slot)
            self._fill()

    def _sweep(self, workspace: Workspace) -> None:
        task = asyncio.create_task(asyncio.to_thread(workspace.remove))
        self._sweeping.add(task)
        task.add_done_callback(self._sweeping.discard)

    async def _renew(self) -> None:
        """Keep the lease. What counts is when the renewal was sent; without an answer in time all work is killed."""
        clock, loop = self._tools.clock, asyncio.get_running_loop()
        lives_seconds = self._lease_seconds * LIVES
        renewed = clock.monotonic()
        while True:
            sent = clock.monotonic()
            left = renewed + lives_seconds - sent
            if left <= 0:
                self.lapsed = True
                self._end(f"the control plane was silent for {lives_seconds:g} s, so the work was ended")
                return
            try:
                answer = await self._tools.link.ask(RenewRunner(runner=self.runner), timeout_seconds=min(left, 2.0))
            except Unknown:
                await asyncio.sleep(min(RENEW_PAUSE_SECONDS, left))
                continue
            if answer.refused:
                self._end(answer.refused)
                return
            if answer.retry:
                await asyncio.sleep(RENEW_PAUSE_SECONDS)
                continue
            renewed = sent
            for slot in self._all_slots:
                slot.renew(self._lease_seconds * LIVES_UNWATCHED - (clock.monotonic() - sent))
            next_at = loop.time() + self._lease_seconds / RENEWALS_A_LEASE
            await asyncio.sleep(max(0.0, next_at - loop.time()))

    async def _stop(self, stopping: asyncio.Event, hurry: asyncio.Event) -> None:
        """When the runner is stopped: take nothing new, let what runs finish for a while."""
        await stopping.wait()
        self._taking = False
        self._waiting.clear()
        waiting_for = asyncio.create_task(hurry.wait())
        finished = asyncio.gather(*self._running, return_exceptions=True)
        try:
            await asyncio.wait(
                (waiting_for, finished), timeout=self._tools.grace_seconds, return_when=asyncio.FIRST_COMPLETED
            )
        finally:
            waiting_for.cancel()
        self._end("")

    def _end(self, why: str) -> None:
        if not self._over.done():
            self._over.set_result(why)

    async def _kill(self, why: str) -> None:
        """End everything at once and wait until it is gone."""
        self._waiting.clear()
        for attempt in list(self._attempts.values()):
            attempt.drop(why)
        while self._running:
            await asyncio.gather(*self._running, return_exceptions=True)
        await asyncio.gather(*self._sweeping, return_exceptions=True)


def _remember(memory: collections.OrderedDict[Key, V], key: Key, value: V) -> None:
    memory[key] = value
    while len(memory) > REMEMBERED_MAX:
        memory.popitem(last=False)
