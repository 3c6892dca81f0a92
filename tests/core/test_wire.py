"""The connection: quick to say no, there again after trouble, and nothing in flight is forgotten."""

from __future__ import annotations

import asyncio
import logging
import time
from pathlib import Path

import pytest

from headway.core.errors import UnavailableError
from headway.core.inflight import Message
from headway.core.log import Unknown
from headway.core.wire import Endpoint, Wire
from tests.core.nats_fixture import free_port, nats_server, wired

SECRET = "s3cret-word"


def users(password: str, *, permissions: str = "") -> str:
    """A configuration with one user."""
    return f'authorization {{ users: [ {{ user: "u", password: "{password}" {permissions} }} ] }}'


class Watched:
    """What a connection said about itself."""

    def __init__(self, wire: Wire) -> None:
        self.lost = asyncio.Event()
        self.back = asyncio.Event()
        self.stop = wire.on_state(lambda connected: (self.back if connected else self.lost).set())

    async def gone_and_back(self) -> None:
        async with asyncio.timeout(10):
            await self.lost.wait()
            await self.back.wait()


async def test_a_dead_port_fails_fast() -> None:
    """Where nothing listens, this is said in less than two seconds, with what to do, and without the password."""
    began = time.monotonic()
    endpoint = Endpoint(url=f"nats://u:{SECRET}@127.0.0.1:{free_port()}")
    with pytest.raises(UnavailableError, match="cannot be reached") as refused:
        await Wire.connect(endpoint, name="test")
    assert time.monotonic() - began < 2
    assert "headway up" in refused.value.next
    assert SECRET not in refused.value.message


async def test_a_silent_port_fails_in_time() -> None:
    """Something that accepts and says nothing does not hold us for longer than we are ready to wait."""
    silent = asyncio.Event()

    async def say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await silent.wait()
        writer.close()

    server = await asyncio.start_server(say_nothing, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        began = time.monotonic()
        with pytest.raises(UnavailableError, match="no answer in time"):
            await Wire.connect(Endpoint(url=f"nats://127.0.0.1:{port}"), name="test", timeout_seconds=0.3)
        assert time.monotonic() - began < 2
        silent.set()


async def test_a_wrong_password_fails_fast(tmp_path: Path) -> None:
    """Being refused is not tried for ever."""
    async with nats_server(tmp_path, config=users("right"), jetstream=False) as server:
        began = time.monotonic()
        with pytest.raises(UnavailableError, match="refused the user or password"):
            await Wire.connect(Endpoint(url=server.url, user="u", password="wrong"), name="test")
        assert time.monotonic() - began < 2


async def test_requests_are_answered_in_order(tmp_path: Path) -> None:
    """A handler gets subject and body in the order they were sent, and may answer later."""
    async with (
        nats_server(tmp_path, jetstream=False) as server,
        wired(server.endpoint) as a,
        wired(server.endpoint) as b,
    ):
        heard: list[bytes] = []
        later: list[asyncio.TimerHandle] = []

        def handle(subject: str, body: bytes, reply: object) -> None:
            assert callable(reply)
            heard.append(body)
            later.append(asyncio.get_running_loop().call_later(0.001, reply, subject.encode() + b" " + body))

        await a.serve("ask.*", handle)
        bodies = [str(n).encode() for n in range(200)]
        answers = await asyncio.gather(*[b.request("ask.me", body) for body in bodies])
        assert heard == bodies
        assert answers == [b"ask.me " + body for body in bodies]


async def test_nobody_there_is_known_at_once(tmp_path: Path) -> None:
    """A request that nobody serves does not wait for its time-out."""
    async with nats_server(tmp_path, jetstream=False) as server, wired(server.endpoint) as wire:
        began = time.monotonic()
        with pytest.raises(Unknown, match="nobody answers"):
            await wire.request("ask.nobody", b"", timeout_seconds=30)
        assert time.monotonic() - began < 5


async def test_silence_is_unknown_after_its_time(tmp_path: Path) -> None:
    """Somebody who is there and does not answer is given up in time; the answer that comes later is dropped."""
    async with nats_server(tmp_path, jetstream=False) as server, wired(server.endpoint) as wire:
        late: list[object] = []
        await wire.serve("ask", lambda subject, body, reply: late.append(reply))
        with pytest.raises(Unknown, match="no answer in time"):
            await wire.request("ask", b"", timeout_seconds=0.15)
        (reply,) = late
        assert callable(reply)
        reply(b"too late")
        await wire.serve("second", lambda subject, body, reply: reply(b"fine"))
        assert await wire.request("second", b"") == b"fine"


async def test_a_cancelled_request_harms_nobody(tmp_path: Path) -> None:
    """Whoever stops waiting leaves the others' answers alone."""
    async with nats_server(tmp_path, jetstream=False) as server, wired(server.endpoint) as wire:
        await wire.serve("ask", lambda subject, body, reply: reply(body))
        asking = [asyncio.ensure_future(wire.request("ask", str(n).encode())) for n in range(20)]
        await asyncio.sleep(0)
        for one in asking[::2]:
            one.cancel()
        results = await asyncio.gather(*asking, return_exceptions=True)
        assert results[1::2] == [str(n).encode() for n in range(1, 20, 2)]


async def test_a_handler_that_fails_is_heard_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """An exception in a handler is logged with its cause, and the next request is served."""
    async with nats_server(tmp_path, jetstream=False) as server, wired(server.endpoint) as wire:

        def handle(subject: str, body: bytes, reply: object) -> None:
            assert callable(reply)
            reply(b"%d" % (10 // int(body)))

        await wire.serve("ask", handle)
        with caplog.at_level(logging.ERROR, "headway.wire"), pytest.raises(Unknown):
            await wire.request("ask", b"0", timeout_seconds=0.15)
        assert "ZeroDivisionError" in caplog.text
        assert await wire.request("ask", b"5") == b"2"


async def test_a_restarted_server_is_found_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """What was in flight is unknown at once; what comes while the server is away waits; subscriptions are kept."""
    async with nats_server(tmp_path, jetstream=False) as server, wired(server.endpoint) as wire:
        watched, unanswered = Watched(wire), asyncio.Event()
        await wire.serve("ask", lambda subject, body, reply: reply(body))
        await wire.serve("silent", lambda subject, body, reply: unanswered.set())
        pending = asyncio.ensure_future(wire.request("silent", b"", timeout_seconds=30))
        await unanswered.wait()
        server.kill()
        with pytest.raises(Unknown, match="connection was lost"):
            await asyncio.wait_for(pending, 5)
        waiting = asyncio.ensure_future(wire.request("ask", b"meanwhile", timeout_seconds=10))
        await server.start()
        await watched.gone_and_back()
        assert await waiting == b"meanwhile"
        assert await wire.request("ask", b"again") == b"again"
        assert wire.connected
        assert "Traceback" not in caplog.text


async def test_a_connection_the_server_refused_once_comes_back(tmp_path: Path) -> None:
    """The library ends for good when its user is revoked; the wire does not, and keeps its subscriptions."""
    config = users("right")
    async with (
        nats_server(tmp_path, config=config, jetstream=False) as server,
        wired(Endpoint(url=server.url, user="u", password="right")) as wire,
    ):
        watched = Watched(wire)
        await wire.serve("ask", lambda subject, body, reply: reply(body))
        server.configure(users("another"))
        await asyncio.wait_for(watched.lost.wait(), 5)
        server.configure(config)
        await watched.gone_and_back()
        assert await wire.request("ask", b"again") == b"again"


async def test_a_forbidden_subject_fails_fast_and_says_why(tmp_path: Path) -> None:
    """The server's refusal reaches whoever asked, instead of a time-out."""
    config = users("p", permissions=', permissions: { publish: { allow: ["ok.>"] } }')
    async with (
        nats_server(tmp_path, config=config, jetstream=False) as server,
        wired(Endpoint(url=server.url, user="u", password="p")) as wire,
    ):
        with pytest.raises(Unknown, match="permissions violation"):
            await wire.request("Forbidden.Subject", b"", timeout_seconds=30)
        assert "forbidden.subject" in wire.last_violation


async def test_what_cannot_be_sent_is_unknown_and_harms_nothing(tmp_path: Path) -> None:
    """Too large a body, an endless subject or an impossible one fail by themselves, not with the connection."""
    async with nats_server(tmp_path, jetstream=False) as server, wired(server.endpoint) as wire:
        await wire.serve("ask", lambda subject, body, reply: reply(body))
        for subject, body in (("ask", b"x" * (2 << 20)), ("a." * 5000 + "b", b""), ("ask me", b""), ("", b"")):
            with pytest.raises(Unknown):
                await wire.request(subject, body, timeout_seconds=5)
        assert await wire.request("ask", b"fine") == b"fine"
        assert wire.connected


async def test_closing_ends_every_wait(tmp_path: Path) -> None:
    """What is in flight when the connection is closed is unknown, what was to be sent is sent, later asks fail."""
    async with nats_server(tmp_path, jetstream=False) as server, wired(server.endpoint) as other:
        wire = await Wire.connect(server.endpoint, name="test")
        arrived: asyncio.Queue[bytes] = asyncio.Queue()

        def receive(message: Message) -> None:
            arrived.put_nowait(message.data)

        await other.subscribe("last.words", receive)
        await other.serve("silent", lambda subject, body, reply: None)
        await other.serve("ready", lambda subject, body, reply: reply(b""))
        await other.request("ready", b"")
        waiting = asyncio.ensure_future(wire.request("silent", b"", timeout_seconds=30))
        await asyncio.sleep(0)
        wire.send("last.words", b"goodbye")
        await wire.close()
        await wire.close()
        with pytest.raises(Unknown, match="closed"):
            await waiting
        with pytest.raises(Unknown, match="closed"):
            await wire.request("ready", b"")
        assert await asyncio.wait_for(arrived.get(), 5) == b"goodbye"
