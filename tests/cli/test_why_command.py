"""What `headway why` makes of an answer: lines that fit the terminal, local times, and nothing said twice."""

from __future__ import annotations

from typing import Any

from headway.cli.commands.why import LINES_MOST, Page, wrapped
from headway.cli.render import Paint
from headway.cli.text import clock, width_of


def one(**fields: Any) -> dict[str, Any]:
    """A job as the service tells of it."""
    return {"run": "r1", "project": "shop", "pipeline": "build", "job": "a", "state": "queued", "age_ms": 1000} | fields


def group(first: dict[str, Any], **fields: Any) -> dict[str, Any]:
    """A group of one job, or as it is said."""
    return {"jobs": 1, "names": [first["job"]], "first": first} | fields


def printed(found: dict[str, Any], *, lines_most: int = LINES_MOST) -> list[str]:
    """The lines for an answer about everything."""
    page = Page(Paint(False), lines_most=lines_most)
    page.all(found)
    return page.lines


def test_the_time_of_day_is_that_of_whoever_asks() -> None:
    """As `show` prints it, in the same zone."""
    facts = {"start_after": "2026-01-01T09:00:05Z"}
    local = clock(facts["start_after"], milliseconds=False)
    found = printed({"total": 1, "groups": [group(one(cause="back_off", words="it rests for 5.0s", facts=facts))]})
    assert found == ["r1  build of shop", f"  a  queued for 1.0s: it rests for 5.0s, until {local}"]


def test_an_outcome_is_said_once() -> None:
    """The sentence goes on where the state has said it."""
    page = Page(Paint(False), lines_most=0)
    words = "it failed after 6.3s: step 'x' exited with code 1"
    page.run({"run": one(job="", outcome="failed", words=words)})
    assert page.lines == ["run r1  failed 1.0s ago, after 6.3s: step 'x' exited with code 1"]


def test_a_group_says_how_many_which_first_and_when_the_last() -> None:
    """In one line."""
    names = ["t1", "t2", "t3", "t4"]
    told = group(
        one(job="t1", cause="slots"),
        jobs=98,
        names=names,
        age_ms=12_000,
        words="all 2 slots that fit are taken by a and b; next is t1",
        unblocks="the end of one of these 2 jobs",
        expected_last_ms=40_000,
        expected_from=3,
    )
    assert printed({"total": 98, "groups": [told]})[1:] == [
        "  98 jobs (t1, t2, t3, ...)  queued for up to 12.0s: all 2 slots that fit are taken by a and b; next is t1; "
        "about 40.0s for the last (of 3 past runs)",
        "    → the end of one of these 2 jobs",
    ]


def test_no_more_than_a_screen_without_a_limit() -> None:
    """What is left out is counted."""
    groups = [group(one(job=f"j{at}", words="why", unblocks="what")) for at in range(300)]
    found = printed({"total": 300, "groups": groups})
    assert len(found) < 40
    assert found[-1] == "283 more wait; see them with --limit 300"
    assert len(printed({"total": 300, "groups": groups}, lines_most=0)) == 601


def test_sentences_are_broken_at_words() -> None:
    """Each line fits, what follows stands further in, and no word is lost."""
    words = f"{Paint(True)('bold', 'lint')}  queued for 1.0s: the only slot that fits is taken by build; it waits"
    lines = wrapped(words, 30, indent="  ")
    assert " ".join(line.strip() for line in lines) == words
    assert all(width_of(line.replace("\x1b[1m", "").replace("\x1b[0m", "")) <= 30 for line in lines)
    assert all(line.startswith("      ") and line[6] != " " for line in lines[1:])
    assert wrapped("averyveryverylongword", 10, indent="") == ["averyveryverylongword"]
