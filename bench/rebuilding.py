"""Folding a whole log into new tables, beside the bare reading back of the same stream.

The bare reader pulls with a callback and counts: it decodes nothing and writes nothing.
"""

from __future__ import annotations

import asyncio
import gc
import tempfile
import time
from pathlib import Path

import nats
from nats.js.api import AckPolicy, ConsumerConfig

from bench.ceiling import Pulls
from bench.figures import ratio, span
from bench.histories import publish
from bench.servers import PlainServer
from bench.table import Row
from headway.core.jetstream import JetStreamLog
from headway.core.streams import STREAM
from headway.core.wire import Endpoint, Wire
from headway.projections.rebuild import rebuild

BATCH = 1000
STREAM_BYTES = 2 << 30


async def make_log(url: str, events: int) -> int:
    """A server's stream as the product makes it, filled; returns how many events it holds."""
    wire = await Wire.connect(Endpoint(url=url), name="bench")
    log = JetStreamLog(wire)
    await log.prepare(max_bytes=STREAM_BYTES, output_max_bytes=1 << 20)
    client = await nats.connect(url)
    written = await publish(client, events)
    stored = await log.last_seq()
    assert stored == written, f"{stored} events are stored, {written} were written"
    await client.close()
    await wire.close()
    return written


async def read_back(url: str, events: int) -> float:
    """Events a second of the bare reader."""
    client = await nats.connect(url)
    began = time.perf_counter()
    consumer = ConsumerConfig(name=f"bench-{time.monotonic_ns()}", ack_policy=AckPolicy.NONE, mem_storage=True)
    await client.jetstream().add_consumer(STREAM, consumer)
    pulls = Pulls(client, str(consumer.name), BATCH, stream=STREAM)
    await pulls.start()
    seen = 0
    while seen < events:
        seen += len(await pulls.next())
    seconds = time.perf_counter() - began
    await client.jetstream().delete_consumer(STREAM, str(consumer.name))
    await client.close()
    return seen / seconds


async def folded(url: str, events: int) -> float:
    """Events a second of the product's rebuild, the file swapped in included."""
    wire = await Wire.connect(Endpoint(url=url), name="bench")
    with tempfile.TemporaryDirectory(prefix="headway-bench-tables-") as folder:
        began = time.perf_counter()
        await rebuild(JetStreamLog(wire), Path(folder) / "headway.db")
        seconds = time.perf_counter() - began
    await wire.close()
    return events / seconds


def measure(*, quick: bool) -> list[Row]:
    """In turn, on one stream of real histories."""
    bare: list[float] = []
    ours: list[float] = []
    with PlainServer("default") as server:
        events = asyncio.run(make_log(server.url, 50_000 if quick else 1_000_000))
        for _ in range(1 if quick else 3):
            gc.collect()
            bare.append(asyncio.run(read_back(server.url, events)))
            ours.append(asyncio.run(folded(server.url, events)))
    return [
        Row(
            what=f"projection rebuild, {events:,} events",
            yardstick=f"bare read-back {span(bare)} /s",
            measured=f"{span(ours)} /s",
            ratio=ratio(ours, bare),
            floor=0.15,
            target=0.4,
        )
    ]
