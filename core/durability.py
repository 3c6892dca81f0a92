"""What can be vouched for about the log's durability, and what cannot: found out by looking, never assumed.

Each finding says what it is about, whether it is vouched for, and in words why or why not. Against the embedded server
we read its settings and its disk; against an outside one only what any client may read, and the rest is said to be
unknown.
"""

from __future__ import annotations

import fcntl
import json
import os
from pathlib import Path
from typing import Any, Final, Protocol

import msgspec

from headway.core.log import Unknown
from headway.core.server import Server
from headway.core.server_config import GIB, MIB, free_bytes, stored_bytes
from headway.core.server_probe import read_json

NOT_KEPT: Final = ("tmpfs", "ramfs", "overlay")
"""File systems that a restart of the machine or the container empties."""

OVER_A_NETWORK: Final = ("nfs", "nfs4", "cifs", "smb3", "9p", "fuse.sshfs", "ceph", "glusterfs")


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One thing about durability: what, whether it is vouched for, and why in words."""

    what: str
    vouched: bool
    words: str


class Asks(Protocol):
    """Whoever can ask the server something; a `Wire` can."""

    async def request(self, subject: str, body: bytes, *, timeout_seconds: float) -> bytes:
        """The answer; raises Unknown when there is none."""
        ...


async def describe(*, server: Server | None = None, wire: Asks | None = None) -> list[Finding]:
    """The findings for an embedded server, or for an outside one that `wire` is connected to."""
    if server is not None:
        return await describe_embedded(server)
    assert wire is not None, "either a server of ours or a connection to another one"
    return await describe_outside(wire)


async def describe_embedded(server: Server) -> list[Finding]:
    """What our own server does, asked of the server itself and of its disk."""
    try:
        answer = await read_json(server.system_probe(), "$SYS.REQ.SERVER.PING.VARZ")
        jetstream = answer["data"]["jetstream"]
        told, limit = bool(jetstream["config"].get("sync_always")), int(jetstream["config"]["max_storage"])
    except (Unknown, KeyError, TypeError, ValueError) as error:
        return [Finding(what="server", vouched=False, words=f"its settings could not be read: {error}")]
    return [
        _sync(told),
        _lock(server.folder),
        _room(server, limit),
        _file_system(server.folder),
        Finding(
            what="drive",
            vouched=False,
            words="whether the drive keeps what it confirmed when the power fails cannot be seen from here",
        ),
    ]


def _sync(always: bool) -> Finding:
    words = "every event is synced to the disk before it is acknowledged (sync_interval: always)"
    if not always:
        words = "the running server does not sync every event; restart it with 'headway down' and 'headway up'"
    return Finding(what="sync", vouched=always, words=words)


def _lock(folder: Path) -> Finding:
    try:
        handle = os.open(folder / "server.lock", os.O_RDWR | os.O_CLOEXEC)
    except OSError as error:
        return Finding(what="lock", vouched=False, words=f"the lock of the store cannot be read: {error.strerror}")
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return Finding(what="lock", vouched=True, words="the store is locked: no second server can write it")
    except OSError as error:
        return Finding(what="lock", vouched=False, words=f"this file system does not lock: {error.strerror}")
    finally:
        os.close(handle)
    return Finding(what="lock", vouched=False, words="nobody holds the lock of the store; start Headway afresh")


def _room(server: Server, limit: int) -> Finding:
    free, used = free_bytes(server.folder), stored_bytes(server.folder)
    promised = min(limit, server.limits.promised_bytes)
    numbers = f"the log and its output may take {_size(promised)}, take {_size(used)}, and {_size(free)} are free"
    disk = server.disk()
    if disk.stuck:
        return Finding(what="room", vouched=False, words=f"the disk is or was full and the log is stuck: {disk.said}")
    if disk.full:
        return Finding(what="room", vouched=False, words=f"the disk is full: {numbers}")
    if promised - used > free:
        return Finding(what="room", vouched=False, words=f"the disk may be full before the limit is met: {numbers}")
    return Finding(what="room", vouched=True, words=f"the limit is met before the disk is full: {numbers}")


def _file_system(folder: Path) -> Finding:
    kind = file_system_of(folder)
    if kind in NOT_KEPT:
        return Finding(
            what="file system", vouched=False, words=f"{kind} is emptied when the machine or container restarts"
        )
    if kind in OVER_A_NETWORK:
        words = f"{kind} is another machine's disk: its syncs and locks are its own"
        return Finding(what="file system", vouched=False, words=words)
    if not kind:
        return Finding(what="file system", vouched=False, words="its kind cannot be found out")
    return Finding(what="file system", vouched=True, words=f"{kind}, on this machine")


def file_system_of(folder: Path) -> str:
    """The kind of file system a folder lies on, "" when the system does not say."""
    device = os.stat(folder).st_dev
    wanted = f"{os.major(device)}:{os.minor(device)}"
    try:
        mounts = Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    for mount in mounts:
        before, _, after = mount.partition(" - ")
        if before.split()[2:3] == [wanted] and after:
            return after.split()[0]
    return ""


async def describe_outside(wire: Asks) -> list[Finding]:
    """What a client may read of an outside server, and what it may not."""
    return [
        *await _stream(wire),
        Finding(
            what="sync",
            vouched=False,
            words="sync_interval is a setting of the server that its clients cannot read; the default syncs every two"
            " minutes, set it to 'always'",
        ),
        Finding(
            what="lock",
            vouched=False,
            words="whether a second server could be started on the same store cannot be seen from here",
        ),
        Finding(what="room", vouched=False, words="the free space on the server's disk cannot be seen from here"),
    ]


async def _stream(wire: Asks) -> list[Finding]:
    try:
        answer = json.loads(await wire.request("$JS.API.STREAM.INFO.HEADWAY", b"", timeout_seconds=2.0))
        config = answer["config"]
    except (Unknown, KeyError, TypeError, ValueError):
        return [Finding(what="stream", vouched=False, words="the stream HEADWAY cannot be read with this user")]
    return [_storage(config), _copies(config), _keeping(config)]


def _storage(config: dict[str, Any]) -> Finding:
    if config.get("storage") != "file":
        return Finding(what="storage", vouched=False, words="the stream is kept in memory: a restart loses it")
    if config.get("persist_mode", "default") not in ("", "default"):
        return Finding(what="storage", vouched=False, words="the stream acknowledges before it writes (persist_mode)")
    return Finding(what="storage", vouched=True, words="the stream is kept in files")


def _copies(config: dict[str, Any]) -> Finding:
    count = config.get("num_replicas", 1)
    if isinstance(count, int) and count >= 3:
        return Finding(what="copies", vouched=True, words=f"{count} servers keep a copy; one may be lost")
    return Finding(what="copies", vouched=False, words="one server keeps the only copy")


def _keeping(config: dict[str, Any]) -> Finding:
    wrong = []
    if config.get("retention", "limits") != "limits":
        wrong.append("events are removed once read (retention)")
    if config.get("discard") != "new" and any(config.get(one, -1) > 0 for one in ("max_bytes", "max_msgs")):
        wrong.append("a full stream drops its oldest events (discard)")
    if config.get("max_age", 0) > 0:
        wrong.append("old events expire (max_age)")
    if config.get("max_msgs_per_subject", -1) > 0:
        wrong.append("old events of a run are dropped (max_msgs_per_subject)")
    if not config.get("deny_delete", False):
        wrong.append("single events can be deleted (deny_delete is off)")
    if wrong:
        return Finding(what="keeping", vouched=False, words="; ".join(wrong))
    return Finding(what="keeping", vouched=True, words="nothing is dropped: a full stream refuses what is new")


def _size(number: int) -> str:
    return f"{number / GIB:.1f} GiB" if number >= GIB else f"{number / MIB:.1f} MiB"
