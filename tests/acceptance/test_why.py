"""`headway why` as a person meets it: what stands on the terminal for each cause, on the real binary."""

from __future__ import annotations

import re
import sqlite3
from pathlib import Path

import pytest

from tests.acceptance.product import Product
from tests.acceptance.whys import same, start_extra, submit, until, waits, why
from tests.waiting import wait_until


def test_nothing_waits(product: Product) -> None:
    """Said in two words."""
    product.write("jobs:\n  a: {steps: ['true']}\n")
    product.ok("run")
    assert why(product) == "nothing waits\n"


def test_a_mistyped_label(product: Product) -> None:
    """The label, the one that was meant, and who has it; what waits behind is counted."""
    run = submit(product, {"train": {"runs_on": ["gpu-lagre"], "steps": ["true"]}})
    start_extra(product)
    jobs = {
        "train": {"runs_on": ["gpu-lagre"], "steps": ["true"]},
        "ship": {"depends_on": ["train"], "steps": ["true"]},
    }
    product.ok("cancel", run)
    run = submit(product, jobs)
    waits(product, run, "train", "no_label")
    assert why(product).splitlines() == [
        "RUN  demo of project",
        "  train  queued for T: no runner has the label gpu-lagre; the nearest is gpu-large, which extra-ID has"
        "; 1 job waits behind it: ship",
        "    → correct runs_on of the job, or start a runner with it: headway runners start --labels gpu-lagre",
    ]
    assert why(product, run, "ship").splitlines() == [
        "RUN  demo of project",
        "  ship  admitted for T: it waits for train, queued for T: no runner has the label gpu-lagre; the nearest is "
        "gpu-large, which extra-ID has",
        "    → correct runs_on of the job, or start a runner with it: headway runners start --labels gpu-lagre",
    ]


def test_behind_a_full_slot(product: Product, tmp_path: Path) -> None:
    """Who holds it, how long that usually takes, the number in line, and when a slot is expected."""
    product.environ["HEADWAY_SLOTS"] = "1"
    (tmp_path / "gate").touch()
    product.ok("wait", submit(product, {"build": until(tmp_path / "gate")}))
    (tmp_path / "gate").unlink()
    busy = submit(product, {"build": until(tmp_path / "gate"), "lint": {"steps": ["true"]}})
    waits(product, busy, "lint", "slots")
    other = submit(product, {"test": {"steps": ["true"]}})
    waits(product, other, "test", "slots")
    found = product.json("why", other, "test")["job"]["facts"]
    assert (found["queue_position"], found["queue_length"], found["slots"]) == (2, 2, 1)
    assert [(one["run"], one["job"], one["from_runs"]) for one in found["held_by"]] == [(busy, "build", 1)]
    printed = why(product, busy).splitlines()
    assert printed[0] == (
        "run RUN  open for T: 0 of 2 jobs completed; it waits for lint (queued for T) and build (executing for T)"
    )
    assert printed[1] == (
        "  lint  queued for T: the only slot that fits is taken by build for T, usually T (of 1 past run); "
        "it is number 1 of 2 in line"
    )
    expected = r"(: a slot is expected in about T \(of|, which takes longer than usual \(T, of) 1 past run\)"
    assert re.fullmatch(rf"    → the end of build{expected}", printed[2])
    [build] = [line for line in printed if line.startswith("  build")]
    assert build.startswith("  build  executing for T: runner local-ID executes it, step 'hold' for T; in all it")
    (tmp_path / "gate").touch()
    product.ok("wait", busy, other)


def test_a_runner_that_died(product: Product, tmp_path: Path) -> None:
    """Silent first, with what is left of its lease; then lost, and what the next attempt waits for."""
    product.write("jobs:\n  a: {steps: ['true']}\n")
    product.ok("run")
    pid = start_extra(product)
    run = submit(product, {"train": {"runs_on": ["gpu-large"], **until(tmp_path / "gate")}})
    waits(product, run, "train", "executing")
    product.kill(pid)
    waits(product, run, "train", "silent_runner")
    assert why(product).splitlines() == [
        "RUN  demo of project",
        "  train  executing for T: its runner extra-ID has not been heard for T; its lease ends in T",
        "    → the runner's word; without it attempt 1 is lost when the lease ends, and the job is queued again",
        "    not known: whether the runner still works on it",
    ]
    waits(product, run, "train", "label_gone")
    assert why(product).splitlines() == [
        "RUN  demo of project",
        "  train  queued for T: attempt 1 was lost with extra-ID T ago; no runner has the label gpu-large; extra-ID "
        "had it until it was lost T ago: it has been silent for T",
        "    → start it again: headway runners start --name extra --labels gpu-large",
    ]


def test_drained_by_whom(product: Product) -> None:
    """Every runner with the label takes nothing new: who said so, and why."""
    product.write("jobs:\n  a: {steps: ['true']}\n")
    product.ok("run")
    start_extra(product)
    product.ok("runners", "drain", "extra", "--reason", "new disk")
    run = submit(product, {"train": {"runs_on": ["gpu-large"], "steps": ["true"]}})
    waits(product, run, "train", "draining")
    assert why(product, run, "train").splitlines()[1:] == [
        "  train  queued for T: the only runner with the label gpu-large, extra-ID, takes nothing new: WHO drained it "
        "T ago: new disk",
        "    → headway runners resume extra",
    ]


def test_paused_by_whom(product: Product) -> None:
    """The run, then everything: who, since when, why, and the command that lets it go on."""
    product.write("jobs:\n  a: {steps: ['true']}\n")
    product.ok("run")
    product.ok("pause", "--reason", "upgrade")
    run = submit(product, {"build": {"steps": ["true"]}})
    product.ok("pause", run, "--reason", "look first")
    waits(product, run, "build", "paused_service")
    assert why(product, run, "build").splitlines()[1:] == [
        "  build  queued for T: WHO paused everything T ago: upgrade",
        "    → headway resume",
    ]
    product.ok("resume")
    waits(product, run, "build", "paused_run")
    assert why(product, run).splitlines() == [
        "run RUN  open for T: 0 of 1 jobs completed; it waits for build (queued for T); WHO paused it",
        "  build  queued for T: WHO paused the run T ago: look first",
        "    → headway resume RUN",
    ]


def test_back_off_until_when(product: Product) -> None:
    """The attempt that failed, and when the next one may start."""
    product.environ |= {"HEADWAY_RETRY_BACKOFF_SECONDS": "30", "TZ": "Asia/Tokyo"}
    run = submit(product, {"flaky": {"steps": ["false"], "retry_count": 1}})
    waits(product, run, "flaky", "back_off")
    assert why(product).splitlines() == [
        "RUN  demo of project",
        "  flaky  queued for T: attempt 1 failed, so attempt 2 rests for another T, until TIME",
        "    → time: it is in line for a slot in T",
    ]
    shown = re.search(r"backs off until (\S+?),", product.ok("show", run))
    assert shown is not None
    assert f", until {shown[1]}\n" in product.ok("why")


def test_skipped_and_failed(product: Product) -> None:
    """Which step failed how; which condition did not hold, with which values."""
    jobs = {
        "build": {"steps": [{"name": "compile", "script": "exit 3"}]},
        "test": {"depends_on": ["build"], "steps": ["true"]},
        "ship": {"depends_on": ["test"], "steps": ["true"]},
    }
    run = submit(product, jobs)
    product.run("wait", run)
    printed = why(product, run).splitlines()
    words = "  build  failed T ago, after T on local-ID: step 'compile' exited with code 3; what took longest was "
    assert printed.pop(2).startswith(words)
    assert printed == [
        "run RUN  failed T ago, after T: build failed, and for that 2 jobs were skipped",
        "  → headway logs RUN build has what it printed",
        "    → headway logs RUN build has what it printed",
    ]
    assert why(product, run, "ship").splitlines()[1:] == [
        "  ship  skipped T ago: its condition success() did not hold: test was skipped, because build failed",
        "    → headway why RUN build says why that was",
    ]
    facts = product.json("why", run, "test")["job"]["facts"]
    assert (facts["condition"], facts["values"]) == ("success()", {"build": "failed"})


def test_cancelled_by_whom(product: Product, tmp_path: Path) -> None:
    """Who, and why, of the run and of each of its jobs."""
    run = submit(product, {"build": until(tmp_path / "gate"), "test": {"depends_on": ["build"], "steps": ["true"]}})
    waits(product, run, "build", "executing")
    product.ok("cancel", run, "--reason", "wrong branch")
    product.run("wait", run)
    assert why(product, run) == "run RUN  cancelled T ago: WHO cancelled it: wrong branch; it was over after T\n"
    assert why(product, run, "test").splitlines()[1:] == [
        "  test  cancelled T ago: WHO cancelled the run: wrong branch"
    ]


def test_a_job_that_ran_into_its_timeout(product: Product) -> None:
    """The reason is the time-out, as `show` says it, and not the signal that ended the step."""
    run = submit(product, {"slow": {"steps": ["sleep 30"], "timeout": "1s"}})
    product.run("wait", run)
    reason = "step 'sleep 30' ran into the job's timeout of T"
    assert reason in same(product.ok("show", run))
    assert (
        why(product, run, "slow").splitlines()[1].startswith(f"  slow  failed T ago, after T on local-ID: {reason}; ")
    )


def test_one_glance_at_three_hundred_jobs(product: Product, tmp_path: Path) -> None:
    """What waits for the same is one block, so all of it fits on a screen; each job still has its own answer."""
    product.environ["HEADWAY_SLOTS"] = "2"
    held = {name: until(tmp_path / "gate") for name in ("a", "b")}
    jobs = {f"t{at:03}": {"steps": ["true"]} for at in range(296)}
    gpu = {name: {"steps": ["true"], "runs_on": ["gpu"]} for name in ("g1", "g2")}
    run = submit(product, held | jobs | gpu)
    waits(product, run, "b", "executing")
    waits(product, run, "t295", "slots")
    for words in ((), (run,)):
        printed = why(product, *words).splitlines()
        assert len(printed) < 40
        [line] = [one for one in printed if one.startswith("  296 jobs (t000, t001, t002, ...)  queued for up to T: ")]
        assert "all 2 slots that fit are taken by a for T and b for T; next is t000" in line
        assert any(
            one.startswith("  2 jobs (g1, g2)  queued for up to T: no runner has the label gpu") for one in printed
        )
    assert "it is number 3 of 296 in line" in why(product, run, "t002")
    found = product.json("why", run, "--limit", "300")
    assert (len(found["jobs"]), len({one["group"] for one in found["jobs"]})) == (300, len(found["groups"]))
    product.ok("cancel", run)


def test_finished_and_what_took_longest(product: Product) -> None:
    """The state and the job that took longest, from the timeline."""
    product.write("jobs:\n  a: {steps: ['true']}\n")
    product.ok("run")  # the runner is there: nothing waits for it to start
    run = submit(product, {"build": {"steps": ["sleep 1"]}, "lint": {"steps": ["true"]}})
    product.ok("wait", run)
    assert why(product, run) == (
        "run RUN  succeeded T ago, after T, 2 jobs; what took longest was build executing on local-ID, T\n"
    )
    assert why(product, run, "build").splitlines()[1:] == [
        "  build  succeeded T ago, after T on local-ID; what took longest was executing, T"
    ]


def test_nobody_can_explain_it(product: Product) -> None:
    """Tables that have lost the pause: it is said that nothing is known, what was looked at, and where to turn."""
    product.write("jobs:\n  a: {steps: ['true']}\n")
    product.ok("run")
    run = submit(product, {"build": {"runs_on": ["nowhere"], "steps": ["true"]}})
    waits(product, run, "build", "no_label")
    product.ok("down", "--now")
    with sqlite3.connect(product.home / "projections" / "headway.db") as db:
        db.execute("update jobs set runs_on = '[]' where run = ?", (run,))
    db.close()
    product.ok("runs")
    product.start("up")
    waits(product, run, "build", "unexplained")
    assert why(product).splitlines() == [
        "RUN  demo of project",
        "  build  queued for T: nothing that is known holds it up, and nothing has happened for T: it can be given to "
        "a runner",
        "    → headway doctor and headway projections verify; if they find nothing, report it with headway why --json",
        "    not known: why nothing happens",
        "    looked at: neither its run nor everything is paused",
        "    looked at: it does not rest after a failed attempt",
        "    looked at: a runner that takes work has its labels",
        "    looked at: its concurrency group has room, or it has none",
        "    looked at: a slot of such a runner is free",
        "    looked at: the log can be reached",
        "    looked at: a coordinator is at work",
    ]


def test_no_coordinator(product: Product) -> None:
    """A plan that is gone keeps the coordinator from its work: said on top, before what each job waits for."""
    run = submit(product, {"build": {"runs_on": ["nowhere"], "steps": ["true"]}})
    waits(product, run, "build", "no_label")
    digest = product.events(run)[0]["data"]["plan_digest"].partition(":")[2]
    product.ok("down", "--now")
    (product.home / "blobs" / "sha256" / digest[:2] / digest[2:]).unlink()
    product.start("up")

    def nobody_coordinates() -> bool:
        service = product.json("why")["service"]
        return bool(service and service["cause"] == "no_coordinator")

    wait_until(nobody_coordinates, what="the coordinator misses the plan", timeout_seconds=30)
    printed = why(product).splitlines()
    assert printed[0].startswith("nobody coordinates: the plan sha256:")
    assert printed[1:3] == ["  → a coordinator; headway doctor says more", ""]
    assert printed[4].startswith("  build  queued for T: ")


def test_the_service_is_down(product: Product) -> None:
    """The same answers as of the last event, and that nothing moves until it is started."""
    run = submit(product, {"build": {"runs_on": ["nowhere"], "steps": ["true"]}})
    waits(product, run, "build", "no_label")
    product.ok("down", "--now")
    printed = why(product, run).splitlines()
    assert printed[:3] == ["the service is not running: nothing new starts until it is", "  → headway up", ""]
    assert printed[4].startswith("  build  queued for T: there is no runner, so none has the label nowhere")


def test_as_it_was_then(product: Product, tmp_path: Path) -> None:
    """`--at` answers as of an event, when what is over now was still waited for."""
    run = submit(product, {"build": until(tmp_path / "gate"), "test": {"depends_on": ["build"], "steps": ["true"]}})
    waits(product, run, "build", "executing")
    seq = str(product.json("why")["as_of"])
    (tmp_path / "gate").touch()
    product.ok("wait", run)
    assert why(product) == "nothing waits\n"
    printed = why(product, run, "test", "--at", seq).splitlines()
    assert printed[1].startswith(
        "  test  admitted for T: it waits for build, executing for T: runner local-ID executes"
    )


def test_a_mistyped_job(product: Product) -> None:
    """The one that was meant is named."""
    run = submit(product, {"compile": {"steps": ["true"]}})
    assert "did you mean 'compile'?" in product.fails(4, "why", run, "complie")


@pytest.mark.parametrize("words", [("nope",), ("@", "nojob")])
def test_what_is_not_there(product: Product, words: tuple[str, ...]) -> None:
    """4, with one sentence."""
    product.write("jobs:\n  a: {steps: ['true']}\n")
    product.ok("run")
    assert product.fails(4, "why", *words).startswith("error: ")
