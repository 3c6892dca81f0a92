"""The live view, seen on a terminal; and the same as plain lines."""

from typing import Any

from headway.cli.live import LiveView
from headway.cli.plain import PlainView
from headway.cli.render import Paint
from tests.cli.fake_service import event
from tests.cli.screen import Screen

MIDNIGHT = 1769817600.0


class Watched:
    """A view on a screen, with a clock that moves when told to."""

    def __init__(self, columns: int = 80, rows: int = 24, *, colour: bool = False) -> None:
        self.screen = Screen(columns, rows)
        self.now = MIDNIGHT
        self.view = LiveView(
            self.screen.write, Paint(colour), size=self.screen.size, symbols=True, wall=lambda: self.now
        )

    def run(self, *jobs: str) -> None:
        self.view.accepted({"run": "r1", "pipeline": "hello", "jobs": len(jobs), "job_names": list(jobs)})
        self.happens(event(1, "run.admitted", run="r1", pipeline="hello", jobs=len(jobs)))

    def happens(self, *events: dict[str, Any]) -> None:
        for one in events:
            self.view.event(one["data"]["event"])

    def look(self, at: float, *, resized: bool = False) -> list[str]:
        """What is on the screen after a tick so many seconds after midnight."""
        self.now = MIDNIGHT + at
        self.view.tick(resized=resized)
        return self.screen.text()


def started(seq: int, job: str) -> list[dict[str, Any]]:
    """A job that executes."""
    return [
        event(seq, "job.assigned", job=job, attempt=1, runner="local-1"),
        event(seq + 1, "job.executing", job=job, attempt=1),
        event(seq + 2, "step.started", job=job, attempt=1, step=0, name="pytest"),
    ]


def test_a_line_per_job_and_one_for_the_whole() -> None:
    """State in words, elapsed time, where it runs; below the counts."""
    watched = Watched()
    watched.run("build", "deploy")
    watched.happens(event(2, "job.admitted", job="deploy", depends_on=["build"]), *started(3, "build"))
    lines = watched.look(8)
    assert lines[0] == "hello  r1"
    assert lines[1].split()[1:] == ["build", "running", "5.0s", "local-1", "pytest"]
    assert lines[2].split() == ["·", "deploy", "pending", "after", "build"]
    assert lines[3].endswith(" 0/2  1 running  1 pending  7.0s")


def test_a_running_job_keeps_time_and_only_its_lines_are_written() -> None:
    """Every frame is one write, and lines that did not change are not in it."""
    watched = Watched()
    watched.run("build", "other")
    watched.happens(*started(2, "build"))
    watched.look(5)
    before = len(watched.screen.writes)
    lines = watched.look(6)
    assert " 4.0s " in lines[1]
    assert len(watched.screen.writes) == before + 1
    assert "other" not in watched.screen.writes[-1]
    watched.view.tick()
    assert len(watched.screen.writes) == before + 1, "no frame before it is due"


def test_what_fails_is_told_above_the_frame_for_good() -> None:
    """The failure and its last lines stay where they can be read and scrolled to."""
    watched = Watched(rows=8)
    watched.run("build")
    watched.happens(
        *started(2, "build"),
        event(6, "step.finished", job="build", attempt=1, step=0, name="pytest", outcome="failed", exit_code=1),
        event(7, "job.completed", job="build", attempt=1, outcome="failed", exit_code=1),
    )
    watched.view.output("build", ["E  assert 1 == 2\x1b[2J", "1 failed"])
    watched.happens(event(8, "run.completed", run="r1", outcome="failed", jobs=1))
    watched.view.close()
    found = watched.screen.everything()
    assert found[:3] == [
        "build: failed in 5.0s: step 'pytest' exited with code 1",
        "  | E  assert 1 == 2",
        "  | 1 failed",
    ]
    assert found[-2].split()[:3] == ["✗", "build", "failed"]
    assert found[-1].endswith(" 1/1  1 failed  7.0s")


def test_a_thousand_jobs_fit_the_terminal() -> None:
    """Never more lines than the terminal has: what runs and what failed comes first, the rest is counted."""
    watched = Watched(60, 12)
    watched.run(*(f"job{number}" for number in range(1000)))
    watched.happens(*started(2, "job700"))
    lines = watched.look(6)
    assert len(lines) < 12
    assert watched.screen.history == []
    assert any("job700  running" in line for line in lines)
    assert lines[-2].strip() == f"... and {1000 - 7} more jobs"
    assert max(map(len, lines)) < 60
    for at in range(7, 20):
        watched.look(at)
    assert watched.screen.history == []


def test_a_tiny_terminal_is_enough() -> None:
    """Two rows and ten columns show something and break nothing."""
    watched = Watched(10, 2)
    watched.run("build", "test")
    watched.happens(*started(2, "build"))
    assert len(watched.look(6)) == 1
    assert watched.screen.history == []


def test_a_new_size_is_drawn_anew() -> None:
    """After a resize the frame is whole, cut to the new width."""
    watched = Watched(80, 24)
    watched.run("build")
    watched.happens(*started(2, "build"))
    watched.look(5)
    watched.screen.columns = 40
    watched.screen.rows = [""] * 24
    watched.screen.row = 6  # where a terminal that wrapped the old frame leaves the cursor
    lines = [line for line in watched.look(6, resized=True) if line]
    assert lines[0] == "hello  r1"
    assert max(map(len, lines)) < 40


def test_hostile_names_cannot_break_the_frame() -> None:
    """A job, step or runner name with escapes and line ends is one line like any other."""
    watched = Watched()
    watched.run("evil\x1b[10A\nname")
    watched.happens(event(2, "job.assigned", job="evil\x1b[10A\nname", attempt=1, runner="r\x1b]0;x\x07"))
    assert watched.look(5)[1].split()[1:5] == ["evil", "name", "running", "3.0s"]


def test_a_second_attempt_is_told() -> None:
    """What was lost, and that it is tried again."""
    watched = Watched()
    watched.run("build")
    watched.happens(
        *started(2, "build"),
        event(6, "job.lost", job="build", attempt=1, runner="local-1", reason="silent"),
        event(7, "job.queued", job="build", attempt=2, reason="lost"),
    )
    lines = watched.look(8)
    assert lines[0] == "build: attempt 1 was lost: silent"
    assert lines[2].split()[1:3] == ["build", "retry"]
    assert lines[2].endswith("attempt 2")


def test_nothing_is_drawn_before_the_run_is_there() -> None:
    """Until the service has taken the run, others may write progress."""
    watched = Watched()
    assert watched.look(1) == []
    watched.view.note("the service went away; starting it again")
    assert watched.look(2) == ["the service went away; starting it again"]


def test_colours_are_put_around_whole_texts() -> None:
    """With colour the same frame has the same widths."""
    plain, painted = Watched(colour=False), Watched(colour=True)
    for one in (plain, painted):
        one.run("build")
        one.happens(*started(2, "build"))
    assert plain.look(5) == painted.look(5)
    assert "\x1b[36m" in painted.screen.writes[-1]


def test_plain_lines_tell_each_change_once() -> None:
    """Off a terminal: started, ended with status and time, the output of what failed."""
    written: list[str] = []
    view = PlainView(written.append, Paint(False))
    view.accepted({"run": "r1", "pipeline": "hello", "jobs": 2, "job_names": ["build", "test"]})
    twice = started(2, "build")
    for one in [
        event(1, "run.admitted", run="r1", pipeline="hello", jobs=2),
        *twice,
        *twice,
        event(6, "job.completed", job="build", attempt=1, outcome="failed", exit_code=3),
        event(7, "job.completed", job="test", attempt=1, outcome="skipped", reason="build failed"),
    ]:
        view.event(one["data"]["event"])
    view.output("build", ["boom"])
    assert written == [
        "[   0.0s] run r1 of hello admitted: 2 jobs\n",
        "[   2.0s] build: running on local-1\n",
        "[   5.0s] build: failed in 4.0s: exited with code 3\n",
        "[   6.0s] test: skipped: build failed\n",
        "  build | boom\n",
    ]
