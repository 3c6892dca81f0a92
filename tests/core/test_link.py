"""A runner's link, with the restricted account it has on the embedded server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from functools import partial
from pathlib import Path

import msgspec
import pytest

from headway.core import asks
from headway.core.asks import Answer, RegisterRunner, RenewRunner
from headway.core.envelope import Envelope, encode
from headway.core.errors import UnavailableError, UsageError
from headway.core.events import JobLost
from headway.core.jetstream import JetStreamLog
from headway.core.link import Delivery, NatsLink, delete_runner_consumer, ensure_runner_consumer
from headway.core.log import Entry, Unknown
from headway.core.outputs import Outputs, token, untoken
from headway.core.server_config import Limits, config_text, new_record
from headway.core.streams import STREAM, consumer_info
from headway.core.wire import Endpoint, Wire
from tests.core.nats_fixture import NatsServer, free_port, wait_until, wired

RUNNER = "local-1a2b3c4d"
MIB = 1 << 20


class House:
    """A server with the product's accounts, its coordinator's side and a runner's."""

    def __init__(self, server: NatsServer, wire: Wire, runner: Wire) -> None:
        self.server = server
        self.wire = wire
        self.log = JetStreamLog(wire)
        self.link = NatsLink(runner)
        self.last = 0

    async def tell(self, runner: str = RUNNER, *, job: str = "build") -> int:
        """Log an event for a runner."""
        event = JobLost(runner=runner, reason="silent")
        envelope = Envelope(id=f"e{self.last}", at=1, actor="coordinator", data=event, run="r1", job=job, attempt=1)
        return await self.store(encode(envelope), runner=runner)

    async def store(self, body: bytes, *, runner: str = RUNNER) -> int:
        """Log whatever is to come to a runner."""
        entry = Entry(subject=f"headway.run.shop.r1.to.{runner}", id=f"i{self.last}", body=body, expect=self.last)
        self.last = await self.log.append(entry)
        return self.last


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    record = new_record(free_port())
    limits = Limits(log_bytes=64 * MIB, output_bytes=16 * MIB)
    server = NatsServer(tmp_path)
    server.port = record.port
    (tmp_path / "nats.conf").write_text(config_text(record, limits))
    await server.start()
    own = Endpoint(url=server.url, user=record.user, password=record.password)
    runners = Endpoint(url=server.url, user=record.runner_user, password=record.runner_password)
    try:
        async with wired(own, name="coordinator") as wire, wired(runners, name="runner") as runner:
            found = House(server, wire, runner)
            await found.log.prepare(max_bytes=64 * MIB, output_max_bytes=16 * MIB)
            yield found
    finally:
        server.kill()


@asynccontextmanager
async def deliveries(house: House, runner: str = RUNNER) -> AsyncIterator[AsyncIterator[Delivery]]:
    """What comes to a runner."""
    async with aclosing(house.link.deliveries(runner)) as found:
        yield found


async def take(found: AsyncIterator[Delivery], count: int, *, seconds: float = 10) -> list[int]:
    """Acknowledge so many deliveries; where they are on the log."""
    seqs = []
    async with asyncio.timeout(seconds):
        for _ in range(count):
            delivery = await anext(found)
            delivery.ack()
            seqs.append(delivery.recorded.seq)
    return seqs


async def all_acknowledged(house: House) -> bool:
    """Whether the server knows of nothing that the runner still has to acknowledge."""
    return (await consumer_info(house.wire, STREAM, f"runner-{RUNNER}")).num_ack_pending == 0


async def test_an_ask_is_answered(house: House) -> None:
    """The coordinator gets the ask on the runner's own subject, and its answer comes back."""
    heard: list[tuple[str, object]] = []

    def handle(subject: str, body: bytes, reply: object) -> None:
        heard.append((subject, asks.decode_runner_ask(body)))
        assert callable(reply)
        reply(asks.encode(Answer(seq=7)))

    await house.wire.serve("headway.ask.runner.*", handle)
    ask = RegisterRunner(runner=RUNNER, labels=("linux",), slots=2)
    assert await house.link.ask(ask) == Answer(seq=7)
    assert heard == [(f"headway.ask.runner.{RUNNER}", ask)]


async def test_an_ask_without_a_coordinator_is_unknown(house: House) -> None:
    """Nobody there, silence and nonsense are all the same: ask again."""
    ask = RenewRunner(runner=RUNNER)
    with pytest.raises(Unknown):
        await house.link.ask(ask, timeout_seconds=0.3)
    serving = await house.wire.serve("headway.ask.runner.*", lambda subject, body, reply: None)
    with pytest.raises(Unknown, match="in time"):
        await house.link.ask(ask, timeout_seconds=0.2)
    await serving.close()
    await house.wire.serve("headway.ask.runner.*", lambda subject, body, reply: reply(b"{]"))
    with pytest.raises(Unknown, match="cannot be read"):
        await house.link.ask(ask, timeout_seconds=2)


@pytest.mark.parametrize("name", ["", "a.b", "a b", "*", ">", "-a", "ü", "a" * 200])
async def test_a_name_that_is_no_token_is_refused(house: House, name: str) -> None:
    """A runner's name cannot reach another subject."""
    with pytest.raises(UsageError):
        await house.link.ask(RenewRunner(runner=name))
    with pytest.raises(UsageError):
        await ensure_runner_consumer(house.wire, name)


async def test_deliveries_come_in_order_and_only_ones_own(house: House) -> None:
    """Old ones and new ones, none of another runner, and what was acknowledged does not come again."""
    await house.tell()
    await house.tell("other-00000000")
    await ensure_runner_consumer(house.wire, RUNNER)
    async with deliveries(house) as found:
        assert await take(found, 1) == [1]
        waiting = asyncio.ensure_future(take(found, 2))
        await house.tell()
        await house.tell("other-00000000")
        await house.tell()
        assert await waiting == [3, 5]
    await wait_until(partial(all_acknowledged, house))
    async with deliveries(house) as found:
        waiting = asyncio.ensure_future(take(found, 1))
        await house.tell()
        assert await waiting == [6]


async def test_what_was_not_acknowledged_comes_again(house: House) -> None:
    """A delivery that a runner did not live to acknowledge is made again to the next reader, after its time."""
    await ensure_runner_consumer(house.wire, RUNNER, ack_seconds=0.5)
    await house.tell()
    async with deliveries(house) as found:
        assert (await anext(found)).recorded.seq == 1
    async with deliveries(house) as found:
        assert await take(found, 1) == [1]


async def test_ensuring_again_keeps_the_place(house: House) -> None:
    """A coordinator that starts anew makes the consumer again, and nothing is skipped or repeated."""
    await ensure_runner_consumer(house.wire, RUNNER)
    async with deliveries(house) as found:
        await house.tell()
        assert await take(found, 1) == [1]
        await wait_until(partial(all_acknowledged, house))
        house.server.stop()
        await house.server.start()
        await house.wire.wait_connected()
        await ensure_runner_consumer(house.wire, RUNNER)
        house.last = await house.log.last_seq()
        await house.tell()
        assert await take(found, 1) == [2]


async def test_deliveries_survive_a_killed_server(house: House) -> None:
    """A waiting runner hears of an assignment within two seconds of the server's return."""
    await ensure_runner_consumer(house.wire, RUNNER)
    async with deliveries(house) as found:
        for _ in range(3):
            waiting = asyncio.ensure_future(anext(found))
            await house.server.restart()
            began = asyncio.get_running_loop().time()
            await house.wire.wait_connected()
            while True:
                try:
                    seq = await house.tell()
                    break
                except Unknown:
                    house.last = await house.log.last_seq()
            async with asyncio.timeout(5):
                delivery = await waiting
                while delivery.recorded.seq != seq:  # the acknowledgement of the one before did not get through
                    delivery = await anext(found)
            delivery.ack()
            assert asyncio.get_running_loop().time() - began < 2


async def test_a_runner_may_come_before_its_consumer(house: House) -> None:
    """Whoever waits before the coordinator has made the consumer gets everything once it is there."""
    async with deliveries(house) as found:
        waiting = asyncio.ensure_future(take(found, 1))
        await house.tell()
        await ensure_runner_consumer(house.wire, RUNNER)
        assert await waiting == [1]
        await delete_runner_consumer(house.wire, RUNNER)
        await delete_runner_consumer(house.wire, RUNNER)


async def test_junk_is_passed_over_and_the_future_is_not(house: House) -> None:
    """What is no event is not delivered; an event of a newer Headway stops the runner with a word why."""
    await ensure_runner_consumer(house.wire, RUNNER)
    await house.store(b"\xff not json")
    await house.tell()
    async with deliveries(house) as found:
        assert await take(found, 1) == [2]
        newer = {"id": "x", "at": 1, "actor": "c", "data": {"type": "job.teleported"}}
        await house.store(msgspec.json.encode(newer))
        with pytest.raises(UnavailableError, match=r"job\.teleported"):
            await take(found, 1)


async def test_output_is_published_once_and_read_back(house: House) -> None:
    """Output of a runner comes back in order, per attempt; the same id twice is stored once."""
    outputs = Outputs(house.wire)
    job = "build (3.10, ubuntu)"
    for number in (0, 1, 1, 2):
        await house.link.publish_output("r1", job, 1, b'{"i":%d}\n' % number, id=f"r1:{job}:1:{number}")
    await house.link.publish_output("r1", job, 2, b"second", id="second")
    assert await outputs.read("r1", job, 1) == [b'{"i":0}\n', b'{"i":1}\n', b'{"i":2}\n']
    assert await outputs.read("r1", job, 3) == []


async def test_output_is_followed_from_its_beginning(house: House) -> None:
    """A follower gets what is there and what comes, with job and attempt, and no junk."""
    outputs = Outputs(house.wire)
    await house.link.publish_output("r1", "a.b", 1, b"1", id="1")
    await house.link.publish_output("r2", "a.b", 1, b"other run", id="2")
    assert msgspec.json.decode(await house.wire.request("headway.out.r1.%FF.x", b"junk"))["seq"] == 3
    async with aclosing(outputs.follow("r1")) as batches:
        found = await anext(batches)
        waiting = asyncio.ensure_future(anext(batches))
        await house.link.publish_output("r1", "c", 2, b"2", id="3")
        found = found + await asyncio.wait_for(waiting, 5)
    assert [(chunk.job, chunk.attempt, chunk.body) for chunk in found] == [("a.b", 1, b"1"), ("c", 2, b"2")]
    async with aclosing(outputs.follow("r1", "c", 2)) as batches:
        assert [chunk.body for chunk in await anext(batches)] == [b"2"]


@pytest.mark.parametrize("name", ["build", "a.b", "*", ">", "a b", "ü/ß", "%", "\udcff", "a\nb", "x" * 100])
def test_a_token_holds_any_name(name: str) -> None:
    """A job's name becomes one harmless token, and comes back as it was."""
    made = token(name)
    assert set(made) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-%")
    assert untoken(made) == name
