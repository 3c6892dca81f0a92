"""Waiting for something outside this process, which nobody announces: by looking, with a time limit."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

LOOK_SECONDS = 0.01


async def until(condition: Callable[[], object], *, what: str, timeout_seconds: float = 15.0) -> None:
    """Look until the condition holds; fail, naming what was waited for, when it does not in time."""
    deadline = time.monotonic() + timeout_seconds
    while not condition():
        assert time.monotonic() < deadline, f"still waiting after {timeout_seconds:.0f} s: {what}"
        await asyncio.sleep(LOOK_SECONDS)


def wait_until(condition: Callable[[], object], *, what: str, timeout_seconds: float = 15.0) -> None:
    """The same without an event loop."""
    deadline = time.monotonic() + timeout_seconds
    while not condition():
        assert time.monotonic() < deadline, f"still waiting after {timeout_seconds:.0f} s: {what}"
        time.sleep(LOOK_SECONDS)


def freeze(pid: int) -> None:
    """Stop a process, all its threads: the signal alone says only that they are about to stop."""
    os.kill(pid, signal.SIGSTOP)
    wait_until(lambda: _frozen(pid), what=f"process {pid} stands still")


def _frozen(pid: int) -> bool:
    threads = [(task / "stat").read_text() for task in Path(f"/proc/{pid}/task").iterdir()]
    return all(stat.rpartition(")")[2].split()[0] == "T" for stat in threads)
