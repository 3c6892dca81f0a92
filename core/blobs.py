"""Bytes kept by their sha256, in a local folder.

    <folder>/identity            random text that says which store this is
    <folder>/sha256/ab/cdef...   one file a blob, never changed once it is there
    <folder>/corrupt/            what was found damaged, kept for a person to look at
    <folder>/tmp/                blobs on their way in

A blob appears at once and whole, and is on disk before its digest is told. Two writers of the same bytes do no harm.
What is read is checked against its digest: damaged bytes are never handed out.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import re
import secrets
import stat
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Final

from headway.core.errors import HeadwayError, NotFoundError, RefusedError, UnavailableError

DIGEST: Final = re.compile(r"sha256:([0-9a-f]{64})")
CHUNK_BYTES: Final = 1 << 20
STALE_SECONDS: Final = 24 * 3600


class Blobs:
    """The blob store in `folder`, which is made when the first blob comes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def put_bytes(self, body: bytes) -> str:
        """Keep these bytes and return their digest; once this returns they survive a crash."""
        digest = "sha256:" + hashlib.sha256(body).hexdigest()
        with _store_errors(f"blob {digest} could not be stored"):
            if self._holds(digest, body):
                return digest
            with self.writer() as writer:
                writer.write(body)
                return writer.finish()[0]

    def put_file(self, path: Path, *, move: bool = False) -> tuple[str, int]:
        """Keep a file's bytes; return their digest and count. With `move` the file itself becomes the blob."""
        with _store_errors(f"{path} could not be stored as a blob"):
            if move:
                return self._take_file(path)
            with path.open("rb", buffering=0) as source, self.writer() as writer:
                while chunk := source.read(CHUNK_BYTES):
                    writer.write(chunk)
                return writer.finish()

    def writer(self) -> BlobWriter:
        """A place to write a blob bit by bit; without `finish` nothing is kept."""
        with _store_errors(f"the blob store {self.folder} cannot be written"):
            return BlobWriter(self)

    def get(self, digest: str) -> bytes:
        """The bytes of a blob, checked."""
        path = self.path(digest)
        with _store_errors(f"blob {digest} could not be read"):
            body = path.read_bytes()
        if hashlib.sha256(body).hexdigest() != path.parent.name + path.name:
            raise self._damaged(digest, path)
        return body

    def path(self, digest: str) -> Path:
        """Where a blob lies; its bytes are not checked."""
        path = self._place(digest)
        if not path.is_file():
            raise NotFoundError(
                f"there is no blob {digest} in {self.folder}",
                next="check that this is the blob folder the run was submitted to",
            )
        return path

    def open(self, digest: str) -> BinaryIO:
        """A blob to read from its start; all of it has been checked."""
        path = self.path(digest)
        with _store_errors(f"blob {digest} could not be read"):
            source = path.open("rb")
            if hashlib.file_digest(source, "sha256").hexdigest() != path.parent.name + path.name:
                source.close()
                raise self._damaged(digest, path)
            source.seek(0)
        return source

    def copy_to(self, digest: str, target: Path) -> int:
        """Write a blob's bytes to a new file and return their count; damaged bytes leave no file behind."""
        path = self.path(digest)
        found = hashlib.sha256()
        copied = 0
        with _store_errors(f"blob {digest} could not be copied to {target}"):
            try:
                with path.open("rb", buffering=0) as source, target.open("wb") as copy:
                    while chunk := source.read(CHUNK_BYTES):
                        found.update(chunk)
                        copied += copy.write(chunk)
            except OSError:
                target.unlink(missing_ok=True)
                raise
        if found.hexdigest() != path.parent.name + path.name:
            target.unlink(missing_ok=True)
            raise self._damaged(digest, path)
        return copied

    def verify(self, digest: str) -> bool:
        """Whether the blob is there and undamaged; nothing is moved or changed."""
        path = self._place(digest)
        try:
            with path.open("rb") as source:
                return hashlib.file_digest(source, "sha256").hexdigest() == path.parent.name + path.name
        except FileNotFoundError:
            return False

    def trouble(self, digest: str) -> tuple[str, int]:
        """What is wrong with a blob, in words, "" for one that is whole, and its bytes; nothing is moved or changed."""
        path = self._place(digest)
        try:
            kind = path.stat().st_mode
            if not stat.S_ISREG(kind):
                what = "a folder" if stat.S_ISDIR(kind) else "something else than a file"
                return f"{what} lies in its place", 0
            # Not waiting: it may have become something that would be waited for.
            with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as source:
                size = os.fstat(source.fileno()).st_size
                whole = hashlib.file_digest(source, "sha256").hexdigest() == path.parent.name + path.name
        except FileNotFoundError:
            return "it is missing", 0
        except OSError as error:
            return f"it cannot be read: {(error.strerror or str(error)).lower()}", 0
        return ("" if whole else f"its {size} bytes are not those it was named by"), size

    def has(self, digest: str) -> bool:
        """Whether there is such a blob; its bytes are not checked."""
        return self._place(digest).is_file()

    def identity(self) -> str:
        """The random text that names this store: two processes that read the same one share their blobs."""
        path = self.folder / "identity"
        with _store_errors(f"the blob store {self.folder} cannot be used"):
            with contextlib.suppress(FileNotFoundError):
                return path.read_text("ascii").strip()
            with self.writer() as writer:
                writer.write(secrets.token_hex(16).encode() + b"\n")
                with contextlib.suppress(FileExistsError):
                    writer.link(path)
            return path.read_text("ascii").strip()

    def remove_stale(self, *, older_than_seconds: float = STALE_SECONDS) -> int:
        """Remove what writers that died left in `tmp`; return how many files went."""
        removed = 0
        with contextlib.suppress(FileNotFoundError), os.scandir(self.folder / "tmp") as entries:
            for entry in entries:
                with contextlib.suppress(OSError):
                    if entry.stat(follow_symlinks=False).st_mtime < time.time() - older_than_seconds:
                        os.unlink(entry.path)
                        removed += 1
        return removed

    def _place(self, digest: str) -> Path:
        match = DIGEST.fullmatch(digest)
        if match is None:
            raise RefusedError(f"{digest[:80]!r} is not a digest", next="a digest is sha256: and 64 hexadecimal digits")
        return self.folder / "sha256" / match[1][:2] / match[1][2:]

    def _holds(self, digest: str, body: bytes) -> bool:
        """Whether exactly these bytes are kept already, and durably so."""
        path = self._place(digest)
        try:
            if path.read_bytes() != body:
                self._damaged(digest, path)  # moved aside, so that the right bytes take its place
                return False
        except FileNotFoundError:
            return False
        _sync_folder(path.parent)  # whoever wrote it may not have come to this yet
        return True

    def _take_file(self, path: Path) -> tuple[str, int]:
        with path.open("rb") as source:
            digest = "sha256:" + hashlib.file_digest(source, "sha256").hexdigest()
            size = os.fstat(source.fileno()).st_size
            os.fsync(source.fileno())
        try:
            self._settle(path, digest)
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
            kept = self.put_file(path)
            path.unlink(missing_ok=True)
            return kept
        return digest, size

    def _settle(self, path: Path, digest: str) -> None:
        """Rename a synced file to where its digest belongs, replacing what has another size and so is damaged."""
        place = self._place(digest)
        _make_folder(self.folder)
        for folder in (place.parent.parent, place.parent):
            with contextlib.suppress(FileExistsError):
                folder.mkdir(mode=0o700)
                _sync_folder(folder.parent)
        with contextlib.suppress(FileNotFoundError):
            if place.stat().st_size == path.stat().st_size:
                path.unlink()
                _sync_folder(place.parent)
                return
        path.chmod(0o400)
        path.rename(place)
        _sync_folder(place.parent)

    def _damaged(self, digest: str, path: Path) -> HeadwayError:
        corrupt = self.folder / "corrupt"
        kept = corrupt / f"{digest.removeprefix('sha256:')}-{secrets.token_hex(4)}"
        with contextlib.suppress(OSError):
            corrupt.mkdir(mode=0o700, exist_ok=True)
            path.rename(kept)
        return UnavailableError(
            f"blob {digest} is damaged: its bytes are not those it was named by",
            next=f"check the disk; the damaged bytes are kept as {kept}",
        )


class BlobWriter:
    """A blob on its way in, hashed as it is written. Leaving the `with` without `finish` drops it."""

    def __init__(self, blobs: Blobs) -> None:
        self._blobs = blobs
        self._hash = hashlib.sha256()
        self._bytes = 0
        _make_folder(blobs.folder)
        tmp = blobs.folder / "tmp"
        tmp.mkdir(exist_ok=True, mode=0o700)
        self._path = tmp / secrets.token_hex(12)
        self._fd = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)

    def write(self, chunk: bytes) -> int:
        """Add bytes; all of them are written."""
        self._hash.update(chunk)
        left = memoryview(chunk)
        with _store_errors("a blob could not be written"):
            while left:
                left = left[os.write(self._fd, left) :]
        self._bytes += len(chunk)
        return len(chunk)

    def finish(self) -> tuple[str, int]:
        """Keep what was written; return its digest and size. It is durable when this returns."""
        digest = "sha256:" + self._hash.hexdigest()
        with _store_errors(f"blob {digest} could not be stored"):
            os.fsync(self._fd)
            self._blobs._settle(self._path, digest)
        return digest, self._bytes

    def link(self, target: Path) -> None:
        """Give what was written a name of its own instead. Raises FileExistsError when the name is taken."""
        os.fsync(self._fd)
        os.link(self._path, target)
        _sync_folder(target.parent)

    def __enter__(self) -> BlobWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._fd)
        self._path.unlink(missing_ok=True)


def _make_folder(folder: Path) -> None:
    """The store's own folder, for its user alone; `mkdir` gives a mode only to the last folder that it makes."""
    if not folder.is_dir():
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)


def _sync_folder(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


@contextlib.contextmanager
def _store_errors(what: str) -> Iterator[None]:
    """Say what could not be done, and what to do, where the file system refuses."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            advice = "free some space on that disk and try again"
        else:
            advice = "check that the folder is there and that you may write it"
        raise UnavailableError(f"{what}: {(error.strerror or str(error)).lower()}", next=advice) from error
