"""Write everything that Headway keeps to one file, while it runs. `headway restore` makes a new home of it.

In it are the log, what jobs printed, all blobs, the configuration, and what runners had still to report. Left out, for
they are made anew: the tables (from the log), the log server's passwords and port, workspaces, locks, sockets, and the
service's own log. The file can be read by you alone: whoever has it has the sources and outputs of all runs.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from headway.cli import render
from headway.cli.arguments import add_json, cwd
from headway.cli.client import SENDS_MAX, Client, Gone
from headway.cli.text import clean, count, size
from headway.core.errors import UnavailableError, UsageError


def arguments(parser: argparse.ArgumentParser) -> None:
    """What may follow `headway backup`."""
    parser.add_argument("file", metavar="FILE", help="the file to write; a tar")
    parser.add_argument("--force", action="store_true", help="replace FILE if it is there")
    add_json(parser)


def main(args: argparse.Namespace) -> int:
    """Have the service write it, and show how far it is."""
    if not args.file or args.file.endswith(os.sep):
        raise UsageError(f"{args.file!r} is not the name of a file", next="see 'headway backup --help'")
    file = os.path.normpath(os.path.join(cwd(), args.file))
    found = _write(Client.here(), {"file": file, "force": args.force})
    if args.json:
        render.data(found)
        return 0
    for digest in found.get("damaged_blobs") or ():
        render.say(f"warning: {clean(digest)} is damaged and was kept as it is")
    held = f"{count(int(found.get('as_of', 0)), 'event')}, {count(int(found.get('blobs', 0)), 'blob')}"
    render.out(f"{clean(found.get('file', file))}: {held}, {size(found.get('bytes'))}")
    return 0


def _write(client: Client, request: Mapping[str, Any]) -> dict[str, Any]:
    """What the service says of the backup. One that was begun is not begun again behind the user's back."""
    for sent in range(1, SENDS_MAX + 1):
        answers = _Answers()
        try:
            return answers.follow(client, request)
        except Gone:
            if answers.partial or sent == SENDS_MAX:
                raise UnavailableError(
                    f"the service went away while it wrote the backup; there is no {clean(request['file'])} of it",
                    next="run the command again, or see 'headway doctor'",
                ) from None
        finally:
            answers.clear()
    raise AssertionError("the last try has answered or raised")


class _Answers:
    """The answers to one request for a backup."""

    def __init__(self) -> None:
        self.partial = ""

    def follow(self, client: Client, request: Mapping[str, Any]) -> dict[str, Any]:
        """Show progress until the backup is there. Raises Gone."""
        from headway.cli.progress import Progress

        progress = Progress()
        found: dict[str, Any] = {}
        connection = client.connect()
        try:
            connection.ask("backup", request)
            while not (message := connection.receive() or {}).get("end"):
                if "progress" in message:
                    progress.show(message["progress"], stays=" of " not in message["progress"])
                elif isinstance(message.get("data"), dict):
                    found = message["data"]
                    self.partial = self.partial or str(found.get("partial", ""))
            return found
        finally:
            connection.close()
            progress.close()

    def clear(self) -> None:
        """Remove what a service that was killed left; one that lives does so itself, in a moment, but that is late."""
        if self.partial:
            with suppress(OSError):
                os.unlink(self.partial)
