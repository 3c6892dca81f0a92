"""What a runner keeps on its machine, below `$HEADWAY_HOME/runners/<name>`.

lock            held by the runner and by its supervisors: who gets it knows that no process of an earlier
                incarnation, nor of any of its jobs, is left; its process id is in it
incarnations    the ids used since the coordinator last heard of a replacement, one a line
spool/<id>      facts of an incarnation that were not answered
work/           the folders of attempts
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import logging
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from headway.core.errors import RefusedError, UnavailableError
from headway.runners.processes import kill_marked
from headway.runners.workspace import remove_stale

LOCK_PAUSE_SECONDS: Final = 0.02
LOCK_WORDS_SECONDS: Final = 5.0

logger = logging.getLogger("headway.runner")


class RunnerFolder:
    """One runner's folder. Everything but `lock` is only for who holds the lock."""

    def __init__(self, home: Path, name: str) -> None:
        self.path = home / "runners" / name
        self.work = self.path / "work"
        self._incarnations = self.path / "incarnations"
        self._lock_fd = -1

    @property
    def lock_fd(self) -> int:
        """The open lock file, for supervisors to keep open too."""
        return self._lock_fd

    async def lock(self, *, wait: bool) -> None:
        """Become the one runner of this name on this machine. Raises RefusedError if another is, unless `wait`."""
        try:
            self.path.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._lock_fd = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise UnavailableError(
                f"the runner's folder {self.path} cannot be used: {(error.strerror or str(error)).lower()}",
                next="check its rights and the free space, or set HEADWAY_HOME to another folder",
            ) from error
        loop = asyncio.get_running_loop()
        words_at = loop.time() + LOCK_WORDS_SECONDS
        while True:
            try:
                fcntl.flock(self._lock_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                self._sign()
                return
            except BlockingIOError:
                if not wait:
                    self.unlock()
                    raise RefusedError(
                        f"a runner named {self.path.name} already runs on this machine, or its jobs still end",
                        next="stop it first, or start this one with another --name",
                    ) from None
            if loop.time() > words_at:
                words_at = float("inf")
                logger.warning("waiting for an earlier runner named %s, or its jobs, to end", self.path.name)
            await asyncio.sleep(LOCK_PAUSE_SECONDS)

    def unlock(self) -> None:
        """Let go of the lock; it is free when the supervisors that have it too are gone."""
        if self._lock_fd >= 0:
            os.close(self._lock_fd)
            self._lock_fd = -1

    def _sign(self) -> None:
        """Say in the lock file who holds it."""
        with contextlib.suppress(OSError):  # a full disk: then nobody can tell, and nobody needs to
            os.ftruncate(self._lock_fd, 0)
            os.pwrite(self._lock_fd, b"%d\n" % os.getpid(), 0)

    def holder(self) -> int:
        """The process that holds the lock, 0 when nobody does or it cannot be told."""
        try:
            lock = os.open(self.path / "lock", os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return 0
        try:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
            return 0
        except BlockingIOError:
            words = os.pread(lock, 32, 0).split()
            return int(words[0]) if words and words[0].isdigit() else 0
        finally:
            os.close(lock)

    def clean(self) -> None:
        """Kill and remove what earlier incarnations left, even where their supervisors were killed. Blocks."""
        kill_marked(f"HEADWAY_ENV={self.work}/")
        remove_stale(self.work)

    def earlier(self) -> tuple[str, ...]:
        """The incarnations that the coordinator may still believe in."""
        try:
            return tuple(dict.fromkeys(self._incarnations.read_text("utf-8", "replace").split()))
        except FileNotFoundError:
            return ()

    def note(self, incarnations: Iterable[str]) -> None:
        """Write down which incarnations there may be, before the coordinator can know of them."""
        fresh = self._incarnations.with_suffix(".new")
        with fresh.open("w") as file:
            file.write("".join(f"{one}\n" for one in incarnations))
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(self._incarnations)

    def spool(self, incarnation: str) -> Path:
        """Where an incarnation's unanswered facts are."""
        return self.path / "spool" / incarnation

    def spools(self) -> list[Path]:
        """What earlier incarnations left to be said; those that died while they rewrote one left both."""
        with contextlib.suppress(FileNotFoundError):
            return sorted(one for one in (self.path / "spool").iterdir() if one.suffix != ".new")
        return []
