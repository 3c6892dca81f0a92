"""Small words for sentences: lengths of time, lists, counts. Names are as they came; who prints cleans them."""

from __future__ import annotations

from collections.abc import Sequence
from shlex import quote
from typing import Final

NAMED_MOST: Final = 3
"""How many names a sentence lists."""


def span(milliseconds: int) -> str:
    """A length of time in at most two units: 250ms, 4.2s, 12s, 3m 20s, 2h 5m, 3d 4h."""
    milliseconds = max(0, milliseconds)
    if milliseconds < 1000:
        return f"{milliseconds}ms"
    if milliseconds < 10_000:
        return f"{milliseconds // 100 / 10:g}s"
    seconds = milliseconds // 1000
    for below, size, unit, small, smaller in (
        (60, 1, "s", 0, ""),
        (3600, 60, "m", 1, "s"),
        (86400, 3600, "h", 60, "m"),
    ):
        if seconds < below:
            rest = seconds % size // small if small else 0
            return f"{seconds // size}{unit}" + (f" {rest}{smaller}" if rest else "")
    hours = seconds % 86400 // 3600
    return f"{seconds // 86400}d" + (f" {hours}h" if hours else "")


def about(milliseconds: int) -> str:
    """A length of time that is only expected, to the second."""
    return f"about {span(milliseconds if milliseconds < 10_000 else (milliseconds + 500) // 1000 * 1000)}"


def listed(names: Sequence[str], *, most: int = NAMED_MOST) -> str:
    """`a`, `a and b`, `a, b and c`, `a, b and 4 more`."""
    shown = [*names[: most - 1], f"{len(names) - most + 1} more"] if len(names) > most else list(names)
    return " and ".join([", ".join(shown[:-1]), shown[-1]]) if len(shown) > 1 else "".join(shown)


def counted(number: int, word: str) -> str:
    """`1 job`, `3 jobs`."""
    return f"{number} {word}" if number == 1 else f"{number} {word}s"


def person(actor: str | None) -> str:
    """Who did it: a user by name, anything else as the log has it."""
    return (actor or "someone").removeprefix("user:")


def because(reason: str | None) -> str:
    """A reason after a colon, or nothing."""
    return f": {reason}" if reason else ""


def command(*words: str) -> str:
    """A command to be typed. Names are other people's: what a shell would read as more than a word is quoted."""
    return " ".join(["headway", *map(quote, words)])


def short(run: str) -> str:
    """The end of a run's id, as lists show it."""
    return run[-10:]
