"""Asking a nats-server one question over a plain socket, without the client library.

Used to know whether a server is there and is ours, while it starts, and to read its settings. One connection, one
request, one answer.
"""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress
from typing import Any, Final

from headway.core.log import Unknown

INBOX: Final = "_INBOX.probe"
PIECE_BYTES: Final = 1 << 20


class Probe:
    """One user of one server, who asks now and then."""

    def __init__(self, *, host: str, port: int, user: str, password: str) -> None:
        self._host, self._port, self._user, self._password = host, port, user, password

    async def request(self, subject: str, body: bytes = b"", *, timeout_seconds: float = 2.0) -> bytes:
        """The answer; raises Unknown when nobody listens, lets us in, or answers in time."""
        try:
            async with asyncio.timeout(timeout_seconds):
                return await self._exchange(subject, body)
        except (OSError, EOFError, ValueError) as error:  # a time-out is an OSError, a broken line a ValueError
            raise Unknown(f"no answer from {self._host}:{self._port}: {error or 'timed out'}") from error

    async def _exchange(self, subject: str, body: bytes) -> bytes:
        reader, writer = await asyncio.open_connection(self._host, self._port, limit=PIECE_BYTES)
        try:
            if not (await reader.readline()).startswith(b"INFO "):
                raise Unknown(f"{self._host}:{self._port} is not a nats-server")
            hello: dict[str, str | bool] = {"user": self._user, "pass": self._password, "name": "headway probe"}
            hello |= {"verbose": False, "pedantic": False, "headers": True, "no_responders": True}
            writer.write(b"CONNECT " + json.dumps(hello).encode() + b"\r\n")
            writer.write(f"SUB {INBOX} 1\r\nPUB {subject} {INBOX} {len(body)}\r\n".encode() + body + b"\r\n")
            await writer.drain()
            return await self._answer(reader, writer)
        finally:
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
        while line := await reader.readline():
            words = line.split()
            match words[:1]:
                case [b"-ERR"]:
                    raise Unknown(line[5:].decode("utf-8", "replace").strip().strip("'"))
                case [b"PING"]:
                    writer.write(b"PONG\r\n")
                case [b"MSG"]:
                    return await reader.readexactly(int(words[-1]))
                case [b"HMSG"]:
                    await reader.readexactly(int(words[-1]))
                    raise Unknown("nobody answers there")
        raise EOFError("the connection was closed")


async def read_json(probe: Probe, subject: str, *, timeout_seconds: float = 2.0) -> dict[str, Any]:
    """An answer that is a JSON object; raises Unknown for anything else."""
    try:
        found = json.loads(await probe.request(subject, timeout_seconds=timeout_seconds))
    except ValueError as error:
        raise Unknown(f"the answer on {subject} is not JSON") from error
    if not isinstance(found, dict):
        raise Unknown(f"the answer on {subject} is not an object")
    return found
