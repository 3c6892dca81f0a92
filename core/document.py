"""A YAML file as nodes that know their place, read by the YAML 1.2 core schema.

The parser's events are put together here and not by PyYAML's composer: that one recurses as deep as the file asks,
follows aliases without counting, and resolves by YAML 1.1, where `on` is true, `0755` is octal and `12:30` is a number.

    HW101 not text        HW102 not YAML          HW103 nothing in it      HW104 a second document
    HW105 a key twice     HW106 a tag             HW107 too deep           HW108 too large
    HW109 a bad alias     HW110 a key that is no text
"""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path
from typing import Any, Final, Protocol

import msgspec
import yaml

from headway.core.diagnostics import Place, Problems, Spot, shown
from headway.core.errors import UsageError
from headway.core.nodes import Kind, Mapping, Node, Scalar, Sequence, kind_of
from headway.core.shape import below

FILE_BYTES_MAX: Final = 16 * 1024 * 1024
NODES_MAX: Final = 1_000_000
"""Nodes of a file with every alias counted as often as it is used: 20,000 large jobs fit, a billion laughs do not."""

ALIASED_TEXT_MAX: Final = 16 * 1024 * 1024
"""Characters that aliases may add."""

DEPTH_MAX: Final = 64
PATH_LEVELS: Final = 10

_TAGS: Final[dict[str, Kind]] = {
    "tag:yaml.org,2002:str": "text",
    "tag:yaml.org,2002:int": "integer",
    "tag:yaml.org,2002:float": "number",
    "tag:yaml.org,2002:bool": "boolean",
    "tag:yaml.org,2002:null": "null",
}
_COLLECTION_TAGS: Final = (None, "!", "tag:yaml.org,2002:map", "tag:yaml.org,2002:seq")

_NOT_TEXT: Final = re.compile(
    "[^\t\n\r\x20-\x7e\xa0-\u2027\u202a-\ud7ff\ue000-\ufefe\uff00-\ufffd\U00010000-\U0010ffff]"
)

_SAVE_AS: Final = "save the file as UTF-8, or check that it is the right file"
_TAB: Final = "indent with spaces: YAML does not take a tab there"
_HINTS: Final = (
    ("cannot start any token", "put the value in quotes: it begins with a character that YAML keeps for itself"),
    (
        "mapping values are not allowed",
        "put the value in quotes if it holds `: `, or check how far the line is indented",
    ),
    ("could not find expected ':'", "write `key: value`, or check how far the line is indented"),
    ("did not find expected key", "check how far the line is indented, and that quotes and brackets are closed"),
    ("did not find expected '-'", "check how far the line is indented: items of one list begin in one column"),
    ("did not find expected ','", "close the bracket, or put a comma before this"),
    ("found unexpected end of stream", "close the quotes or the bracket that was opened before"),
    ("found unknown escape", "double the backslash, or use single quotes"),
)


def read_bytes(path: Path, *, what: str, missing: str) -> bytes:
    """The bytes of a file that a person named. `what` says what it should be, `missing` what to do without it."""
    name = shown(str(path), 200)
    try:
        # Without O_NONBLOCK a named pipe that nobody writes to would hold us for ever.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        raise UsageError(f"there is no {what} {name}", next=missing) from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not a possible file name"
        raise UsageError(f"{name} cannot be read: {str(reason).lower()}", next=f"name a readable {what}") from None
    try:
        mode = os.fstat(descriptor).st_mode
        if stat.S_ISDIR(mode):
            raise UsageError(f"{name} is a directory, not a {what}", next=f"name the {what} itself")
        if not stat.S_ISREG(mode):
            raise UsageError(f"{name} is not an ordinary file", next=f"name an ordinary file as the {what}")
        body = _read_up_to(descriptor, FILE_BYTES_MAX + 1)
    except OSError as error:
        words = f"{name} cannot be read: {str(error.strerror).lower()}"
        raise UsageError(words, next=f"name a readable {what}") from None
    finally:
        os.close(descriptor)
    if len(body) > FILE_BYTES_MAX:
        words = f"{name} is larger than 16 MiB, the most a {what} may be"
        raise UsageError(words, next="check that it is the right file")
    return body


def _read_up_to(descriptor: int, limit: int) -> bytes:
    chunks: list[bytes] = []
    while limit > 0 and (chunk := os.read(descriptor, min(limit, 1 << 20))):
        chunks.append(chunk)
        limit -= len(chunk)
    return b"".join(chunks)


def load(body: bytes, problems: Problems) -> Node | None:
    """The one document in `body`. None when there is none, or when it cannot be read at all, which is then said.

    An empty document is None without a problem: whether something must be there, the caller knows.
    """
    if len(body) > FILE_BYTES_MAX:
        problems.error("HW108", Spot(), f"the file has {len(body):,} bytes, the most is 16 MiB")
        return None
    text = _text(body, problems)
    if text is None:
        return None
    composer = _Composer(text, problems)
    try:
        return composer.compose()
    except yaml.MarkedYAMLError as error:
        _syntax(error, problems)
    except (yaml.YAMLError, UnicodeError) as error:
        problems.error("HW102", Spot(), f"this is not YAML: {shown(str(error), 200)}")
    except _Refused as refused:
        words, path = refused.message, composer.path()
        problems.error(refused.code, refused.place, words, path=path, suggestion=refused.suggestion)
    return None


def _text(body: bytes, problems: Problems) -> bytes | None:
    """The file's bytes without a byte order mark, once every one of them is known to be text."""
    body = body.removeprefix(b"\xef\xbb\xbf")
    try:
        text = body.decode()
    except UnicodeDecodeError as error:
        before, words = body[: error.start].decode(), f"byte 0x{body[error.start]:02x} is not UTF-8"
        problems.error("HW101", _spot(before), f"this is not text: {words}", suggestion=_SAVE_AS)
        return None
    bad = _NOT_TEXT.search(text)
    if bad is None:
        return body
    name = f"U+{ord(bad.group()):04X}"
    problems.error(
        "HW101",
        _spot(text[: bad.start()]),
        f"this is not text: it holds the character {name}, which is not taken as it is",
        suggestion="remove it, or write it as an escape in double quotes",
    )
    return None


def _spot(before: str) -> Spot:
    """The position that follows this text."""
    lines = re.split(r"\r\n|\n|\r", before)
    return Spot(len(lines), len(lines[-1]) + 1)


def _syntax(error: yaml.MarkedYAMLError, problems: Problems) -> None:
    problem = error.problem or "it cannot be parsed"
    words = f"{problem}, {error.context}" if error.context else problem
    hint = next((hint for sign, hint in _HINTS if sign in problem), "")
    mark = error.problem_mark or error.context_mark
    end = problems.end()
    place = Spot(mark.line + 1, mark.column + 1) if mark and mark.line < end.line else end
    if problems.source_line(place.line)[place.column - 1 :].startswith("\t"):
        hint = _TAB
    problems.error("HW102", place, f"this is not YAML: {shown(words, 200)}", suggestion=hint)


class _Mark(Protocol):
    """Where an event begins, counted from 0."""

    line: int
    column: int


class _Event(Protocol):
    """What is asked of the parser's events; each kind has only some of it."""

    start_mark: _Mark
    anchor: str
    tag: str | None
    implicit: tuple[bool, bool]
    style: str
    value: str


class _Refused(Exception):
    """The file asks for more than is given; nothing after this place is read."""

    def __init__(self, code: str, place: Place, message: str, suggestion: str = "") -> None:
        super().__init__(message)
        self.code, self.place, self.message, self.suggestion = code, place, message, suggestion


class _Anchored(msgspec.Struct, gc=False):
    """What an anchor names, and what each alias of it costs."""

    node: Node
    nodes: int
    characters: int
    height: int


class _Open(msgspec.Struct):
    """A collection whose end has not been read: what is in it, what it is in, and the counts when it began."""

    event: _Event
    items: list[Node]
    outer: list[Node]
    nodes: int
    characters: int
    height: int = 1


class _Composer:
    """Puts the events of one document together, without recursion, counting as it goes."""

    def __init__(self, body: bytes, problems: Problems) -> None:
        # The parser in C where PyYAML has it, which is every wheel; the one in Python gives the same events.
        loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
        self._next = loader(body).get_event
        self._problems = problems
        self._anchors: dict[str, _Anchored] = {}
        self._open: list[_Open] = []
        self._nodes = 0
        self._characters = 0
        self._aliased = 0

    def compose(self) -> Node | None:
        """The document's root. Scalars are nearly everything in a file, so they are handled here, inline."""
        root: list[Node] = []
        items = root
        while True:
            event: _Event = self._next()
            kind: type[object] = event.__class__
            if kind is yaml.ScalarEvent:
                mark, text = event.start_mark, event.value
                tag = "" if event.implicit[0] and not event.style else self._scalar_kind(event)
                node = Scalar(text, mark.line + 1, mark.column + 1, tag)
                items.append(node)
                self._nodes += 1
                self._characters += len(text)
                if event.anchor is not None:
                    self._anchors[event.anchor] = _Anchored(node, 1, len(text), 0)
            elif kind is yaml.MappingEndEvent or kind is yaml.SequenceEndEvent:
                items = self._close()
            elif kind is yaml.MappingStartEvent or kind is yaml.SequenceStartEvent:
                items = self._begin(event, items)
            elif kind is yaml.AliasEvent:
                items.append(self._alias(event))
            elif kind is yaml.DocumentStartEvent and root:
                raise _Refused("HW104", _place(event), "a second document begins here", "keep one document in the file")
            elif kind is yaml.StreamEndEvent:
                return root[0] if root and not _is_blank(root[0]) else None
            if self._nodes > NODES_MAX:
                raise _Refused("HW108", _place(event), f"the file has more than {NODES_MAX:,} values")

    def _begin(self, event: _Event, outer: list[Node]) -> list[Node]:
        if len(self._open) >= DEPTH_MAX:
            raise self._too_deep(event)
        if event.tag not in _COLLECTION_TAGS:
            self._refuse_tag(event)
        self._anchors.pop(event.anchor, None)
        self._nodes += 1
        self._open.append(_Open(event, [], outer, self._nodes, self._characters))
        return self._open[-1].items

    def _close(self) -> list[Node]:
        opened = self._open.pop()
        event, mark = opened.event, opened.event.start_mark
        node: Node
        if isinstance(event, yaml.MappingStartEvent):
            node = Mapping(self._entries(opened.items), mark.line + 1, mark.column + 1)
        else:
            node = Sequence(opened.items, mark.line + 1, mark.column + 1)
        opened.outer.append(node)
        self._grow(opened.height)
        if event.anchor is not None:
            nodes, characters = self._nodes - opened.nodes + 1, self._characters - opened.characters
            self._anchors[event.anchor] = _Anchored(node, nodes, characters, opened.height)
        return opened.outer

    def _grow(self, height: int) -> None:
        """The innermost open collection holds something of this height."""
        if self._open and self._open[-1].height <= height:
            self._open[-1].height = height + 1

    def _entries(self, items: list[Node]) -> dict[str, tuple[Scalar, Node]]:
        found: dict[str, tuple[Scalar, Node]] = {}
        for index in range(0, len(items), 2):
            key, value = items[index], items[index + 1]
            if not isinstance(key, Scalar):
                message = "a key must be text, not a list or a mapping"
                self._problems.error("HW110", key, message, path=self.path(), suggestion="write `key: value`")
            elif (first := found.get(key.text)) is not None:
                self._problems.error(
                    "HW105",
                    key,
                    f"the key `{shown(key.text)}` is here a second time; the first is in line {first[0].line}",
                    path=below(self.path(), key.text),
                    suggestion="keep one of them",
                )
            else:
                found[key.text] = (key, value)
        return found

    def _alias(self, event: _Event) -> Node:
        named = self._anchors.get(event.anchor)
        name = shown(event.anchor)
        if named is None:
            if any(opened.event.anchor == event.anchor for opened in self._open):
                raise _Refused("HW109", _place(event), f"the alias `*{name}` is inside what it names")
            suggestion = self._problems.did_you_mean(event.anchor, self._anchors)
            raise _Refused("HW109", _place(event), f"there is no anchor `&{name}` before this", suggestion)
        self._nodes += named.nodes
        self._characters += named.characters
        self._aliased += named.characters
        if len(self._open) + named.height > DEPTH_MAX:
            raise self._too_deep(event)
        if self._nodes > NODES_MAX or self._aliased > ALIASED_TEXT_MAX:
            words = f"with its aliases followed, `*{name}` makes the file too large"
            raise _Refused("HW108", _place(event), words, "aliases of aliases multiply; write out what is meant")
        self._grow(named.height)
        return named.node

    def _scalar_kind(self, event: _Event) -> Kind:
        """The kind that the quotes or the tag of a scalar give it."""
        if event.tag is None or event.tag == "!":
            return "text"
        kind = _TAGS.get(event.tag)
        if kind is None:
            self._refuse_tag(event)
        return kind or "text"

    def _refuse_tag(self, event: _Event) -> None:
        tag = str(event.tag).replace("tag:yaml.org,2002:", "!!")
        message = f"the tag `{shown(tag)}` is not taken: a file is data"
        self._problems.error("HW106", _place(event), message, path=self.path(), suggestion="remove the tag")

    def path(self) -> str:
        """Where in the data the reading is."""
        path = ""
        for opened in self._open[:PATH_LEVELS]:
            items = opened.items
            if not isinstance(opened.event, yaml.MappingStartEvent):
                path += f"[{len(items)}]"
            elif len(items) % 2 and isinstance(key := items[-1], Scalar):
                path = below(path, key.text)
        return path + "…" if len(self._open) > PATH_LEVELS else path

    def _too_deep(self, event: _Event) -> _Refused:
        return _Refused("HW107", _place(event), f"this is nested deeper than {DEPTH_MAX} levels")


def _place(event: _Event) -> Spot:
    return Spot(event.start_mark.line + 1, event.start_mark.column + 1)


def _is_blank(node: Node) -> bool:
    return isinstance(node, Scalar) and kind_of(node) == "null"
