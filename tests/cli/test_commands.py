"""Every command as a person types it: what it asks, what it prints, how it ends."""

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from headway import __version__
from headway.cli.main import COMMANDS
from headway.core.pipeline import compile_pipeline
from tests.cli.conftest import COMMAND, Headway
from tests.cli.fake_service import DIE, END, FakeService, data, error

RUN = "0198aaaa-bbbb-7ccc-8ddd-eeeeffff0001"
NAMES = [name for group in COMMANDS.values() for name in group]

RECORD = {
    "run": RUN,
    "project": "shop",
    "pipeline": "hello",
    "status": "failed",
    "outcome": "failed",
    "branch": "main",
    "commit": "abcdef0123456789",
    "dirty": True,
    "actor": "user:anna",
    "admitted": "2026-01-31T00:00:00Z",
    "completed": "2026-01-31T00:00:10Z",
    "duration_ms": 10000,
    "jobs": 2,
    "jobs_completed": 2,
    "parameters": {"LEVEL": "quick"},
    "pipeline_file": "headway.yml",
    "seq_completed": 42,
}
FAILED_JOB = {
    "run": RUN,
    "job": "test",
    "status": "failed",
    "state": "completed",
    "outcome": "failed",
    "attempt": 2,
    "runner": "local-1",
    "runs_on": ["linux"],
    "started": "2026-01-31T00:00:03Z",
    "completed": "2026-01-31T00:00:10Z",
    "duration_ms": 7000,
    "exit_code": 1,
    "entered": "2026-01-31T00:00:10Z",
}
RUNNER = {
    "runner": "local-1",
    "name": "local",
    "status": "busy",
    "labels": ["linux", "x86_64"],
    "slots": 2,
    "busy": 1,
    "host": "box",
    "registered": "2026-01-31T00:00:00Z",
}


@pytest.mark.parametrize("name", NAMES)
def test_every_command_has_help(headway: Headway, name: str) -> None:
    """`--help` ends with 0, begins with the usage and says what the command is for."""
    done = headway(name, "--help")
    assert (done.code, done.err) == (0, "")
    assert done.out.startswith(f"usage: headway {name}")
    assert done.out.count("\n") > 4


def test_help_names_every_command_and_exit_code(headway: Headway) -> None:
    """One screen, on stdout, with 0; without a command it is a usage error."""
    done = headway("--help")
    assert done.code == 0
    assert all(f"\n  {name} " in done.out for name in NAMES)
    assert "124 a wait timed out" in done.out
    assert max(map(len, done.out.splitlines())) <= 110
    assert headway().code == 2
    assert headway("help", "runs").out.startswith("usage: headway runs")


def test_version(headway: Headway) -> None:
    """The name and the version, nothing else."""
    assert headway("--version").out == f"headway {__version__}\n"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["rums"], "there is no command 'rums'; did you mean 'runs'?; see 'headway --help'"),
        (["--wat"], "there is no option '--wat'; see 'headway --help'"),
        (["runs", "--limit", "0"], "argument --limit: must be at least 1; see 'headway runs --help'"),
        (["runs", "--since", "soon"], "argument --since: 'soon' is not a length of time such as 30s, 10m or 2h; see"),
        (["runs", "--status", "odd"], "argument --status: invalid choice: 'odd'"),
        (["show"], "the following arguments are required: RUN; see 'headway show --help'"),
        (["logs", "@", "--grep", "("], "is not a regular expression"),
        (["logs", "@", "-f", "--tail", "3"], "--tail cannot be used with --follow"),
        (["tail", "--from", "x"], "is not a whole number"),
        (["down", "--timeout", "3"], "--timeout says how long --drain may take"),
        (["down", "--drain", "--now"], "not allowed with"),
        (["runners"], "the following arguments are required: ACTION"),
        (["runners", "start", "--name", "a b"], "is not a name of letters"),
        (["runners", "start", "--slots", "9999"], "at most 1024"),
        (["completion", "tcsh"], "invalid choice"),
        (["wait", "@", "--timeout", "1h30"], "is not a length of time"),
    ],
)
def test_wrong_usage_is_one_sentence(headway: Headway, words: list[str], message: str) -> None:
    """Exit code 2, on stderr, with what to do; nothing is started for it."""
    done = headway(*words)
    assert (done.code, done.out) == (2, "")
    assert message in done.err
    assert done.err.startswith("error: ")
    assert done.err.count("\n") == 1
    assert list(headway.home.iterdir()) == []


def test_errors_are_data_with_json(headway: Headway, service: FakeService) -> None:
    """With --json, stdout has the error and stderr nothing, for our errors and the service's."""
    service.on("show", [error("not_found", "no run 'zz'", "see 'headway runs'")])
    done = headway("show", "zz", "--json")
    assert (done.code, done.err) == (4, "")
    assert done.json == {"error": {"code": "not_found", "message": "no run 'zz'", "next": "see 'headway runs'"}}
    assert headway("runs", "--limit", "x", "--json").json["error"]["code"] == "usage"
    assert headway("--json", "show", "zz").json["error"]["code"] == "not_found"


@pytest.mark.parametrize(
    ("words", "op", "asked"),
    [
        (
            ["runs", "--status", "failed", "--since", "2h", "--limit", "5"],
            "runs",
            {"status": "failed", "since": 7200.0},
        ),
        (["runs", "--pipeline", "hello", "--branch", "main"], "runs", {"pipeline": "hello", "branch": "main"}),
        (["jobs"], "jobs", {"limit": 1000}),
        (["jobs", "--state", "queued", "--label", "gpu"], "jobs", {"state": "queued", "label": "gpu"}),
        (["show", "@"], "show", {"run": "@"}),
        (["cancel", "abc", "--reason", "wrong"], "cancel", {"run": "abc", "reason": "wrong"}),
        (["cancel", "abc", "build"], "cancel", {"run": "abc", "job": "build"}),
        (["pause", "abc", "--reason", "wait"], "pause", {"run": "abc", "reason": "wait"}),
        (["pause"], "pause", {"reason": ""}),
        (["resume", "abc"], "resume", {"run": "abc"}),
        (["resume"], "resume", {}),
        (["runners", "list"], "runners", {}),
        (["runners", "drain", "local", "--reason", "disk"], "drain", {"runner": "local", "reason": "disk"}),
        (["runners", "resume", "local"], "undrain", {"runner": "local"}),
        (["status"], "status", {}),
    ],
)
def test_what_is_asked_of_the_service(
    headway: Headway, service: FakeService, words: list[str], op: str, asked: dict[str, Any]
) -> None:
    """Arguments reach the service by their names, and its record is printed as it is with --json."""
    service.on(op, [data(as_of=42, run={}, seq=42), END])
    done = headway(*words, "--json")
    assert (done.code, done.err) == (0, "")
    assert done.json == {"as_of": 42, "run": {}, "seq": 42}
    assert headway(*words).code == 0
    assert service.requests[0] | asked == service.requests[0]


def test_runs_and_jobs_are_tables(headway: Headway, service: FakeService) -> None:
    """Aligned, with ids that can be given back as RUN."""
    service.on("runs", [data(as_of=42, runs=[RECORD, {**RECORD, "pipeline": "a\x1b[2J", "status": "running"}]), END])
    service.on("jobs", [data(as_of=42, jobs=[FAILED_JOB]), END])
    lines = headway("runs").out.splitlines()
    assert lines[0].split() == ["RUN", "STATUS", "PIPELINE", "BRANCH", "JOBS", "TIME", "ADMITTED", "PROJECT"]
    assert lines[1].split()[:6] == [RUN[-10:], "failed", "hello", "main*", "2/2", "10.0s"]
    assert lines[2].split()[2] == "a"
    assert headway("jobs").out.splitlines()[1].split()[:4] == [RUN[-10:], "test", "failed", "completed"]


def test_jobs_says_when_there_may_be_more(headway: Headway, service: FakeService) -> None:
    """A list as long as its limit is no silent end; a job that was never started has no attempt."""
    jobs = [FAILED_JOB, {**FAILED_JOB, "job": "never", "attempt": 0, "entered": None, "runner": None, "runs_on": []}]
    service.on("jobs", [data(as_of=42, jobs=jobs), END])
    done = headway("jobs", "--limit", "2")
    assert done.err == "these are the newest 2; there may be more: ask for more with --limit\n"
    assert done.out.splitlines()[2].split()[1:] == ["never", "failed", "completed"]
    assert headway("jobs", "--limit", "3").err == ""


WHY = (
    "  step 'x' timed out after 1 s",
    "  waits for a slot",
    "  waits for a runner with gpu, big",
    "  waits for a slot, after its runner was lost",
    "  cancelled by bob: wrong",
)


def test_show_says_why(headway: Headway, service: FakeService) -> None:
    """Reasons as they are, what is waited for, and who cancelled."""
    step = {"job": "b", "attempt": 1, "step": 0, "name": "x", "outcome": "failed", "exit_code": 3}
    failed = {"state": "completed", "status": "failed", "outcome": "failed", "attempt": 1}
    queued = {"state": "queued", "status": "pending", "attempt": 1, "reason": "ready", "runs_on": []}
    jobs = [
        {**failed, "job": "b", "reason": "step 'x' timed out after 1 s", "exit_code": 3},
        {**queued, "job": "c"},
        {**queued, "job": "d", "runs_on": ["gpu", "big"]},
        {**queued, "job": "e", "attempt": 2, "reason": "lost"},
        {**failed, "job": "f", "outcome": "cancelled", "cancelled_by": "user:bob", "cancel_reason": "wrong"},
    ]
    run = {**RECORD, "cancelled_by": "user:anna", "cancel_reason": "interrupted"}
    paused = {**run, "paused": True, "paused_by": "user:eve"}
    found = {"jobs": jobs, "attempts": [], "steps": [step]}
    service.on("show", [data(as_of=42, run=run, **found), END], [data(as_of=43, run=paused, **found), END])
    lines = headway("show", "@").out.splitlines()
    assert "cancelled   by anna: interrupted" in lines
    why = [line for line in lines if line[:2] in ("b ", "c ", "d ", "e ", "f ")]
    assert all(one.endswith(words) for one, words in zip(why, WHY, strict=True)), why
    assert headway("show", "@").out.count("paused by eve") == 3


def test_an_empty_list_is_no_error(headway: Headway, service: FakeService) -> None:
    """Nothing on stdout, a word on stderr, 0."""
    service.on("runs", [data(as_of=0, runs=[]), END])
    done = headway("runs")
    assert (done.code, done.out, done.err) == (0, "", "no runs\n")


def test_show_has_the_run_its_jobs_and_what_failed(headway: Headway, service: FakeService) -> None:
    """Header, jobs with why, attempts where there were several, last lines of the failure."""
    step = {"job": "test", "attempt": 2, "step": 0, "name": "pytest", "outcome": "failed", "exit_code": 1}
    attempt = {"job": "test", "attempt": 1, "outcome": "failed", "runner": "local-1", "reason": "it broke"}
    jobs = [{"job": "build", "status": "success", "state": "completed", "outcome": "succeeded"}, FAILED_JOB]
    service.on("show", [data(as_of=42, run=RECORD, jobs=jobs, attempts=[attempt], steps=[step]), END])
    service.on(
        "logs", [data(output={"job": "test", "attempt": 2, "seq": 0, "message": "E   assert 1 == 2\x1b[2J\n"}), END]
    )
    done = headway("show", "@")
    assert done.code == 0
    assert f"run         {RUN}" in done.out
    assert "source      main  abcdef012345 with changes" in done.out
    assert "parameters  LEVEL=quick" in done.out
    assert "by          anna" in done.out
    assert "step 'pytest' exited with code 1" in done.out
    assert "test#1" in done.out
    assert "\n  | E   assert 1 == 2\n" in done.out
    assert (service.asked("logs")[0]["job"], service.asked("logs")[0]["attempt"]) == ("test", 2)


@pytest.mark.parametrize(("outcomes", "code"), [(["succeeded"], 0), (["cancelled", "failed"], 1), (["cancelled"], 6)])
def test_wait_tells_how_all_ended(headway: Headway, service: FakeService, outcomes: list[str], code: int) -> None:
    """A failure weighs more than a cancellation; a service that dies does not end the wait."""
    records = [{**RECORD, "run": f"r{at}", "outcome": one, "status": one} for at, one in enumerate(outcomes)]
    lines = [data(run=one) for one in records]
    service.on("wait", [*lines[:1], DIE], [*lines, END])
    done = headway("wait", "r0", "r1")
    assert done.code == code
    assert done.out.count("\n") == len(outcomes)
    assert headway("wait", "r0", "r1", "--json").json == {"as_of": 42, "runs": records}


def test_wait_that_takes_too_long(headway: Headway, service: FakeService) -> None:
    """124, and what to do."""
    service.on("wait", [error("timed_out", "1 of 1 runs are unfinished", "wait longer")])
    done = headway("wait", "@", "--timeout", "1")
    assert (done.code, done.err) == (124, "error: 1 of 1 runs are unfinished; wait longer\n")
    assert 0 < service.requests[0]["timeout_seconds"] <= 1


def test_status_is_one_screen(headway: Headway, service: FakeService) -> None:
    """Service, log, pause, queue, runners, runs."""
    found = {
        "service": {"version": "0.1.0", "pid": 7, "log": {"server": "embedded", "words": "2.0 KiB used"}},
        "paused": {"by": "user:anna", "since": "2026-01-31T00:00:00Z", "reason": "release"},
        "queue": {"queued": 3, "on_a_runner": 2, "oldest_queued": "2026-01-31T00:00:00Z"},
    }
    service.on("status", [data(as_of=42, runners=[RUNNER], runs=[RECORD], **found), END])
    done = headway("status")
    assert "service  Headway 0.1.0, process 7" in done.out
    assert "log      at 42, server embedded, 2.0 KiB used" in done.out
    assert "paused   by anna" in done.out
    assert ": release; go on with 'headway resume'" in done.out
    assert "3 queued (the oldest" in done.out
    assert "local-1  busy      1/2  linux,x86_64" in done.out
    assert RUN[-10:] in done.out


@pytest.mark.parametrize(
    ("log", "shown"),
    [
        ({"level": "ok"}, "server embedded, so full"),
        ({"level": "warning"}, "\x1b[33mserver embedded, almost full, so full\x1b[0m"),
        ({"level": "error"}, "\x1b[31mserver embedded, almost full, so full\x1b[0m"),
        ({"level": "ok", "trouble": "the disk is full"}, "\x1b[31mserver embedded, so full, the disk is full\x1b[0m"),
    ],
)
def test_status_paints_a_log_that_fills_up(
    headway: Headway, service: FakeService, log: dict[str, str], shown: str
) -> None:
    """Yellow for a warning, red for what is worse."""
    full = {"server": "embedded", "words": "so full", **log}
    service.on("status", [data(service={"version": "0.1.0", "pid": 7, "log": full}), END])
    assert f"log    \x1b[0m  {shown}\n" in headway("status", CLICOLOR_FORCE="1").out


def test_down_says_whether_there_was_something_to_stop(headway: Headway, service: FakeService) -> None:
    """How to stop is asked; a refusal is 3; a service that is gone already is no error."""
    service.on("down", [error("refused", "2 runs are unfinished", "use --drain or --now")], [data(stopped=True), END])
    assert headway("down").code == 3
    assert headway("down", "--drain", "--timeout", "10m").out == "the service has stopped\n"
    assert [one["mode"] for one in service.requests] == ["refuse", "drain"]
    assert service.requests[1]["timeout_seconds"] == 600
    service.on("down", [DIE])
    assert headway("down", "--now", "--json").json == {"stopped": True}


def test_down_without_a_service_starts_none(headway: Headway) -> None:
    """There is nothing to stop."""
    done = headway("down")
    assert (done.code, done.out) == (0, "the service is not running\n")
    assert list(headway.home.iterdir()) == []


@pytest.mark.parametrize(("level", "code"), [("warning", 0), ("error", 1)])
def test_doctor_fails_only_for_errors(headway: Headway, service: FakeService, level: str, code: int) -> None:
    """What this machine has and what the service found, one line each."""
    found = {"name": "fsync", "ok": level != "error", "level": level, "words": "not vouched for", "next": "ask"}
    service.on("hello", [data(version=__version__, pid=7), END])
    service.on("doctor", [data(checks=[found]), END])
    done = headway("doctor")
    assert done.code == code, done.out
    assert done.out.splitlines()[-1].split() == [level, "fsync", "not", "vouched", "for;", "ask"]
    assert headway("doctor", "--json").json["checks"][-1] == found


def test_init_writes_a_file_that_is_right(headway: Headway) -> None:
    """It never overwrites by accident."""
    assert headway("init").out == "wrote headway.yml; run it with 'headway run'\n"
    file = headway.cwd / "headway.yml"
    _, warnings = compile_pipeline(file.read_bytes(), file="headway.yml")
    assert warnings == []
    file.write_text("mine\n")
    assert headway("init").code == 3
    assert file.read_text() == "mine\n"
    assert headway("init", "--force", "--json").json == {"file": "headway.yml"}
    assert headway("init", "no/such/folder.yml").code == 5


def test_config_is_found_shown_and_checked(headway: Headway) -> None:
    """Without a service; a wrong key is told with its line."""
    path = str(headway.home / "config.yml")
    assert headway("config", "path").out == f"{path}\n"
    assert headway("config", "check").out == f"{path} does not exist; the defaults hold\n"
    Path(path).write_text("slots: 3\n")
    shown = headway("config", "show", "--json", HEADWAY_LABELS="a,b").json
    settings = {one["key"]: (one["value"], one["origin"]) for one in shown["settings"]}
    assert (settings["slots"], settings["labels"]) == ((3, "file"), (["a", "b"], "environment"))
    Path(path).write_text("slotz: 3\n")
    done = headway("config", "check")
    assert done.code == 2
    assert f"{path}:1:1: error" in done.err
    assert headway("config", "check", "--json").json["ok"] is False


def test_a_closed_pipe_is_quiet(headway: Headway, service: FakeService) -> None:
    """A reader that has seen enough is no error."""
    service.on("runs", [data(as_of=1, runs=[RECORD] * 2000), END])
    running = headway.start("runs")
    assert running.stdout is not None
    os.read(running.stdout.fileno(), 10)
    running.stdout.close()
    running.stdout = None
    _, err = running.communicate(timeout=30)
    assert (running.returncode, err) == (0, b"")


def test_a_full_disk_behind_stdout_is_named(headway: Headway, service: FakeService) -> None:
    """Output that cannot be written is an error with an exit code."""
    service.on("runs", [data(as_of=1, runs=[RECORD]), END])
    with open("/dev/full", "w") as full:
        done = subprocess.run([*COMMAND, "runs"], env=headway.environ, stdout=full, stderr=subprocess.PIPE, check=False)
    assert (done.returncode, done.stderr) == (5, b"error: cannot write: no space left on device; make room\n")


def test_our_own_bug_is_one_sentence_and_a_file(headway: Headway, service: FakeService) -> None:
    """Exit code 70, and the traceback lies where it can be sent from; HEADWAY_DEBUG=1 prints it."""
    service.on("runs", [data(as_of=1, runs=[1]), END])
    done = headway("runs")
    assert done.code == 70
    assert done.err.startswith("error: a bug in Headway: AttributeError")
    (file,) = headway.home.glob("bug-*.txt")
    assert "Traceback" in file.read_text()
    assert str(file) in done.err
    assert "Traceback" in headway("runs", HEADWAY_DEBUG="1").err
