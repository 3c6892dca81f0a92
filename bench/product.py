"""The product under measurement: the real `headway`, with a home, a project and a service of its own."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from bench.figures import timed

HEADWAY = str(Path(sys.executable).parent / "headway")
START_SECONDS = 30.0
RUN_SECONDS = 180
EVENTS_A_JOB, EVENTS_A_RUN = 9, 2
"""What a run's history holds: nine events for each job of one step, and the run's two."""


def independent(jobs: int) -> str:
    """A pipeline of jobs that wait for nothing and do nothing."""
    lines = "".join(f'  job-{number}: {{steps: [{{script: "true"}}]}}\n' for number in range(jobs))
    return f"name: independent\njobs:\n{lines}"


def chain(jobs: int) -> str:
    """A pipeline of jobs of which each waits for the one before."""
    lines = ['  job-0: {steps: [{script: "true"}]}\n']
    for number in range(1, jobs):
        lines.append(f'  job-{number}: {{depends_on: [job-{number - 1}], steps: [{{script: "true"}}]}}\n')
    return f"name: chain\njobs:\n{''.join(lines)}"


class Headway:
    """A running service while the `with` lasts. `nats_url` names a server instead of the built-in one."""

    def __init__(self, *, slots: int, nats_url: str = "") -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="headway-bench-"))
        self.home = self.folder / "home"
        self.project = self.folder / "project"
        self.pipeline = self.folder / "pipeline.yml"
        self.pid = 0
        kept = {name: value for name, value in os.environ.items() if not name.startswith("HEADWAY_")}
        self.env = {**kept, "HEADWAY_HOME": str(self.home), "HEADWAY_SLOTS": str(slots), "NO_COLOR": "1"}
        if nats_url:
            self.env |= {"HEADWAY_NATS_URL": nats_url, "HEADWAY_LOG_MAX_BYTES": "1GiB"}
            self.env["HEADWAY_OUTPUT_MAX_BYTES"] = "256MiB"
        self._service: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.home.mkdir()
        self.project.mkdir()
        (self.project / "README").write_text("a source tree of one small file\n")
        said = (self.folder / "service.log").open("wb")
        try:
            self._service = subprocess.Popen(
                [HEADWAY, "up"], env=self.env, cwd=self.project, stdin=subprocess.DEVNULL, stdout=said, stderr=said
            )
        finally:
            said.close()
        self.pid = self._service.pid
        try:
            self._wait_ready()
            self.run(independent(4))  # warm: the runner's supervisors, the socket, the caches
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def _wait_ready(self) -> None:
        assert self._service is not None, "the service was started"
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline and self._service.poll() is None:
            if (self.home / "control.sock").exists():
                found = self.headway("runners", "list", "--json", check=False)
                if found.returncode == 0 and json.loads(found.stdout)["runners"]:
                    return
            time.sleep(0.02)
        said = (self.folder / "service.log").read_text(errors="replace")[-2000:]
        raise RuntimeError(f"the service did not come up:\n{said}")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._service is not None and self._service.poll() is None:
            self._service.send_signal(signal.SIGTERM)
            try:
                self._service.wait(START_SECONDS)
            except subprocess.TimeoutExpired:
                self._service.kill()
                self._service.wait()
        shutil.rmtree(self.folder, ignore_errors=True)

    def headway(self, *words: str, check: bool = True) -> subprocess.CompletedProcess[bytes]:
        """One command, with what it printed."""
        done = subprocess.run(
            [HEADWAY, *words],
            env=self.env,
            cwd=self.project,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=RUN_SECONDS,
            check=False,
        )
        if check and done.returncode != 0:
            said = done.stderr.decode(errors="replace")[-1000:]
            raise RuntimeError(f"headway {' '.join(words)} ended with {done.returncode}: {said}")
        return done

    def seconds(self, *words: str) -> float:
        """How long one command takes."""
        return timed([HEADWAY, *words], env=self.env, cwd=self.project)

    def write(self, pipeline: str) -> None:
        """Make this the pipeline. It lies beside the project: a long one must not become part of every source."""
        self.pipeline.write_text(pipeline)

    def run(self, pipeline: str) -> list[dict[str, Any]]:
        """Run a pipeline to its end and return its events; nobody looks on meanwhile."""
        self.write(pipeline)
        run = self.headway("run", str(self.pipeline), "--detach").stdout.decode().strip()
        self.headway("wait", run)
        return self.events(run)

    def events(self, run: str) -> list[dict[str, Any]]:
        """The whole history of a run."""
        found = self.headway("tail", run, "--from", "start", "--no-follow", "--json")
        return [json.loads(line) for line in found.stdout.splitlines()]

    def processes(self) -> dict[str, list[int]]:
        """The pids of the control plane, the log's server, and the runner with its supervisors."""
        server = json.loads((self.home / "nats" / "endpoint.json").read_text())["pid"]
        below = _descendants(self.pid)
        return {
            "control plane": [self.pid],
            "nats-server": [server],
            "runner": [pid for pid in below if pid != server],
        }


def whole(events: list[dict[str, Any]], jobs: int) -> None:
    """Check that a history of no-op jobs has neither more nor less than it promises, each event in its place."""
    expected = EVENTS_A_JOB * jobs + EVENTS_A_RUN
    assert len(events) == expected, f"{len(events)} events instead of {expected}: a job failed or was retried"
    assert [event["n"] for event in events] == list(range(1, expected + 1)), "events are numbered without a gap"
    assert events[-1]["data"]["outcome"] == "succeeded", "the run succeeded"


def logged(event: dict[str, Any], clock: str = "logged") -> float:
    """When the log, or with `at` the producer, says that an event happened: seconds since 1970."""
    return datetime.fromisoformat(event[clock]).timestamp()


def length_seconds(events: list[dict[str, Any]]) -> float:
    """From the admission of a run to its completion, on the log's clock."""
    return logged(events[-1]) - logged(events[0])


def resident_mib(pids: Iterable[int]) -> tuple[float, float]:
    """RSS and PSS of some processes together."""
    rss = pss = 0
    for pid in pids:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            name, _, value = line.partition(":")
            if name == "Rss":
                rss += int(value.split()[0])
            elif name == "Pss":
                pss += int(value.split()[0])
    return rss / 1024, pss / 1024


def _descendants(pid: int) -> list[int]:
    found = []
    for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        found += [int(child), *_descendants(int(child))]
    return found
