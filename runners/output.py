"""What an attempt prints: cut into records, sent out as it comes, kept in a file that becomes a blob.

A record is one JSON object on one line; a published message is one or more whole lines:

    {"i": 0, "t": 1767225600000000, "s": "out", "step": 0, "d": "hello\\n"}

`i` numbers the attempt's records from 0, `t` is microseconds since 1970 UTC, `d` the text as it was printed. Bytes that
are not UTF-8 are in `b` instead, as base64. A record may end in the middle of a line.

The file has everything; publishing runs behind it. While the log cannot be reached the job goes on, and what was not
sent is read back from the file later. Only when the file itself cannot be written, or the limit is reached, is
something not kept, and a last record says so.
"""

from __future__ import annotations

import asyncio
import codecs
import contextlib
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Final

import msgspec

from headway.core.blobs import Blobs
from headway.core.clock import Clock
from headway.core.errors import UnavailableError
from headway.core.events import Output
from headway.runners.executor import Stream
from headway.runners.workspace import fresh_file

RECORD_BYTES_MAX: Final = 32 * 1024
MESSAGE_BYTES: Final = 128 * 1024
"""A message is sent when it is this long; one record more may fit in."""
FLUSH_SECONDS: Final = 0.05
IN_FLIGHT_MAX: Final = 16
RETRY_SECONDS: Final = 0.5
CATCH_UP_SECONDS: Final = 1.0
KEPT_BYTES_MAX: Final = 64 * 1024 * 1024


class Record(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One piece of what an attempt printed."""

    i: int
    t: int
    s: Stream
    step: int
    d: str | None = None
    b: bytes | None = None


_encode = msgspec.json.Encoder().encode_into


class Publisher:
    """Sends a growing file of lines, from its start on, a bounded number of messages at a time.

    `publish` takes a message and its id; what it returns is done when the message is safe, and may fail.
    """

    def __init__(self, path: Path, publish: Callable[[bytes, str], asyncio.Future[None]], *, name: str) -> None:
        self._path = path
        self._publish = publish
        self._name = name
        self._sent_bytes = 0
        self._written_bytes = 0
        self._in_flight = 0
        self._closed = False
        self._sent_all: asyncio.Event | None = None
        self._retries: dict[str, asyncio.TimerHandle] = {}

    def wrote(self, body: bytes) -> None:
        """The file has grown by these lines."""
        behind = self._sent_bytes < self._written_bytes
        self._written_bytes += len(body)
        if self._in_flight < IN_FLIGHT_MAX and not behind:
            self._send(body, f"{self._name}:o{self._sent_bytes}")
            self._sent_bytes = self._written_bytes
        elif behind:
            self._catch_up()

    async def caught_up(self, seconds: float) -> None:
        """Give what waits to be sent so long to go, for those who follow; the blob will have it anyway."""
        if self._sent_bytes == self._written_bytes:
            return
        self._sent_all = asyncio.Event()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._sent_all.wait()

    def close(self) -> None:
        """Send nothing more; the blob has it all."""
        self._closed = True
        for timer in self._retries.values():
            timer.cancel()

    def _catch_up(self) -> None:
        """Send what is only in the file, as far as there is room in flight."""
        while self._sent_bytes < self._written_bytes and self._in_flight < IN_FLIGHT_MAX and not self._closed:
            try:
                end = min(self._written_bytes, self._sent_bytes + 4 * MESSAGE_BYTES)
                body = _lines(self._path, start=self._sent_bytes, end=end)
            except OSError:
                body = b""
            if not body:
                return
            start, self._sent_bytes = self._sent_bytes, self._sent_bytes + len(body)
            self._send(body, f"{self._name}:o{start}")
        if self._sent_all is not None and self._sent_bytes == self._written_bytes:
            self._sent_all.set()

    def _send(self, body: bytes, message_id: str) -> None:
        self._in_flight += 1
        self._again(body, message_id)

    def _again(self, body: bytes, message_id: str) -> None:
        try:
            sent = self._publish(body, message_id)
        except Exception as error:  # whatever a link raises: output must not end the job
            sent = asyncio.get_running_loop().create_future()
            sent.set_exception(error)
        sent.add_done_callback(lambda done: self._answered(done, body, message_id))

    def _answered(self, done: asyncio.Future[None], body: bytes, message_id: str) -> None:
        failed = done.cancelled() or done.exception() is not None
        if self._closed:
            return
        if failed:
            loop = asyncio.get_running_loop()
            self._retries[message_id] = loop.call_later(RETRY_SECONDS, self._again, body, message_id)
            return
        self._retries.pop(message_id, None)
        self._in_flight -= 1
        self._catch_up()


class OutputWriter:
    """Takes what the steps of one attempt print. Nothing printed: no file, nothing published, no blob."""

    def __init__(self, path: Path, *, clock: Clock, publisher: Publisher, kept_bytes_max: int = KEPT_BYTES_MAX) -> None:
        self._path = path
        self._clock = clock
        self._publisher = publisher
        self._kept_bytes_max = kept_bytes_max
        self._fd = -1
        self._inode = (0, 0)
        self._file_bytes = 0
        self._held = bytearray()
        self._held_stream: Stream = "out"
        self._held_since_us = 0
        self._step = 0
        self._lines = bytearray()
        self._line = bytearray()
        self._timer: asyncio.TimerHandle | None = None
        self._kept_bytes = 0
        self.records = 0
        self.truncated = ""
        """Why not everything is kept, "" while it is."""

    def begin_step(self, step: int) -> None:
        """What comes now is printed by this step."""
        self.flush()
        self._step = step

    def add(self, stream: Stream, body: bytes) -> None:
        """Take what was printed."""
        if self.truncated or not body:
            return
        if stream != self._held_stream:
            self._cut(final=True)
            self._held_stream = stream
        room = self._kept_bytes_max - self._kept_bytes - len(self._held)
        if not self._held:
            self._held_since_us = self._clock.wall_us()
        self._held += body[:room] if room < len(body) else body
        if len(self._held) >= RECORD_BYTES_MAX:
            self._cut(final=False)
        if room < len(body):
            self._truncate(f"output limit of {_size(self._kept_bytes_max)} reached")
        elif self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(FLUSH_SECONDS, self._flush_late)

    def note(self, text: str) -> None:
        """Say something to whoever reads the output, in Headway's own name."""
        if not self.truncated:
            self._cut(final=True)
            self._record("err", f"[headway: {text}]\n".encode())

    def flush(self) -> None:
        """Everything taken so far goes out now, even half a character."""
        self._cut(final=True)
        self._write()

    def finish(self, blobs: Blobs) -> Output | None:
        """Keep the file as a blob; None when nothing was printed. Blocks; call it in a thread, after `close`."""
        if not self.records:
            return None
        self._check_file()
        digest, size = blobs.put_file(self._path, move=True)
        return Output(digest=digest, bytes=size, records=self.records, truncated=bool(self.truncated))

    def _check_file(self) -> None:
        """Whether the file is the one that was written here, and as it was: the job could reach it."""
        why = "the job changed or removed the file it was in"
        with contextlib.suppress(OSError):
            found = os.lstat(self._path)
            if ((found.st_dev, found.st_ino), found.st_size) == (self._inode, self._file_bytes):
                return
        raise UnavailableError(why, next="have the job leave the folder above its workspace alone")

    async def caught_up(self) -> None:
        """Send what waits, as far as that is quick."""
        self.flush()
        await self._publisher.caught_up(CATCH_UP_SECONDS)

    def close(self) -> None:
        """Nothing more comes."""
        self.flush()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._publisher.close()
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _flush_late(self) -> None:
        self._timer = None
        self._cut(final=False)
        self._write()

    def _cut(self, *, final: bool) -> None:
        """Make records of what is held. Unless `final`, the start of a character stays until the rest comes."""
        keep = 0 if final else unfinished_bytes(self._held)
        end = len(self._held) - keep
        at = 0
        while at < end:
            piece = self._held[at : min(at + RECORD_BYTES_MAX, end)]
            if at + len(piece) < end:
                piece = piece[: len(piece) - unfinished_bytes(piece)]
            self._record(self._held_stream, bytes(piece))
            at += len(piece)
        del self._held[:at]

    def _record(self, stream: Stream, piece: bytes) -> None:
        self._kept_bytes += len(piece)
        time_us = self._held_since_us or self._clock.wall_us()
        try:
            record = Record(i=self.records, t=time_us, s=stream, step=self._step, d=piece.decode())
        except UnicodeDecodeError:
            record = Record(i=self.records, t=time_us, s=stream, step=self._step, b=piece)
        _encode(record, self._line)
        self._lines += self._line
        self._lines += b"\n"
        self.records += 1
        self._held_since_us = 0
        if len(self._lines) >= MESSAGE_BYTES:
            self._write()

    def _write(self) -> None:
        """Append the finished lines to the file and send them."""
        if not self._lines:
            return
        body = bytes(self._lines)
        self._lines.clear()
        try:
            if self._fd < 0:
                self._fd = fresh_file(self._path, flags=os.O_APPEND)
                made = os.fstat(self._fd)
                self._inode = (made.st_dev, made.st_ino)
            left = memoryview(body)
            while left:
                left = left[os.write(self._fd, left) :]
        except OSError as error:
            self._cannot_write(body, error)
            return
        self._file_bytes += len(body)
        self._publisher.wrote(body)

    def _cannot_write(self, body: bytes, error: OSError) -> None:
        """The disk is full or worse: the file ends before this, the job goes on."""
        self.truncated = f"output can no longer be kept: {(error.strerror or str(error)).lower()}"
        self.records -= body.count(b"\n")
        self._held.clear()
        if self._fd >= 0:
            with contextlib.suppress(OSError):
                os.ftruncate(self._fd, self._file_bytes)

    def _truncate(self, why: str) -> None:
        self._cut(final=True)
        self.note(f"{why}; the rest is not kept")
        self._write()
        self.truncated = self.truncated or why


def unfinished_bytes(body: bytes | bytearray) -> int:
    """How many bytes at the end begin a UTF-8 character that is not whole; 0 to 3."""
    for back in range(1, min(3, len(body)) + 1):
        byte = body[-back]
        if byte & 0xC0 == 0x80:
            continue
        needs = 2 if byte & 0xE0 == 0xC0 else 3 if byte & 0xF0 == 0xE0 else 4 if byte & 0xF8 == 0xF0 else 1
        return back if needs > back else 0
    return 0


def text_of(records: list[Record], stream: Stream | None = None) -> str:
    """What the records say, one after the other, with whatever is not text replaced."""
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    wanted = (one for one in records if stream is None or one.s == stream)
    body = b"".join(one.b if one.b is not None else (one.d or "").encode() for one in wanted)
    return decoder.decode(body, final=True)


def _lines(path: Path, *, start: int, end: int) -> bytes:
    """Whole lines of the file from `start`, up to `end` or a bit before."""
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        body = os.pread(fd, end - start, start) if stat.S_ISREG(os.fstat(fd).st_mode) else b""
    finally:
        os.close(fd)
    return body[: body.rfind(b"\n") + 1]


def _size(size: int) -> str:
    return f"{size >> 20} MiB" if size >= 1 << 20 else f"{size} bytes"
