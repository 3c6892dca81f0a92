"""The real binary in a home of its own: run commands, kill its processes, and look at what it left."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

from tests.waiting import wait_until

HEADWAY = Path(sys.executable).with_name("headway")
COMMAND_SECONDS = 60


class Product:
    """One home and one project folder. `close` stops whatever was started in it."""

    def __init__(self, folder: Path, *, home: Path | None = None) -> None:
        self.home = home or folder / "home"
        self.project = folder / "project"
        self.project.mkdir()
        kept = {name: value for name, value in os.environ.items() if not name.startswith("HEADWAY_")}
        self._started: list[subprocess.Popen[str]] = []
        self.environ = {**kept, "HEADWAY_HOME": str(self.home), "NO_COLOR": "1", "HEADWAY_SLOTS": "2"}
        self.environ["HEADWAY_RETRY_BACKOFF_SECONDS"] = "0"

    def write(self, pipeline: str, *, name: str = "headway.yml") -> Path:
        """A pipeline file in the project."""
        path = self.project / name
        path.write_text(pipeline)
        return path

    def run(self, *words: str | bytes, **more: Any) -> subprocess.CompletedProcess[str]:
        """One command to its end."""
        return self.program(str(HEADWAY), *words, **more)

    def shell(self, script: str, *words: str, **more: Any) -> subprocess.CompletedProcess[Any]:
        """A script to its end; its last argument is the binary."""
        return self.program("sh", "-c", script, "sh", *words, str(HEADWAY), **more)

    def program(self, *words: str | bytes, **more: Any) -> subprocess.CompletedProcess[Any]:
        """Any program to its end, in the project and this home."""
        environ = {**self.environ, **more.pop("environ", {})}
        return subprocess.run(
            [*words],
            cwd=more.pop("cwd", self.project),
            env=environ,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=more.pop("text", True),
            timeout=COMMAND_SECONDS,
            check=False,
            **more,
        )

    def start(self, *words: str) -> subprocess.Popen[str]:
        """One command, going on; it is ended with the product at the latest."""
        process = subprocess.Popen(
            [str(HEADWAY), *words],
            cwd=self.project,
            env=self.environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._started.append(process)
        return process

    def ok(self, *words: str, **more: Any) -> str:
        """One command that must succeed; what it printed."""
        done = self.run(*words, **more)
        assert done.returncode == 0, f"headway {' '.join(words)}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def fails(self, code: int, *words: str | bytes, **more: Any) -> str:
        """One command that must end with this code and print no data; what it said."""
        done = self.run(*words, **more)
        assert (done.returncode, done.stdout) == (code, ""), f"{words}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stderr

    def json(self, *words: str) -> Any:
        """The one JSON document a command prints."""
        return json.loads(self.ok(*words, "--json"))

    def submit(self, *words: str) -> str:
        """Submit without following; the run's id."""
        return self.ok("run", "--detach", *words).strip()

    def events(self, run: str) -> list[dict[str, Any]]:
        """A run's whole history so far."""
        printed = self.ok("tail", run, "--from", "start", "--no-follow", "--json")
        return [json.loads(line) for line in printed.splitlines()]

    def service_pid(self) -> int:
        """The control plane's process, 0 when it is not there."""
        with suppress(OSError, ValueError):
            pid = int(json.loads((self.home / "service.json").read_text())["pid"])
            return pid if alive(pid) else 0
        return 0

    def server_pid(self) -> int:
        """The log server's process, 0 when it is not there."""
        with suppress(OSError, ValueError):
            pid = int(json.loads((self.home / "nats" / "endpoint.json").read_text())["pid"])
            return pid if alive(pid) else 0
        return 0

    def runner_pids(self) -> list[int]:
        """The runner processes of this home."""
        return [pid for pid in processes_with(self.home) if "headway.runners" in command_of(pid)]

    def kill(self, pid: int) -> bool:
        """`kill -9`; whether there was such a process."""
        if pid <= 0:
            return False
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
            return True
        return False

    def close(self) -> None:
        """Stop the service, and by force whatever is left of this home."""
        if self.service_pid():
            with suppress(subprocess.TimeoutExpired):
                self.run("down", "--now")
        for process in self._started:
            process.kill()
            process.communicate()
        wait_until(self._all_gone, what="the processes of this home are gone", timeout_seconds=30)

    def _all_gone(self) -> bool:
        left = processes_with(self.home)
        if not self.service_pid():
            for pid in left:
                self.kill(pid)
        return not left


def alive(pid: int) -> bool:
    """Whether a process is there and is more than a record of its end."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return status.rpartition(")")[2].split()[0] != "Z"


def command_of(pid: int) -> str:
    """A process's command line, "" when it is gone."""
    with suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    return ""


def processes_with(home: Path) -> list[int]:
    """The processes that work for a home: by its path in their command line or their environment."""
    found = []
    needle = re.compile(re.escape(str(home).encode()) + rb"[\0/ ]")
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        with suppress(OSError):
            text = (entry / "cmdline").read_bytes() + b"\0" + (entry / "environ").read_bytes() + b"\0"
            if needle.search(text) and alive(int(entry.name)):
                found.append(int(entry.name))
    return found
