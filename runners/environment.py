"""The environment of a step's process: where each variable comes from, and what one step hands to the next.

Weakest first: a few variables of the runner's own environment, CI and the like, the job's variables (with the
pipeline's), what earlier steps wrote to $HEADWAY_ENV, the step's variables, the run's parameters. The names in `OWN`
cannot be set by anybody else. Folders that earlier steps wrote to $HEADWAY_PATH come first in PATH, the latest first.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import msgspec

from headway.core.events import JobAssigned
from headway.core.plan import Step

_PASSED_ON = """
    PATH HOME USER LOGNAME SHELL LANG LANGUAGE TZ XDG_CACHE_HOME XDG_CONFIG_HOME XDG_DATA_HOME XDG_RUNTIME_DIR
    http_proxy https_proxy no_proxy all_proxy HTTP_PROXY HTTPS_PROXY NO_PROXY ALL_PROXY
    SSL_CERT_FILE SSL_CERT_DIR CURL_CA_BUNDLE REQUESTS_CA_BUNDLE GIT_SSL_CAINFO NODE_EXTRA_CA_CERTS
    PIP_CERT PIP_INDEX_URL PIP_EXTRA_INDEX_URL PIP_FIND_LINKS PIP_NO_INDEX
    DOCKER_HOST SSH_AUTH_SOCK
"""
PASSED_ON: Final = frozenset(_PASSED_ON.split())
"""What a job sees of the runner's environment, besides LC_*; everything else may be a secret."""
_PROXIES: Final = frozenset({"http_proxy", "https_proxy", "all_proxy"})
_USER: Final = re.compile(r"(?s)\A([^/@]*://)?.*@")
DEFAULT_PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
FILE_BYTES_MAX: Final = 1 << 20


class BadEnvironment(Exception):
    """A variable cannot be given to a process; the words are for the author of the step."""


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """Where and as what an attempt runs: what the variables in `OWN` tell it."""

    runner: str
    run: str
    job: str
    attempt: int
    workspace: Path
    tmp: Path


class Carried(msgspec.Struct):
    """What steps handed on so far."""

    variables: dict[str, str] = {}
    paths: list[str] = []


def passed_on(environ: Mapping[str, str]) -> dict[str, str]:
    """What jobs see of the runner's own environment. Proxies lose the user and password they are used with."""
    found = {name: value for name, value in environ.items() if name in PASSED_ON or name.startswith("LC_")}
    for name in found:
        if name.lower() in _PROXIES:
            found[name] = _USER.sub(r"\1", found[name])
    found.setdefault("PATH", DEFAULT_PATH)
    return found


def own_variables(place: Place, assigned: JobAssigned) -> dict[str, str]:
    """What an attempt is told about itself. HEADWAY_ENV and HEADWAY_PATH are added for each try of a step."""
    return {
        "HEADWAY": "true",
        "HEADWAY_RUN_ID": place.run,
        "HEADWAY_JOB": place.job,
        "HEADWAY_ATTEMPT": str(place.attempt),
        "HEADWAY_COMMIT": assigned.commit,
        "HEADWAY_BRANCH": assigned.branch,
        "HEADWAY_PROJECT": assigned.project,
        "HEADWAY_PIPELINE": assigned.pipeline,
        "HEADWAY_RUNNER": place.runner,
        "HEADWAY_WORKSPACE": str(place.workspace),
    }


_OWN = """
    HEADWAY HEADWAY_RUN_ID HEADWAY_JOB HEADWAY_ATTEMPT HEADWAY_COMMIT HEADWAY_BRANCH HEADWAY_PROJECT HEADWAY_PIPELINE
    HEADWAY_RUNNER HEADWAY_WORKSPACE HEADWAY_ENV HEADWAY_PATH
"""
OWN: Final = frozenset(_OWN.split())


class Environment:
    """Builds the environments of one attempt's steps."""

    def __init__(
        self, place: Place, assigned: JobAssigned, *, variables: dict[str, str], system: dict[str, str]
    ) -> None:
        # Git in a job must not find a repository that the runner's folder happens to be in.
        of_job = {"CI": "true", "TMPDIR": str(place.tmp), "GIT_CEILING_DIRECTORIES": str(place.workspace.parent.parent)}
        self._weakest = {**system, **of_job, **variables}
        self._parameters = assigned.parameters
        self._own = own_variables(place, assigned)
        self.carried = Carried()

    def of(self, step: Step, *, env_file: Path, path_file: Path) -> dict[str, str]:
        """The whole environment of one try of a step. Raises BadEnvironment."""
        found = {**self._weakest, **self.carried.variables, **step.variables, **self._parameters}
        for name, value in found.items():
            if not NAME.fullmatch(name):
                raise BadEnvironment(f"{name[:100]!r} cannot be the name of a variable")
            if "\0" in value:
                raise BadEnvironment(f"the value of {name} has a NUL in it")
        if self.carried.paths:
            found["PATH"] = ":".join([*reversed(self.carried.paths), found.get("PATH", DEFAULT_PATH)])
        return {**found, **self._own, "HEADWAY_ENV": str(env_file), "HEADWAY_PATH": str(path_file)}

    def carry(self, env_file: Path, path_file: Path) -> None:
        """Take over what a step wrote for later ones. Raises BadEnvironment, and then takes nothing."""
        variables = parse_variables(_read(env_file, "$HEADWAY_ENV"))
        paths = [line for line in _read(path_file, "$HEADWAY_PATH").splitlines() if line]
        for path in paths:
            if not os.path.isabs(path) or ":" in path or "\0" in path:
                raise BadEnvironment(f"$HEADWAY_PATH: {path[:100]!r} is not an absolute path")
        self.carried.variables = {**self.carried.variables, **variables}
        self.carried.paths = [*self.carried.paths, *paths]


def parse_variables(text: str) -> dict[str, str]:
    """`NAME=value` lines, and `NAME<<END`, lines, `END`. Raises BadEnvironment, naming the line."""
    found: dict[str, str] = {}
    lines = text.split("\n")
    at = 0
    while at < len(lines):
        line, start = lines[at], at + 1
        at += 1
        if not line.strip():
            continue
        name, equals, value = line.partition("=")
        before, shift, end = line.partition("<<")
        if shift and len(before) < len(name):
            name = before
            body = lines[at:]
            if not end or end not in body:
                raise BadEnvironment(f"$HEADWAY_ENV line {start}: the end {end[:100]!r} of the value is missing")
            value = "\n".join(body[: body.index(end)])
            at += body.index(end) + 1
        elif not equals:
            raise BadEnvironment(f"$HEADWAY_ENV line {start} is neither NAME=value nor NAME<<END")
        if not NAME.fullmatch(name):
            raise BadEnvironment(f"$HEADWAY_ENV line {start}: {name[:100]!r} cannot be the name of a variable")
        if name in OWN:
            raise BadEnvironment(f"$HEADWAY_ENV line {start}: {name} belongs to Headway")
        found[name] = value
    return found


def _read(path: Path, what: str) -> str:
    """A step's file, if it still is one: what lies there may be anything."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return ""
    except OSError as error:
        raise BadEnvironment(f"{what} cannot be read: {(error.strerror or str(error)).lower()}") from error
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise BadEnvironment(f"{what} is no longer a file")
    with open(fd, "rb") as source:
        body = source.read(FILE_BYTES_MAX + 1)
    if len(body) > FILE_BYTES_MAX:
        raise BadEnvironment(f"{what} is larger than {FILE_BYTES_MAX >> 20} MiB")
    return os.fsdecode(body)
