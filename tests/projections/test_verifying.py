"""A row, an event or a copy of one that was changed, left out or put in is found and named; whole tables are whole."""

from __future__ import annotations

import re
import shutil
import sqlite3
from pathlib import Path

import msgspec
import pytest

from headway.core.envelope import decode
from headway.core.errors import NotFoundError, UnavailableError, UsageError
from headway.projections.rebuild import rebuild
from tests.projections.histories import eventful
from tests.tampering import (
    Entries,
    ListLog,
    Place,
    Tamper,
    asked,
    changed,
    left_out,
    place_of,
    put_in,
    renamed,
    report,
    swapped,
    with_names,
    words_of,
)


@pytest.fixture
async def place(tmp_path: Path) -> Place:
    """A service's day, in its log and in its tables."""
    return await place_of(with_names(eventful().log.entries), tmp_path)


@pytest.mark.parametrize("log", [True, False])
async def test_whole_tables_are_found_whole(place: Place, log: bool) -> None:
    """Nothing is found in tables that were left alone, as a whole and run by run, and nothing is left behind."""
    everything = await place.found(log=log)
    assert everything["findings"] == []
    assert everything["checked"]["events"] == len(place.entries)
    assert everything["checked"]["runs"] == 5
    for run in place.runs:
        assert (await place.found(log=log, run=run))["findings"] == []
    only = await report(place.view(log=log), tables_only=True)
    assert (only["ok"], only["findings"], "blobs" in only["checked"]) == (True, [], False)
    assert bool(only["not_checked"]) is not log
    assert [one.name for one in place.path.parent.iterdir() if "verifying" in one.name] == []


ROWS = [
    ("update runs set outcome = 'failed', status = 'failed' where seq = 4", "runs (number 4)"),
    ("delete from runs where seq = 33", "runs (number 33)"),
    ("update jobs set state = 'queued' where run = (select run from runs where seq = 4) and job = 'job-1'", "job-1"),
    ("delete from jobs where job = 'lint'", "lint' of jobs"),
    ("update attempts set runner = 'other-00000000' where attempt = 2", "build 2' of attempts"),
    ("delete from attempts where run = (select run from runs where seq = 85)", "build 1' of attempts"),
    ("update steps set exit_code = 9 where run = (select run from runs where seq = 33)", "of steps: exit_code is 9"),
    ("delete from steps where job = 'job-2'", "job-2 1 0' of steps is missing"),
    ("update timeline set \"left\" = \"left\" + 1 where id = 5", "of timeline"),
    ("delete from timeline where id = 9", "of timeline"),
    ("update jobs set cause = 'nothing' where job = 'test' and state = 'completed'", "cause is 'nothing'"),
    ("insert into steps select run, job, 7, step, name, shell, tried, outcome, exit_code, signal, reason, started,"
     " ended, duration_ms from steps where job = 'job-0'", "job-0 7 0' of steps is there, and nothing on the log"),
]  # fmt: skip

SHARED = [
    ("update runners set state = 'active' where runner like 'spare%'", "'spare-00000001' of runners: state is"),
    ("delete from runners where runner like 'third%'", "'third-00000002' of runners is missing"),
    ("update fleet set paused_since = 5, paused_by = 'user:eve', paused_reason = ''", "'1' of fleet"),
    ("delete from coordinator", "'1' of coordinator is missing"),
    ("update coordinator set pid = 666", "'1' of coordinator: pid is 666"),
    ("update meta set steps_back = 3", "'1' of meta: steps_back is 3"),
    ("update meta set position = position - 1", "'1' of meta: position is"),
    ("update meta set schema_version = 1", "'1' of meta: schema_version is 1"),
    ("insert into names (name) values ('x')", "'1' of names is there"),
    ("insert into chunks values (0, 1, 2, 3)", "'0' of chunks is there"),
    ("insert into samples values (0, 'left', x'00')", "'0 left' of samples is there"),
    ("drop index runs_by_end", "index runs_by_end is missing"),
    ("create table more (one integer)", "table more does not belong there"),
    ("create trigger t after insert on runs begin delete from runs; end", "trigger t does not belong there"),
]


@pytest.mark.parametrize(("tamper", "words"), ROWS + SHARED)
async def test_changed_row_is_named(place: Place, tamper: str, words: str) -> None:
    """A row that is not what the log makes of it is named with its table and key, by verify and by projections."""
    place.sql(tamper)
    found = await place.found()
    assert not found["ok"]
    assert words in words_of(found)
    only = await report(place.view(), tables_only=True)
    assert not only["ok"]
    assert words in words_of(only)
    assert not (await place.found(log=False))["ok"]


@pytest.mark.parametrize(("tamper", "words"), ROWS)
async def test_changed_row_of_a_run_is_named_by_its_run(place: Place, tamper: str, words: str) -> None:
    """Verifying the one run finds it too, and verifying the others does not."""
    place.sql(tamper)
    named = [run for run in place.runs if not (await place.found(run=run))["ok"]]
    whole = await place.found()
    ids = {one.get("run") for one in whole["findings"] if one["table"] != "timeline"}
    assert named != []
    assert ids <= set(named) or "timeline" in tamper


async def test_every_column_of_every_table_is_compared(place: Place, tmp_path: Path) -> None:
    """Whatever column of a row is changed, in whatever table there is, that table is named."""
    kept = tmp_path / "kept"
    shutil.copy(place.path, kept)
    values = {"INTEGER": "12345678", "TEXT": "'zz'", "BLOB": "x'00'"}
    for table in ("meta", "events", "timeline", "runs", "jobs", "attempts", "steps", "runners", "fleet", "coordinator"):
        connection = sqlite3.connect(kept)
        columns = [row[1:3] for row in connection.execute(f"pragma table_info({table})") if row[1] != "one"]
        names = ", ".join(f'"{name}"' for name, _ in columns)
        middle = f"limit 1 offset (select count(*) / 2 from {table})"
        [row] = connection.execute(f"select {names} from {table} {middle}")
        connection.close()
        same = [f'"{name}" is {_literal(value)}' for (name, _), value in zip(columns, row, strict=True)]
        where = " and ".join(same)
        for name, kind in columns:
            shutil.copy(kept, place.path)
            place.sql(f'update {table} set "{name}" = {values[kind.upper()]} where {where}')
            found = await place.found()
            assert table in {one.get("table") for one in found["findings"]}, f"{table}.{name}"


def _literal(value: object) -> str:
    if value is None:
        return "null"
    return f"x'{value.hex()}'" if isinstance(value, bytes) else repr(value)


COPIES = [
    ("delete from events where seq = 13", 13),
    ("update events set body = cast(replace(body, 'job-0', 'job-9') as blob) where seq = 9", 9),
    ("update events set type = 'job.queued' where seq = 12", 12),
    ("update events set job = 'job-2' where seq = 20", 20),
    ("update events set attempt = 3 where seq = 25", 25),
    ("update events set n = 3 where seq = 41", 41),
    ("update events set run = 'x' where seq = 50", 50),
    ("update events set actor = 'user:eve' where seq = 95", 95),
    ("update events set at = at + 1 where seq = 60", 60),
    ("update events set logged = logged + 1 where seq = 62", 62),
    ("update events set time = time - 1 where seq = 77", 77),
    ("update events set body = x'' where seq = 83", 83),
    ("insert into events select 900, run, 900, type, job, attempt, logged, time, at, actor, body from events"
     " where seq = 84", 900),
]  # fmt: skip


@pytest.mark.parametrize(("tamper", "seq"), COPIES)
async def test_changed_copy_of_an_event_is_named(place: Place, tamper: str, seq: int) -> None:
    """The tables keep a copy of each event; one that differs from the log is named, with the run and without."""
    place.sql(tamper)
    found = await place.found()
    assert not found["ok"]
    assert re.search(rf"event {seq}\b", words_of(found))
    run = decode(place.entries[(seq if seq < 900 else 84) - 1].body).run
    one = await place.found(run=run)
    assert not one["ok"]
    assert re.search(rf"event {seq}\b", words_of(one))


LOGS: list[tuple[Tamper, int]] = [
    (left_out(13, gap=True), 13),
    (put_in(14, b"{", "headway.fleet"), 14),
    (left_out(4, gap=True), 4),
    (left_out(84, gap=True), 84),
    (left_out(95, gap=True), 95),
    (changed(9, actor="user:eve"), 9),
    (changed(84, named=True, at=7), 84),
    (changed(100, named=True, at=7), 100),
    (changed(73, named=True, data={"missing": "lost"}), 73),
    (swapped(48), 48),
    (lambda entries: entries[:98], 99),
    (lambda entries: [one for one in entries if not 60 <= one.seq <= 84], 70),
]


@pytest.mark.parametrize(("tamper", "seq"), LOGS, ids=range(len(LOGS)))
async def test_changed_log_is_told_by_the_tables(place: Place, tamper: Tamper, seq: int) -> None:
    """What the log has lost or has otherwise is named by the copy in the tables, also where its chain is whole."""
    entries = tamper(place.entries)
    found = await place.found(entries)
    assert not found["ok"]
    assert re.search(rf"event {seq}\b", words_of(found))
    run = decode(place.entries[seq - 1].body).run
    if run:
        one = await place.found(entries, run=run)
        assert not one["ok"]
        assert re.search(rf"event {seq}\b", words_of(one))


async def test_rows_are_checked_where_the_log_has_holes(place: Place) -> None:
    """A lost event does not keep a changed row from being found, and makes no other row wrong."""
    place.sql("update steps set exit_code = 9 where job = 'job-2'")
    found = await place.found(left_out(13, gap=True)(place.entries))
    assert sorted({one.get("table") for one in found["findings"] if one["code"] == "row"}) == ["steps"]
    assert {one["seq"] for one in found["findings"] if one["code"] in ("gone", "missing")} == {13, 14}


async def test_tables_of_a_broken_log_are_checked(place: Place, tmp_path: Path) -> None:
    """Tables that stand still before a hole or an unreadable event are whole as far as they go."""
    entries = [renamed(one, b"{") if one.seq == 40 else one for one in place.entries if one.seq != 60]
    await rebuild(ListLog(place.entries[:39]), tmp_path / "short" / "headway.db")
    place.path = tmp_path / "short" / "headway.db"
    found = await place.found(entries, trouble="they are at event 39")
    assert [(one["code"], one["seq"]) for one in found["findings"]][:2] == [("unreadable", 40), ("changed", 41)]
    assert "event 60 is missing" in words_of(found)
    assert [one for one in found["findings"] if one["code"] == "row"] == []


async def test_tables_behind_the_log_are_not_wrong(place: Place, tmp_path: Path) -> None:
    """Events that came meanwhile are no difference, and are said not to have been compared."""
    await rebuild(ListLog(place.entries[:20]), tmp_path / "short" / "headway.db")
    place.path = tmp_path / "short" / "headway.db"
    whole = await place.found(trouble="they are slow")
    one = await place.found(run=place.runs[0], trouble="they are slow")
    assert whole["findings"] == one["findings"] == []
    slow = "what the tables do not have yet: they are slow"
    assert whole["not_checked"] == [slow]
    assert one["not_checked"] == [slow, "12 events of the run came after event 20, where the tables are"]


async def test_tables_that_were_cut_off_are_wrong(place: Place, tmp_path: Path) -> None:
    """Tables that end before the log though nothing keeps them from its end were put back to an earlier day."""
    await rebuild(ListLog(place.entries[:20]), tmp_path / "short" / "headway.db")
    place.path = tmp_path / "short" / "headway.db"
    for found in (await place.found(), await place.found(run=place.runs[0])):
        assert "the tables end at event 20, and the log at event 107" in words_of(found)


async def test_log_cut_off_is_told_by_tables_that_were_set_aside(place: Place, tmp_path: Path) -> None:
    """Where the tables were made again of a log that was cut and went on, the old ones still know what it was."""
    shutil.copy(place.path, place.path.with_name("headway.db.set-aside"))
    cut = place.entries[:103]
    place.path.unlink()
    await rebuild(ListLog(cut), place.path)
    found = await place.found(cut)
    assert not found["ok"]
    assert "event 104 (runner.left) was on the log once" in words_of(found)
    other = [renamed(one, one.body.replace(b"here", b"else")) for one in place.entries]
    await rebuild(ListLog(other), place.path)
    found = await place.found(other)
    assert (found["ok"], [one["level"] for one in found["findings"]]) == (True, ["warning"])


async def test_event_of_another_run_among_those_of_a_run_is_named(place: Place) -> None:
    """What lies on a run's subject and is of another run is named there, and said to be missing where it belongs."""
    run, other = place.runs[:2]
    subject = place.entries[8].subject
    entries = [msgspec.structs.replace(one, subject=subject) if one.seq == 41 else one for one in place.entries]
    found = await place.found(entries, run=run)
    assert [(one["code"], one["seq"], one["run"]) for one in found["findings"]] == [("subject", 41, other)]
    found = await place.found(entries, run=other)
    assert {one["code"] for one in found["findings"]} == {"gone", "missing"}


async def test_clocks_that_went_back_are_no_difference(tmp_path: Path) -> None:
    """Where the log's clock was set back, its time stands still, and the tables are found whole."""
    entries = with_names(eventful().log.entries)
    back: Entries = [
        msgspec.structs.replace(one, logged=one.logged - (5_000_000 if one.seq > 50 else 0)) for one in entries
    ]
    place = await place_of(back, tmp_path)
    assert (await place.found())["findings"] == []
    for run in place.runs:
        assert (await place.found(run=run))["findings"] == []
    for tamper in ("time = time + 1", "time = logged"):
        place.sql(f"update events set {tamper} where seq = 83")
        run = decode(entries[82].body).run
        for found in (await place.found(run=run), await place.found()):
            [one] = [one for one in found["findings"] if one["table"] == "events"]
            assert (one["seq"], one["column"], one["right"]) == (83, "time", str(entries[49].logged))
        assert [run for run in place.runs if not (await place.found(run=run))["ok"]] == [run]


async def test_damaged_tables_do_not_hide_the_log(place: Place) -> None:
    """A file that is no database is said to be damaged, and the log is checked all the same; without both it ends."""
    place.path.write_bytes(b"no database" * 1000)
    for beside in place.path.parent.glob("headway.db-*"):
        beside.unlink()
    found = await place.found(changed(9, actor="user:eve")(place.entries))
    assert {one["code"] for one in found["findings"]} == {"damaged", "changed"}
    assert found["checked"]["events"] == len(place.entries)
    one = await place.found(run=place.runs[0])
    assert {one["code"] for one in one["findings"]} == {"damaged"}
    with pytest.raises(UnavailableError, match="neither the log nor the tables"):
        await place.found(log=False)


async def test_missing_tables_are_said(place: Place) -> None:
    """A table that is gone is named, and everything that can be checked is."""
    place.sql("drop table steps; drop table names")
    found = await place.found()
    assert "table steps is missing" in words_of(found)
    assert not (await place.found(run=place.runs[0]))["ok"]


async def test_run_is_found_by_its_events_when_its_row_is_gone(place: Place) -> None:
    """A run whose row was removed can still be named, and what it lacks is said."""
    run = place.runs[1]
    place.sql(f"delete from runs where run = '{run}'")
    found = await place.found(run=run[:24])
    assert (found["run"], found["ok"]) == (run, False)
    assert f"run {run} in runs" in words_of(found)


async def test_what_is_meant_must_be_said(place: Place) -> None:
    """A run or everything; a run that is not there, and a name that could mean many, are refused."""
    for arguments in ({}, {"all": True, "run": place.runs[0]}, {"all": False, "run": ""}):
        with pytest.raises(UsageError):
            await asked(place.view(), **arguments)
    for name in ("ffffffff", "*", "headway.run.>", "x" * 300):
        with pytest.raises(NotFoundError):
            await report(place.view(), run=name)
    latest = await report(place.view(), run="@")
    assert latest["run"] in place.runs
