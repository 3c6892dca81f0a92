"""Waiting for processes outside of the test, which send no events: a look now and then, with a deadline."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable
from pathlib import Path


def wait_until(true: Callable[[], object], *, seconds: float = 10.0) -> None:
    """Return as soon as it is true; fail when it is not in time."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not become true in time"
        time.sleep(0.005)


async def until(true: Callable[[], object], *, seconds: float = 10.0) -> None:
    """The same, while other tasks go on."""
    async with asyncio.timeout(seconds):
        while not true():  # noqa: ASYNC110  # nothing sends an event when another process ends
            await asyncio.sleep(0.005)


async def breathe() -> None:
    """Let every other task have its turn."""
    await asyncio.sleep(0)


def alive(pid: int) -> bool:
    """Whether there is such a process, and it is not just waiting to be reaped."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def with_argument(word: str) -> list[int]:
    """The living processes that have this word among their arguments."""
    found = []
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            words = Path(f"/proc/{name}/cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if word.encode() in words and alive(int(name)):
            found.append(int(name))
    return found
