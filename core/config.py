"""The configuration: one file, `config.yml` in `$HEADWAY_HOME`, read like a pipeline and as strictly.

A flag wins over the environment (`HEADWAY_SLOTS`, ...), the environment over the file, the file over the default; of
each value it is known which of them gave it. An empty variable of the environment is no value.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias
from urllib.parse import urlsplit

import msgspec

from headway.core.diagnostics import Problems
from headway.core.document import load as load_document
from headway.core.document import read_bytes
from headway.core.errors import UsageError
from headway.core.home import find_home
from headway.core.nodes import Mapping as MappingNode
from headway.core.nodes import Node, Scalar, Sequence
from headway.core.plan import digest_of
from headway.core.resting import BACKOFF_MAX_SECONDS
from headway.core.shape import Level, check_keys
from headway.core.values import Values

__all__ = ["Config", "Setting", "config_path", "find_home", "load"]

Origin: TypeAlias = Literal["default", "file", "environment", "flag"]

GIB: Final = 1024**3
SIZE_LEAST: Final = 16 * 1024**2
SIZE_MOST: Final = 1 << 60
SLOTS_MAX: Final = 1024


class Config(msgspec.Struct, frozen=True, kw_only=True):
    """The effective configuration. `origins` says of each key which source gave its value.

    The sizes are upper limits: a disk with less room lowers them. `nats_url` "" means the embedded server.
    """

    home: str
    slots: int
    labels: tuple[str, ...]
    idle_exit_seconds: int
    log_max_bytes: int
    output_max_bytes: int
    blobs: str
    nats_url: str
    attempt_losses_max: int
    retry_backoff_seconds: float
    origins: dict[str, Origin]

    @property
    def digest(self) -> str:
        """Names the effective values, wherever each came from: an input of every run."""
        values = {key: getattr(self, key) for key in KEYS}
        return digest_of(msgspec.json.encode(values, order="deterministic"))

    def settings(self) -> list[Setting]:
        """Every key with its value and origin, fit to be shown: a password in an address is not."""
        return [Setting(key=key, value=_presented(key, getattr(self, key)), origin=self.origins[key]) for key in KEYS]


class Setting(msgspec.Struct, frozen=True, kw_only=True):
    """One row of `headway config show`."""

    key: str
    value: int | float | str | list[str]
    origin: Origin


def config_path(home: Path) -> Path:
    """Where the file is, or would be."""
    return home / "config.yml"


def load(home: Path, environ: Mapping[str, str], *, flags: Mapping[str, str] | None = None) -> Config:
    """The effective configuration. Raises InvalidFile for a wrong file, UsageError for a wrong variable or flag."""
    values = _defaults(home)
    origins: dict[str, Origin] = dict.fromkeys(KEYS, "default")
    for key, value in _of_file(config_path(home)).items():
        values[key], origins[key] = value, "file"
    environment = {key: environ.get(f"HEADWAY_{key.upper()}", "") for key in KEYS}
    for key, text in environment.items():
        if text:
            values[key], origins[key] = _of_text(key, text, f"HEADWAY_{key.upper()}"), "environment"
    for key, text in (flags or {}).items():
        values[key], origins[key] = _of_text(key, text, f"--{key.replace('_', '-')}"), "flag"
    values["blobs"] = os.path.join(home, os.path.expanduser(values["blobs"]))
    return Config(home=str(home), origins=origins, **values)


def _defaults(home: Path) -> dict[str, Any]:
    return {
        "slots": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        "labels": (),
        "idle_exit_seconds": 300,
        "log_max_bytes": 8 * GIB,
        "output_max_bytes": 2 * GIB,
        "blobs": str(home / "blobs"),
        "nats_url": "",
        "attempt_losses_max": 3,
        "retry_backoff_seconds": 5.0,
    }


def _of_file(path: Path) -> dict[str, Any]:
    """What the file says. No file, like an empty one, says nothing."""
    if not os.path.lexists(path):
        return {}
    body = read_bytes(path, what="configuration file", missing="write it, or remove the link")
    problems = Problems(str(path), body)
    root = load_document(body, problems)
    found: dict[str, Any] = {}
    values = Values(problems)
    if root is not None and (top := values.mapping(root, "", what="the configuration")) is not None:
        found = _read(top, values)
    problems.finish()
    return found


def _read(top: MappingNode, values: Values) -> dict[str, Any]:
    check_keys(top, LEVEL, values.problems, path="")
    read = {key: KEYS[key](values, value, key) for key, (_, value) in top.entries.items() if key in KEYS}
    return {key: value for key, value in read.items() if value is not None}


def _of_text(key: str, text: str, source: str) -> Any:  # noqa: ANN401 - the type is the key's
    """A value from the environment or a flag, by the rules of the file; lists have commas."""
    problems = Problems(source)
    node: Node = Scalar(text, 1, 1)
    if key == "labels":
        node = Sequence([Scalar(each.strip(), 1, 1) for each in text.split(",") if each.strip()], 1, 1)
    value = KEYS[key](Values(problems), node, key)
    if problems.errors:
        first = problems.sorted()[0]
        raise UsageError(f"{source}: {first.message}", next=first.suggestion or f"give {source} another value")
    return value


def _integer(least: int, most: int) -> Reader:
    return lambda values, node, key: values.integer(node, key, what=f"`{key}`", least=least, most=most)


def _seconds(values: Values, node: Node, key: str) -> int | None:
    return values.seconds(node, key, what=f"`{key}`")


_FRACTION: Final = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,3})?)s?")


def _backoff(values: Values, node: Node, key: str) -> float | None:
    """Seconds down to a thousandth; 0 is a value of its own here."""
    found = _FRACTION.fullmatch(node.text) if isinstance(node, Scalar) else None
    if found is None:
        suggestion = "write seconds, such as `5` or `0.5`; 0 for no back-off"
        values.wrong_type(node, key, f"`{key}` must be a number of seconds", suggestion)
        return None
    seconds = float(found[1])
    if seconds <= BACKOFF_MAX_SECONDS:
        return seconds
    values.problems.error("HW118", node, f"`{key}` must be from 0 to {BACKOFF_MAX_SECONDS} seconds", path=key)
    return None


def _labels(values: Values, node: Node, key: str) -> tuple[str, ...]:
    return values.labels(node, key, what=f"`{key}`")


_SIZE: Final = re.compile(r"([0-9]{1,18}) ?(B|KiB|MiB|GiB|TiB|kB|KB|MB|GB|TB)?")
_UNITS: Final = {"": 1, "B": 1, "kB": 1000, "KB": 1000, "MB": 1000**2, "GB": 1000**3, "TB": 1000**4}
_UNITS_BINARY: Final = {"KiB": 1024, "MiB": 1024**2, "GiB": 1024**3, "TiB": 1024**4}


def _size(values: Values, node: Node, key: str) -> int | None:
    """A number of bytes, or `8GiB`."""
    found = _SIZE.fullmatch(node.text) if isinstance(node, Scalar) else None
    if found is None:
        values.wrong_type(node, key, f"`{key}` must be a size", "write a number of bytes, or `512MiB`, `8GiB`")
        return None
    number = int(found[1]) * (_UNITS | _UNITS_BINARY)[found[2] or ""]
    if SIZE_LEAST <= number <= SIZE_MOST:
        return number
    values.problems.error("HW118", node, f"`{key}` must be from 16 MiB to 1 EiB", path=key)
    return None


def _folder(values: Values, node: Node, key: str) -> str | None:
    """A folder; one that is not absolute is below `$HEADWAY_HOME`."""
    text = values.text(node, key, what=f"`{key}`")
    if text == "":
        values.problems.error("HW120", node, f"`{key}` must name a folder", path=key)
    return text or None


def _url(values: Values, node: Node, key: str) -> str | None:
    text = values.text(node, key, what=f"`{key}`")
    if text is None or text == "":
        return text
    try:
        parts = urlsplit(text)
        good = parts.scheme in ("nats", "tls") and bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        good = False
    if good and text.isprintable() and " " not in text:
        return text
    # The text may hold a password, so the message does not repeat it.
    message = f"`{key}` must be the address of a NATS server"
    values.problems.error("HW119", node, message, path=key, suggestion="write it as `nats://host:4222`")
    return None


def _presented(key: str, value: Any) -> int | float | str | list[str]:  # noqa: ANN401 - the type is the key's
    if key == "nats_url" and "@" in value:
        scheme, _, rest = value.partition("://")
        return f"{scheme}://…@{rest.rpartition('@')[2]}"
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return list(value) if isinstance(value, tuple) else value


Reader: TypeAlias = Callable[[Values, Node, str], Any]

KEYS: Final[dict[str, Reader]] = {
    "slots": _integer(1, SLOTS_MAX),
    "labels": _labels,
    "idle_exit_seconds": _seconds,
    "log_max_bytes": _size,
    "output_max_bytes": _size,
    "blobs": _folder,
    "nats_url": _url,
    "attempt_losses_max": _integer(1, 100),
    "retry_backoff_seconds": _backoff,
}
"""Each key, and how its value is read: file, environment and flag alike."""

LEVEL: Final = Level(what="the configuration", keys=frozenset(KEYS))
