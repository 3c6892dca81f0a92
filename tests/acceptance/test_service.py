"""The service as a process: started once, gone when idle, stopped as asked, replaced when it is of another version."""

from __future__ import annotations

import json
import shutil
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from tests.acceptance.product import Product, alive, command_of, processes_with
from tests.waiting import wait_until

ONE = "name: one\njobs:\n  build:\n    steps: [echo hello]\n"
UNTIL_TOLD = 'until [ -e "{gate}" ]; do sleep 0.05; done'
UNFINISHED = (
    "error: 1 run is unfinished; wait with 'headway down --drain', or leave them for the next start with --now\n"
)
ROOT = Path(__file__).parents[2]


def gated(product: Product, gate: Path, *, jobs: int = 1) -> str:
    """A run whose jobs go on until the file `gate` is there; its id, once the first job executes."""
    names = {f"j{at}": {"steps": [UNTIL_TOLD.format(gate=gate)]} for at in range(jobs)}
    product.write(json.dumps({"name": "gated", "jobs": names}), name="gated.yml")
    run = product.submit("gated.yml")
    wait_until(lambda: product.json("jobs", "--state", "executing")["jobs"], what="a job executes")
    return run


def outcome(product: Product, run: str) -> str:
    """How a run ended, once it has."""
    product.run("wait", run)
    return str(product.json("show", run)["run"]["outcome"])


def test_eight_commands_on_a_fresh_home_start_one_service(product: Product) -> None:
    """All eight are answered, all eight runs end, and there is one service, one server and one runner."""
    product.write(ONE)
    started = [product.start("run", "--detach") for _ in range(8)]
    said = [process.communicate(timeout=60) for process in started]
    assert [process.returncode for process in started] == [0] * 8, said
    runs = {out.strip() for out, _ in said}
    assert len(runs) == 8
    product.ok("wait", *runs)
    assert {run["run"]: run["outcome"] for run in product.json("runs")["runs"]} == dict.fromkeys(runs, "succeeded")
    for word in ("headway.cli.service ", "nats-server ", "headway.runners "):
        # Services that came second leave as soon as they see it.
        wait_until(lambda word=word: working(product, word) == 1, what=f"there is one {word}")


def working(product: Product, word: str) -> int:
    """How many processes of this home have a word in their command."""
    return sum(word in command_of(pid) for pid in processes_with(product.home))


def test_an_idle_service_leaves_nothing_behind(product: Product) -> None:
    """When nothing runs and nothing is asked, service, log server and runner end; the next command has all of it."""
    product.write(ONE)
    product.environ["HEADWAY_IDLE_EXIT_SECONDS"] = "1"
    product.ok("run")
    wait_until(lambda: not processes_with(product.home), what="all processes of this home are gone", timeout_seconds=30)
    assert not (product.home / "control.sock").exists()
    assert [run["status"] for run in product.json("runs")["runs"]] == ["success"]


def test_a_service_with_unfinished_runs_is_not_idle(product: Product, tmp_path: Path) -> None:
    """It stays for as long as a job runs, however long nobody asks; then it goes."""
    product.environ["HEADWAY_IDLE_EXIT_SECONDS"] = "1"
    gate = tmp_path / "gate"
    product.write(json.dumps({"jobs": {"a": {"steps": ["sleep 2.5", f"touch {gate}"]}}}))
    product.submit()
    pid = product.service_pid()
    wait_until(gate.exists, what="the job has gone on", timeout_seconds=30)
    assert alive(pid)
    wait_until(lambda: not processes_with(product.home), what="all processes of this home are gone", timeout_seconds=30)


def test_down_refuses_drains_and_leaves(product: Product, tmp_path: Path) -> None:
    """With a run unfinished: refused (3), --drain --timeout gives up (124), --drain waits and takes nothing new."""
    gate = tmp_path / "gate"
    run = gated(product, gate)
    assert product.fails(3, "down") == UNFINISHED
    late = product.run("down", "--drain", "--timeout", "0.3s")
    assert (late.returncode, late.stdout) == (124, "")
    assert late.stderr.splitlines()[-1].startswith("error: not every run was over within 0.3 s; wait longer")
    draining = product.start("down", "--drain")
    assert draining.stderr
    assert draining.stderr.readline() == "waiting for 1 unfinished run\n"
    refused = product.fails(3, "run", "--detach", "gated.yml")
    assert refused == "error: the service is stopping and takes no new runs; wait for it, then run again\n"
    gate.touch()
    out, _ = draining.communicate(timeout=60)
    assert (draining.returncode, out) == (0, "the service has stopped\n")
    assert processes_with(product.home) == []
    assert outcome(product, run) == "succeeded"
    assert product.ok("down") == "the service has stopped\n"
    assert product.ok("down") == "the service is not running\n"


def test_what_down_now_leaves_goes_on_at_the_next_start(product: Product, tmp_path: Path) -> None:
    """Nothing of the job is left running; the next command brings the run to its end, in a new attempt."""
    gate = tmp_path / "gate"
    run = gated(product, gate, jobs=3)
    assert product.ok("down", "--now") == "the service has stopped\n"
    assert processes_with(product.home) == []
    gate.touch()
    assert outcome(product, run) == "succeeded"
    events = product.events(run)
    assert [event["type"] for event in events].count("job.completed") == 3
    assert max(event["attempt"] for event in events) == 2


def test_a_second_service_in_one_home_is_refused(product: Product) -> None:
    """`headway up` where a service runs says so and changes nothing."""
    product.write(ONE)
    product.ok("run")
    pid = product.service_pid()
    assert product.fails(5, "up") == f"error: a service is running in {product.home}; see 'headway status'\n"
    product.ok("run")
    assert product.service_pid() == pid


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_the_foreground_service(product: Product, tmp_path: Path, number: signal.Signals) -> None:
    """`headway up` ends in good order with all its processes, also with a run under way, which goes on later."""
    up = product.start("up")
    assert up.stderr
    assert up.stderr.readline() == f"headway 0.1.0 is up in {product.home}; Ctrl-C stops it\n"
    gate = tmp_path / "gate"
    run = gated(product, gate)
    up.send_signal(number)
    up.communicate(timeout=30)
    assert up.returncode == 0
    assert processes_with(product.home) == []
    gate.touch()
    assert outcome(product, run) == "succeeded"


def test_one_interrupt_cancels_the_run(product: Product, tmp_path: Path) -> None:
    """Ctrl-C on `headway run` cancels what it follows: exit code 130, the run is cancelled, its processes are gone."""
    following = start_following(product, tmp_path / "gate")
    following.send_signal(signal.SIGINT)
    _, said = following.communicate(timeout=60)
    assert following.returncode == 130
    assert "cancelling the run; press Ctrl-C again to leave without waiting for its end" in said
    shown = product.json("show", "@")["run"]
    assert (shown["outcome"], shown["cancel_reason"]) == ("cancelled", "interrupted")


def test_two_interrupts_leave_the_run(product: Product, tmp_path: Path) -> None:
    """The second Ctrl-C ends the command at once, the cancellation stands; `watch` leaves at the first."""
    following = start_following(product, tmp_path / "gate", "trap '' TERM; ")
    following.send_signal(signal.SIGINT)
    assert following.stderr
    for line in following.stderr:
        if "press Ctrl-C again" in line:
            break
    following.send_signal(signal.SIGINT)
    out, said = following.communicate(timeout=30)
    assert (following.returncode, out) == (130, "")
    run = product.json("runs")["runs"][0]["run"]
    assert said.endswith(f"run {run} is being cancelled; see it with 'headway watch {run}'\n")
    (tmp_path / "gate").touch()


def start_following(product: Product, gate: Path, before: str = "") -> subprocess.Popen[str]:
    """`headway run` on a job that goes on until told, once that job executes."""
    product.write(json.dumps({"jobs": {"long": {"steps": [before + UNTIL_TOLD.format(gate=gate)]}}}))
    following = product.start("run")
    wait_until(lambda: product.json("jobs", "--state", "executing")["jobs"], what="the job executes")
    return following


# Versions


@pytest.fixture
def other_version(tmp_path: Path, product: Product) -> Path:
    """A copy of Headway in a folder of its own, whose version a test may set."""
    copy = tmp_path / "copy"
    shutil.copytree(ROOT / "headway", copy / "headway", ignore=shutil.ignore_patterns("__pycache__"))
    return copy


def start_version(product: Product, copy: Path, version: str) -> subprocess.Popen[bytes]:
    """A service of this version, once it answers."""
    package = copy / "headway" / "__init__.py"
    package.write_text(package.read_text().replace('"0.1.0"', f'"{version}"'))
    command = [sys.executable, "-P", "-m", "headway.cli.service", "--detached"]
    environ = {**product.environ, "PYTHONPATH": str(copy)}
    product.home.mkdir(exist_ok=True)
    service = subprocess.Popen(command, env=environ, cwd=product.home, stderr=subprocess.DEVNULL)
    wait_until((product.home / "control.sock").exists, what="the other service listens", timeout_seconds=30)
    wait_until(product.service_pid, what="the other service answers", timeout_seconds=30)
    return service


def test_an_idle_service_of_an_older_version_is_replaced(product: Product, other_version: Path) -> None:
    """The command says so, and its run is done by the new one."""
    service = start_version(product, other_version, "0.0.9")
    product.write(ONE)
    done = product.run("run")
    assert done.returncode == 0, done.stderr
    assert "replacing the service (Headway 0.0.9) by Headway 0.1.0\n" in done.stderr
    assert service.wait(30) == 0
    assert product.json("status")["service"]["version"] == "0.1.0"


def test_a_busy_service_of_an_older_version_is_named(product: Product, other_version: Path, tmp_path: Path) -> None:
    """It is not touched, and it is said what to type; when it is done, the next command replaces it."""
    service = start_version(product, other_version, "0.0.9")
    gate = tmp_path / "gate"
    product.write(json.dumps({"jobs": {"long": {"steps": [UNTIL_TOLD.format(gate=gate)]}}}))
    old = {"PYTHONPATH": str(other_version)}
    script = "import sys; from headway.cli.main import main; sys.exit(main())"
    submitted = product.program(sys.executable, "-P", "-c", script, "run", "--detach", environ=old)
    assert submitted.returncode == 0, submitted.stderr
    said = (
        "error: the service is Headway 0.0.9 and has 1 unfinished run; this command is 0.1.0; let it finish and stop"
        " it with 'headway down --drain'\n"
    )
    for words in (["run", "--detach"], ["runs"], ["status"]):
        assert product.fails(3, *words) == said
    assert service.poll() is None
    gate.touch()
    product.ok("down", "--drain")
    assert service.wait(30) == 0
    assert outcome(product, submitted.stdout.strip()) == "succeeded"


def test_a_service_of_a_newer_version_is_left_alone(product: Product, other_version: Path) -> None:
    """An older command does not touch it, and says what to do."""
    service = start_version(product, other_version, "9.0.0")
    said = (
        "error: the service is Headway 9.0.0, newer than this command (0.1.0); use the newer command, or stop the"
        " service with 'headway down'\n"
    )
    assert product.fails(3, "runs") == said
    assert service.poll() is None
    product.ok("down")
    assert service.wait(30) == 0


def test_who_follows_is_told_when_the_tables_cannot_go_on(product: Product, tmp_path: Path) -> None:
    """A follower that has ended ends `watch` with why, instead of letting it wait for ever; rebuilding mends it."""
    gate = tmp_path / "gate"
    run = gated(product, gate)
    follower = product.start("watch", run)
    with sqlite3.connect(product.home / "projections" / "headway.db") as tables:  # where the next event is to go
        tables.execute(
            "insert into events select seq + 1, run, n, type, job, attempt, logged, time, at, actor, body"
            " from events order by seq desc limit 1"
        )
    tables.close()
    gate.touch()
    said = follower.communicate(timeout=30)[1]
    assert follower.returncode == 70, said
    assert "headway.db refused a row" in said
    product.ok("projections", "rebuild")
    assert outcome(product, run) == "succeeded"
