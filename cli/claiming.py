"""What a restore needs before it begins: a backup to read, and a home that holds nothing and belongs to nobody else."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from headway.cli.archive import ArchiveReader
from headway.core.errors import RefusedError, UnavailableError, UsageError

STATE: Final = ("nats", "blobs", "runners", "projections")
UNFINISHED: Final = ".restoring-"
ALL_BUT: Final = "all-but"
"""In the folder of a restore: everything is in its place but the part that this names, if that is still beside it."""


@contextlib.contextmanager
def open_backup(file: Path) -> Iterator[ArchiveReader]:
    """The file to read from. Raises UsageError."""
    why = "it is not a file"
    try:
        handle = os.open(file, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        if stat.S_ISREG(os.fstat(handle).st_mode):
            why = ""
        else:
            os.close(handle)
    except OSError as error:
        why = (error.strerror or str(error)).lower()
    if why:
        raise UsageError(f"cannot read {file}: {why}", next="give a file that 'headway backup' wrote")
    with os.fdopen(handle, "rb") as raw:
        yield ArchiveReader(raw, str(file))


@contextlib.contextmanager
def claimed(home: Path) -> Iterator[None]:
    """Hold a home that has no state, as a service would hold it. Raises RefusedError."""
    made = not home.exists()
    try:
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = os.open(home / "service.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise UnavailableError(
            f"cannot use the state folder {home}: {(error.strerror or str(error)).lower()}",
            next="set HEADWAY_HOME to a folder you may write to",
        ) from None
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise RefusedError(f"a service is running in {home}", next="stop it with 'headway down'") from None
        _refuse_state(home)
        for left in home.glob(f"{UNFINISHED}*"):  # of a restore that was killed
            shutil.rmtree(left, ignore_errors=True)
        yield
    except BaseException:
        if made:
            with contextlib.suppress(OSError):
                (home / "service.lock").unlink()
                home.rmdir()
        raise
    finally:
        os.close(lock)


def _refuse_state(home: Path) -> None:
    found = [home / name for name in STATE if holds_something(home / name)]
    if not found:
        return
    words = f"there is state already: {found[0]}"
    next_step = "set HEADWAY_HOME to a new folder, or move the old one away"
    left = list(home.glob(f"{UNFINISHED}*"))
    if any(_is_whole(one) for one in left):
        words = f"{home} is restored already: the restore was cut off when everything was in its place"
        next_step = f"use it as it is; for another restore, {next_step}"
    elif left and home / "nats" not in found:
        words = f"a restore was cut off when it was almost done, and left {found[0]}"
    raise RefusedError(words, next=next_step)


def _is_whole(left: Path) -> bool:
    """Whether the restore whose folder this is got as far as it had to."""
    try:
        last = (left / ALL_BUT).read_text()
    except (OSError, UnicodeDecodeError):
        return False
    return bool(last) and not os.path.lexists(left / last)


def holds_something(path: Path) -> bool:
    """Whether anything is there but an empty folder."""
    if not os.path.lexists(path):
        return False
    return not path.is_dir() or path.is_symlink() or any(path.iterdir())
