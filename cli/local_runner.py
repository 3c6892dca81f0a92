"""The runner that comes with the service: a child process, started again when it dies."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import sys
from pathlib import Path
from typing import Final

from headway.core.config import Config
from headway.core.envelope import Recorded
from headway.core.events import RunnerLost, RunnerRegistered
from headway.runners.folder import RunnerFolder

PAUSE_SECONDS: Final = 0.1
PAUSE_SECONDS_MAX: Final = 5.0
STOP_SECONDS: Final = 15.0
LOOK_SECONDS: Final = 0.02
HUNG_SECONDS: Final = 10.0
NAME: Final = "local"

logger = logging.getLogger("headway.local_runner")


class LocalRunner:
    """Keeps one runner process alive beside the service."""

    def __init__(self, home: Path, config: Config) -> None:
        self.pid = 0
        self._home = home
        self._config = config
        self._process: asyncio.subprocess.Process | None = None
        self._stopping = False
        self._incarnation = ""

    async def run(self) -> None:
        """Start the runner and start it again whenever it ends; until stopped."""
        pause = PAUSE_SECONDS
        while not self._stopping:
            started = asyncio.get_running_loop().time()
            self._process = await self._start()
            self.pid = self._process.pid
            code = await self._process.wait()
            if self._stopping:
                break
            lived = asyncio.get_running_loop().time() - started
            pause = PAUSE_SECONDS if lived > PAUSE_SECONDS_MAX else min(pause * 2, PAUSE_SECONDS_MAX)
            logger.warning("the local runner ended with %s after %.1f s; starting it again", code, lived)
            await asyncio.sleep(pause)

    def heard(self, batch: list[Recorded]) -> None:
        """Watch over the child by what the log says: one that was lost and does not come back hangs, and is killed."""
        for one in batch:
            event = one.event
            if isinstance(event, RunnerRegistered) and event.name == NAME and event.pid == self.pid:
                self._incarnation = event.runner
            elif isinstance(event, RunnerLost) and event.runner == self._incarnation:
                asyncio.get_running_loop().call_later(HUNG_SECONDS, self._kill_hung, event.runner)

    def _kill_hung(self, lost: str) -> None:
        process = self._process
        if self._incarnation == lost and process is not None and process.returncode is None:
            logger.warning("the local runner was lost and did not register again; killing it")
            process.kill()

    async def stop(self) -> None:
        """End the runner; what it still runs is given back. It is killed when it takes too long."""
        self._stopping = True
        process = self._process
        if process is not None and process.returncode is None:
            process.send_signal(signal.SIGTERM)
            process.send_signal(signal.SIGINT)  # the second one says not to wait for what runs
            try:
                await asyncio.wait_for(process.wait(), STOP_SECONDS)
            except TimeoutError:
                process.kill()
                await process.wait()
        await self._stop_earlier()

    async def _stop_earlier(self) -> None:
        """End the runner of a service that was killed: it works on for us until then, but is not our child."""
        folder = RunnerFolder(self._home, NAME)
        loop = asyncio.get_running_loop()
        began = loop.time()
        told = 0
        while (holder := folder.holder()) and loop.time() - began < 2 * STOP_SECONDS:
            late = loop.time() - began > STOP_SECONDS
            if holder != told or late:
                told = holder
                with contextlib.suppress(ProcessLookupError):
                    os.kill(holder, signal.SIGKILL if late else signal.SIGTERM)
            await asyncio.sleep(LOOK_SECONDS)

    async def _start(self) -> asyncio.subprocess.Process:
        labels = ",".join(self._config.labels)
        return await asyncio.create_subprocess_exec(
            *(sys.executable, "-P", "-m", "headway.runners"),
            *("--home", str(self._home), "--name", NAME, "--slots", str(self._config.slots)),
            *(("--labels", labels) if labels else ()),
            *("--wait-lock", "--with-service"),
            stdin=asyncio.subprocess.DEVNULL,
            cwd=self._home,
            env=dict(os.environ),
        )
