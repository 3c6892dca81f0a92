"""A real nats-server of a test's own: loopback, its own port and store, ended by its process id."""

from __future__ import annotations

import asyncio
import ctypes
import signal
import socket
import subprocess
import sysconfig
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from headway.core.wire import Endpoint, Wire
from tests.waiting import freeze

BINARY = Path(sysconfig.get_path("scripts")) / "nats-server"
DEADLINE_SECONDS = 10.0
DIE_WITH_PARENT = 1


async def wait_until(true: Callable[[], Awaitable[bool]], *, seconds: float = DEADLINE_SECONDS) -> None:
    """Ask an outside process again and again until it says yes, or fail."""
    end = time.monotonic() + seconds
    while not await true():
        assert time.monotonic() < end, "the outside process did not get there in time"
        await asyncio.sleep(0.01)


class NatsServer:
    """One server on one store; it can be killed and started again at the same port."""

    def __init__(self, folder: Path, *, config: str = "", jetstream: bool = True, sync: str = "always") -> None:
        self.folder = folder
        self.port = free_port()
        self.process: subprocess.Popen[bytes] | None = None
        keep = f'jetstream {{ store_dir: "store", max_file: 2G, sync_interval: {sync} }}' if jetstream else ""
        folder.mkdir(parents=True, exist_ok=True)
        self.configure(f"{keep}\n{config}")

    def configure(self, config: str) -> None:
        """Write its configuration, but for the port; a running server is told to read it."""
        (self.folder / "nats.conf").write_text(f'listen: "127.0.0.1:{self.port}"\n{config}\n')
        if self.process is not None:
            self.process.send_signal(signal.SIGHUP)

    @property
    def url(self) -> str:
        return f"nats://127.0.0.1:{self.port}"

    @property
    def endpoint(self) -> Endpoint:
        return Endpoint(url=self.url)

    async def start(self) -> None:
        """Start it and wait until it listens."""
        self.process = _spawn(self.folder)
        await wait_until(self._listens)

    def kill(self) -> None:
        """End it as a power cut would, as far as a process can tell."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """End it in good order."""
        self._end(signal.SIGTERM)

    async def restart(self) -> None:
        """Kill it and start it again."""
        self.kill()
        await self.start()

    def pause(self) -> None:
        """Let it hang: connections stay open and nothing is answered."""
        assert self.process is not None
        freeze(self.process.pid)

    def resume(self) -> None:
        """Let a hanging server go on."""
        assert self.process is not None
        self.process.send_signal(signal.SIGCONT)

    def _end(self, how: signal.Signals) -> None:
        if self.process is not None:
            self.process.send_signal(how)
            self.process.send_signal(signal.SIGCONT)
            self.process.wait(DEADLINE_SECONDS)
            self.process = None

    async def _listens(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, "nats-server ended at its start"
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", self.port)
        except OSError:
            return False
        writer.close()
        await writer.wait_closed()
        return True


@asynccontextmanager
async def nats_server(
    folder: Path, *, config: str = "", jetstream: bool = True, sync: str = "always"
) -> AsyncIterator[NatsServer]:
    """A running server, gone at the end."""
    server = NatsServer(folder, config=config, jetstream=jetstream, sync=sync)
    await server.start()
    try:
        yield server
    finally:
        server.kill()


@asynccontextmanager
async def wired(endpoint: Endpoint, *, name: str = "test", inbox_prefix: str = "_INBOX") -> AsyncIterator[Wire]:
    """A connection, closed at the end."""
    wire = await Wire.connect(endpoint, name=name, inbox_prefix=inbox_prefix)
    try:
        yield wire
    finally:
        await wire.close()


def free_port() -> int:
    """A port nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _spawn(folder: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [BINARY, "-c", "nats.conf"],
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        preexec_fn=_die_with_parent,
    )


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(DIE_WITH_PARENT, signal.SIGKILL)
