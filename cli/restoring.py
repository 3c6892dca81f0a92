"""Making a home of a backup: into a folder of its own first, and in its place only when all of it is checked.

The home is locked as a service locks it. Everything is unpacked to `.restoring-...` in the home, each member checked
against the checksums; a log server is started there and given the streams, which must come out as they were taken.
Then all is brought to the disk and renamed, the log last. Whatever goes wrong before leaves the home as it was.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import shutil
import signal
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import msgspec

from headway.cli.archive import (
    CHECKSUMS,
    CHECKSUMS_BYTES_MAX,
    CONFIG,
    HELD,
    SMALL_BYTES_MAX,
    STREAMS,
    WORDS,
    ArchiveReader,
    Held,
    Kept,
    snapshot_name,
)
from headway.cli.claiming import claimed, holds_something, open_backup
from headway.cli.one_thread import OneThread
from headway.cli.placing import Place
from headway.cli.progress import Throttle
from headway.cli.text import size
from headway.core import config as configs
from headway.core import snapshots
from headway.core.config import Config
from headway.core.endpoint import Endpoint
from headway.core.errors import RefusedError, UnavailableError
from headway.core.log import Unknown
from headway.core.server import Server, Settings, outside_endpoint
from headway.core.server_config import ROOM_FLOOR_BYTES, free_bytes
from headway.core.streams import NOT_FOUND, OUTPUT_STREAM, STREAM, StreamRefused, StreamState, api, stream_info
from headway.core.wire import Wire

LIMITS: Final = {
    **dict.fromkeys((CONFIG, HELD, "blobs/identity"), SMALL_BYTES_MAX),
    CHECKSUMS: CHECKSUMS_BYTES_MAX,
}
"""How large a member may be that is read as a whole, by us or later."""


Say = Callable[[str], None]


class Interrupted(Exception):
    """A signal ended this."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


class Restoring:
    """One backup on its way into one home."""

    def __init__(self, home: Path, environ: Mapping[str, str], say: Say) -> None:
        self._home = home
        self._environ = environ
        self._say = say
        self._place = Place(home)
        self._thread = OneThread()

    async def run(self, file: Path) -> dict[str, Any]:
        """Restore; what there is to tell of it. Raises HeadwayError, and leaves nothing behind then."""
        with open_backup(file) as reader, _disk_errors(self._home), claimed(self._home):
            try:
                manifest = await self._thread.do(reader.manifest)
                await self._thread.do(self._place.make)
                held = await self._unpack(reader)
                config = configs.load(self._place.folder, self._environ)
                blobs = self._blobs_target(config)
                async with self._streams(config, held.streams, reader):
                    await self._settle(blobs)
            except (Unknown, StreamRefused) as error:
                raise self._not_restored(error) from error
            finally:
                self._thread.finish(self._place.clear)
        return {
            "home": str(self._home),
            "file": str(file),
            "as_of": held.as_of,
            "created": manifest.created,
            "blobs": sum(name.startswith("blobs/sha256/") for name in reader.members),
            "streams": {stream: msgspec.to_builtins(kept.state) for stream, kept in held.streams.items()},
        }

    async def run_until_signal(self, file: Path) -> dict[str, Any]:
        """The same; SIGTERM and SIGHUP end it as Ctrl-C does. Raises Interrupted."""
        loop = asyncio.get_running_loop()
        task = asyncio.ensure_future(self.run(file))
        seen: list[int] = []

        def end(number: int) -> None:
            seen.append(number)
            task.cancel()

        for number in (signal.SIGTERM, signal.SIGHUP):
            loop.add_signal_handler(number, end, number)
        try:
            return await task
        except asyncio.CancelledError:
            if seen:
                raise Interrupted(seen[0]) from None
            raise

    # Out of the file

    async def _unpack(self, reader: ArchiveReader) -> Held:
        """Every member to its place below ours, but for the streams, which the server is given later."""
        say = Throttle(self._say)
        read: dict[str, bytes] = {}
        steps = self._members(reader, read)
        while (done := await self._thread.do(lambda: next(steps, None))) is not None:
            say(f"reading the backup: {size(done)} of {size(reader.size)}")
        await self._thread.do(lambda: reader.check(read[CHECKSUMS]))
        kept = self._home / CONFIG
        if os.path.lexists(kept):
            self._say(f"{kept} is there and stays; the backup's is not used")
            await self._thread.do(lambda: shutil.copyfile(kept, self._place.folder / CONFIG))
        return reader.held(read.get(HELD, b""))

    def _members(self, reader: ArchiveReader, read: dict[str, bytes]) -> Iterator[int]:
        """Unpack, a bit at a time; gives how far it is."""
        done = 0
        for name, bytes_ in reader.rest():
            if bytes_ > LIMITS.get(name, bytes_):
                raise reader.refused(f"{name} is larger than any backup has it")
            content = reader.content(name, bytes_)
            if name in (HELD, CHECKSUMS):
                read[name] = b"".join(content)
                yield done
            elif name.startswith("streams/"):
                for chunk in content:
                    done += len(chunk)
                    yield done
            else:
                for written in self._place.write(name, content):
                    done += written
                    yield done

    def _blobs_target(self, config: Config) -> Path:
        """Where the blobs are to lie. Raises RefusedError where something is."""
        target = Path(config.blobs)
        if target.is_relative_to(self._place.folder):
            target = self._home / target.relative_to(self._place.folder)
        if holds_something(target):
            raise RefusedError(
                f"the folder {target}, which is to hold the blobs, is not empty",
                next="move it away, or name another one as HEADWAY_BLOBS, or as `blobs` in the home's config.yml",
            )
        return target

    # Into the server

    @contextlib.asynccontextmanager
    async def _streams(self, config: Config, kept: dict[str, Kept], reader: ArchiveReader) -> AsyncIterator[None]:
        """The streams are there, and stay if what follows succeeds."""
        wanted = {STREAM: config.log_max_bytes, OUTPUT_STREAM: config.output_max_bytes}
        wanted = {stream: max(most, kept[stream].state.bytes) for stream, most in wanted.items()}
        if config.nats_url:
            async with _wired(outside_endpoint(config.nats_url)) as wire:
                await _refuse_streams(wire)
                try:
                    for stream in STREAMS:
                        await self._put_back(wire, _limited(kept[stream], wanted[stream]), reader)
                    yield
                except BaseException:
                    await _remove_streams(wire)
                    raise
            return
        settings = Settings(log_max_bytes=wanted[STREAM], output_max_bytes=wanted[OUTPUT_STREAM])
        server = await Server.start_or_attach(self._place.folder / "nats", settings=settings)
        try:
            limits = {STREAM: server.limits.log_bytes, OUTPUT_STREAM: server.limits.output_bytes}
            async with _wired(server.endpoint) as wire:
                for stream in STREAMS:
                    await self._put_back(wire, self._alone(kept[stream], limits[stream]), reader)
        finally:
            await server.stop()
        yield

    def _alone(self, kept: Kept, most_bytes: int) -> Kept:
        """The stream as our own server can have it: one copy, as large as its disk allows."""
        if most_bytes < kept.state.bytes:
            raise _full(self._home)
        config = {key: value for key, value in kept.config.items() if key != "placement"}
        return _limited(Kept(config={**config, "num_replicas": 1}, state=kept.state), most_bytes)

    async def _put_back(self, wire: Wire, kept: Kept, reader: ArchiveReader) -> None:
        """One stream, looked at when it is there."""
        stream = kept.config["name"]
        words, name = WORDS[stream], snapshot_name(stream)
        self._say(f"restoring the {words}: {size(reader.members[name].bytes)}")
        async with contextlib.aclosing(self._chunks(reader, name)) as chunks:
            found = (await snapshots.put_back(wire, kept.config, kept.state, chunks)).state
        if _held(found) != _held(kept.state):
            raise reader.refused(f"the {words} came out with {_range(found)}, not with {_range(kept.state)}")

    async def _chunks(self, reader: ArchiveReader, name: str) -> AsyncGenerator[bytes, None]:
        steps = reader.again(name)
        while (found := await self._thread.do(lambda: next(steps, None))) is not None:
            for at in range(0, len(found), snapshots.CHUNK_BYTES):
                yield found[at : at + snapshots.CHUNK_BYTES]

    def _not_restored(self, error: Exception) -> UnavailableError:
        if free_bytes(self._home) < ROOM_FLOOR_BYTES:
            return _full(self._home)
        return UnavailableError(
            f"the log could not be restored: {error}", next="check the disk, or use another copy of the backup"
        )

    # In its place

    async def _settle(self, blobs: Path) -> None:
        """Each part to its place. The log is last: with it, there is something here."""
        self._say("bringing everything to the disk")
        parts = [("blobs", blobs), ("runners", self._home / "runners"), ("nats", self._home / "nats")]
        if not os.path.lexists(self._home / CONFIG):
            parts.insert(0, (CONFIG, self._home / CONFIG))
        await self._thread.do(self._place.sync)
        moving = asyncio.ensure_future(self._thread.do(lambda: self._place.settle(parts)))
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.shield(moving)
        await moving  # takes but a moment, and half of it would be neither: who interrupts now comes too late


def _held(state: StreamState) -> tuple[int, int, int]:
    """What must come out as it was. Of a stream that holds nothing, servers do not agree on where it would begin."""
    return state.messages, state.first_seq if state.messages else 0, state.last_seq


def _range(state: StreamState) -> str:
    between = f"from {state.first_seq} to {state.last_seq}" if state.messages else f"up to {state.last_seq}"
    return f"{state.messages} entries {between}"


def _limited(kept: Kept, most_bytes: int) -> Kept:
    return Kept(config={**kept.config, "max_bytes": most_bytes}, state=kept.state)


@contextlib.asynccontextmanager
async def _wired(endpoint: Endpoint) -> AsyncIterator[Wire]:
    wire = await Wire.connect(endpoint, name="headway-restore")
    try:
        yield wire
    finally:
        await wire.close()


async def _refuse_streams(wire: Wire) -> None:
    for stream in STREAMS:
        try:
            await stream_info(wire, stream)
        except StreamRefused as refusal:
            if refusal.error.err_code not in NOT_FOUND:
                raise
            continue
        raise RefusedError(
            f"the log's server has a stream {stream} already",
            next="give another server or account as HEADWAY_NATS_URL, or `nats_url` in the home's config.yml",
        )


async def _remove_streams(wire: Wire) -> None:
    for stream in STREAMS:
        with contextlib.suppress(StreamRefused, Unknown):
            await api(wire, f"STREAM.DELETE.{stream}", None, dict[str, Any])


def _full(home: Path) -> UnavailableError:
    return UnavailableError(
        f"the disk of {home} has no room for this backup; nothing was restored",
        next="free some space there, or set HEADWAY_HOME to a folder on another disk",
    )


@contextlib.contextmanager
def _disk_errors(home: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise _full(home) from error
        raise UnavailableError(
            f"the backup could not be restored to {home}: {(error.strerror or str(error)).lower()}",
            next="check the folder and its disk",
        ) from error
