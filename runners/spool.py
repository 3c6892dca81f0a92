"""Facts the coordinator has not answered yet, on disk, so that a runner that dies leaves them to the next one.

One file for each incarnation of a runner: a line for each report, and a line for each answer. What was reported and not
answered is sent again, in the old incarnation's name, before the new one registers. Only the runner that holds the
lock of the folder writes or reads here.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from pathlib import Path
from typing import Final

import msgspec

from headway.core.asks import Report
from headway.core.errors import UnavailableError

COMPACT_BYTES: Final = 4 << 20


class _Line(msgspec.Struct, omit_defaults=True):
    """Either a report under a key, or the news that a key was answered."""

    key: int
    report: Report | None = None


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(_Line).decode


class Spool:
    """The file of one incarnation, made when the first report has to wait."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._fd = -1
        self._keys = 0
        self._kept: dict[int, bytes] = {}
        self._unwritten: list[bytes] = []
        self._bytes = 0
        self._writing: asyncio.Task[None] | None = None

    async def keep(self, report: Report) -> int:
        """Write a report down; when this returns it survives. The key is for `answered`."""
        self._keys += 1
        key = self._keys
        line = _encode(_Line(key, report)) + b"\n"
        self._kept[key] = line
        self._unwritten.append(line)
        while line in self._unwritten or self._writing is not None:
            if self._writing is None:
                self._writing = asyncio.create_task(self._write())
            await asyncio.shield(self._writing)
        return key

    def answered(self, key: int) -> None:
        """The report need not be kept any more. Written down when something else is."""
        del self._kept[key]
        self._unwritten.append(_encode(_Line(key)) + b"\n")
        if not self._kept and self._writing is None:
            self._unwritten.clear()
            self._remove()

    def close(self) -> None:
        """Let go of the file; it stays if there is something in it that was not answered."""
        if self._kept:
            self._close_file()
        else:
            self._remove()

    async def _write(self) -> None:
        """Bring everything that is not written to disk, many reports with one sync."""
        try:
            while self._unwritten:
                lines, self._unwritten = self._unwritten, []
                if self._bytes > COMPACT_BYTES:
                    await asyncio.to_thread(self._rewrite, b"".join(self._kept.values()))
                else:
                    await asyncio.to_thread(self._append, self.path, b"".join(lines))
        except OSError as error:
            self._unwritten.clear()
            raise UnavailableError(
                f"{self.path} cannot be written: {(error.strerror or str(error)).lower()}",
                next="free some space on that disk; until then a runner that dies here loses what it had to report",
            ) from error
        finally:
            self._writing = None

    def _append(self, path: Path, body: bytes) -> None:
        if self._fd < 0:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
            _sync_folder(path.parent)
        left = memoryview(body)
        while left:
            left = left[os.write(self._fd, left) :]
        os.fdatasync(self._fd)
        self._bytes += len(body)

    def _rewrite(self, body: bytes) -> None:
        """Start over with only what is still unanswered; the old file is there until the new one is complete."""
        self._close_file()
        fresh = self.path.with_suffix(".new")
        fresh.unlink(missing_ok=True)
        self._bytes = 0
        self._append(fresh, body)
        fresh.replace(self.path)
        _sync_folder(self.path.parent)

    def _close_file(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _remove(self) -> None:
        self._close_file()
        self._bytes = 0
        with contextlib.suppress(OSError):
            self.path.unlink()


def unanswered(path: Path) -> list[Report]:
    """What a dead incarnation still had to say, in order. A last line cut short by its death is passed over."""
    found: dict[int, Report] = {}
    with contextlib.suppress(FileNotFoundError):
        for line in path.read_bytes().split(b"\n"):
            with contextlib.suppress(msgspec.DecodeError):
                read = _decode(line)
                if read.report is not None:
                    found[read.key] = read.report
                else:
                    found.pop(read.key, None)
    return [*found.values()]


def _sync_folder(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
