"""What the tests of the embedded server share: a supervised server, asking it, and tasks run in other processes."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest

from headway.core.errors import UnavailableError
from headway.core.log import Unknown
from headway.core.server import Server, Settings, load_endpoint
from headway.core.server_config import MIB
from headway.core.server_probe import Probe, read_json
from tests.waiting import until

QUICK = Settings(start_timeout_seconds=20.0, stop_timeout_seconds=5.0)


@asynccontextmanager
async def running(folder: Path, settings: Settings = QUICK) -> AsyncIterator[Server]:
    """A supervised server, stopped at the end whatever happens."""
    server = await Server.start_or_attach(folder, settings=settings)
    watch = asyncio.create_task(server.supervise())
    try:
        yield server
    finally:
        await server.stop()
        await asyncio.gather(watch, return_exceptions=True)


def alive(pid: int) -> bool:
    """Whether a process is there and not a zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def coordinator(server: Server) -> Probe:
    """Asks as the coordinator."""
    found = load_endpoint(server.folder)
    assert found is not None
    return Probe(host="127.0.0.1", port=port_of(server), user=found["user"], password=found["password"])


def port_of(server: Server) -> int:
    return int(server.endpoint.url.rpartition(":")[2])


async def make_stream(server: Server, max_bytes: int = 64 * MIB) -> None:
    """The stream HEADWAY, as far as these tests need it."""
    config = {"name": "HEADWAY", "subjects": ["headway.run.>"], "storage": "file", "discard": "new"}
    body = json.dumps(config | {"max_bytes": max_bytes, "deny_delete": True}).encode()
    answer = json.loads(await coordinator(server).request("$JS.API.STREAM.CREATE.HEADWAY", body))
    assert "error" not in answer, answer


async def publish(server: Server, body: bytes = b"event") -> int:
    """The sequence at which a message was acknowledged; raises Unknown without an acknowledgement."""
    answer = json.loads(await coordinator(server).request("headway.run.p.r.ev", body, timeout_seconds=1.0))
    return int(answer.get("seq", 0))


async def stored(server: Server) -> int:
    """The last sequence on the stream."""
    info = await read_json(coordinator(server), "$JS.API.STREAM.INFO.HEADWAY")
    return int(info["state"]["last_seq"])


def helper(task: str, folder: Path) -> subprocess.Popen[str]:
    """Another process that runs one of the `TASKS` below, and prints a line of JSON when it is ready."""
    return subprocess.Popen(
        [sys.executable, "-m", "tests.core.server_tasks", task, str(folder)],
        cwd=Path(__file__).parents[2],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def heard(process: subprocess.Popen[str]) -> dict[str, object]:
    assert process.stdout is not None
    found: dict[str, object] = json.loads(process.stdout.readline())
    return found


def end(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.communicate()


def in_a_small_disk(task: str, folder: Path) -> dict[str, object]:
    """Run one of `TASKS` with a disk of 48 MiB of its own under `folder`; nobody else sees it."""
    folder.mkdir()
    user = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
    mount = 'mount -t tmpfs -o size=48m tmpfs "$1" && exec "$2" -m tests.core.server_tasks "$3" "$1/nats"'
    command = ["unshare", *user, "--mount", "sh", "-c", mount, "sh", str(folder), sys.executable, task]
    done = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True, timeout=60)
    if "mount:" in done.stderr or "unshare:" in done.stderr:
        pytest.fail(f"this machine lets nobody make a small disk, which this test needs: {done.stderr.strip()}")
    assert done.returncode == 0, done.stderr
    found: dict[str, object] = json.loads(done.stdout)
    return found


# What the helper processes do


def fill_disk(folder: Path) -> Path:
    """Leave no room on the disk of a folder; the file to remove to have it back."""
    filler = folder / "filler"
    with filler.open("wb", buffering=0) as file, suppress(OSError):
        while file.write(bytes(1 << 12)):
            pass
    return filler


async def hold(folder: Path, *, stay: bool = True) -> None:
    """Own or attach, say so, and stay until killed."""
    server = await Server.start_or_attach(folder, settings=QUICK)
    sys.stdout.write(json.dumps({"owned": server.owned, "url": server.endpoint.url, "pid": server.pid}) + "\n")
    sys.stdout.flush()
    if stay:
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


async def leave(folder: Path) -> None:
    """Own, and end without a word."""
    await hold(folder, stay=False)


async def fill(folder: Path) -> None:
    """Fill the disk under a server, look at it, make room again, and look what is left."""
    async with running(folder) as server:
        await make_stream(server, server.limits.log_bytes)
        acknowledged = [await publish(server, bytes(10_000)) for _ in range(10)]
        filler = fill_disk(folder)
        with suppress(Unknown):
            while True:
                acknowledged.append(await publish(server, bytes(100_000)))
        await until(lambda: server.disk().stuck, what="the server says that its disk is full")
        disk = server.disk()
        found: dict[str, object] = {
            "stuck_while_full": disk.stuck and disk.full,
            "restarts_while_full": server.restarts,
        }
        filler.unlink()
        await until(lambda: server.restarts == 1, what="the server was restarted once there was room")
        acknowledged.append(await publish(server))
        found |= {"stuck_after": server.disk().stuck, "missing": max(0, max(acknowledged) - await stored(server))}
    sys.stdout.write(json.dumps(found))


async def start_full(folder: Path) -> None:
    """Start where there is no room at all."""
    fill_disk(folder.parent)
    with pytest.raises(UnavailableError) as caught:
        await Server.start_or_attach(folder, settings=QUICK)
    sys.stdout.write(json.dumps(caught.value.record()))


TASKS: dict[str, Callable[[Path], Awaitable[None]]] = {
    "hold": hold,
    "leave": leave,
    "fill": fill,
    "start_full": start_full,
}

if __name__ == "__main__":
    asyncio.run(TASKS[sys.argv[1]](Path(sys.argv[2])))
