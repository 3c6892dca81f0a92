"""What is wrong with a file, an argument or a name, on the real binary: the exact message and the exit code."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.acceptance.product import Product

GOOD = "name: one\njobs:\n  build:\n    steps: [echo hello]\n"

CYCLE = """\
jobs:
  a: {depends_on: [c], steps: [make]}
  b: {depends_on: [a], steps: [make]}
  c: {depends_on: [b], steps: [make]}
"""

CYCLE_SAID = """\
bad.yml:2:20: error HW132: `a` waits for `c`, `c` for `b`, `b` for `a`: none of these 3 jobs could start; remove `c` \
from `depends_on` of `a`, or another of these
    2 |   a: {depends_on: [c], steps: [make]}
      |                    ^
"""

SEVERAL = """\
name: x
jobs:
  test:
    step: [make]
    timeout: soon
    depends_on: [biuld]
  build:
    steps: [make]
"""

SEVERAL_SAID = """\
bad.yml:3:3: error HW113: the job `test` needs `steps`; write `steps:` with a list of commands
    3 |   test:
      |   ^
bad.yml:4:5: error HW111: a job has no key `step`; did you mean `steps`?
    4 |     step: [make]
      |     ^
bad.yml:5:14: error HW117: `timeout` must be a duration, not the text `soon`; write whole seconds, or `90s`, `10m`, \
`1h30m`
    5 |     timeout: soon
      |              ^
bad.yml:6:18: error HW130: there is no job `biuld`; did you mean `build`?
    6 |     depends_on: [biuld]
      |                  ^
"""

UNKNOWN_KEY_SAID = """\
bad.yml:3:22: error HW111: a job has no key `timout`; did you mean `timeout`?
    3 |   b: {steps: [make], timout: 5}
      |                      ^
"""

HELP = "see 'headway --help'"


@pytest.fixture(scope="module")
def product(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Product]:
    """One home for all of this file: nothing here changes it, or others do not mind."""
    product = Product(tmp_path_factory.mktemp("bad"))
    product.write(GOOD)
    yield product
    product.close()


def errors(count: int) -> str:
    """The last line about a file that was read and is wrong."""
    plural = "" if count == 1 else "s"
    return (
        f"error: bad.yml has {count} error{plural}; correct the file; each error says where it is and what to write\n"
    )


@pytest.mark.parametrize(
    ("body", "said", "count"),
    [
        (
            b"",
            "bad.yml:1:1: error HW103: the file holds no pipeline; write `jobs:` with a job, or start from `headway"
            " init`",
            1,
        ),
        (
            b"\x7fELF\x02\x01\x01\x00\xa5\xff",
            "bad.yml:1:9: error HW101: this is not text: byte 0xa5 is not UTF-8; save the file as UTF-8, or check that"
            " it is the right file",
            1,
        ),
        (b"jobs:\n  a: [\n", "bad.yml:3:1: error HW102: this is not YAML: did not find expected node content", 1),
        (CYCLE.encode(), CYCLE_SAID, 1),
        (b"name: x\njobs:\n  b: {steps: [make], timout: 5}\n", UNKNOWN_KEY_SAID, 1),
        (SEVERAL.encode(), SEVERAL_SAID, 4),
    ],
    ids=["empty", "binary", "not YAML", "cycle", "unknown key", "several"],
)
def test_a_wrong_file_is_refused_with_every_place(product: Product, body: bytes, said: str, count: int) -> None:
    """File, line, column, what is wrong and what to write; all at once, and exit code 2."""
    (product.project / "bad.yml").write_bytes(body)
    words = product.fails(2, "run", "bad.yml")
    assert words.startswith(said)
    assert words.endswith(errors(count))
    assert words.count(": error HW") == count
    (product.project / "bad.yml").unlink()


def test_a_wrong_file_is_data_for_a_program(product: Product) -> None:
    """With --json each error is a record on stdout, in the one error."""
    product.write(SEVERAL, name="several.yml")
    done = product.run("run", "several.yml", "--json")
    error = json.loads(done.stdout)["error"]
    assert (done.returncode, done.stderr) == (2, "")
    assert list(error) == ["code", "message", "next", "diagnostics"]
    places = [(one["line"], one["column"], one["path"]) for one in error["diagnostics"]]
    assert places == [
        (3, 3, "jobs.test.steps"),
        (4, 5, "jobs.test.step"),
        (5, 14, "jobs.test.timeout"),
        (6, 18, "jobs.test.depends_on[0]"),
    ]


def test_names_that_would_drive_a_terminal_are_refused(product: Product) -> None:
    """A job or step with an escape in its name: exit code 2, and the escape is spelled out, never sent."""
    product.write('jobs:\n  "a\\e[31m":\n    steps: [{name: "b\\e]0;c", script: make}]\n', name="escape.yml")
    words = product.fails(2, "run", "escape.yml")
    assert "`a\\x1b[31m` cannot be the name of a job" in words
    assert "`b\\x1b]0;c` cannot be the name of a step" in words
    assert "\x1b" not in words
    product.write("jobs:\n  a:\n    steps: [\"echo '\\e[31m'; exit 1\"]\n", name="escape.yml")
    done = product.run("run", "escape.yml", "--project", "escape")
    assert done.returncode == 1
    assert "\x1b" not in done.stdout + done.stderr


def test_a_file_that_cannot_be_one_is_refused(product: Product) -> None:
    """Missing, a folder, more than 16 MiB, something that is no file: said without reading it, exit code 2."""
    (product.project / "folder.yml").mkdir()
    os.mkfifo(product.project / "pipe.yml")
    with (product.project / "large.yml").open("wb") as file:
        file.truncate((16 << 20) + 1)
    large = product.project / "large.yml"
    pipe = product.project / "pipe.yml"
    said = {
        "nothing.yml": "error: there is no file nothing.yml; name a pipeline file\n",
        "folder.yml": "error: folder.yml is a folder; name a pipeline file\n",
        "large.yml": f"error: {large} is larger than 16 MiB, the most a pipeline file may be; check that it is the"
        " right file\n",
        "pipe.yml": f"error: {pipe} is not an ordinary file; name an ordinary file as the pipeline file\n",
    }
    assert {name: product.fails(2, "run", name) for name in said} == said


def test_without_a_pipeline_the_way_to_one_is_named(product: Product, tmp_path: Path) -> None:
    """`headway run` in a folder without headway.yml says how to get one."""
    words = "error: there is no file headway.yml; write one with 'headway init', or name a pipeline file\n"
    assert product.fails(2, "run", cwd=tmp_path) == words


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["rum"], f"there is no command 'rum'; did you mean 'run'?; {HELP}"),
        (["\x1b[31mfrob"], f"there is no command '\\x1b[31mfrob'; {HELP}"),
        (["--frob"], f"there is no option '--frob'; {HELP}"),
        (["run", "--frob"], "unrecognized arguments: --frob; see 'headway run --help'"),
        (["show"], "the following arguments are required: RUN; see 'headway show --help'"),
        (
            ["wait", "@", "--timeout", "soon"],
            "argument --timeout: 'soon' is not a length of time such as 30s, 10m or 2h",
        ),
        (["tail", "--from", "-1"], "argument --from: '-1' is not a whole number"),
        (["logs", "@", "--grep", "("], "argument --grep: '(' is not a regular expression: missing )"),
        (["jobs", "--state", "x"], "argument --state: invalid choice: 'x' (choose from 'admitted',"),
        (["run", "-p", "name"], "the parameter 'name' is not of the form NAME=VALUE; write -p NAME=VALUE"),
        (["run", "-p", "=x"], "the parameter '=x' is not of the form NAME=VALUE; write -p NAME=VALUE"),
        (["run", "-p", "a=1", "-p", "a=2"], "the parameter 'a' is given twice; give it once"),
        (["run", "-p", "a-b=1"], "'a-b' is not a parameter's name; use letters, digits and '_'"),
        (["run", b"--project=\xff"], "an argument is not valid UTF-8; give names in UTF-8"),
        (["down", "--timeout", "5s"], "--timeout says how long --drain may take; add --drain, or leave --timeout out"),
    ],
)
def test_a_wrong_command_line_is_refused(product: Product, arguments: list[str | bytes], said: str) -> None:
    """One sentence that says what to do, and exit code 2."""
    words = product.fails(2, *arguments)
    assert words.startswith(f"error: {said}")
    assert words.count("\n") == 1


def test_a_job_that_is_not_there_is_said_with_those_that_are(product: Product) -> None:
    """Wherever a job is named: exit code 4, and the nearest name or all of them."""
    assert (
        product.fails(4, "run", "--only", "biuld")
        == "error: pipeline `one` has no job `biuld`; did you mean `build`?\n"
    )
    assert product.fails(4, "run", "--only", "x") == "error: pipeline `one` has no job `x`; its jobs are build\n"
    product.ok("run", "--project", "jobs")
    run = product.json("runs", "--project", "jobs")["runs"][0]["run"]
    assert product.fails(4, "logs", run, "x") == f"error: run {run} has no job 'x'; its jobs are: build\n"
    assert (
        product.fails(4, "logs", run, "build", "--attempt", "7")
        == "error: job build has no attempt 7; see 'headway show' for its attempts\n"
    )
    product.write("jobs:\n  build: {runs_on: [nowhere], steps: [make]}\n", name="waits.yml")
    waiting = product.submit("waits.yml", "--project", "jobs")
    words = f"error: run {waiting} has no job x; its jobs are: build\n"
    assert product.fails(4, "cancel", waiting, "\x1b[31mx") == words
    product.ok("cancel", waiting)


def test_what_is_over_cannot_be_ended(product: Product) -> None:
    """A rule says no: exit code 3."""
    product.ok("run", "--project", "over")
    run = product.json("runs", "--project", "over")["runs"][0]["run"]
    assert product.fails(3, "pause", run) == f"error: run {run} is already over; start a new one with 'headway run'\n"
    words = "is already over; start a new run with 'headway run'\n"
    assert product.fails(3, "cancel", run) == f"error: run {run} {words}"
    job = product.json("show", run)["jobs"][0]["job"]
    assert product.fails(3, "cancel", run, job) == f"error: job {job} of run {run} {words}"


def test_a_run_that_is_not_there_or_is_two_is_not_found(product: Product) -> None:
    """Exit code 4; an ambiguous beginning names those it fits, and one letter more is enough."""
    first, second = product.submit("--project", "two"), product.submit("--project", "two")
    common = first[: next(at for at in range(len(first)) if first[at] != second[at])]
    assert len(common) >= 6, "ids begin with the time"
    assert (
        product.fails(4, "show", "nothing")
        == "error: no run's id is 'nothing', or begins or ends so; 'headway runs' lists what there is\n"
    )
    found = json.loads(product.run("show", common, "--json").stdout)["error"]
    assert (found["code"], found["message"]) == ("not_found", f"more than one run begins or ends with {common}")
    assert first in found["next"]
    assert second in found["next"]
    for run in (first, second):
        assert product.json("show", run[: len(common) + 1])["run"]["run"] == run
        assert product.json("show", run[-10:])["run"]["run"] == run
    for words in (["logs"], ["cancel"], ["wait"], ["tail"], ["pause"], ["watch"]):
        assert product.fails(4, *words, "nothing").startswith("error: no run's id is 'nothing'")


def test_a_project_without_runs_has_no_latest(product: Product, tmp_path: Path) -> None:
    """`@` where nothing was submitted says so, exit code 4."""
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    words = "error: project elsewhere has no run yet; start one with 'headway run'\n"
    assert product.fails(4, "show", "@", cwd=folder) == words


def test_a_folder_that_is_gone_is_said(product: Product, tmp_path: Path) -> None:
    """A command in a folder that was removed says so, exit code 2."""
    folder = tmp_path / "gone"
    folder.mkdir()
    script = 'cd "$1" && rmdir "$1" && exec "$2" show @'
    done = product.shell(script, str(folder))
    words = "error: the present folder does not exist any more; change to another folder\n"
    assert (done.returncode, done.stdout, done.stderr) == (2, "", words)
