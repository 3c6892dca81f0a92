"""What is found, what is missing, and what of durability is and is not vouched for.

Exit code 1 when something is wrong; a warning alone is not.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from collections.abc import Mapping
from typing import Any, Final

from headway import __version__
from headway.cli import render
from headway.cli.arguments import add_json
from headway.cli.client import Client
from headway.cli.text import clean, pad, size
from headway.core.errors import HeadwayError

ROOM_BYTES_LEAST: Final = 1 << 30
STYLE: Final = {"ok": "green", "warning": "yellow", "error": "red"}

Check = dict[str, Any]


def arguments(parser: argparse.ArgumentParser) -> None:
    """What may follow `headway doctor`."""
    add_json(parser)


def main(args: argparse.Namespace) -> int:
    """Look at this machine first, then ask the service, which is started if need be."""
    client = Client.here(any_version=True)
    checks = [_python(), _shell(), _git(), _home(client.home), _room(client.home), *_service(client)]
    bad = [one for one in checks if not one.get("ok")]
    if args.json:
        render.data({"checks": checks})
        return 1 if bad else 0
    paint = render.paint_for(sys.stdout)
    wide = max(len(clean(one.get("name", ""))) for one in checks)
    for one in checks:
        level = str(one.get("level") or ("ok" if one.get("ok") else "error"))
        name = pad(clean(one.get("name", "")), wide)
        hint = f"; {clean(one['next'])}" if one.get("next") and level != "ok" else ""
        render.out(f"{paint(STYLE.get(level, ''), pad(clean(level), 7))}  {name}  {clean(one.get('words', ''))}{hint}")
    return 1 if bad else 0


def check(name: str, level: str, words: str, *, next: str = "") -> Check:
    """One line of the report; only an error is wrong."""
    return {"name": name, "ok": level != "error", "level": level, "words": words, "next": next}


def _python() -> Check:
    return check("headway", "ok", f"{__version__} on Python {sys.version.split()[0]}")


def _shell() -> Check:
    for shell, level in (("bash", "ok"), ("sh", "warning")):
        path = shutil.which(shell)
        if path:
            words = path if shell == "bash" else f"no bash; steps run with {path}, without pipefail"
            return check("shell", level, words, next="install bash")
    return check("shell", "error", "neither bash nor sh is on the PATH", next="install bash")


def _git() -> Check:
    path = shutil.which("git")
    if path:
        return check("git", "ok", path)
    return check("git", "warning", "not on the PATH; folders are taken whole, without commit", next="install git")


def _home(home: str) -> Check:
    there = home
    while not os.path.exists(there):
        there = os.path.dirname(there)
    if os.path.isdir(there) and os.access(there, os.W_OK | os.X_OK):
        return check("state", "ok", home if there == home else f"{home} (will be made)")
    return check("state", "error", f"{home} cannot be written to", next="set HEADWAY_HOME to a folder of your own")


def _room(home: str) -> Check:
    there = home
    while not os.path.exists(there):
        there = os.path.dirname(there)
    try:
        free = shutil.disk_usage(there).free
    except OSError as error:
        return check("disk", "error", (error.strerror or str(error)).lower(), next="set HEADWAY_HOME elsewhere")
    level = "ok" if free >= ROOM_BYTES_LEAST else "warning"
    return check("disk", level, f"{size(free)} free", next="make room: near the end no new runs are taken")


def _service(client: Client) -> list[Check]:
    """What the service found, or why there is none."""
    try:
        hello = client.call("hello")
        found = client.call("doctor").get("checks")
    except HeadwayError as error:
        return [check("service", "error", error.message, next=error.next)]
    return [_versions(hello), *(one for one in found or [] if isinstance(one, dict))]


def _versions(hello: Mapping[str, Any]) -> Check:
    version, words = str(hello.get("version", "")), f"process {hello.get('pid')} answers"
    if version == __version__:
        return check("service", "ok", words)
    return check(
        "service", "error", f"{words}, but is Headway {version}", next="stop it with 'headway down' when it is idle"
    )
