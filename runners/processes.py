"""Finding and killing processes when nobody who started them is left to ask.

Every command a runner starts carries a marker in its environment, and is the leader of a session. This is the last
resort, for when a supervisor was killed: a process that both cleaned its environment and left its session is missed.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterator
from typing import Final

from headway.runners.executor import ExecutorBroken

GONE_SECONDS: Final = 10.0


def marked(marker: str, *, session: int = 0) -> Iterator[int]:
    """The processes that have an environment entry starting with `marker`, or belong to the session."""
    wanted = b"\0" + os.fsencode(marker)
    for name in os.listdir("/proc"):
        if not name.isdigit() or int(name) == os.getpid():
            continue
        with contextlib.suppress(OSError):
            with open(f"/proc/{name}/stat", "rb", buffering=0) as stat:
                fields = stat.read(4096).rpartition(b")")[2].split()
            if fields[0] == b"Z":
                continue
            if session and int(fields[3]) == session:
                yield int(name)
                continue
            with open(f"/proc/{name}/environ", "rb", buffering=0) as environ:
                if wanted in b"\0" + environ.read(1 << 22):
                    yield int(name)


def kill_marked(marker: str, *, session: int = 0) -> int:
    """Kill them all and return how many there were when none is left. Blocks; raises ExecutorBroken if some stay."""
    assert len(marker) > 8, "a short marker would match strangers"
    end = time.monotonic() + GONE_SECONDS
    killed: set[int] = set()
    while found := [*marked(marker, session=session)]:
        for pid in found:
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)
        killed.update(found)
        if time.monotonic() > end:
            raise ExecutorBroken(f"processes {found} could not be killed")
        time.sleep(0.002)
    return len(killed)
