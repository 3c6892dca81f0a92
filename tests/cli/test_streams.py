"""`logs` and `tail`: what comes piece by piece, from now or from the beginning, over a service that dies."""

import subprocess
from typing import Any

from tests.cli.conftest import COMMAND, Headway
from tests.cli.fake_service import DIE, END, FakeService, data, event

RUN = "0198aaaa-bbbb-7ccc-8ddd-eeeeffff0001"


def output(seq: int, message: str, *, job: str = "test", stream: str = "stdout") -> dict[str, Any]:
    """A record of output."""
    stamp = f"2026-01-31T10:00:{seq:02d}.000000Z"
    return {
        "job": job,
        "attempt": 1,
        "step": 0,
        "seq": seq,
        "stream": stream,
        "timestamp": stamp,
        "message": message,
    }


RECORDS = [
    output(0, "one\ntw"),
    output(1, "warn\n", stream="stderr"),
    output(2, "o\n"),
    {**output(3, ""), "message_base64": "Y2Fm6Qo="},
    output(4, "\x1b[2Jlast"),
]
LOGS = [*(data(output=one) for one in RECORDS), END]


def test_logs_in_a_pipe_are_the_bytes_as_printed(headway: Headway, service: FakeService) -> None:
    """Partial lines are put together by stream; bytes that are not UTF-8 and escapes are passed on."""
    service.on("logs", LOGS)
    done = subprocess.run(
        [*COMMAND, "logs", "@", "test"], env=headway.environ, cwd=headway.cwd, capture_output=True, check=True
    )
    assert done.stdout == b"one\nwarn\ntwo\ncaf\xe9\n\x1b[2Jlast\n"


def test_logs_of_several_jobs_name_them_and_the_stream(headway: Headway, service: FakeService) -> None:
    """`|` is stdout, `!` is stderr; -t puts the time of the line's beginning before it."""
    service.on("logs", [*LOGS[:3], END])
    assert headway("logs", "@").out.splitlines() == ["test | one", "test ! warn", "test | two"]
    assert headway("logs", "@", "test", "-t").out.splitlines()[2] == "10:00:00.000 | two"


def test_logs_can_be_searched_and_cut(headway: Headway, service: FakeService) -> None:
    """--grep on whole lines, then --tail on what was found; attempt and step are the service's business."""
    service.on("logs", LOGS)
    assert headway("logs", "@", "test", "--grep", "^(one|two)$").out == "one\ntwo\n"
    assert headway("logs", "@", "test", "--grep", "o", "--tail", "1").out == "two\n"
    assert headway("logs", "@", "test", "--tail", "0").out == ""
    headway("logs", "@", "test", "--attempt", "2", "--step", "0")
    asked = service.requests[-1]
    assert (asked["attempt"], asked["step"], asked["job"]) == (2, 0, "test")


def test_logs_as_json_are_the_records(headway: Headway, service: FakeService) -> None:
    """One a line, as the service has them."""
    service.on("logs", LOGS)
    assert headway("logs", "@", "--json").lines == RECORDS


def test_logs_go_on_when_the_service_comes_back(headway: Headway, service: FakeService) -> None:
    """What was printed is not printed again."""
    service.on("logs", [*LOGS[:2], DIE], LOGS)
    done = headway("logs", "@", "-f", "--json")
    assert done.lines == RECORDS
    assert "starting it again" in done.err


EVENTS = [
    event(1, "run.admitted", run=RUN, jobs=1),
    event(2, "job.assigned", run=RUN, job="build", attempt=1, runner="local-1", definition={"name": "build"}),
    event(3, "run.completed", run=RUN, outcome="succeeded", jobs=1),
]
ORDER = ["seq", "n", "type", "run", "job", "attempt", "logged", "at", "actor", "id", "because", "prev", "data"]


def test_tail_as_json_has_the_promised_keys_in_order(headway: Headway, service: FakeService) -> None:
    """One event a line, whatever order the service sent them in."""
    turned = [data(event=dict(reversed(one["data"]["event"].items()))) for one in EVENTS]
    service.on("events", [*turned, END])
    lines = headway("tail", RUN, "--from", "start", "--no-follow", "--json").lines
    assert [list(line) for line in lines] == [ORDER] * 3
    assert [line["type"] for line in lines] == ["run.admitted", "job.assigned", "run.completed"]
    assert (service.requests[0]["from"], service.requests[0]["follow"]) == ("start", False)


def test_tail_for_people(headway: Headway, service: FakeService) -> None:
    """Sequence, time, type, job and attempt, and the short parts of the data."""
    service.on("events", EVENTS)
    lines = headway("tail", RUN).out.splitlines()
    assert lines[1].split() == ["2", "00:00:02.000", "job.assigned", "build#1", "runner=local-1", "definition={name}"]
    assert service.requests[0]["from"] == "start"
    service.on("events", [*EVENTS, END])
    assert headway("tail", "--no-follow").out.splitlines()[0].split()[2] == RUN[-10:]
    assert service.requests[1]["from"] == "now"


def test_tail_of_a_run_ends_with_it_although_filtered(headway: Headway, service: FakeService) -> None:
    """The run's end is what ends the following, seen or not."""
    service.on("events", EVENTS)
    done = headway("tail", RUN, "--type", "job.assigned", "--json")
    assert [line["seq"] for line in done.lines] == [2]


def test_tail_goes_on_after_the_last_event_seen(headway: Headway, service: FakeService) -> None:
    """A service that dies is asked for what comes next."""
    service.on("events", [*EVENTS[:2], DIE], EVENTS[2:])
    assert [line["seq"] for line in headway("tail", RUN, "--json").lines] == [1, 2, 3]
    assert [one["from"] for one in service.requests] == ["start", 3]
