"""Connections for questions, to tables that a service keeps or has left."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Final
from urllib.parse import quote

import aiosqlite

from headway.projections.place import StoreError, beside, check_place, explained

Connection = aiosqlite.Connection
"""What questions are asked over."""

_STUCK: Final = (sqlite3.SQLITE_IOERR, sqlite3.SQLITE_FULL, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY)


async def open_reader(path: Path, *, only: bool = True) -> Connection:
    """A connection for questions, to a file that is there; unless `only`, it may have tables of its own meanwhile.

    Where nothing can be written, because the disk is full or read-only, a file that was closed in good order is read
    all the same. Raises StoreError.
    """
    writable = True
    try:
        check_place(path, make=False)
    except StoreError:
        if not path.is_file() or not _is_whole(path):
            raise
        writable = False
    try:
        if writable:
            try:
                return await _open(path, "mode=rw", only=only)
            except sqlite3.OperationalError as error:
                if (error.sqlite_errorcode & 0xFF) not in _STUCK or not _is_whole(path):
                    raise
        return await _open(path, "mode=ro&immutable=1", only=only)
    except sqlite3.Error as error:
        raise explained(error, path) from error


async def _open(path: Path, how: str, *, only: bool) -> Connection:
    connection = await aiosqlite.connect(f"file:{quote(str(path))}?{how}", uri=True, isolation_level=None)
    try:
        await connection.execute_fetchall("pragma temp_store = memory")
        await connection.execute_fetchall("select 1 from sqlite_schema limit 1")  # needs what lies beside the file
        await connection.execute_fetchall(f"pragma query_only = {int(only)}")
    except BaseException:
        await connection.close()
        raise
    return connection


def _is_whole(path: Path) -> bool:
    """Whether all of the tables is in the file itself, so that nobody has it open or left it in a hurry."""
    try:
        return all(not one.exists() or one.stat().st_size == 0 or one.name.endswith("-shm") for one in beside(path))
    except OSError:
        return False
