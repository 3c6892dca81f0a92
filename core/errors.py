"""What can go wrong in operation, as exceptions a person can act on.

    HeadwayError
     +-- UsageError         2   the command line or a file is wrong
     +-- RefusedError       3   a rule said no
     +-- NotFoundError      4   no such thing, or more than one
     +-- UnavailableError   5   the log, the service or a store cannot be reached or used
     +-- TimedOutError    124   what was waited for did not happen in time
     +-- BrokenError       70   our bug

An outcome (a failed job) is an event, not one of these; a bug that can be stated is an assertion.
"""

from __future__ import annotations

from typing import ClassVar


class HeadwayError(Exception):
    """`message` is one lower-case sentence of what happened; `next` says what to do about it."""

    code: ClassVar[str] = "broken"
    exit_code: ClassVar[int] = 70

    def __init__(self, message: str, *, next: str = "", details: list[dict[str, object]] | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.next = next
        self.details = details or []

    def record(self) -> dict[str, object]:
        """The error as data, the shape that `--json` prints under `error`."""
        found: dict[str, object] = {"code": self.code, "message": self.message, "next": self.next}
        if self.details:
            found["diagnostics"] = self.details
        return found


class UsageError(HeadwayError):
    """The command line, a request or a file is wrong."""

    code = "usage"
    exit_code = 2


class RefusedError(HeadwayError):
    """A rule said no."""

    code = "refused"
    exit_code = 3


class NotFoundError(HeadwayError):
    """There is no such thing, or more than one."""

    code = "not_found"
    exit_code = 4


class UnavailableError(HeadwayError):
    """The log, the service or a store cannot be reached or used."""

    code = "unavailable"
    exit_code = 5


class TimedOutError(HeadwayError):
    """What was waited for did not happen in time."""

    code = "timed_out"
    exit_code = 124


class BrokenError(HeadwayError):
    """Our bug."""

    code = "broken"
    exit_code = 70


BY_CODE: dict[str, type[HeadwayError]] = {
    kind.code: kind for kind in (UsageError, RefusedError, NotFoundError, UnavailableError, TimedOutError, BrokenError)
}


def from_record(record: dict[str, object]) -> HeadwayError:
    """The exception behind a record made by `HeadwayError.record`, whoever made it."""
    kind = BY_CODE.get(str(record.get("code")), BrokenError)
    details = record.get("diagnostics")
    return kind(
        str(record.get("message", "unknown error")),
        next=str(record.get("next", "")),
        details=details if isinstance(details, list) else None,
    )
