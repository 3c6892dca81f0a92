"""Output records put together to lines. Records are chunks: a line may come in many, a chunk may hold many lines."""

from __future__ import annotations

from base64 import b64decode
from collections import deque
from collections.abc import Iterable, Mapping
from typing import Any, Final, NamedTuple

LINE_BYTES_MAX: Final = 1 << 20
"""A line longer than this is cut into several: output without an end must not fill the memory."""


class OutputLine(NamedTuple):
    """A line a job printed, without its end; `timestamp` is when its first part came."""

    job: str
    attempt: int
    step: int
    stream: str
    timestamp: str
    body: bytes

    def text(self) -> str:
        """The line as text; what is not UTF-8 becomes a replacement mark."""
        return self.body.decode(errors="replace").removesuffix("\r")


class Lines:
    """Keeps what is unfinished of each job's streams until its line ends."""

    def __init__(self) -> None:
        self._open: dict[tuple[str, int, int, str], tuple[str, bytearray]] = {}

    def add(self, record: Mapping[str, Any]) -> list[OutputLine]:
        """The lines that this record finished."""
        job, stream = str(record.get("job") or ""), str(record.get("stream") or "stdout")
        key = (job, _number(record.get("attempt")), _number(record.get("step")), stream)
        begun = self._open.pop(key, None)
        timestamp, kept = begun or (str(record.get("timestamp") or ""), bytearray())
        kept += body_of(record)
        *whole, rest = bytes(kept).split(b"\n")
        found: list[OutputLine] = []
        for body in whole:
            found.append(OutputLine(*key, timestamp, body))
            timestamp = str(record.get("timestamp") or "")
        while len(rest) > LINE_BYTES_MAX:
            found.append(OutputLine(*key, timestamp, rest[:LINE_BYTES_MAX]))
            rest = rest[LINE_BYTES_MAX:]
        if rest:
            self._open[key] = (timestamp, bytearray(rest))
        return found

    def rest(self) -> list[OutputLine]:
        """The last lines of streams that ended without a line end."""
        found = [OutputLine(*key, timestamp, bytes(body)) for key, (timestamp, body) in self._open.items()]
        self._open.clear()
        return found


def body_of(record: Mapping[str, Any]) -> bytes:
    """The bytes of a record's message."""
    if record.get("message_base64"):
        try:
            return b64decode(str(record["message_base64"]))
        except ValueError:
            return b""
    return str(record.get("message") or "").encode(errors="replace")


def last_lines(records: Iterable[Mapping[str, Any]], count: int) -> list[str]:
    """The last lines of some output, as text."""
    kept: deque[OutputLine] = deque(maxlen=count)
    lines = Lines()
    for record in records:
        kept.extend(lines.add(record))
    kept.extend(lines.rest())
    return [line.text() for line in kept]


def _number(value: object) -> int:
    return value if isinstance(value, int) else 0
