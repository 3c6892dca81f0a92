"""One attempt from its assignment to its last answer: what it says, does, prints and leaves."""

from __future__ import annotations

import asyncio
import os
import subprocess
from pathlib import Path

import msgspec
import pytest
from memory_link import MemoryLink, assignment

from headway.core.asks import Answer, AttemptFinished, Report
from headway.core.blobs import Blobs
from headway.core.clock import SystemClock
from headway.core.events import JobAssigned, StepFinished, StepStarted, type_of
from headway.core.plan import Job, Step, encode_job
from headway.core.states import Outcome
from headway.runners.attempt import Attempt, Tools
from headway.runners.environment import passed_on
from headway.runners.executor import LEASE_OVER, Executor
from headway.runners.host import HostExecutor
from headway.runners.output import Record, text_of
from headway.runners.reporter import Attempted
from headway.runners.scripted import Act, Die, End, Flood, Hang, Refuse, Say, ScriptedExecutor
from headway.runners.source import pack
from headway.runners.spool import Spool
from headway.runners.workspace import Workspace

FIRST = ["job.preparing", "job.executing"]
STEP = ["step.started", "step.finished"]
LAST = ["job.uploading", "attempt.finished"]


class Bench:
    """All that an attempt needs."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.link = MemoryLink()
        self.blobs = Blobs(folder / "blobs")
        self.tools = Tools(
            link=self.link,
            blobs=self.blobs,
            spool=Spool(folder / "spool"),
            clock=SystemClock(),
            work=folder / "work",
            system=passed_on(os.environ),
            grace_seconds=0.2,
        )
        self.attempt: Attempt | None = None

    def begin(self, assigned: JobAssigned, executor: Executor) -> asyncio.Task[None]:
        """Run an attempt beside the test."""
        who = Attempted(runner="r-1", run="run-1", job="build", attempt=1)
        self.attempt = Attempt(who, assigned, tools=self.tools)
        return asyncio.create_task(self.attempt.run(executor, sweep=Workspace.remove))

    async def run(self, assigned: JobAssigned, executor: Executor) -> AttemptFinished:
        """Run an attempt to its end."""
        await self.begin(assigned, executor)
        return await self.link.finished()

    def types(self) -> list[str]:
        """What was said, by type."""
        return [
            "attempt.finished" if isinstance(fact, AttemptFinished) else type_of(fact) for fact in self.link.facts()
        ]

    def steps(self) -> list[StepFinished]:
        """How each try of a step ended."""
        return [fact for fact in self.link.facts() if isinstance(fact, StepFinished)]

    def printed(self, finished: AttemptFinished, stream: str | None = None) -> str:
        """What the attempt printed, from the blob."""
        if finished.output is None:
            return ""
        lines = self.blobs.get(finished.output.digest).splitlines()
        return text_of([msgspec.json.decode(line, type=Record) for line in lines], stream)


@pytest.fixture
async def bench(tmp_path: Path):
    """A bench; afterwards no attempt may have left its folder."""
    found = Bench(tmp_path)
    yield found
    found.tools.spool.close()
    assert not found.tools.work.exists() or not os.listdir(found.tools.work)


@pytest.fixture
async def host():
    """An executor with real processes."""
    executor = HostExecutor()
    yield executor
    await executor.close()


def playing(*scripts: list[Act]) -> ScriptedExecutor:
    """An executor that plays one script for each command."""
    left = list(scripts)
    return ScriptedExecutor(lambda command: left.pop(0))


async def test_one_step_says_all_there_is_to_say(bench: Bench, host: HostExecutor):
    """The facts of a run with one step, in order, with the shell, the outcome and the output."""
    finished = await bench.run(assignment("echo hello; echo oops >&2"), host)
    assert bench.types() == [*FIRST, *STEP, *LAST]
    started = bench.link.facts()[2]
    assert isinstance(started, StepStarted)
    assert (started.shell, started.tried, started.step) == ("bash", 1, 0)
    assert (finished.outcome, finished.exit_code, finished.failure) == (Outcome.SUCCEEDED, 0, None)
    assert bench.printed(finished, "out") == "hello\n"
    assert bench.printed(finished, "err") == "oops\n"
    published = b"".join(bench.link.published["run-1", "build", 1].values())
    assert published == bench.blobs.get(finished.output.digest)


async def test_a_quiet_step_has_no_output(bench: Bench, host: HostExecutor):
    """Nothing printed: no blob, nothing published."""
    finished = await bench.run(assignment("true"), host)
    assert finished.output is None
    assert not bench.link.published


async def test_the_source_is_there_and_private(bench: Bench, host: HostExecutor, tmp_path: Path):
    """Steps start in a copy of the tree; what preparation took is told."""
    tree = tmp_path / "tree"
    (tree / "sub").mkdir(parents=True)
    (tree / "sub" / "file").write_text("from the tree")
    (tree / "big").write_bytes(b"x" * 100_000)
    source = pack(tree, bench.blobs)
    step = Step(name="read", script="cat file; echo mine > file; pwd", working_directory="sub")
    finished = await bench.run(assignment(step, source_digest=source.digest), host)
    assert bench.printed(finished).startswith("from the tree")
    assert (tree / "sub" / "file").read_text() == "from the tree"
    prepared = {phase.what: phase for phase in bench.link.facts()[1].prepared}
    assert prepared["source"].bytes == source.bytes


async def test_a_large_definition_comes_as_a_blob(bench: Bench, host: HostExecutor):
    """Steps that did not fit into the event are fetched."""
    job = Job(name="build", steps=(Step(name="s", script="echo from the blob"),))
    assigned = assignment(definition_digest=bench.blobs.put_bytes(encode_job(job)))
    assert bench.printed(await bench.run(assigned, host)) == "from the blob\n"
    assert bench.link.facts()[1].prepared[0].what == "definition"


async def test_a_script_is_one_strict_process(bench: Bench, host: HostExecutor):
    """cd and export last through the step, pipes fail as a whole, and the first failing command ends it."""
    script = "mkdir d; cd d; export A=1\nsh -c 'echo $A'; pwd | grep -o 'workspace/d$'\nfalse | cat\necho not reached"
    finished = await bench.run(assignment(script), host)
    assert bench.printed(finished) == "1\nworkspace/d\n"
    assert (finished.outcome, finished.exit_code) == (Outcome.FAILED, 1)
    assert finished.failure.failure_class == "caller_fixable"
    assert finished.failure.step == 0
    assert "exited with code 1" in finished.failure.reason


async def test_python_and_sh_steps(bench: Bench, host: HostExecutor):
    """The shell that is asked for runs the script."""
    steps = (
        Step(name="python", script="import sys\nprint(sys.version_info >= (3,))", shell="python"),
        Step(name="sh", script="echo $0 | grep -c '/0*1.sh$'", shell="sh"),
    )
    assert bench.printed(await bench.run(assignment(*steps), host)) == "True\n1\n"


async def test_a_long_script_is_no_problem(bench: Bench, host: HostExecutor):
    """A script may be longer than any argument."""
    finished = await bench.run(assignment(f": {'x' * 3_000_000}\necho done"), host)
    assert bench.printed(finished) == "done\n"


async def test_steps_hand_on_what_they_write(bench: Bench, host: HostExecutor):
    """$HEADWAY_ENV and $HEADWAY_PATH reach later steps and are read once."""
    finished = await bench.run(
        assignment(
            'echo A=1 >> "$HEADWAY_ENV"; mkdir bin; echo "$PWD/bin" >> "$HEADWAY_PATH"',
            'printf "#!/bin/sh\\necho tool\\n" > bin/tool; chmod +x bin/tool; echo A=$A; cat "$HEADWAY_ENV"',
            "tool; echo A=$A",
        ),
        host,
    )
    assert bench.printed(finished) == "A=1\ntool\nA=1\n"


async def test_what_cannot_be_handed_on_fails_the_step(bench: Bench, host: HostExecutor):
    """A line that is no variable is the step's failure, with its number."""
    finished = await bench.run(assignment('echo nonsense > "$HEADWAY_ENV"'), host)
    assert finished.outcome is Outcome.FAILED
    assert "$HEADWAY_ENV line 1" in finished.failure.reason


@pytest.mark.parametrize("folder", ["..", "/etc", "link", "link/x", "missing"])
async def test_a_step_starts_inside_of_the_workspace(bench: Bench, host: HostExecutor, folder: str):
    """A working directory that leads out, by its words or by a link, fails the step before it runs."""
    step = Step(name="in", script="echo ran", working_directory=folder)
    finished = await bench.run(assignment("ln -s /tmp link", step), host)
    assert (finished.outcome, finished.failure.step) == (Outcome.FAILED, 1)
    assert "working_directory" in finished.failure.reason
    assert bench.printed(finished) == ""


async def test_without_bash_sh_runs_and_a_warning_is_printed(bench: Bench, host: HostExecutor, tmp_path: Path):
    """A step that asked for no shell runs with sh; one that asked for bash fails and says why."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "sh").symlink_to("/bin/sh")
    variables = {"PATH": str(tmp_path / "bin")}
    finished = await bench.run(
        assignment("echo hi", Step(name="b", script="x", shell="bash"), variables=variables), host
    )
    assert bench.link.facts()[2].shell == "sh"
    assert "[headway: bash was not found" in bench.printed(finished, "err")
    assert bench.printed(finished, "out") == "hi\n"
    assert "bash was not found on PATH" in finished.failure.reason


async def test_a_step_is_tried_again(bench: Bench, host: HostExecutor):
    """Each try is told; the first that succeeds is the end of it."""
    step = Step(name="flaky", script="echo x >> tries; test $(wc -l < tries) = 3", retry_count=5)
    finished = await bench.run(assignment(step), host)
    assert finished.outcome is Outcome.SUCCEEDED
    assert [(one.tried, one.outcome.value) for one in bench.steps()] == [(1, "failed"), (2, "failed"), (3, "succeeded")]


async def test_a_step_that_may_fail_does_not_end_the_job(bench: Bench):
    """The failure is told, the next step runs, the job succeeds."""
    executor = playing([End(3)], [Say(b"next"), End(0)])
    finished = await bench.run(assignment(Step(name="a", script="x", continue_on_failure=True), "b"), executor)
    assert (finished.outcome, finished.exit_code) == (Outcome.SUCCEEDED, 0)
    assert [step.exit_code for step in bench.steps()] == [3, 0]


async def test_a_failing_step_ends_the_job(bench: Bench):
    """Later steps are not started."""
    finished = await bench.run(assignment("a", "b"), playing([End(3)]))
    assert (finished.outcome, finished.exit_code) == (Outcome.FAILED, 3)
    assert len(bench.steps()) == 1


async def test_a_step_that_hangs_is_timed_out(bench: Bench):
    """The time-out is the reason, SIGKILL comes after the grace, and what was printed is kept."""
    step = Step(name="slow", script="x", timeout_seconds=1)
    finished = await bench.run(assignment(step), playing([Say(b"working\n"), Hang(stubborn=True)]))
    assert (finished.outcome, bench.steps()[0].signal) == (Outcome.FAILED, "SIGKILL")
    assert bench.steps()[0].reason == "timed out after 1 s"
    assert "timed out after 1 s" in finished.failure.reason
    assert bench.printed(finished) == "working\n"


async def test_a_job_that_takes_too_long_is_ended(bench: Bench):
    """The job's own time-out ends it, whatever the step may take and may do."""
    step = Step(name="slow", script="x", continue_on_failure=True, retry_count=3)
    finished = await bench.run(assignment(step, "never", timeout_seconds=1), playing([Hang()]))
    assert finished.outcome is Outcome.FAILED
    assert "the job's timeout of 1 s" in finished.failure.reason
    assert len(bench.steps()) == 1


async def test_a_cancelled_attempt_ends_in_good_order(bench: Bench):
    """The step gets SIGTERM, no other starts, and the outcome is cancelled with the reason."""
    executor = playing([Say(b"ready\n"), Hang()])
    task = bench.begin(assignment(Step(name="a", script="x", continue_on_failure=True), "b"), executor)
    await bench.link.until(lambda: bench.types()[-1:] == ["step.started"])
    bench.attempt.cancel("not needed")
    await task
    finished = await bench.link.finished()
    assert (finished.outcome, finished.reason, finished.failure) == (Outcome.CANCELLED, "not needed", None)
    assert [(step.outcome.value, step.signal) for step in bench.steps()] == [("cancelled", "SIGTERM")]


async def test_a_cancellation_before_the_start_runs_nothing(bench: Bench):
    """What is cancelled while it is prepared starts no step."""
    executor = playing()
    who = Attempted(runner="r-1", run="run-1", job="build", attempt=1)
    attempt = Attempt(who, assignment("a"), tools=bench.tools)
    attempt.cancel("never mind")
    await attempt.run(executor, sweep=Workspace.remove)
    assert bench.types() == ["job.preparing", "attempt.finished"]
    assert (await bench.link.finished()).outcome is Outcome.CANCELLED
    assert not executor.commands


async def test_an_attempt_that_no_longer_counts_is_killed(bench: Bench):
    """A refused report ends the work at once, and nothing more is said."""
    bench.link.answer = lambda ask: Answer(refused="the attempt was lost")
    executor = playing([Say(b"ready\n"), Hang(stubborn=True)])
    async with asyncio.timeout(10):
        await bench.begin(assignment("a"), executor)
    assert len([ask for ask in bench.link.asked if isinstance(ask, Report)]) == 1
    assert executor.cleared == 1


async def test_a_dropped_attempt_does_not_wait_for_answers(bench: Bench):
    """A runner that lost its lease can end its attempts although nobody answers."""
    bench.link.answer = lambda ask: None
    task = bench.begin(assignment("a"), playing([Hang(stubborn=True)]))
    await bench.link.until(lambda: bench.link.asked)
    bench.attempt.drop("the lease is over")
    async with asyncio.timeout(10):
        await task


async def test_a_broken_executor_is_a_platform_bug(bench: Bench):
    """The step and the attempt fail, and the fault is ours; no step may follow."""
    step = Step(name="a", script="x", continue_on_failure=True, retry_count=2)
    finished = await bench.run(assignment(step, "b"), playing([Say(b"x"), Die("power cut")]))
    assert (finished.outcome, finished.failure.failure_class) == (Outcome.FAILED, "platform_bug")
    assert "power cut" in bench.steps()[0].reason
    assert len(bench.steps()) == 1


async def test_a_command_that_cannot_start_fails_the_step(bench: Bench):
    """The reason is passed on."""
    finished = await bench.run(assignment("a"), playing([Refuse("sh could not be started: no such file")]))
    assert finished.exit_code is None
    assert "could not be started" in finished.failure.reason


async def test_a_kill_from_elsewhere_may_pass(bench: Bench):
    """SIGKILL that nobody here sent is worth another attempt."""
    finished = await bench.run(assignment("a"), playing([End(None, "SIGKILL")]))
    assert finished.failure.failure_class == "transient"


@pytest.mark.parametrize("body", [b"junk" * 200, None])
async def test_a_source_that_cannot_be_had_fails_the_attempt(bench: Bench, body: bytes | None):
    """A missing or hostile snapshot is told with its reason, and no step runs."""
    digest = bench.blobs.put_bytes(body) if body else "sha256:" + "0" * 64
    finished = await bench.run(assignment("a", source_digest=digest), playing())
    assert bench.types() == ["job.preparing", "attempt.finished"]
    assert finished.failure.failure_class == ("caller_fixable" if body else "transient")
    assert digest in finished.failure.reason


async def test_output_that_cannot_be_stored_does_not_change_the_outcome(bench: Bench, tmp_path: Path):
    """The work is done; that its output was lost is said."""
    (tmp_path / "blobs").write_text("not a folder")
    finished = await bench.run(assignment("a"), playing([Say(b"hello"), End(0)]))
    assert (finished.outcome, finished.output) == (Outcome.SUCCEEDED, None)
    assert "output was lost" in finished.reason


async def test_a_flood_beyond_the_limit_is_cut_and_said(bench: Bench):
    """The job goes on; the output says where it ends."""
    bench.tools = msgspec.structs.replace(bench.tools, kept_bytes_max=100_000)
    finished = await bench.run(assignment("a"), playing([Flood(1_000_000), End(0)]))
    assert finished.outcome is Outcome.SUCCEEDED
    assert finished.output.truncated
    assert len(bench.printed(finished, "out")) == 100_000


async def test_work_that_outlived_its_lease_is_given_up(bench: Bench):
    """An attempt that was killed for want of a lease has not failed: the coordinator gives it to someone else."""
    executor = playing([Say(b"ready\n"), Hang(stubborn=True)])
    executor.renew(0.05)
    finished = await bench.run(assignment(Step(name="a", script="x", retry_count=3)), executor)
    assert (finished.outcome, finished.failure, finished.reason) == (Outcome.CANCELLED, None, LEASE_OVER)


@pytest.mark.parametrize("leave", ["mkfifo", "mkdir", "ln -s /dev/null", "touch"])
async def test_what_a_step_leaves_in_the_way_is_moved_aside(bench: Bench, host: HostExecutor, leave: str):
    """A pipe, folder or link where the next step's files belong neither holds up the runner nor is written to."""
    traps = [f"{leave} ../step/1-1.{end}" for end in ("env", "path")] + [
        f"{leave} ../step/1.sh ",
        f"{leave} ../output.jsonl",
    ]
    async with asyncio.timeout(20):
        finished = await bench.run(assignment("\n".join(traps), 'echo A=1 > "$HEADWAY_ENV"', "echo A=$A"), host)
    assert (finished.outcome, bench.printed(finished)) == (Outcome.SUCCEEDED, "A=1\n")


@pytest.mark.parametrize("change", ["rm X; mkfifo X", "rm X; ln -s /etc/passwd X", "rm X", "echo forged >> X"])
async def test_output_that_a_job_tampered_with_is_lost_and_said(bench: Bench, host: HostExecutor, change: str):
    """What lies where the output was written is not taken for it, nor waited for."""
    async with asyncio.timeout(20):
        finished = await bench.run(assignment("echo hello", change.replace("X", "../output.jsonl")), host)
    assert (finished.outcome, finished.output) == (Outcome.SUCCEEDED, None)
    assert "output was lost: the job changed" in finished.reason


@pytest.mark.parametrize(("job_seconds", "seconds"), [(0, 3600), (7200, 7200)])
async def test_a_step_may_take_what_is_left_of_its_job(bench: Bench, job_seconds: int, seconds: int):
    """A step that says nothing has no time-out of its own; a job that says nothing has an hour."""
    executor = playing([End(0)])
    await bench.run(assignment("a", timeout_seconds=job_seconds), executor)
    [command] = executor.commands
    assert seconds - 60 < command.timeout_seconds <= seconds


async def test_git_in_a_job_finds_no_repository_around_the_runner(bench: Bench, host: HostExecutor):
    """The runner's folder may lie in someone's repository; that one is not the job's."""
    await asyncio.to_thread(subprocess.run, ["git", "init", "-q", str(bench.folder)], check=True)
    finished = await bench.run(assignment("git rev-parse --show-toplevel && exit 1; git init -q; git status -s"), host)
    assert finished.outcome is Outcome.SUCCEEDED
    assert "not a git repository" in bench.printed(finished, "err")
