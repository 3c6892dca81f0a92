"""When a runner dies, its supervisors end its jobs, and only then is its lock free. Witnessed from outside."""

from __future__ import annotations

import fcntl
import os
import secrets
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from waiting import alive, wait_until, with_argument

from headway.runners import supervisor
from headway.runners.processes import kill_marked
from tests.waiting import freeze

RUNNER = textwrap.dedent(
    """
    import asyncio, fcntl, os, sys
    from pathlib import Path
    from headway.runners.executor import Chunk, Command
    from headway.runners.host import HostExecutor

    async def main(folder, script):
        lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC)
        fcntl.flock(lock, fcntl.LOCK_EX)
        executor = HostExecutor(lock_fds=(lock,))
        command = Command(
            argv=("/bin/sh", "-c", script), environment=dict(os.environ), folder=folder, timeout_seconds=60)
        if len(sys.argv) > 3:
            executor.renew(float(sys.argv[3]))
        async for event in executor.run(command):
            print(executor.supervisor_pid if isinstance(event, Chunk) else event, flush=True)

    asyncio.run(main(Path(sys.argv[1]), sys.argv[2]))
    """
)


@pytest.fixture
def word():
    """A number that only this test's processes have among their arguments; they are gone afterwards."""
    found = f"{secrets.randbelow(10**8) + 10**8}"
    yield found
    for pid in with_argument(found):
        os.kill(pid, signal.SIGKILL)


def start_runner(folder: Path, script: str, *more: str) -> tuple[subprocess.Popen[str], int]:
    """A process that runs a job on the host, once the job has printed something; and its supervisor."""
    command = [sys.executable, "-c", RUNNER, str(folder), script, *more]
    runner = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    return runner, int(runner.stdout.readline())


def lock_is_free(folder: Path) -> bool:
    """Whether the runner's lock can be had now."""
    with (folder / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_dead_runner_leaves_no_process(tmp_path: Path, word: str, number: int):
    """However the runner dies, its job, its daemons and its supervisor go, and with them the lock."""
    script = f"trap '' TERM; (setsid sh -c 'sleep {word} & sleep {word}' &) ; echo ready; sleep {word}; sleep {word}"
    runner, supervisor_pid = start_runner(tmp_path, script)
    wait_until(lambda: len(with_argument(word)) >= 3)
    assert not lock_is_free(tmp_path)
    runner.send_signal(number)
    runner.wait()
    runner.stdout.close()
    wait_until(lambda: lock_is_free(tmp_path))
    assert not with_argument(word)
    wait_until(lambda: not alive(supervisor_pid))


def test_a_free_lock_means_that_nothing_runs(tmp_path: Path, word: str):
    """At the moment the lock is free, no process of the job is left: not one of many."""
    runner, _ = start_runner(
        tmp_path, f"for i in 1 2 3 4 5 6 7 8 9; do setsid sleep {word} & done; echo x; sleep {word}"
    )
    wait_until(lambda: len(with_argument(word)) >= 10)
    runner.kill()
    with (tmp_path / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert not with_argument(word)
    runner.wait()
    runner.stdout.close()


def test_a_frozen_runner_loses_its_work_in_time(tmp_path: Path, word: str):
    """A runner that hangs cannot renew, so its supervisor ends the work when the lease is over."""
    runner, supervisor_pid = start_runner(tmp_path, f"echo ready; sleep {word}", "0.5")
    freeze(runner.pid)
    wait_until(lambda: not with_argument(word))
    assert alive(supervisor_pid)
    assert not lock_is_free(tmp_path)
    runner.kill()
    runner.wait()
    runner.stdout.close()
    wait_until(lambda: lock_is_free(tmp_path))


def test_both_dead_leaves_what_the_marker_finds(tmp_path: Path, word: str):
    """Runner and supervisor killed at once: the next runner finds the orphans by their environment."""
    marker = f"HEADWAY_ENV={tmp_path}/"
    environ = {**os.environ, "HEADWAY_ENV": f"{tmp_path}/x"}
    orphan = subprocess.Popen(["sleep", word], env=environ)
    other = subprocess.Popen(["sleep", word], env={**os.environ, "OTHER": f"HEADWAY_ENV={tmp_path}/x"})
    assert kill_marked(marker) == 1
    assert orphan.wait() == -signal.SIGKILL
    assert other.poll() is None
    other.kill()
    other.wait()


def test_it_starts_with_next_to_nothing():
    """The supervisor imports no module that would make it slow to start."""
    folder = str(Path(supervisor.__file__).parent)
    code = "import sys; sys.path.insert(0, sys.argv[1]); import supervisor; print(*sys.modules)"
    command = [sys.executable, "-I", "-S", "-c", code, folder]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    heavy = {"asyncio", "ctypes", "enum", "json", "re", "signal", "socket", "subprocess", "typing"}
    assert not heavy & set(done.stdout.split())
