"""Waiting for something outside this process, which nobody announces: by looking, with a time limit."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

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
