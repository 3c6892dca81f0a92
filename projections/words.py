"""Small words for sentences: lengths of time, lists, counts. Names are as they came; who prints cleans them."""

from __future__ import annotations

from collections.abc import Sequence
from shlex import quote
from typing import Final

NAMED_MOST: Final = 3
"""How many names a sentence lists."""


def span(milliseconds: int) -> str:
    """A length of time in at most two units, as all of Headway says it: 0.4s, 12.3s, 3m 20s, 2h 5m, 3d 4h."""
    seconds = max(0, milliseconds) / 1000
    if seconds < 59.95:
        return f"{seconds:.1f}s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60}m {whole % 60}s"
    if whole < 86400:
        return f"{whole // 3600}h {whole % 3600 // 60}m"
    return f"{whole // 86400}d {whole % 86400 // 3600}h"


def about(milliseconds: int) -> str:
    """A length of time that is only expected, to the second."""
    seconds = round(milliseconds / 1000)
    return f"about {f'{seconds}s' if 10 <= seconds < 60 else span(milliseconds)}"


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
