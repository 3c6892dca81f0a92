"""How far something is that takes a while: one line on a terminal that is written anew, else a line now and then."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Final

from headway.cli import render
from headway.cli.text import clean, fit

PAUSE_SECONDS: Final = 1.0


class Progress:
    """Shows lines on stderr; `close` leaves a clean line behind."""

    def __init__(self) -> None:
        self._live = render.is_terminal(sys.stderr)
        self._drawn = False

    def show(self, text: str, *, stays: bool = False) -> None:
        """This is how far it is; what `stays` is not written over."""
        line = clean(text)
        if not self._live:
            render.say(line)
            return
        self.close()
        sys.stderr.write(f"{line}\n" if stays else fit(line, render.columns_of(sys.stderr) - 1))
        sys.stderr.flush()
        self._drawn = not stays

    def close(self) -> None:
        """Take away the line that is not final."""
        if self._drawn:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()
            self._drawn = False


class Throttle:
    """Lets a word through once a second."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._at = time.monotonic()

    def __call__(self, text: str) -> None:
        now = time.monotonic()
        if now - self._at >= PAUSE_SECONDS:
            self._at = now
            self._say(text)
