"""What Headway vouches for, and what it says it cannot see."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from headway.core.durability import describe, file_system_of
from headway.core.log import Unknown
from headway.core.server import Server
from tests.core.nats_fixture import wired
from tests.core.server_tasks import make_stream, running


class Answers:
    """A server that answers about its stream what it is told to."""

    def __init__(self, **config: object) -> None:
        usual: dict[str, object] = {"storage": "file", "num_replicas": 1, "discard": "new", "deny_delete": True}
        self._config = usual | config

    async def request(self, subject: str, body: bytes, *, timeout_seconds: float) -> bytes:
        """The stream's settings."""
        if not self._config.get("readable", True):
            raise Unknown(f"no answer on {subject} to {body!r} in {timeout_seconds} s")
        return json.dumps({"config": self._config}).encode()


async def test_the_embedded_server_is_vouched_for_by_looking(tmp_path: Path) -> None:
    """Sync, lock and room are read from what runs; what the drive does is said to be unknown."""
    async with running(tmp_path) as server:
        found = {one.what: one for one in await describe(server=server)}
    assert {name for name, one in found.items() if one.vouched} >= {"sync", "lock", "room"}
    assert "sync_interval: always" in found["sync"].words
    assert not found["drive"].vouched


async def test_a_server_that_does_not_answer_is_not_vouched_for(tmp_path: Path) -> None:
    """Nothing is said from memory."""
    server = await Server.start_or_attach(tmp_path)
    try:
        os.kill(server.pid, signal.SIGKILL)
        await server.wait_dead()
        (found,) = await describe(server=server)
        assert not found.vouched
        assert "could not be read" in found.words
    finally:
        await server.stop()


async def test_of_an_outside_server_only_its_stream_can_be_read(tmp_path: Path) -> None:
    """A client sees how the stream is kept, and nothing of the server's own settings and disk."""
    async with running(tmp_path) as server, wired(server.endpoint) as wire:
        await make_stream(server)
        found = {one.what: one.vouched for one in await describe(wire=wire)}
    assert found == {
        "storage": True,
        "copies": False,
        "keeping": True,
        "sync": False,
        "lock": False,
        "room": False,
    }


@pytest.mark.parametrize(
    ("config", "what", "words"),
    [
        ({"storage": "memory"}, "storage", "memory"),
        ({"persist_mode": "async"}, "storage", "before it writes"),
        ({"num_replicas": 1}, "copies", "only copy"),
        ({"discard": "old", "max_bytes": 5}, "keeping", "oldest"),
        ({"max_age": 5}, "keeping", "expire"),
        ({"deny_delete": False}, "keeping", "deleted"),
        ({"readable": False}, "stream", "cannot be read"),
    ],
)
async def test_a_setting_that_loses_events_is_named(config: dict[str, Any], what: str, words: str) -> None:
    """Each way a stream can lose an event has its words."""
    found = {one.what: one for one in await describe(wire=Answers(**config))}
    assert not found[what].vouched
    assert words in found[what].words


async def test_three_copies_are_vouched_for() -> None:
    """A stream on three servers survives the loss of one."""
    found = {one.what: one.vouched for one in await describe(wire=Answers(num_replicas=3))}
    assert found["copies"]


def test_the_kind_of_file_system_is_known(tmp_path: Path) -> None:
    """What lies in memory is told from what lies on a disk."""
    assert file_system_of(Path("/proc")) == "proc"
    assert file_system_of(tmp_path)
