"""The small fold behind the live view."""

from typing import Any

from headway.cli.board import Board
from tests.cli.fake_service import event


def fold(*events: dict[str, Any]) -> Board:
    """A board that has seen these."""
    board = Board()
    for one in events:
        board.event(one["data"]["event"])
    return board


ADMITTED = event(1, "run.admitted", run="r1", pipeline="hello", project="p", jobs=2)
ASSIGNED = event(3, "job.assigned", job="a", attempt=1, runner="local-1")


def test_a_job_goes_through_its_states() -> None:
    """Status, runner and duration follow the events' own times."""
    board = fold(ADMITTED, event(2, "job.queued", job="a", attempt=1, reason="ready"), ASSIGNED)
    assert board.jobs["a"].status(paused=False) == "running"
    board.event(event(9, "job.completed", job="a", attempt=1, outcome="succeeded")["data"]["event"])
    line = board.jobs["a"]
    assert (line.status(paused=False), line.seconds(99), line.runner) == ("success", 6.0, "local-1")


def test_an_event_that_comes_twice_changes_nothing() -> None:
    """The sequence says what was seen."""
    board = fold(ADMITTED, ASSIGNED)
    assert board.event(ASSIGNED["data"]["event"]) is False
    assert board.counts()["running"] == 1


def test_a_fact_of_an_old_attempt_moves_nothing() -> None:
    """What a lost runner still says does not count."""
    board = fold(ADMITTED, event(2, "job.queued", job="a", attempt=2, reason="lost"))
    board.event(event(5, "job.executing", job="a", attempt=1)["data"]["event"])
    assert board.jobs["a"].status(paused=False) == "retry"


def test_promised_jobs_are_pending_before_they_are_seen() -> None:
    """The counts add up from the first moment."""
    board = fold(ADMITTED)
    assert (board.total(), board.counts()["pending"]) == (2, 2)


def test_a_failure_says_which_step_and_how() -> None:
    """The reason a person needs first is the step and its exit code."""
    board = fold(
        ADMITTED,
        ASSIGNED,
        event(5, "step.finished", job="a", attempt=1, step=0, name="pytest", outcome="failed", exit_code=2),
        event(6, "job.completed", job="a", attempt=1, outcome="failed", exit_code=2),
        event(7, "run.completed", run="r1", outcome="failed", jobs=2),
    )
    assert board.jobs["a"].why() == "step 'pytest' exited with code 2"
    assert board.summary() == "run r1 failed in 6.0s, 2 jobs: 1 failed, 1 pending"


def test_a_reason_is_shown_as_it_is() -> None:
    """What the runner found wins over the exit code, and is not said twice; a failed attempt has it in its failure."""
    step = event(5, "step.finished", job="a", attempt=1, step=0, name="x", outcome="failed", exit_code=3)
    reason = "step 'x' timed out after 1 s"
    board = fold(ADMITTED, ASSIGNED, step)
    failure = {"class": "caller_fixable", "reason": reason}
    board.event(event(6, "job.attempt_failed", job="a", attempt=1, failure=failure, exit_code=3)["data"]["event"])
    assert board.jobs["a"].why() == reason
    board = fold(ADMITTED, ASSIGNED, step)
    over = event(6, "job.completed", job="a", attempt=1, outcome="failed", reason=reason, exit_code=3)
    board.event(over["data"]["event"])
    assert board.jobs["a"].detail() == reason


def test_a_queued_job_says_what_it_waits_for() -> None:
    """Its labels when it has some, a pause before all."""
    board = fold(ADMITTED, event(2, "job.admitted", job="a", runs_on=["gpu", "big"]))
    for job in ("a", "b"):
        board.event(event(3 + (job == "b"), "job.queued", job=job, attempt=1, reason="ready")["data"]["event"])
    assert [board.jobs[job].detail() for job in "ab"] == ["waits for a runner with gpu, big", "waits for a slot"]
    assert board.jobs["a"].detail(paused_by="user:anna") == "paused by anna"


def test_it_begins_from_a_record_and_goes_on_with_events() -> None:
    """Events up to the record's position are already in it."""
    board = Board()
    run = {"run": "r1", "pipeline": "hello", "jobs": 1, "admitted": "2026-01-31T00:00:00Z", "outcome": None}
    job = {"job": "a", "state": "executing", "attempt": 1, "runner": "local-1", "started": "2026-01-31T00:00:03Z"}
    board.show({"as_of": 4, "run": run, "jobs": [job]})
    assert board.event(ASSIGNED["data"]["event"]) is False
    board.event(event(8, "job.completed", job="a", attempt=1, outcome="cancelled", reason="asked")["data"]["event"])
    assert board.jobs["a"].detail() == "asked"


def test_events_that_make_no_sense_are_taken() -> None:
    """Missing fields and unknown types never end a live view."""
    board = fold({"data": {"event": {}}}, {"data": {"event": {"type": "job.completed", "job": "x", "data": None}}})
    board.event({"type": "moon.risen", "seq": 9, "logged": "never"})
    assert list(board.jobs) == ["x"]


def test_a_paused_run_has_paused_jobs() -> None:
    """Who paused it is known."""
    board = fold(ADMITTED, event(2, "job.queued", job="a", attempt=1), event(3, "run.paused", run="r1", reason="x"))
    assert (board.counts()["paused"], board.paused_by) == (1, "user:anna")
