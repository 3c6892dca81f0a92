"""What a check found, as people read it: a line each, and an exit code that says whether it is well."""

from __future__ import annotations

import json
from typing import Any

import pytest

from headway.cli.commands.verify import report

CHECKED = {"runs": 1, "events": 20, "rows": 43, "blobs": 5, "bytes": 2048}
WELL: dict[str, Any] = {
    "as_of": 20,
    "run": None,
    "log": True,
    "checked": CHECKED,
    "findings": [],
    "left_out": 0,
    "not_checked": [],
    "incomplete": [],
    "ok": True,
}
WRONG = {"code": "changed", "level": "error", "words": "event 17 \x1b[2Jwas changed", "next": "restore a backup"}
MILD = {"code": "blob", "level": "warning", "words": "blob sha256:ab, the checkpoint: it is missing"}


def test_all_is_well_in_three_lines(capsys: pytest.CaptureFixture[str]) -> None:
    """What was looked at, how much of it, and that it is well."""
    assert report(WELL, as_json=False) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert [(line[0], line[-1]) for line in lines] == [("events", "ok"), ("tables", "ok"), ("blobs", "ok")]


def test_what_fails_is_named_and_counted(capsys: pytest.CaptureFixture[str]) -> None:
    """Each finding is said with what to do, without what would move the cursor; what was left out is counted."""
    found = {**WELL, "findings": [WRONG, MILD], "left_out": 7, "ok": False, "not_checked": ["the log: it is away"]}
    assert report(found, as_json=False) == 1
    out = capsys.readouterr().out
    assert "\x1b" not in out
    assert "1 finding" in out.splitlines()[0]
    assert out.splitlines()[2].split()[-1] == "ok"
    for words in (
        "not checked: the log: it is away",
        "wrong: event 17",
        "  restore a backup",
        "warning: blob",
        "7 more",
    ):
        assert words in out


def test_only_the_tables_were_checked(capsys: pytest.CaptureFixture[str]) -> None:
    """What was not looked at is not said to be well."""
    assert report({**WELL, "checked": {"runs": 1, "events": 20, "rows": 43}}, as_json=False) == 0
    assert "blobs" not in capsys.readouterr().out


def test_what_could_not_be_checked_is_not_well(capsys: pytest.CaptureFixture[str]) -> None:
    """Where something was to be checked and could not be, its line says so, and so does the exit code."""
    full = ["the rows: no space left"]
    found = {**WELL, "checked": {**CHECKED, "rows": 0}, "not_checked": full, "incomplete": ["tables"], "ok": False}
    assert report(found, as_json=False) == report(found, as_json=True) == 5
    events, tables, blobs, said = capsys.readouterr().out.splitlines()[:4]
    assert tables.split("  ")[-1].strip() == "not checked"
    assert (events.split()[-1], blobs.split()[-1], said) == ("ok", "ok", "not checked: the rows: no space left")
    partly = {**WELL, "not_checked": ["the log: it is away"], "incomplete": ["events"], "ok": False}
    assert report(partly, as_json=False) == 5
    assert capsys.readouterr().out.splitlines()[0].split("  ")[-1] == "partly not checked"
    assert report({**found, "findings": [WRONG]}, as_json=False) == 1
    assert report({**found, "findings": [MILD]}, as_json=False) == 5


def test_log_that_was_not_looked_at_is_not_said_to_be_well(capsys: pytest.CaptureFixture[str]) -> None:
    """Without a service only the tables' copies of the events are there; that is told, and is no failure."""
    assert report({**WELL, "log": False, "not_checked": ["the log: the service is not running"]}, as_json=False) == 0
    events, tables = capsys.readouterr().out.splitlines()[:2]
    assert "20 events of 1 run, the tables' copies" in events
    assert (events.split("  ")[-1].strip(), tables.split()[-1]) == ("log not checked", "ok")


def test_nothing_is_said_of_what_was_not_begun(capsys: pytest.CaptureFixture[str]) -> None:
    """Where the tables cannot be read, comparing them says nothing of events."""
    found = {**WELL, "checked": {"rows": 0}, "incomplete": ["tables"], "ok": False}
    assert report(found, as_json=False) == 5
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == ["tables"]


def test_data_is_the_record(capsys: pytest.CaptureFixture[str]) -> None:
    """Programs get the record, and the same exit code."""
    found = {**WELL, "findings": [WRONG], "ok": False}
    assert report(found, as_json=True) == 1
    assert json.loads(capsys.readouterr().out) == found
