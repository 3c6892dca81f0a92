"""Starting the service when a command needs it, and replacing one of another version.

Many commands may do this at once: each starts a service, one of them gets the lock in the home, the others leave
quietly with 0, and all commands connect to the one that is there.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from headway import __version__
from headway.cli import render
from headway.cli.client import Connection, Gone, answers, refuse_unusable
from headway.cli.text import clean, count
from headway.core.errors import HeadwayError, RefusedError, UnavailableError, UsageError

START_SECONDS_MAX: Final = 20.0
STOP_SECONDS_MAX: Final = 60.0
AGAIN_SECONDS: Final = 1.0
"""A service that left because another had the lock is started again after this: the other may have died."""

LOG_BYTES_KEPT: Final = 8 << 20
"""A service's own log that is larger when the next one starts is set aside, in the place of the one before."""

LOG_BYTES_LEAST: Final = 1 << 16
"""With less room on its disk a service that dies cannot write down why."""

_started: list[subprocess.Popen[bytes]] = []
"""Services this command started. Looking at them now and then lets the system forget the dead ones."""


def start(home: str, *, command: tuple[str, ...] = (), pulse: Callable[[], None] = lambda: None) -> Connection:
    """Start a service that outlives this command and wait until it answers. Raises UnavailableError."""
    _make_home(home)
    for earlier in _started:
        earlier.poll()
    log = os.path.join(home, "service.log")
    _set_aside(log)
    began = _size_of(log)
    process = _spawn(home, log, command)
    end, again = time.monotonic() + START_SECONDS_MAX, time.monotonic() + AGAIN_SECONDS
    wait_seconds = 0.005
    while time.monotonic() < end:
        pulse()
        try:
            return Connection.open(home)
        except OSError as error:
            refuse_unusable(home, error)
        code = process.poll()
        if code:
            raise _could_not_start(log, began, code)
        if code == 0 and time.monotonic() > again:
            process, again = _spawn(home, log, command), time.monotonic() + AGAIN_SECONDS
        time.sleep(wait_seconds)
        wait_seconds = min(0.05, wait_seconds * 1.5)
    raise UnavailableError(
        f"the service did not answer within {START_SECONDS_MAX:.0f} seconds",
        next=f"read {log}, or run 'headway doctor'",
    )


def replace(
    home: str, connection: Connection, *, command: tuple[str, ...] = (), pulse: Callable[[], None] = lambda: None
) -> Connection:
    """This connection if its service has our version, else one to a service that does.

    An older service that has nothing to do is stopped. Raises RefusedError for any other.
    """
    connection.close()
    hello = _ask_once(home, "hello", {})
    version = str(hello.get("version", ""))
    if not hello:  # it left meanwhile
        return start(home, command=command, pulse=pulse)
    if version == __version__:
        try:
            return Connection.open(home)
        except OSError:
            return start(home, command=command, pulse=pulse)
    if _numbers(version) > _numbers(__version__):
        raise RefusedError(
            f"the service is Headway {clean(version)}, newer than this command ({__version__})",
            next="use the newer command, or stop the service with 'headway down'",
        )
    unfinished = hello.get("unfinished")
    if unfinished:
        raise RefusedError(
            f"the service is Headway {clean(version)} and has {count(int(unfinished), 'unfinished run')};"
            f" this command is {__version__}",
            next="let it finish and stop it with 'headway down --drain'",
        )
    render.say(f"replacing the service (Headway {clean(version)}) by Headway {__version__}")
    _ask_once(home, "down", {"mode": "refuse"})
    wait_until_free(home, pulse=pulse)
    return start(home, command=command, pulse=pulse)


def _ask_once(home: str, op: str, arguments: dict[str, Any]) -> dict[str, Any]:
    """The answer of an op that has one, on a connection of its own; {} from a service that leaves meanwhile."""
    found: dict[str, Any] = {}
    try:
        connection = Connection.open(home)
    except OSError:
        return found
    try:
        connection.ask(op, arguments)
        for one in answers(connection):
            found = one
    except Gone:
        pass
    finally:
        connection.close()
    return found


def wait_until_free(home: str, *, pulse: Callable[[], None] = lambda: None) -> None:
    """Wait for the end of the service's process, which holds the home's lock: only then may another one start."""
    try:
        lock = os.open(os.path.join(home, "service.lock"), os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return
    end = time.monotonic() + STOP_SECONDS_MAX
    try:
        while time.monotonic() < end:
            pulse()
            try:
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
                return
            except BlockingIOError:
                time.sleep(0.01)
    finally:
        os.close(lock)
    raise UnavailableError(
        "the service was asked to stop and has not ended", next=f"see {os.path.join(home, 'service.log')}"
    )


def _make_home(home: str) -> None:
    try:
        os.makedirs(home, mode=0o700, exist_ok=True)
    except OSError as error:
        raise _unusable(home, error) from None
    if not os.access(home, os.W_OK | os.X_OK):
        raise _unusable(home, PermissionError(13, "permission denied"))


def _unusable(home: str, error: OSError) -> HeadwayError:
    return UnavailableError(
        f"cannot use the state folder {home}: {(error.strerror or str(error)).lower()}",
        next="set HEADWAY_HOME to a folder you may write to",
    )


def _spawn(home: str, log: str, command: tuple[str, ...]) -> subprocess.Popen[bytes]:
    """Start the service process, free of this terminal and of this folder."""
    try:
        output = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise _unusable(home, error) from None
    try:
        process = subprocess.Popen(
            # -P: a file of the project named like one of Python's modules must not become part of the service
            command or (sys.executable, "-P", "-m", "headway.cli.service", "--detached"),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            cwd=home,
            env={**os.environ, "HEADWAY_HOME": home},
            start_new_session=True,
        )
    except OSError as error:
        raise UnavailableError(
            f"cannot start the service: {(error.strerror or str(error)).lower()}", next="run 'headway doctor'"
        ) from None
    finally:
        os.close(output)
    _started.append(process)
    return process


def _set_aside(log: str) -> None:
    """Begin the log anew when it is large. A service that still writes goes on in the file set aside."""
    if _size_of(log) > LOG_BYTES_KEPT:
        with contextlib.suppress(OSError):  # another command has just done it, or the folder is not ours
            os.replace(log, f"{log}.1")


def _size_of(file: str) -> int:
    try:
        return os.path.getsize(file)
    except OSError:
        return 0


def _could_not_start(log: str, began: int, code: int) -> HeadwayError:
    """The error of a service that died while starting: its own last words, the rest of them shown before."""
    lines = _last_lines(log, began)
    if code == UsageError.exit_code:
        from headway.core.config import load

        load(Path(log).parent, os.environ)  # raises what is wrong there, each error with its place
    if not lines and shutil.disk_usage(os.path.dirname(log)).free < LOG_BYTES_LEAST:
        return UnavailableError(f"the disk of {os.path.dirname(log)} is full", next="free some space and try again")
    for line in lines[:-1]:
        render.say(f"  {line}")
    words = lines[-1].removeprefix("error: ") if lines else f"it ended with {code} and said nothing"
    kind = UsageError if code == UsageError.exit_code else UnavailableError  # 2: its configuration is wrong
    return kind(f"the service could not start: {words}", next=f"see {log}")


def _last_lines(log: str, began: int) -> list[str]:
    try:
        with open(log, "rb") as stream:
            stream.seek(max(began, _size_of(log) - 8192))
            text = stream.read().decode(errors="replace")
    except OSError:
        return []
    return [clean(line) for line in text.splitlines() if line.strip()][-10:]


def _numbers(version: str) -> tuple[int, ...]:
    """A version's leading numbers, to see which of two is older."""
    found: list[int] = []
    for part in version.split("."):
        if not part.isdigit():
            break
        found.append(int(part))
    return tuple(found)
