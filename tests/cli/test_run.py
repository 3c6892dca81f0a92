"""`run` and `watch`: following a run over everything that may happen meanwhile, with the real command."""

import os
import pty
import signal
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import COMMAND, Headway
from tests.cli.fake_service import DIE, END, FakeService, Script, data, error, event
from tests.cli.screen import Screen

RUN = "0198aaaa-bbbb-7ccc-8ddd-eeeeffff0001"
ACCEPTED = data(run=RUN, seq=1, project="p", pipeline="hello", jobs=1, job_names=["build"], warnings=[])


def history(outcome: str, *, run: str = RUN, exit_code: int = 0) -> Script:
    """The events of a run of one job."""
    return [
        event(1, "run.admitted", run=run, pipeline="hello", project="p", jobs=1),
        event(2, "job.admitted", run=run, job="build"),
        event(3, "job.queued", run=run, job="build", attempt=1, reason="ready"),
        event(4, "job.assigned", run=run, job="build", attempt=1, runner="local-1"),
        event(5, "job.executing", run=run, job="build", attempt=1),
        event(6, "job.completed", run=run, job="build", attempt=1, outcome=outcome, exit_code=exit_code),
        event(7, "run.completed", run=run, outcome=outcome, jobs=1),
    ]


@pytest.fixture
def pipeline(headway: Headway) -> Path:
    """A file to run; what is in it is the service's business."""
    file = headway.cwd / "headway.yml"
    file.write_text("name: hello\n")
    return file


@pytest.mark.parametrize(("outcome", "code"), [("succeeded", 0), ("failed", 1), ("cancelled", 6)])
@pytest.mark.usefixtures("pipeline")
def test_the_outcome_is_the_exit_code(headway: Headway, service: FakeService, outcome: str, code: int) -> None:
    """The outcome is one line on stdout; progress is on stderr."""
    service.on("submit", [ACCEPTED, *history(outcome)])
    service.on("logs", [END])
    done = headway("run", "-p", "LEVEL=quick", "-p", "EMPTY=", "--only", "build", "--project", "p")
    assert done.code == code
    word = "success" if outcome == "succeeded" else outcome
    assert done.out == f"run {RUN} {word} in 6.0s, 1 job: 1 {word}\n"
    assert "build: running on local-1" in done.err
    asked = service.requests[0]
    assert asked["parameters"] == {"LEVEL": "quick", "EMPTY": ""}
    assert (asked["path"], asked["cwd"], asked["only"], asked["project"]) == (
        "headway.yml",
        str(headway.cwd),
        "build",
        "p",
    )
    assert asked["follow"] is True
    assert asked["run"][14] == "7"


@pytest.mark.usefixtures("pipeline")
def test_detach_prints_only_the_id(headway: Headway, service: FakeService) -> None:
    """Warnings and progress go to stderr; with --json the whole answer."""
    warning = {
        "severity": "warning",
        "code": "HW150",
        "file": "headway.yml",
        "line": 1,
        "column": 1,
        "message": "no bash",
    }
    accepted = {"data": {**ACCEPTED["data"], "warnings": [warning]}}
    service.on("submit", [{"progress": "packing"}, accepted, END])
    done = headway("run", "--detach")
    assert (done.code, done.out) == (0, f"{RUN}\n")
    assert "headway.yml:1:1: warning HW150: no bash" in done.err
    assert headway("run", "--detach", "--json").json["run"] == RUN
    assert service.requests[0]["follow"] is False


@pytest.mark.usefixtures("pipeline")
def test_json_is_one_record_at_the_end(headway: Headway, service: FakeService) -> None:
    """A program gets the run's record; a person may still watch stderr."""
    service.on("submit", [ACCEPTED, *history("failed")])
    service.on("logs", [END])
    service.on("wait", [data(run={"run": RUN, "status": "failed", "seq_completed": 7}), END])
    done = headway("run", "--json")
    assert done.code == 1
    assert done.json == {"as_of": 7, "run": {"run": RUN, "status": "failed", "seq_completed": 7}}


@pytest.mark.usefixtures("pipeline")
def test_the_output_of_what_fails_is_shown(headway: Headway, service: FakeService) -> None:
    """Its last lines, whatever chunks they came in, and where to see all of it."""
    service.on("submit", [ACCEPTED, *history("failed", exit_code=3)])
    chunks = ["first\nsec", "ond\n", *(f"line {number}\n" for number in range(30))]
    service.on("logs", [*(data(output=output(number, text)) for number, text in enumerate(chunks)), END])
    done = headway("run")
    assert "build: failed in 2.0s: exited with code 3" in done.err
    assert "  build | line 29\n" in done.err
    assert "line 9\n" not in done.err
    assert f"headway logs {RUN} build" in done.err


def output(seq: int, message: str) -> dict[str, Any]:
    """A record of output."""
    found = {"job": "build", "attempt": 1, "step": 0, "seq": seq, "stream": "stdout", "message": message}
    return {**found, "timestamp": "2026-01-31T00:00:00.000000Z"}


@pytest.mark.usefixtures("pipeline")
def test_a_service_that_is_killed_is_asked_to_go_on(headway: Headway, service: FakeService) -> None:
    """Before the run is known the same is asked again, with the same id; after, the events that were not seen."""
    events = history("succeeded")
    service.on("submit", [DIE], [ACCEPTED, DIE], [ACCEPTED, *events[:3], DIE])
    service.on("events", [*events[2:5], DIE], events[5:])
    done = headway("run")
    assert (done.code, done.out) == (0, f"run {RUN} success in 6.0s, 1 job: 1 success\n")
    assert done.err.count("the service went away; starting it again") == 4
    assert done.err.count("build: running on local-1") == 1
    assert len({one["run"] for one in service.asked("submit")}) == 1
    assert [(one["run"], one["from"]) for one in service.asked("events")] == [(RUN, 4), (RUN, 6)]


@pytest.mark.usefixtures("pipeline")
def test_a_service_that_never_says_anything_ends_the_following(headway: Headway, service: FakeService) -> None:
    """There is a limit to starting again."""
    service.on("submit", [DIE])
    done = headway("run")
    assert done.code == 5
    assert "went away while it was answering" in done.err


@pytest.mark.usefixtures("pipeline")
def test_a_service_that_was_stopped_is_left_alone(headway: Headway, service: FakeService) -> None:
    """An orderly end is someone's wish: it is not started again, and it is said how to go on."""
    service.on("submit", [ACCEPTED, *history("succeeded")[:4], END])
    done = headway("run")
    assert done.code == 5
    assert f"'headway watch {RUN}' starts it again" in done.err


@pytest.mark.usefixtures("pipeline")
def test_an_invalid_file_is_told_line_by_line(headway: Headway, service: FakeService) -> None:
    """All problems with their places, then one sentence; with --json the same as data."""
    problem = {"severity": "error", "file": "headway.yml", "line": 1, "column": 1, "message": "no jobs"}
    service.on("submit", [error("usage", "headway.yml has 1 error", "correct it", diagnostics=[problem])])
    done = headway("run")
    assert (done.code, done.out) == (2, "")
    assert done.err.splitlines() == [
        "headway.yml:1:1: error: no jobs",
        "    1 | name: hello",
        "      | ^",
        "error: headway.yml has 1 error; correct it",
    ]
    record = headway("run", "--json").json["error"]
    assert (record["code"], record["next"], record["diagnostics"]) == ("usage", "correct it", [problem])


@pytest.mark.usefixtures("pipeline")
def test_ctrl_c_cancels_and_follows_to_the_end(headway: Headway, service: FakeService) -> None:
    """The run is asked to end, its end is awaited, and 130 says that it was interrupted."""
    events, asked = history("cancelled"), Waits()
    service.on("cancel", [asked.met, data(seq=9, run=RUN), END])
    service.on("submit", [ACCEPTED, *events[:5], asked.wait, *events[5:]])
    running = headway.start("run")
    read_until(running, b"running on")
    running.send_signal(signal.SIGINT)
    read_until(running, b"cancelling the run; press Ctrl-C again to leave without waiting for its end")
    out, err = running.communicate(timeout=30)
    assert running.returncode == 130, err
    assert out.decode() == f"run {RUN} cancelled in 6.0s, 1 job: 1 cancelled\n"
    assert service.asked("cancel")[0]["run"] == RUN


@pytest.mark.usefixtures("pipeline")
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_leaving_says_what_becomes_of_the_run(headway: Headway, service: FakeService, number: int, code: int) -> None:
    """A second Ctrl-C leaves it to its cancellation, SIGTERM alone; it is said how to see the run again."""
    over = Waits()
    service.on("cancel", [data(seq=9, run=RUN), END])
    service.on("submit", [ACCEPTED, *history("cancelled")[:5], over.wait])
    running = headway.start("run")
    read_until(running, b"running on")
    if number == signal.SIGINT:
        running.send_signal(number)
        read_until(running, b"press Ctrl-C again")
    running.send_signal(number)
    _, err = running.communicate(timeout=30)
    over.met(None)
    assert running.returncode == code, err
    becomes = "is being cancelled" if number == signal.SIGINT else "goes on without this command"
    assert f"run {RUN} {becomes}; see it with 'headway watch {RUN}'".encode() in err


def read_until(running: "subprocess.Popen[bytes]", words: bytes) -> None:
    """Read what the command says until it has said these words."""
    assert running.stderr is not None
    for line in running.stderr:
        if words in line:
            return
    raise AssertionError(f"it ended without saying {words!r}")


class Waits:
    """A script's way to wait for another one."""

    def __init__(self) -> None:
        self._event = threading.Event()

    def met(self, _: object) -> None:
        self._event.set()

    def wait(self, _: object) -> None:
        assert self._event.wait(30)


def test_watch_begins_with_what_there_is(headway: Headway, service: FakeService) -> None:
    """The latest run of this project by default; its end is the exit code."""
    run = {"run": RUN, "pipeline": "hello", "jobs": 1, "admitted": "2026-01-31T00:00:01Z"}
    job = {"job": "build", "state": "executing", "attempt": 1, "started": "2026-01-31T00:00:04Z", "runner": "local-1"}
    service.on("watch", [data(show={"as_of": 5, "run": run, "jobs": [job]}), *history("failed")[5:]])
    service.on("logs", [END])
    done = headway("watch")
    assert (done.code, done.out) == (1, f"run {RUN} failed in 6.0s, 1 job: 1 failed\n")
    assert service.requests[0]["run"] == "@"


@pytest.mark.usefixtures("pipeline")
@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_a_closed_stream_is_an_empty_one(headway: Headway, service: FakeService, closed: str) -> None:
    """A command that was started without stdin, stdout or stderr does its work and tells the others."""
    service.on("submit", [ACCEPTED, *history("succeeded")])
    done = subprocess.run(
        ["sh", "-c", f'"$@" {closed}', "sh", *COMMAND, "run"],
        cwd=headway.cwd,
        env=headway.environ,
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0
    assert b"Traceback" not in done.stderr
    assert (b"success in" in done.stdout, b"running on" in done.stderr) == (
        " >&-" not in f" {closed}",
        "2>" not in closed,
    )


def test_watch_of_a_run_that_is_over_ends_at_once(headway: Headway, service: FakeService) -> None:
    """There is nothing to wait for."""
    run = {"run": RUN, "pipeline": "hello", "jobs": 0, "outcome": "succeeded"}
    service.on("watch", [data(show={"as_of": 9, "run": run, "jobs": []}), END])
    assert headway("watch", RUN).code == 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["run"], "there is no file headway.yml; write one with 'headway init'"),
        (["run", "nope.yml"], "there is no file nope.yml"),
        (["run", "."], ". is a folder"),
    ],
)
def test_a_file_that_cannot_be_one_needs_no_service(headway: Headway, words: list[str], message: str) -> None:
    """It is refused before anything is started."""
    done = headway(*words)
    assert done.code == 2
    assert message in done.err
    assert list(headway.home.iterdir()) == []


@pytest.mark.usefixtures("pipeline")
@pytest.mark.parametrize(
    ("words", "message"),
    [(["-p", "x"], "not of the form NAME=VALUE"), (["-p", "=x"], "NAME=VALUE"), (["-p", "a=1", "-p", "a=2"], "twice")],
)
def test_a_wrong_parameter_is_named(headway: Headway, words: list[str], message: str) -> None:
    """Nothing is guessed about parameters."""
    done = headway("run", *words)
    assert done.code == 2
    assert message in done.err


@pytest.fixture
def terminal() -> Iterator[tuple[int, int]]:
    """A pseudo-terminal, the program's end and ours."""
    ours, theirs = pty.openpty()
    yield ours, theirs
    os.close(ours)


@pytest.mark.usefixtures("pipeline")
def test_on_a_terminal_it_is_live(headway: Headway, service: FakeService, terminal: tuple[int, int]) -> None:
    """A frame that is left complete, then the outcome."""
    ours, theirs = terminal
    service.on("submit", [ACCEPTED, *history("succeeded")])
    environ = {**headway.environ, "TERM": "xterm", "LC_ALL": "C.UTF-8"}
    running = subprocess.Popen(
        [*COMMAND, "run"], cwd=headway.cwd, env=environ, stdin=theirs, stdout=theirs, stderr=theirs
    )
    os.close(theirs)
    shown = b""
    while True:
        try:
            part = os.read(ours, 65536)
        except OSError:  # the program has left its end
            break
        if not part:
            break
        shown += part
    assert running.wait(30) == 0
    screen = Screen(80, 24)
    screen.write(shown.decode().replace("\r\n", "\n"))
    lines = screen.text()
    assert lines[0] == f"hello  {RUN}"
    assert lines[1].split()[:4] == ["✓", "build", "success", "2.0s"]
    assert lines[-1] == f"run {RUN} success in 6.0s, 1 job: 1 success"
    assert "\x1b[32m" in shown.decode()
