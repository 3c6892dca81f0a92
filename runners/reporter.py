"""Says the facts of one attempt to the coordinator: in order, numbered, each until it is answered.

Nobody waits for an answer but at the end: facts queue up while one report is on its way, and go together in the next.
A report that is not answered soon is written to the spool, and sent again, the same, for as long as the runner lives.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

import msgspec

from headway.core.asks import Answer, Report, RunnerAsk, RunnerFact, Said
from headway.core.clock import Clock
from headway.core.errors import UnavailableError
from headway.core.link import Link
from headway.core.log import Unknown
from headway.runners.spool import Spool

HOLD_SECONDS: Final = 0.003
"""A fact that may wait, waits so long for company: a quick job's facts then travel together."""
SPOOL_SECONDS: Final = 0.05
"""A report that is answered sooner was never in danger."""
ASK_SECONDS: Final = 5.0
PAUSE_SECONDS: Final = 0.2
FACTS_MAX: Final = 64


class Attempted(msgspec.Struct, frozen=True, kw_only=True):
    """Whose facts these are."""

    runner: str
    run: str
    job: str
    attempt: int


class Reporter:
    """The facts of one attempt. `on_refused` is called once, when the coordinator says that it no longer counts."""

    def __init__(
        self, attempted: Attempted, *, link: Link, spool: Spool, clock: Clock, on_refused: Callable[[str], None]
    ) -> None:
        self._attempted = attempted
        self._link = link
        self._spool = spool
        self._clock = clock
        self._on_refused = on_refused
        self._queue: list[Said] = []
        self._said = 0
        self._sender: asyncio.Task[None] | None = None
        self._hold: asyncio.TimerHandle | None = None
        self.refused = ""

    def next_fact(self) -> int:
        """The number of the next fact; each must be said at once, in this order."""
        self._said += 1
        return self._said

    def say(self, what: RunnerFact, *, hold: bool = False) -> None:
        """Report a fact as soon as the ones before it are answered; with `hold` it may wait a moment for the next."""
        assert what.fact == self._said, "facts are said in the order of their numbers"
        if self.refused:
            return
        self._queue.append(Said(at=self._clock.wall_us(), what=what))
        if self._sender is None:
            if not hold:
                self._send()
            elif self._hold is None:
                self._hold = asyncio.get_running_loop().call_later(HOLD_SECONDS, self._send)

    async def drained(self) -> None:
        """Wait until everything said is answered, or refused."""
        if self._queue and self._sender is None:
            self._send()
        if (sender := self._sender) is not None:
            await asyncio.wait((sender,))
            if not sender.cancelled():
                sender.result()

    def drop(self) -> None:
        """Say nothing more, whatever was not answered yet. Whoever waits for that, waits no longer."""
        self.refused = self.refused or "dropped"
        self._queue.clear()
        if self._hold is not None:
            self._hold.cancel()
            self._hold = None
        if self._sender is not None and self._sender is not asyncio.current_task():
            self._sender.cancel()

    def _send(self) -> None:
        if self._hold is not None:
            self._hold.cancel()
            self._hold = None
        if self._sender is None and self._queue:
            self._sender = asyncio.create_task(self._send_all())

    async def _send_all(self) -> None:
        try:
            while self._queue:
                facts, self._queue = tuple(self._queue[:FACTS_MAX]), self._queue[FACTS_MAX:]
                answer = await self._report(facts)
                if answer.refused:
                    self.refused = answer.refused
                    self._queue.clear()
                    self._on_refused(answer.refused)
        finally:
            self._sender = None

    async def _report(self, facts: tuple[Said, ...]) -> Answer:
        """Send one report until it is answered, and keep it on disk when that takes time."""
        report = Report(**msgspec.structs.asdict(self._attempted), facts=facts)
        asking = asyncio.ensure_future(ask_until_answered(self._link, report))
        try:
            done, _ = await asyncio.wait((asking,), timeout=SPOOL_SECONDS)
            if done:
                return asking.result()
            key = await self._keep(report)
            answer = await asking
            if key:
                self._spool.answered(key)
            return answer
        finally:
            asking.cancel()

    async def _keep(self, report: Report) -> int:
        try:
            return await self._spool.keep(report)
        except UnavailableError:
            return 0  # a full disk must not keep the report from being sent


async def ask_until_answered(link: Link, ask: RunnerAsk) -> Answer:
    """The coordinator's answer, however often it has to be asked; the same ask twice does no harm."""
    while True:
        try:
            answer = await link.ask(ask, timeout_seconds=ASK_SECONDS)
        except Unknown:
            answer = None
        if answer is not None and not answer.retry:
            return answer
        await asyncio.sleep(PAUSE_SECONDS)
