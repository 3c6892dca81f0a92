"""Every reading command, at a moment of the past and without a service, on the real binary."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.product import Product
from tests.acceptance.small_disk import fill_disk, on_its_own_disk
from tests.waiting import wait_until

PIPELINE = """
name: past
jobs:
  build: {steps: [echo one]}
  test: {depends_on: [build], retry_count: 1, steps: ['echo try; test "$HEADWAY_ATTEMPT" = 2']}
  broken: {depends_on: [build], steps: ["echo oops; exit 3"]}
  ship: {depends_on: [broken], steps: [echo never]}
"""


def finished(product: Product) -> str:
    """A run that failed, with a retry and a skip in it."""
    product.write(PIPELINE)
    run = product.submit()
    assert product.run("wait", run).returncode == 1
    return run


def without_now(found: dict[str, Any]) -> dict[str, Any]:
    """An answer but for the moment that open states count to."""
    return {name: value for name, value in found.items() if name != "now"}


def test_a_run_is_shown_as_it_was_after_each_of_its_events(product: Product) -> None:
    """`show`, `replay`, `runs` and `jobs` agree at every event, and each knows nothing of what came later."""
    run = finished(product)
    events = product.events(run)
    for event in [*events[:: max(1, len(events) // 8)], events[-1]]:
        at = str(event["seq"])
        shown, replayed = product.json("show", run, "--at", at), product.json("replay", run, "--at", at)
        assert shown == replayed
        assert (shown["as_of"], shown["now"]) == (event["seq"], event["logged"])
        [listed] = product.json("runs", "--at", at)["runs"]
        assert listed == shown["run"]
        assert {one["job"] for one in product.json("jobs", "--at", at)["jobs"]} == {
            one["job"] for one in events if one["type"] == "job.admitted" and one["seq"] <= event["seq"]
        }
        told = product.ok("tail", run, "--at", at, "--json")
        assert [json.loads(line)["seq"] for line in told.splitlines()] == [
            one["seq"] for one in events if one["seq"] <= event["seq"]
        ]
    assert without_now(product.json("show", run)) == without_now(product.json("replay", run))


def test_a_moment_may_be_a_time(product: Product) -> None:
    """A time means the last event up to it; before the run there was none, and the future has not come."""
    run = finished(product)
    [queued] = [one for one in product.events(run) if one["type"] == "job.queued" and one["job"] == "build"]
    then = product.json("show", run, "--at", queued["logged"])
    assert next(job["state"] for job in then["jobs"] if job["job"] == "build") in ("queued", "assigned")
    assert product.json("runs", "--at", "1h ago") | {"now": ""} == {"as_of": 0, "now": "", "runs": []}
    said = product.fails(4, "show", run, "--at", "1h ago")
    assert said.startswith(f"error: run {run} was not there yet after event 0")
    assert "has not come yet; give a moment that is over" in product.fails(2, "runs", "--at", "2999-01-01T00:00:00Z")
    last = product.json("runs")["as_of"]
    expected = f"error: there is no event {last + 9}: the last one is {last}; give a sequence up to that\n"
    assert product.fails(2, "runs", "--at", str(last + 9)) == expected
    assert "is neither a sequence nor a time; write 1234, 14:30" in product.fails(2, "runs", "--at", "soon")


def test_a_person_is_told_which_moment_is_shown(product: Product) -> None:
    """The event and its time are on stderr, and the table says what was then."""
    run = finished(product)
    done = product.run("show", run, "--at", "4")
    assert done.stderr.startswith("as of event 4 (20")
    assert "pending" in done.stdout
    assert "failed" not in done.stdout


def test_output_ends_where_the_past_does(product: Product) -> None:
    """`logs --at` shows what had been printed by then, and of the attempts that were there."""
    run = finished(product)
    events = product.events(run)
    [first] = [one for one in events if one["type"] == "job.attempt_failed"]
    assert product.ok("logs", run, "test", "--at", str(first["seq"])) == "try\n"
    [begun] = [one for one in events if one["type"] == "job.queued" and one["job"] == "test" and one["attempt"] == 1]
    assert product.ok("logs", run, "--at", str(begun["seq"])) == "build | one\n"


@pytest.mark.parametrize(
    "words",
    [
        ("runs",),
        ("jobs",),
        ("runners", "list"),
        ("show", "@"),
        ("replay", "@"),
        ("show", "@", "--at", "6"),
        ("status",),
        ("timeline", "@"),
        ("latency",),
        ("why", "@"),
    ],
    ids=" ".join,
)
def test_questions_are_answered_without_a_service(product: Product, words: tuple[str, ...]) -> None:
    """The answer is the one the service gave; nothing is started, and how far behind it is, is said."""
    finished(product)
    product.ok("down")
    done = product.run(*words, "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    last = json.loads((product.home / "projections" / "end.json").read_text())["seq"]
    assert found["as_of"] == (6 if "--at" in words else last)
    expected = f"the service is not running; this is as of event {last}, "
    assert done.stderr.startswith(expected)
    assert done.stderr.endswith("the log holds no more\n")
    assert product.service_pid() == 0


def test_events_and_output_are_there_without_a_service(product: Product) -> None:
    """`tail --no-follow` and `logs` say the same before and after `down`."""
    run = finished(product)
    before = product.events(run), product.ok("logs", run)
    product.ok("down")
    assert (product.events(run), product.ok("logs", run)) == before
    assert product.service_pid() == 0


def test_a_service_that_was_killed_left_no_word(product: Product) -> None:
    """After `kill -9` the tables may be behind, and that is said; the next service brings them to the end."""
    run = finished(product)
    product.kill(product.service_pid())
    wait_until(lambda: product.service_pid() == 0, what="the service is gone")
    done = product.run("show", run)
    assert done.returncode == 0
    assert "the service did not stop in good order, the log may hold more: 'headway up' brings them in" in done.stderr


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        ("update meta set schema_version = 1", "was written by another version of Headway"),
        ("delete from meta", "does not hold the tables"),
        ("drop table meta", "does not hold the tables"),
    ],
)
def test_tables_that_cannot_be_read_are_named(product: Product, damage: str, said: str) -> None:
    """Without a service nobody can fold the log again, so it is said who does."""
    finished(product)
    product.ok("down")
    with sqlite3.connect(product.home / "projections" / "headway.db") as tables:
        tables.execute(damage)
    tables.close()
    assert product.fails(5, "runs").endswith(f"{said}; 'headway up' makes them again from the log\n")
    assert product.ok("run", "--detach")
    assert len(product.json("runs")["runs"]) == 2


@pytest.mark.parametrize("word", ["[" * 100_000, "", "{}", '{"seq": "x"}'], ids=["deep", "empty", "none", "text"])
def test_a_word_of_the_end_that_is_none_is_not_believed(product: Product, word: str) -> None:
    """Whatever lies there instead: the tables are shown, and that the log may hold more."""
    run = finished(product)
    product.ok("down")
    (product.home / "projections" / "end.json").write_text(word)
    done = product.run("show", run)
    assert done.returncode == 0
    assert "the log may hold more" in done.stderr


def test_a_folder_in_the_place_of_the_word_stops_nobody(product: Product) -> None:
    """A service starts, runs and ends all the same."""
    finished(product)
    product.ok("down")
    (product.home / "projections" / "end.json").unlink()
    (product.home / "projections" / "end.json").mkdir()
    assert product.run("run").returncode == 1
    product.ok("down")


def asked_on_a_full_disk(disk: Path) -> None:
    """A run, an end in good order, and then questions without room for a byte."""
    product = Product(disk, home=disk / "home")
    try:
        run = finished(product)
        last = product.json("runs")["as_of"]
        product.ok("down")
        filler = fill_disk(disk)
        try:
            assert product.json("show", run)["run"]["outcome"] == "failed"
            assert product.json("runs")["as_of"] >= last
            assert product.json("show", run, "--at", "9")["as_of"] == 9
        finally:
            filler.unlink()
    finally:
        product.close()


def test_a_full_disk_can_be_asked(tmp_path: Path) -> None:
    """Without a service and without room for a byte, now and in the past."""
    on_its_own_disk(asked_on_a_full_disk, tmp_path / "disk")
