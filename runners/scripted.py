"""An executor that runs nothing: it does what a script says, and obeys the contract of `executor.py`.

For tests of everything above executors: it prints, floods, hangs, ignores SIGTERM and breaks on request.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from typing import Final

import msgspec

from headway.runners.executor import LEASE_OVER, Chunk, Command, ExecutorBroken, Exited, Stream

FLOOD_CHUNK_BYTES: Final = 1 << 16


class Say(msgspec.Struct, frozen=True):
    """Print."""

    body: bytes
    stream: Stream = "out"


class Flood(msgspec.Struct, frozen=True):
    """Print so many bytes."""

    bytes: int


class Hang(msgspec.Struct, frozen=True):
    """Go on until stopped; `stubborn` ignores SIGTERM."""

    stubborn: bool = False


class Die(msgspec.Struct, frozen=True):
    """The executor breaks."""

    reason: str = "scripted"


class End(msgspec.Struct, frozen=True):
    """End, with an exit code or by a signal."""

    exit_code: int | None = 0
    signal: str = ""


class Refuse(msgspec.Struct, frozen=True):
    """The command cannot be started."""

    reason: str


Act = Say | Flood | Hang | Die | End | Refuse


class ScriptedExecutor:
    """Does for each command what `script` answers for it, then ends with exit code 0 unless told otherwise."""

    def __init__(self, script: Callable[[Command], list[Act]]) -> None:
        self._script = script
        self._term = asyncio.Event()
        self._kill = asyncio.Event()
        self._stop_reason: str | None = None
        self._running = False
        self._command: Command | None = None
        self._lease: asyncio.TimerHandle | None = None
        self.commands: list[Command] = []
        self.cleared = 0
        self.closed = False

    async def run(self, command: Command) -> AsyncGenerator[Chunk | Exited, None]:
        """Play the script of one command."""
        assert not self._running, "an executor runs one command at a time"
        assert not self.closed, "nothing runs after close"
        self._running = True
        self._term.clear()
        self._kill.clear()
        self._stop_reason = None
        self._command = command
        self.commands.append(command)
        loop = asyncio.get_running_loop()
        timer = loop.call_later(command.timeout_seconds, self.stop, command.timeout_reason)
        try:
            for act in [*self._script(command), End()]:
                if isinstance(act, Say):
                    yield Chunk(act.stream, act.body)
                elif isinstance(act, Flood):
                    for at in range(0, act.bytes, FLOOD_CHUNK_BYTES):
                        yield Chunk("out", b"x" * min(FLOOD_CHUNK_BYTES, act.bytes - at))
                        await asyncio.sleep(0)
                elif isinstance(act, Die):
                    raise ExecutorBroken(act.reason)
                elif isinstance(act, Hang):
                    await self._hang(act)
                    break
                else:
                    yield _end(act)
                    return
            by = "SIGKILL" if self._kill.is_set() else "SIGTERM"
            yield Exited(signal=by, stopped=self._stop_reason is not None, reason=self._stop_reason or "")
        finally:
            timer.cancel()
            self._running = False

    def stop(self, reason: str, *, at_once: bool = False) -> None:
        """End what hangs."""
        if not self._running:
            return
        if self._stop_reason is None:
            self._stop_reason = reason
        self._term.set()
        if at_once:
            self._kill.set()

    async def clear(self) -> None:
        """There is never anything left; the call is counted."""
        self.cleared += 1

    def renew(self, seconds: float) -> None:
        """Kill what runs when the lease is over."""
        if self._lease is not None:
            self._lease.cancel()
        self._lease = asyncio.get_running_loop().call_later(seconds, self._lapse)

    async def close(self) -> None:
        """Nothing runs any more."""
        self._lapse()
        if self._lease is not None:
            self._lease.cancel()
        self.closed = True

    def _lapse(self) -> None:
        if self._running and self._stop_reason is None:
            self._stop_reason = LEASE_OVER
        self._term.set()
        self._kill.set()

    async def _hang(self, act: Hang) -> None:
        assert self._command is not None, "a command runs"
        await self._term.wait()
        if act.stubborn:
            try:
                async with asyncio.timeout(self._command.grace_seconds):
                    await self._kill.wait()
            except TimeoutError:
                self._kill.set()


def _end(act: End | Refuse) -> Exited:
    if isinstance(act, Refuse):
        return Exited(reason=act.reason)
    return Exited(exit_code=None if act.signal else act.exit_code, signal=act.signal)
