"""What was tampered with is found and named, on the real binary; what is whole is found whole."""

from __future__ import annotations

import asyncio
import json
import os
import sqlite3
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from headway.core.envelope import decode
from headway.core.jetstream import JetStreamLog
from headway.core.log import Entry, Stored
from headway.core.server import Server
from headway.core.streams import STREAM, api, stream_info
from headway.core.wire import Wire
from tests.acceptance.product import Product
from tests.tampering import changed, left_out, numbered, renamed, swapped
from tests.waiting import wait_until

PIPELINE = f"""\
name: one
jobs:
  build:
    steps:
      - name: say
        script: echo hello
  large:
    steps:
      - script: |
          echo large
          : {"x" * 30_000}
"""


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Product]:
    """A product with a finished run and a pipeline whose definition is a blob; who changes it puts it right again."""
    product = Product(tmp_path_factory.mktemp("verify"))
    product.write(PIPELINE)
    product.ok("run")
    yield product
    product.close()


def failed(product: Product, *words: str) -> str:
    """What a check says that must fail."""
    done = product.run(*words)
    assert done.returncode == 1, f"{words}: {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def tables(product: Product) -> Path:
    """The file of the tables."""
    return product.home / "projections" / "headway.db"


def sql(product: Product, script: str) -> None:
    """Change the tables behind the service's back."""
    connection = sqlite3.connect(tables(product), timeout=10)
    connection.executescript(script)
    connection.close()


def test_whole_is_whole(shared: Product) -> None:
    """A run, everything, and the tables are found whole, in words and as data; what is to be checked must be said."""
    for words in (("verify", "@"), ("verify", "--all"), ("projections", "verify")):
        printed = shared.ok(*words)
        assert printed.splitlines()[0].split()[-1] == "ok"
        assert "wrong" not in printed
    found = shared.json("verify", "@")
    assert (found["ok"], found["findings"], found["not_checked"]) == (True, [], [])
    assert found["checked"]["blobs"] >= 5
    assert "name a RUN, or say --all" in shared.fails(2, "verify")
    assert "both RUN and --all" in shared.fails(2, "verify", "@", "--all")
    assert "no run" in shared.fails(4, "verify", "ffffffff")


def blobs_of(product: Product) -> dict[str, Path]:
    """The blobs that the run names, by what they are."""
    events = product.events(product.json("runs")["runs"][0]["run"])
    admitted = events[0]["data"]
    found = {
        "plan": admitted["plan_digest"],
        "pipeline file": admitted["pipeline_digest"],
        "source": admitted["source"]["digest"],
    }
    for event in events:
        data = event["data"]
        if event["type"] == "job.assigned" and data["definition"].get("definition_digest"):
            found[f"definition of job {event['job']}"] = data["definition"]["definition_digest"]
        if event["type"] == "job.completed":
            found[f"output {event['job']}"] = data["output"]["digest"]
    digests = {what: digest.removeprefix("sha256:") for what, digest in found.items()}
    return {what: product.home / "blobs" / "sha256" / name[:2] / name[2:] for what, name in digests.items()}


def _flip(path: Path) -> None:
    body = bytearray(path.read_bytes())
    body[len(body) // 2] ^= 1
    path.write_bytes(body)


def _folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def _pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def _dangling(path: Path) -> None:
    path.unlink()
    path.symlink_to("nowhere")


BLOBS: list[tuple[str, Callable[[Path], object], str]] = [
    ("plan", Path.unlink, "it is missing"),
    ("pipeline file", Path.unlink, "it is missing"),
    ("source", _flip, "are not those it was named by"),
    ("definition of job large", _flip, "are not those it was named by"),
    ("output build", _flip, "are not those it was named by"),
    ("plan", lambda path: path.write_bytes(b""), "its 0 bytes are not those"),
    ("source", lambda path: path.write_bytes(path.read_bytes()[:-1]), "are not those it was named by"),
    ("output large", lambda path: path.write_bytes(path.read_bytes() + b"\n"), "are not those it was named by"),
    ("pipeline file", _folder, "a folder lies in its place"),
    ("definition of job large", _dangling, "it is missing"),
    ("output large", _pipe, "something else than a file lies in its place"),
    ("source", lambda path: path.write_bytes(b"another one"), "its 11 bytes are not those"),
]


def test_blobs_that_were_tampered_with_are_named(shared: Product) -> None:
    """Each blob that is gone, changed or no file is named with what it is, and is left as it was found."""
    blobs = blobs_of(shared)
    assert len(blobs) == 6
    for what, tamper, words in BLOBS:
        path = blobs[what]
        body = path.read_bytes()
        path.chmod(0o600)
        tamper(path)
        before = sorted((shared.home / "blobs").rglob("*"))
        named = f"blob sha256:{path.parent.name}{path.name}, the {what.removesuffix(' build').removesuffix(' large')}"
        named = named if what.startswith("output") else f"blob sha256:{path.parent.name}{path.name}, the {what}"
        for printed in (failed(shared, "verify", "@"), failed(shared, "verify", "--all")):
            assert named in printed
            assert words in printed
            assert printed.count("wrong: ") == 1
        assert sorted((shared.home / "blobs").rglob("*")) == before
        if path.is_dir():
            path.rmdir()
        path.unlink(missing_ok=True)
        path.write_bytes(body)
    assert shared.json("verify", "--all")["ok"]


ROWS = [
    ("update runs set outcome = 'failed'", "of run"),
    ("update jobs set state = 'queued', outcome = null where job = 'build'", "build' of jobs: state is 'queued'"),
    ("delete from jobs where job = 'large'", "large' of jobs is missing"),
    ("update attempts set exit_code = 3 where job = 'build'", "build 1' of attempts: exit_code is 3"),
    ("delete from attempts where job = 'large'", "large 1' of attempts is missing"),
    ("update steps set name = 'other' where job = 'build'", "build 1 0' of steps: name is 'other'"),
    ("delete from steps where job = 'large'", "large 1 0' of steps is missing"),
    ('update timeline set "left" = "left" - 1 where id = 3', "of timeline"),
    ("delete from timeline where id = 2", "of timeline"),
    ("update events set actor = 'user:eve' where seq = 5", "the row of event 5 ("),
    ("delete from events where seq = 6", "the row of event 6 ("),
    ("update runners set labels = '[\"gpu\"]'", "of runners: labels is"),
    ("delete from runners", "of runners is missing"),
    ("delete from coordinator", "'1' of coordinator is missing"),
    ("update fleet set paused_by = 'user:eve'; insert into names (name) values ('x')", "'1' of names is there"),
    ("insert into samples values (7, 'left', x'00')", "'7 left' of samples is there"),
    ("update meta set step_back_us = 5", "'1' of meta: step_back_us is 5"),
]


def test_rows_that_were_tampered_with_are_named(shared: Product) -> None:
    """Each row that is changed, missing or too many is named; rebuilding makes the tables right again."""
    for script, words in ROWS:
        sql(shared, script)
        assert words in failed(shared, "verify", "--all"), script
        assert words in failed(shared, "projections", "verify"), script
        assert "made again of" in shared.ok("projections", "rebuild")
        assert shared.json("projections", "verify")["ok"]
    assert shared.json("verify", "--all")["ok"]


def test_tables_are_checked_without_a_service(product: Product) -> None:
    """With the service down the tables are checked against their own events, and it is said that the log was not."""
    product.write(PIPELINE)
    product.ok("run")
    product.ok("down", "--now")
    done = product.run("verify", "--all")
    assert done.returncode == 0
    assert "not checked: the log: the service is not running" in done.stdout
    assert done.stdout.splitlines()[0].split(", ")[1].split("  ")[0] == "the tables' copies"
    assert done.stdout.splitlines()[0].endswith("  log not checked")
    for script, words in ROWS[:4]:
        sql(product, script)
        assert words in failed(product, "verify", "--all")
    sql(product, "update events set body = cast(replace(body, 'build', 'guild') as blob) where seq = 6")
    assert "event" in failed(product, "verify", "@")
    assert product.service_pid() == 0
    assert json.loads(product.run("projections", "rebuild", "--json").stdout)["events"] > 20
    assert product.json("verify", "--all")["ok"]


def test_position_that_was_tampered_with_is_mended_by_rebuilding(product: Product) -> None:
    """Tables that can take no more events say why, are verified as they are, and go on when they are made again."""
    product.write(PIPELINE)
    product.ok("run")
    sql(product, "update meta set position = position - 1")
    run = product.submit()  # the tables cannot follow
    found = failed(product, "verify", "--all")
    assert "'1' of meta: position is" in found
    assert "not checked: what the tables do not have yet" in found
    product.ok("projections", "rebuild")
    product.ok("wait", run)
    assert product.json("verify", "--all")["ok"]
    product.ok("run")


@asynccontextmanager
async def log_of(product: Product) -> AsyncGenerator[Wire, None]:
    """A connection to the log of a product whose service is down."""
    server = await Server.start_or_attach(product.home / "nats")
    try:
        wire = await Wire.connect(server.endpoint, name="test")
        try:
            yield wire
        finally:
            await wire.close()
    finally:
        await server.stop()


async def rewrite(
    product: Product, tamper: Callable[[list[Stored]], list[Stored]], *, deleted: tuple[int, ...]
) -> None:
    """Make the log anew of what is on it, tampered with, and then delete some events of it."""
    async with log_of(product) as wire:
        log = JetStreamLog(wire)
        entries = tamper([one async for batch in log.read() for one in batch])
        config = (await stream_info(wire, STREAM)).config | {"deny_delete": False}
        await api(wire, f"STREAM.DELETE.{STREAM}", None, dict[str, Any])
        await api(wire, f"STREAM.CREATE.{STREAM}", config, dict[str, Any])
        for at, one in enumerate(entries):
            await log.append(Entry(subject=one.subject, id=one.id, body=one.body, expect=at))
        for seq in deleted:
            await api(wire, f"STREAM.MSG.DELETE.{STREAM}", {"seq": seq}, dict[str, Any])


async def purge(product: Product, run: str, *, before: int) -> None:
    """Delete the events of a run before a sequence, as the server lets whoever may write to it."""
    async with log_of(product) as wire:
        request = {"filter": f"headway.run.*.{run}.ev", "seq": before}
        await api(wire, f"STREAM.PURGE.{STREAM}", request, dict[str, Any])


def test_events_that_were_tampered_with_are_named(product: Product) -> None:
    """Each run in which an event was changed, left out, moved or put in is named with that event, and no other run."""
    product.write("name: one\njobs:\n  build:\n    steps:\n      - script: 'true'\n")
    for _ in range(11):
        product.ok("run")
    runs = [one["run"] for one in reversed(product.json("runs", "--limit", "20")["runs"])]
    product.ok("down", "--now")
    wanted: dict[str, str] = {}

    def tamper(entries: list[Stored]) -> list[Stored]:
        place = {(decode(one.body).run, decode(one.body).n): one.seq for one in entries}

        def at(number: int, n: int) -> int:
            return place[(runs[number], n)]

        for number, n, fields in (
            (0, 1, {"actor": "user:eve"}),
            (1, 4, {"because": "nothing"}),
            (2, 5, {"at": 1}),
            (3, 6, {"data": {"fact": 9}}),
            (4, 8, {"data": {"exit_code": 9}}),
        ):
            entries = changed(at(number, n), named=bool(number % 2), **fields)(entries)
            wanted[runs[number]] = f"(number {n} of run {runs[number]})" if number % 2 else f"event {at(number, n)} ("
        entries = swapped(at(5, 6))(entries)
        wanted[runs[5]] = f"number 6 is missing in run {runs[5]}"
        seal = entries[at(6, 11) - 1]
        foreign = msgspec.structs.replace(decode(seal.body), n=12)
        entries = [*entries, renamed(seal, msgspec.json.encode(foreign))]
        wanted[runs[6]] = "comes after the run's end"
        moved = entries[at(7, 3) - 1]
        entries[at(7, 3) - 1] = msgspec.structs.replace(moved, subject="headway.run.other.other.ev")
        wanted[runs[7]] = "is on the subject headway.run.other.other.ev"
        entries = changed(at(8, 11), named=True, data={"outcome": "failed"})(entries)
        wanted[runs[8]] = "and its jobs come to succeeded"
        wanted[runs[9]] = f"number 9 is missing in run {runs[9]}"
        return left_out(at(9, 9), gap=False)(numbered(entries))

    asyncio.run(rewrite(product, tamper, deleted=()))
    tables(product).unlink()
    product.ok("status")
    printed = failed(product, "verify", "--all")
    for run, words in wanted.items():
        assert words in printed, words
        assert (words if "subject" not in words else "among its run's") in failed(product, "verify", run)
    assert product.json("verify", runs[10])["ok"]


def test_events_that_were_deleted_are_named(product: Product) -> None:
    """Events deleted from the log are named from the copies in the tables; without those the gap is, and who lacks them
    is told that the tables cannot be made."""
    product.write("name: one\njobs:\n  build:\n    steps:\n      - script: 'true'\n")
    product.ok("run")
    product.ok("run")
    first = product.json("runs")["runs"][1]["run"]
    events = product.events(first)
    product.ok("down", "--now")
    asyncio.run(purge(product, first, before=events[4]["seq"]))
    product.ok("resume")
    gone = [one for one in events[:4] if one["type"] != "job.assigned"]
    assert len(gone) == 3
    for printed in (failed(product, "verify", "--all"), failed(product, "verify", first)):
        for one in gone:
            assert f"event {one['seq']} ({one['type']}" in printed
    product.ok("down", "--now")
    tables(product).unlink()
    assert product.run("runs").returncode != 0
    printed = failed(product, "verify", "--all")
    assert f"events {gone[0]['seq']} to {gone[-1]['seq']} are missing on the log" in printed
    assert "not checked: what the tables do not have yet" in printed
    assert "missing in run" in failed(product, "verify", first)


def test_unreadable_event_does_not_keep_the_service_from_naming_it(product: Product) -> None:
    """Where an event cannot be read nobody can coordinate, and no tables can be made; verify names it all the same."""
    product.write("name: one\njobs:\n  build:\n    steps:\n      - script: 'true'\n")
    product.ok("run")
    run = product.json("runs")["runs"][0]["run"]
    seq = product.events(run)[5]["seq"]
    product.ok("down", "--now")

    def tamper(entries: list[Stored]) -> list[Stored]:
        return [renamed(one, b'{"id":"\xff"}') if one.seq == seq else one for one in entries]

    asyncio.run(rewrite(product, tamper, deleted=()))
    tables(product).unlink()
    assert f"event {seq}" in product.run("runs").stderr
    printed = failed(product, "verify", "--all")
    assert f"event {seq} on headway.run." in printed
    assert "cannot be read" in printed
    assert f"event {seq} (number 6 of run {run}) or event" in printed
    assert f"event {seq}" in failed(product, "verify", run)
    assert f"event {seq}" in product.run("doctor").stdout


def test_end_of_the_log_that_was_deleted_is_named(product: Product) -> None:
    """Where the last events are gone the log still knows how far it went; what they were say tables set aside."""
    product.write("name: one\njobs:\n  build:\n    steps:\n      - script: 'true'\n")
    product.ok("run")
    run = product.json("runs")["runs"][0]["run"]
    last = product.events(run)[-1]["seq"]
    product.ok("down", "--now")

    def end(entries: list[Stored]) -> list[Stored]:
        return [one for one in entries if one.seq <= last]

    asyncio.run(rewrite(product, end, deleted=(last - 1, last)))
    product.start("up")
    wait_until(lambda: (product.home / "control.sock").exists(), what="the service answers")
    printed = failed(product, "verify", "--all")
    assert f"events {last - 1} to {last} are missing on the log" in printed
    assert f"event {last - 1} (job.completed of job build" in printed
    assert f"has none after {last - 2}" in product.run("doctor").stdout
