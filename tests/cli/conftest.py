"""What tests of the command line share: a home, a service that speaks from scripts, and a way to run commands."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cli.fake_service import FakeService

COMMAND = (sys.executable, "-c", "import sys; from headway.cli.main import main; sys.exit(main())")


class Finished:
    """A command that has ended."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code = code
        self.out = out
        self.err = err

    @property
    def json(self) -> Any:
        """Its one JSON object."""
        return json.loads(self.out)

    @property
    def lines(self) -> list[Any]:
        """Its JSON objects, one a line."""
        return [json.loads(line) for line in self.out.splitlines()]


class Headway:
    """Runs the real command as a process, with a home of its own."""

    def __init__(self, home: Path, cwd: Path) -> None:
        self.home = home
        self.cwd = cwd
        kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "LC_ALL") if name in os.environ}
        self.environ = {**kept, "HEADWAY_HOME": str(home), "PYTHONUTF8": "1", "TZ": "UTC"}

    def __call__(self, *words: str, **environ: str) -> Finished:
        done = subprocess.run(
            [*COMMAND, *words], cwd=self.cwd, env=self.environ | environ, capture_output=True, timeout=60, check=False
        )
        return Finished(done.returncode, done.stdout.decode(errors="replace"), done.stderr.decode())

    def start(self, *words: str) -> subprocess.Popen[bytes]:
        """The same, without waiting for its end."""
        return subprocess.Popen(
            [*COMMAND, *words], cwd=self.cwd, env=self.environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A home that nobody else has."""
    folder = tmp_path / "home"
    folder.mkdir()
    return folder


@pytest.fixture
def service(home: Path) -> Iterator[FakeService]:
    """A service that answers what the test tells it to."""
    found = FakeService(home)
    yield found
    found.close()


@pytest.fixture
def headway(home: Path, tmp_path: Path) -> Headway:
    """The command, run in an empty folder."""
    folder = tmp_path / "project"
    folder.mkdir()
    return Headway(home, folder)
