"""The embedded server: ready or a clear error, one per store, never orphaned."""

from __future__ import annotations

import asyncio
import socket
import stat
from pathlib import Path

import pytest

from headway.core.errors import UnavailableError
from headway.core.log import Unknown
from headway.core.server import Server, Settings, load_endpoint
from headway.core.server_probe import Probe, read_json
from tests.core.server_tasks import alive, coordinator, end, heard, helper, port_of, running
from tests.waiting import freeze, until, wait_until


def script(path: Path, text: str) -> str:
    """A stand-in for the server's binary."""
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return str(path)


# Ready


async def test_a_server_is_ready_durable_and_private(tmp_path: Path) -> None:
    """It syncs every event, stays below the free space, listens on loopback only and keeps its passwords to itself."""
    folder = tmp_path / 'a "quoted" $folder ü'
    async with running(folder) as server:
        assert server.owned
        settings = (await read_json(server.system_probe(), "$SYS.REQ.SERVER.PING.VARZ"))["data"]
        assert settings["jetstream"]["config"]["sync_always"] is True
        assert settings["jetstream"]["config"]["max_storage"] == server.limits.store_bytes
        assert server.limits.store_bytes < server.disk().free_bytes
        assert settings["host"] == "127.0.0.1"
        for name in ("nats.conf", "endpoint.json", "nats.log", "server.lock"):
            assert stat.S_IMODE((folder / name).stat().st_mode) == 0o600, name
        assert (folder / "store" / "jetstream").is_dir()


async def test_port_and_passwords_are_kept_for_the_next_start(tmp_path: Path) -> None:
    """A runner that outlives the control plane finds the log again where it was."""
    async with running(tmp_path) as server:
        first, runner = server.endpoint, server.runner_endpoint
        pid = server.pid
    assert not alive(pid)
    found = load_endpoint(tmp_path)
    assert found is not None
    assert found["pid"] == 0
    async with running(tmp_path) as server:
        assert server.endpoint == first
        assert server.runner_endpoint == runner


async def test_without_its_password_nobody_gets_in(tmp_path: Path) -> None:
    """Loopback is open to every user of the machine, so every connection needs a password."""
    async with running(tmp_path) as server:
        stranger = Probe(host="127.0.0.1", port=port_of(server), user="coordinator", password="guess")
        with pytest.raises(Unknown, match="Authorization"):
            await stranger.request("$JS.API.INFO")


# Errors


async def test_a_port_in_use_is_said_when_it_was_asked_for(tmp_path: Path) -> None:
    """Only a port that was asked for is insisted on, and the error names it."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(UnavailableError, match=f"port {port} on 127.0.0.1 is in use"):
            await Server.start_or_attach(tmp_path, settings=Settings(port=port))


async def test_a_kept_port_in_use_is_left_for_another(tmp_path: Path) -> None:
    """The server moves to a free port when somebody took the one it had."""
    async with running(tmp_path) as server:
        port = port_of(server)
    with socket.create_server(("127.0.0.1", port)):
        async with running(tmp_path) as server:
            assert port_of(server) != port
            assert await read_json(coordinator(server), "$JS.API.INFO")


async def test_a_folder_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    """A file in the way and a folder that nobody may write to are errors that say so."""
    (tmp_path / "file").write_text("")
    for folder in (tmp_path / "file", tmp_path / "file" / "nats", Path("/proc/headway/nats")):
        with pytest.raises(UnavailableError, match=f"the log's folder {folder} cannot be used") as caught:
            await Server.start_or_attach(folder)
        assert "HEADWAY_HOME" in caught.value.next


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("echo '[7] 2026/01/01 00:00:00.000001 [FTL] no good' >&2; exit 3", r"exit code 3: \[FTL\] no good"),
        (
            "echo '[7] 2026/01/01 00:00:00.000001 [FTL] x: no space left on device' >&2; exit 1",
            "the disk of .* is full",
        ),
        ("kill -SEGV $$", "killed by SIGSEGV"),
    ],
)
async def test_a_server_that_dies_at_once_is_quoted(tmp_path: Path, text: str, words: str) -> None:
    """The last lines of the server's log are in the error."""
    with pytest.raises(UnavailableError, match=words):
        await Server.start_or_attach(tmp_path, settings=Settings(binary=script(tmp_path / "binary", text)))


async def test_a_binary_that_cannot_run_is_named(tmp_path: Path) -> None:
    """A missing binary is told apart from one that fails."""
    with pytest.raises(UnavailableError, match="missing cannot be started: No such file"):
        await Server.start_or_attach(tmp_path, settings=Settings(binary=str(tmp_path / "missing")))


async def test_a_server_that_never_gets_ready_is_given_up_and_ended(tmp_path: Path) -> None:
    """Waiting has an end, and leaves no process behind."""
    binary = script(tmp_path / "binary", f"echo $$ > {tmp_path}/pid; exec sleep 60")
    with pytest.raises(UnavailableError, match=r"not ready after 0\.5 s"):
        await Server.start_or_attach(tmp_path, settings=Settings(binary=binary, start_timeout_seconds=0.5))
    pid = int((tmp_path / "pid").read_text())
    await until(lambda: not alive(pid), what="the process that never got ready is gone")


async def test_a_cancelled_start_leaves_nothing_behind(tmp_path: Path) -> None:
    """Whoever is interrupted while the server starts takes it along, and the next start works."""
    binary = script(tmp_path / "binary", f"echo $$ > {tmp_path}/pid; exec sleep 60")
    start = asyncio.create_task(Server.start_or_attach(tmp_path, settings=Settings(binary=binary)))
    await until((tmp_path / "pid").exists, what="the process has started")
    start.cancel()
    with pytest.raises(asyncio.CancelledError):
        await start
    async with running(tmp_path) as server:
        assert server.owned


# One store, one server


def test_of_eight_that_start_at_once_one_owns_and_seven_attach(tmp_path: Path) -> None:
    """Two servers on one store would lose each other's writes."""
    processes = [helper("hold", tmp_path) for _ in range(8)]
    try:
        found = [heard(one) for one in processes]
    finally:
        for one in processes:
            end(one)
    assert sorted(one["owned"] for one in found) == [False] * 7 + [True]
    assert len({one["url"] for one in found}) == 1
    assert len({one["pid"] for one in found}) == 1
    pid = int(str(found[0]["pid"]))
    wait_until(lambda: not alive(pid), what="the server ends with its owner")


async def test_the_server_dies_with_its_owner_and_who_attached_takes_over(tmp_path: Path) -> None:
    """kill -9 of the owner leaves no orphan; the one that had attached starts a server on the same port."""
    owner = helper("hold", tmp_path)
    try:
        found = heard(owner)
        async with running(tmp_path) as server:
            assert not server.owned
            assert server.pid == found["pid"]
            with pytest.raises(UnavailableError, match="belongs to another process"):
                await server.restart("not ours")
            owner.kill()
            await until(lambda: not alive(int(str(found["pid"]))), what="the owner's server is gone")
            await until(lambda: server.owned and server.pid != found["pid"], what="the server was taken over")
            assert server.endpoint.url == found["url"]
            assert await read_json(coordinator(server), "$JS.API.INFO")
    finally:
        end(owner)


def test_an_owner_that_just_leaves_leaves_no_orphan(tmp_path: Path) -> None:
    """A program that ends without stopping its server does not leave it behind."""
    owner = helper("leave", tmp_path)
    found = heard(owner)
    owner.communicate()
    assert owner.returncode == 0
    wait_until(lambda: not alive(int(str(found["pid"]))), what="the server is gone")


async def test_who_cannot_reach_the_holder_of_the_store_is_told(tmp_path: Path) -> None:
    """A holder that hangs is an error that names it, not a wait without end."""
    owner = helper("hold", tmp_path)
    try:
        pid = int(str(heard(owner)["pid"]))
        freeze(pid)
        with pytest.raises(UnavailableError, match=f"held by process {pid}, which does not answer"):
            await Server.start_or_attach(tmp_path, settings=Settings(start_timeout_seconds=0.1))
    finally:
        end(owner)
    wait_until(lambda: not alive(pid), what="even a server that hangs ends with its owner")
