"""A pipeline file becomes a plan, or a list of everything that is wrong with it.

    read_pipeline(path) -> bytes          the file itself: there, ordinary, not too large
    compile_pipeline(body, file=...)      text, YAML, shape, values, graph; then the plan and its warnings
    select_only(plan, job)                the part of a plan that one job needs

`headway.core.shape` holds the keys, `headway.core.values` what their values mean; this file knows where each belongs.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path, PurePath
from typing import Any, Final

import msgspec

from headway.core.dependencies import check_dependencies, needed_by
from headway.core.diagnostics import Diagnostic, Place, Problems, Spot, nearest, shown
from headway.core.document import load, read_bytes
from headway.core.errors import NotFoundError
from headway.core.nodes import Mapping, Node, Scalar, Sequence, kind_of
from headway.core.plan import Job, Plan, Step
from headway.core.shape import JOB, NAME, PIPELINE, STEP, below, check_keys
from headway.core.values import COLON_HINT, Values

RETRIES_MAX: Final = 100
STEP_NAME_MAX: Final = 100
SHELLS: Final = ("bash", "sh", "python")
EXECUTORS: Final = ("host",)
EXECUTORS_LATER: Final = ("sandbox", "docker")

INSTEAD_OF_STEPS: Final = ("script", "run", "command", "commands", "uses")
INSTEAD_OF_SCRIPT: Final = ("run", "command", "commands", "cmd", "uses")

ADMITTED_BYTES_MAX: Final = 48 * 1024
"""What a job waits for and asks of a runner must fit the event that admits it."""

VARIABLES_MAX: Final = 32 * 1024 * 1024
"""Characters of all variables. The pipeline's are repeated in every job: a small file could fill the memory so."""


def read_pipeline(path: Path) -> bytes:
    """The bytes of a pipeline file. Raises UsageError when there is no such file or it cannot be one."""
    return read_bytes(
        path, what="pipeline file", missing="write one with `headway init`, or name it: `headway run FILE`"
    )


def compile_pipeline(body: bytes, *, file: str) -> tuple[Plan, list[Diagnostic]]:
    """The plan, and what is allowed but probably not meant. Raises InvalidFile with all that is wrong."""
    problems = Problems(file, body)
    root = load(body, problems)
    if root is None:
        if not problems.errors:
            suggestion = "write `jobs:` with a job, or start from `headway init`"
            problems.error("HW103", Spot(), "the file holds no pipeline", suggestion=suggestion)
        problems.finish()
    plan = _Reader(problems).pipeline(root, file) if root is not None else None
    warnings = problems.finish()
    assert plan is not None
    return plan, warnings


def select_only(plan: Plan, job: str) -> Plan:
    """The plan with that job and what it waits for. Raises NotFoundError when there is no such job."""
    graph = {each.name: each.depends_on for each in plan.jobs}
    if job not in graph:
        close = nearest(job, graph)
        names = ", ".join(list(graph)[:20]) + (", …" if len(graph) > 20 else "")
        remedy = f"did you mean `{close}`?" if close else f"its jobs are {names}"
        raise NotFoundError(f"pipeline `{plan.name}` has no job `{shown(job)}`", next=remedy)
    needed = needed_by(job, graph)
    return Plan(name=plan.name, jobs=tuple(each for each in plan.jobs if each.name in needed))


class _Draft(msgspec.Struct):
    """A job as read so far, with the places that later checks point at."""

    name: str
    place: Place
    path: str
    steps: list[Step] = []
    depends_on: list[tuple[Scalar, str]] = []
    runs_on: tuple[str, ...] = ()
    executor: str = "host"
    variables: dict[str, str] = {}
    timeout_seconds: int = 0
    retry_count: int = 0


class _Reader:
    """Reads one file from the top, adding to the problems as it goes on."""

    def __init__(self, problems: Problems) -> None:
        self._problems = problems
        self._values = Values(problems)
        self._characters = 0

    def pipeline(self, root: Node, file: str) -> Plan | None:
        """The plan; it means nothing when there were errors."""
        top = self._values.mapping(root, "", what="a pipeline", suggestion="begin with `jobs:`")
        if top is None:
            return None
        check_keys(top, PIPELINE, self._problems, path="")
        name = self._name(top, file)
        variables = self._variables(top, "global_env", "")
        shared = self._characters
        drafts = self._jobs(top)
        check_dependencies({draft.name: draft.depends_on for draft in drafts}, self._problems)
        if self._characters + shared * len(drafts) > VARIABLES_MAX:
            message = "the pipeline is too large: `global_env` is repeated in each job, which makes more than 32 MiB"
            suggestion = "keep large values in a file of the project"
            self._problems.error("HW123", top, message, path="global_env", suggestion=suggestion)
        return None if self._problems.errors else Plan(name=name, jobs=tuple(_job(each, variables) for each in drafts))

    def _name(self, top: Mapping, file: str) -> str:
        if (entry := top.entries.get("name")) is not None:
            text = self._values.text(entry[1], "name", what="`name`")
            if text is not None and isinstance(entry[1], Scalar):
                self._values.name(entry[1], "name", what="a pipeline")
                return text
        stem = re.sub(r"[^A-Za-z0-9_]+", "-", PurePath(file).stem).strip("-")[:100]
        return stem if NAME.fullmatch(stem) else "pipeline"

    def _variables(self, mapping: Mapping, key: str, path: str) -> dict[str, str]:
        entry = mapping.entries.get(key)
        if entry is None:
            return {}
        found = self._values.variables(entry[1], below(path, key), what=f"`{key}`")
        self._characters += sum(len(name) + len(value) + 16 for name, value in found.items())
        return found

    def _jobs(self, top: Mapping) -> list[_Draft]:
        entry = top.entries.get("jobs")
        if entry is None:
            suggestion = "write `jobs:` and below it a name with `steps:`"
            self._problems.error("HW113", top, "a pipeline needs `jobs`", path="jobs", suggestion=suggestion)
            return []
        node = entry[1]
        if (isinstance(node, Scalar) and kind_of(node) == "null") or (isinstance(node, Mapping) and not node.entries):
            suggestion = "write a name below it, and below that `steps:`"
            self._problems.error("HW115", entry[0], "`jobs` has no job", path="jobs", suggestion=suggestion)
            return []
        hint = "write the name of each job as a key, without `-`" if isinstance(node, Sequence) else ""
        mapping = self._values.mapping(node, "jobs", what="`jobs`", suggestion=hint)
        return [self._job(key, value) for key, value in mapping.entries.values()] if mapping else []

    def _job(self, key: Scalar, node: Node) -> _Draft:
        path = below("jobs", key.text)
        draft = _Draft(key.text, key, path)
        if key.text == "<<":
            self._problems.error("HW190", key, "a merge key is not supported in this version", path=path)
            return draft
        self._values.name(key, path, what="a job")
        hint = "write `steps:` above the list" if isinstance(node, Sequence) else "write `steps:` below it"
        mapping = self._values.mapping(node, path, what=f"the job `{shown(key.text)}`", suggestion=hint)
        if mapping is None:
            return draft
        check_keys(mapping, JOB, self._problems, path=path)
        draft.variables = self._variables(mapping, "environment", path)
        for name, (_, value) in mapping.entries.items():
            if name in JOB.keys:
                self._set(draft, name, value, f"{path}.{name}")
        self._read_steps(draft, mapping)
        return draft

    def _set(self, draft: _Draft, name: str, node: Node, path: str) -> None:
        """One key of a job, except its steps and variables."""
        values = self._values
        match name:
            case "timeout":
                draft.timeout_seconds = values.seconds(node, path, what="`timeout`") or 0
            case "retry_count":
                found = values.integer(node, path, what="`retry_count`", least=0, most=RETRIES_MAX)
                draft.retry_count = found or 0
            case "runs_on":
                draft.runs_on = values.labels(node, path, what="`runs_on`")
                self._check_size(draft.runs_on, node, path, "asks for too many labels")
            case "depends_on":
                draft.depends_on = self._depends_on(node, path)
                self._check_size((each.text for each, _ in draft.depends_on), node, path, "waits for too many jobs")
            case "executor":
                if isinstance(node, Scalar) and node.text in EXECUTORS_LATER:
                    message = f"the executor `{node.text}` is not supported in this version"
                    self._problems.error("HW190", node, message, path=path, suggestion="write `host`, or leave it out")
                else:
                    values.choice(node, path, what="`executor`", choices=EXECUTORS)

    def _check_size(self, names: Iterable[str], node: Node, path: str, words: str) -> None:
        size = sum(len(name.encode()) + 3 for name in names)
        if size > ADMITTED_BYTES_MAX:
            message = f"the job {words}: their names fill {size:,} bytes, and {ADMITTED_BYTES_MAX:,} fit into an event"
            self._problems.error("HW123", node, message, path=path, suggestion="put a job between that stands for some")

    def _depends_on(self, node: Node, path: str) -> list[tuple[Scalar, str]]:
        """The scalars that name other jobs, with their paths. One name needs no list."""
        listed = isinstance(node, Sequence)
        found: list[tuple[Scalar, str]] = []
        for index, item in enumerate(node.items if isinstance(node, Sequence) else [node]):
            where = f"{path}[{index}]" if listed else path
            if isinstance(item, Mapping) and "job" in item.entries:
                message = "`depends_on` with `when` is not supported in this version"
                self._problems.error("HW190", item, message, path=where, suggestion="write the name of the job alone")
                continue
            text = self._values.text(item, where, what="`depends_on`")
            if text is not None and isinstance(item, Scalar) and not self._values.refuses_reference(item, where, text):
                found.append((item, where))
        return found

    def _read_steps(self, draft: _Draft, mapping: Mapping) -> None:
        path = f"{draft.path}.steps"
        if (entry := mapping.entries.get("steps")) is None:
            # A job that says `script` or `uses` has been told of `steps` already.
            if not any(word in mapping.entries for word in INSTEAD_OF_STEPS):
                suggestion = "write `steps:` with a list of commands"
                message = f"the job `{shown(draft.name)}` needs `steps`"
                self._problems.error("HW113", draft.place, message, path=path, suggestion=suggestion)
            return
        key, node = entry
        if isinstance(node, Sequence) and node.items:
            draft.steps = [self._step(item, f"{path}[{index}]") for index, item in enumerate(node.items)]
            self._check_timeouts(draft, node)
        elif isinstance(node, Sequence) or (isinstance(node, Scalar) and kind_of(node) == "null"):
            message = f"the job `{shown(draft.name)}` has no steps"
            self._problems.error("HW115", key, message, path=path, suggestion="write a command: `- make test`")
        else:
            self._values.wrong_type(node, path, "`steps` must be a list", "begin each step with `- `")

    def _check_timeouts(self, draft: _Draft, steps: Sequence) -> None:
        for index, (step, node) in enumerate(zip(draft.steps, steps.items, strict=True)):
            if 0 < draft.timeout_seconds < step.timeout_seconds and isinstance(node, Mapping):
                value = node.entries["timeout"][1]
                message = f"the step may take {step.timeout_seconds} s, but its job only {draft.timeout_seconds} s"
                path = f"{draft.path}.steps[{index}].timeout"
                self._problems.warning("HW150", value, message, path=path, suggestion="raise the job's `timeout`")

    def _step(self, node: Node, path: str) -> Step:
        values = self._values
        if not isinstance(node, Mapping):
            script = values.script(node, path) if isinstance(node, Scalar) else None
            if isinstance(node, Sequence):
                values.wrong_type(node, path, "a step must be a command or a mapping", "write `script:` above the list")
            return Step(name=_first_command(script or ""), script=script or "")
        only = next(iter(node.entries)) if len(node.entries) == 1 else ""
        if " " in only and only not in STEP.keys:
            message = f"the step is a command, but YAML reads it as a mapping with the key `{shown(only)}`"
            self._problems.error("HW114", node, message, path=path, suggestion=COLON_HINT)
            return Step(name="", script="")
        check_keys(node, STEP, self._problems, path=path)
        given: dict[str, Any] = {}
        for key, (_, value) in node.entries.items():
            if key in STEP.keys:
                self._set_of_step(given, key, value, f"{path}.{key}")
        if "script" not in node.entries and not any(word in node.entries for word in INSTEAD_OF_SCRIPT):
            self._problems.error(
                "HW113",
                node,
                "a step needs `script`",
                path=f"{path}.script",
                suggestion="write `script:` with its commands",
            )
        script = given.setdefault("script", "")
        return Step(
            **{"name": _first_command(script), **given, "variables": self._variables(node, "environment", path)}
        )

    def _set_of_step(self, given: dict[str, Any], key: str, node: Node, path: str) -> None:
        """One key of a step, except its variables."""
        values = self._values
        found: object = None
        match key:
            case "name":
                found = self._step_name(node, path)
            case "script":
                found = values.script(node, path)
            case "shell":
                found = values.choice(node, path, what="`shell`", choices=SHELLS)
            case "working_directory":
                found = values.folder(node, path)
            case "timeout":
                key, found = "timeout_seconds", values.seconds(node, path, what="`timeout`")
            case "retry_count":
                found = values.integer(node, path, what="`retry_count`", least=0, most=RETRIES_MAX)
            case "continue_on_failure":
                found = values.boolean(node, path, what="`continue_on_failure`")
        if found is not None:
            given[key] = found

    def _step_name(self, node: Node, path: str) -> str | None:
        text = self._values.text(node, path, what="`name`")
        if text is None or self._values.refuses_reference(node, path, text):
            return None
        if text.strip() and len(text) <= STEP_NAME_MAX and text.isprintable():
            return text
        message = f"`{shown(text)}` cannot be the name of a step: it is one line of at most {STEP_NAME_MAX} characters"
        self._problems.error("HW116", node, message, path=path, suggestion="write what the step does in a few words")
        return None


def _first_command(script: str) -> str:
    """The first line of the script that does something, as the step's name."""
    lines = [line for line in script.split("\n", 50)[:50] if line.strip()]
    first = next((line for line in lines if not line.lstrip().startswith("#")), lines[0] if lines else "")
    return shown(first.strip(), STEP_NAME_MAX)


def _job(draft: _Draft, variables: dict[str, str]) -> Job:
    return Job(
        name=draft.name,
        steps=tuple(draft.steps),
        depends_on=tuple(scalar.text for scalar, _ in draft.depends_on),
        runs_on=draft.runs_on,
        executor=draft.executor,
        variables={**variables, **draft.variables} if draft.variables else variables,
        timeout_seconds=draft.timeout_seconds,
        retry_count=draft.retry_count,
    )
