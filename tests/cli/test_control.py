"""The service's end of the socket, with clients that read slowly or not at all."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from headway.cli.control import LARGE_AT_ONCE, LARGE_BYTES, Answers, Control, Request


async def large(request: Request) -> Answers:
    """More than a socket takes at once."""
    yield {"large": "x" * (16 * LARGE_BYTES)}


async def small(request: Request) -> Answers:
    """A word."""
    yield {"small": True}


@asynccontextmanager
async def listening(home: Path) -> AsyncIterator[Control]:
    """A service of two operations."""
    control = Control(home, {"large": large, "small": small})
    await control.start()
    try:
        yield control
    finally:
        control.deafen(quietly=True)
        await control.close()


async def asking(home: Path, op: str, *, limit: int = 1 << 16) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A client that has asked."""
    reader, writer = await asyncio.open_unix_connection(str(home / "control.sock"), limit=limit)
    writer.write(json.dumps({"op": op}).encode() + b"\n")
    return reader, writer


async def test_who_takes_nothing_holds_up_neither_words_nor_for_ever(tmp_path: Path) -> None:
    """Small answers pass by large ones that nobody takes; a large one comes when another's client is gone."""
    async with listening(tmp_path):
        silent = [await asking(tmp_path, "large") for _ in range(LARGE_AT_ONCE)]
        for reader, _ in silent:
            assert await reader.read(1) == b"{"  # its answer is on its way, and stays there
        reader, writer = await asking(tmp_path, "small")
        assert json.loads(await reader.readline()) == {"data": {"small": True}}
        writer.close()
        reader, writer = await asking(tmp_path, "large", limit=64 * LARGE_BYTES)
        silent[0][1].close()
        assert len(json.loads(await reader.readline())["data"]["large"]) == 16 * LARGE_BYTES
        for _, one in [*silent, (reader, writer)]:
            one.close()
