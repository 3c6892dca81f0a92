"""The values of a YAML file with their places, and what a scalar is by the YAML 1.2 core schema.

A scalar keeps its source text; what it is, is asked when it matters. So `3.10` is the text "3.10" where text is
wanted, `on` and `yes` are text, `0755` is seven hundred and fifty-five, `12:30` is text, and only `true` and `false`
(`True`, `TRUE`, ...) are booleans.
"""

from __future__ import annotations

import re
from typing import Final, Literal, TypeAlias

import msgspec

Kind: TypeAlias = Literal["null", "boolean", "integer", "number", "text"]


class Scalar(msgspec.Struct, gc=False):
    """A single value as written. `tag` is "" for a plain scalar, whose kind its text decides, else its kind."""

    text: str
    line: int
    column: int
    tag: Literal["", "null", "boolean", "integer", "number", "text"] = ""


class Sequence(msgspec.Struct, gc=False):
    """A list."""

    items: list[Node]
    line: int
    column: int


class Mapping(msgspec.Struct, gc=False):
    """A mapping: the text of each key, with the key's own node and its value, in the order of the file."""

    entries: dict[str, tuple[Scalar, Node]]
    line: int
    column: int


Node: TypeAlias = Scalar | Sequence | Mapping

_BOOLEANS: Final = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
_NULLS: Final = frozenset(("", "~", "null", "Null", "NULL"))
_INTEGER: Final = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
_NUMBER: Final = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
_HUGE: Final = 10**18


def kind_of(scalar: Scalar) -> Kind:
    """What the scalar is by the core schema; quoted text is always text."""
    if scalar.tag:
        return scalar.tag
    text = scalar.text
    if text in _NULLS:
        return "null"
    if text in _BOOLEANS:
        return "boolean"
    if text[0] in "+-.0123456789":
        if _INTEGER.fullmatch(text):
            return "integer"
        if _NUMBER.fullmatch(text):
            return "number"
    return "text"


def boolean_of(scalar: Scalar) -> bool | None:
    """The boolean that the scalar is, or None."""
    return _BOOLEANS.get(scalar.text) if scalar.tag in ("", "boolean") else None


def integer_of(scalar: Scalar) -> int | None:
    """The integer that the scalar is, or None. One of more than 20 characters is as good as 10^18."""
    text = scalar.text
    if scalar.tag not in ("", "integer") or not _INTEGER.fullmatch(text):
        return None
    # Python takes long over many digits, and refuses thousands of them.
    if len(text) > 20:
        return -_HUGE if text.startswith("-") else _HUGE
    return int(text, {"0x": 16, "0o": 8}.get(text[:2], 10))
