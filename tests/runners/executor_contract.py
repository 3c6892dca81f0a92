"""What every executor must do, as tests: subclass, and say how to have something done."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from pathlib import Path

import pytest
from waiting import breathe

from headway.runners.executor import LEASE_OVER, Chunk, Command, Executor, Exited
from headway.runners.scripted import Act, End, Flood, Hang, Refuse, Say


class ExecutorContract:
    """The contract of `headway.runners.executor`."""

    executor: Executor

    def command(self, *acts: Act, timeout_seconds: float = 20.0, grace_seconds: float = 5.0) -> Command:
        """A command that does this."""
        raise NotImplementedError

    async def seen(self, command: Command) -> tuple[dict[str, bytes], Exited]:
        """What a command printed on each stream, and how it ended; nothing may come after that."""
        printed = {"out": b"", "err": b""}
        exited = None
        async for event in self.executor.run(command):
            assert exited is None, "something came after the end"
            if isinstance(event, Chunk):
                printed[event.stream] += event.body
            else:
                exited = event
        assert exited is not None, "it never ended"
        return printed, exited

    async def test_output_comes_apart_and_in_order_then_the_end(self):
        """Each stream keeps its order, and the exit comes last."""
        printed, exited = await self.seen(self.command(Say(b"one\n"), Say(b"oops\n", "err"), Say(b"two\n"), End(0)))
        assert printed == {"out": b"one\ntwo\n", "err": b"oops\n"}
        assert (exited.exit_code, exited.signal, exited.stopped, exited.reason) == (0, "", False, "")

    async def test_a_failure_is_a_value(self):
        """A non-zero exit code is told, not raised."""
        _, exited = await self.seen(self.command(End(3)))
        assert (exited.exit_code, exited.stopped) == (3, False)

    async def test_a_death_by_signal_is_a_value(self):
        """The signal's name is told, and there is no exit code."""
        _, exited = await self.seen(self.command(End(None, "SIGSEGV")))
        assert (exited.exit_code, exited.signal, exited.stopped) == (None, "SIGSEGV", False)

    async def test_what_cannot_be_started_is_a_value(self):
        """A program that is not there is told as the reason, with neither exit code nor signal."""
        _, exited = await self.seen(self.command(Refuse("no such file")))
        assert (exited.exit_code, exited.signal) == (None, "")
        assert "no such file" in exited.reason

    async def test_bytes_are_kept_as_they_are(self):
        """Output need not be text."""
        body = bytes(range(256))
        printed, _ = await self.seen(self.command(Say(body)))
        assert printed["out"] == body

    async def test_a_flood_arrives_whole(self):
        """Twenty megabytes come through, every byte of them."""
        printed, exited = await self.seen(self.command(Flood(20_000_000)))
        assert (len(printed["out"]), exited.exit_code) == (20_000_000, 0)

    async def test_a_slow_reader_loses_nothing(self):
        """A command that prints more than anybody takes has to wait, and ends all the same."""
        size = 0
        async for event in self.executor.run(self.command(Flood(5_000_000))):
            await breathe()
            size += len(event.body) if isinstance(event, Chunk) else 0
        assert size == 5_000_000

    async def test_a_command_that_takes_too_long_is_ended(self):
        """After its time it gets SIGTERM, and the reason says why."""
        _, exited = await self.seen(self.command(Hang(), timeout_seconds=0.05))
        assert (exited.signal, exited.stopped, exited.reason) == ("SIGTERM", True, "timed out")

    async def test_a_command_that_ignores_sigterm_is_killed(self):
        """After the grace it is killed."""
        _, exited = await self.seen(self.command(Hang(stubborn=True), timeout_seconds=0.3, grace_seconds=0.1))
        assert (exited.signal, exited.stopped, exited.reason) == ("SIGKILL", True, "timed out")

    async def test_stop_ends_it_in_good_order(self):
        """A stop is SIGTERM; the first reason given is told."""
        _, exited = await self._stopped(self.command(Say(b"ready\n"), Hang()), at_once=False)
        assert (exited.signal, exited.stopped, exited.reason) == ("SIGTERM", True, "enough")

    async def test_stop_at_once_has_no_grace(self):
        """Even what ignores SIGTERM ends at once."""
        command = self.command(Say(b"ready\n"), Hang(stubborn=True), grace_seconds=60)
        _, exited = await self._stopped(command, at_once=True)
        assert (exited.signal, exited.stopped) == ("SIGKILL", True)

    async def test_an_early_leave_ends_the_command(self):
        """Closing the iterator kills the command, and the executor can run the next."""
        async with aclosing(self.executor.run(self.command(Say(b"ready\n"), Hang(stubborn=True)))) as events:
            async for event in events:
                assert isinstance(event, Chunk)
                break
        await self.executor.clear()
        _, exited = await self.seen(self.command(End(0)))
        assert exited.exit_code == 0

    async def test_a_cancelled_task_ends_the_command(self):
        """Cancelling whoever reads is an early leave too."""
        ready = asyncio.Event()

        async def read() -> None:
            async for _ in self.executor.run(self.command(Say(b"ready\n"), Hang(stubborn=True))):
                ready.set()

        task = asyncio.create_task(read())
        await ready.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await self.executor.clear()
        _, exited = await self.seen(self.command(End(0)))
        assert exited.exit_code == 0

    async def test_one_command_at_a_time(self):
        """A second command while one runs is a bug."""
        async with aclosing(self.executor.run(self.command(Say(b"ready\n"), Hang()))) as events:
            await anext(events)
            with pytest.raises(AssertionError, match="one command"):
                await anext(self.executor.run(self.command(End(0))))

    async def test_a_lease_that_runs_out_kills_the_command(self):
        """Work that nobody renews ends by itself; work without a lease goes on."""
        self.executor.renew(0.2)
        _, exited = await self.seen(self.command(Hang(stubborn=True)))
        assert (exited.signal, exited.stopped, exited.reason) == ("SIGKILL", True, LEASE_OVER)

    async def test_stopping_nothing_does_nothing(self):
        """A stop that comes late, or a clear of nothing, is no error."""
        self.executor.stop("late")
        await self.executor.clear()
        _, exited = await self.seen(self.command(End(0)))
        assert (exited.exit_code, exited.stopped) == (0, False)

    async def _stopped(self, command: Command, *, at_once: bool) -> tuple[bytes, Exited]:
        printed = b""
        async for event in self.executor.run(command):
            if isinstance(event, Exited):
                return printed, event
            printed += event.body
            if b"ready" in printed:
                self.executor.stop("enough", at_once=at_once)
                self.executor.stop("too late")
        raise AssertionError("it never ended")


HERE = Path("/")
