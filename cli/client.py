"""The client's end of `control.sock`: JSON lines, one connection per command.

A request is one line, `{"op": ..., "version": ...}` with the op's arguments. Answers are lines: any number of
`{"progress": "text"}`, then any number of `{"data": {...}}`, then `{"end": true}` or `{"error": {...}}`. A connection
that closes before either is a service that died; every op may be sent again, so the client does that where nothing
was answered yet.
"""

from __future__ import annotations

import json
import os
import select
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from headway import __version__
from headway.cli import render
from headway.core.errors import BrokenError, TimedOutError, UnavailableError, UsageError, from_record
from headway.core.home import find_home

LINE_BYTES_MAX: Final = 256 * 1024 * 1024
SENDS_MAX: Final = 3


class Gone(Exception):
    """The service closed the connection before it had said all."""


class Connection:
    """One command's connection to the service."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self._buffer = bytearray()
        self._scanned = 0

    @classmethod
    def open(cls, home: str) -> Connection:
        """Connect. Raises OSError when nothing listens there."""
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        folder = -1
        try:
            # A socket's path may have 107 bytes; a folder's descriptor makes any home short enough.
            folder = os.open(home, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            sock.connect(f"/proc/self/fd/{folder}/control.sock")
        except BaseException:
            sock.close()
            raise
        finally:
            if folder >= 0:
                os.close(folder)
        return cls(sock)

    def ask(self, op: str, arguments: Mapping[str, Any]) -> None:
        """Send the request. Raises Gone, and UsageError for an argument that is not text."""
        request = {"op": op, "version": __version__, **arguments}
        try:
            line = json.dumps(request, ensure_ascii=False).encode() + b"\n"
        except UnicodeEncodeError:
            raise UsageError("an argument is not valid UTF-8", next="give names in UTF-8") from None
        try:
            self._socket.sendall(line)
        except OSError:
            raise Gone from None

    def receive(self, *, timeout_seconds: float | None = None, wake: int = -1) -> dict[str, Any] | None:
        """The next answer; None when the time is over or something may be read from `wake` first.

        Raises Gone, and the error the service answered.
        """
        end = None if timeout_seconds is None else time.monotonic() + timeout_seconds
        while True:
            at = self._buffer.find(b"\n", self._scanned)
            if at >= 0:
                line = bytes(self._buffer[:at])
                del self._buffer[: at + 1]
                self._scanned = 0
                return _message(line)
            self._scanned = len(self._buffer)
            left = None if end is None else max(0.0, end - time.monotonic())
            watched: list[Any] = [self._socket] if wake < 0 else [self._socket, wake]
            ready = select.select(watched, [], [], left)[0]
            if self._socket not in ready:
                return None
            self._read()

    def _read(self) -> None:
        try:
            body = self._socket.recv(1 << 18)
        except OSError:
            raise Gone from None
        if not body:
            raise Gone
        self._buffer += body
        if len(self._buffer) > LINE_BYTES_MAX:
            raise BrokenError("the service sent a line that has no end", next="report this")

    def close(self) -> None:
        """Leave; the service stops what it was sending."""
        self._socket.close()


def _message(line: bytes) -> dict[str, Any]:
    try:
        found = json.loads(line)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise BrokenError("the service sent something that is not an answer", next="report this")
    error = found.get("error")
    if isinstance(error, dict):
        raise from_record(error)
    return found


class Client:
    """Asks the service, and starts it when it is not there.

    `pulse` is called while the client waits for the service to start; it may raise to stop that.
    """

    def __init__(self, home: str, *, any_version: bool = False, command: tuple[str, ...] = ()) -> None:
        self.home = home
        self.pulse: Callable[[], None] = lambda: None
        self._any_version = any_version
        self._told = False
        self._command = command

    @classmethod
    def here(cls, *, any_version: bool = False) -> Client:
        """The client of this user's home."""
        return cls(find_home(os.environ), any_version=any_version)

    def connect(self) -> Connection:
        """A connection to a running service of this version, started or replaced if need be."""
        try:
            connection = Connection.open(self.home)
        except OSError as error:
            from headway.cli.starting import start

            refuse_unusable(self.home, error)
            connection = start(self.home, command=self._command, pulse=self.pulse)
        if self._any_version or _running_version(self.home) == __version__:
            return connection
        from headway.cli.starting import replace

        return replace(self.home, connection, command=self._command, pulse=self.pulse)

    def connect_if_running(self) -> Connection | None:
        """A connection to the service if there is one, whatever its version."""
        try:
            return Connection.open(self.home)
        except OSError as error:
            refuse_unusable(self.home, error)
            return None

    def stream(self, op: str, **arguments: object) -> Iterator[dict[str, Any]]:
        """What the service answers, piece by piece; its progress is shown on the way."""
        for sent in range(1, SENDS_MAX + 1):
            answered = False
            try:
                for found in self.once(op, arguments):
                    answered = True
                    yield found
                return
            except Gone:
                if answered or sent == SENDS_MAX:
                    raise gone_for_good() from None

    def once(
        self, op: str, arguments: Mapping[str, Any], *, timeout_seconds: float | None = None
    ) -> Iterator[dict[str, Any]]:
        """The same on one connection. Raises Gone when the service dies meanwhile."""
        connection = self.connect()
        try:
            connection.ask(op, arguments)
            yield from answers(connection, timeout_seconds=timeout_seconds)
        finally:
            connection.close()

    def reading(self, op: str, arguments: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        """What a question is answered, by the service or, when none is running, from the file of its tables.

        Raises Gone as `once` does.
        """
        connection = self.connect_if_running()
        if connection is None and os.path.exists(os.path.join(self.home, "projections", "headway.db")):
            from headway.cli.offline import answered

            told, self._told = self._told, True
            yield from answered(self.home, op, arguments, tell=not told)
            return
        if connection is not None:
            connection.close()
        yield from self.once(op, arguments)

    def read(self, op: str, **arguments: object) -> dict[str, Any]:
        """The one answer of a question that has one."""
        for sent in range(1, SENDS_MAX + 1):
            try:
                found: dict[str, Any] = {}
                for one in self.reading(op, arguments):
                    found = one
                return found
            except Gone:
                if sent == SENDS_MAX:
                    raise gone_for_good() from None
        raise AssertionError("the last time is the last")

    def call(self, op: str, **arguments: object) -> dict[str, Any]:
        """The one answer of an op that has one."""
        found: dict[str, Any] = {}
        for one in self.stream(op, **arguments):
            found = one
        return found


def answers(connection: Connection, *, timeout_seconds: float | None = None) -> Iterator[dict[str, Any]]:
    """The data of a request's answers to their end, which must come in so many seconds; progress is shown."""
    end = None if timeout_seconds is None else time.monotonic() + timeout_seconds
    while True:
        message = connection.receive(timeout_seconds=None if end is None else max(0.0, end - time.monotonic()))
        if message is None:
            raise TimedOutError("the service did not answer in time", next="see 'headway status'")
        if message.get("end"):
            return
        if "progress" in message:
            show_progress(message)
        elif isinstance(message.get("data"), dict):
            yield message["data"]


def show_progress(message: Mapping[str, Any]) -> None:
    """What the service says it is doing, for the person who waits."""
    from headway.cli.text import clean

    render.say(clean(message.get("progress", "")))


def gone_for_good() -> UnavailableError:
    """The error for a service that goes away again and again, or in the middle of an answer."""
    return UnavailableError(
        "the service went away while it was answering", next="run the command again, or see 'headway doctor'"
    )


def refuse_unusable(home: str, error: OSError) -> None:
    """Raise for a home or socket that starting a service would not make usable."""
    if isinstance(error, PermissionError):
        raise UnavailableError(
            f"cannot use the state folder {home}: permission denied", next="set HEADWAY_HOME to a folder of your own"
        ) from None
    if isinstance(error, NotADirectoryError):
        raise UnavailableError(
            f"the state folder {home} is not a folder", next="set HEADWAY_HOME to a folder of your own"
        ) from None


def _running_version(home: str) -> str:
    """The version the running service wrote down; "" when it did not, and has to be asked."""
    try:
        with open(os.path.join(home, "service.json"), encoding="utf-8") as stream:
            found = json.load(stream)
    except (OSError, ValueError):
        return ""
    return str(found.get("version", "")) if isinstance(found, dict) else ""
