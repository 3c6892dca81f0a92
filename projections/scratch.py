"""Second tables cost room on the disk that the log needs: they stop in time, and one is made at a time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final
from weakref import WeakValueDictionary

from headway.core.server_config import ROOM_FLOOR_BYTES, free_bytes
from headway.projections.place import StoreError

LEFT_BYTES: Final = 2 * ROOM_FLOOR_BYTES
"""So much stays free for the log, as when a backup is made."""

WAITING: Final = "the tables are being verified or made again already; this waits for the end of that"

Free = Callable[[Path], int]
"""How many bytes may still be written in a folder."""

_turns: WeakValueDictionary[Path, asyncio.Lock] = WeakValueDictionary()


def leave_room(folder: Path, more_bytes: int, *, free: Free = free_bytes) -> None:
    """Raises StoreError where so many bytes more would take what the log needs."""
    try:
        left_bytes = free(folder) - more_bytes
    except OSError as error:
        raise StoreError(f"the disk of {folder} cannot be asked: {error.strerror}", next="check the disk") from error
    if left_bytes < LEFT_BYTES:
        raise StoreError(
            f"no space is left on the disk of {folder} for second tables: what there is is for the log",
            next="free some space on that disk",
        )


def busy(path: Path) -> bool:
    """Whether somebody fills second tables beside these."""
    turn = _turns.get(path)
    return turn is not None and turn.locked()


@asynccontextmanager
async def alone(path: Path) -> AsyncGenerator[None, None]:
    """Be the only one in this process who fills second tables beside these, after whoever does."""
    turn = _turns.get(path) or _turns.setdefault(path, asyncio.Lock())
    async with turn:
        yield
