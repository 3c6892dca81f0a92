"""One holds the baton, the next gets it, and a holder that cannot be sure lets go."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

from headway.core.baton import Baton
from headway.core.streams import BATON_STREAM, delete_consumer
from headway.core.wire import Wire
from tests.core.nats_fixture import nats_server, wired

SECONDS = 5.0


def short(wire: Wire) -> Baton:
    """A baton that is lost after 0.6 seconds."""
    return Baton(wire, hold_seconds=0.6, renew_seconds=0.2)


async def test_it_is_handed_on_without_delay(tmp_path: Path) -> None:
    """Of two that want it one gets it; when that one lets go, the other need not wait for a time-out."""
    async with nats_server(tmp_path) as server, wired(server.endpoint) as one, wired(server.endpoint) as two:
        a, b = (Baton(wire, hold_seconds=30) for wire in (one, two))
        await asyncio.wait_for(a.acquire(), SECONDS)
        waiting = asyncio.ensure_future(b.acquire())
        losing = asyncio.ensure_future(a.lost())
        await asyncio.sleep(0)
        assert (a.held, waiting.done(), losing.done()) == (True, False, False)
        await a.release()
        await asyncio.wait_for(asyncio.gather(waiting, losing), SECONDS)
        assert (a.held, b.held) == (False, True)
        await b.release()


async def test_without_it_there_is_nothing_to_lose_or_release(tmp_path: Path) -> None:
    """`lost` ends at once and `release` does nothing, also after a wait that was given up."""
    async with nats_server(tmp_path) as server, wired(server.endpoint) as one, wired(server.endpoint) as two:
        a, b = short(one), short(two)
        await asyncio.wait_for(b.lost(), SECONDS)
        await b.release()
        await a.acquire()
        waiting = asyncio.ensure_future(b.acquire())
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        await b.release()
        assert a.held
        await a.release()
        await asyncio.wait_for(b.acquire(), SECONDS)
        await b.release()


async def test_a_holder_that_dies_is_followed_by_another(tmp_path: Path) -> None:
    """Without a word from the holder the baton goes on after its hold, not before; and it is kept while renewed."""
    async with nats_server(tmp_path) as server, wired(server.endpoint) as two:
        one = await Wire.connect(server.endpoint, name="dies")
        a, b = short(one), short(two)
        await a.acquire()
        waiting = asyncio.ensure_future(b.acquire())
        await asyncio.wait({waiting}, timeout=1.2)
        assert a.held, "renewed twice as long as it would last by itself"
        assert not waiting.done()
        began = time.monotonic()
        await one.close()
        await asyncio.wait_for(waiting, SECONDS)
        assert 0.2 < time.monotonic() - began < 2
        await asyncio.wait_for(a.lost(), SECONDS)
        await b.release()
        await a.release()


async def test_after_a_kill_of_the_server_one_holds_it(tmp_path: Path) -> None:
    """Whatever the server remembers of the hand-over: soon there is one holder, and it stays the one."""
    async with nats_server(tmp_path) as server, wired(server.endpoint) as one, wired(server.endpoint) as two:
        a, b = (Baton(wire, hold_seconds=1.5, renew_seconds=0.1) for wire in (one, two))
        await a.acquire()
        waiting, losing = asyncio.ensure_future(b.acquire()), asyncio.ensure_future(a.lost())
        await server.restart()
        await asyncio.wait({waiting, losing}, timeout=1.0)
        assert waiting.done() == losing.done()
        assert a.held != b.held
        await a.release()
        await asyncio.wait_for(waiting, SECONDS)
        assert b.held
        await b.release()


async def test_who_is_alone_does_not_wait_for_the_dead(tmp_path: Path) -> None:
    """The process that owns the server takes the baton at once, whatever hold a killed one has left."""
    async with nats_server(tmp_path) as server, wired(server.endpoint) as one, wired(server.endpoint) as two:
        dead = Baton(one, hold_seconds=60.0)
        await dead.acquire()
        living = Baton(two, alone=True)
        async with asyncio.timeout(5):
            await living.acquire()
        assert living.held
        await living.release()
        await dead.release()


async def test_a_holder_notices_that_another_has_it(tmp_path: Path) -> None:
    """When the server hands the baton out a second time, the first holder soon knows."""
    async with nats_server(tmp_path) as server, wired(server.endpoint) as one, wired(server.endpoint) as two:
        a, b = (Baton(wire, hold_seconds=30, renew_seconds=0.1) for wire in (one, two))
        await a.acquire()
        await delete_consumer(one, BATON_STREAM, "baton")
        await asyncio.wait_for(b.acquire(), SECONDS)
        await asyncio.wait_for(a.lost(), SECONDS)
        assert (a.held, b.held) == (False, True)
        await b.release()


async def test_a_holder_without_a_server_lets_go_and_gets_it_back(tmp_path: Path) -> None:
    """When the server is silent for as long as the hold lasts, the holder no longer counts on it."""
    async with nats_server(tmp_path) as server, wired(server.endpoint) as wire:
        baton = short(wire)
        await baton.acquire()
        server.pause()
        began = time.monotonic()
        await asyncio.wait_for(baton.lost(), SECONDS)
        assert time.monotonic() - began < 1.5
        assert not baton.held
        server.resume()
        await asyncio.wait_for(baton.acquire(), SECONDS)
        await baton.release()


async def test_it_is_waited_for_while_there_is_no_server(tmp_path: Path) -> None:
    """Acquiring outlives the server's absence."""
    async with nats_server(tmp_path) as server, wired(server.endpoint) as wire:
        server.kill()
        baton = short(wire)
        waiting = asyncio.ensure_future(baton.acquire())
        await asyncio.sleep(0)
        await server.start()
        await asyncio.wait_for(waiting, SECONDS)
        await baton.release()
