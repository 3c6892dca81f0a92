"""Everything that can be wrong with a pipeline file: its code, place, path, words and remedy."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from headway.core.diagnostics import Diagnostic, InvalidFile
from headway.core.pipeline import compile_pipeline
from headway.core.shape import JOB, PIPELINE, STEP, Level

JOB_HEAD = "jobs:\n  a:\n    steps: [make]\n"
STEP_HEAD = "jobs:\n  a:\n    steps:\n      - script: make\n"
HEADS = {"nothing": "", "job": JOB_HEAD, "step": STEP_HEAD}
CASES = (Path(__file__).parent / "refusals.txt").read_text().split("\n\n")[1:]


def problems_of(text: str) -> list[Diagnostic]:
    """All problems of a file that is refused."""
    with pytest.raises(InvalidFile) as caught:
        compile_pipeline(text.encode(), file="headway.yml")
    return caught.value.diagnostics


def words(one: Diagnostic) -> list[str]:
    """A problem as the lines of a case."""
    return [f"{one.line}:{one.column} {one.code} {one.path}".rstrip(), one.message, one.suggestion or "-"]


@pytest.mark.parametrize("case", CASES, ids=lambda case: " ".join(case.split("\n")[-3].split()[1:]))
def test_what_is_wrong_is_said_with_place_and_remedy(case: str) -> None:
    """One problem, one diagnostic: nothing else is said because of it."""
    head, *lines = case.strip("\n").split("\n")
    added = "\n".join(line[2:] for line in lines if line.startswith("|"))
    assert [words(one) for one in problems_of(HEADS[head] + added)] == [lines[-3:]]


def test_every_code_has_a_test_and_an_entry_in_the_reference() -> None:
    """A code that is in the sources is in the reference and in the tests, and the other way round."""
    top = Path(__file__).parents[2]
    code = re.compile(r"\bHW[0-9]{3}\b")
    sources = {found for file in (top / "core").glob("*.py") for found in code.findall(file.read_text())}
    tests = {
        found
        for file in (top / "tests" / "core").iterdir()
        if file.is_file()
        for found in code.findall(file.read_text())
    }
    reference = set(re.findall(r"^\| (HW[0-9]{3}) \|", (top / "docs" / "pipeline.md").read_text(), re.MULTILINE))
    assert sources == reference
    assert sources <= tests


@pytest.mark.parametrize(
    ("head", "indent", "level", "path"),
    [
        (JOB_HEAD, "", PIPELINE, ""),
        (JOB_HEAD, "    ", JOB, "jobs.a."),
        (STEP_HEAD, "        ", STEP, "jobs.a.steps[0]."),
    ],
    ids=["pipeline", "job", "step"],
)
def test_a_key_of_a_later_version_is_refused(head: str, indent: str, level: Level, path: str) -> None:
    """No key of the full format is read and ignored."""
    for key in sorted(level.later - {"<<"}):
        line = len(head.splitlines()) + 1
        assert [words(one) for one in problems_of(f"{head}{indent}{key}: x")] == [
            [
                f"{line}:{len(indent) + 1} HW190 {path}{key}",
                f"`{key}` of {level.what} is not supported in this version",
                "remove it; a key is never read and ignored",
            ]
        ]


@pytest.mark.parametrize("level", [PIPELINE, JOB, STEP], ids=lambda level: level.what)
def test_the_tables_of_keys_do_not_contradict_each_other(level: Level) -> None:
    """A key is acted on, or comes later, or is another system's; and what replaces it exists."""
    assert not level.keys & level.later
    assert not (level.keys | level.later) & level.foreign.keys()
    assert {foreign.ours for foreign in level.foreign.values() if foreign.ours} <= level.keys
    assert all(bool(foreign.ours) != bool(foreign.advice) for foreign in level.foreign.values())


def test_everything_is_said_at_once_in_order() -> None:
    """One reading names all problems, sorted by position, warnings among them."""
    text = """\
name: x y
env: {}
jobs:
  a:
    depends_on: [c, zzz]
    timeout: ten
    steps:
      - run: make
      - {script: x, environment: {HEADWAY_RUN_ID: 1}}
  c: {depends_on: a, steps: []}
"""
    found = [(one.line, one.column, one.code, one.severity) for one in problems_of(text)]
    assert found == [
        (1, 7, "HW116", "error"),
        (2, 1, "HW112", "error"),
        (5, 18, "HW132", "error"),
        (5, 21, "HW130", "error"),
        (6, 14, "HW117", "error"),
        (8, 9, "HW112", "error"),
        (9, 35, "HW151", "warning"),
        (10, 22, "HW115", "error"),
    ]


def test_the_error_counts_the_errors() -> None:
    """The message is a sentence about the file; the details are the problems."""
    with pytest.raises(InvalidFile, match=r"^headway\.yml has 2 errors$") as caught:
        compile_pipeline(b"a: 1\nb: 2\njobs: {a: {steps: [x]}}", file="headway.yml")
    assert caught.value.exit_code == 2
    assert [one["code"] for one in caught.value.details] == ["HW111", "HW111"]


def test_warnings_do_not_stop() -> None:
    """What is allowed but probably not meant comes beside the plan."""
    text = "jobs:\n  a:\n    timeout: 1m\n    environment: {HEADWAY_JOB: x}\n    steps: [{script: x, timeout: 2m}]\n"
    plan, warnings = compile_pipeline(text.encode(), file="headway.yml")
    assert len(plan.jobs) == 1
    assert {one.severity for one in warnings} == {"warning"}
    assert [words(one) for one in warnings] == [
        [
            "4:19 HW151 jobs.a.environment.HEADWAY_JOB",
            "`HEADWAY_JOB` hides what Headway itself gives to a job by this name",
            "use a name of your own",
        ],
        [
            "5:34 HW150 jobs.a.steps[0].timeout",
            "the step may take 120 s, but its job only 60 s",
            "raise the job's `timeout`",
        ],
    ]


def test_a_long_circle_is_named_in_short() -> None:
    """A circle of many jobs fits into a sentence."""
    jobs = "".join(f"  j{number}: {{steps: [x], depends_on: j{(number - 1) % 50}}}\n" for number in range(50))
    (found,) = problems_of("jobs:\n" + jobs)
    assert found.message == (
        "`j0` waits for `j49`, `j49` for `j48`, `j48` for `j47`, `j47` for `j46`, `j46` for `j45`, `j45` for `j44`, "
        "`j44` for `j43`, … 42 more …, `j1` for `j0`: none of these 50 jobs could start"
    )


def test_each_knot_is_said_once() -> None:
    """Two circles that do not touch are two problems; jobs that only wait for a circle are none."""
    waits = {"a": "b", "b": "a", "c": "d", "d": "c", "e": "a"}
    jobs = "".join(f"  {job}: {{steps: [x], depends_on: {other}}}\n" for job, other in waits.items())
    assert [(one.code, one.line) for one in problems_of("jobs:\n" + jobs)] == [("HW132", 2), ("HW132", 4)]


def test_a_variable_too_long_for_a_process_is_refused() -> None:
    """100 kB fit; what no process could be started with is said before the run."""
    assert compile_pipeline(f"{JOB_HEAD}global_env: {{A: {'x' * 100_000}}}".encode(), file="headway.yml")
    (found,) = problems_of(f"{JOB_HEAD}global_env: {{A: {'x' * 131_070}}}")
    assert words(found) == [
        "4:17 HW122 global_env.A",
        "the variable `A` is longer than 128 KiB, the most a process can be given",
        "keep it in a file of the project",
    ]


def test_variables_that_would_fill_the_memory_are_refused() -> None:
    """A hundred kilobytes in each of a thousand jobs is not a small file."""
    jobs = "".join(f"  j{number}: {{steps: [x]}}\n" for number in range(1000))
    (found,) = problems_of(f"global_env: {{A: {'x' * 100_000}}}\njobs:\n{jobs}")
    assert (found.code, found.path) == ("HW123", "global_env")


def test_a_job_that_waits_for_too_many_is_refused() -> None:
    """What a job waits for must fit the event that admits it."""
    names = [f"{'j' * 90}{number:04}" for number in range(600)]
    jobs = "".join(f"  {name}: {{steps: [x]}}\n" for name in names)
    (found,) = problems_of(f"jobs:\n{jobs}  last: {{steps: [x], depends_on: [{', '.join(names)}]}}\n")
    assert words(found) == [
        "602:34 HW123 jobs.last.depends_on",
        "the job waits for too many jobs: their names fill 58,200 bytes, and 49,152 fit into an event",
        "put a job between that stands for some",
    ]
