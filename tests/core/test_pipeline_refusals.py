"""Everything that can be wrong with a pipeline file: its code, place, path, words and remedy."""

from __future__ import annotations

import pytest

from headway.core.diagnostics import Diagnostic, InvalidFile
from headway.core.pipeline import compile_pipeline
from headway.core.shape import JOB, PIPELINE, STEP

JOB_HEAD = "jobs:\n  a:\n    steps: [make]\n"
STEP_HEAD = "jobs:\n  a:\n    steps:\n      - script: make\n"
KEYS = "its keys are `depends_on`, `environment`, `executor`, `retry_count`, `runs_on`, `steps`, `timeout`"
COLON = "a colon followed by a blank makes it one: put the whole command in single quotes"
RULE = "a name has letters, digits, `_` and `-`, does not begin with `-`, and is at most 100 long"
DURATION = "write whole seconds, or `90s`, `10m`, `1h30m`"
NOT_IGNORED = "remove it; a key is never read and ignored"


def problems_of(text: str) -> list[Diagnostic]:
    """All problems of a file that is refused."""
    with pytest.raises(InvalidFile) as caught:
        compile_pipeline(text.encode(), file="headway.yml")
    return caught.value.diagnostics


def words(one: Diagnostic) -> str:
    """A problem on one line: place, code, path, message, remedy."""
    return f"{one.line}:{one.column} {one.code} {one.path} | {one.message} | {one.suggestion}"


TOP = [
    ("", "1:1 HW103  | the file holds no pipeline | write `jobs:` with a job, or start from `headway init`"),
    ("make", "1:1 HW114  | a pipeline must be a mapping, not the text `make` | begin with `jobs:`"),
    ("- a", "1:1 HW114  | a pipeline must be a mapping, not a list | begin with `jobs:`"),
    ("name: x", "1:1 HW113 jobs | a pipeline needs `jobs` | write `jobs:` and below it a name with `steps:`"),
    ("jobs:", "1:1 HW115 jobs | `jobs` has no job | write a name below it, and below that `steps:`"),
    ("jobs: {}", "1:1 HW115 jobs | `jobs` has no job | write a name below it, and below that `steps:`"),
    ("jobs: [a]", "1:7 HW114 jobs | `jobs` must be a mapping, not a list | write the name of each job as a key, without `-`"),
    ("jobs: true", "1:7 HW114 jobs | `jobs` must be a mapping, not the boolean `true` | "),
    (f"{JOB_HEAD}nmae: x", "4:1 HW111 nmae | a pipeline has no key `nmae` | did you mean `name`?"),
    (f"{JOB_HEAD}zz: x", "4:1 HW111 zz | a pipeline has no key `zz` | its keys are `global_env`, `jobs`, `name`"),
    (f"{JOB_HEAD}name: [x]", "4:7 HW114 name | `name` must be text, not a list | "),
    (f"{JOB_HEAD}name: a b", f"4:7 HW116 name | `a b` cannot be the name of a pipeline: {RULE} | write `a-b`"),
    (f"{JOB_HEAD}global_env: [A]", "4:13 HW114 global_env | `global_env` must be a mapping, not a list | write one `NAME: value` a line"),
    (f"{JOB_HEAD}env: {{A: 1}}", "4:1 HW112 env | `env` is a word of other systems; here it is `global_env` | write `global_env: {A: 1}`"),
    (f"{JOB_HEAD}stages: [a]", "4:1 HW112 stages | `stages` is a word of other systems; a pipeline has no such key here | there are no stages here: a job names the jobs it waits for in `depends_on`"),
    (f"{JOB_HEAD}? [x]\n: 1", "4:3 HW110  | a key must be text, not a list or a mapping | write `key: value`"),
]  # fmt: skip

OF_A_JOB = [
    ("  b:", "4:5 HW114 jobs.b | the job `b` must be a mapping, not nothing | write `steps:` below it"),
    ("  b: [make]", "4:6 HW114 jobs.b | the job `b` must be a mapping, not a list | write `steps:` above the list"),
    ("  b: {}", "4:3 HW113 jobs.b.steps | the job `b` needs `steps` | write `steps:` with a list of commands"),
    ("  b: {steps: }", "4:7 HW115 jobs.b.steps | the job `b` has no steps | write a command: `- make test`"),
    ("  b: {steps: []}", "4:7 HW115 jobs.b.steps | the job `b` has no steps | write a command: `- make test`"),
    ("  b: {steps: make}", "4:14 HW114 jobs.b.steps | `steps` must be a list, not the text `make` | begin each step with `- `"),
    ("  b: {steps: {a: b}}", "4:14 HW114 jobs.b.steps | `steps` must be a list, not a mapping | begin each step with `- `"),
    ("  -b: {steps: [x]}", f'4:3 HW116 jobs["-b"] | `-b` cannot be the name of a job: {RULE} | write `b`'),
    ('  "b\\e": {steps: [x]}', f'4:3 HW116 jobs["b\\x1b"] | `b\\x1b` cannot be the name of a job: {RULE} | write `b`'),
    (f"  {'b' * 101}: {{steps: [x]}}", f'4:3 HW116 jobs["{"b" * 59}…"] | `{"b" * 59}…` cannot be the name of a job: {RULE} | write `{"b" * 100}`'),
    ("  a: {steps: [x]}", "4:3 HW105 jobs.a | the key `a` is here a second time; the first is in line 2 | keep one of them"),
    ("  <<: {steps: [x]}", '4:3 HW190 jobs["<<"] | a merge key is not supported in this version | '),
    ("    timeuot: 3", "4:5 HW111 jobs.a.timeuot | a job has no key `timeuot` | did you mean `timeout`?"),
    ("    zz: 3", f"4:5 HW111 jobs.a.zz | a job has no key `zz` | {KEYS}"),
    ("    needs: [b, c]", "4:5 HW112 jobs.a.needs | `needs` is a word of other systems; here it is `depends_on` | write `depends_on: [b, c]`"),
    ("    timeout-minutes: 5", "4:5 HW112 jobs.a.timeout-minutes | `timeout-minutes` is a word of other systems; here it is `timeout` | write `timeout: 5m`"),
    ("    tags:\n      - x", "4:5 HW112 jobs.a.tags | `tags` is a word of other systems; here it is `runs_on` | write `runs_on:`"),
    ("    allow_failure: true", "4:5 HW112 jobs.a.allow_failure | `allow_failure` is a word of other systems; a job has no such key here | a step may fail without its job: write `continue_on_failure: true` in the step"),
    ("    timeout: ten", f"4:14 HW117 jobs.a.timeout | `timeout` must be a duration, not the text `ten` | {DURATION}"),
    ("    timeout: 1.5", f"4:14 HW117 jobs.a.timeout | `timeout` must be a duration, not the number `1.5` | {DURATION}"),
    ("    timeout: '90'", f"4:14 HW117 jobs.a.timeout | `timeout` must be a duration, not the text `90` | {DURATION}"),
    ("    timeout: 30s10m", f"4:14 HW117 jobs.a.timeout | `timeout` must be a duration, not the text `30s10m` | {DURATION}"),
    ("    timeout: [1]", f"4:14 HW117 jobs.a.timeout | `timeout` must be a duration, not a list | {DURATION}"),
    ("    timeout: 0", "4:14 HW118 jobs.a.timeout | `timeout` must be from 1 second to 8760 hours | leave it out for the default"),
    ("    timeout: 9000h", "4:14 HW118 jobs.a.timeout | `timeout` must be from 1 second to 8760 hours | leave it out for the default"),
    ("    retry_count: two", "4:18 HW114 jobs.a.retry_count | `retry_count` must be a whole number, not the text `two` | "),
    ("    retry_count: -1", "4:18 HW118 jobs.a.retry_count | `retry_count` must be from 0 to 100 | "),
    ("    runs_on: a b", "4:14 HW116 jobs.a.runs_on | `a b` cannot be a label: a label has no blanks and no commas | write a list: `[linux, arm64]`"),
    ("    runs_on: [a, {b: c}]", "4:18 HW114 jobs.a.runs_on[1] | a label must be text, not a mapping | "),
    ("    executor: hots", "4:15 HW119 jobs.a.executor | `executor` must be one of `host`, not `hots` | did you mean `host`?"),
    ("    executor: docker", "4:15 HW190 jobs.a.executor | the executor `docker` is not supported in this version | write `host`, or leave it out"),
    ("    environment: production", "4:18 HW114 jobs.a.environment | `environment` must be a mapping, not the text `production` | `environment` holds variables: write `NAME: value` below it"),
    ("    environment: {A-B: 1}", "4:19 HW121 jobs.a.environment.A-B | `A-B` cannot be the name of a variable: it has letters, digits and `_` | write `A_B`"),
    ("    environment: {1: 1}", "4:19 HW121 jobs.a.environment.1 | `1` cannot be the name of a variable: it has letters, digits and `_` | "),
    ("    environment: {A: [1]}", "4:22 HW114 jobs.a.environment.A | the variable `A` must be a single value, not a list | "),
    ('    environment: {A: "\\0"}', "4:22 HW122 jobs.a.environment.A | the variable `A` holds a NUL character, which no process can be given | "),
    ("    environment: {A: '${B}'}", "4:22 HW190 jobs.a.environment.A | `${...}` outside a script is not supported in this version | write the value itself, or use it in `script`"),
    ("    environment: {<<: {A: 1}}", '4:19 HW190 jobs.a.environment["<<"] | a merge key is not supported in this version | '),
    ("    depends_on:", "4:16 HW114 jobs.a.depends_on | `depends_on` must be text, not nothing | "),
    ("    depends_on: [{job: b, when: failed}]", "4:18 HW190 jobs.a.depends_on[0] | `depends_on` with `when` is not supported in this version | write the name of the job alone"),
    ("    depends_on: [b]\n  bb: {steps: [x]}", "4:18 HW130 jobs.a.depends_on[0] | there is no job `b` | did you mean `bb`?"),
    ("    depends_on: zzz", "4:17 HW130 jobs.a.depends_on | there is no job `zzz` | name a job of this file"),
    ("    depends_on: a", "4:17 HW131 jobs.a.depends_on | `a` waits for itself | remove it from `depends_on`"),
    ("    depends_on: [b, b]\n  b: {steps: [x]}", "4:21 HW133 jobs.a.depends_on[1] | `a` waits for `b` twice | keep one of them"),
    ("    depends_on: b\n  b: {steps: [x], depends_on: a}", "4:17 HW132 jobs.a.depends_on | `a` waits for `b`, `b` for `a`: none of these 2 jobs could start | remove `b` from `depends_on` of `a`, or another of these"),
]  # fmt: skip

OF_A_STEP = [
    ("      -", "5:8 HW114 jobs.a.steps[1] | commands must be text, not nothing | "),
    ("      - 5", "5:9 HW114 jobs.a.steps[1] | commands must be text, not the number `5` | put it in quotes"),
    ("      - ''", "5:9 HW115 jobs.a.steps[1] | `script` has no commands | write a command"),
    ("      - [x]", "5:9 HW114 jobs.a.steps[1] | a step must be a command or a mapping, not a list | write `script:` above the list"),
    ("      - echo a: b", f"5:9 HW114 jobs.a.steps[1] | the step is a command, but YAML reads it as a mapping with the key `echo a` | {COLON}"),
    ("      - name: x", "5:9 HW113 jobs.a.steps[1].script | a step needs `script` | write `script:` with its commands"),
    ("      - run: make", "5:9 HW112 jobs.a.steps[1].run | `run` is a word of other systems; here it is `script` | write `script: make`"),
    ("      - uses: x/y@v1", "5:9 HW112 jobs.a.steps[1].uses | `uses` is a word of other systems; a step has no such key here | there are no actions here: write the commands in the step's `script`"),
    ("        shel: sh", "5:9 HW111 jobs.a.steps[0].shel | a step has no key `shel` | did you mean `shell`?"),
    ("        shell: zsh", "5:16 HW119 jobs.a.steps[0].shell | `shell` must be one of `bash`, `sh`, `python`, not `zsh` | did you mean `sh`?"),
    ("        name: ''", "5:15 HW116 jobs.a.steps[0].name | `` cannot be the name of a step: it is one line of at most 100 characters | write what the step does in a few words"),
    ("        working_directory: /etc", "5:28 HW120 jobs.a.steps[0].working_directory | `working_directory` must be a folder inside the workspace, not `/etc` | write it relative to the top of the project, without `..`"),
    ("        working_directory: a/../../b", "5:28 HW120 jobs.a.steps[0].working_directory | `working_directory` must be a folder inside the workspace, not `a/../../b` | write it relative to the top of the project, without `..`"),
    ("        continue_on_failure: yes", "5:30 HW114 jobs.a.steps[0].continue_on_failure | `continue_on_failure` must be `true` or `false`, not the text `yes` | write `true`"),
    ("        continue_on_failure: 1", "5:30 HW114 jobs.a.steps[0].continue_on_failure | `continue_on_failure` must be `true` or `false`, not the number `1` | "),
    ("        timeout: x", f"5:18 HW117 jobs.a.steps[0].timeout | `timeout` must be a duration, not the text `x` | {DURATION}"),
    ("        environment: {A: {}}", "5:26 HW114 jobs.a.steps[0].environment.A | the variable `A` must be a single value, not a mapping | "),
    ("      - script: [make, ]\n      - script: []", "6:17 HW115 jobs.a.steps[2].script | `script` has no commands | write a command"),
    ("      - script: ['a', b: c]", f"5:23 HW114 jobs.a.steps[1].script[1] | commands must be text, not a mapping | {COLON}"),
    ("      - script: echo ${{ x }}", "5:17 HW190 jobs.a.steps[1].script | `${{` in a script is not supported in this version | use a variable of `environment`: `$NAME`"),
    ("      - echo ${secrets.KEY}", "5:9 HW190 jobs.a.steps[1] | `${secrets.` in a script is not supported in this version | use a variable of `environment`: `$NAME`"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "expected"), TOP, ids=lambda text: text[:40])
def test_what_is_wrong_at_the_top(text: str, expected: str) -> None:
    """One problem, with its place and remedy."""
    assert [words(one) for one in problems_of(text)] == [expected]


@pytest.mark.parametrize(("text", "expected"), OF_A_JOB, ids=lambda text: text[:40])
def test_what_is_wrong_with_a_job(text: str, expected: str) -> None:
    """One problem, with its place and remedy."""
    assert [words(one) for one in problems_of(JOB_HEAD + text)] == [expected]


@pytest.mark.parametrize(("text", "expected"), OF_A_STEP, ids=lambda text: text[:40])
def test_what_is_wrong_with_a_step(text: str, expected: str) -> None:
    """One problem, with its place and remedy."""
    assert [words(one) for one in problems_of(STEP_HEAD + text)] == [expected]


@pytest.mark.parametrize(
    ("head", "indent", "level", "path"),
    [(JOB_HEAD, "", PIPELINE, ""), (JOB_HEAD, "    ", JOB, "jobs.a."), (STEP_HEAD, "        ", STEP, "jobs.a.steps[0].")],
    ids=["pipeline", "job", "step"],
)  # fmt: skip
def test_a_key_of_a_later_version_is_refused(head: str, indent: str, level: type[STEP], path: str) -> None:
    """No key of the full format is read and ignored."""
    for key in sorted(level.later - {"<<"}):
        line = len(head.splitlines()) + 1
        message = f"`{key}` of {level.what} is not supported in this version | {NOT_IGNORED}"
        found = [words(one) for one in problems_of(f"{head}{indent}{key}: x")]
        assert found == [f"{line}:{len(indent) + 1} HW190 {path}{key} | {message}"]


@pytest.mark.parametrize("level", [PIPELINE, JOB, STEP], ids=lambda level: level.what)
def test_the_tables_of_keys_do_not_contradict_each_other(level: type[STEP]) -> None:
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
    assert [(one.severity, words(one)) for one in warnings] == [
        (
            "warning",
            "4:19 HW151 jobs.a.environment.HEADWAY_JOB | `HEADWAY_JOB` hides what Headway itself gives to a job by this "
            "name | use a name of your own",
        ),
        (
            "warning",
            "5:34 HW150 jobs.a.steps[0].timeout | the step may take 120 s, but its job only 60 s | raise the job's `timeout`",
        ),
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
    assert words(found) == (
        "4:17 HW122 global_env.A | the variable `A` is longer than 128 KiB, the most a process can be given | "
        "keep it in a file of the project"
    )


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
    assert words(found) == (
        "602:36 HW123 jobs.last.depends_on | the job waits for too many jobs: their names fill 58,200 bytes, and 49,152 "
        "fit into an event | put a job between that stands for some"
    )
