"""`headway backup` and `headway restore` at the edges: what they ask, what they refuse, what they leave behind."""

import fcntl
import os
import signal
import threading
from pathlib import Path

import pytest

from tests.cli.conftest import Headway
from tests.cli.fake_service import DIE, END, FakeService, data
from tests.cli.test_backup_archive import member, rewritten, written

TOLD = {
    "bytes": 20480,
    "as_of": 23,
    "created": "2026-01-31T12:00:00.000000Z",
    "blobs": 1,
    "damaged_blobs": [],
    "streams": {},
}


def test_it_shows_how_far_it_is_and_what_it_made(headway: Headway, service: FakeService) -> None:
    """Progress on stderr, one line of data; the service is given an absolute path."""
    file = str(headway.cwd / "b.tar")
    begun = [data(partial=f"{file}.partial-1"), {"progress": "log: 1 of 2"}, {"progress": "blobs: 1, 2 B"}]
    service.scripts["backup"] = [[*begun, data(file=file, **TOLD), END]] * 2
    done = headway("backup", "b.tar")
    assert (done.code, done.out) == (0, f"{file}: 23 events, 1 blob, 20.0 KiB\n"), done.err
    assert done.err == "log: 1 of 2\nblobs: 1, 2 B\n"
    assert headway("backup", "./b.tar", "--force", "--json").json == {"file": file, **TOLD}
    asked = [(one["file"], one["force"]) for one in service.requests if one["op"] == "backup"]
    assert asked == [(file, False), (file, True)]


def test_damaged_blobs_are_named(headway: Headway, service: FakeService) -> None:
    """They are in the backup, and whoever made it knows."""
    found = {**TOLD, "damaged_blobs": ["sha256:ab"]}
    service.scripts["backup"] = [[data(partial="/p"), data(file="/b.tar", **found), END]]
    assert "warning: sha256:ab is damaged and was kept as it is\n" in headway("backup", "b.tar").err


def test_a_service_that_dies_in_the_middle_is_said_and_leaves_nothing(headway: Headway, service: FakeService) -> None:
    """What it had written is removed, and it is not begun again behind the user's back."""
    left = headway.cwd / "b.tar.partial-1"
    left.write_text("half")
    service.scripts["backup"] = [[data(partial=str(left)), DIE]]
    done = headway("backup", "b.tar")
    file = headway.cwd / "b.tar"
    assert (done.code, done.out) == (5, "")
    assert f"the service went away while it wrote the backup; there is no {file} of it; run the command" in done.err
    assert os.listdir(headway.cwd) == []


def test_a_service_that_leaves_before_it_began_is_asked_again(headway: Headway, service: FakeService) -> None:
    """Nothing has happened yet, so nobody need know."""
    service.scripts["backup"] = [[DIE], [data(partial="/p"), data(file="/b.tar", **TOLD), END]]
    assert headway("backup", "b.tar").code == 0


def test_ctrl_c_leaves_nothing_behind(headway: Headway, service: FakeService) -> None:
    """The half file goes with the command, whose exit code says why."""
    left = headway.cwd / "b.tar.partial-1"
    left.write_text("half")
    over = threading.Event()
    told = {"progress": "log: 1 of 2"}
    service.scripts["backup"] = [[data(partial=str(left)), told, lambda _: END if over.wait(30) else None]]
    process = headway.start("backup", "b.tar")
    assert process.stderr
    assert process.stderr.readline() == b"log: 1 of 2\n"
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=30)
    over.set()
    assert (process.returncode, out, os.listdir(headway.cwd)) == (130, b"", [])


@pytest.mark.parametrize("name", ["", "folder/"])
def test_a_name_that_is_no_file_is_a_mistake(headway: Headway, name: str) -> None:
    """It is said before anything is started."""
    done = headway("backup", name)
    assert (done.code, done.err) == (2, f"error: {name!r} is not the name of a file; see 'headway backup --help'\n")


def entries(folder: Path) -> list[str]:
    """Everything below a folder."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def test_a_snapshot_that_the_server_does_not_take_restores_nothing(headway: Headway, tmp_path: Path) -> None:
    """All checksums are right, and the log is no log: the home is not even made."""
    file = written(tmp_path / "b.tar")
    home = tmp_path / "elsewhere"
    done = headway("restore", str(file), HEADWAY_HOME=str(home))
    assert (done.code, done.out) == (5, "")
    assert "error: the log could not be restored: " in done.err
    assert not home.exists()


def test_a_hostile_file_leaves_the_home_as_it_was(headway: Headway, home: Path, tmp_path: Path) -> None:
    """What came before the bad member is gone again, and nothing is outside."""
    (home / "config.yml").write_text("slots: 1\n")
    file = rewritten(written(tmp_path / "b.tar"), lambda found: found.insert(-1, member("../x")))
    before = entries(tmp_path)
    done = headway("restore", str(file))
    assert (done.code, done.out) == (3, "")
    assert "it holds '../x', which no backup has; use another copy of this backup, or another backup" in done.err
    assert set(entries(tmp_path)) - set(before) <= {"home/service.lock"}


@pytest.mark.parametrize("name", ["nats", "blobs", "runners", "projections"])
def test_a_home_with_state_is_refused(headway: Headway, home: Path, tmp_path: Path, name: str) -> None:
    """It names the folder, and what to do; an empty folder is no state."""
    (home / name).mkdir()
    file = written(tmp_path / "b.tar")
    assert headway("restore", str(file)).code == 5  # the server does not take what the test wrote
    (home / name / "kept").touch()
    done = headway("restore", str(file))
    next_step = "set HEADWAY_HOME to a new folder, or move the old one away"
    assert (done.code, done.err) == (3, f"error: there is state already: {home / name}; {next_step}\n")
    assert (home / name / "kept").exists()


def test_what_a_restore_cut_off_at_its_end_left_is_told_from_a_home_in_use(
    headway: Headway, home: Path, tmp_path: Path
) -> None:
    """The log comes last: blobs without one, beside the folder of a restore, are of no use to anybody."""
    (home / "blobs").mkdir()
    (home / "blobs" / "identity").touch()
    (home / ".restoring-dead").mkdir()
    done = headway("restore", str(written(tmp_path / "b.tar")))
    assert (done.code, done.err.partition(";")[0]) == (
        3,
        f"error: a restore was cut off when it was almost done, and left {home / 'blobs'}",
    )


def test_a_home_in_which_a_service_runs_is_refused(headway: Headway, home: Path, tmp_path: Path) -> None:
    """It says how to stop it."""
    with (home / "service.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        done = headway("restore", str(written(tmp_path / "b.tar")))
    assert (done.code, done.err) == (3, f"error: a service is running in {home}; stop it with 'headway down'\n")


def test_blobs_elsewhere_are_not_mixed_with_others(headway: Headway, tmp_path: Path) -> None:
    """The folder that the configuration names must be empty too."""
    other = tmp_path / "other"
    other.mkdir()
    (other / "identity").touch()
    done = headway("restore", str(written(tmp_path / "b.tar")), HEADWAY_BLOBS=str(other))
    assert done.code == 3
    assert f"error: the folder {other}, which is to hold the blobs, is not empty; move it away" in done.err
    assert entries(other) == ["identity"]


def test_a_member_too_large_for_what_it_is_is_refused(headway: Headway, tmp_path: Path) -> None:
    """A configuration of megabytes is none."""
    file = rewritten(written(tmp_path / "b.tar"), lambda found: found.insert(1, member("config.yml", bytes(2 << 20))))
    assert "config.yml is larger than any backup has it" in headway("restore", str(file)).err
