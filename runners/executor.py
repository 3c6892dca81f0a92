"""What every executor must do, whatever runs the work.

The contract, kept by `tests/runners/executor_contract.py` for each of them:

- `run` yields `Chunk`s, in order within each stream, then exactly one `Exited`, last.
- An executor runs one command at a time; a second `run` while one is going on is a bug.
- A non-zero exit, a signal, a time-out and a command that cannot be started are values (`Exited`). An exception
  (`ExecutorBroken`) means that the executor itself broke and nothing is known of the command.
- `stop` ends the command: SIGTERM to all of its process group, SIGKILL after `grace_seconds`. A time-out does the same.
  With `at_once` there is no grace. The first reason given is the one that `Exited` carries.
- Leaving `run` early (its task cancelled, its iterator closed) kills the command at once.
- What a command leaves running in the background goes on beside the commands that follow, and what it prints after
  its command's `Exited` is dropped. `clear` kills it, and returns when it is gone.
- After `close` nothing that was ever started here is left.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Final, Literal, Protocol

import msgspec

GRACE_SECONDS: Final = 10.0
LEASE_OVER: Final = "the runner's lease ran out"

Stream = Literal["out", "err"]


class ExecutorBroken(Exception):
    """The executor itself failed: what became of the command is not known, and it no longer runs."""


class Command(msgspec.Struct, frozen=True, kw_only=True):
    """One process to run: its arguments, its whole environment, where it starts and how long it may take.

    `timeout_reason` is what is said when it takes longer. `marker` is text that its environment holds and no other
    command's does, by which its processes can be told from all others.
    """

    argv: tuple[str, ...]
    environment: dict[str, str]
    folder: Path
    timeout_seconds: float
    timeout_reason: str = ""
    grace_seconds: float = GRACE_SECONDS
    marker: str = ""


class Chunk(msgspec.Struct, frozen=True):
    """Bytes as the command printed them."""

    stream: Stream
    body: bytes


class Exited(msgspec.Struct, frozen=True, kw_only=True):
    """How a command ended.

    One of `exit_code` and `signal` (its name, as SIGSEGV) is given, neither if it could not be started. `stopped` says
    that it was ended on purpose, `reason` why, or why it did not start.
    """

    exit_code: int | None = None
    signal: str = ""
    stopped: bool = False
    reason: str = ""
    cpu_ms: int = 0
    memory_bytes: int = 0


class Executor(Protocol):
    """Runs commands, one at a time, for one slot. The contract is this file's first lines."""

    def run(self, command: Command) -> AsyncGenerator[Chunk | Exited, None]:
        """Start the command; yield what it prints as it comes, then how it ended."""
        ...

    def stop(self, reason: str, *, at_once: bool = False) -> None:
        """End the command that runs, if one does; returns before it has ended."""
        ...

    async def clear(self) -> None:
        """Kill what earlier commands left running, and return when it is gone. Raises ExecutorBroken if it stays."""
        ...

    def renew(self, seconds: float) -> None:
        """Work may go on for so long from now, unless renewed; then it is killed, and `LEASE_OVER` is the reason.

        Never called: it may go on.
        """
        ...

    async def close(self) -> None:
        """Kill everything and let go of what the executor holds."""
        ...


def plain_seconds(seconds: float) -> str:
    """A duration as people write it: 5 s, 0.5 s."""
    return f"{seconds:g} s"
