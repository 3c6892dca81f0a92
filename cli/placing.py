"""Where a restore puts things before they are checked, and how they get to their place from there."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from headway.cli.claiming import ALL_BUT, UNFINISHED

CLEAR_TRIES: Final = 40
CLEAR_PAUSE_SECONDS: Final = 0.05


class Place:
    """A folder in the home, on the same disk, gone at the end. All of it is work for one thread."""

    def __init__(self, home: Path) -> None:
        self.folder = home / f"{UNFINISHED}{secrets.token_hex(4)}"
        self._moved: list[tuple[Path, Path]] = []

    def make(self) -> None:
        """Begin."""
        self.folder.mkdir(mode=0o700)

    def write(self, name: str, content: Iterator[bytes]) -> Iterator[int]:
        """A new file, a chunk at a time; a blob is never changed any more."""
        path = self.folder / name
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        mode = 0o400 if "/sha256/" in name else 0o600
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, mode), "wb") as file:
            for chunk in content:
                yield file.write(chunk)

    def sync(self) -> None:
        """Bring everything to the disk."""
        _sync(self.folder)

    def settle(self, parts: list[tuple[str, Path]]) -> None:
        """Each of these parts to its place, in this order; if one fails, `clear` takes back the others."""
        found = [(self.folder / name, target) for name, target in parts if os.path.lexists(self.folder / name)]
        for at, (source, target) in enumerate(found, 1):
            if at == len(found):
                with contextlib.suppress(OSError):  # a full disk: then a later restore knows less of this one
                    (self.folder / ALL_BUT).write_text(source.name)
            target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._move(source, target)
            self._moved.append((source, target))
        for parent in {target.parent for _, target in parts}:
            _sync_one(parent)
        self._moved.clear()  # from here on it stays

    def _move(self, source: Path, target: Path) -> None:
        try:
            os.rename(source, target)
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
            beside = target.with_name(f"{target.name}{self.folder.name}")  # on the other disk, whole, then renamed
            try:
                shutil.copytree(source, beside)
                _sync(beside)
                os.rename(beside, target)
            except BaseException:
                shutil.rmtree(beside, ignore_errors=True)
                raise

    def clear(self) -> None:
        """Take back what was moved in vain, and remove the folder."""
        if self._moved:
            with contextlib.suppress(OSError):
                (self.folder / ALL_BUT).unlink()
        for source, target in reversed(self._moved):
            with contextlib.suppress(OSError):
                shutil.move(target, source)
        for _ in range(CLEAR_TRIES):  # a server that was killed a moment ago may still write
            shutil.rmtree(self.folder, ignore_errors=True)
            if not self.folder.exists():
                return
            time.sleep(CLEAR_PAUSE_SECONDS)


def _sync(folder: Path) -> None:
    """Bring every file and folder below this one to the disk."""
    for place, _, names in os.walk(folder, topdown=False):
        for name in names:
            _sync_one(Path(place, name))
        _sync_one(Path(place))


def _sync_one(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
