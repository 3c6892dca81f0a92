"""What commands share in reading their arguments: one sentence for what is wrong, and where the help is."""

from __future__ import annotations

import argparse
import os
import re
from typing import Any, Final, NoReturn

from headway.cli.text import parse_duration
from headway.core.errors import UsageError

_TIME_OF_DAY: Final = re.compile(r"[0-9]{1,2}:[0-9]{2}(:[0-9]{2})?")


class Parser(argparse.ArgumentParser):
    """An argument parser that raises what is wrong instead of leaving."""

    def __init__(self, **options: Any) -> None:  # noqa: ANN401 - as argparse has them
        options.setdefault("formatter_class", argparse.RawDescriptionHelpFormatter)
        super().__init__(allow_abbrev=False, **options)

    def error(self, message: str) -> NoReturn:
        raise UsageError(message, next=f"see '{self.prog} --help'")


def add_json(parser: argparse.ArgumentParser, what: str = "print one JSON object") -> None:
    """`--json`, for programs."""
    parser.add_argument("--json", action="store_true", help=f"{what}; an error is then {{'error': {{...}}}} on stdout")


def add_run(parser: argparse.ArgumentParser, *, optional: bool = False, several: bool = False) -> None:
    """RUN, which the service resolves."""
    words = "a run's id, a unique beginning or end of it, or @: the latest run you submitted from this project"
    if optional:
        parser.add_argument("run", metavar="RUN", nargs="?", default="", help=words)
    else:
        parser.add_argument("run", metavar="RUN", nargs="+" if several else None, help=words)


def add_at(parser: argparse.ArgumentParser) -> None:
    """`--at`, for every command that reads."""
    parser.add_argument(
        "--at",
        metavar="WHEN",
        type=moment,
        help="as it was then: after the event of this sequence (1234), or at a time (14:30, 2026-01-31T12:00:00Z, "
        "'10m ago')",
    )


def at_of(args: argparse.Namespace) -> dict[str, Any]:
    """The argument of a question that says which moment is asked for."""
    return {"at": args.at} if args.at is not None else {}


def moment(text: str) -> dict[str, int]:
    """A sequence or a time, for argparse. A time of day is the last one that has been, by this machine's clock."""
    from datetime import datetime, timedelta

    text = text.strip()
    if text.isascii() and text.isdigit():
        return {"seq": natural(text)}
    now = datetime.now().astimezone()
    try:
        if text.endswith(" ago"):
            then = now - timedelta(seconds=parse_duration(text.removesuffix(" ago").replace(" ", "")))
        elif _TIME_OF_DAY.fullmatch(text):
            clock = datetime.strptime(text, "%H:%M:%S" if text.count(":") == 2 else "%H:%M")
            then = now.replace(hour=clock.hour, minute=clock.minute, second=clock.second, microsecond=0)
            then -= timedelta(days=1 if then > now else 0)
        else:
            then = datetime.fromisoformat(text).astimezone()
        return {"time_us": round(then.timestamp() * 1_000_000)}
    except (ValueError, OverflowError, OSError):
        raise argparse.ArgumentTypeError(
            f"{text!r} is neither a sequence nor a time; write 1234, 14:30, 2026-01-31T12:00:00Z or '10m ago'"
        ) from None


def seconds(text: str) -> float:
    """A length of time, for argparse."""
    try:
        return parse_duration(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def positive(text: str) -> int:
    """A whole number from 1, for argparse."""
    number = natural(text)
    if number < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return number


def natural(text: str) -> int:
    """A whole number from 0, for argparse."""
    if not (text.isascii() and text.isdigit()) or len(text) > 18:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number")
    return int(text)


def cwd() -> str:
    """The present folder, which says what project `@` is about."""
    try:
        return os.getcwd()
    except OSError:
        raise UsageError("the present folder does not exist any more", next="change to another folder") from None
