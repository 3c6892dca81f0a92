"""Text for people: other people's bytes made harmless, widths, durations, sizes and times. Pure functions."""

from __future__ import annotations

import re
from typing import Final

SHORT_ID: Final = 10
"""Lists show this many last characters of a run's id: the first ones are the time and alike for runs of one moment."""

_CONTROL = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\ufff9-\ufffb\ud800-\udfff]"
)
_SGR = re.compile("(\x1b\\[[0-9;:]{0,64}m)")
_ESCAPE = re.compile("\x1b(?:\\[[0-?]*[ -/]*[@-~]|[\\]PX^_][^\x07\x1b]*(?:\x07|\x1b\\\\)|[ -/]*[0-~])")
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)?")
_UNIT_SECONDS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def clean(text: object) -> str:
    """One line that cannot move the cursor, change the terminal or hide what it says."""
    line = str(text)
    if line.isascii() and line.isprintable():
        return line
    line = _ESCAPE.sub("", line.replace("\t", "    "))
    return _CONTROL.sub(lambda found: " " if found.group() in "\r\n\v\f\u2028\u2029" else "\ufffd", line)


def clean_output(line: str, *, colours: bool) -> str:
    """A line of a job's output for a terminal: colours may stay, every other escape and control character goes.

    Of a line that rewrote itself with carriage returns, only what was left to see remains.
    """
    if line.isascii() and line.isprintable():
        return line
    line = next((part for part in reversed(line.split("\r")) if part), "")
    if not colours or "\x1b" not in line:
        return clean(line)
    parts = _SGR.split(line)
    kept = "".join(part if at % 2 else clean(part) for at, part in enumerate(parts))
    return kept + "\x1b[0m" if len(parts) > 1 else kept


def width_of(text: str) -> int:
    """How many columns a terminal needs for this text, which holds no escapes."""
    if text.isascii():
        return len(text)
    from unicodedata import combining, east_asian_width

    return sum(0 if combining(one) else 2 if east_asian_width(one) in "WF" else 1 for one in text)


def fit(text: str, columns: int) -> str:
    """The text, or as much of its beginning as the columns hold, with a mark that something is missing."""
    if columns <= 0:
        return ""
    if width_of(text) <= columns:
        return text
    kept, used = [], 0
    for one in text:
        used += width_of(one)
        if used > columns - 1:
            break
        kept.append(one)
    return "".join(kept) + "~"


def pad(text: str, columns: int, *, right: bool = False) -> str:
    """The text filled up with blanks to the columns."""
    blanks = " " * max(0, columns - width_of(text))
    return blanks + text if right else text + blanks


def duration(seconds: float) -> str:
    """A length of time in at most two units: 0.4s, 12.3s, 3m 20s, 2h 5m, 3d 4h."""
    seconds = max(0.0, seconds)
    if seconds < 59.95:
        return f"{seconds:.1f}s"
    whole = round(seconds)
    for unit, below, size, smaller, small in ((" ", 3600, 60, "s", 1), ("h", 86400, 3600, "m", 60)):
        if whole < below:
            return f"{whole // size}{unit.strip() or 'm'} {whole % size // small}{smaller}"
    return f"{whole // 86400}d {whole % 86400 // 3600}h"


def milliseconds(value: object) -> str:
    """A duration in milliseconds as text, "" when there is none."""
    return duration(value / 1000) if isinstance(value, int | float) else ""


def size(count: object) -> str:
    """A number of bytes in a unit a person reads."""
    if not isinstance(count, int | float):
        return ""
    value = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if value < 1024:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1024
    return f"{value:.1f} TiB"


def parse_duration(text: str) -> float:
    """Seconds from `30`, `1.5s`, `10m`, `2h`, `1h30m`. Raises ValueError."""
    found = list(_DURATION.finditer(text))
    if not found or "".join(one.group() for one in found) != text or (len(found) > 1 and not found[-1].group(2)):
        raise ValueError(f"{text!r} is not a length of time such as 30s, 10m or 2h")
    return sum(float(one.group(1)) * _UNIT_SECONDS[one.group(2) or "s"] for one in found)


def parse_time(text: object) -> float | None:
    """Seconds since 1970 of an RFC 3339 time, None for anything else."""
    if not isinstance(text, str) or not text:
        return None
    from datetime import datetime

    try:
        return datetime.fromisoformat(text).timestamp()
    except ValueError:
        return None


def between(start: object, end: object, *, now: float) -> float | None:
    """Seconds from one RFC 3339 time to another, or to now when the other is not there yet."""
    began = parse_time(start)
    if began is None:
        return None
    ended = parse_time(end)
    return max(0.0, (now if ended is None else ended) - began)


def ago(text: object, *, now: float) -> str:
    """How long ago an RFC 3339 time was, in one unit: 5s ago, 3m ago, 2d ago."""
    then = parse_time(text)
    if then is None:
        return ""
    seconds = max(0, int(now - then))
    for unit, length in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds >= length:
            return f"{seconds // length}{unit} ago"
    return f"{seconds}s ago"


def clock(text: object, *, milliseconds: bool = True) -> str:
    """The local time of day of an RFC 3339 time."""
    from datetime import datetime

    try:
        local = datetime.fromisoformat(str(text)).astimezone()
    except ValueError:
        return ""
    return local.strftime("%H:%M:%S.%f")[:-3] if milliseconds else local.strftime("%H:%M:%S")


def short(run: object) -> str:
    """The end of a run's id: enough to name it in a list, and accepted as RUN."""
    return clean(run)[-SHORT_ID:]


def count(number: int, word: str) -> str:
    """`1 job`, `3 jobs`."""
    return f"{number} {word}" if number == 1 else f"{number} {word}s"


def actor(name: object) -> str:
    """Who did it, as people say it: a user by name, anything else as the log has it."""
    return clean(name).removeprefix("user:")
