"""A thread for work on files, one piece after the other, so that the event loop goes on meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")


class OneThread:
    """Pieces of work never overlap, not even one nobody waits for any more with the one that clears up after it."""

    def __init__(self) -> None:
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="files")

    async def do(self, act: Callable[[], T]) -> T:
        """Do this and wait for it; when the wait is cancelled, it is still done to its end."""
        return await asyncio.get_running_loop().run_in_executor(self._executor, act)

    def leave(self, act: Callable[[], object]) -> None:
        """Do this last, when all before it has been done, without waiting."""
        self._executor.submit(act)
        self._executor.shutdown(wait=False)

    def finish(self, act: Callable[[], object]) -> None:
        """Do this last and wait for it."""
        self._executor.submit(act)
        self._executor.shutdown(wait=True)
