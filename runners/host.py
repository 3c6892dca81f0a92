"""The executor that runs commands on this machine, each in a process group of its own, under a supervisor."""

from __future__ import annotations

import asyncio
import collections
import contextlib
import os
import signal
from collections.abc import AsyncGenerator, Callable
from typing import Final

from headway.runners.executor import LEASE_OVER, Chunk, Command, ExecutorBroken, Exited, Stream
from headway.runners.processes import kill_marked
from headway.runners.supervision import Ended, Refused, Spawned, Supervisor

READ_BYTES: Final = 1 << 16
HELD_BYTES_MAX: Final = 1 << 20
"""So much may wait to be taken; beyond it the pipe fills and the command waits."""
LINGER_SECONDS: Final = 0.25
"""How long output may still come when the command has ended and something it left holds its output open."""
KILLED_SECONDS: Final = 30.0
"""A command that SIGKILL has not ended by then is stuck in the kernel."""


class _Pipe:
    """One stream of a command, read as it comes."""

    def __init__(self, stream: Stream, take: Callable[[Chunk | None], None]) -> None:
        self.stream: Stream = stream
        self.read_fd, self.write_fd = os.pipe2(os.O_CLOEXEC)
        os.set_blocking(self.read_fd, False)
        self._take: Callable[[Chunk | None], None] = take
        self._loop = asyncio.get_running_loop()
        self._reading = False
        self.open = True
        self.resume()

    def close_ours(self) -> None:
        """Let go of the writing end, so that the end of the stream can be seen."""
        if self.write_fd >= 0:
            os.close(self.write_fd)
            self.write_fd = -1

    def pause(self) -> None:
        """Leave what comes in the pipe."""
        if self._reading:
            self._loop.remove_reader(self.read_fd)
            self._reading = False

    def resume(self) -> None:
        """Read again."""
        if self.open and not self._reading:
            self._loop.add_reader(self.read_fd, self.read)
            self._reading = True

    def read(self) -> bool:
        """Read once; False when nothing is there now."""
        try:
            body = os.read(self.read_fd, READ_BYTES)
        except BlockingIOError:
            return False
        if body:
            self._take(Chunk(self.stream, body))
        else:
            self.close()
            self._take(None)
        return bool(body)

    def drop(self) -> None:
        """From now on, read what comes only so that nobody who writes it has to wait."""
        self._take = lambda chunk: None
        self.resume()

    def close(self) -> None:
        """Read no more."""
        self.close_ours()
        self.pause()
        if self.open:
            os.close(self.read_fd)
            self.open = False


class _Process:
    """A command that runs: what it has printed so far, and what is known of its end."""

    def __init__(self, command: Command) -> None:
        self.command = command
        self.held: collections.deque[Chunk] = collections.deque()
        self.held_bytes = 0
        self.woken = asyncio.Event()
        self.pipes = (_Pipe("out", self.take), _Pipe("err", self.take))
        self.spawned: Spawned | None = None
        self.stop_reason = ""
        self.stopped = False
        self.timers: list[asyncio.TimerHandle] = []

    @property
    def quiet(self) -> bool:
        """Both streams have come to their end."""
        return not any(pipe.open for pipe in self.pipes)

    @property
    def ended(self) -> bool:
        """The process itself has ended, or nothing more will be heard of it."""
        return self.spawned is not None and self.spawned.ended.done()

    def take(self, chunk: Chunk | None) -> None:
        """Keep what was read until it is fetched."""
        if chunk is not None:
            self.held.append(chunk)
            self.held_bytes += len(chunk.body)
            if self.held_bytes > HELD_BYTES_MAX:
                for pipe in self.pipes:
                    pipe.pause()
        self.woken.set()

    def fetch(self) -> Chunk:
        """The oldest that is kept."""
        chunk = self.held.popleft()
        self.held_bytes -= len(chunk.body)
        if self.held_bytes <= HELD_BYTES_MAX // 2:
            for pipe in self.pipes:
                pipe.resume()
        return chunk

    async def wake(self) -> None:
        """Wait until something is there to look at."""
        await self.woken.wait()
        self.woken.clear()

    def release(self) -> None:
        """Stop the timers; leave the pipes to whoever still writes to them."""
        for timer in self.timers:
            timer.cancel()
        for pipe in self.pipes:
            pipe.close_ours()
            pipe.drop()


class HostExecutor:
    """Runs commands under a supervisor of its own, which it replaces when it dies. See `executor.py`."""

    def __init__(self, *, lock_fds: tuple[int, ...] = ()) -> None:
        self._lock_fds = lock_fds
        self._supervisor: Supervisor | None = None
        self._process: _Process | None = None
        self._leftover: list[_Pipe] = []
        self._marker = ""
        self._orphaned = False
        """A supervisor died, so that something of this job may run that only its marker tells."""
        self._lease_seconds = 0.0
        self._lease_given = 0.0

    @property
    def supervisor_pid(self) -> int:
        """The supervisor's process, 0 while there is none."""
        return self._supervisor.pid if self._supervisor is not None else 0

    def start(self) -> None:
        """Start the supervisor now, so that the first command finds it ready."""
        if self._supervisor is not None and not self._supervisor.alive:
            self._orphaned = True
            self._supervisor.forget()
            self._supervisor = None
        if self._supervisor is None:
            self._supervisor = Supervisor(lock_fds=self._lock_fds)
            self._give_lease()

    async def run(self, command: Command) -> AsyncGenerator[Chunk | Exited, None]:
        """Run one command to its end."""
        assert self._process is None, "an executor runs one command at a time"
        self.start()
        self._marker = command.marker
        process = self._process = _Process(command)
        try:
            refused = await self._spawn(process)
            if refused is None:
                while not process.ended:
                    while process.held:
                        yield process.fetch()
                    if not process.ended:
                        await process.wake()
                await self._linger(process)
            while process.held:
                yield process.fetch()
            yield refused or self._exited(process)
        except ExecutorBroken:
            await self._replace(process)
            raise
        finally:
            self._leave(process)

    def stop(self, reason: str, *, at_once: bool = False) -> None:
        """End the command that runs: SIGTERM, grace, SIGKILL."""
        process = self._process
        if process is None or process.ended or (process.stopped and not at_once):
            return
        if not process.stopped:
            process.stopped = True
            process.stop_reason = reason
        if process.spawned is None:
            return
        with contextlib.suppress(ExecutorBroken):
            self._signal(process, signal.SIGKILL if at_once else signal.SIGTERM)
        if not at_once:
            loop = asyncio.get_running_loop()
            process.timers.append(loop.call_later(process.command.grace_seconds, self._kill, process))

    async def clear(self) -> None:
        """Kill what is left of earlier commands."""
        supervisor = self._supervisor
        try:
            if supervisor is not None:
                await supervisor.clear()
        except ExecutorBroken:
            assert supervisor is not None, "it has just been asked"
            self._supervisor = None
            self._orphaned = True
            await supervisor.abandon()
        finally:
            while self._leftover:
                self._leftover.pop().close()
        if self._orphaned and self._marker:
            await asyncio.to_thread(kill_marked, self._marker)
        self._orphaned = False

    def renew(self, seconds: float) -> None:
        """Let the work go on for so long."""
        self._lease_seconds = seconds
        self._lease_given = asyncio.get_running_loop().time()
        self._give_lease()

    async def close(self) -> None:
        """Let go of the supervisor, which ends everything."""
        supervisor, self._supervisor = self._supervisor, None
        try:
            if supervisor is not None:
                await supervisor.close()
        finally:
            while self._leftover:
                self._leftover.pop().close()

    async def _spawn(self, process: _Process) -> Exited | None:
        """Start the process; how it ended, if it could not be started."""
        assert self._supervisor is not None, "run starts the supervisor"
        if process.stopped:
            return Exited(stopped=True, reason=process.stop_reason)
        out, err = process.pipes
        process.spawned = spawned = self._supervisor.spawn(process.command, out=out.write_fd, err=err.write_fd)
        out.close_ours()
        err.close_ours()
        spawned.ended.add_done_callback(lambda _: process.woken.set())
        loop = asyncio.get_running_loop()
        process.timers.append(loop.call_later(process.command.timeout_seconds, self._time_out, process))
        try:
            async with asyncio.timeout(KILLED_SECONDS):
                answer = await spawned.pid
        except TimeoutError:
            raise ExecutorBroken("the supervisor does not answer") from None
        if isinstance(answer, Refused):
            return Exited(reason=f"{process.command.argv[0]} could not be started: {os.strerror(answer.errno).lower()}")
        return None

    def _time_out(self, process: _Process) -> None:
        if process is self._process:
            self.stop(process.command.timeout_reason or "timed out")

    def _kill(self, process: _Process) -> None:
        if process is self._process and not process.ended:
            with contextlib.suppress(ExecutorBroken):
                self._signal(process, signal.SIGKILL)

    def _signal(self, process: _Process, number: signal.Signals) -> None:
        if self._supervisor is None or process.spawned is None:
            return
        self._supervisor.signal(process.spawned, number)
        if number is signal.SIGKILL:
            stuck = ExecutorBroken("the process could not be killed")
            loop = asyncio.get_running_loop()
            process.timers.append(loop.call_later(KILLED_SECONDS, process.spawned.fail, stuck))

    async def _linger(self, process: _Process) -> None:
        """Take what the process had printed before it ended, and a little of what others still print for it."""
        try:
            async with asyncio.timeout(LINGER_SECONDS):
                while not process.quiet and not process.held_bytes > HELD_BYTES_MAX:
                    await process.wake()
        except TimeoutError:
            for pipe in process.pipes:
                while pipe.open and process.held_bytes <= 2 * HELD_BYTES_MAX and pipe.read():
                    pass

    def _exited(self, process: _Process) -> Exited:
        assert process.spawned is not None, "the process was started"
        ended: Ended = process.spawned.ended.result()
        code = os.waitstatus_to_exitcode(ended.status)
        return Exited(
            exit_code=code if code >= 0 else None,
            signal=signal_name(-code) if code < 0 else "",
            stopped=process.stopped or bool(ended.lapsed),
            reason=process.stop_reason or (LEASE_OVER if ended.lapsed else ""),
            cpu_ms=ended.cpu_ms,
            memory_bytes=ended.memory_bytes,
        )

    def _leave(self, process: _Process) -> None:
        """However `run` is left: nothing of the command goes on, but for what it put in the background."""
        if not process.ended:
            with contextlib.suppress(ExecutorBroken):
                self._signal(process, signal.SIGKILL)
        process.release()
        self._leftover += [pipe for pipe in process.pipes if pipe.open]
        self._process = None

    async def _replace(self, process: _Process) -> None:
        """The supervisor died or hangs: end its work by other means. The next command gets a new one."""
        supervisor, self._supervisor = self._supervisor, None
        self._orphaned = True
        if supervisor is not None:
            await supervisor.abandon()
        session = 0
        if process.spawned is not None and process.spawned.pid.done() and not process.spawned.pid.exception():
            pid = process.spawned.pid.result()
            session = pid if isinstance(pid, int) else 0
        if process.command.marker:
            await asyncio.to_thread(kill_marked, process.command.marker, session=session)

    def _give_lease(self) -> None:
        if self._supervisor is not None and self._lease_seconds:
            left = self._lease_seconds - (asyncio.get_running_loop().time() - self._lease_given)
            with contextlib.suppress(ExecutorBroken):
                self._supervisor.renew(max(left, 0.001))


def signal_name(number: int) -> str:
    """SIGKILL for 9, and a plain number where there is no name."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
