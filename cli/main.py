"""The `headway` command: a table of commands, of which only the one that is called is imported."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Final

from headway import __version__
from headway.cli import render
from headway.core.errors import HeadwayError, UnavailableError, UsageError

COMMANDS: Final[dict[str, dict[str, str]]] = {
    "Runs": {
        "init": "write a commented headway.yml to begin with",
        "run": "run a pipeline and follow it to its end",
        "watch": "follow a run that exists",
        "wait": "wait until runs have completed",
        "cancel": "end a run or one of its jobs",
        "pause": "start nothing new, in one run or in all",
        "resume": "go on after a pause",
    },
    "Looking": {
        "status": "service, queue, runners and the last runs on one screen",
        "runs": "list runs",
        "jobs": "list jobs",
        "show": "one run: its jobs, attempts and what failed",
        "latency": "how long handoffs took: percentiles per state, job, runner, ...",
        "timeline": "where the time of a run went, and its critical path",
        "replay": "a run as its events make it, up to any moment",
        "why": "what everything waits for, or why a run or a job is where it is",
        "logs": "what a run's jobs printed",
        "tail": "the events of a run, or of everything, as they come",
        "verify": "whether what is kept is whole: events, tables and blobs",
    },
    "Service": {
        "up": "run the service in the foreground",
        "down": "stop the service",
        "runners": "list, start, drain and resume runners",
        "config": "where the configuration is, what it says, whether it is right",
        "doctor": "what is found, what is missing, what is vouched for",
        "projections": "make the tables of the log again, or compare them with it",
        "backup": "write all that is kept to one file, while the service runs",
        "restore": "make a new home of a backup",
        "completion": "completion for bash, zsh or fish",
    },
}

EXIT_CODES: Final = """\
Exit codes: 0 done; 1 the run failed or a check found something; 2 usage or an invalid file; 3 refused;
4 not found or ambiguous; 5 log, store or service unavailable; 6 cancelled; 70 a bug of Headway;
124 a wait timed out; 130 and 143 interrupted."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; every error ends as one sentence and an exit code."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    _open_missing()
    as_json = "--json" in (words[: words.index("--")] if "--" in words else words)
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")  # other people's text must not break the output
    try:
        code = _run(words)
        sys.stdout.flush()
        return code
    except HeadwayError as error:
        return _report(error, as_json=as_json)
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        return _without_stdout(0)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EIO):
            _without_stdout(0)
            words_of_it = (error.strerror or str(error)).lower()
            return _report(UnavailableError(f"cannot write: {words_of_it}", next="make room"))
        return _bug(error, as_json=as_json)
    except Exception as error:
        return _bug(error, as_json=as_json)


def _open_missing() -> None:
    """Give /dev/null to a program that was started without a standard stream, as `headway run >&-` is.

    They are opened in the order of their numbers, so that nothing else gets one, and children have them too.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            stream = open(os.devnull, mode)  # noqa: SIM115 - it is open as long as the program
            os.set_inheritable(stream.fileno(), True)
            setattr(sys, name, stream)


def _run(words: list[str]) -> int:
    if words[:1] == ["--json"]:
        words = [*words[1:], "--json"] if len(words) > 1 else words
    if not words:
        render.say(_help())
        return 2
    name = words[0]
    if name in ("-h", "--help", "help"):
        if name == "help" and len(words) > 1:
            return _command(words[1], ["--help"])
        render.out(_help())
        return 0
    if name in ("-V", "--version"):
        render.out(f"headway {__version__}")
        return 0
    return _command(name, words[1:])


def _command(name: str, words: list[str]) -> int:
    known = [one for group in COMMANDS.values() for one in group]
    if name not in known:
        from difflib import get_close_matches

        near = [] if name.startswith("-") else get_close_matches(name, known, 1)
        what = "option" if name.startswith("-") else "command"
        raise UsageError(
            f"there is no {what} {name!r}" + (f"; did you mean '{near[0]}'?" if near else ""),
            next="see 'headway --help'",
        )
    from headway.cli.arguments import Parser

    module = import_module(f"headway.cli.commands.{name}")
    parser = Parser(prog=f"headway {name}", description=(module.__doc__ or "").strip())
    module.arguments(parser)
    try:
        args = parser.parse_args(words)
    except SystemExit:  # --help has been printed
        return 0
    code = module.main(args)
    assert isinstance(code, int), f"command {name} returns its exit code"
    return code


def _help() -> str:
    lines = ["usage: headway COMMAND [OPTIONS]", ""]
    for group, commands in COMMANDS.items():
        lines.append(f"{group}:")
        lines.extend(f"  {name:<12}{words}" for name, words in commands.items())
        lines.append("")
    lines.append("'headway COMMAND --help' says more. With --json, data and errors are JSON on stdout.")
    lines.append("")
    lines.append(EXIT_CODES)
    return "\n".join(lines)


def _report(error: HeadwayError, *, as_json: bool = False) -> int:
    """Tell the error and return its exit code, even if nobody listens any more."""
    try:
        render.error(error.record(), as_json=as_json)
        sys.stdout.flush()
    except OSError:
        return _without_stdout(error.exit_code)
    return error.exit_code


def _without_stdout(code: int) -> int:
    """Keep the interpreter from complaining about an output that is gone when it ends."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.close(nowhere)
    return code


def _bug(error: Exception, *, as_json: bool) -> int:
    """Our mistake: keep the traceback where it can be sent from, and say so in one sentence."""
    import traceback

    text = "".join(traceback.format_exception(error))
    if os.environ.get("HEADWAY_DEBUG") == "1":
        render.say(text.rstrip())
    found = HeadwayError(f"a bug in Headway: {type(error).__name__}: {error}", next=_keep(text))
    return _report(found, as_json=as_json)


def _keep(text: str) -> str:
    """Write the traceback down; returns what to do with it."""
    import time

    from headway.core.home import find_home

    name = f"bug-{time.strftime('%Y%m%dT%H%M%S')}-{os.getpid()}.txt"
    try:
        folder = find_home(os.environ)
        file = os.path.join(folder, name)
        os.makedirs(folder, mode=0o700, exist_ok=True)
        with open(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", errors="replace") as stream:
            stream.write(f"headway {__version__}\n{' '.join(sys.argv[1:2])}\n\n{text}")
    except (OSError, HeadwayError):
        return "run it again with HEADWAY_DEBUG=1 to see where, and report that"
    return f"report it with {file}"
