"""What the embedded nats-server is told: its configuration, its size limits, its credentials, its port.

Everything it needs lies in one folder: `nats.conf` and `endpoint.json` (mode 0600, both hold passwords), `server.lock`,
`nats.log` and `store/`. Port and passwords are kept from one start to the next, so that a runner that outlives the
control plane finds the log again where it was.

Three accounts, so that a role can only do its part: HEADWAY is the coordinator's and owns the streams; RUNNERS can
ask, pull assignments, acknowledge them and publish output, by way of service imports and nothing else (subject
permissions alone would let a runner forge an event through a reply subject); SYS reads the server's own settings.
"""

from __future__ import annotations

import errno
import json
import os
import random
import secrets
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote, urlsplit

import msgspec

from headway.core.endpoint import Endpoint
from headway.core.errors import UnavailableError, UsageError
from headway.core.room import limit_under, reserve_of

HOST: Final = "127.0.0.1"
MIB: Final = 1 << 20
GIB: Final = 1 << 30
ROOM_FLOOR_BYTES: Final = 16 * MIB
"""With less than this free, the disk counts as full: a restarted server would be stuck again at once."""

SLACK_BYTES: Final = 8 * MIB
"""What the server may use beside the two big streams: the baton, consumers, indexes."""

PORTS: Final = range(20_000, 32_000)
"""Below the range from which the kernel takes ports for outgoing connections, so that a kept port stays free."""

RUNNER_MAY_PUBLISH: Final = (
    "headway.ask.runner.*",
    "headway.out.>",
    "$JS.API.CONSUMER.MSG.NEXT.HEADWAY.*",
    "$JS.ACK.HEADWAY.*.>",
)
"""All that a runner may say (`headway.core.link` needs exactly these). One user serves all runners, hence the stars."""

RUNNER_MAY_HEAR: Final = ("_INBOX.>",)


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """How a server is to be run. `port` 0 takes the one kept in the folder, else a free one."""

    port: int = 0
    log_max_bytes: int = 8 * GIB
    output_max_bytes: int = 2 * GIB
    start_timeout_seconds: float = 60.0
    stop_timeout_seconds: float = 10.0
    restart_tries: int = 8
    backoff_max_seconds: float = 5.0
    binary: str = ""


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """How many bytes the log and the output may take.

    Above `log_bytes`, the limit that people know, lies a reserve in which admitted runs end. `log_bytes_hard` is where
    the log really stops, which may be higher still: it is never lowered.
    """

    log_bytes: int
    output_bytes: int
    log_bytes_hard: int = 0

    @property
    def promised_bytes(self) -> int:
        """What the store may take by these limits."""
        return self.log_bytes + reserve_of(self.log_bytes) + self.output_bytes + SLACK_BYTES

    @property
    def store_bytes(self) -> int:
        """What the server has to allow."""
        return max(self.promised_bytes, self.log_bytes_hard + self.output_bytes + SLACK_BYTES)


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """What `endpoint.json` says: where the server is and how each role gets in. `pid` 0: it was stopped."""

    url: str
    user: str = "coordinator"
    password: str = ""
    runner_user: str = "runner"
    runner_password: str = ""
    system_user: str = "system"
    system_password: str = ""
    pid: int = 0
    log_bytes: int = 0
    log_bytes_hard: int = 0
    output_bytes: int = 0

    @property
    def limits(self) -> Limits:
        """The limits of the last start."""
        hard = max(self.log_bytes_hard, self.log_bytes)
        return Limits(log_bytes=self.log_bytes, log_bytes_hard=hard, output_bytes=self.output_bytes)

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])


def new_record(port: int) -> Record:
    """A record with fresh passwords."""
    word = secrets.token_urlsafe
    return Record(url=url_of(port), password=word(24), runner_password=word(24), system_password=word(24))


def url_of(port: int) -> str:
    return f"nats://{HOST}:{port}"


def load_record(folder: Path) -> Record | None:
    """The record in a server's folder; None when there is none that can be used."""
    try:
        found = msgspec.json.decode((folder / "endpoint.json").read_bytes(), type=Record)
        usable = 0 < found.port < 65_536 and found.url == url_of(found.port)
        usable = usable and all((found.password, found.runner_password, found.system_password))
    except (OSError, ValueError, msgspec.MsgspecError):
        return None
    return found if usable else None


def load_endpoint(folder: Path) -> dict[str, Any] | None:
    """The record in a server's folder as plain data: url, user, password, runner_user, runner_password, pid."""
    found = load_record(folder)
    return None if found is None else msgspec.to_builtins(found)


def save_record(folder: Path, record: Record) -> None:
    write_private(folder / "endpoint.json", msgspec.json.encode(record))


def write_private(path: Path, body: bytes) -> None:
    """Replace a file in one step; nobody but its owner can read it, at no moment."""
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    handle = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        with open(handle, "wb") as file:
            file.write(body)
            file.flush()
            os.fsync(file.fileno())
        os.replace(fresh, path)
    except OSError:
        fresh.unlink(missing_ok=True)
        raise


@contextmanager
def folder_errors(folder: Path) -> Iterator[None]:
    """Say what is wrong with the server's folder in words a person can act on."""
    try:
        yield
    except OSError as error:
        why = os.strerror(error.errno).lower() if error.errno else str(error)
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise UnavailableError(f"the disk of {folder} is full", next="free some space and try again") from error
        raise UnavailableError(
            f"the log's folder {folder} cannot be used: {why}",
            next="make it a folder you may write to, or set HEADWAY_HOME to another one",
        ) from error


def pick_port(taken: frozenset[int] = frozenset()) -> int:
    """A port nobody listens on now. It may be gone a moment later: the server's start has the last word."""
    for _ in range(200):
        port = random.choice(PORTS)
        if port in taken:
            continue
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
            try:
                probe.bind((HOST, port))
            except OSError:
                continue
            return port
    raise UnavailableError(f"no free port between {PORTS.start} and {PORTS.stop} on {HOST}", next="free some ports")


def free_bytes(folder: Path) -> int:
    """What an ordinary user may still write on the disk of `folder`."""
    found = os.statvfs(folder)
    return found.f_bavail * found.f_frsize


def stored_bytes(folder: Path, stream: str = "") -> int:
    """What the whole store, or one stream of it, takes on the disk."""
    top = folder / "store" / "jetstream"
    if stream:
        top = top / "HEADWAY" / "streams" / stream
    total = 0
    for place, _, names in os.walk(top):
        for name in names:
            try:
                total += os.lstat(os.path.join(place, name)).st_size
            except OSError:
                continue  # the server removes its own files as it likes
    return total


def limits_of(settings: Settings, *, free: int, used_log: int, used_output: int, log_bytes_hard: int = 0) -> Limits:
    """What is wanted, where the disk has room for it and a reserve of 1 GiB (a quarter of a small disk); else less.

    The log's own reserve is part of its share. `log_bytes_hard` is where the log stopped so far. Neither stream is
    shrunk under its content, which is no way to make room.
    """
    reserve = min(GIB, (free + used_log + used_output) // 4)
    room = max(0, free - reserve - SLACK_BYTES)
    wanted_log = settings.log_max_bytes + reserve_of(settings.log_max_bytes)
    share = min(1.0, (room + used_log + used_output) / (wanted_log + settings.output_max_bytes))
    whole = min(int(wanted_log * share), used_log + room)
    room -= max(0, whole - used_log)
    output = max(used_output, min(int(settings.output_max_bytes * share), used_output + room))
    log = max(MIB, min(settings.log_max_bytes, limit_under(whole)))  # to JetStream, 0 would mean no limit
    hard = max(log + reserve_of(log), log_bytes_hard, used_log)
    return Limits(log_bytes=log, log_bytes_hard=hard, output_bytes=max(MIB, output))


def current_limits(folder: Path, settings: Settings) -> Limits:
    """The limits that the disk allows now."""
    record = load_record(folder)
    return limits_of(
        settings,
        log_bytes_hard=record.limits.log_bytes_hard if record is not None else 0,
        free=free_bytes(folder),
        used_log=stored_bytes(folder, "HEADWAY"),
        used_output=stored_bytes(folder, "HEADWAY_OUTPUT"),
    )


def config_text(record: Record, limits: Limits) -> str:
    """The configuration file. Paths are relative to the server's folder, so that no name of a folder needs quoting."""
    # A server whose limit is below what its streams once reserved refuses every change of them, smaller ones too.
    store_bytes = max(limits.store_bytes, record.limits.store_bytes)
    exports = [f"{{ service: {_quoted(one)}, accounts: [RUNNERS]{_many(one)} }}" for one in RUNNER_MAY_PUBLISH]
    imports = [f"{{ service: {{ account: HEADWAY, subject: {_quoted(one)} }} }}" for one in RUNNER_MAY_PUBLISH]
    return f"""# Written by Headway at every start; changes made here are lost.
listen: "{HOST}:{record.port}"
server_name: "headway"
max_payload: {MIB}
ping_interval: "20s"
logtime_utc: true

jetstream {{
  store_dir: "store"
  max_mem: {64 * MIB}
  max_file: {store_bytes}
  sync_interval: always
}}

accounts {{
  HEADWAY {{
    jetstream: enabled
    users: [ {_user(record.user, record.password)} ]
    exports: [
      {_lines(exports)}
    ]
  }}
  RUNNERS {{
    users: [ {_user(record.runner_user, record.runner_password, may=True)} ]
    imports: [
      {_lines(imports)}
    ]
  }}
  SYS {{
    users: [ {_user(record.system_user, record.system_password)} ]
  }}
}}
system_account: SYS
"""


def _many(subject: str) -> str:
    # One pull is answered by many messages; everything else by one.
    return ', response_type: "Stream"' if "MSG.NEXT" in subject else ""


def _user(name: str, password: str, *, may: bool = False) -> str:
    words = f"user: {_quoted(name)}, password: {_quoted(password)}"
    if not may:
        return f"{{ {words} }}"
    publish = ", ".join(map(_quoted, RUNNER_MAY_PUBLISH))
    hear = ", ".join(map(_quoted, RUNNER_MAY_HEAR))
    return f"{{ {words}, permissions: {{ publish: {{ allow: [{publish}] }}, subscribe: {{ allow: [{hear}] }} }} }}"


def _quoted(text: str) -> str:
    return json.dumps(text)


def _lines(items: list[str]) -> str:
    return "\n      ".join(items)


def outside_endpoint(url: str) -> Endpoint:
    """The endpoint behind `HEADWAY_NATS_URL`: nats://user:password@host:port, or tls:// for an encrypted one.

    Several servers of one cluster are separated by commas. What is wrong is said without repeating the URL, for it
    may hold a password.
    """
    found = [_outside(one.strip()) for one in url.split(",")]
    users = {who for _, who in found if who != ("", "")}
    if len(users) > 1:
        raise UsageError("HEADWAY_NATS_URL names different users", next="use the same user for all of its servers")
    user, password = users.pop() if users else ("", "")
    return Endpoint(url=",".join(place for place, _ in found), user=user, password=password)


def _outside(url: str) -> tuple[str, tuple[str, str]]:
    example = "write it as nats://USER:PASSWORD@HOST:PORT, or tls://… for an encrypted connection"
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise UsageError("HEADWAY_NATS_URL is not a URL with a port between 1 and 65535", next=example) from None
    if parts.scheme not in ("nats", "tls"):
        raise UsageError("HEADWAY_NATS_URL starts with neither nats:// nor tls://", next=example)
    if not parts.hostname or port == 0:
        raise UsageError("HEADWAY_NATS_URL names no host, or port 0", next=example)
    if parts.path not in ("", "/") or parts.query or parts.fragment:
        raise UsageError("HEADWAY_NATS_URL has something after the port", next=example)
    if parts.username and parts.password is None:
        raise UsageError("HEADWAY_NATS_URL has a user without a password (tokens are not supported)", next=example)
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return f"{parts.scheme}://{host}:{port or 4222}", (unquote(parts.username or ""), unquote(parts.password or ""))
