"""Which program runs a step's script, and how it is told to."""

from __future__ import annotations

import os
import shutil
import sys
from typing import Final

import msgspec

NO_BASH: Final = "bash was not found, so this step runs with 'sh -e': no pipefail, no arrays, no [[ ]]"


class Shell(msgspec.Struct, frozen=True, kw_only=True):
    """A program that was found. Its name is what events say; the script's path goes after `argv`."""

    name: str
    argv: tuple[str, ...]
    suffix: str = ".sh"
    warning: str = ""


class NoShell(msgspec.Struct, frozen=True, kw_only=True):
    """There is no such program here."""

    name: str
    reason: str


def choose_shell(asked: str, path: str) -> Shell | NoShell:
    """The shell for a step: the one asked for, or bash, or sh where nothing was asked and there is no bash."""
    if asked == "python":
        return Shell(name="python", argv=(_find("python3", path) or sys.executable,), suffix=".py")
    if asked in ("", "bash") and (bash := _find("bash", path)):
        return Shell(name="bash", argv=(bash, "--noprofile", "--norc", "-eo", "pipefail"))
    if asked == "bash":
        return NoShell(name="bash", reason="bash was not found on PATH; install it, or say 'shell: sh'")
    if asked in ("", "sh"):
        return Shell(name="sh", argv=(_find("sh", path) or "/bin/sh", "-e"), warning="" if asked else NO_BASH)
    return NoShell(name=asked, reason=f"there is no shell {asked[:100]!r}; there are bash, sh and python")


def _find(name: str, path: str) -> str:
    """The program's absolute path, "" if PATH has none."""
    found = shutil.which(name, path=path)
    return found if found is not None and os.path.isabs(found) else ""
