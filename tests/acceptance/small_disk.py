"""A file system of a test's own: mounted where nobody else sees it, gone with the processes that see it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from importlib import import_module
from pathlib import Path

import pytest

TASK_SECONDS = 100
MOUNT = 'mount -t tmpfs -o "$1" tmpfs "$2" && shift 2 && exec "$@"'


def on_its_own_disk(task: Callable[[Path], None], folder: Path, *, options: str = "size=96m") -> None:
    """Run `task(folder)` in another process, with a file system mounted at `folder`; what it raises fails the test."""
    folder.mkdir()
    user = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
    name = f"{task.__module__}:{task.__name__}"
    again = [sys.executable, "-m", "tests.acceptance.small_disk", name, str(folder)]
    command = ["unshare", *user, "--mount", "sh", "-c", MOUNT, "sh", options, str(folder), *again]
    done = subprocess.run(
        command, cwd=Path(__file__).parents[2], capture_output=True, text=True, timeout=TASK_SECONDS, check=False
    )
    if "mount:" in done.stderr or "unshare:" in done.stderr:
        pytest.fail(f"this machine lets nobody mount a file system, which this test needs: {done.stderr.strip()}")
    assert done.returncode == 0, done.stdout + done.stderr


def fill_disk(folder: Path, *, leave_bytes: int = 0) -> Path:
    """Leave so much room, or none, on the disk of a folder; the file to remove to have it back."""
    filler = folder / "filler"
    with filler.open("ab", buffering=0) as file, suppress(OSError):
        while os.statvfs(folder).f_bavail * os.statvfs(folder).f_frsize > leave_bytes:
            file.write(bytes(1 << 12))
    return filler


if __name__ == "__main__":
    module, _, task_name = sys.argv[1].partition(":")
    getattr(import_module(module), task_name)(Path(sys.argv[2]))
