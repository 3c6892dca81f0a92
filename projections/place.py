"""The place of a tables' file: whether it can be used, who may, what lies beside it, and what SQLite says of it."""

from __future__ import annotations

import os
import sqlite3
from contextlib import suppress
from pathlib import Path
from typing import Final

from headway.core.errors import BrokenError, HeadwayError, UnavailableError

_DAMAGE: Final = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


class StoreError(UnavailableError):
    """The file cannot be used now; nothing was written."""


class DamagedError(StoreError):
    """The file is no database, or no longer one."""


def explained(error: sqlite3.Error, path: Path) -> HeadwayError:
    """What SQLite says, as an error that says what to do."""
    if isinstance(error, (sqlite3.IntegrityError, sqlite3.ProgrammingError, sqlite3.InterfaceError)):
        return BrokenError(f"{path} refused a row or a question: {error}", next="report this")
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if code in _DAMAGE:
        return DamagedError(f"{path} is damaged: {error}", next="it is rebuilt from the log at the next start")
    if code == sqlite3.SQLITE_FULL:
        return StoreError(f"no space is left for {path}", next="free some space on its disk")
    if code in (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM):
        return unusable(path, str(error))
    return StoreError(f"{path} cannot be used: {error}", next="look at its disk, and for another process that holds it")


def check_place(path: Path, *, make: bool) -> None:
    """Whether a file can be opened there, before aiosqlite tries: its thread outlives a failed opening.

    The file is not opened for this: closing it again would drop the locks that SQLite has on it.
    """
    why = ""
    try:
        if make:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        if path.is_file():
            why = "" if os.access(path, os.R_OK | os.W_OK) else "permission denied"
        elif path.exists() or not make:
            why = "not a file" if path.exists() else "no such file"
        elif not os.access(path.parent, os.W_OK | os.X_OK):
            why = "permission denied"
    except OSError as error:
        why = (error.strerror or str(error)).lower()
    if why:
        raise unusable(path, why)


def keep_private(path: Path) -> None:
    """Make the file, if need be, and let only its user at it and its folder. SQLite's other files take its mode.

    A file that is there is not opened, as above.
    """
    try:
        with suppress(FileExistsError):
            os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        for one, mode in ((path.parent, 0o700), *((file, 0o600) for file in (path, *beside(path)))):
            with suppress(FileNotFoundError, PermissionError):  # another's folder keeps the mode its owner gave it
                if one.stat().st_mode & 0o077:
                    one.chmod(mode)
    except OSError as error:
        raise unusable(path, (error.strerror or str(error)).lower()) from error


def unusable(path: Path, why: str) -> StoreError:
    return StoreError(
        f"{path} cannot be opened for writing: {why}",
        next="give yourself write permission to it and its folder, or set HEADWAY_HOME to another folder",
    )


def aside(path: Path) -> Path:
    return path.with_name(path.name + ".set-aside")


def beside(path: Path) -> list[Path]:
    return [path.with_name(path.name + suffix) for suffix in ("-wal", "-shm", "-journal")]


def remove_beside(path: Path) -> None:
    for one in beside(path):
        one.unlink(missing_ok=True)


def remove(path: Path) -> None:
    path.unlink(missing_ok=True)
    remove_beside(path)


def set_aside(path: Path) -> None:
    """Rename a file out of the way; what SQLite keeps beside it would be played into its successor."""
    try:
        if path.exists():
            os.replace(path, aside(path))
        remove_beside(path)
    except OSError as error:
        raise StoreError(
            f"{path} cannot be set aside: {error.strerror}",
            next="move it away yourself; the log has it all",
        ) from error


def sync(path: Path) -> None:
    for one in (path, path.parent):
        descriptor = os.open(one, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
