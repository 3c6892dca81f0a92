"""The embedded server comes back: after a kill, on request, after a full disk; or says why not."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import pytest

from headway.core.errors import UnavailableError
from headway.core.server import Server, Settings
from tests.core.server_tasks import alive, in_a_small_disk, make_stream, publish, running, stored
from tests.waiting import freeze, until


async def test_after_each_kill_the_server_is_back_with_all_it_acknowledged(tmp_path: Path) -> None:
    """kill -9 of the server under load: same port, same passwords, nothing acknowledged is missing."""
    async with running(tmp_path) as server:
        url = server.endpoint
        await make_stream(server)
        acknowledged = 0
        for time in range(1, 4):
            for _ in range(20):
                acknowledged = max(acknowledged, await publish(server))
            os.kill(server.pid, signal.SIGKILL)
            await until(lambda: server.restarts == time, what="the server was restarted")  # noqa: B023
            assert server.endpoint == url
            assert await stored(server) >= acknowledged
        assert acknowledged >= 60


async def test_a_restart_on_request_is_not_taken_for_a_crash(tmp_path: Path) -> None:
    """Restarting starts one new process, not two."""
    async with running(tmp_path) as server:
        before = server.pid
        gone = asyncio.create_task(server.wait_dead())
        await asyncio.sleep(0)
        await server.restart("for the test")
        assert await gone == "exit code 0"
        assert server.restarts == 1
        assert alive(server.pid)
        assert not alive(before)
        os.kill(server.pid, signal.SIGKILL)
        await until(lambda: server.restarts == 2, what="a crash after it is noticed all the same")


async def test_a_server_that_will_not_start_again_ends_the_supervision_with_its_reason(tmp_path: Path) -> None:
    """After a bounded number of tries somebody is told."""
    server = await Server.start_or_attach(tmp_path, settings=Settings(restart_tries=2))
    try:
        os.kill(server.pid, signal.SIGKILL)
        assert await server.wait_dead() == "killed by SIGKILL"
        (tmp_path / "store").rename(tmp_path / "elsewhere")
        (tmp_path / "store").write_text("")
        with pytest.raises(UnavailableError, match=r"nats-server ended at once, exit code 1: .*storage directory"):
            await server.supervise()
    finally:
        await server.stop()


async def test_a_server_that_hangs_is_stopped_all_the_same(tmp_path: Path) -> None:
    """Who does not end when asked is ended."""
    server = await Server.start_or_attach(tmp_path, settings=Settings(stop_timeout_seconds=0.2))
    freeze(server.pid)
    await server.stop()
    assert not alive(server.pid)


def test_a_full_disk_stops_the_log_and_room_brings_it_back(tmp_path: Path) -> None:
    """The server is seen to be stuck, stays up while there is no room, and is restarted once there is: nothing lost."""
    found = in_a_small_disk("fill", tmp_path / "disk")
    assert found["stuck_while_full"] is True
    assert found["restarts_while_full"] == 0
    assert found["stuck_after"] is False
    assert found["missing"] == 0


def test_on_a_full_disk_a_first_start_is_refused_in_words(tmp_path: Path) -> None:
    """There is no log without a disk to keep it on."""
    found = in_a_small_disk("start_full", tmp_path / "disk")
    assert "is full" in str(found["message"])
    assert found["next"] == "free some space and try again"
