"""Following a run to its end: over a service that dies, Ctrl-C and a terminal that changes its size."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from types import FrameType
from typing import Any, Final, TextIO

from headway.cli import render
from headway.cli.client import Client, Connection, Gone, gone_for_good, show_progress
from headway.cli.live import LiveView
from headway.cli.plain import PlainView, View
from headway.cli.tails import last_lines
from headway.core.errors import HeadwayError, UnavailableError

DEATHS_MAX: Final = 5
"""A service that dies so often in a row without saying anything is not started again."""

BURST_MAX: Final = 200
"""After so many answers in one go the view is drawn, however many more there are."""

OUTPUT_LINES: Final = 20
OUTPUT_JOBS_MAX: Final = 20
OUTPUT_SECONDS_MAX: Final = 5.0
CANCEL_SECONDS_MAX: Final = 5.0


class Left(Exception):
    """The person stopped following; the run goes on. `exit_code` says by which signal."""

    def __init__(self, exit_code: int) -> None:
        super().__init__()
        self.exit_code = exit_code


class Signals:
    """Counts what comes while a run is followed, and wakes whoever waits on `wake`."""

    def __init__(self) -> None:
        self.interrupts = 0
        self.terminated = False
        self.resized = False
        self.wake, self._wakes = os.pipe()
        os.set_blocking(self.wake, False)
        os.set_blocking(self._wakes, False)
        self._before = {number: signal.signal(number, self._note) for number in self._numbers()}
        self._wakeup_before = signal.set_wakeup_fd(self._wakes, warn_on_full_buffer=False)

    @staticmethod
    def _numbers() -> tuple[signal.Signals, ...]:
        return (signal.SIGINT, signal.SIGTERM, signal.SIGWINCH)

    def _note(self, number: int, _: FrameType | None) -> None:
        if number == signal.SIGINT:
            self.interrupts += 1
        elif number == signal.SIGTERM:
            self.terminated = True
        else:
            self.resized = True

    def take_resized(self) -> bool:
        """Whether the terminal has changed since the last call."""
        with suppress(BlockingIOError):
            os.read(self.wake, 4096)
        resized, self.resized = self.resized, False
        return resized

    def close(self) -> None:
        """Give the signals back."""
        signal.set_wakeup_fd(self._wakeup_before)
        for number, handler in self._before.items():
            signal.signal(number, handler)
        os.close(self.wake)
        os.close(self._wakes)


class Follower:
    """Shows one run until it has completed. An interrupt asks for its cancellation when `cancels` is set."""

    def __init__(self, client: Client, view: View, *, cancels: bool) -> None:
        self._client = client
        self._view = view
        self._cancels = cancels
        self._signals: Signals | None = None
        self._asked_to_cancel = False
        self._said = False
        self._told = False
        self._heard = False
        self._outputs = 0
        self.run = ""
        self.cancelling = False
        self.info: dict[str, Any] = {}

    def follow(self, op: str, arguments: Mapping[str, Any]) -> str:
        """Ask the op and follow its run; returns the outcome. Raises Left, and what the service answers."""
        deaths = 0
        try:
            while not self._view.board.outcome:
                connection = self._client.connect()
                self._watch_signals()
                self._heard = False
                try:
                    connection.ask(op, arguments)
                    self._listen(connection)
                except Gone:
                    deaths = 0 if self._heard else deaths + 1
                    if deaths >= DEATHS_MAX:
                        raise gone_for_good() from None
                    self._say_gone()
                    op, arguments = self._again(op, arguments)
                finally:
                    connection.close()
        finally:
            self._view.close()
            if self._signals:
                self._signals.close()
        return self._view.board.outcome

    def _say_gone(self) -> None:
        """Say it once for each death: a dying process may take one more connection before it is gone."""
        if self._heard or not self._told:
            self._view.note("the service went away; starting it again")
        self._told = True

    def _watch_signals(self) -> None:
        """From here on Ctrl-C belongs to the run; before, nothing was asked and it just ends the command."""
        if self._signals is None:
            self._signals = Signals()
            self._client.pulse = self._obey

    def _again(self, op: str, arguments: Mapping[str, Any]) -> tuple[str, Mapping[str, Any]]:
        """What to ask a new service: the same until the run is known, then the events after the last one seen."""
        if not self._view.board.last_seq:
            return op, arguments
        cwd = arguments.get("cwd", "")
        return "events", {"run": self.run, "cwd": cwd, "from": self._view.board.last_seq + 1, "follow": True}

    def _listen(self, connection: Connection) -> None:
        signals = self._signals
        assert signals is not None, "signals are watched before anything is asked"
        while not self._view.board.outcome:
            resized = signals.take_resized()  # first: a signal that comes after this wakes the waiting below
            self._obey()
            wait = self._view.tick(resized=resized)
            message = connection.receive(timeout_seconds=wait, wake=signals.wake)
            taken = 0
            while message is not None:
                self._take(message)
                taken += 1
                more = taken < BURST_MAX and not self._view.board.outcome
                message = connection.receive(timeout_seconds=0) if more else None

    def _take(self, message: Mapping[str, Any]) -> None:
        self._heard = True
        if "progress" in message:
            show_progress(message) if not self.run else self._view.note(str(message["progress"]))
        if message.get("end") and not self._view.board.outcome:
            raise UnavailableError(
                f"the service stopped while run {self.run} is not over",
                next=f"'headway watch {self.run}' starts it again and goes on",
            )
        data = message.get("data")
        if not isinstance(data, dict):
            return
        if isinstance(data.get("event"), dict):
            self._event(data["event"])
        elif isinstance(data.get("show"), dict):
            self._view.show(data["show"])
            self.run = self._view.board.run
        elif data.get("run"):
            self._accepted(data)

    def _accepted(self, data: dict[str, Any]) -> None:
        warnings = data.get("warnings")
        if isinstance(warnings, list) and not self.info:
            for line in render.diagnostics(warnings, render.paint_for(sys.stderr)):
                render.say(line)
        self.info, self.run = data, str(data["run"])
        self._view.accepted(data)

    def _event(self, record: Mapping[str, Any]) -> None:
        kind, data = record.get("type"), record.get("data") or {}
        if not self._view.event(record):
            return
        failed = kind == "job.attempt_failed" or (kind == "job.completed" and data.get("outcome") == "failed")
        if failed and record.get("attempt") and self._view.board.job(str(record.get("job"))).began:
            self._show_output(str(record.get("job")), int(record["attempt"]))

    def _show_output(self, job: str, attempt: int) -> None:
        """Show what the failed attempt printed last. That it cannot be had now must not disturb the following."""
        self._outputs += 1
        if self._outputs > OUTPUT_JOBS_MAX:
            return
        try:
            lines = failed_output(self._client, self.run, job, attempt=attempt, count=OUTPUT_LINES)
        except (HeadwayError, Gone, OSError):
            lines = []
        self._view.output(job, lines)

    def _obey(self) -> None:
        """Do what the signals that came so far ask for. Raises Left."""
        signals = self._signals
        if signals is None:
            return
        if signals.terminated:
            raise Left(143)
        if signals.interrupts > 1 or (signals.interrupts and not self._cancels):
            raise Left(130)
        if not signals.interrupts:
            return
        if not self._said:
            self._said = True
            self._view.note("cancelling the run; press Ctrl-C again to leave without waiting for its end")
        if self.run and not self._asked_to_cancel:
            self._asked_to_cancel = True
            self._cancel()

    def _cancel(self) -> None:
        try:
            connection = Connection.open(self._client.home)
        except OSError:
            self._asked_to_cancel = False  # asked again of the service that follows
            return
        try:
            connection.ask("cancel", {"run": self.run, "cwd": "", "reason": "interrupted"})
            wait_for_end(connection, CANCEL_SECONDS_MAX)
            self.cancelling = True
        except Gone:
            self._asked_to_cancel = False
        except HeadwayError as error:
            self._view.note(f"cannot cancel the run: {error.message}")
        finally:
            connection.close()

    @property
    def interrupted(self) -> bool:
        """Whether the person asked to stop."""
        return self._signals is not None and self._signals.interrupts > 0


def wait_for_end(connection: Connection, seconds: float) -> list[dict[str, Any]]:
    """The data of an answer that must be complete in so many seconds; what came until then otherwise."""
    end = time.monotonic() + seconds
    found: list[dict[str, Any]] = []
    while True:
        message = connection.receive(timeout_seconds=max(0.0, end - time.monotonic()))
        if message is None or message.get("end"):
            return found
        if isinstance(message.get("data"), dict):
            found.append(message["data"])


def failed_output(client: Client, run: str, job: str, *, attempt: int, count: int) -> list[str]:
    """The last lines an attempt printed, as the service has them now. Raises Gone, OSError and HeadwayError."""
    connection = Connection.open(client.home)
    try:
        connection.ask("logs", {"run": run, "cwd": "", "job": job, "attempt": attempt, "follow": False})
        found = wait_for_end(connection, OUTPUT_SECONDS_MAX)
        return last_lines((one["output"] for one in found if isinstance(one.get("output"), dict)), count)
    finally:
        connection.close()


def view_on(stream: TextIO, *, live: bool | None = None) -> View:
    """The view that suits this stream: live on a terminal that can do it, plain lines elsewhere."""
    paint = render.paint_for(stream)

    def write(text: str) -> None:
        try:
            stream.write(text)
            stream.flush()
        except BrokenPipeError:  # nobody looks any more; the run goes on and its outcome is still told
            pass

    if live is None:
        live = render.is_terminal(stream) and os.environ.get("TERM", "") not in ("", "dumb")
    if not live:
        return PlainView(write, paint)

    def size() -> tuple[int, int]:
        try:
            columns, rows = os.get_terminal_size(stream.fileno())
        except (OSError, ValueError):
            columns, rows = 80, 24
        return columns or 80, rows or 24

    symbols = (getattr(stream, "encoding", "") or "").lower().replace("-", "") == "utf8"
    return LiveView(write, paint, size=size, symbols=symbols)
