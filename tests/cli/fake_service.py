"""A service that says what a test tells it to, on a real control.sock: no log, no runners, only the protocol.

As a program (`python fake_service.py`) it behaves like a service that is started by a command: it takes the lock of
its home or leaves quietly, writes service.json, listens, and answers hello, runs and down.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import socket
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from headway import __version__

DIE = "die"
"""In a script: close the connection without another word, as a killed service does."""

Script = list[Any]


def data(**fields: Any) -> dict[str, Any]:
    """A data line."""
    return {"data": fields}


def error(code: str, message: str, next: str = "", **more: Any) -> dict[str, Any]:
    """The last line of a refusal."""
    return {"error": {"code": code, "message": message, "next": next, **more}}


def event(seq: int, kind: str, *, job: str = "", attempt: int = 0, run: str = "", **fields: Any) -> dict[str, Any]:
    """A data line with an event, logged `seq` seconds after midnight."""
    logged = f"2026-01-31T00:{seq // 60:02d}:{seq % 60:02d}.000000Z"
    found = {"seq": seq, "n": seq, "type": kind, "run": run, "job": job, "attempt": attempt, "logged": logged}
    found |= {"at": logged, "actor": "user:anna", "id": f"id-{seq}", "because": "", "prev": "", "data": fields}
    return data(event=found)


END = {"end": True}


class FakeService:
    """Answers each request with the next script of its op; a callable in a script is called, and may answer itself."""

    def __init__(
        self, home: Path, *, version: str = __version__, scripts: dict[str, list[Script]] | None = None
    ) -> None:
        self.home = home
        self.requests: list[dict[str, Any]] = []
        self.scripts = scripts or {}
        home.mkdir(parents=True, exist_ok=True)
        (home / "service.json").write_text(json.dumps({"pid": os.getpid(), "version": version, "started": ""}))
        self._listener = listen(home)
        self._threads: list[threading.Thread] = []
        self._accepting = threading.Thread(target=self._accept, daemon=True)
        self._accepting.start()

    def on(self, op: str, *scripts: Script) -> FakeService:
        """What to answer to this op, one script a request; the last one stays."""
        self.scripts[op] = list(scripts)
        return self

    def asked(self, op: str) -> list[dict[str, Any]]:
        """The requests of this op so far."""
        return [one for one in self.requests if one["op"] == op]

    def close(self) -> None:
        """Stop listening and wait for what is being answered."""
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._accepting.join(5)
        for thread in self._threads:
            thread.join(5)

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            thread = threading.Thread(target=self._serve, args=(connection,), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _serve(self, connection: socket.socket) -> None:
        with connection, connection.makefile("rb") as reader:
            line = reader.readline()
            if not line:
                return
            request = json.loads(line)
            self.requests.append(request)
            scripts = self.scripts.get(request["op"]) or [[error("usage", f"no script for {request['op']}")]]
            script = scripts.pop(0) if len(scripts) > 1 else scripts[0]
            with contextlib.suppress(OSError):
                play(connection, script, request)


def play(connection: socket.socket, script: Script, request: dict[str, Any]) -> None:
    """Send the lines of a script."""
    for one in script:
        if one == DIE:
            return
        if callable(one):
            step: Callable[[dict[str, Any]], Any] = one
            one = step(request)
        if one is not None:
            connection.sendall(one if isinstance(one, bytes) else json.dumps(one).encode() + b"\n")


def listen(home: Path) -> socket.socket:
    """A socket at the place where clients look."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    folder = os.open(home, os.O_RDONLY)
    try:
        (home / "control.sock").unlink(missing_ok=True)
        listener.bind(f"/proc/self/fd/{folder}/control.sock")
    finally:
        os.close(folder)
    listener.listen(64)
    return listener


def serve_process() -> int:
    """Be a service process for one home until asked to go down."""
    home = Path(os.environ["HEADWAY_HOME"])
    lock = os.open(home / "service.lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return 0
    with open(home / "starts", "a") as starts:
        starts.write(f"{os.getpid()}\n")
    version = os.environ.get("FAKE_VERSION", __version__)
    down = threading.Event()
    scripts: dict[str, list[Script]] = {
        "hello": [[data(version=version, pid=os.getpid(), unfinished=0), END]],
        "runs": [[data(as_of=7, runs=[]), END]],
        "down": [[data(stopped=True), END, lambda _: down.set()]],
    }
    service = FakeService(home, version=version, scripts=scripts)  # whoever connects first is answered
    down.wait(60)
    service.close()
    return 0


if __name__ == "__main__":
    sys.exit(serve_process())
