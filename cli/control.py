"""The service's end of `control.sock`: JSON lines in, JSON lines out, one connection per command.

The socket lies in the home with mode 0600, and that is the local user's authentication. A request is one line; the
answer is any number of `{"progress": ...}` and `{"data": ...}` lines and then `{"end": true}` or `{"error": ...}`.
When the client closes its end, whatever is still being answered stops.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import pwd
import socket
import struct
from collections.abc import AsyncGenerator, Callable
from pathlib import Path
from typing import Any, Final

import msgspec

from headway.core.errors import BrokenError, HeadwayError, UnavailableError, UsageError

REQUEST_BYTES_MAX: Final = 32 * 1024 * 1024
NUMBER_MAX: Final = 1 << 53
SECONDS_MAX: Final = 100 * 366 * 86_400
LARGE_BYTES: Final = 256 * 1024
LARGE_AT_ONCE: Final = 8
"""How many large answers are on their way at the same time: who reads slowly must not fill the memory."""
LARGE_SECONDS: Final = 60.0
"""How long a client has to take a large answer."""

logger = logging.getLogger("headway.control")

Answers = AsyncGenerator[dict[str, Any], None]
Operation = Callable[["Request"], Answers]

_encode = msgspec.json.Encoder().encode


class Request(msgspec.Struct, kw_only=True):
    """One request: its operation, its arguments as they came, who asks, and how to show progress."""

    op: str
    arguments: dict[str, Any]
    actor: str
    progress: Callable[[str], None]

    def text(self, name: str, default: str = "") -> str:
        """A text argument. Raises UsageError when it is anything else."""
        value = self.arguments.get(name)
        if value is None:
            return default
        if not isinstance(value, str):
            raise UsageError(f"{name} must be text", next="see the command's --help")
        return value

    def number(self, name: str, default: float = 0) -> float:
        """A number that people could mean. Raises UsageError when it is anything else."""
        value = self.arguments.get(name)
        if value is None:
            return default
        # A comparison is false for NaN, and is made with a whole number of any length.
        if isinstance(value, bool) or not isinstance(value, int | float) or not -NUMBER_MAX < value < NUMBER_MAX:
            raise UsageError(f"{name} must be a number of a usual size", next="see the command's --help")
        return value

    def count(self, name: str, default: int) -> int:
        """How many of something are wanted, at least one. Raises UsageError."""
        value = self.number(name, default)
        if value != int(value) or value < 1:
            raise UsageError(f"{name} must be a whole number from 1", next="see the command's --help")
        return int(value)

    def seconds(self, name: str, default: float = 0) -> float:
        """A length of time within a hundred years. Raises UsageError."""
        value = self.number(name, default)
        if not 0 <= value <= SECONDS_MAX:
            raise UsageError(f"{name} must be from 0 to {SECONDS_MAX // 86_400} days", next="see the command's --help")
        return value

    def flag(self, name: str) -> bool:
        return bool(self.arguments.get(name))


class Control:
    """Listens in the home and answers with the operations it is given."""

    def __init__(self, home: Path, operations: dict[str, Operation]) -> None:
        self.connections = 0
        self.last_used = asyncio.get_running_loop().time()
        self._path = home / "control.sock"
        self._operations = operations
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._large = asyncio.Semaphore(LARGE_AT_ONCE)
        self._closing = False
        self.last_word: HeadwayError = UnavailableError(
            "the service was stopped", next="unfinished runs go on when it is started again"
        )

    async def start(self) -> None:
        """Listen. The caller holds the service's lock, so a socket that is there already is a dead service's."""
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        folder = os.open(self._path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            with contextlib.suppress(FileNotFoundError):
                self._path.unlink()
            # A socket's path may have 107 bytes; the folder's descriptor makes any home short enough.
            before = os.umask(0o177)
            try:
                sock.bind(f"/proc/self/fd/{folder}/{self._path.name}")
            finally:
                os.umask(before)
        except OSError as error:
            sock.close()
            raise UnavailableError(
                f"cannot listen at {self._path}: {error.strerror}", next="check the folder"
            ) from None
        finally:
            os.close(folder)
        sock.setblocking(False)
        self._server = await asyncio.start_unix_server(self._connected, sock=sock, limit=REQUEST_BYTES_MAX)

    def deafen(self, *, quietly: bool) -> None:
        """Take no new connections. `quietly` says that who is connected is to find another service, not a word."""
        self._closing = not quietly
        with contextlib.suppress(FileNotFoundError):
            self._path.unlink()
        if self._server is not None:
            self._server.close()

    async def close(self) -> None:
        """Stop what is being answered, with a word to whoever waits. Nothing new has been taken since `deafen`."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None, "a connection is handled in a task"
        self._tasks.add(task)
        self.connections += 1
        try:
            await self._serve(reader, writer)
        except (ConnectionError, asyncio.CancelledError):
            pass
        finally:
            self.connections -= 1
            self.last_used = asyncio.get_running_loop().time()
            self._tasks.discard(task)
            writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            line = await reader.readline()
        except ValueError:
            line = b"{"
        if not line:
            return
        answering = asyncio.create_task(self._answer(line, writer))
        gone = asyncio.create_task(reader.read(1))
        try:
            await asyncio.wait({answering, gone}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (answering, gone):
                task.cancel()
            await asyncio.gather(answering, gone, return_exceptions=True)

    async def _answer(self, line: bytes, writer: asyncio.StreamWriter) -> None:
        try:
            request = self._request(line, writer)
            async with contextlib.aclosing(self._operations[request.op](request)) as answers:
                async for data in answers:
                    await self._write_data(writer, data)
            await _write(writer, {"end": True})
        except asyncio.CancelledError:
            if self._closing and not writer.is_closing():
                # Without a last word a client takes this for a crash, and starts the service again.
                writer.write(_encode({"error": self.last_word.record()}) + b"\n")
            raise
        except HeadwayError as error:
            await _write(writer, {"error": error.record()})
        except ConnectionError:
            pass
        except Exception:
            logger.exception("an operation failed")
            bug = BrokenError("the service failed on this request", next="its log has the details; please report it")
            await _write(writer, {"error": bug.record()})

    async def _write_data(self, writer: asyncio.StreamWriter, data: dict[str, Any]) -> None:
        body = _encode({"data": data}) + b"\n"
        if len(body) < LARGE_BYTES:
            writer.write(body)
            await writer.drain()
            return
        async with self._large:
            writer.write(body)
            try:
                async with asyncio.timeout(LARGE_SECONDS):
                    await writer.drain()
            except TimeoutError:
                writer.transport.abort()
                raise ConnectionResetError("the client took nothing for a long time") from None

    def _request(self, line: bytes, writer: asyncio.StreamWriter) -> Request:
        try:
            arguments = msgspec.json.decode(line, type=dict[str, Any])
        except (msgspec.MsgspecError, RecursionError):
            raise UsageError("the request is not a JSON object on one line", next="use the headway command") from None
        op = arguments.pop("op", None)
        if not isinstance(op, str) or op not in self._operations:
            raise UsageError(f"the service knows no operation {op!r}", next="use a headway command of its version")

        loop = asyncio.get_running_loop()

        def write(text: str) -> None:
            if not writer.is_closing():
                writer.write(_encode({"progress": text}) + b"\n")

        def progress(text: str) -> None:
            loop.call_soon_threadsafe(write, text)  # what takes long is done in threads

        return Request(op=op, arguments=arguments, actor=f"user:{_peer(writer)}", progress=progress)


async def _write(writer: asyncio.StreamWriter, message: dict[str, Any]) -> None:
    writer.write(_encode(message) + b"\n")
    await writer.drain()


def _peer(writer: asyncio.StreamWriter) -> str:
    """The name of the user at the other end, as the kernel knows it."""
    sock = writer.get_extra_info("socket")
    _, uid, _ = struct.unpack("3i", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    return user_name(uid)


def user_name(uid: int) -> str:
    """A user's name as it goes into events."""
    try:
        name = pwd.getpwuid(uid).pw_name
    except KeyError:
        name = str(uid)
    return "".join(letter if letter.isascii() and (letter.isalnum() or letter in "_-") else "_" for letter in name)
