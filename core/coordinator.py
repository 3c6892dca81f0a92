"""The coordinator: the one writer of the log. It hears asks, decides what follows, appends, and then answers.

The rules are the desk's (`headway.core.desk`); here is only what moves: entries in flight, answers that wait for them,
and what happens when an append fails. Then nothing is guessed: everything in flight settles, the desk is thrown away,
a new one is read from the log to its end, and the asks that were under way are heard again.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from functools import partial
from typing import Final, Protocol

import msgspec

from headway.core import asks
from headway.core.asks import Answer, AnyAsk
from headway.core.blobs import Blobs
from headway.core.clock import Clock
from headway.core.desk import Desk, open_desk
from headway.core.envelope import decode
from headway.core.errors import HeadwayError
from headway.core.events import CoordinatorCheckpointed, CoordinatorElected, JobLost
from headway.core.fleet import Presence
from headway.core.log import Conflict, Entry, Full, Log, Unknown
from headway.core.plan import Plan, decode_plan

IN_FLIGHT_MAX: Final = 64
REOPEN_PAUSE_SECONDS: Final = 0.2
REOPEN_PAUSE_SECONDS_MAX: Final = 2.0

logger = logging.getLogger("headway.coordinator")


class Identity(msgspec.Struct, frozen=True, kw_only=True):
    """Who a coordinator is: a fresh name for each process, and the blob store it knows."""

    coordinator: str
    headway_version: str
    host: str
    pid: int
    store: str = ""


class Keeper(Protocol):
    """Told of every lost attempt whose output has to be gathered; answers with a StoreOutput ask."""

    def __call__(self, run: str, job: str, attempt: int) -> None: ...


class Waiting(msgspec.Struct):
    """An ask under way: its answer holds when everything up to `seq` is durable."""

    ask: AnyAsk
    actor: str
    future: asyncio.Future[Answer]
    plan: Plan | None = None
    answer: Answer | None = None
    seq: int = 0


class Coordinator:
    """See the module. `open` must have returned before asks are heard; `close` ends it without a word on the log.

    `trouble` says in words why asks are not heard just now, "" while they are.
    """

    def __init__(self, log: Log, blobs: Blobs, clock: Clock, identity: Identity) -> None:
        self.identity = identity
        self.trouble = ""
        self.on_lost: Keeper | None = None
        self._log = log
        self._blobs = blobs
        self._clock = clock
        self._presence = Presence()
        self._desk: Desk | None = None
        self._outbox: deque[Entry] = deque()
        self._in_flight: deque[asyncio.Future[int]] = deque()
        self._waiting: deque[Waiting] = deque()
        self._durable = 0
        self._think: asyncio.Handle | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._recovery: asyncio.Task[None] | None = None
        self._checks: set[asyncio.Task[None]] = set()
        self._opened = asyncio.Event()
        self._closed = False

    @property
    def desk(self) -> Desk | None:
        """The desk while it is good, for reading only."""
        return self._desk

    async def open(self) -> None:
        """Read the log to its end and say that there is a new coordinator. Raises Conflict, Unknown, Full."""
        desk = await self._read()
        identity = self.identity
        entries = desk.elected(
            at=self._clock.wall_us(),
            headway_version=identity.headway_version,
            host=identity.host,
            pid=identity.pid,
        )
        await asyncio.gather(*[self._log.append(entry) for entry in entries])
        self._start(desk)

    async def close(self) -> None:
        """Stop hearing; what is in flight settles, what was not answered is answered with `retry`."""
        self._closed = True
        self._stop_timers()
        if self._recovery is not None:
            self._recovery.cancel()
            await asyncio.gather(self._recovery, return_exceptions=True)
        await asyncio.gather(*self._in_flight, return_exceptions=True)
        await asyncio.gather(*self._checks, return_exceptions=True)
        self._desk = None
        for waiting in self._waiting:
            _resolve(waiting, Answer(retry=True))
        self._waiting.clear()

    def ask(self, ask: AnyAsk, *, actor: str, plan: Plan | None = None) -> asyncio.Future[Answer]:
        """Hear an ask. The future has its answer when the answer is durable, `retry` while nobody can listen."""
        waiting = Waiting(ask=ask, actor=actor, future=asyncio.get_running_loop().create_future(), plan=plan)
        if self._desk is None or self._closed:
            _resolve(waiting, Answer(retry=True))
        else:
            self._hear(self._desk, waiting)
        return waiting.future

    async def opened(self) -> None:
        """Wait until asks are heard."""
        await self._opened.wait()

    def _start(self, desk: Desk) -> None:
        self._durable = desk.world.seq
        self._presence = desk.presence
        desk.begin(self._clock.monotonic(), at=self._clock.wall_us())
        self._desk = desk
        self._opened.set()
        for run in desk.world.runs.values():
            for name, job in run.jobs.items():
                for attempt in job.outputs_wanted:
                    self._lost(run.id, name, attempt)
        self._decide_soon()

    async def _read(self) -> Desk:
        """A desk that has folded the whole log, from the last checkpoint that can be read."""
        desk = open_desk(self.identity.coordinator, checkpoint=await self._checkpoint())
        desk.world.store = self.identity.store
        while (seq := desk.world.seq) < (last := await self._log.last_seq()):
            async for batch in self._log.read(start=seq + 1):
                for stored in batch:
                    desk.take(stored)
            if desk.world.seq == seq:
                raise Unknown(f"the log goes to event {last} and has none after {seq}; see 'headway verify --all'")
        for run, digest in desk.plans_missing():
            desk.world.give_plan(run, self._plan_again(run, digest))
        return desk

    def _plan_again(self, run: str, digest: str) -> Plan | None:
        """The plan of a run that is under way; None for one that is damaged. Raises Unknown when it is out of reach."""
        if not self._blobs.has(digest):
            raise Unknown(f"the plan {digest} of run {run} is not in the blob store {self._blobs.folder}")
        return self._plan(digest)

    async def _checkpoint(self) -> bytes | None:
        stored = await self._log.last("headway.ctl")
        try:
            event = decode(stored.body).data if stored is not None else None
        except msgspec.MsgspecError:
            return None  # who reads the log to there says what is wrong with it
        if not isinstance(event, CoordinatorElected | CoordinatorCheckpointed) or not event.checkpoint:
            return None
        try:
            body = self._blobs.get(event.checkpoint)
            open_desk("", checkpoint=body)
        except (HeadwayError, msgspec.MsgspecError, OSError):
            return None  # a checkpoint only saves time: without it everything is read
        return body

    def _plan(self, digest: str) -> Plan | None:
        try:
            return decode_plan(self._blobs.get(digest))
        except OSError as error:
            raise Unknown(f"the blob {digest} cannot be read: {error}") from error
        except (HeadwayError, msgspec.MsgspecError):
            return None

    def _hear(self, desk: Desk, waiting: Waiting) -> None:
        ask = waiting.ask
        if isinstance(ask, asks.AdmitRun) and waiting.plan is None:
            waiting.plan = self._plan(ask.admitted.plan_digest)
        now, at = self._clock.monotonic(), self._clock.wall_us()
        try:
            answer, entries = desk.hear(ask, actor=waiting.actor, now=now, at=at, plan=waiting.plan)
        except Exception as error:
            _resolve(waiting, Answer(refused=f"the coordinator failed on this ask: {error}", code="broken"))
            self._broke(error)
            return
        if not entries and not answer.seq and not answer.refused:
            _resolve(waiting, answer)
            return
        waiting.answer = answer
        waiting.seq = desk.world.seq
        self._waiting.append(waiting)
        self._send(entries)
        self._settle()
        if entries:
            self._decide_soon()

    def _decide_soon(self) -> None:
        if self._think is None:
            self._think = asyncio.get_running_loop().call_soon(self._decide)

    def _decide(self) -> None:
        self._think = None
        desk = self._desk
        if desk is None or self._closed:
            return
        try:
            entries = desk.decide(now=self._clock.monotonic(), at=self._clock.wall_us())
        except Exception as error:
            self._broke(error)
            return
        self._send(entries)
        self._set_timer(desk)
        if desk.checkpoint_due() and self._desk is desk:
            self._checkpoint_now(desk)

    def _checkpoint_now(self, desk: Desk) -> None:
        """Store the state as a blob and name it on the log. That only saves time: when it fails, the next may work."""
        seq = desk.world.seq
        try:
            digest = self._blobs.put_bytes(desk.world.snapshot())
        except (HeadwayError, OSError) as error:
            logger.warning("no checkpoint at %d: %s", seq, error)
            return
        self._send(desk.checkpointed(digest=digest, seq=seq, at=self._clock.wall_us()))

    def _set_timer(self, desk: Desk) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        deadline = desk.next_deadline()
        if deadline is not None:
            delay = max(0.0, deadline - self._clock.monotonic())
            self._timer = asyncio.get_running_loop().call_later(delay, self._decide_soon)

    def _send(self, entries: list[Entry]) -> None:
        self._outbox.extend(entries)
        self._pump()

    def _pump(self) -> None:
        while self._outbox and len(self._in_flight) < IN_FLIGHT_MAX:
            entry = self._outbox.popleft()
            future = self._log.append(entry)
            self._in_flight.append(future)
            future.add_done_callback(partial(self._appended, entry))

    def _appended(self, entry: Entry, future: asyncio.Future[int]) -> None:
        if self._in_flight and self._in_flight[0] is future:
            self._in_flight.popleft()
        else:
            self._in_flight.remove(future)
        error = future.exception() if not future.cancelled() else Unknown("cancelled")
        if error is not None:
            self._fail(error)
            return
        if self._desk is None:
            return  # settled after a failure; the new desk reads it from the log
        self._durable = entry.expect + 1
        if b'"job.lost"' in entry.body:
            envelope = decode(entry.body)
            if isinstance(envelope.data, JobLost):
                self._lost(envelope.run, envelope.job, envelope.attempt)
        self._settle()
        self._pump()

    def _settle(self) -> None:
        """Answer whatever has become durable."""
        while self._waiting and self._waiting[0].seq <= self._durable:
            waiting = self._waiting.popleft()
            assert waiting.answer is not None, "an ask that waits has its answer"
            if waiting.answer.refused:
                task = asyncio.get_running_loop().create_task(self._check_refusal(waiting))
                self._checks.add(task)
                task.add_done_callback(self._checks.discard)
            else:
                _resolve(waiting, waiting.answer)

    async def _check_refusal(self, waiting: Waiting) -> None:
        """A refusal is only worth what the whole log says: another coordinator may have gone on."""
        assert waiting.answer is not None, "only an answer can be checked"
        try:
            last = await self._log.last_seq()
        except Unknown:
            _resolve(waiting, Answer(retry=True))
            return
        desk = self._desk
        if desk is None or last > desk.world.seq:
            _resolve(waiting, Answer(retry=True))
            if desk is not None:
                self._fail(Conflict(f"the log is at {last}, this coordinator at {desk.world.seq}"))
            return
        _resolve(waiting, waiting.answer)

    def _broke(self, error: Exception) -> None:
        """A bug: the desk may hold half a thought, so it goes, and what is on the log is read again."""
        logger.exception("the coordinator failed and reads the log again")
        self._fail(Unknown(f"{type(error).__name__}: {error}"))

    def _fail(self, error: BaseException) -> None:
        """An append failed: nothing is known of what follows it. Settle, read, hear again."""
        if self._desk is None or self._closed:
            return
        self._desk = None
        self._opened.clear()
        self._outbox.clear()
        self._stop_timers()
        self._recovery = asyncio.get_running_loop().create_task(self._recover(error))

    async def _recover(self, error: BaseException) -> None:
        await asyncio.gather(*self._in_flight, return_exceptions=True)
        pause = REOPEN_PAUSE_SECONDS
        while True:
            self.trouble = str(error)
            if isinstance(error, Full):
                self._refuse_new_runs(str(error))
            if isinstance(error, Full | Unknown):
                await asyncio.sleep(pause)
                pause = min(pause * 2, REOPEN_PAUSE_SECONDS_MAX)
            try:
                desk = await self._read()
                break
            except (Unknown, HeadwayError) as again:
                error = Unknown(str(again))
            except Exception as again:
                logger.exception("the log could not be read again")
                error = Unknown(f"{type(again).__name__}: {again}")
        self.trouble = ""
        again_heard = list(self._waiting)
        self._waiting.clear()
        self._start(desk)
        for waiting in again_heard:
            waiting.answer = None
            if self._desk is not None:
                self._hear(self._desk, waiting)
            else:
                _resolve(waiting, Answer(retry=True))

    def _refuse_new_runs(self, why: str) -> None:
        """A full log takes no new run; what finishes the present ones is tried again and again."""
        kept = deque[Waiting]()
        for waiting in self._waiting:
            if isinstance(waiting.ask, asks.AdmitRun):
                next_step = "free space or raise log_max_bytes, then submit again"
                _resolve(waiting, Answer(refused=f"the log is full: {why}", code="unavailable", next=next_step))
            else:
                kept.append(waiting)
        self._waiting = kept

    def _lost(self, run: str, job: str, attempt: int) -> None:
        if self.on_lost is not None:
            self.on_lost(run, job, attempt)

    def _stop_timers(self) -> None:
        for handle in (self._think, self._timer):
            if handle is not None:
                handle.cancel()
        self._think = self._timer = None


def _resolve(waiting: Waiting, answer: Answer) -> None:
    if not waiting.future.done():
        waiting.future.set_result(answer)
