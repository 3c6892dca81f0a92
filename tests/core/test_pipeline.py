"""A pipeline file that is right becomes a plan; the examples and the template are such files."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headway.core.dependencies import circles, knots, needed_by
from headway.core.diagnostics import InvalidFile, source_lines
from headway.core.errors import NotFoundError, UsageError
from headway.core.pipeline import compile_pipeline, read_pipeline, select_only
from headway.core.plan import Job, Plan, Step, decode_plan, encode_plan
from headway.core.template import template

EXAMPLES = Path(__file__).parents[2] / "examples"


def plan_of(text: str, file: str = "headway.yml") -> Plan:
    """The plan of a file that gives no warning."""
    plan, warnings = compile_pipeline(text.encode(), file=file)
    assert warnings == []
    return plan


def step_of(text: str) -> Step:
    """The step of a file with one job of one step, given as the lines of that step."""
    lines = "\n".join(f"        {line}" for line in text.splitlines())
    return plan_of(f"jobs:\n  a:\n    steps:\n      -\n{lines}\n").jobs[0].steps[0]


def job_of(text: str) -> Job:
    """The job of a file with one job of one step, given as further lines of that job."""
    return plan_of(f"jobs:\n  a:\n    steps: [make]\n    {text}\n").jobs[0]


def test_every_key_has_its_place_in_the_plan() -> None:
    """What is written is what a runner is given."""
    text = """\
name: everything
global_env: {A: 1, B: yes}
jobs:
  build: {steps: [make]}
  test:
    depends_on: [build]
    runs_on: [linux, arm64]
    executor: host
    environment: {B: 0755, C: 3.10}
    timeout: 1h30m
    retry_count: 2
    steps:
      - name: run the tests
        script:
          - cd tests
          - make
        shell: sh
        environment: {D: ~}
        working_directory: ./sub//folder/
        timeout: 90s
        retry_count: 1
        continue_on_failure: true
"""
    build = Job(name="build", steps=(Step(name="make", script="make"),), variables={"A": "1", "B": "yes"})
    step = Step(
        name="run the tests",
        script="cd tests\nmake",
        shell="sh",
        variables={"D": "~"},
        working_directory="sub/folder",
        timeout_seconds=90,
        retry_count=1,
        continue_on_failure=True,
    )
    test = Job(
        name="test",
        steps=(step,),
        depends_on=("build",),
        runs_on=("linux", "arm64"),
        variables={"A": "1", "B": "0755", "C": "3.10"},
        timeout_seconds=5400,
        retry_count=2,
    )
    assert plan_of(text) == Plan(name="everything", jobs=(build, test))


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90", 90), ("90s", 90), ("10m", 600), ("1h30m", 5400), ("1h1m1s", 3661), ("2h", 7200), ("0x10", 16)],
)
def test_durations(text: str, seconds: int) -> None:
    """Whole seconds, or hours, minutes and seconds."""
    assert job_of(f"timeout: {text}").timeout_seconds == seconds


def test_a_variable_keeps_its_source_text() -> None:
    """Nothing is made of what is written: no numbers, no booleans, no dates, no null."""
    job = job_of("environment: {A: 3.10, B: on, C: 0o17, D: 2026-01-02, E: null, F: '', G: 1_0, H: TRUE}")
    assert list(job.variables.values()) == ["3.10", "on", "0o17", "2026-01-02", "null", "", "1_0", "TRUE"]


def test_a_step_may_be_a_command_alone() -> None:
    """The short form; `true` is a command."""
    assert plan_of("jobs: {a: {steps: [make test, true]}}").jobs[0].steps == (
        Step(name="make test", script="make test"),
        Step(name="true", script="true"),
    )


@pytest.mark.parametrize(
    ("script", "name"),
    [
        ("script: make", "make"),
        ("script: |\n\n  # comment\n    make all\n  make install", "make all"),
        ("script: '# only this'", "# only this"),
        ("script: [echo a, echo b]", "echo a"),
        (f"script: {'x' * 200}", "x" * 99 + "…"),
        ('script: "echo \\e[31m"', "echo \\x1b[31m"),
    ],
)
def test_a_step_is_called_by_its_first_command(script: str, name: str) -> None:
    """Without a name, the first line that does something is it, short and printable."""
    assert step_of(script).name == name


def test_the_working_directory_may_be_the_workspace() -> None:
    """`.` is the workspace, which needs no name."""
    assert step_of("script: make\nworking_directory: .").working_directory == ""


def test_one_name_needs_no_list() -> None:
    """`depends_on` and `runs_on` take a single name too."""
    job = plan_of("jobs: {a: {steps: [x]}, b: {steps: [x], depends_on: a, runs_on: linux}}").jobs[1]
    assert (job.depends_on, job.runs_on) == (("a",), ("linux",))


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("headway.yml", "headway"),
        ("/a/b c.d.yml", "b-c-d"),
        ("-", "pipeline"),
        ("ümlaut.yml", "mlaut"),
        ("", "pipeline"),
    ],
)
def test_a_pipeline_without_a_name_is_called_by_its_file(file: str, name: str) -> None:
    """The name of the file, made into one of ours."""
    assert plan_of("jobs: {a: {steps: [x]}}", file).name == name


def test_names_may_look_like_numbers() -> None:
    """A name is text, whatever the core schema makes of it."""
    plan = plan_of("name: 2026\njobs: {1: {steps: [x]}, true: {steps: [x], depends_on: [1]}}")
    assert (plan.name, [job.name for job in plan.jobs], plan.jobs[1].depends_on) == ("2026", ["1", "true"], ("1",))


def test_anchors_and_aliases_save_words() -> None:
    """A job may be written once and used twice."""
    plan = plan_of("jobs:\n  a: &job\n    steps: [x]\n  b: *job\n")
    assert plan.jobs[0].steps == plan.jobs[1].steps


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.yml")), ids=lambda path: path.name)
def test_the_examples_are_valid(path: Path) -> None:
    """Every example compiles without a warning."""
    assert plan_of(read_pipeline(path).decode(), path.name).jobs


def test_the_template_is_valid() -> None:
    """What `headway init` writes can be run as it is."""
    plan = plan_of(template())
    assert [job.name for job in plan.jobs] == ["build", "test"]


def test_equal_files_give_equal_bytes() -> None:
    """The order of variables does not matter to the digest of a plan, and a plan comes back from its bytes."""
    one = plan_of("jobs: {a: {environment: {A: 1, B: 2}, steps: [x]}}")
    other = plan_of("jobs:\n  a:\n    steps:\n      - x\n    environment:\n      B: 2\n      A: 1\n")
    assert encode_plan(one) == encode_plan(other)
    assert decode_plan(encode_plan(one)) == one


def test_a_missing_pipeline_file_says_what_to_do(tmp_path: Path) -> None:
    """The error of a first `headway run` leads to `headway init`."""
    with pytest.raises(UsageError) as caught:
        read_pipeline(tmp_path / "headway.yml")
    assert caught.value.message == f"there is no pipeline file {tmp_path}/headway.yml"
    assert caught.value.next == "write one with `headway init`, or name it: `headway run FILE`"


DIAMOND = """\
jobs:
  a: {steps: [x]}
  b: {steps: [x], depends_on: a}
  c: {steps: [x], depends_on: a}
  d: {steps: [x], depends_on: [b, c]}
"""


@pytest.mark.parametrize(("job", "names"), [("a", "a"), ("b", "ab"), ("d", "abcd")])
def test_one_job_is_selected_with_what_it_needs(job: str, names: str) -> None:
    """`--only` keeps the job and what it waits for, in the order of the file."""
    plan = select_only(plan_of(DIAMOND), job)
    assert "".join(each.name for each in plan.jobs) == names


def test_selecting_a_job_that_is_not_there() -> None:
    """The nearest name is offered, or else the names there are."""
    plan = plan_of("name: x\njobs: {build: {steps: [x]}, test: {steps: [x]}}")
    with pytest.raises(NotFoundError, match=r"^pipeline `x` has no job `tset`$") as caught:
        select_only(plan, "tset")
    assert caught.value.next == "did you mean `test`?"
    with pytest.raises(NotFoundError) as caught:
        select_only(plan, "zzz")
    assert caught.value.next == "its jobs are build, test"


graphs = st.integers(1, 12).flatmap(
    lambda size: st.lists(st.tuples(st.integers(0, size - 1), st.integers(0, size - 1)), max_size=40).map(
        lambda edges: {
            str(job): sorted({str(other) for origin, other in edges if origin == job != other}) for job in range(size)
        }
    )
)


def shortest_by_brute_force(graph: dict[str, list[str]]) -> int:
    """The length of the shortest circle, by walking ever longer paths; 0 when there is none."""
    ends = {job: {job} for job in graph}
    for length in range(1, len(graph) + 1):
        ends = {job: {other for end in found for other in graph[end]} for job, found in ends.items()}
        if any(job in found for job, found in ends.items()):
            return length
    return 0


@settings(max_examples=300, deadline=None)
@given(graphs)
def test_the_shortest_circle_is_found(graph: dict[str, list[str]]) -> None:
    """Each circle found is one, one for each knot, and the shortest there is is among them."""
    found = circles(graph)
    assert all(
        other in graph[job] for circle in found for job, other in zip(circle, circle[1:] + circle[:1], strict=True)
    )
    assert min(map(len, found), default=0) == shortest_by_brute_force(graph)
    assert len(found) == len(knots(graph))


@settings(max_examples=100, deadline=None)
@given(graphs)
def test_what_a_job_needs_is_closed(graph: dict[str, list[str]]) -> None:
    """Nothing that is kept waits for something that is not, and nothing is kept that nothing waits for."""
    for job in graph:
        needed = needed_by(job, graph)
        assert all(other in needed for each in needed for other in graph[each])
        assert all(each == job or any(each in graph[other] for other in needed) for each in needed)


def many(jobs: int) -> bytes:
    """A file with this many jobs, each waiting for two others."""
    text = ["jobs:"]
    for number in range(jobs):
        waits = f"[job-{number - 1}, job-{number - 2}]" if number > 1 else "[]"
        text += [
            f"  job-{number}:",
            f"    depends_on: {waits}",
            "    steps:",
            "      - make",
            "      - script: make test",
        ]
    return "\n".join(text).encode()


def test_many_jobs_in_a_long_chain_are_read() -> None:
    """Depth of the graph is no depth of recursion."""
    plan, _ = compile_pipeline(many(5000), file="headway.yml")
    assert len(plan.jobs) == 5000


def mutated(body: bytes, seed: int) -> bytes:
    """The file with a few bytes, words or lines changed, taken away, doubled or swapped."""
    chance = random.Random(seed)
    for _ in range(chance.randint(1, 4)):
        start = chance.randrange(len(body) + 1)
        end = min(len(body), start + chance.choice((1, 1, 3, 10, 40)))
        put = chance.choice(
            (
                b"",
                b":",
                b"- ",
                b"\n",
                b"[",
                b"}",
                b"*a ",
                b"&a ",
                b"!x ",
                b"'",
                b"\t",
                b"\xff",
                b"null",
                b"-1",
                b"{a: b}",
            )
        )
        body = chance.choice((body[:start] + put + body[end:], body[:start] + body[start:end] * 2 + body[end:]))
    return body


@pytest.mark.parametrize("first", range(0, 2000, 200))
def test_a_mutated_file_is_read_or_refused_with_places(first: int) -> None:
    """However a valid file is damaged, nothing crashes and each problem lies in the file."""
    whole = template().encode() + b"\n" + (EXAMPLES / "fan.yml").read_bytes().split(b"jobs:")[1]
    assert len(plan_of(whole.decode()).jobs) == 8
    for seed in range(first, first + 200):
        body = mutated(whole, seed)
        try:
            plan, problems = compile_pipeline(body, file="headway.yml")
            assert decode_plan(encode_plan(plan)) == plan, seed
        except InvalidFile as error:
            problems = error.diagnostics
            assert problems, seed
        lines = source_lines(body)
        for one in problems:
            assert 1 <= one.line <= len(lines), seed
            assert 1 <= one.column <= len(lines[one.line - 1]) + 1, seed
            assert one.code.startswith("HW"), seed
