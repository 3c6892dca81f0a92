"""The runner's end of a supervisor: start one, ask it, notice that it died. The other end is `supervisor.py`."""

from __future__ import annotations

import array
import asyncio
import contextlib
import marshal
import socket
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

import msgspec

from headway.runners import supervisor
from headway.runners.executor import Command, ExecutorBroken

ANSWER_SECONDS: Final = 30.0
"""A supervisor that has not answered by then is taken for broken."""
SEND_SECONDS: Final = 2
ABANDON_SECONDS: Final = 1.0


class Refused(msgspec.Struct, frozen=True):
    """The command could not be started."""

    errno: int


class Ended(msgspec.Struct, frozen=True):
    """How a process ended: `status` as `os.wait` gives it; `lapsed` when it was killed for want of a lease."""

    status: int
    cpu_ms: int
    memory_bytes: int
    lapsed: int


class Spawned:
    """A process that was asked for. `pid` and `ended` raise ExecutorBroken when the supervisor dies."""

    def __init__(self, request: int) -> None:
        loop = asyncio.get_running_loop()
        self.request = request
        self.pid: asyncio.Future[int | Refused] = loop.create_future()
        self.ended: asyncio.Future[Ended] = loop.create_future()

    def fail(self, error: ExecutorBroken) -> None:
        """Nothing more will be heard."""
        for future in (self.pid, self.ended):
            if not future.done():
                future.set_exception(error)
                future.exception()  # it is no fault if nobody waits for it any more


class Supervisor:
    """One supervisor process; `lock_fds` stay open in it until its jobs are gone."""

    def __init__(self, *, lock_fds: tuple[int, ...] = ()) -> None:
        self._socket, theirs = socket.socketpair()
        with theirs:
            fds = (theirs.fileno(), *lock_fds)
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-S", str(Path(supervisor.__file__).resolve()), *map(str, fds)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                pass_fds=fds,
                start_new_session=True,
            )
        send_timeout = struct.pack("ll", SEND_SECONDS, 0)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, send_timeout)
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._socket.fileno(), self._receive)
        self._inbox = bytearray()
        self._spawned: dict[int, Spawned] = {}
        self._clearing: dict[int, asyncio.Future[None]] = {}
        self._requests = 0
        self.alive = True

    @property
    def pid(self) -> int:
        """The supervisor's own process."""
        return self._process.pid

    def spawn(self, command: Command, *, out: int, err: int) -> Spawned:
        """Start a command whose standard output and error go to these file descriptors."""
        spawned = Spawned(self._next())
        self._spawned[spawned.request] = spawned
        self._send(
            ("spawn", spawned.request, list(command.argv), command.environment, str(command.folder)), fds=(out, err)
        )
        return spawned

    def signal(self, spawned: Spawned, number: int) -> None:
        """Signal the whole process group, unless it has ended."""
        if self.alive and not spawned.ended.done():
            self._send(("signal", spawned.request, int(number)))

    def renew(self, seconds: float) -> None:
        """Let the work live so long, unless renewed again; 0 for ever."""
        if self.alive:
            self._send(("lease", float(seconds)))

    async def clear(self) -> None:
        """Kill all that runs under this supervisor and return when it is gone."""
        if not self.alive:
            raise ExecutorBroken("the supervisor died")
        done: asyncio.Future[None] = self._loop.create_future()
        request = self._next()
        self._clearing[request] = done
        self._send(("clear", request))
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                await done
        except TimeoutError:
            raise ExecutorBroken("processes of the job could not be killed") from None

    async def close(self) -> None:
        """Let go of the supervisor, which then kills what runs under it and leaves; wait until it has."""
        self._died()
        try:
            await asyncio.to_thread(self._process.wait, ANSWER_SECONDS)
        except subprocess.TimeoutExpired:
            raise ExecutorBroken(f"supervisor {self.pid} does not come to an end") from None

    async def abandon(self) -> None:
        """Let go of a supervisor that no longer answers, or is dead, without counting on it.

        It is not killed: if it lives, it goes on ending its jobs and keeps the lock until it has.
        """
        self._died()
        with contextlib.suppress(subprocess.TimeoutExpired):
            await asyncio.to_thread(self._process.wait, ABANDON_SECONDS)

    def forget(self) -> None:
        """Let go of a supervisor that is known to be dead."""
        self._died()
        self._process.wait()

    def _next(self) -> int:
        self._requests += 1
        return self._requests

    def _send(self, message: tuple[Any, ...], *, fds: tuple[int, ...] = ()) -> None:
        if not self.alive:
            raise ExecutorBroken("the supervisor died")
        body = marshal.dumps(message)
        framed = len(body).to_bytes(4, "big") + body
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
        try:
            sent = self._socket.sendmsg([framed], rights)
            self._socket.sendall(framed[sent:])
        except OSError as error:
            self._died()
            raise ExecutorBroken(f"the supervisor does not listen: {error.strerror}") from error

    def _receive(self) -> None:
        try:
            body = self._socket.recv(1 << 16, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return
        except OSError:
            body = b""
        if not body:
            self._died()
            return
        self._inbox += body
        while len(self._inbox) >= 4:
            end = 4 + int.from_bytes(self._inbox[:4], "big")
            if len(self._inbox) < end:
                return
            message = marshal.loads(self._inbox[4:end])
            del self._inbox[:end]
            self._hear(*message)

    def _hear(self, kind: str, request: int, *rest: int) -> None:
        if kind == "cleared":
            done = self._clearing.pop(request)
            if not done.done():
                done.set_result(None)
            return
        spawned = self._spawned[request]
        if kind == "spawned":
            _settle(spawned.pid, rest[0])
        elif kind == "failed":
            del self._spawned[request]
            _settle(spawned.pid, Refused(*rest))
            spawned.ended.cancel()
        else:
            del self._spawned[request]
            _settle(spawned.ended, Ended(*rest))

    def _died(self) -> None:
        """The socket is at its end, from either side."""
        if not self.alive:
            return
        self.alive = False
        self._loop.remove_reader(self._socket.fileno())
        self._socket.close()
        error = ExecutorBroken("the supervisor died")
        for spawned in self._spawned.values():
            spawned.fail(error)
        for done in self._clearing.values():
            if not done.done():
                done.set_exception(error)
                done.exception()


def _settle(future: asyncio.Future[Any], value: object) -> None:
    if not future.done():
        future.set_result(value)
