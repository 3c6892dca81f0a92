"""Timelines as pictures: letters in the right cells, sums that add up in what is shown, and nothing too wide."""

from __future__ import annotations

import random
import re
from itertools import pairwise
from typing import Any

import pytest

from headway.cli.clock_notes import of_attempts, of_timeline
from headway.cli.render import Paint
from headway.cli.text import width_of
from headway.cli.waterfall import LETTERS, axis, critical_list, exact, waterfall
from headway.core.clock import rfc3339
from headway.core.states import State

BEGIN_US = 1_750_000_000_000_000
ON_A_RUNNER = ("assigned", "preparing", "executing", "uploading")


def stay(
    job: str, state: str, entered_ms: float, left_ms: float, following: str, *, attempt: int = 1
) -> dict[str, Any]:
    """A handoff as the service tells it; without a `following` state it lasts."""
    duration_us = round((left_ms - entered_ms) * 1000)
    return {
        "job": job,
        "attempt": 0 if state == "admitted" else attempt,
        "state": state,
        "phase": "",
        "entered": rfc3339(BEGIN_US + round(entered_ms * 1000)),
        "left": rfc3339(BEGIN_US + round(left_ms * 1000)) if following else None,
        "duration_us": duration_us,
        "duration_ms": duration_us / 1000,
        "holder": "local-1" if state in ON_A_RUNNER else "queue",
        "critical_us": 0,
        "next": following,
    }


def course(job: str, *moments: tuple[str, float], critical: bool = False, attempt: int = 1) -> list[dict[str, Any]]:
    """A job's stays, by when each state was entered; the last one is how it ended, or `now`."""
    ends = [*[state for state, _ in moments[1:-1]], moments[-1][0].replace("now", "")]
    stays = [
        stay(job, state, entered, left, following, attempt=attempt)
        for ((state, entered), (_, left)), following in zip(pairwise(moments), ends, strict=True)
    ]
    return [{**one, "critical_us": one["duration_us"] if critical else 0} for one in stays]


def record(*courses: list[dict[str, Any]], whole_ms: float = 1000, **more: Any) -> dict[str, Any]:
    """A timeline of these; its path is one part of the whole time unless another is given."""
    part = {"job": "build", "attempt": 1, "state": "executing", "holder": "local-1", "duration_us": whole_ms * 1000}
    run = {"admitted": rfc3339(BEGIN_US), "completed": rfc3339(BEGIN_US + round(whole_ms * 1000))}
    handoffs = [one for stays in courses for one in stays]
    return {"run": run, "handoffs": handoffs, "path": [part], "attempts": [], "clocks": [], "log_behind_ms": 0, **more}


def drawn(found: dict[str, Any], *, columns: int = 60, limit: int = 0) -> list[str]:
    """The picture without colours."""
    return waterfall(found, paint=Paint(False), columns=columns, limit=limit)


BUILD = course("build", ("admitted", 0), ("queued", 100), ("executing", 500), ("succeeded", 1000), critical=True)
LINT = course("lint", ("admitted", 0), ("queued", 0), ("executing", 300), ("failed", 500))


def test_a_cell_has_the_letter_of_the_state_that_filled_it() -> None:
    """Bars are as long as the run, marks stand before the path's jobs, time and outcome behind."""
    assert drawn(record(BUILD, LINT), columns=67) == [
        "  JOB    |0                  |500ms                   TIME",
        "  lint   qqqqqqqqqqqqxxxxxxxx                         0.5s  failed",
        "* build  aaaaqqqqqqqqqqqqqqqqxxxxxxxxxxxxxxxxxxxx     0.9s  success",
        "",
        "a admitted  q queued  x executing  * on the critical path",
    ]


def test_every_state_has_a_letter_of_its_own() -> None:
    """All states that a job can be in, the back-off within one, and no letter twice."""
    assert set(LETTERS) == {state.value for state in State} - {"completed"} | {"back-off"}
    assert len({letter for letter, _ in LETTERS.values()}) == len(LETTERS)


def test_work_is_seen_however_short_it_was() -> None:
    """A millisecond of executing in an hour has a cell, in the order of time; so has the bar of the shortest job."""
    hour = 3_600_000
    slow = course(
        "a", ("admitted", 0), ("queued", 1), ("assigned", hour - 9), ("executing", hour - 2), ("failed", hour)
    )
    quick = course("b", ("admitted", 0), ("queued", 1), ("assigned", 2), ("executing", 5), ("succeeded", 6))
    gone = course("c", ("admitted", 7), ("skipped", 7))
    bars = [line.split()[1] for line in drawn(record(slow, quick, gone, whole_ms=hour))[1:4]]
    assert re.fullmatch("q+x", bars[0])
    assert bars[1:] == ["x", "a"]


def test_no_bar_says_that_something_came_before_what_it_came_after() -> None:
    """Whatever the lengths, the letters of a line stand in the order in which its states were entered."""
    states = ["admitted", "queued", "assigned", "preparing", "executing", "uploading"]
    for seed in range(300):
        chance = random.Random(seed)
        times = sorted(chance.choice((0, 1, 40, 990, 1000 * chance.random())) for _ in range(7))
        stays = course("j", *zip([*states, "succeeded"], times, strict=True), critical=chance.random() < 0.5)
        bar = drawn(record(stays))[1].partition("j")[2].split("  ")
        letters = next(part for part in bar if part.strip()).strip()
        order = [next(at for at, state in enumerate(states) if LETTERS[state][0] == one) for one in letters]
        assert order == sorted(order), (seed, letters)
        if times[5] > times[4]:
            assert "x" in letters, (seed, letters, times)


def test_attempts_have_lines_of_their_own() -> None:
    """A retried job is numbered; each attempt says how it ended, and an open one where it is."""
    first = course("it", ("admitted", 0), ("queued", 10), ("executing", 100), ("queued", 300))
    second = course("it", ("queued", 300), ("executing", 400), ("queued", 600), attempt=2)
    third = course("it", ("queued", 600), ("executing", 700), ("now", 1000), attempt=3)
    ends = [
        {"job": "it", "attempt": 1, "state": "completed", "outcome": "failed"},
        {"job": "it", "attempt": 2, "state": "lost", "outcome": None},
        {"job": "it", "attempt": 3, "state": "executing", "outcome": None},
    ]
    lines = drawn(record(first, second, third, attempts=ends))[1:4]
    assert [(line.split()[:2], line.split()[-1]) for line in lines] == [
        (["it", "#1"], "failed"),
        (["it", "#2"], "lost"),
        (["it", "#3"], "executing"),
    ]
    assert [line.split()[-2] for line in lines] == ["0.3s", "0.3s", "0.4s"]


def test_a_back_off_is_drawn_apart_from_the_line_for_a_slot() -> None:
    """The rest after a failed attempt is time that no slot would have shortened; the list says how long it was."""
    again = course("flaky", ("queued", 0), ("executing", 800), ("succeeded", 1000), critical=True, attempt=2)
    rest = {**again[0], "phase": "back-off", "duration_us": 600_000, "duration_ms": 600.0}
    queued = {"job": "flaky", "attempt": 2, "state": "queued", "holder": "queue", "duration_us": 800_000}
    work = {"job": "flaky", "attempt": 2, "state": "executing", "holder": "local-1", "duration_us": 200_000}
    found = record([again[0], rest, again[1]], path=[queued, work])
    assert "bbbbbbbbbbbbbbbbbbqqqqqqxxxxxx" in "".join(drawn(found))
    assert critical_list(found, paint=Paint(False))[1] == "    0.800s   80 %  q flaky #2 queued (back-off 0.600s)"


def test_of_many_jobs_those_on_the_path_and_the_longest_are_shown() -> None:
    """The others are counted by how they ended."""
    jobs = [course(f"j{at}", ("queued", 0), ("executing", 1), ("succeeded", 10 + at)) for at in range(50)]
    skipped = [course(f"k{at}", ("admitted", 0), ("skipped", 10)) for at in range(5)]
    lines = drawn(record(BUILD, *jobs, *skipped), limit=3)
    assert [line.split()[0] for line in lines[1:4]] == ["j48", "j49", "*"]
    assert lines[4] == "  and 53 more: 48 success, 5 skipped; see all with --all"
    assert len(drawn(record(BUILD, *jobs, *skipped))) == 56 + 3


@pytest.mark.parametrize("columns", [20, 40, 80, 100, 300])
def test_no_line_is_wider_than_the_terminal(columns: int) -> None:
    """Long and wide names are cut; only where a terminal is too narrow for anything, the bar stays readable."""
    wide = course("日本語の長い名前" * 9, ("admitted", 0), ("queued", 100), ("executing", 500), ("cancelled", 990))
    lines = drawn(record(BUILD, LINT, wide), columns=columns)
    assert max(map(width_of, lines)) <= max(columns, 46)


def test_what_others_wrote_cannot_move_the_cursor() -> None:
    """Names, holders and reasons come from pipelines and logs; states of a newer version have a sign."""
    evil = "\x1b[2Jx\r\n"
    stays = course(evil, ("admitted", 0), (evil, 500), ("now", 1000))
    part = {"job": evil, "attempt": 1, "state": evil, "holder": evil, "duration_us": 500_000}
    phase = {**stays[0], "phase": evil, "critical_us": 9, "duration_ms": 50}
    found = record(stays, [phase], path=[part, {**part, "state": "preparing"}], clocks=[{"runner": evil, "skew_ms": 9}])
    lines = [*drawn(found), *critical_list(found, paint=Paint(False)), *of_timeline(found)]
    assert "?" in lines[1]
    assert all(line.isprintable() for line in lines)


@pytest.mark.parametrize("whole_us", [0, 1, 900, 1_000, 77_123, 1_000_000, 61_000_000, 4_000_000_000, 10**13, 10**15])
def test_an_axis_for_every_length(whole_us: int) -> None:
    """It begins at 0, fits, and its labels neither touch nor repeat."""
    for cells in (10, 33, 60, 160):
        line = axis(whole_us, cells)
        assert line.startswith("|0")
        assert len(line) <= cells
        labels = line.split("|")[1:]
        assert len({label.strip() for label in labels}) == len(labels)
        assert all(label.endswith(" ") for label in labels[:-1])


# The critical path


def path(*lengths_us: int) -> dict[str, Any]:
    """A timeline whose path has parts of these lengths."""
    parts = [
        {"job": f"j{at}", "attempt": 1, "state": "executing", "holder": "r-1", "duration_us": length}
        for at, length in enumerate(lengths_us)
    ]
    return record(path=parts)


def shown_ms(line: str) -> int:
    """The milliseconds that a line of the list begins with."""
    found = re.match(r"\s*(?:(\d+)h )?(?:(\d+)m )?(\d+)\.(\d{3})s", line)
    assert found, line
    hours, minutes, seconds, rest = (int(part or 0) for part in found.groups())
    return ((hours * 60 + minutes) * 60 + seconds) * 1000 + rest


@pytest.mark.parametrize("seed", range(40))
def test_what_the_list_shows_adds_up(seed: int) -> None:
    """To the millisecond, although each part has microseconds; never more than fifteen parts and their sum."""
    chance = random.Random(seed)
    lengths = [chance.randrange(10 ** chance.choice((2, 4, 6, 8))) for _ in range(chance.choice((1, 3, 15, 16, 90)))]
    head, *parts, whole = critical_list(path(*lengths), paint=Paint(False))
    assert head == "critical path"
    assert sum(map(shown_ms, parts)) == shown_ms(whole) == sum(lengths) // 1000
    assert 1 <= len(parts) <= 15


def test_the_list_says_who_held_what_for_how_long() -> None:
    """In the order of time: the share, the letter, job and attempt, state, holder; phases of a preparation."""
    parts = [
        {"job": "build", "attempt": 0, "state": "admission", "holder": "coordinator", "duration_us": 10_000},
        {"job": "build", "attempt": 1, "state": "queued", "holder": "queue", "duration_us": 90_500},
        {"job": "build", "attempt": 2, "state": "preparing", "holder": "local-1", "duration_us": 400_000},
        {"job": "ship", "attempt": 1, "state": "waiting_for_policy", "holder": "gate", "duration_us": 499_400},
        {"job": "", "attempt": 0, "state": "closing", "holder": "coordinator", "duration_us": 100},
    ]
    phase = {**stay("build", "preparing", 0, 350, "executing", attempt=2), "phase": "source", "critical_us": 350_000}
    found = record([phase], path=parts, attempts=[{"job": "build", "attempt": 2}])
    assert critical_list(found, paint=Paint(False)) == [
        "critical path",
        "    0.010s    1 %    build admission by the coordinator",
        "    0.090s    9 %  q build #1 queued",
        "    0.400s   40 %  p build #2 preparing on local-1 (source 0.350s)",
        "    0.499s   50 %  w ship waiting for policy",
        "    0.001s   <1 %    closing by the coordinator",
        "    1.000s  the whole run",
    ]
    found["run"]["completed"] = None
    assert critical_list(found, paint=Paint(False))[-1] == "    1.000s  so far"


def test_lengths_to_the_millisecond() -> None:
    """Seconds, minutes, hours."""
    assert [exact(ms) for ms in (0, 4, 59_999, 60_000, 182_500, 3_723_004)] == [
        *("0.000s", "0.004s", "59.999s", "1m 00.000s", "3m 02.500s", "1h 02m 03.004s")
    ]


# Clocks


def test_clocks_that_are_off_are_told_in_sentences() -> None:
    """Which runner, by how much, in which direction, and that it changes nothing."""
    clocks = [{"runner": "r1", "skew_ms": 3_600_000}, {"runner": "r2", "skew_ms": -2_000}]
    assert of_timeline(record(clocks=clocks, log_behind_ms=60_000)) == [
        "the clock of runner r1 is 1h 0m ahead of the log's; its own times are not used",
        "the clock of runner r2 is 2.0s behind the log's; its own times are not used",
        "the log's own clock was up to 1m 0s behind its earlier time while this run went on;"
        " here time stands still until it had caught up",
    ]
    assert of_timeline(record()) == []


def test_attempts_tell_of_clocks_as_far_as_they_can() -> None:
    """Ahead is certain; behind may be late; each runner once, by its worst attempt; below a second nothing is said."""
    attempts = [
        {"runner": "fast", "skew_ms": 5_000},
        {"runner": "fast", "skew_ms": 61_000},
        {"runner": "fast", "skew_ms": 2_000},
        {"runner": "late", "skew_ms": -30_000},
        {"runner": "right", "skew_ms": -999},
        {"runner": "silent", "skew_ms": None},
    ]
    ahead, behind = of_attempts(attempts)
    assert ahead == "the clock of runner fast is 1m 1s ahead of the log's; its own times are not used"
    assert behind.startswith("what runner late said is dated 30.0s before it came to the log: it came late, or")
