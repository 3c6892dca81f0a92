"""The shape of a pipeline file as data: the keys of each level, those that come later, and the words of others.

A key that this version does not act on is refused (HW190), never read and ignored. A word that another system uses
is answered with ours (HW112), any other with the nearest name that exists (HW111).
"""

from __future__ import annotations

import re
from typing import Final

import msgspec

from headway.core.diagnostics import Problems, shown
from headway.core.nodes import Mapping, Node, Scalar, integer_of

NAME: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]{0,99}")
"""What a pipeline and a job may be called."""


class Foreign(msgspec.Struct, frozen=True):
    """What stands here for a word of another system: one of our keys, or words where no key does."""

    ours: str = ""
    advice: str = ""


class Level(msgspec.Struct, frozen=True, kw_only=True):
    """A kind of mapping in the file. `later` are the keys of the full format that this version does not act on."""

    what: str
    keys: frozenset[str]
    later: frozenset[str] = frozenset()
    foreign: dict[str, Foreign] = {}


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_LATER_CONDITION = Foreign(advice="a condition is `if` here, which is not supported in this version")
_NO_ACTIONS = Foreign(advice="there are no actions here: write the commands in the step's `script`")
_NO_STAGES = Foreign(advice="there are no stages here: a job names the jobs it waits for in `depends_on`")
_FIRST_STEP = Foreign(advice="make it the first step of the job, or the first commands of its `script`")
_LAST_STEP = Foreign(advice="make it the last step of the job")
_IN_STEPS = Foreign(advice="a job has steps: write `steps:` with one item, the commands")
_OF_A_JOB = Foreign(advice="it belongs to a job: write it below `jobs:` and the job's name")
_DEPENDS_ON, _RUNS_ON, _ENVIRONMENT = Foreign("depends_on"), Foreign("runs_on"), Foreign("environment")
_GLOBAL_ENV, _SCRIPT = Foreign("global_env"), Foreign("script")
_TIMEOUT, _RETRIES = Foreign("timeout"), Foreign("retry_count")
_IN_THE_STEP = Foreign(advice="a step may fail without its job: write `continue_on_failure: true` in the step")

PIPELINE: Final = Level(
    what="a pipeline",
    keys=_words("name global_env jobs"),
    later=_words("description on params timeout retry_policy concurrency defaults artifacts include <<"),
    foreign={
        "env": _GLOBAL_ENV,
        "environment": _GLOBAL_ENV,
        "variables": _GLOBAL_ENV,
        "stages": _NO_STAGES,
        "before_script": _FIRST_STEP,
        "after_script": _LAST_STEP,
        "triggers": Foreign(advice="triggers are `on` here, which is not supported in this version"),
        "timeout-minutes": Foreign(advice="a job has a `timeout`"),
        **dict.fromkeys(
            ("steps", "script", "run", "depends_on", "needs", "runs_on", "runs-on", "tags", "executor"), _OF_A_JOB
        ),
    },
)

JOB: Final = Level(
    what="a job",
    keys=_words("steps depends_on environment timeout runs_on executor retry_count"),
    later=_words(
        "image working_directory retry continue_on_failure side_effects if matrix outputs artifacts inputs cache "
        "services secrets gates deploy resources network extends concurrency <<"
    ),
    foreign={
        **dict.fromkeys(("needs", "requires", "dependencies"), _DEPENDS_ON),
        **dict.fromkeys(("runs-on", "tags", "agents"), _RUNS_ON),
        **dict.fromkeys(("env", "variables"), _ENVIRONMENT),
        **dict.fromkeys(("script", "run", "command", "commands"), _IN_STEPS),
        **dict.fromkeys(("stage", "stages"), _NO_STAGES),
        **dict.fromkeys(("when", "rules", "only", "except", "conditional"), _LATER_CONDITION),
        **dict.fromkeys(("allow_failure", "continue-on-error"), _IN_THE_STEP),
        **dict.fromkeys(("timeout-minutes", "timeout_minutes"), _TIMEOUT),
        "retries": _RETRIES,
        "uses": _NO_ACTIONS,
        "before_script": _FIRST_STEP,
        "after_script": _LAST_STEP,
        "strategy": Foreign(advice="a matrix is `matrix` here, which is not supported in this version"),
        "container": Foreign(advice="an image is `image` here, which is not supported in this version"),
        "triggers": Foreign(advice="triggers are `on` at the top here, which is not supported in this version"),
        "name": Foreign(advice="a job's name is its key below `jobs`"),
    },
)

STEP: Final = Level(
    what="a step",
    keys=_words("name script shell environment working_directory timeout retry_count continue_on_failure"),
    later=_words("image if outputs retry <<"),
    foreign={
        **dict.fromkeys(("run", "command", "commands", "cmd"), _SCRIPT),
        **dict.fromkeys(("env", "variables"), _ENVIRONMENT),
        **dict.fromkeys(("working-directory", "cwd", "dir"), Foreign("working_directory")),
        **dict.fromkeys(("allow_failure", "continue-on-error"), Foreign("continue_on_failure")),
        **dict.fromkeys(("timeout-minutes", "timeout_minutes"), _TIMEOUT),
        **dict.fromkeys(("when", "rules", "only", "except", "conditional"), _LATER_CONDITION),
        **dict.fromkeys(("needs", "depends_on"), Foreign(advice="steps run in order; a job has `depends_on`")),
        **dict.fromkeys(("runs-on", "runs_on", "tags"), Foreign(advice="a job has `runs_on`; its steps run together")),
        "retries": _RETRIES,
        "id": Foreign("name"),
        "uses": _NO_ACTIONS,
        "with": _NO_ACTIONS,
        "before_script": _FIRST_STEP,
        "stage": _NO_STAGES,
        "triggers": Foreign(advice="triggers are `on` at the top here, which is not supported in this version"),
    },
)


def check_keys(mapping: Mapping, level: Level, problems: Problems, *, path: str) -> None:
    """Refuses every key that this level does not act on, each with what to write instead."""
    for text, (key, value) in mapping.entries.items():
        if text not in level.keys:
            _refuse(key, value, level=level, problems=problems, path=below(path, text))


def below(path: str, key: str) -> str:
    """The path of a key in the mapping at `path`."""
    if not NAME.fullmatch(key):
        return f'{path}["{shown(key)}"]'
    return f"{path}.{key}" if path else key


def _refuse(key: Scalar, value: Node, *, level: Level, problems: Problems, path: str) -> None:
    name = shown(key.text)
    foreign = level.foreign.get(key.text)
    if key.text in level.later:
        message = f"`{name}` of {level.what} is not supported in this version"
        problems.error("HW190", key, message, path=path, suggestion="remove it; a key is never read and ignored")
    elif foreign is None:
        message, suggestion = f"{level.what} has no key `{name}`", problems.did_you_mean(key.text, level.keys)
        problems.error("HW111", key, message, path=path, suggestion=suggestion or f"its keys are {_listed(level)}")
    elif foreign.ours:
        suggestion = f"write `{_rewritten(key, value, foreign.ours, problems)}`"
        message = f"`{name}` is a word of other systems; here it is `{foreign.ours}`"
        problems.error("HW112", key, message, path=path, suggestion=suggestion)
    else:
        message = f"`{name}` is a word of other systems; {level.what} has no such key here"
        problems.error("HW112", key, message, path=path, suggestion=foreign.advice)


def _listed(level: Level) -> str:
    return ", ".join(f"`{key}`" for key in sorted(level.keys))


def _rewritten(key: Scalar, value: Node, ours: str, problems: Problems) -> str:
    """The line with our word in it, where the value is on the line too and nothing else is."""
    if "minutes" in key.text and isinstance(value, Scalar) and (minutes := integer_of(value)) is not None:
        return f"{ours}: {minutes}m"
    line = problems.source_line(key.line)
    before, rest = line[: key.column - 1], line[key.column - 1 :]
    if value.line == key.line and not before.strip(" -") and rest.startswith(key.text):
        return shown((ours + rest[len(key.text) :]).rstrip(), 80)
    return f"{ours}:"
