"""Making a backup while the service runs: everything that cannot be made again, in one file.

What makes it one moment is the order. What runners have still to report comes first, then the log, which is what it was
when its snapshot began: a fact that is answered in between leaves the runner's folder, but is on the log by then; one
that is in both is told twice and heard once. The blobs come last: a blob is there before anything names it and is never
removed, so all that this log names is in the file. A little more may be, which does no harm.

The file gets its name when it is whole and on the disk. Until then it is `FILE.partial-...`, and goes when this fails.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import secrets
import stat
from collections.abc import Iterator
from functools import partial
from io import FileIO
from pathlib import Path
from typing import Any, BinaryIO, Final, NamedTuple

import msgspec

from headway import __version__
from headway.cli.archive import (
    BLOB,
    CHUNK_BYTES,
    CONFIG,
    FORMAT,
    HELD,
    KNOWN,
    MANIFEST,
    RUNNER_FILE,
    STREAMS,
    WORDS,
    ArchiveWriter,
    Held,
    Kept,
    Manifest,
    snapshot_name,
)
from headway.cli.control import Answers, Request
from headway.cli.one_thread import OneThread
from headway.cli.plane import Plane
from headway.cli.progress import Throttle
from headway.cli.text import count, size
from headway.core import snapshots
from headway.core.clock import rfc3339
from headway.core.config import config_path
from headway.core.errors import RefusedError, UnavailableError, UsageError
from headway.core.log import Unknown
from headway.core.server_config import ROOM_FLOOR_BYTES, free_bytes
from headway.core.streams import STREAM, StreamRefused

BATCH_BYTES: Final = 4 << 20
FILE_COSTS_BYTES: Final = 1 << 16
"""A small file costs as much time as so many bytes of a large one."""

DAMAGED_SHOWN: Final = 100
TRIES: Final = 3


class Source(NamedTuple):
    """A file that goes into the backup."""

    name: str
    path: Path
    bytes: int


class Draft:
    """The file while it is made. All of it is work for one thread."""

    def __init__(self, target: Path, *, force: bool, home: Path) -> None:
        self.target = target
        self.partial = target.with_name(f"{target.name}.partial-{secrets.token_hex(4)}")
        self.damaged: list[str] = []
        self._force = force
        self._home = home
        self._unchecked_bytes = 0
        self._shares_disk = False
        self._file: BinaryIO | None = None
        self._archive: ArchiveWriter | None = None

    @property
    def archive(self) -> ArchiveWriter:
        assert self._archive is not None, "it has been opened"
        return self._archive

    def open(self) -> None:
        """Begin. Raises RefusedError where the file is, UsageError where it cannot be."""
        if self.target.is_dir():
            raise UsageError(f"{self.target} is a folder", next="name a file in it")
        if os.path.lexists(self.target) and not self._force:
            raise self._exists()
        try:
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            self._file = os.fdopen(os.open(self.partial, flags, 0o600), "wb", buffering=CHUNK_BYTES)
            self._shares_disk = os.stat(self.partial).st_dev == os.stat(self._home).st_dev
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise
            raise UsageError(
                f"cannot write {self.target}: {(error.strerror or str(error)).lower()}",
                next="name a file in a folder that is there and that you may write to",
            ) from None
        self._archive = ArchiveWriter(self._file)

    def write(self, chunk: bytes) -> None:
        """Add to the member that was begun, and leave the log its room where both are on one disk."""
        self._unchecked_bytes += len(chunk)
        if self._shares_disk and self._unchecked_bytes >= BATCH_BYTES:
            self._unchecked_bytes = 0
            if free_bytes(self.partial.parent) < 2 * ROOM_FLOOR_BYTES:
                raise OSError(errno.ENOSPC, "what is left is for the log")
        self.archive.write(chunk)

    def copy(self, sources: list[Source]) -> Iterator[int]:
        """Copy files into the backup, a chunk at a time; gives what each cost. What has gone is passed over."""
        for source in sources:
            try:
                handle = os.open(source.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
            except FileNotFoundError:
                continue
            except OSError as error:
                raise _unreadable(source.path, error) from error
            with FileIO(handle, "rb") as file:
                self.archive.begin(source.name)
                while chunk := _read(file, source.path):
                    self.write(chunk)
                    yield len(chunk)
            member = self.archive.end()
            blob = BLOB.fullmatch(source.name)
            if blob and member.sha256 != blob[1] + blob[2]:
                self.damaged.append(f"sha256:{blob[1]}{blob[2]}")
            yield FILE_COSTS_BYTES

    def keep(self) -> None:
        """Give the file its name; it is on the disk already. Raises RefusedError when somebody else was faster."""
        assert self._file is not None, "it has been opened"
        self._file.close()
        try:
            if self._force:
                os.replace(self.partial, self.target)
            else:
                self._link()
        except FileExistsError:
            raise self._exists() from None
        folder = os.open(self.target.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def _link(self) -> None:
        """Take the name only if it is free."""
        try:
            os.link(self.partial, self.target)
        except FileExistsError:
            raise
        except OSError:  # this file system knows no links
            if os.path.lexists(self.target):
                raise FileExistsError from None
            os.replace(self.partial, self.target)
        else:
            os.unlink(self.partial)

    def abandon(self) -> None:
        """Leave nothing behind but a file that was kept."""
        if self._file is not None:
            with contextlib.suppress(OSError):  # a full disk: what is still to be written is not wanted
                self._file.close()
            with contextlib.suppress(OSError):
                self.partial.unlink()

    def _exists(self) -> RefusedError:
        return RefusedError(f"{self.target} is there already", next="name another file, or replace it with --force")


async def backup(plane: Plane, request: Request) -> Answers:
    """Write a backup to the file `file`. The first answer says where it is made; the second one tells of it."""
    target = Path(request.text("file"))
    if not target.is_absolute() or "\0" in str(target):
        raise UsageError("file must be an absolute path", next="see 'headway backup --help'")
    draft = Draft(target, force=request.flag("force"), home=plane.home)
    thread = OneThread()
    try:
        with _disk_errors(target):
            await thread.do(draft.open)
            yield {"partial": str(draft.partial)}
            yield await _fill(plane, draft, thread, request)
    except (Unknown, StreamRefused) as error:
        raise UnavailableError(
            f"the backup was given up: {error}", next="see 'headway doctor', then make it again"
        ) from error
    finally:
        thread.leave(draft.abandon)


async def _fill(plane: Plane, draft: Draft, thread: OneThread, request: Request) -> dict[str, Any]:
    created = rfc3339(plane.clock.wall_us())
    manifest = Manifest(format=FORMAT, headway_version=__version__, created=created)
    await thread.do(lambda: draft.archive.add(MANIFEST, msgspec.json.encode(manifest)))
    reports = await thread.do(lambda: _runner_files(plane.home))
    await _copy(reports, "", draft, thread, request)
    streams = {stream: await _take(plane, stream, draft, thread, request) for stream in STREAMS}
    as_of = streams[STREAM].state.last_seq
    held = msgspec.json.encode(Held(as_of=as_of, streams=streams))
    await thread.do(lambda: draft.archive.add(HELD, held))
    folder = plane.blobs.folder
    found = await thread.do(lambda: [*_configuration(plane.home), *_identity(folder)])
    await _copy(found, "", draft, thread, request)
    blobs = await thread.do(lambda: _blob_files(folder))
    await _copy(blobs, "blobs", draft, thread, request)
    total = await thread.do(draft.archive.finish)
    await thread.do(draft.keep)
    return {
        "file": str(draft.target),
        "bytes": total,
        "as_of": as_of,
        "created": created,
        "blobs": sum(bool(BLOB.fullmatch(member.name)) for member in draft.archive.members),
        "damaged_blobs": draft.damaged[:DAMAGED_SHOWN],
        "streams": {stream: msgspec.to_builtins(kept.state) for stream, kept in streams.items()},
    }


async def _take(plane: Plane, stream: str, draft: Draft, thread: OneThread, request: Request) -> Kept:
    """A stream's snapshot into the file, from its beginning again when the server breaks off."""
    for tried in range(1, TRIES + 1):
        try:
            return await _taken(plane, stream, draft, thread, request)
        except Unknown as error:
            if tried == TRIES:
                raise
            request.progress(f"{WORDS[stream]}: {error}; trying again")
            await thread.do(draft.archive.drop)
    raise AssertionError("the last try has returned or raised")


async def _taken(plane: Plane, stream: str, draft: Draft, thread: OneThread, request: Request) -> Kept:
    """One try of it; the server waits while the disk is slow."""
    say = Throttle(request.progress)
    copied = 0
    async with snapshots.taking(plane.wire, stream) as snapshot:
        await thread.do(lambda: draft.archive.begin(snapshot_name(stream)))
        async with contextlib.aclosing(snapshot.chunks()) as chunks:
            async for chunk in chunks:
                await thread.do(partial(draft.write, chunk))
                copied += len(chunk)
                say(f"{WORDS[stream]}: {size(copied)} of at most {size(snapshot.state.bytes)}")
        await thread.do(draft.archive.end)
    what = count(snapshot.state.messages, "event" if stream == STREAM else "message")
    request.progress(f"{WORDS[stream]}: {what}, {size(copied)}")
    return Kept(config=snapshot.config, state=snapshot.state)


async def _copy(sources: list[Source], what: str, draft: Draft, thread: OneThread, request: Request) -> None:
    """Files into the backup, in pieces that a cancellation can come between."""
    say = Throttle(request.progress)
    total = sum(source.bytes for source in sources)
    began, before = len(draft.archive.members), draft.archive.size
    steps = draft.copy(sources)
    while await thread.do(lambda: _batch(steps)):
        done = len(draft.archive.members) - began
        copied = min(total, draft.archive.size - before)
        say(f"{what or 'files'}: {done} of {len(sources)}, {size(copied)} of {size(total)}")
    if what:
        request.progress(f"{what}: {len(draft.archive.members) - began}, {size(total)}")


def _batch(steps: Iterator[int]) -> bool:
    """Work for a moment; whether there is more."""
    left = BATCH_BYTES
    for done in steps:
        left -= done
        if left <= 0:
            return True
    return False


def _configuration(home: Path) -> list[Source]:
    path = config_path(home)
    return [Source(CONFIG, path.resolve(), path.stat().st_size)] if path.is_file() else []


def _identity(folder: Path) -> list[Source]:
    found = _source("blobs/identity", folder / "identity", KNOWN)
    return [found] if found else []


def _runner_files(home: Path) -> list[Source]:
    """What the runners of this home need to go on: not their locks, nor the folders of attempts."""
    found = []
    for runner in _listed(home / "runners"):
        for path in (runner / "incarnations", *_listed(runner / "spool")):
            found.append(_source(str(path.relative_to(home)), path, RUNNER_FILE))
    return [one for one in found if one is not None]


def _blob_files(folder: Path) -> list[Source]:
    found = []
    for part in _listed(folder / "sha256"):
        for path in _listed(part):
            found.append(_source(f"blobs/{path.relative_to(folder)}", path, BLOB))
    return [one for one in found if one is not None]


def _listed(folder: Path) -> list[Path]:
    """What lies in a folder. One that cannot be looked into is no empty one."""
    try:
        return sorted(folder.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise _unreadable(folder, error) from error


def _source(name: str, path: Path, known: re.Pattern[str]) -> Source | None:
    """A file that is to be kept, if it is one and still there."""
    try:
        found = path.lstat()
    except FileNotFoundError:
        return None
    return Source(name, path, found.st_size) if known.fullmatch(name) and stat.S_ISREG(found.st_mode) else None


def _read(file: FileIO, path: Path) -> bytes:
    try:
        return file.read(CHUNK_BYTES)
    except OSError as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: OSError) -> UnavailableError:
    return UnavailableError(
        f"{path} cannot be read: {(error.strerror or str(error)).lower()}", next="check the disk and the file's rights"
    )


@contextlib.contextmanager
def _disk_errors(target: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise UnavailableError(
                f"the disk of {target.parent} is full; nothing of the backup was kept",
                next="free some space there, or write the backup to another disk",
            ) from error
        raise UnavailableError(
            f"cannot write {target}: {(error.strerror or str(error)).lower()}", next="check the disk and the folder"
        ) from error
