"""The environment of a step: who wins, what is carried on, what is refused; and the shells."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from memory_link import assignment

from headway.core.plan import Step
from headway.runners.environment import BadEnvironment, Environment, Place, parse_variables, passed_on
from headway.runners.shells import NoShell, Shell, choose_shell


@pytest.fixture
def environment(tmp_path: Path) -> Environment:
    """The environment of a job with a variable X at every level."""
    place = Place(runner="r-1", run="run-1", job="build", attempt=2, workspace=tmp_path / "w", tmp=tmp_path / "t")
    assigned = assignment(parameters={"P": "parameter"}, commit="abc", branch="main", project="shop", pipeline="ci")
    variables = {"P": "job", "S": "job", "C": "job", "J": "job", "HEADWAY_JOB": "forged"}
    system = {"P": "system", "S": "system", "C": "system", "J": "system", "N": "system", "PATH": "/bin"}
    return Environment(place, assigned, variables=variables, system=system)


def test_the_nearest_wins(environment: Environment, tmp_path: Path):
    """Parameters, then the step, what was carried, the job, the system; Headway's own names are its own."""
    environment.carried.variables = {"P": "carried", "S": "carried", "C": "carried"}
    step = Step(name="s", script="", variables={"P": "step", "S": "step"})
    found = environment.of(step, env_file=tmp_path / "env", path_file=tmp_path / "path")
    assert [found[name] for name in "PSCJN"] == ["parameter", "step", "carried", "job", "system"]
    own = {name: value for name, value in found.items() if name.startswith("HEADWAY")}
    assert own == {
        "HEADWAY": "true",
        "HEADWAY_RUN_ID": "run-1",
        "HEADWAY_JOB": "build",
        "HEADWAY_ATTEMPT": "2",
        "HEADWAY_COMMIT": "abc",
        "HEADWAY_BRANCH": "main",
        "HEADWAY_PROJECT": "shop",
        "HEADWAY_PIPELINE": "ci",
        "HEADWAY_RUNNER": "r-1",
        "HEADWAY_WORKSPACE": str(tmp_path / "w"),
        "HEADWAY_ENV": str(tmp_path / "env"),
        "HEADWAY_PATH": str(tmp_path / "path"),
    }
    assert (found["CI"], found["TMPDIR"]) == ("true", str(tmp_path / "t"))


def test_secrets_of_the_runner_stay_with_it():
    """A job sees only what is on the list; there is always a PATH."""
    found = passed_on({"HOME": "/root", "LC_ALL": "C", "AWS_SECRET_ACCESS_KEY": "x", "HEADWAY_NATS_URL": "x"})
    assert set(found) == {"HOME", "LC_ALL", "PATH"}


@pytest.mark.parametrize(
    ("proxy", "seen"),
    [
        ("http://proxy:3128", "http://proxy:3128"),
        ("http://me:secret@proxy:3128/", "http://proxy:3128/"),
        ("http://me:se/cr@t@proxy", "http://proxy"),
        ("me:secret@proxy:3128", "proxy:3128"),
    ],
)
def test_jobs_do_not_see_the_password_of_a_proxy(proxy: str, seen: str):
    """Where the proxy is, is told; who the runner is to it, is not."""
    names = ("http_proxy", "HTTPS_PROXY", "all_proxy")
    found = passed_on({**dict.fromkeys(names, proxy), "no_proxy": "a,b"})
    assert ({found[name] for name in names}, found["no_proxy"]) == ({seen}, "a,b")


@pytest.mark.parametrize("variables", [{"A=B": "x"}, {"": "x"}, {"A": "x\0y"}, {"A B": "x"}])
def test_what_no_process_can_have_is_refused(environment: Environment, tmp_path: Path, variables: dict[str, str]):
    """A bad name or a NUL is the step's fault, said in words."""
    with pytest.raises(BadEnvironment):
        environment.of(
            Step(name="s", script="", variables=variables), env_file=tmp_path / "env", path_file=tmp_path / "path"
        )


def test_steps_hand_on_variables_and_paths(environment: Environment, tmp_path: Path):
    """Lines and blocks of $HEADWAY_ENV become variables; the folders of $HEADWAY_PATH come first, the latest first."""
    (tmp_path / "env").write_text("A=1\n\nB<<END\ntwo\nlines=x\nEND\nC=a=b<<c\n")
    (tmp_path / "path").write_text("/one\n/two\n")
    environment.carry(tmp_path / "env", tmp_path / "path")
    found = environment.of(Step(name="s", script=""), env_file=tmp_path / "none", path_file=tmp_path / "none")
    assert (found["A"], found["B"], found["C"]) == ("1", "two\nlines=x", "a=b<<c")
    assert found["PATH"] == "/two:/one:/bin"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("nonsense", "line 1 is neither"),
        ("A=1\nB<<END\nx", "line 2: the end 'END'"),
        ("A<<\nx", "line 1: the end ''"),
        ("1A=x", "cannot be the name"),
        ("HEADWAY_ENV=x", "belongs to Headway"),
    ],
)
def test_what_cannot_be_read_names_its_line(text: str, words: str):
    """A wrong line is refused and named."""
    with pytest.raises(BadEnvironment, match=words):
        parse_variables(text)


def test_a_hostile_file_is_not_followed(environment: Environment, tmp_path: Path):
    """A link, a pipe, a folder or an endless file in the place of $HEADWAY_ENV is refused, not read."""
    (tmp_path / "link").symlink_to("/etc/passwd")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    (tmp_path / "big").write_bytes(b"A=" + b"x" * (1 << 20))
    for name in ("link", "pipe", "folder", "big"):
        with pytest.raises(BadEnvironment, match=r"HEADWAY_ENV"):
            environment.carry(tmp_path / name, tmp_path / "none")
    (tmp_path / "path").write_text("relative\n")
    with pytest.raises(BadEnvironment, match="absolute"):
        environment.carry(tmp_path / "none", tmp_path / "path")


@pytest.fixture
def tools(tmp_path: Path) -> str:
    """A PATH with sh and python3, but no bash."""
    for name in ("sh", "python3"):
        (tmp_path / name).symlink_to("/bin/sh")
    return str(tmp_path)


def test_bash_is_taken_where_it_is():
    """Without a wish, and with the wish, bash runs scripts strictly."""
    for asked in ("", "bash"):
        shell = choose_shell(asked, os.environ["PATH"])
        assert isinstance(shell, Shell)
        assert (shell.name, shell.argv[1:], shell.warning) == (
            "bash",
            ("--noprofile", "--norc", "-eo", "pipefail"),
            "",
        )


def test_sh_takes_its_place_and_says_so(tools: str):
    """Without bash, sh runs what asked for nothing, with a warning; what asked for bash is told why not."""
    shell = choose_shell("", tools)
    assert isinstance(shell, Shell)
    assert (shell.name, shell.argv) == ("sh", (f"{tools}/sh", "-e"))
    assert "bash was not found" in shell.warning
    refused = choose_shell("bash", tools)
    assert isinstance(refused, NoShell)
    assert "install it" in refused.reason


def test_sh_and_python_are_taken_when_asked_for(tools: str):
    """A wish is no reason to warn; Python is the one on PATH, else our own."""
    assert choose_shell("sh", tools) == Shell(name="sh", argv=(f"{tools}/sh", "-e"))
    assert choose_shell("python", tools) == Shell(name="python", argv=(f"{tools}/python3",), suffix=".py")
    assert choose_shell("python", "/nonexistent").argv == (sys.executable,)
    assert isinstance(choose_shell("fish", tools), NoShell)
