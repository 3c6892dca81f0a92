"""`headway timeline` and what `show` says of clocks, against a service that answers from a script."""

from __future__ import annotations

from typing import Any

import pytest

from tests.cli.conftest import Headway
from tests.cli.fake_service import END, FakeService, data
from tests.cli.test_waterfall import BUILD, LINT, course, record

HOUR_MS = 3_600_000


def answer(*courses: list[dict[str, Any]], **more: Any) -> dict[str, Any]:
    """A timeline of a run that failed, as of event 42."""
    found = record(*courses, **more)
    run = {**found["run"], "run": "r1", "pipeline": "shop", "status": "failed", "jobs": len(courses)}
    return data(as_of=42, now="2026-01-31T00:00:00Z", **{**found, "run": run})


def test_title_picture_path_and_clocks(headway: Headway, service: FakeService) -> None:
    """What was asked for goes to stdout, in 100 columns and without colours where there is no terminal."""
    service.on("timeline", [answer(BUILD, LINT, clocks=[{"runner": "local-1", "skew_ms": HOUR_MS}]), END])
    done = headway("timeline", "@")
    assert (done.code, done.err) == (0, "")
    lines = done.out.splitlines()
    assert lines[0] == "shop  r1  failed in 1.000s, 2 jobs"
    assert lines[3].startswith("  lint   qqqq")
    assert lines[4].startswith("* build  aaaa")
    assert lines[-3:] == [
        "    1.000s  the whole run",
        "",
        "the clock of runner local-1 is 1h 0m ahead of the log's; its own times are not used",
    ]
    assert max(map(len, lines)) <= 100
    assert service.requests[-1]["run"] == "@"


@pytest.mark.parametrize(("words", "shown"), [((), 40), (("--limit", "7"), 7), (("--all",), 60)])
def test_how_many_jobs_are_shown(headway: Headway, service: FakeService, words: tuple[str, ...], shown: int) -> None:
    """Forty at most unless another number, or all, is asked for; those left out are counted."""
    jobs = [course(f"j{at}", ("queued", 0), ("executing", 1), ("succeeded", 10 + at)) for at in range(60)]
    service.on("timeline", [answer(*jobs), END])
    lines = headway("timeline", "@", *words).out.splitlines()
    assert sum(line.startswith("  j") for line in lines) == shown
    assert any("see all with --all" in line for line in lines) == (shown < 60)


def test_a_run_without_jobs_has_no_picture(headway: Headway, service: FakeService) -> None:
    """Its path is the coordinator's."""
    part = {"job": "", "attempt": 0, "state": "closing", "holder": "coordinator", "duration_us": 5_000}
    service.on("timeline", [answer(path=[part]), END])
    assert headway("timeline", "@").out.splitlines() == [
        "shop  r1  failed in 0.005s, 0 jobs",
        "",
        "critical path",
        "    0.005s  100 %    closing by the coordinator",
        "    0.005s  the whole run",
    ]


def test_json_is_the_record(headway: Headway, service: FakeService) -> None:
    """One object, as the service says it; the moment asked for goes with the question."""
    service.on("timeline", [answer(BUILD), END])
    assert headway("timeline", "@", "--json", "--at", "42").json == answer(BUILD)["data"]
    assert service.requests[-1]["at"] == {"seq": 42}


def test_show_tells_of_clocks_that_are_off(headway: Headway, service: FakeService) -> None:
    """A runner whose clock is an hour ahead is named below the jobs; below a second nothing is said."""
    attempts = [{"job": "a", "attempt": 1, "runner": "fast", "skew_ms": HOUR_MS}]
    right = [{"job": "a", "attempt": 1, "runner": "right", "skew_ms": 999}]
    found = {"as_of": 42, "run": {"run": "r1"}, "jobs": [], "steps": []}
    service.on("show", [data(**found, attempts=attempts), END], [data(**found, attempts=right), END])
    note = "the clock of runner fast is 1h 0m ahead of the log's; its own times are not used\n"
    assert headway("show", "@").out.endswith(f"\n\n{note}")
    assert "clock" not in headway("show", "@").out
