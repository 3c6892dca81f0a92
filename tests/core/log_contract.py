"""The log port as a test: whatever keeps a log passes all of this. `test_log.py` runs it on every implementation."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, aclosing

import pytest

from headway.core.log import Conflict, Entry, Full, Log, Stored

Opened = AbstractAsyncContextManager[Log]


def entry(place: int, *, subject: str = "headway.run.shop.r1.ev", id: str = "", body: bytes = b"{}") -> Entry:
    """An entry meant for this place of the log."""
    return Entry(subject=subject, id=id or f"id-{place}", body=body, expect=place - 1)


async def fill(log: Log, count: int, *, start: int = 1, subjects: tuple[str, ...] = ("headway.fleet",)) -> None:
    """Append entries to these subjects in turn."""
    wanted = [entry(place, subject=subjects[place % len(subjects)]) for place in range(start, start + count)]
    await asyncio.gather(*[log.append(one) for one in wanted])


def closing(batches: AsyncIterator[list[Stored]]) -> AbstractAsyncContextManager[AsyncGenerator[list[Stored], None]]:
    """Every implementation gives generators, which are to be closed."""
    assert isinstance(batches, AsyncGenerator)
    return aclosing(batches)


async def take(batches: AsyncIterator[list[Stored]], until: int, *, seconds: float = 10.0) -> list[Stored]:
    """What comes until an entry with this sequence has come."""
    found: list[Stored] = []
    async with asyncio.timeout(seconds):
        while not found or found[-1].seq < until:
            batch = await anext(batches)
            assert batch, "batches are not empty"
            found += batch
    return found


async def read_all(log: Log, **how: object) -> list[Stored]:
    """All that a read gives."""
    found: list[Stored] = []
    async with asyncio.timeout(10), closing(log.read(**how)) as batches:  # type: ignore[arg-type]
        async for batch in batches:
            assert batch, "batches are not empty"
            found += batch
    return found


def sequences(found: list[Stored]) -> list[int]:
    return [one.seq for one in found]


class LogContract:
    """Needs three fixtures: `log` is an empty log, `other` the same log as a second writer has it, and `small_log`
    a function that opens an empty log of 64 KiB.
    """

    async def test_an_empty_log_has_nothing(self, log: Log) -> None:
        """There is no last entry and nothing to read."""
        assert await log.last_seq() == 0
        assert await log.last("headway.fleet") is None
        assert await read_all(log) == []

    async def test_an_entry_is_kept_as_it_was(self, log: Log) -> None:
        """Subject, id and body come back, with a sequence and a time."""
        body = bytes(range(256))
        assert await log.append(entry(1, id="a:b:1:ü", body=body)) == 1
        (found,) = await read_all(log)
        assert (found.seq, found.subject, found.id, found.body) == (1, "headway.run.shop.r1.ev", "a:b:1:ü", body)
        assert found.logged > 1_500_000_000_000_000
        assert await log.last("headway.run.shop.r1.ev") == found

    async def test_sequences_have_no_gaps(self, log: Log) -> None:
        """Many appends in flight, each expecting the one before, are stored in order."""
        futures = [log.append(entry(place)) for place in range(1, 201)]
        assert await asyncio.gather(*futures) == list(range(1, 201))
        assert await log.last_seq() == 200
        assert sequences(await read_all(log)) == list(range(1, 201))

    async def test_time_does_not_go_back(self, log: Log) -> None:
        """Later entries have the same time or a later one."""
        await fill(log, 50)
        times = [one.logged for one in await read_all(log)]
        assert times == sorted(times)

    @pytest.mark.parametrize("expect", [0, 1, 3, 1000])
    async def test_a_wrong_expectation_is_a_conflict(self, log: Log, expect: int) -> None:
        """An entry is stored only behind the one it expects."""
        await fill(log, 2)
        with pytest.raises(Conflict):
            await log.append(Entry(subject="headway.fleet", id="other", body=b"", expect=expect))
        assert await log.last_seq() == 2

    async def test_a_conflict_drops_all_behind_it(self, log: Log, other: Log) -> None:
        """When one of many in flight is refused, those behind it are too, though the sequence they expect is there."""
        await fill(other, 1)
        futures = [log.append(entry(place, id=f"late-{place}")) for place in range(1, 31)]
        results = await asyncio.gather(*futures, return_exceptions=True)
        assert [type(one) for one in results] == [Conflict] * 30
        assert await log.last_seq() == 1
        assert await log.append(entry(2, id="decided-again")) == 2

    async def test_the_same_append_again_gives_its_sequence(self, log: Log) -> None:
        """An entry that is already where it should be is not stored twice, also when others came behind it."""
        await fill(log, 3)
        assert await log.append(entry(2)) == 2
        assert await log.append(entry(3)) == 3
        assert await log.last_seq() == 3

    async def test_a_known_id_elsewhere_is_a_conflict(self, log: Log) -> None:
        """An id that is stored at another place does not pass for a new entry."""
        await fill(log, 3)
        with pytest.raises(Conflict):
            await log.append(entry(4, id="id-1"))
        assert await log.last_seq() == 3

    async def test_a_refused_id_may_be_used_again(self, log: Log) -> None:
        """A conflict does not use up the id."""
        with pytest.raises(Conflict):
            await log.append(entry(5, id="again"))
        assert await log.append(entry(1, id="again")) == 1

    async def test_of_two_writers_one_wins_each_place(self, log: Log, other: Log) -> None:
        """Two writers that race for the same places never both succeed, and nothing behind a lost place is stored."""
        won: dict[int, str] = {}

        async def write(mine: Log, name: str) -> None:
            last = 0
            while last < 200:
                futures = [mine.append(entry(last + n, id=f"{name}-{last + n}")) for n in range(1, 9)]
                results = await asyncio.gather(*futures, return_exceptions=True)
                good = [result for result in results if isinstance(result, int)]
                assert results[: len(good)] == good, "nothing is stored behind a lost place"
                assert all(isinstance(result, Conflict) for result in results[len(good) :])
                assert not won.keys() & set(good), "each place has one winner"
                won.update(dict.fromkeys(good, name))
                last = await mine.last_seq()

        await asyncio.gather(write(log, "a"), write(other, "b"))
        stored = await read_all(log)
        assert {one.seq: one.id for one in stored} == {seq: f"{name}-{seq}" for seq, name in won.items()}
        assert sequences(stored) == list(range(1, len(stored) + 1))

    async def test_last_is_of_one_subject(self, log: Log) -> None:
        """`last` gives the newest entry on exactly the subject asked for."""
        await fill(log, 5, subjects=("headway.ctl", "headway.fleet"))
        ctl, fleet = await log.last("headway.ctl"), await log.last("headway.fleet")
        assert ctl is not None
        assert fleet is not None
        assert (ctl.seq, fleet.seq) == (4, 5)
        assert await log.last("headway.run.shop.r1.ev") is None

    @pytest.mark.parametrize(
        ("start", "end", "expected"),
        [(1, 0, range(1, 11)), (4, 0, range(4, 11)), (4, 6, range(4, 7)), (9, 99, range(9, 11)), (11, 0, range(0))],
    )
    async def test_read_gives_what_is_between(self, log: Log, start: int, end: int, expected: range) -> None:
        """Both ends count, an end of 0 is the last entry, and beyond the end there is nothing."""
        await fill(log, 10)
        assert sequences(await read_all(log, start=start, end=end)) == list(expected)

    @pytest.mark.parametrize(
        ("subjects", "expected"),
        [
            (("headway.fleet",), [3, 6, 9]),
            (("headway.run.*.r1.>",), [1, 2, 4, 5, 7, 8]),
            (("headway.run.*.*.to.local-1",), [2, 5, 8]),
            (("headway.fleet", "headway.run.*.*.to.*"), [2, 3, 5, 6, 8, 9]),
            (("headway.ctl",), []),
        ],
    )
    async def test_filters_choose(self, log: Log, subjects: tuple[str, ...], expected: list[int]) -> None:
        """Reading and following give the entries on the subjects asked for, and read ends without any."""
        places = ("headway.fleet", "headway.run.shop.r1.ev", "headway.run.shop.r1.to.local-1")
        await fill(log, 9, subjects=places)
        assert sequences(await read_all(log, subjects=subjects)) == expected
        if expected:
            async with closing(log.follow(start=1, subjects=subjects)) as batches:
                assert sequences(await take(batches, expected[-1])) == expected

    async def test_read_ends_where_the_log_ended_when_it_began(self, log: Log) -> None:
        """What is appended while a read goes on does not keep it from ending."""
        await fill(log, 1200)
        async with closing(log.read()) as batches:
            found = await anext(batches)
            await fill(log, 50, start=1201)
            async for batch in batches:
                found = found + batch
        assert sequences(found) == list(range(1, 1201))

    async def test_follow_gives_what_is_there_and_what_comes(self, log: Log) -> None:
        """A follower gets each entry once, in order, old ones and new ones."""
        await fill(log, 5)
        async with closing(log.follow(start=3)) as batches:
            assert sequences(await take(batches, 5)) == [3, 4, 5]
            waiting = asyncio.ensure_future(take(batches, 8))
            await fill(log, 3, start=6)
            assert sequences(await waiting) == [6, 7, 8]

    async def test_follow_may_start_beyond_the_end(self, log: Log) -> None:
        """A follower that has everything waits for the next entry."""
        async with closing(log.follow(start=3)) as batches:
            waiting = asyncio.ensure_future(take(batches, 4))
            await fill(log, 4)
            assert sequences(await waiting) == [3, 4]

    async def test_a_slow_follower_misses_nothing(self, log: Log) -> None:
        """Whoever stops reading for a while finds all of it later, and does not hold up the writer."""
        await fill(log, 10)
        async with closing(log.follow(start=1)) as batches:
            found = await anext(batches)
            await fill(log, 3000, start=11)
            found = found + await take(batches, 3010)
        assert sequences(found) == list(range(1, 3011))

    async def test_a_waiting_follower_can_be_cancelled(self, log: Log) -> None:
        """Giving up on the next entry loses none of those that come later."""
        for place in range(1, 6):
            async with closing(log.follow(start=place)) as batches:
                waiting = asyncio.ensure_future(take(batches, place))
                await asyncio.sleep(0)
                waiting.cancel()
                await asyncio.gather(waiting, return_exceptions=True)
            await fill(log, 1, start=place)
        assert sequences(await read_all(log)) == [1, 2, 3, 4, 5]

    async def test_many_follow_at_once(self, log: Log) -> None:
        """Followers do not take entries from each other."""

        async def follow(start: int) -> list[int]:
            async with closing(log.follow(start=start)) as batches:
                return sequences(await take(batches, 100))

        waiting = [asyncio.ensure_future(follow(start)) for start in (1, 1, 50, 100)]
        await fill(log, 100)
        assert await asyncio.gather(*waiting) == [list(range(start, 101)) for start in (1, 1, 50, 100)]

    async def test_a_full_log_says_so(self, small_log: Callable[[], Opened]) -> None:
        """At its limit the log refuses with Full, stores nothing of it, and keeps what it has."""
        async with small_log() as log:
            place, refused = 0, None
            while refused is None and place < 1000:
                try:
                    place = await log.append(entry(place + 1, body=b"x" * 1000))
                except Full as error:
                    refused = error
            assert refused is not None
            assert 0 < place < 1000
            assert await log.last_seq() == place
            assert sequences(await read_all(log)) == list(range(1, place + 1))
