"""`headway timeline` on the real binary: a diamond, a retry and a skip; letters, marks and sums."""

from __future__ import annotations

import os
import pty
import re
import subprocess
from datetime import datetime
from pathlib import Path
from typing import Any

from tests.acceptance.product import HEADWAY, Product
from tests.acceptance.test_commands import waits_for
from tests.waiting import wait_until

DIAMOND = """
name: diamond
jobs:
  top: {steps: [sleep 0.1]}
  left: {depends_on: [top], steps: ["true"]}
  right: {depends_on: [top], retry_count: 1, steps: ['sleep 0.3; test "$HEADWAY_ATTEMPT" = 2']}
  end: {depends_on: [left, right], steps: [sleep 0.1]}
  broken: {steps: [exit 3]}
  never: {depends_on: [broken], steps: ["true"]}
"""
ESCAPE = re.compile(r"\x1b\[[0-9;]*m")


def microseconds(event: dict[str, Any]) -> int:
    """When an event was logged."""
    moment = datetime.fromisoformat(event["logged"])
    return int(moment.replace(microsecond=0).timestamp()) * 1_000_000 + moment.microsecond


def finished(product: Product) -> str:
    """The diamond, once it has ended."""
    product.write(DIAMOND)
    run = product.submit()
    assert product.run("wait", run).returncode == 1
    return run


def lines_of(text: str) -> dict[str, str]:
    """The lines of jobs in a picture, by name."""
    body = text.split("TIME\n")[1].split("\n\n")[0]
    return {line[2:].split("  ")[0]: line for line in body.splitlines()}


def on_a_terminal(product: Product, *words: str, columns: int, rows: int = 40) -> str:
    """What a command writes to a terminal with colours."""
    ours, theirs = pty.openpty()
    size = f'stty cols {columns} rows {rows}; exec "$@"'
    environ = {**product.environ, "TERM": "xterm"}
    environ.pop("NO_COLOR")
    process = subprocess.Popen(
        ["sh", "-c", size, "sh", str(HEADWAY), *words],
        stdin=theirs,
        stdout=theirs,
        stderr=subprocess.PIPE,
        env=environ,
        cwd=product.project,
    )
    os.close(theirs)
    found = b""
    while True:
        try:
            part = os.read(ours, 1 << 16)
        except OSError:  # how a terminal says that nobody writes any more
            break
        if not part:
            break
        found += part
    os.close(ours)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 0, said
    return found.decode().replace("\r\n", "\n")


def test_a_diamond_with_a_retry_and_a_skip_adds_up(product: Product) -> None:
    """By the events alone: every job's states are as long as the job, the path is as long as the run."""
    run = finished(product)
    found = product.json("timeline", run)
    events = {(event["type"], event["job"]): microseconds(event) for event in product.events(run)}
    jobs: dict[str, int] = {}
    for one in found["handoffs"]:
        assert one["duration_us"] == round(one["duration_ms"] * 1000)
        jobs[one["job"]] = jobs.get(one["job"], 0) + (0 if one["phase"] else one["duration_us"])
    assert jobs == {job: events["job.completed", job] - events["job.admitted", job] for job in jobs}
    assert set(jobs) == {"top", "left", "right", "end", "broken", "never"}
    path = found["path"]
    whole = events["run.completed", ""] - events["run.admitted", ""]
    assert sum(part["duration_us"] for part in path) == whole
    assert whole // 1000 == found["run"]["duration_ms"]
    assert [part["left"] for part in path[:-1]] == [part["entered"] for part in path[1:]]
    assert list(dict.fromkeys(part["job"] for part in path if part["job"])) == ["top", "right", "end"]
    assert {one["attempt"] for one in path if one["job"] == "right"} == {0, 1, 2}
    assert [one["next"] for one in found["handoffs"] if one["job"] == "never"] == ["skipped"]
    phases = [one for one in found["handoffs"] if one["phase"]]
    assert {one["state"] for one in phases} <= {"preparing"}
    assert (found["clocks"], found["log_behind_ms"]) == ([], 0)


def test_the_picture_has_a_letter_for_every_state_and_a_mark_for_the_path(product: Product) -> None:
    """Off a terminal: 100 columns, no colours; a line per attempt, the legend, and a list that adds up."""
    run = finished(product)
    shown = product.ok("timeline", run)
    assert "\x1b" not in shown
    title, *rest = shown.splitlines()
    assert re.fullmatch(rf"diamond  {run}  failed in \d+\.\d{{3}}s, 6 jobs", title)
    lines = lines_of(shown)
    assert set(lines) == {"top", "left", "right #1", "right #2", "end", "broken", "never"}
    assert {name for name, line in lines.items() if line.startswith("*")} == {"top", "right #1", "right #2", "end"}
    ends = {"right #1": "failed", "broken": "failed", "never": "skipped"}
    assert {name: line.split()[-1] for name, line in lines.items()} == {**dict.fromkeys(lines, "success"), **ends}
    assert all("x" in line.split()[-3] for name, line in lines.items() if name != "never")
    assert "xxxx" in lines["right #1"]
    assert max(map(len, rest)) <= 100
    assert "a admitted  q queued  s assigned  p preparing  x executing  u uploading  * on the critical path" in rest
    listed = rest[rest.index("critical path") + 1 :]
    parts = [round(float(line.split("s")[0]) * 1000) for line in listed]
    assert sum(parts[:-1]) == parts[-1] == product.json("timeline", run)["run"]["duration_ms"]
    assert listed[-1].endswith("the whole run")
    assert any(re.search(r"x right #1 executing on local-\w{8}$", line) for line in listed)


def test_a_terminal_has_colours_and_its_own_width(product: Product) -> None:
    """The same picture as wide as the terminal; with few rows the most telling lines, with `--all` each."""
    run = finished(product)
    shown = on_a_terminal(product, "timeline", run, columns=72)
    assert "\x1b[32mx" in shown
    bare = ESCAPE.sub("", shown)
    assert max(map(len, bare.split("critical path\n ")[0].splitlines())) <= 72
    assert set(lines_of(bare)) == {"top", "left", "right #1", "right #2", "end", "broken", "never"}
    few = ESCAPE.sub("", on_a_terminal(product, "timeline", run, "--limit", "4", columns=72))
    assert "and 3 more: 1 success, 1 failed, 1 skipped; see all with --all" in few
    assert set(lines_of(few)) >= {"top", "right #1", "right #2", "end"}
    every = on_a_terminal(product, "timeline", run, "--all", columns=72, rows=5)
    assert ESCAPE.sub("", every) == bare


def test_a_run_that_goes_on_is_explained_up_to_now(product: Product, tmp_path: Path) -> None:
    """Open states count with their age, the path ends with the job that holds the run up; so it was in the past."""
    gate = tmp_path / "gate"
    product.write(
        f"jobs:\n  slow:\n    steps: ['{waits_for(gate)}']\n  after: {{depends_on: [slow], steps: ['true']}}\n"
    )
    run = product.submit()
    wait_until(lambda: "x" in product.ok("timeline", run).split("\n\n")[1], what="slow executes")
    found = product.json("timeline", run)
    slow = [one for one in found["handoffs"] if one["job"] == "slow"][-1]
    assert (slow["state"], slow["left"], slow["seq_left"], slow["next"]) == ("executing", None, None, "")
    assert (found["path"][-1]["job"], found["path"][-1]["left"]) == ("slow", found["now"])
    assert slow["critical_us"] == slow["duration_us"] == found["path"][-1]["duration_us"]
    assert product.ok("timeline", run).rstrip().endswith("so far")
    gate.touch()
    product.ok("wait", run)
    then = product.json("timeline", run, "--at", str(found["as_of"]))
    assert then["path"][:-1] == found["path"][:-1]
    assert [one["state"] for one in then["handoffs"]] == [one["state"] for one in found["handoffs"]]
    assert product.json("timeline", run)["path"][-1]["left"] != found["now"]


def test_what_is_not_there_and_what_the_letters_mean(product: Product) -> None:
    """A run that does not exist is not found; `--help` explains each letter."""
    run = finished(product)
    assert "no run's id is 'nothing'" in product.fails(4, "timeline", "nothing")
    assert product.json("timeline", "@")["run"]["run"] == run
    told = product.ok("timeline", "--help")
    for letter, word in {"a": "admitted", "q": "queued", "s": "assigned", "x": "executing", "c": "converging"}.items():
        assert re.search(rf"\b{letter}  {word}", told)


def test_doctor_compares_the_clocks(product: Product) -> None:
    """On one machine they agree."""
    finished(product)
    [clocks] = [one for one in product.json("doctor")["checks"] if one["name"] == "clocks"]
    assert clocks["level"] == "ok"
    assert clocks["words"].startswith("runners and log agree to the second")
