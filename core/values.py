"""Single values of a pipeline or configuration file, read into what they mean, or refused with what to write.

Each reader returns None when it has said what is wrong, so that its caller goes on with the rest of the file.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Collection
from typing import Final

from headway.core.diagnostics import Problems, shown
from headway.core.nodes import Mapping, Node, Scalar, Sequence, boolean_of, integer_of, kind_of
from headway.core.shape import NAME, below

VARIABLE: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
VARIABLE_BYTES_MAX: Final = 128 * 1024
"""Linux takes no longer `NAME=value`, its closing NUL counted."""

SECONDS_MAX: Final = 365 * 24 * 3600
LABEL: Final = re.compile(r"[^\s,]{1,100}")

COLON_HINT: Final = "a colon followed by a blank makes it one: put the whole command in single quotes"

_DURATION: Final = re.compile(r"(?=.)(?:([0-9]{1,9})h)?(?:([0-9]{1,9})m)?(?:([0-9]{1,9})s)?")
_RESOLVED_IN_SCRIPT: Final = re.compile(r"\$\{\{|\$\{(?:secrets|matrix|params|jobs)\.")


def described(node: Node) -> str:
    """What a node is, for a message."""
    if isinstance(node, Mapping):
        return "a mapping"
    if isinstance(node, Sequence):
        return "a list"
    kind = kind_of(node)
    if kind == "null":
        return "nothing"
    if kind == "text":
        return f"the text `{shown(node.text)}`"
    return f"the {'number' if kind == 'integer' else kind} `{shown(node.text)}`"


class Values:
    """Reads values of one file."""

    def __init__(self, problems: Problems) -> None:
        self.problems = problems

    def mapping(self, node: Node, path: str, *, what: str, suggestion: str = "") -> Mapping | None:
        """The node if it is a mapping."""
        if isinstance(node, Mapping):
            return node
        self.wrong_type(node, path, f"{what} must be a mapping", suggestion)
        return None

    def wrong_type(self, node: Node, path: str, must: str, suggestion: str = "") -> None:
        """Says that a value is not of the kind that it must be."""
        self.problems.error("HW114", node, f"{must}, not {described(node)}", path=path, suggestion=suggestion)

    def text(self, node: Node, path: str, *, what: str) -> str | None:
        """The source text of a single value: `3.10` is "3.10". Nothing is not a text."""
        if not isinstance(node, Scalar) or kind_of(node) == "null":
            self.wrong_type(node, path, f"{what} must be text")
            return None
        return node.text if self._fits(node, path, what) else None

    def _fits(self, node: Scalar, path: str, what: str) -> bool:
        if "\0" not in node.text:
            return True
        self.problems.error("HW122", node, f"{what} holds a NUL character, which no process can be given", path=path)
        return False

    def name(self, node: Scalar, path: str, *, what: str) -> str | None:
        """A name of ours, as it appears in commands, paths and events."""
        if NAME.fullmatch(node.text):
            return node.text
        better = re.sub(r"[^A-Za-z0-9_]+", "-", node.text).strip("-")[:100]
        self.problems.error(
            "HW116",
            node,
            f"`{shown(node.text)}` cannot be the name of {what}: a name has letters, digits, `_` and `-`, does not "
            "begin with `-`, and is at most 100 long",
            path=path,
            suggestion=f"write `{better}`" if better else "",
        )
        return None

    def seconds(self, node: Node, path: str, *, what: str) -> int | None:
        """A duration: whole seconds, or `90s`, `10m`, `1h30m`."""
        seconds = _seconds(node) if isinstance(node, Scalar) else None
        if seconds is None:
            message = f"{what} must be a duration, not {described(node)}"
            suggestion = "write whole seconds, or `90s`, `10m`, `1h30m`"
            self.problems.error("HW117", node, message, path=path, suggestion=suggestion)
        elif not 1 <= seconds <= SECONDS_MAX:
            message = f"{what} must be from 1 second to {SECONDS_MAX // 3600} hours"
            self.problems.error("HW118", node, message, path=path, suggestion="leave it out for the default")
            return None
        return seconds

    def integer(self, node: Node, path: str, *, what: str, least: int, most: int) -> int | None:
        """A whole number within bounds."""
        number = integer_of(node) if isinstance(node, Scalar) else None
        if number is None:
            self.wrong_type(node, path, f"{what} must be a whole number")
        elif not least <= number <= most:
            message = f"{what} must be from {least:,} to {most:,}"
            self.problems.error("HW118", node, message, path=path)
            return None
        return number

    def boolean(self, node: Node, path: str, *, what: str) -> bool | None:
        """`true` or `false`; `yes`, `on` and their like are text."""
        found = boolean_of(node) if isinstance(node, Scalar) else None
        if found is None:
            meant = {"yes": "true", "on": "true", "y": "true", "no": "false", "off": "false", "n": "false"}
            word = meant.get(node.text.lower(), "") if isinstance(node, Scalar) else ""
            self.wrong_type(node, path, f"{what} must be `true` or `false`", f"write `{word}`" if word else "")
        return found

    def choice(self, node: Node, path: str, *, what: str, choices: Collection[str]) -> str | None:
        """One of a few words."""
        text = self.text(node, path, what=what)
        if text is None or text in choices:
            return text
        listed = ", ".join(f"`{choice}`" for choice in choices)
        message = f"{what} must be one of {listed}, not `{shown(text)}`"
        self.problems.error("HW119", node, message, path=path, suggestion=self.problems.did_you_mean(text, choices))
        return None

    def labels(self, node: Node, path: str, *, what: str) -> tuple[str, ...]:
        """A label, or a list of them; those that are wrong are said and left out."""
        found: list[str] = []
        single = not isinstance(node, Sequence)
        for index, item in enumerate(node.items if isinstance(node, Sequence) else [node]):
            where = path if single else f"{path}[{index}]"
            label = self.text(item, where, what="a label" if not single else what)
            if label is None or self.refuses_reference(item, where, label):
                continue
            if not LABEL.fullmatch(label) or not label.isprintable():
                message = f"`{shown(label)}` cannot be a label: a label has no blanks and no commas"
                self.problems.error("HW116", item, message, path=where, suggestion="write a list: `[linux, arm64]`")
            elif label not in found:
                found.append(label)
        return tuple(found)

    def variables(self, node: Node, path: str, *, what: str) -> dict[str, str]:
        """Names and values. A value keeps its source text, whatever it is by the core schema."""
        hint = "write one `NAME: value` a line"
        if isinstance(node, Scalar) and kind_of(node) == "text":
            hint = f"`{what.strip('`')}` holds variables: write `NAME: value` below it"
        mapping = self.mapping(node, path, what=what, suggestion=hint)
        found: dict[str, str] = {}
        for name, (key, value) in mapping.entries.items() if mapping else ():
            where = below(path, name)
            if self._variable_name(key, where) and (text := self._variable(name, value, where)) is not None:
                found[name] = text
        return found

    def _variable_name(self, key: Scalar, path: str) -> bool:
        name = key.text
        if name == "<<":
            self.problems.error("HW190", key, "a merge key is not supported in this version", path=path)
        elif not VARIABLE.fullmatch(name):
            message = f"`{shown(name)}` cannot be the name of a variable: it has letters, digits and `_`"
            better = re.sub(r"[^A-Za-z0-9_]+", "_", name)
            suggestion = f"write `{shown(better)}`" if VARIABLE.fullmatch(better) else ""
            self.problems.error("HW121", key, message, path=path, suggestion=suggestion)
        else:
            if name == "HEADWAY" or name.startswith("HEADWAY_"):
                message = f"`{shown(name)}` hides what Headway itself gives to a job by this name"
                self.problems.warning("HW151", key, message, path=path, suggestion="use a name of your own")
            return True
        return False

    def _variable(self, name: str, node: Node, path: str) -> str | None:
        if not isinstance(node, Scalar):
            self.wrong_type(node, path, f"the variable `{shown(name)}` must be a single value")
            return None
        if not self._fits(node, path, f"the variable `{shown(name)}`") or self.refuses_reference(node, path, node.text):
            return None
        if len(node.text) > 30_000 and len(name) + len(node.text.encode()) + 2 > VARIABLE_BYTES_MAX:
            message = f"the variable `{shown(name)}` is longer than 128 KiB, the most a process can be given"
            self.problems.error("HW122", node, message, path=path, suggestion="keep it in a file of the project")
            return None
        return node.text

    def refuses_reference(self, node: Node, path: str, text: str) -> bool:
        """Says so when the text refers to a value: later it would be replaced, so it is not taken as it stands."""
        if "${" not in text:
            return False
        message = "`${...}` outside a script is not supported in this version"
        self.problems.error(
            "HW190", node, message, path=path, suggestion="write the value itself, or use it in `script`"
        )
        return True

    def script(self, node: Node, path: str) -> str | None:
        """The commands of a step: a text, or a list of texts that become its lines."""
        if not isinstance(node, Sequence):
            text = self._commands(node, path)
        else:
            lines = [self._commands(item, f"{path}[{index}]") for index, item in enumerate(node.items)]
            text = None if None in lines else "\n".join(line for line in lines if line is not None)
        if text is not None and not text.strip():
            self.problems.error("HW115", node, "`script` has no commands", path=path, suggestion="write a command")
            return None
        return text

    def _commands(self, node: Node, path: str) -> str | None:
        # `true` is a command; a number or nothing is a slip.
        if not isinstance(node, Scalar) or kind_of(node) not in ("text", "boolean"):
            self.wrong_type(node, path, "commands must be text", _colon_hint(node))
            return None
        if not self._fits(node, path, "`script`"):
            return None
        if "${" in node.text and (found := _RESOLVED_IN_SCRIPT.search(node.text)):
            message = f"`{found.group()}` in a script is not supported in this version"
            self.problems.error(
                "HW190", node, message, path=path, suggestion="use a variable of `environment`: `$NAME`"
            )
            return None
        return node.text

    def folder(self, node: Node, path: str) -> str | None:
        """A folder inside the workspace, "" for the workspace itself."""
        text = self.text(node, path, what="`working_directory`")
        if text is None or self.refuses_reference(node, path, text):
            return None
        parts = text.split("/")
        if (
            not text
            or text.startswith(("/", "~"))
            or ".." in parts
            or len(text.encode()) > 1000
            or not text.isprintable()
        ):
            message = f"`working_directory` must be a folder inside the workspace, not `{shown(text)}`"
            suggestion = "write it relative to the top of the project, without `..`"
            self.problems.error("HW120", node, message, path=path, suggestion=suggestion)
            return None
        found = posixpath.normpath(text)
        return "" if found == "." else found


def _colon_hint(node: Node) -> str:
    """`- echo a: b` is a mapping to YAML, which surprises everybody once."""
    if isinstance(node, Mapping) and len(node.entries) == 1:
        return COLON_HINT
    return "put it in quotes" if isinstance(node, Scalar) and kind_of(node) != "null" else ""


def _seconds(scalar: Scalar) -> int | None:
    """The duration in seconds, or None for anything else."""
    if (whole := integer_of(scalar)) is not None:
        return whole
    found = _DURATION.fullmatch(scalar.text)
    if found is None:
        return None
    hours, minutes, seconds = (int(part or 0) for part in found.groups())
    return hours * 3600 + minutes * 60 + seconds
