"""What keeps a verification from looking at everything is said, is no finding, and leaves nothing behind."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from pathlib import Path

import msgspec
import pytest

from headway.cli.control import Request
from headway.cli.questions.verify import projections_verify, verify
from headway.core.errors import UnavailableError
from headway.core.log import Stored, Unknown
from headway.projections.rebuild import Scratch, rebuild
from headway.projections.scratch import LEFT_BYTES, WAITING, busy
from headway.projections.store import Store
from headway.projections.verifying import Refold, still
from tests.projections.histories import History, eventful
from tests.tampering import Entries, ListLog, Place, QuietView, place_of, report, with_names

FAST_SECONDS = 4.0


@pytest.fixture
async def place(tmp_path: Path) -> Place:
    """A service's day, in its log and in its tables."""
    return await place_of(with_names(eventful().log.entries), tmp_path)


def left(place: Place) -> list[str]:
    """The files beside the tables, but for SQLite's own."""
    return sorted(one.name for one in place.path.parent.iterdir() if one.name not in ("blobs", "headway.db"))


class TiredLog(ListLog):
    """A log that says its end so many times, as if it were short, and then cannot be reached."""

    def __init__(self, entries: Entries, ends: Sequence[int]) -> None:
        super().__init__(entries)
        self.ends = list(ends)

    async def last_seq(self) -> int:
        if not self.ends:
            raise Unknown("no answer in time")
        return self.ends.pop(0)


@pytest.mark.parametrize("ends", [[], [60]])
@pytest.mark.parametrize("run", [False, True])
async def test_log_that_does_not_answer_is_no_finding(place: Place, ends: list[int], run: bool) -> None:
    """A log that cannot be asked, before or after its first word, has lost nothing; only it was not checked."""
    place.blobs.folder.mkdir()
    view = QuietView(place.path, place.blobs, TiredLog(place.entries, ends))
    found = await report(view, run=place.runs[0] if run else "")
    assert [one for one in found["findings"] if one["code"] != "blob"] == []
    assert (found["log"], found["incomplete"], found["ok"]) == (False, ["events"], False)
    assert found["not_checked"] == ["the log: no answer in time"]
    assert found["checked"]["rows"] > 20


async def test_without_a_service_the_log_is_not_wanted(place: Place) -> None:
    """That the service is not running is said, and everything that was to be checked was."""
    found = await report(place.view(log=False), tables_only=True)
    assert (found["log"], found["incomplete"], found["ok"]) == (False, [], True)


async def test_tables_that_cannot_be_made_again_are_not_well(place: Place) -> None:
    """Where no second tables can be had, the rows are not checked, and it is not well; nor is anything wrong."""
    scratch = place.path.with_name(f"{place.path.name}.verifying-{os.getpid()}")
    scratch.mkdir()
    for found in (await report(place.view(), tables_only=True), await place.found()):
        assert (found["findings"], found["incomplete"], found["ok"]) == ([], ["tables"], False)
        assert found["not_checked"][0].startswith("the rows: ")
        assert found["checked"]["rows"] == 0
    assert (await place.found(run=place.runs[0]))["incomplete"] == []


async def test_tables_that_are_behind_are_not_well(place: Place, tmp_path: Path) -> None:
    """Rows that the tables do not have yet were not checked, whatever is said of the others."""
    view = place.view()
    view.trouble = "they are slow"
    found = await report(view, tables_only=True)
    assert (found["findings"], found["incomplete"], found["ok"]) == ([], ["tables"], False)


async def test_room_that_the_log_needs_is_left(place: Place) -> None:
    """Second tables stop before they take what the log needs, when they are verified and when they are made again."""
    most = len(b"".join(one.body for one in place.entries))
    asked_for: list[Path] = []

    def little(folder: Path) -> int:
        asked_for.append(folder)
        return LEFT_BYTES + most

    async with still(place.path) as db:
        refold = await Refold.begin(place.path, db, len(place.entries), free=little)
        await refold.finish()
        await refold.close()
    assert "no space is left" in refold.trouble
    assert asked_for == [place.path.parent]
    scratch = await Scratch.begin(ListLog(place.entries), place.path, free=lambda folder: LEFT_BYTES)
    with pytest.raises(UnavailableError, match="no space is left"):
        await scratch.fold(until=len(place.entries))
    await scratch.close()
    assert left(place) == []
    assert not busy(place.path)


async def test_second_tables_that_cannot_be_opened_leave_nothing(tmp_path: Path) -> None:
    """Where opening fails nobody owns the file yet, and it is gone all the same; the next one can be opened."""
    path = tmp_path / "headway.db"
    path.with_name("headway.db.rebuilding-journal").mkdir()
    log = ListLog(with_names(eventful().log.entries))
    with pytest.raises(UnavailableError, match=r"rebuilding cannot be opened"):
        await rebuild(log, path)
    assert [one.name for one in tmp_path.iterdir()] == ["headway.db.rebuilding-journal"]
    path.with_name("headway.db.rebuilding-journal").rmdir()
    await rebuild(log, path)
    assert [one.name for one in tmp_path.iterdir()] == ["headway.db"]


async def test_one_fills_second_tables_at_a_time(place: Place) -> None:
    """Who comes second is told so and waits; a rebuild and a verification do not fill the disk together."""
    said: list[str] = []

    async def whole(question: str) -> bool:
        request = Request(op=question, arguments={"all": True}, actor="user:ada", progress=said.append)
        answers = (verify if question == "verify" else projections_verify)(place.view(), request)
        [found] = [one async for one in answers]
        return not [one for one in found["findings"] if one["code"] != "blob"]

    scratch = await Scratch.begin(ListLog(place.entries), place.path)
    waiting = [asyncio.create_task(whole(question)) for question in ("verify", "projections_verify")]
    await asyncio.sleep(0)
    assert said == [WAITING, WAITING]
    await scratch.fold(until=len(place.entries))
    assert left(place) == ["headway.db.rebuilding"]
    await scratch.close()
    async with asyncio.timeout(30):
        assert await asyncio.gather(*waiting) == [True, True]
    assert left(place) == []


async def test_large_run_on_a_clock_that_went_back_is_checked_quickly(tmp_path: Path) -> None:
    """A run of thousands of events is checked in a moment, however the log's clock went."""
    history = History()
    for _ in range(2):
        history.pass_run(jobs=450)
    entries = [_late(one) for one in with_names(history.log.entries)]
    place = await place_of(entries, tmp_path)
    assert len(entries) > 7_000
    async with asyncio.timeout(FAST_SECONDS):
        found = await place.found(run=place.runs[1])
    assert found["findings"] == []
    assert found["checked"]["rows"] > 7_000


def _late(stored: Stored) -> Stored:
    return msgspec.structs.replace(stored, logged=stored.logged - 3_600_000_000 * (stored.seq > 2_000))


async def test_second_tables_are_closed_when_their_opening_is_given_up(tmp_path: Path) -> None:
    """Opening that is cancelled leaves no file and no thread."""
    for turns in range(40):
        opening = asyncio.create_task(Store.open_scratch(tmp_path / "scratch.db"))
        for _ in range(turns // 8 + 1):
            await asyncio.sleep(0)
        opening.cancel()
        await asyncio.gather(opening, return_exceptions=True)
        assert opening.cancelled() or opening.exception() is not None
        assert list(tmp_path.iterdir()) == []
