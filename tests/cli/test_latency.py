"""`headway latency` as a person types it: what it asks, what it prints."""

from __future__ import annotations

from typing import Any

import pytest

from tests.cli.conftest import Headway
from tests.cli.fake_service import END, FakeService, data, error

RUN = "0198aaaa-bbbb-7ccc-8ddd-eeeeffff0001"
PERIOD = {"since": "2026-01-01T00:00:00Z", "until": "2026-01-08T00:00:00Z", "handoffs": 12345, "left_out": 3}
EARLIER = {"since": "2025-12-31T00:00:00Z", "until": "2026-01-01T00:00:00Z", "handoffs": 1, "left_out": 0}
NOTHING = {"count": 0, "p50_ms": None, "p95_ms": None, "p99_ms": None, "max_ms": None, "sum_ms": 0.0}


def figures(count: int, each_ms: float) -> dict[str, Any]:
    """So many handoffs that all took the same."""
    each = dict.fromkeys(("p50_ms", "p95_ms", "p99_ms", "max_ms"), each_ms)
    return {"count": count, **each, "sum_ms": count * each_ms}


def answer(*rows: dict[str, Any], **more: Any) -> list[Any]:
    """What the service says."""
    found = {"as_of": 77, "now": "2026-01-08T00:00:00Z", "by": ["state"], "pipeline": "", "period": PERIOD}
    found |= {"earlier": None, "open": 2, "groups": len(rows), "rows": list(rows)}
    return [data(**found | more), END]


def test_what_is_asked(headway: Headway, service: FakeService) -> None:
    """The words become the question's arguments; without any it is the last week by state."""
    service.on("latency", answer())
    assert headway("latency", "--json").json["period"] == PERIOD
    headway(
        "latency", "--by", "job, runner,job", "--since", "36h", "--against", "7d", "--pipeline", "p", "--limit", "0"
    )
    headway("latency", "--at", "50", "--json")
    plain, full, then = ({**one} for one in service.asked("latency"))
    assert (plain["by"], plain["since"], plain["limit"]) == ("state", 604800, 30)
    assert plain.keys().isdisjoint({"against", "pipeline", "at"})
    assert (full["by"], full["since"], full["against"]) == ("job,runner", 129600, 604800)
    assert (full["pipeline"], full["limit"], then["at"]) == ("p", 0, {"seq": 50})


def test_a_table_with_what_is_open(headway: Headway, service: FakeService) -> None:
    """The period and what it holds in one line, then aligned figures, and who has waited longest."""
    waits = {"count": 3, "oldest_ms": 130_000, "run": RUN, "job": "test"}
    rows = [{"state": "queued", **NOTHING, "open": waits}, {"state": "executing", **figures(4, 0.4), "open": None}]
    service.on("latency", answer(*rows))
    done = headway("latency")
    assert done.code == 0
    assert done.out == (
        "7d from 2026-01-01 00:00:00 to 2026-01-08 00:00:00: 12,345 handoffs, 2 open,"
        " 3 left out (skipped or cancelled); as of event 77\n"
        "\n"
        "STATE      COUNT    P50    P95    P99    MAX    SUM  OPEN                   OLDEST\n"
        "queued         0                                     3 open, oldest 2m 10s  eeffff0001 test\n"
        "executing      4  0.4ms  0.4ms  0.4ms  0.4ms  1.6ms\n"
    )


def test_what_became_slower_comes_with_what_it_was(headway: Headway, service: FakeService) -> None:
    """Two periods: the change first, said in words too, and the figures of both; what is new or gone is called so."""
    rows = [
        {"state": "queued", "runner": "", **figures(10, 9000.0), "earlier": figures(20, 3000.0), "moved_ms": 60000.0},
        {"state": "executing", "runner": "a", **figures(2, 50.0), "earlier": figures(1, 450.0), "moved_ms": -800.0},
        {"state": "executing", "runner": "b", **figures(1, 5.0), "earlier": figures(1, 5.0), "moved_ms": 0.0},
        {"state": "executing", "runner": "c", **figures(1, 5.0), "earlier": NOTHING, "moved_ms": None},
        {"state": "executing", "runner": "d", **NOTHING, "earlier": figures(1, 5.0), "moved_ms": None},
    ]
    service.on("latency", answer(*rows, by=["runner"], earlier=EARLIER, groups=9))
    done = headway("latency", "--by", "runner", "--against", "1d")
    lines = [" ".join(line.split()) for line in done.out.splitlines()]
    assert "1d from 2025-12-31 00:00:00 to 2026-01-01 00:00:00: 1 handoff, to compare with" in done.out
    assert lines[3] == "STATE RUNNER MOVED MEAN WAS P50 WAS P95 WAS COUNT WAS"
    assert lines[4] == "queued (none) +1m 0s slower 9.0s 3.0s 9.0s 3.0s 9.0s 3.0s 10 20"
    assert lines[5] == "executing a -800ms faster 50ms 450ms 50ms 450ms 50ms 450ms 2 1"
    assert lines[6].startswith("executing b +0.0ms 5.0ms")
    assert lines[7].startswith("executing c new 5.0ms")
    assert lines[8].startswith("executing d not now 5.0ms")
    assert "4 more; '--limit 0' shows all" in done.err


def test_nothing_in_the_period(headway: Headway, service: FakeService) -> None:
    """Then it says so, and what to do."""
    service.on("latency", answer(period=PERIOD | {"handoffs": 0, "left_out": 0}, open=0))
    done = headway("latency", "--since", "7d")
    assert done.code == 0
    assert "0 handoffs, 0 open; as of event 77" in done.out
    assert "no handoff was over in this time; look further back, as in 'headway latency --since 30d'" in done.err


def test_hostile_names_stay_in_their_cells(headway: Headway, service: FakeService) -> None:
    """A name with escapes moves no cursor."""
    row = {"state": "queued", "branch": "\x1b[2Jx\ny", **figures(1, 1.0), "open": None}
    service.on("latency", answer(row, by=["branch"]))
    done = headway("latency", "--by", "branch")
    assert "\x1b" not in done.out
    assert len(done.out.splitlines()) == 4


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--by", "stat"], "handoffs cannot be told apart by 'stat'; did you mean 'state'?; use some of state, phase,"),
        (["--by", "state,zebra"], "handoffs cannot be told apart by 'zebra'; use some of"),
        (["--since", "soon"], "argument --since: 'soon' is not a length of time"),
        (["--limit", "-1"], "is not a whole number"),
    ],
)
def test_wrong_words(headway: Headway, words: list[str], message: str) -> None:
    """One sentence with the nearest word; nothing is started for it."""
    done = headway("latency", *words)
    assert (done.code, done.out) == (2, "")
    assert message in done.err
    assert list(headway.home.iterdir()) == []


def test_an_unknown_pipeline(headway: Headway, service: FakeService) -> None:
    """The service's word is passed on, with its exit code."""
    service.on("latency", [error("not_found", "no run of a pipeline 'biuld'", "did you mean 'build'?")])
    done = headway("latency", "--pipeline", "biuld")
    assert done.code == 4
    assert "did you mean 'build'?" in done.err
