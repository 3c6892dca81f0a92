"""Messages that wait for an answer: found by number, and looked after by one timer for all of them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final, Protocol

from headway.core.log import Unknown

SWEEP_SECONDS: Final = 0.1


class Message(Protocol):
    """What arrives: `reply` is "" when no answer is wanted."""

    @property
    def subject(self) -> str: ...
    @property
    def reply(self) -> str: ...
    @property
    def data(self) -> bytes: ...
    @property
    def headers(self) -> dict[str, str] | None: ...


Settle = Callable[[Message | Unknown], None]


def status_of(message: Message) -> str:
    """The server's own status on a message that carries no data of anybody, such as 503; else ""."""
    return message.headers.get("Status", "") if message.headers and not message.data else ""


class Asked:
    """One message that waits for its answer."""

    __slots__ = ("deadline", "sent", "settle", "subject")

    def __init__(self, subject: str, settle: Settle, deadline: float) -> None:
        self.subject = subject
        self.settle = settle
        self.deadline = deadline
        self.sent = False


class InFlight:
    """All that was asked and not answered. Each is settled exactly once."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._asked: dict[int, Asked] = {}
        self._number = 0
        self._sweeper: asyncio.TimerHandle | None = None

    def add(self, subject: str, settle: Settle, timeout_seconds: float) -> int:
        """The number under which the answer will come."""
        self._number += 1
        self._asked[self._number] = Asked(subject, settle, self._loop.time() + timeout_seconds)
        if self._sweeper is None:
            self._sweeper = self._loop.call_later(SWEEP_SECONDS, self._sweep)
        return self._number

    def get(self, number: int) -> Asked | None:
        """Who waits under this number, if anybody still does."""
        return self._asked.get(number)

    def settle(self, number: int, answer: Message | Unknown) -> None:
        """Hand over an answer; one that comes too late has been reported as unknown and is dropped."""
        asked = self._asked.pop(number, None)
        if asked is not None:
            asked.settle(answer)

    def give_up(self, which: Callable[[Asked], bool], why: str) -> None:
        """Settle these, oldest first, as unknown."""
        for number, asked in tuple(self._asked.items()):
            if which(asked):
                self.settle(number, Unknown(f"{asked.subject}: {why}"))

    def _sweep(self) -> None:
        now = self._loop.time()
        self.give_up(lambda asked: asked.deadline <= now, "no answer in time")
        self._sweeper = self._loop.call_later(SWEEP_SECONDS, self._sweep) if self._asked else None
