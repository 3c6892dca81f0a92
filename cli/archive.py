"""The file of a backup: a tar that any tar can list, written and read by hand, for it is not to be believed.

    manifest.json                       first: the format, the version that wrote it, and when
    runners/<name>/...                  which incarnations there may be, and what they had still to report
    streams/HEADWAY.snapshot            the log, as the server gave it
    streams/HEADWAY_OUTPUT.snapshot     what jobs printed lately, as the server gave it
    streams.json                        their settings, and what they held
    config.yml                          if there is one
    blobs/identity, blobs/sha256/...    everything that events name by digest
    checksums.json                      last: size and sha256 of every other member

Only regular files with exactly these names are read, each once; anything else makes the whole file refused. Members
are not compressed: snapshots are already, and many blobs.
"""

from __future__ import annotations

import hashlib
import os
import re
import tarfile
import time
from collections.abc import Iterator
from typing import Any, BinaryIO, Final

import msgspec

from headway.core.errors import RefusedError, UsageError
from headway.core.streams import OUTPUT_STREAM, STREAM, StreamState

FORMAT: Final = 1
MANIFEST: Final = "manifest.json"
CHECKSUMS: Final = "checksums.json"
HELD: Final = "streams.json"
CONFIG: Final = "config.yml"
STREAMS: Final = (STREAM, OUTPUT_STREAM)
WORDS: Final = {STREAM: "log", OUTPUT_STREAM: "output"}
CHUNK_BYTES: Final = 1 << 20
SMALL_BYTES_MAX: Final = 1 << 20
CHECKSUMS_BYTES_MAX: Final = 1 << 29
BLOCK: Final = tarfile.BLOCKSIZE
PLAIN_NAME_MAX: Final = tarfile.LENGTH_NAME

RUNNER_FILE: Final = re.compile(r"runners/([A-Za-z0-9_][A-Za-z0-9_-]{0,63})/(incarnations|spool/[A-Za-z0-9-]{1,64})")
BLOB: Final = re.compile(r"blobs/sha256/([0-9a-f]{2})/([0-9a-f]{62})")
KNOWN: Final = re.compile(
    rf"manifest\.json|checksums\.json|streams\.json|config\.yml|streams/(?:{STREAM}|{OUTPUT_STREAM})\.snapshot"
    rf"|{RUNNER_FILE.pattern}|blobs/identity|{BLOB.pattern}"
)


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """What is known when a backup begins."""

    format: int
    headway_version: str = ""
    created: str = ""


class Member(msgspec.Struct, frozen=True):
    """A file in the backup."""

    name: str
    bytes: int
    sha256: str


class Kept(msgspec.Struct, frozen=True, kw_only=True):
    """A stream as it was when it was taken."""

    config: dict[str, Any]
    state: StreamState


class Held(msgspec.Struct, frozen=True, kw_only=True):
    """What the streams held: the log up to the event `as_of`."""

    as_of: int
    streams: dict[str, Kept]


class Checksums(msgspec.Struct, frozen=True, kw_only=True):
    """What is known when a backup ends."""

    members: list[Member]


def snapshot_name(stream: str) -> str:
    """Where a stream lies in a backup."""
    return f"streams/{stream}.snapshot"


class ArchiveWriter:
    """Writes members to a new file, one after the other; a member's size need not be known before."""

    def __init__(self, file: BinaryIO) -> None:
        self.members: list[Member] = []
        self._file = file
        self._name = ""
        self._began = 0
        self._made = int(time.time())
        self._hash = hashlib.sha256()

    @property
    def size(self) -> int:
        """How large the file is by now."""
        return self._file.tell()

    def begin(self, name: str) -> None:
        """Begin a member."""
        assert KNOWN.fullmatch(name), "only what a restore knows is kept"
        self._name, self._began, self._hash = name, self._file.tell(), hashlib.sha256()
        self._file.write(_header(name, 0, self._made))

    def write(self, chunk: bytes) -> None:
        """Add to the member that was begun."""
        self._hash.update(chunk)
        self._file.write(chunk)

    def end(self) -> Member:
        """End the member: now its size is known, and is written where it belongs."""
        end = self._file.tell()
        size = end - self._began - BLOCK
        self._file.write(bytes(-size % BLOCK))
        after = self._file.tell()
        self._file.seek(self._began)
        self._file.write(_header(self._name, size, self._made))
        self._file.seek(after)
        member = Member(self._name, size, self._hash.hexdigest())
        self.members.append(member)
        self._name = ""
        return member

    def drop(self) -> None:
        """Forget the member that was begun, if one was and has not ended."""
        if self._name:
            self._file.seek(self._began)
            self._file.truncate()
            self._name = ""

    def add(self, name: str, body: bytes) -> Member:
        """A whole member."""
        self.begin(name)
        self.write(body)
        return self.end()

    def finish(self) -> int:
        """Write what was only known at the end, bring all of it to the disk, and return the file's size."""
        self.add(CHECKSUMS, msgspec.json.encode(Checksums(members=list(self.members))))
        self._file.write(bytes(2 * BLOCK))
        self._file.write(bytes(-self._file.tell() % tarfile.RECORDSIZE))
        self._file.flush()
        os.fsync(self._file.fileno())
        return self._file.tell()


def _header(name: str, size: int, made: int) -> bytes:
    info = tarfile.TarInfo(name)
    info.size, info.mode, info.mtime = size, 0o600, made
    # Each in one block: the one has room for any size, the other for long names.
    header = info.tobuf(tarfile.GNU_FORMAT if len(name) <= PLAIN_NAME_MAX else tarfile.USTAR_FORMAT)
    assert len(header) == BLOCK, "a header is written again in its place"
    return header


class ArchiveReader:
    """Reads members in order. Everything that is not as it should be is a RefusedError that names it."""

    def __init__(self, file: BinaryIO, path: str) -> None:
        self.members: dict[str, Member] = {}
        self.offsets: dict[str, int] = {}
        self.size = os.fstat(file.fileno()).st_size
        self._file = file
        self._path = path

    def manifest(self) -> Manifest:
        """The first member. A file that is no backup is a UsageError, one of a newer format is refused."""
        name, size = self._next() if self._looks_like_tar() else ("", 0)
        if name != MANIFEST or size > SMALL_BYTES_MAX:
            raise UsageError(f"{self._path} is not a backup of Headway", next="give a file that 'headway backup' wrote")
        try:
            found = msgspec.json.decode(b"".join(self.content(name, size)), type=Manifest)
        except msgspec.MsgspecError:
            raise self.refused(f"{MANIFEST} cannot be read") from None
        if found.format > FORMAT:
            raise RefusedError(
                f"{self._path} was written by Headway {found.headway_version[:40]}, in format {found.format};"
                f" this one knows formats up to {FORMAT}",
                next="restore it with that version or a later one",
            )
        return found

    def rest(self) -> Iterator[tuple[str, int]]:
        """Name and size of each further member up to the last one; `content` has to be read before the next."""
        while CHECKSUMS not in self.members:
            yield self._next()

    def content(self, name: str, size: int) -> Iterator[bytes]:
        """The bytes of the member just named."""
        found, left = hashlib.sha256(), size
        while left:
            chunk = self._file.read(min(left, CHUNK_BYTES))
            if not chunk:
                raise self.refused(f"it is cut short in {name}")
            found.update(chunk)
            left -= len(chunk)
            yield chunk
        self._file.seek(-size % BLOCK, os.SEEK_CUR)
        self.members[name] = Member(name, size, found.hexdigest())

    def again(self, name: str) -> Iterator[bytes]:
        """The bytes of a member that was read before, which are the same as then."""
        member = self.members.pop(name)
        self._file.seek(self.offsets[name])
        yield from self.content(name, member.bytes)
        if self.members[name] != member:
            raise self.refused(f"{name} changes while it is read")

    def check(self, body: bytes) -> None:
        """Every other member must be there and be what the last one says, of which these are the bytes."""
        try:
            wanted = {member.name: member for member in msgspec.json.decode(body, type=Checksums).members}
        except msgspec.MsgspecError:
            raise self.refused(f"{CHECKSUMS} cannot be read") from None
        found = {name: member for name, member in self.members.items() if name != CHECKSUMS}
        for name in (*wanted, *found):
            if name not in found:
                raise self.refused(f"{_shown(name)} is missing")
            if name not in wanted:
                raise self.refused(f"{name} was added to it")
            if wanted[name] != found[name]:
                raise self.refused(f"{name} is damaged: its bytes are not those that were written")

    def held(self, body: bytes) -> Held:
        """What the streams held, from the bytes of the member that says it."""
        try:
            found = msgspec.json.decode(body, type=Held)
        except msgspec.MsgspecError:
            raise self.refused(f"{HELD} is missing or cannot be read") from None
        names = {stream: snapshot_name(stream) for stream in STREAMS}
        if set(found.streams) != set(names) or not set(names.values()) <= set(self.members):
            raise self.refused("it does not hold the log and its output")
        for stream, kept in found.streams.items():
            if kept.config.get("name") != stream:
                raise self.refused(f"{names[stream]} is of another stream")
        return found

    def refused(self, why: str) -> RefusedError:
        """The error for a backup that cannot be trusted."""
        return RefusedError(
            f"{self._path} cannot be restored: {why}", next="use another copy of this backup, or another backup"
        )

    def _looks_like_tar(self) -> bool:
        beginning = self._file.read(BLOCK)
        self._file.seek(0)
        try:
            return tarfile.TarInfo.frombuf(beginning, "utf-8", "surrogateescape").name == MANIFEST
        except tarfile.HeaderError:
            return False

    def _next(self) -> tuple[str, int]:
        after = f"after {list(self.members)[-1]}" if self.members else "at its beginning"
        block = self._file.read(BLOCK)
        if len(block) < BLOCK or not block.strip(b"\0"):
            raise self.refused(f"it is cut short {after}")
        try:
            info = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
        except tarfile.HeaderError:
            raise self.refused(f"it is damaged {after}") from None
        name = info.name
        if info.type != tarfile.REGTYPE or not KNOWN.fullmatch(name):
            raise self.refused(f"it holds {_shown(name)}, which no backup has")
        if name in self.members:
            raise self.refused(f"it holds {name} twice")
        self.offsets[name] = self._file.tell()
        if info.size < 0 or self.offsets[name] + info.size > self.size:
            raise self.refused(f"it is cut short in {name}")
        return name, info.size


def _shown(name: str) -> str:
    return ascii(name[:200])
