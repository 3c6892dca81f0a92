"""What the commands promise, on the real binary: pausing, cancelling, waiting, following, asking."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest

from tests.acceptance.product import Product
from tests.waiting import wait_until

ONE = "name: one\njobs:\n  build:\n    steps: [echo hello]\n"


def waits_for(gate: Path) -> str:
    """A script that goes on until a file is there."""
    return f'echo begun; until [ -e "{gate}" ]; do sleep 0.05; done; echo ended'


def executing(product: Product, run: str) -> bool:
    """Whether a job of the run executes now."""
    return any(job["state"] == "executing" for job in product.json("show", run)["jobs"])


def test_what_init_writes_runs(product: Product) -> None:
    """`init`, then `run`: success; a file that is there is not overwritten by accident (3)."""
    assert product.ok("init") == "wrote headway.yml; run it with 'headway run'\n"
    assert product.ok("run").endswith("success\n")
    (product.project / "headway.yml").write_text(ONE)
    said = "error: headway.yml exists; edit it, or overwrite it with --force\n"
    assert product.fails(3, "init") == said
    assert (product.project / "headway.yml").read_text() == ONE


def test_a_run_that_is_paused_starts_nothing_new(product: Product, tmp_path: Path) -> None:
    """What runs finishes, what waits stays; who paused it, since when and why is told; `resume` lets it go on."""
    gate = tmp_path / "gate"
    jobs = {"first": {"steps": [waits_for(gate)]}, "second": {"depends_on": ["first"], "steps": ["true"]}}
    product.write(json.dumps({"jobs": jobs}))
    run = product.submit()
    wait_until(lambda: executing(product, run), what="the first job executes")
    paused = product.ok("pause", run, "--reason", "look first")
    assert paused == f"run {run} is paused; go on with 'headway resume {run}'\n"
    gate.touch()
    wait_until(lambda: product.json("show", run)["run"]["jobs_completed"] == 1, what="the first job has finished")
    record = product.json("show", run)["run"]
    assert (record["paused"], record["status"]) == (True, "paused")
    assert record["paused_by"].startswith("user:")
    assert record["paused_since"]
    assert product.run("wait", run, "--timeout", "0.2s").returncode == 124
    assert {job["job"]: job["outcome"] for job in product.json("show", run)["jobs"]}["second"] is None
    assert product.ok("resume", run) == f"run {run} goes on\n"
    product.ok("wait", run)
    events = [event for event in product.events(run) if event["type"] in ("run.paused", "run.resumed")]
    assert [event["type"] for event in events] == ["run.paused", "run.resumed"]
    assert events[0]["data"]["reason"] == "look first"


def test_everything_can_be_paused(product: Product) -> None:
    """Runs are still taken, none starts, `status` says who and why; `resume` starts them all."""
    product.write(ONE)
    product.ok("run")
    assert product.ok("pause", "--reason", "maintenance") == "everything is paused; go on with 'headway resume'\n"
    runs = [product.submit(), product.submit()]
    status = product.ok("status")
    assert "maintenance; go on with 'headway resume'" in status
    assert product.json("status")["queue"]["queued"] == 2
    assert product.run("wait", *runs, "--timeout", "0.2s").returncode == 124
    assert product.ok("resume") == "the service goes on\n"
    product.ok("wait", *runs)
    assert product.json("status")["paused"] is None


def test_cancelling_a_job_that_ignores_it_ends_it_all_the_same(product: Product, tmp_path: Path) -> None:
    """SIGTERM is ignored, SIGKILL is not: the job is cancelled, its process gone, what depends on it does not run."""
    mark = tmp_path / "pid"
    script = f"trap '' TERM; echo $$ > {mark}; while true; do sleep 0.1; done"
    jobs = {"deaf": {"steps": [script]}, "after": {"depends_on": ["deaf"], "steps": ["true"]}}
    product.write(json.dumps({"jobs": jobs}))
    run = product.submit()
    wait_until(lambda: mark.exists() and mark.read_text().strip(), what="the job executes")
    assert product.ok("cancel", run, "--reason", "enough") == f"run {run} is being cancelled\n"
    assert product.run("wait", run, "--timeout", "40s").returncode == 6
    assert not Path(f"/proc/{mark.read_text().strip()}").exists()
    record = product.json("show", run)["run"]
    assert (record["outcome"], record["cancel_reason"]) == ("cancelled", "enough")
    assert product.run("watch", run).returncode == 6


def test_one_job_can_be_cancelled(product: Product, tmp_path: Path) -> None:
    """The rest of the run goes on to its end."""
    gate = tmp_path / "gate"
    product.write(json.dumps({"jobs": {"long": {"steps": ["sleep 600"]}, "other": {"steps": [waits_for(gate)]}}}))
    run = product.submit()
    wait_until(lambda: len(product.json("jobs", "--state", "executing")["jobs"]) == 2, what="both execute")
    product.ok("cancel", run, "long")
    gate.touch()
    product.run("wait", run)
    outcomes = {job["job"]: job["outcome"] for job in product.json("show", run)["jobs"]}
    assert outcomes == {"long": "cancelled", "other": "succeeded"}


def test_wait_says_how_runs_ended_and_gives_up_in_time(product: Product, tmp_path: Path) -> None:
    """0 when all succeeded, 1 when one failed, 124 when the time is over, with one sentence."""
    product.write(ONE)
    product.write("jobs:\n  a: {steps: [exit 3]}\n", name="fails.yml")
    product.write(json.dumps({"jobs": {"a": {"steps": [waits_for(tmp_path / "gate")]}}}), name="long.yml")
    good, bad, long = product.submit(), product.submit("fails.yml"), product.submit("long.yml")
    assert product.run("wait", good).returncode == 0
    assert product.run("wait", good, bad).returncode == 1
    late = product.run("wait", long, "--timeout", "0.2s")
    words = "error: not every run was over within 0.2 s; wait longer, or see 'headway status'\n"
    assert (late.returncode, late.stdout, late.stderr) == (124, "", words)
    (tmp_path / "gate").touch()
    found = json.loads(product.ok("wait", good, long, "--json"))
    assert [run["outcome"] for run in found["runs"]] == ["succeeded", "succeeded"]


def test_the_outcome_of_a_run_is_its_exit_code(product: Product) -> None:
    """A step that fails ends the job; what depends on it is skipped; 1, and the output that says why is shown."""
    jobs = {"a": {"steps": ["echo because >&2; exit 3"]}, "b": {"depends_on": ["a"], "steps": ["true"]}}
    product.write(json.dumps({"jobs": jobs}))
    done = product.run("run")
    assert done.returncode == 1
    assert "because" in done.stderr
    assert {job["job"]: job["status"] for job in product.json("show", "@")["jobs"]} == {"a": "failed", "b": "skipped"}


def test_tail_goes_on_from_any_sequence(product: Product) -> None:
    """Every event once: what was read until a place, and what is read from there, is the whole."""
    product.write(ONE)
    product.ok("run")
    whole = product.events("@")
    for at in (0, 4, len(whole) - 1):
        seq = whole[at]["seq"]
        rest = product.ok("tail", "@", "--from", str(seq), "--no-follow", "--json").splitlines()
        assert [json.loads(line) for line in rest] == whole[at:]
    only = product.ok("tail", "@", "--type", "job.completed", "--json").splitlines()
    assert [json.loads(line)["type"] for line in only] == ["job.completed"]
    assert product.ok("tail", "--from", str(whole[-1]["seq"] + 1000), "--no-follow") == ""


def test_tail_without_a_run_shows_what_comes(product: Product) -> None:
    """From now on, every run's events, until it is ended by Ctrl-C (130)."""
    product.write(ONE)
    product.ok("run")
    tail = product.start("tail", "--json", "--from", "start")
    assert tail.stdout
    assert json.loads(tail.stdout.readline())["seq"] == 1
    run = product.submit()
    seen = []
    for line in tail.stdout:
        seen.append(json.loads(line))
        if seen[-1]["run"] == run and seen[-1]["type"] == "run.completed":
            break
    assert [event["seq"] for event in seen] == list(range(2, len(seen) + 2))
    tail.send_signal(signal.SIGINT)
    tail.communicate(timeout=30)
    assert tail.returncode == 130


def test_logs_follow_to_the_end_of_the_run(product: Product, tmp_path: Path) -> None:
    """Lines come while the job runs, from all jobs, and the command ends with the run."""
    gate = tmp_path / "gate"
    product.write(json.dumps({"jobs": {"long": {"steps": [waits_for(gate)]}}}))
    run = product.submit()
    following = product.start("logs", run, "--follow")
    assert following.stdout
    assert following.stdout.readline() == "long | begun\n"
    gate.touch()
    out, errors = following.communicate(timeout=30)
    assert (following.returncode, out) == (0, "long | ended\n"), errors


def test_logs_are_chosen_by_job_step_attempt_and_text(product: Product) -> None:
    """Jobs, stdout and stderr in the order they came; what is asked for and nothing else."""
    script = ["echo one; echo two >&2", "echo three", '[ "$HEADWAY_ATTEMPT" = 2 ] || exit 1']
    jobs = {"a": {"steps": script, "retry_count": 1, "depends_on": ["b"]}, "b": {"steps": ["echo other"]}}
    product.write(json.dumps({"jobs": jobs}))
    product.ok("run")
    assert product.ok("logs", "@", "a") == "one\ntwo\nthree\n"
    assert product.ok("logs", "@", "a", "--attempt", "1", "--step", "1") == "three\n"
    assert product.ok("logs", "@", "a", "--tail", "1") == "three\n"
    assert product.ok("logs", "@", "--grep", "t.o|her") == "b | other\na ! two\n"
    records = [json.loads(line) for line in product.ok("logs", "@", "a", "--json").splitlines()]
    assert list(records[0]) == ["job", "attempt", "step", "seq", "stream", "timestamp", "message"]
    assert [(one["attempt"], one["stream"]) for one in records] == [(2, "stdout"), (2, "stderr"), (2, "stdout")]


def test_the_latest_run_is_the_projects_own(product: Product, tmp_path: Path) -> None:
    """`@` means another run in another project, whichever came last."""
    product.write(ONE)
    here = product.submit()
    other = tmp_path / "other"
    other.mkdir()
    (other / "headway.yml").write_text(ONE)
    there = product.ok("run", "--detach", cwd=other).strip()
    assert product.json("show", "@")["run"]["run"] == here
    assert json.loads(product.ok("show", "@", "--json", cwd=other))["run"]["run"] == there
    named = product.submit("--project", "other")
    assert json.loads(product.ok("show", "@", "--json", cwd=other))["run"]["run"] == named
    assert [run["run"] for run in product.json("runs", "--project", "other")["runs"]] == [named, there]


def test_only_runs_a_job_and_what_it_needs(product: Product) -> None:
    """The rest of the pipeline is not part of the run."""
    steps = {"steps": ["true"]}
    product.write(json.dumps({"jobs": {"a": steps, "b": {**steps, "depends_on": ["a"]}, "c": steps}}))
    product.ok("run", "--only", "b")
    assert sorted(job["job"] for job in product.json("show", "@")["jobs"]) == ["a", "b"]


def test_parameters_reach_the_steps(product: Product) -> None:
    """A parameter is a variable, and wins over those of the file."""
    product.write("jobs:\n  a:\n    environment: {WHO: file}\n    steps: ['echo \"$WHO\"']\n")
    product.ok("run", "-p", "WHO=a b=c")
    assert product.ok("logs", "@", "a") == "a b=c\n"


def test_runs_are_listed_by_what_they_are(product: Product) -> None:
    """By status, pipeline, time and number; a list says how far the log was."""
    product.write(ONE)
    product.write("name: two\njobs:\n  a: {steps: ['false']}\n", name="two.yml")
    good, bad = product.submit(), product.submit("two.yml")
    product.run("wait", good, bad)
    found = product.json("runs")
    assert list(found) == ["as_of", "now", "runs"]
    assert found["as_of"] >= product.events(bad)[-1]["seq"]
    for words, expected in (
        (["--status", "failed"], [bad]),
        (["--pipeline", "one"], [good]),
        (["--since", "1h"], [bad, good]),
        (["--limit", "1"], [bad]),
        (["--branch", "none"], []),
    ):
        assert [run["run"] for run in product.json("runs", *words)["runs"]] == expected


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_is_printed(product: Product, shell: str) -> None:
    """A script for each shell, without a service."""
    assert "headway" in product.ok("completion", shell)
    assert not product.home.exists()


def test_the_configuration_tells_where_values_come_from(product: Product) -> None:
    """Environment over file over default, each named."""
    product.home.mkdir()
    (product.home / "config.yml").write_text("slots: 7\nlabels: [a, b]\n")
    found = {one["key"]: (one["value"], one["origin"]) for one in product.json("config", "show")["settings"]}
    assert found["slots"] == (2, "environment")
    assert found["labels"] == (["a", "b"], "file")
    assert found["idle_exit_seconds"] == (300, "default")
    assert product.ok("config", "check") == f"{product.home / 'config.yml'} is right\n"


def test_what_was_cancelled_is_not_cancelled_again(product: Product) -> None:
    """A second `cancel` changes nothing, and says so."""
    product.write("name: never\njobs:\n  build: {runs_on: [nobody], steps: [echo hello]}\n")
    run = product.submit()
    assert product.ok("cancel", run) == f"run {run} is being cancelled\n"
    assert product.run("wait", run).returncode == 6
    assert product.ok("cancel", run) == f"run {run} was cancelled already\n"
    assert product.ok("cancel", run, "build") == f"job build of run {run} was cancelled already\n"


def test_a_doctor_who_starts_the_service_finds_it_well(product: Product) -> None:
    """Its first moments are no trouble: the coordinator is waited for."""
    product.write(ONE)
    product.ok("run")
    product.ok("down")
    [found] = [one for one in product.json("doctor")["checks"] if one["name"] == "coordinator"]
    assert found["words"] == "this service coordinates"
