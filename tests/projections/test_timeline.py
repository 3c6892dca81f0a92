"""Timelines of runs: sums that hold to the microsecond, whatever went wrong, and clocks that change nothing."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import aiosqlite
import msgspec
import pytest

from headway.core.clock import rfc3339
from headway.core.envelope import decode, encode
from headway.core.errors import NotFoundError
from headway.core.events import JobAdmitted, JobCompleted, Prepared, RunAdmitted, RunCompleted
from headway.core.log import Stored
from headway.projections.apply import Fold, fold_batch
from headway.projections.clocks import ClockRecord, ClocksRecord, clocks, verdict
from headway.projections.store import Store
from headway.projections.timeline import HandoffRecord, TimelineRecord, timeline
from tests.core.simulation import Simulation
from tests.projections.histories import RUNNER, History, eventful

SEEDS = 40
HOUR_US = 3_600_000_000


@asynccontextmanager
async def tables(entries: Sequence[Stored], folder: Path) -> AsyncGenerator[aiosqlite.Connection, None]:
    """The tables after these entries of a log."""
    store = await Store.open(folder / f"{len(list(folder.iterdir()))}.db")
    try:
        await fold_batch(Fold(), store, list(entries))
        async with store.reading() as db:
            yield db
    finally:
        await store.close()


def simulated(seed: int) -> list[Stored]:
    """The log of a service to which everything happened."""
    simulation = Simulation(seed)
    simulation.run()
    return simulation.log.entries


def log_times(entries: Sequence[Stored]) -> dict[tuple[str, str, str], int]:
    """When each run and job was admitted and when it completed, by the log's clock, which is not believed to go back.

    Read from the events alone: what the tables say must agree with this.
    """
    found: dict[tuple[str, str, str], int] = {}
    now = 0
    for stored in entries:
        now = max(now, stored.logged)
        envelope = decode(stored.body)
        match envelope.data:
            case RunAdmitted() | JobAdmitted():
                found.setdefault((envelope.run, envelope.job, "admitted"), now)
            case RunCompleted() | JobCompleted():
                found.setdefault((envelope.run, envelope.job, "completed"), now)
            case _:
                pass
    return found


def microseconds(text: str) -> int:
    """A time as text, exactly."""
    moment = datetime.fromisoformat(text)
    return int(moment.replace(microsecond=0).timestamp()) * 1_000_000 + moment.microsecond


def waits_for(entries: Sequence[Stored]) -> set[tuple[str, str, str]]:
    """Run, job, and a job that it depends on, of all there are."""
    found: set[tuple[str, str, str]] = set()
    for envelope in (decode(stored.body) for stored in entries):
        if isinstance(envelope.data, JobAdmitted):
            found |= {(envelope.run, envelope.job, name) for name in envelope.data.depends_on}
    return found


def check(found: TimelineRecord, entries: Sequence[Stored], now_us: int) -> None:
    """Every sum of a timeline, and that the path goes from job to job where one waits for the other."""
    times, waiting = log_times(entries), waits_for(entries)
    run = found.run.run
    jobs: dict[str, list[HandoffRecord]] = {}
    for one in found.handoffs:
        jobs.setdefault(one.job, []).append(one)
    assert set(jobs) == {job for known, job, _ in times if known == run and job}
    for job, handoffs in jobs.items():
        end = times.get((run, job, "completed"), now_us)
        states = [one for one in handoffs if not one.phase]
        assert sum(one.duration_us for one in states) == end - times[run, job, "admitted"]
        assert [one.left for one in states[:-1]] == [one.entered for one in states[1:]]
        assert (states[-1].left is None) == ((run, job, "completed") not in times)
        assert all(one.duration_us == round(one.duration_ms * 1000) >= one.critical_us >= 0 for one in handoffs)
        check_phases(handoffs)
    end = times.get((run, "", "completed"), now_us)
    edges = [(microseconds(part.entered), microseconds(part.left)) for part in found.path]
    assert [left for left, _ in edges] == [times[run, "", "admitted"], *(right for _, right in edges)][: len(edges)]
    assert sum(part.duration_us for part in found.path) == end - times[run, "", "admitted"]
    assert not edges or edges[-1][1] == end
    on_path = [part.job for part in found.path if part.job]
    joined = {(run, after, before) for before, after in pairwise(on_path) if before != after}
    assert joined <= waiting
    explained = sum(one.critical_us for one in found.handoffs if not one.phase)
    assert explained == sum(part.duration_us for part in found.path if part.seq is not None)


def check_phases(handoffs: list[HandoffRecord]) -> None:
    """Phases follow their state, lie inside it and do not overlap."""
    state = handoffs[0]
    now = ""
    for one in handoffs:
        if not one.phase:
            state, now = one, one.entered
            continue
        assert one.state == state.state == ("queued" if one.phase == "back-off" else "preparing")
        assert (one.seq, one.attempt) == (state.seq, state.attempt)
        assert now <= one.entered
        assert one.duration_us <= state.duration_us
        assert state.left is None or (one.left is not None and one.entered <= one.left <= state.left)
        now = one.left or now


@pytest.mark.parametrize("first", range(0, SEEDS, 10))
async def test_every_sum_holds_whatever_went_wrong(first: int, tmp_path: Path) -> None:
    """States add up to their job, the path to its run; while a run goes on, both up to now."""
    for seed in range(first, first + 10):
        entries = simulated(seed)
        for part in (entries, entries[: len(entries) // 2], entries[: len(entries) // 7]):
            times = log_times(part)
            now_us = max(one.logged for one in part) + 1_234_567
            async with tables(part, tmp_path) as db:
                for run in {run for run, _, _ in times}:
                    check(await timeline(db, run, now_us), part, now_us)


async def test_every_sum_holds_at_every_sequence(tmp_path: Path) -> None:
    """A run that was retried, lost, cancelled and skipped adds up after each of its events."""
    entries = eventful().log.entries
    store = await Store.open(tmp_path / "headway.db")
    fold = Fold()
    for at, stored in enumerate(entries, 1):
        await fold_batch(fold, store, [stored])
        times, now_us = log_times(entries[:at]), stored.logged + 17
        async with store.reading() as db:
            for run in {run for run, _, _ in times}:
                check(await timeline(db, run, now_us), entries[:at], now_us)
    await store.close()


async def test_a_timeline_says_who_held_what_and_why(tmp_path: Path) -> None:
    """Each stay with its holder, the event that led to it, and what came next; phases with the state they are of."""
    history = History()
    history.register()
    run = history.admit({"build": ()})
    history.queue(run, "build")
    history.assign(run, "build")
    history.prepare(run, "build")
    executed = history.execute(run, "build")
    history.upload(run, "build")
    history.complete(run, "build")
    history.end(run)
    async with tables(history.log.entries, tmp_path) as db:
        found = await timeline(db, run, history.clock.wall_us())
    told = [(one.attempt, one.state, one.phase, one.holder, one.next) for one in found.handoffs]
    assert told == [
        (0, "admitted", "", "dependencies", "queued"),
        (1, "queued", "", "queue", "assigned"),
        (1, "assigned", "", RUNNER, "preparing"),
        (1, "preparing", "", RUNNER, "executing"),
        (1, "preparing", "source", RUNNER, ""),
        (1, "executing", "", RUNNER, "uploading"),
        (1, "uploading", "", RUNNER, "succeeded"),
    ]
    assert [one.seq for one in found.handoffs] == [3, 4, 5, 6, 6, executed, executed + 1]
    assert found.attempts[0].outcome == "succeeded"
    assert (found.clocks, found.log_behind_ms, found.as_of) == ([], 0, history.seq)


async def test_phases_that_claim_more_than_there_was_stay_inside(tmp_path: Path) -> None:
    """A runner's own durations are cut to the log's; one that goes back, or has no name, counts for nothing."""
    history = History()
    run = history.admit({"build": ()})
    history.queue(run, "build")
    history.assign(run, "build")
    history.prepare(run, "build")
    history.clock.advance(1)
    history.execute(run, "build")
    claimed = {"source": 300, "": 200, "cache": -5, "image": 0, "inputs": 10**9}
    claims = tuple(Prepared(what=what, duration_ms=duration_ms) for what, duration_ms in claimed.items())
    entries = [*history.log.entries]
    envelope = decode(entries[-1].body)
    body = encode(msgspec.structs.replace(envelope, data=msgspec.structs.replace(envelope.data, prepared=claims)))
    entries[-1] = msgspec.structs.replace(entries[-1], body=body)
    async with tables(entries, tmp_path) as db:
        found = await timeline(db, run, history.clock.wall_us())
    check(found, entries, history.clock.wall_us())
    phases = [(one.phase, one.duration_ms) for one in found.handoffs if one.phase]
    assert phases == [("source", 300.0), ("cache", 0.0), ("image", 0.0), ("inputs", 701.0)]


async def test_a_run_that_is_not_there(tmp_path: Path) -> None:
    """A name that no run has is not found."""
    async with tables(eventful().log.entries, tmp_path) as db:
        with pytest.raises(NotFoundError):
            await timeline(db, "nobody", 0)


# Clocks


def at_shifted(entries: Sequence[Stored], shift: Callable[[str, int], int]) -> list[Stored]:
    """The same log, written by runners with other clocks: `shift` is asked with the actor and the sequence."""
    found = []
    for stored in entries:
        envelope = decode(stored.body)
        off = shift(envelope.actor, stored.seq) if envelope.actor.startswith("runner:") else 0
        body = encode(msgspec.structs.replace(envelope, at=envelope.at + off))
        found.append(msgspec.structs.replace(stored, body=body))
    return found


def without_clocks(found: TimelineRecord) -> Any:
    """What must not depend on a runner's clock."""
    return msgspec.to_builtins(msgspec.structs.replace(found, clocks=[]))


async def handoffs(db: aiosqlite.Connection) -> list[tuple[Any, ...]]:
    """All that latencies are made of."""
    return [tuple(row) for row in await db.execute_fetchall("select * from timeline order by id")]


@pytest.mark.parametrize("hours", [-1, 1])
async def test_a_clock_that_is_an_hour_off_changes_no_latency_and_is_shown(hours: int, tmp_path: Path) -> None:
    """The timelines of all runs are the same to the microsecond; the runner is named with how far it is off."""
    entries = eventful().log.entries
    off = at_shifted(entries, lambda actor, seq: hours * HOUR_US if actor == f"runner:{RUNNER}" else 0)
    now_us = entries[-1].logged
    async with tables(entries, tmp_path) as right, tables(off, tmp_path) as wrong:
        assert await handoffs(right) == await handoffs(wrong)
        for run in {run for run, _, _ in log_times(entries)}:
            one, other = await timeline(right, run, now_us), await timeline(wrong, run, now_us)
            assert without_clocks(one) == without_clocks(other)
            assert one.clocks == []
            spoke = any(attempt.runner == RUNNER for attempt in one.attempts)
            assert [clock.runner for clock in other.clocks] == ([RUNNER] if spoke else [])
            assert all(abs(clock.skew_ms - hours * 3_600_000) < 100 for clock in other.clocks)
        assert [clock.runner for clock in (await clocks(wrong)).runners] == [RUNNER]
        assert (await clocks(right)).runners == []


@pytest.mark.parametrize("seed", range(4))
async def test_clocks_change_no_latency_in_any_history(seed: int, tmp_path: Path) -> None:
    """Runners whose clocks jump from event to event leave every latency as it is."""
    entries = simulated(seed)
    off = at_shifted(entries, lambda actor, seq: (seq % 3 - 1) * HOUR_US)
    async with tables(entries, tmp_path) as right, tables(off, tmp_path) as wrong:
        assert await handoffs(right) == await handoffs(wrong)


async def test_facts_that_come_late_are_no_clock_that_is_behind(tmp_path: Path) -> None:
    """What lay in a spool for an hour says the time at which it happened, and nothing false about its clock."""
    history = History()
    run = history.admit({"build": ()})
    history.queue(run, "build")
    assigned = history.assign(run, "build")
    history.clock.advance(3600)
    history.prepare(run, "build")
    history.execute(run, "build")
    late = at_shifted(history.log.entries, lambda actor, seq: -3_599_000_000)
    behind = at_shifted(history.log.entries, lambda actor, seq: -2 * HOUR_US)
    async with tables(late, tmp_path) as db:
        [(skew_us,)] = await db.execute_fetchall("select skew_us from attempts")
        assert skew_us == -3_599_000_000
        assert (await timeline(db, run, 0)).clocks == (await clocks(db)).runners == []
    async with tables(behind, tmp_path) as db:
        [clock] = (await timeline(db, run, 0)).clocks
        assert clock.skew_ms == -3_599_999
    assert assigned == 4


async def test_a_runner_that_never_had_the_time_right_is_judged_by_its_worst_attempt(tmp_path: Path) -> None:
    """Each runner once, the worst first."""
    history = History()
    first, second = history.pass_run(), history.pass_run()
    runs = {seq: decode(stored.body).run for seq, stored in enumerate(history.log.entries, 1)}
    off = at_shifted(history.log.entries, lambda actor, seq: 5_000_000 if runs[seq] == first else -9_000_000)
    async with tables(off, tmp_path) as db:
        assert [one.skew_ms for one in (await timeline(db, first, 0)).clocks] == [5_000]
        assert [one.skew_ms for one in (await timeline(db, second, 0)).clocks] == [-8_999]
        assert [one.skew_ms for one in (await clocks(db)).runners] == [-8_999]
        assert (await clocks(db, events=1)).runners == []


async def test_the_logs_own_steps_back_are_shown(tmp_path: Path) -> None:
    """While the log's clock is behind its earlier time, durations are 0, and how far it was behind is said."""
    history = History()
    before, run = history.pass_run(), history.pass_run()
    stepped = history.seq - 5
    entries = [
        msgspec.structs.replace(one, logged=one.logged - 60_000_000 * (one.seq >= stepped))
        for one in history.log.entries
    ]
    now_us = history.clock.wall_us()
    async with tables(entries, tmp_path) as db:
        found, said = await timeline(db, run, now_us), await clocks(db)
        check(found, entries, now_us)
        assert (found.log_behind_ms, (await timeline(db, before, now_us)).log_behind_ms) == (59_999, 0)
    assert sum(one.duration_us for one in found.handoffs if one.seq >= stepped) == 0
    assert (said.steps_back, said.step_back_ms, said.step_back_seq) == (1, 59_999, stepped)


def test_what_is_said_of_the_clocks() -> None:
    """Runners that are off and a fresh step of the log's clock are warnings; an old step is only told."""
    right = ClocksRecord(as_of=9_000, runners=[], steps_back=0, step_back_ms=0, step_back_seq=0)
    assert verdict(right) == ("ok", "runners and log agree to the second, and the log's never went back")
    stepped = msgspec.structs.replace(right, steps_back=2, step_back_ms=1500, step_back_seq=10)
    level, words = verdict(stepped)
    assert (level, words.split(";")[0]) == (
        "ok",
        "the log's own clock went back 2 times, by 1.5 s at most, last at event 10",
    )
    assert verdict(msgspec.structs.replace(stepped, steps_back=1, step_back_seq=8_999))[0] == "warning"
    off = [ClockRecord(runner=f"r{at}", skew_ms=(-1) ** at * 3_600_000) for at in range(5)]
    level, words = verdict(msgspec.structs.replace(right, runners=off))
    assert level == "warning"
    assert words.startswith("runner r0 is 3600.0 s ahead of the log; runner r1 is 3600.0 s behind the log; runner r2")
    assert "; 2 more runners are off; " in words


def test_times_are_text_to_the_microsecond() -> None:
    """What is cut into seconds and put together again is the same moment."""
    for moment in (0, 1, 999_999, 1_750_000_000_000_000, 1_750_000_000_000_001, 1_750_000_001_999_999):
        assert microseconds(rfc3339(moment).replace("Z", "+00:00")) == moment
