"""The bare loop that Headway is measured against: an event-sourced controller and a runner, and nothing else.

One writer appends eleven events a job to JetStream, each with the expected last sequence of the stream and at most
64 in flight, and answers only what is durable. The runner, another process, gets its assignments through a durable
pull consumer, asks by request and reply with its facts (two asks a job), and spawns `/bin/true` for every job. The
controller reads everything back by callback, decodes, folds, and writes SQLite rows in batches. The clock stops when
the last event is acknowledged and the rows are written.

No product: no leases, retries, output, workspaces, validation, second try or recovery. It shares no code with Headway.

    python -m bench.ceiling [--jobs N] [--slots N] [--sync always|default] [--events 11|9] [--chain]

prints one JSON object.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sqlite3
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
import nats
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.js.api import AckPolicy, ConsumerConfig, StreamConfig

from bench.figures import percentile
from bench.servers import SYNC_MODES, PlainServer

KINDS = (
    *("run.admitted", "job.admitted", "job.queued", "job.assigned", "job.preparing", "job.executing"),
    *("step.started", "step.finished", "job.uploading", "job.completed", "run.completed"),
)
"""What happens to a job, in order; each job is a run of its own here."""

PLACE = {kind: place for place, kind in enumerate(KINDS, 1)}
FIRST_FACTS, LAST_FACTS = KINDS[4:7], KINDS[7:9]
IN_FLIGHT_MAX = 64
BATCH = 1000
STREAM, RUNNER = "CEILING", "ceiling-runner"
PADDING = "sha256:" + "0" * 64
"""Stands for the digest of the event before, so that an event has about 300 bytes."""


class Event(msgspec.Struct):
    """An event of the bare loop."""

    kind: str
    id: str
    at: int
    actor: str
    run: str
    job: int
    because: str
    prev: str = PADDING
    n: int = 0


class Ask(msgspec.Struct):
    """What the runner says of a job: that it starts, or that it ended."""

    job: int
    at: int
    ended: bool


class Shape(msgspec.Struct, kw_only=True):
    """What is to be run. With 9 events a job, those of its run are left out, as if all jobs were one run's."""

    jobs: int
    slots: int
    events: int = len(KINDS)
    chain: bool = False

    @property
    def last_kind(self) -> str:
        """What a job's history ends with."""
        return KINDS[-1] if self.events == len(KINDS) else "job.completed"


Then = Callable[[], None]
encode = msgspec.json.Encoder().encode
decode_event = msgspec.json.Decoder(Event).decode
decode_ask = msgspec.json.Decoder(Ask).decode


class Pulls:
    """Messages of a consumer, by a callback; at most two batches are held."""

    def __init__(self, client: Client, consumer: str, batch: int, *, stream: str = STREAM) -> None:
        self._client, self._batch = client, batch
        self._next = f"$JS.API.CONSUMER.MSG.NEXT.{stream}.{consumer}"
        self._request = b'{"batch":%d,"expires":30000000000}' % batch
        self._held: list[Msg] = []
        self._open = 0
        self._came = asyncio.Event()
        self._inbox = client.new_inbox()

    async def start(self) -> None:
        await self._client.subscribe(self._inbox, cb=self._receive, pending_msgs_limit=0, pending_bytes_limit=0)

    async def _receive(self, message: Msg) -> None:
        if message.headers and "Status" in message.headers:
            self._open = 0
        else:
            self._held.append(message)
            self._open -= 1
        self._came.set()

    async def next(self) -> list[Msg]:
        """What has come, at least one."""
        while True:
            if self._open <= self._batch // 2 and len(self._held) < self._batch:
                self._open += self._batch
                await self._client.publish(self._next, self._request, reply=self._inbox)
            if self._held:
                held, self._held = self._held, []
                return held
            self._came.clear()
            await self._came.wait()


class Writer:
    """Appends in order; `then` is called when the entry is durable."""

    def __init__(self, client: Client) -> None:
        self.last = 0
        self._client = client
        self._outbox: deque[tuple[str, Event, tuple[Then, ...]]] = deque()
        self._in_flight: deque[tuple[int, tuple[Then, ...]]] = deque()
        self._inbox = client.new_inbox()
        self._work = asyncio.Event()

    async def run(self) -> None:
        await self._client.subscribe(self._inbox, cb=self._acknowledged)
        while True:
            await self._work.wait()
            while self._outbox and len(self._in_flight) < IN_FLIGHT_MAX:
                subject, event, then = self._outbox.popleft()
                headers = {"Nats-Msg-Id": event.id, "Nats-Expected-Last-Sequence": str(self.last)}
                self.last += 1
                self._in_flight.append((self.last, then))
                await self._client.publish(subject, encode(event), self._inbox, headers)
            self._work.clear()

    def append(self, event: Event, then: tuple[Then, ...] = ()) -> None:
        to = f"to.{RUNNER}" if event.kind == "job.assigned" else "ev"
        self._outbox.append((f"ceiling.run.p.{event.run}.{to}", event, then))
        self._work.set()

    async def _acknowledged(self, message: Msg) -> None:
        answer = json.loads(message.data)
        expected, then = self._in_flight.popleft()
        assert answer.get("seq") == expected, f"{answer} instead of {expected}"
        for one in then:
            one()
        self._work.set()


class Projector:
    """Reads everything back, folds it and writes rows. `seen` is how many events of each job there were, in order."""

    def __init__(self, client: Client, path: Path, shape: Shape) -> None:
        self.position = 0
        self._before = 0 if shape.events == len(KINDS) else 1
        self.seen: dict[int, int] = {}
        self.started: list[int] = []
        self._pulls = Pulls(client, "reader", BATCH)
        self._rows = sqlite3.connect(path, isolation_level=None)
        self._rows.executescript(
            "pragma journal_mode = wal; pragma synchronous = normal;"
            "create table events (seq integer primary key, run text, kind text, body blob);"
            "create table jobs (job integer primary key, place integer, seq integer);"
            "create table position (one integer primary key, seq integer)"
        )

    async def run(self, reached: Callable[[int], None]) -> None:
        await self._pulls.start()
        while True:
            self._write(await self._pulls.next())
            reached(self.position)

    def _write(self, messages: list[Msg]) -> None:
        events, jobs = [], {}
        for message in messages:
            event = decode_event(message.data)
            seq = int(message.reply.rsplit(".", 4)[1])
            place = PLACE[event.kind]
            assert place == self.seen.get(event.job, self._before) + 1, f"{event.kind} of {event.job} is out of order"
            self.seen[event.job] = place
            if event.kind == "step.started":
                self.started.append(event.at)
            events.append((seq, event.run, event.kind, message.data))
            jobs[event.job] = (event.job, place, seq)
            self.position = seq
        self._rows.execute("begin")
        self._rows.executemany("insert into events values (?, ?, ?, ?)", events)
        self._rows.executemany(
            "insert into jobs values (?, ?, ?) on conflict (job) do update set place = excluded.place", jobs.values()
        )
        self._rows.execute("insert or replace into position values (1, ?)", (self.position,))
        self._rows.execute("commit")


class Controller:
    """Decides: what is ready is queued, what is queued is assigned while a slot is free, what ended is completed."""

    def __init__(self, client: Client, shape: Shape) -> None:
        self.writer = Writer(client)
        self.finished: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._client, self._shape, self._slots = client, shape, shape.slots
        self._queued: deque[int] = deque()
        self._left = 0
        self._last = 0

    def submit(self, first: int, count: int) -> None:
        """Admit jobs `first` and on; in a chain each waits for the one before."""
        self.finished = asyncio.get_running_loop().create_future()
        self._left, self._last = count, first + count - 1
        for job in range(first, first + count):
            if self._shape.events == len(KINDS):
                self._say("run.admitted", job)
            self._say("job.admitted", job)
            if not self._shape.chain or job == first:
                self._queue(job)
        self._assign()

    async def hear(self, message: Msg) -> None:
        """A runner's facts: written, answered when durable."""
        ask = decode_ask(message.data)
        reply = message.reply

        def answer() -> None:
            asyncio.ensure_future(self._client.publish(reply, b"{}"))  # noqa: RUF006

        if not ask.ended:
            for kind in FIRST_FACTS[:-1]:
                self._say(kind, ask.job, actor=RUNNER, at=ask.at)
            self._say(FIRST_FACTS[-1], ask.job, actor=RUNNER, at=ask.at, then=(answer,))
            return
        for kind in LAST_FACTS:
            self._say(kind, ask.job, actor=RUNNER, at=ask.at)
        self._left -= 1
        done = () if self._left else (self._all_done,)
        if self._shape.events == len(KINDS):
            self._say("job.completed", ask.job, then=(answer,))
            self._say("run.completed", ask.job, then=done)
        else:
            self._say("job.completed", ask.job, then=(answer, *done))
        self._slots += 1
        if self._shape.chain and ask.job < self._last:
            self._queue(ask.job + 1)
        self._assign()

    def _all_done(self) -> None:
        self.finished.set_result(None)

    def _queue(self, job: int) -> None:
        self._say("job.queued", job)
        self._queued.append(job)

    def _assign(self) -> None:
        while self._queued and self._slots:
            self._slots -= 1
            self._say("job.assigned", self._queued.popleft())

    def _say(
        self, kind: str, job: int, *, actor: str = "coordinator", at: int = 0, then: tuple[Then, ...] = ()
    ) -> None:
        run = f"0190a000-0000-7000-8000-{job:012d}"
        place = PLACE[kind]
        at = at or time.time_ns() // 1000
        event = Event(kind, f"{run}:{place}", at, actor, run, job, because=f"{run}:{place - 1}", n=place)
        self.writer.append(event, then)


async def runner(url: str) -> None:
    """The runner's process: assignments come, `/bin/true` is spawned, facts are asked to be written."""
    if sys.version_info < (3, 12):  # later Pythons wait on a pidfd by themselves; a thread for each child is slow
        watcher = asyncio.PidfdChildWatcher()
        watcher.attach_loop(asyncio.get_running_loop())
        asyncio.set_child_watcher(watcher)
    client = await nats.connect(url)
    pulls = Pulls(client, RUNNER, 64)
    await pulls.start()
    await client.request("ceiling.ask.ready", b"")
    tasks: set[asyncio.Task[None]] = set()
    quiet = asyncio.subprocess.DEVNULL

    async def work(message: Msg) -> None:
        job = decode_event(message.data).job
        at = time.time_ns() // 1000
        await client.publish(message.reply, b"+ACK")
        said = asyncio.ensure_future(client.request("ceiling.ask.job", encode(Ask(job, at, False)), timeout=30))
        process = await asyncio.create_subprocess_exec("/bin/true", stdin=quiet, stdout=quiet, stderr=quiet)
        assert await process.wait() == 0, "/bin/true succeeds"
        await said
        await client.request("ceiling.ask.job", encode(Ask(job, time.time_ns() // 1000, True)), timeout=30)

    while True:
        for message in await pulls.next():
            task = asyncio.ensure_future(work(message))
            tasks.add(task)
            task.add_done_callback(tasks.discard)


async def measure(url: str, shape: Shape) -> dict[str, Any]:
    """Run the loop against a server: a few jobs to warm up, then the ones that count."""
    client = await nats.connect(url)
    manager = client.jetstream()
    await manager.add_stream(StreamConfig(name=STREAM, subjects=["ceiling.run.>"], duplicate_window=120))
    await manager.add_consumer(STREAM, ConsumerConfig(name="reader", ack_policy=AckPolicy.NONE, mem_storage=True))
    filters = f"ceiling.run.*.*.to.{RUNNER}"
    await manager.add_consumer(
        STREAM, ConsumerConfig(name=RUNNER, durable_name=RUNNER, filter_subject=filters, ack_policy=AckPolicy.EXPLICIT)
    )
    ready = await client.subscribe("ceiling.ask.ready")
    controller = Controller(client, shape)
    await client.subscribe("ceiling.ask.job", cb=controller.hear)
    child = await asyncio.create_subprocess_exec(sys.executable, "-m", "bench.ceiling", "--runner", url)
    with tempfile.TemporaryDirectory(prefix="headway-bench-ceiling-") as folder:
        projector = Projector(client, Path(folder) / "rows.db", shape)
        moved = asyncio.Event()
        parts = [
            asyncio.ensure_future(controller.writer.run()),
            asyncio.ensure_future(projector.run(lambda position: moved.set())),
        ]

        async def go(first: int, count: int) -> float:
            began = time.perf_counter()
            controller.submit(first, count)
            await asyncio.wait({controller.finished, *parts}, return_when=asyncio.FIRST_COMPLETED)
            assert controller.finished.done(), [part.exception() for part in parts if part.done()]
            while projector.position < controller.writer.last:
                moved.clear()
                await moved.wait()
            return time.perf_counter() - began

        try:
            await (await ready.next_msg(timeout=30)).respond(b"")
            warm = 2 * shape.slots
            await go(0, warm)
            projector.started.clear()
            seconds = await go(warm, shape.jobs)
            held = (await manager.stream_info(STREAM)).state.messages
        finally:
            child.terminate()
            await child.wait()
            for part in parts:
                part.cancel()
            await client.close()
    expected = shape.events * (shape.jobs + warm)
    assert held == expected, f"{held} events instead of {shape.events} for each of {shape.jobs + warm} jobs"
    assert all(seen == PLACE[shape.last_kind] for seen in projector.seen.values()), "every job has its whole history"
    hops = [(b - a) / 1000 for a, b in pairwise(projector.started)] if shape.chain else []
    return {"jobs_per_second": shape.jobs / seconds, "seconds": seconds, "hops_ms": hops, "events": held}


def main() -> None:
    """One measurement as a command."""
    parser = argparse.ArgumentParser(prog="python -m bench.ceiling", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--jobs", type=int, default=1000)
    parser.add_argument("--slots", type=int, default=2)
    parser.add_argument("--sync", choices=SYNC_MODES, default="always")
    parser.add_argument("--events", type=int, choices=(11, 9), default=11, help="9: without the two of the run")
    parser.add_argument("--chain", action="store_true", help="each job waits for the one before")
    parser.add_argument("--runner", metavar="URL", default="", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.runner:
        asyncio.run(runner(options.runner))
        return
    shape = Shape(jobs=options.jobs, slots=options.slots, events=options.events, chain=options.chain)
    with PlainServer(options.sync) as server:
        found = asyncio.run(measure(server.url, shape))
    if found["hops_ms"]:
        found |= {"hop_p50_ms": percentile(found["hops_ms"], 50), "hop_p99_ms": percentile(found["hops_ms"], 99)}
    print(json.dumps(found))


if __name__ == "__main__":
    main()
