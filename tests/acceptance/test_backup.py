"""A backup of the real service while it works, restored to another home: the same history, and it goes on."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.acceptance.product import Product, alive, processes_with
from tests.acceptance.small_disk import fill_disk, on_its_own_disk
from tests.core.nats_fixture import NatsServer
from tests.waiting import freeze, wait_until

ONE = "name: one\njobs:\n  build:\n    steps: [echo hello]\n"
UNTIL_TOLD = 'echo waiting; until [ -e "{gate}" ]; do sleep 0.05; done'
BUSY = {"jobs": {f"j{at}": {"steps": ["for i in 1 2 3 4 5; do echo $i; sleep 0.05; done"]} for at in range(12)}}


@pytest.fixture
def gate(tmp_path: Path) -> Path:
    """The file that unfinished jobs wait for."""
    return tmp_path / "gate"


@pytest.fixture
def second(product: Product, tmp_path: Path) -> Iterator[Product]:
    """The same project in a home that is not there yet."""
    folder = tmp_path / "second"
    folder.mkdir()
    found = Product(folder)
    found.project.rmdir()
    found.project = product.project
    yield found
    found.close()


def unfinished(product: Product, gate: Path) -> str:
    """A run whose one job executes until the gate opens."""
    product.write(json.dumps({"name": "gated", "jobs": {"wait": {"steps": [UNTIL_TOLD.format(gate=gate)]}}}))
    run = product.submit()
    wait_until(lambda: product.json("jobs", "--state", "executing")["jobs"], what="the job executes")
    return run


def lines(product: Product, as_of: int, *, run: str = "") -> list[str]:
    """Events up to a sequence, as `headway tail --json` prints them."""
    printed = product.ok("tail", *([run] if run else []), "--from", "start", "--no-follow", "--json")
    return [line for line in printed.splitlines() if json.loads(line)["seq"] <= as_of]


def left_of(file: Path) -> list[str]:
    """What lies beside a backup that could be a part of it."""
    return [name for name in os.listdir(file.parent) if name.startswith(file.name)]


def test_a_backup_of_a_busy_service_is_restored_elsewhere(
    product: Product, second: Product, gate: Path, tmp_path: Path
) -> None:
    """Up to `as_of` every event is byte for byte the same, and the unfinished runs end there as they do here."""
    product.write(ONE)
    done = product.submit()
    product.ok("wait", done)
    going = unfinished(product, gate)
    product.write(json.dumps(BUSY))
    busy = product.submit()
    file = tmp_path / "b.tar"
    made = product.json("backup", str(file))
    assert (file.stat().st_mode & 0o777, file.stat().st_size) == (0o600, made["bytes"])
    assert made["streams"]["HEADWAY"]["last_seq"] == made["as_of"]
    assert left_of(file) == [file.name]
    product.run("wait", busy)

    told = second.json("restore", str(file))
    assert {key: told[key] for key in ("as_of", "created", "blobs", "streams")} == {
        key: made[key] for key in ("as_of", "created", "blobs", "streams")
    }
    assert processes_with(second.home) == []
    assert {one["run"] for one in second.json("runs")["runs"]} == {done, going, busy}
    assert lines(second, made["as_of"]) == lines(product, made["as_of"])
    assert len(lines(second, made["as_of"])) > 20
    assert second.json("show", done)["jobs"] == product.json("show", done)["jobs"]
    assert second.ok("logs", done) == product.ok("logs", done)

    gate.touch()
    for home in (product, second):
        home.ok("wait", going, busy)
        assert home.json("show", going)["run"]["outcome"] == "succeeded"
        assert {job["job"] for job in home.json("show", busy)["jobs"]} == {f"j{at}" for at in range(12)}
    assert second.run("verify", "--all").returncode == 0
    events = second.events(going)
    assert [event["type"] for event in events].count("job.lost") == 1
    assert second.ok("run", "--json", "headway.yml")


def test_the_file_holds_what_is_needed_and_no_secrets(product: Product, tmp_path: Path) -> None:
    """Log, output, configuration, blobs and runners; no passwords, tables, locks or workspaces."""
    product.home.mkdir()
    (product.home / "config.yml").write_text("slots: 2\nblobs: kept/blobs\n")
    product.write(ONE)
    product.ok("run")
    file = tmp_path / "b.tar"
    product.ok("backup", str(file))
    with tarfile.open(file) as tar:
        names = tar.getnames()
        everything = b"".join(found.read() for info in tar if (found := tar.extractfile(info)))
    reports = [name for name in names if name.startswith("runners/")]
    assert "runners/local/incarnations" in reports
    assert {name for name in reports if "/spool/" not in name} == {"runners/local/incarnations"}
    assert names[: len(reports) + 1] == ["manifest.json", *reports], (
        "what was still to be reported is older than the log"
    )
    streams = [*(f"streams/{name}.snapshot" for name in ("HEADWAY", "HEADWAY_OUTPUT")), "streams.json"]
    rest = [name for name in names[len(reports) + 1 :] if not name.startswith("blobs/sha256/")]
    assert rest == [*streams, "config.yml", "blobs/identity", "checksums.json"]
    assert names[-1] == "checksums.json"
    blobs = {str(path.relative_to(product.home / "kept")) for path in product.home.glob("kept/blobs/sha256/*/*")}
    assert {name for name in names if name.startswith("blobs/sha256/")} == blobs != set()
    record = json.loads((product.home / "nats" / "endpoint.json").read_text())
    assert all(record[name].encode() not in everything for name in record if name.endswith("password"))


def test_a_configuration_comes_along_and_one_that_is_there_stays(
    product: Product, second: Product, tmp_path: Path
) -> None:
    """Blobs go where the configuration says; a home that has one keeps it, and that is said."""
    product.home.mkdir()
    (product.home / "config.yml").write_text("blobs: kept/blobs\n")
    product.write(ONE)
    run = product.submit()
    product.ok("wait", run)
    file = tmp_path / "b.tar"
    product.ok("backup", str(file))
    second.ok("restore", str(file))
    assert (second.home / "kept" / "blobs" / "identity").exists()
    assert second.ok("logs", run) == product.ok("logs", run)
    second.ok("down")
    shutil.rmtree(second.home)
    second.home.mkdir()
    elsewhere = tmp_path / "elsewhere"
    (second.home / "config.yml").write_text(f"blobs: {elsewhere}\n")
    said = second.run("restore", str(file)).stderr
    assert f"{second.home / 'config.yml'} is there and stays; the backup's is not used\n" in said
    assert (elsewhere / "identity").exists()
    assert second.ok("logs", run) == product.ok("logs", run)


def test_a_file_that_is_there_is_replaced_only_with_force(product: Product, tmp_path: Path) -> None:
    """Refused with 3, untouched; with --force it is a backup."""
    file = tmp_path / "b.tar"
    file.write_text("mine")
    assert product.fails(3, "backup", str(file)).startswith(f"error: {file} is there already; name another file, or")
    assert (file.read_text(), left_of(file)) == ("mine", [file.name])
    product.ok("backup", "--force", str(file))
    assert tarfile.is_tarfile(file)
    assert product.fails(2, "backup", str(tmp_path)) == f"error: {tmp_path} is a folder; name a file in it\n"
    nowhere = tmp_path / "none" / "b.tar"
    assert product.fails(2, "backup", str(nowhere)).startswith(f"error: cannot write {nowhere}: no such file or")


def test_a_damaged_backup_changes_nothing(product: Product, second: Product, tmp_path: Path) -> None:
    """Changed in the log, cut in half, or restored over a home that is in use: refused, and nothing is left."""
    product.write(ONE)
    product.ok("run")
    file = tmp_path / "b.tar"
    product.ok("backup", str(file))
    whole = file.read_bytes()
    with tarfile.open(file) as tar:
        place = tar.getmember("streams/HEADWAY.snapshot").offset_data + 300
    file.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
    assert "streams/HEADWAY.snapshot is damaged: its bytes are not" in second.fails(3, "restore", str(file))
    file.write_bytes(whole[: len(whole) // 2])
    assert "cannot be restored: it is cut short" in second.fails(3, "restore", str(file))
    assert not second.home.exists()
    file.write_bytes(whole)
    assert "a service is running in" in product.fails(3, "restore", str(file))
    product.ok("down")
    assert f"there is state already: {product.home / 'nats'}; set HEADWAY_HOME" in product.fails(
        3, "restore", str(file)
    )
    assert not list(product.home.glob(".restoring-*"))


def with_much_to_copy(product: Product, *, count: int = 3, bytes_each: int = 1 << 30) -> None:
    """A store whose copying takes long enough for something to come between."""
    product.write(ONE)
    product.ok("run")
    folder = product.home / "blobs" / "sha256" / "ff"
    folder.mkdir(parents=True)
    for at in range(count):
        with (folder / f"{at:062x}").open("wb") as file:
            file.truncate(bytes_each)  # holes: nothing on the disk, much to hash


def begun(product: Product, file: Path) -> bool:
    """Whether some of the blobs are in the backup that is being made."""
    partial = [file.parent / name for name in left_of(file)]
    return any(one.stat().st_size > 1 << 22 for one in partial)


def test_kill_of_the_service_in_the_middle_leaves_no_file(product: Product, tmp_path: Path) -> None:
    """The command says so and ends with 5; nothing of the file is left, not even half of it."""
    with_much_to_copy(product)
    file = tmp_path / "b.tar"
    making = product.start("backup", str(file))
    wait_until(lambda: begun(product, file), what="the backup has begun")
    assert product.kill(product.service_pid())
    out, errors = making.communicate(timeout=60)
    assert (making.returncode, out) == (5, "")
    assert f"the service went away while it wrote the backup; there is no {file} of it; run the command again" in errors
    assert left_of(file) == []


def test_a_service_that_is_stopped_in_the_middle_says_so(product: Product, tmp_path: Path) -> None:
    """The command is told, nothing is left, and no process stays for it."""
    with_much_to_copy(product)
    file = tmp_path / "b.tar"
    making = product.start("backup", str(file))
    wait_until(lambda: begun(product, file), what="the backup has begun")
    product.ok("down")
    out, errors = making.communicate(timeout=60)
    assert (making.returncode, out, left_of(file)) == (5, "", [])
    assert "error: the service was stopped; " in errors
    assert processes_with(product.home) == []


def test_a_log_server_that_dies_in_the_middle_is_waited_for(product: Product, second: Product, tmp_path: Path) -> None:
    """No half log is taken for a whole one: it is said, and copied again when the server is back."""
    product.write(ONE)
    run = product.submit()
    product.ok("wait", run)
    freeze(server := product.server_pid())
    file = tmp_path / "b.tar"
    making = product.start("backup", str(file))
    wait_until(lambda: left_of(file), what="the backup has begun")
    product.kill(server)
    out, errors = making.communicate(timeout=60)
    assert (making.returncode, left_of(file)) == (0, [file.name]), out + errors
    assert second.json("restore", str(file))["as_of"] >= len(product.events(run))
    assert second.events(run) == product.events(run)


def test_ctrl_c_in_the_middle_leaves_no_file_and_the_service_goes_on(product: Product, tmp_path: Path) -> None:
    """Exit code 130; the half file goes, and the same service answers."""
    with_much_to_copy(product)
    file = tmp_path / "b.tar"
    pid = product.service_pid()
    making = product.start("backup", str(file))
    wait_until(lambda: begun(product, file), what="the backup has begun")
    product.ok("run")
    assert left_of(file) not in ([], [file.name]), "runs do not wait for a backup"
    making.send_signal(signal.SIGINT)
    assert making.wait(timeout=60) == 130
    assert left_of(file) == []
    assert product.service_pid() == pid
    product.ok("down")
    assert left_of(file) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_restore_that_is_interrupted_leaves_nothing(
    product: Product, second: Product, tmp_path: Path, number: signal.Signals
) -> None:
    """Its exit code says which signal it was; the home is not there, and no process of it is."""
    with_much_to_copy(product, count=2, bytes_each=200 << 20)
    backup = tmp_path / "b.tar"
    made = product.run("backup", str(backup))
    assert made.stderr.count(" is damaged and was kept as it is\n") == 2
    restoring = second.start("restore", str(backup))
    wait_until(lambda: list(second.home.glob(".restoring-*/blobs/*/*/*")), what="the blobs are unpacked")
    restoring.send_signal(number)
    assert restoring.wait(timeout=60) == 128 + number
    assert not second.home.exists()
    wait_until(lambda: processes_with(second.home) == [], what="its server is gone")


def test_what_a_killed_restore_left_is_cleared_by_the_next(product: Product, second: Product, tmp_path: Path) -> None:
    """Its folder goes, and the restore is whole."""
    product.write(ONE)
    product.ok("run")
    file = tmp_path / "b.tar"
    product.ok("backup", str(file))
    (second.home / ".restoring-dead" / "nats").mkdir(parents=True)
    second.ok("restore", str(file))
    assert not list(second.home.glob(".restoring-*"))
    assert second.json("runs")["runs"] == product.json("runs")["runs"]


def test_an_outside_log_is_backed_up_and_restored_where_there_is_none(
    product: Product, second: Product, tmp_path: Path
) -> None:
    """With HEADWAY_NATS_URL the log goes into that server; one that has a log is refused and stays as it is."""
    servers = [NatsServer(tmp_path / name) for name in ("one", "two")]
    try:
        for server in servers:
            asyncio.run(server.start())
        for home in (product, second):
            home.environ |= {"HEADWAY_LOG_MAX_BYTES": "64MiB", "HEADWAY_OUTPUT_MAX_BYTES": "32MiB"}
        product.environ["HEADWAY_NATS_URL"] = servers[0].url
        second.environ["HEADWAY_NATS_URL"] = servers[0].url
        product.write(ONE)
        run = product.submit()
        product.ok("wait", run)
        made = product.json("backup", str(tmp_path / "b.tar"))
        refused = second.fails(3, "restore", str(tmp_path / "b.tar"))
        assert "error: the log's server has a stream HEADWAY already; give another server or account" in refused
        assert not second.home.exists()
        second.environ["HEADWAY_NATS_URL"] = servers[1].url
        second.ok("restore", str(tmp_path / "b.tar"))
        assert lines(second, made["as_of"]) == lines(product, made["as_of"])
        assert not (second.home / "nats").exists()
        second.ok("down")
        shutil.rmtree(second.home)
        del second.environ["HEADWAY_NATS_URL"]
        second.ok("restore", str(tmp_path / "b.tar"))  # and the built-in server takes it as well
        assert lines(second, made["as_of"]) == lines(product, made["as_of"])
    finally:
        product.ok("down", "--now")
        second.ok("down", "--now")
        for server in servers:
            server.stop()


def test_a_full_disk_is_said_and_nothing_is_left(tmp_path: Path) -> None:
    """The backup's own disk fills up: one sentence, and what was written is gone."""
    on_its_own_disk(backup_to_a_full_disk, tmp_path / "disk", options="size=8m")


def backup_to_a_full_disk(disk: Path) -> None:
    """The home lies elsewhere, and goes on."""
    product = Product(disk.parent)
    try:
        with_much_to_copy(product)
        fill_disk(disk, leave_bytes=2 << 20)
        said = product.fails(5, "backup", str(disk / "b.tar"))
        assert f"error: the disk of {disk} is full; nothing of the backup was kept; free some space there" in said
        assert left_of(disk / "b.tar") == []
        assert alive(product.service_pid())
    finally:
        product.close()


def test_a_restore_knows_its_disks(tmp_path: Path) -> None:
    """Blobs may lie on another disk than the home; a disk without room is said, and nothing is left on it."""
    on_its_own_disk(restore_to_a_small_disk, tmp_path / "disk", options="size=48m")


def restore_to_a_small_disk(disk: Path) -> None:
    """Once with room for it, then without."""
    product = Product(disk.parent)
    (disk.parent / "second").mkdir()
    second = Product(disk.parent / "second", home=disk / "home")
    second.environ["HEADWAY_BLOBS"] = str(disk.parent / "elsewhere" / "blobs")
    try:
        product.write(ONE)
        run = product.submit()
        product.ok("wait", run)
        file = disk.parent / "b.tar"
        made = product.json("backup", str(file))
        second.ok("restore", str(file))
        assert os.listdir(disk.parent / "elsewhere") == ["blobs"]
        assert not (second.home / "blobs").exists()
        assert lines(second, made["as_of"]) == lines(product, made["as_of"])
        assert second.ok("logs", run) == product.ok("logs", run)
        second.ok("down")
        shutil.rmtree(second.home)
        del second.environ["HEADWAY_BLOBS"]
        rooms = [16 << 10, 24 << 10, 32 << 10, 40 << 10, 48 << 10, 1 << 20]
        restored = [restores_or_leaves_nothing(second, file, room_bytes=room) for room in rooms]
        assert restored[0] is False
        assert restored[-1] is True
    finally:
        product.close()
        second.close()


def restores_or_leaves_nothing(product: Product, file: Path, *, room_bytes: int) -> bool:
    """Whether a backup fits into so much room; where it does not, that is said, and there is no home."""
    filler = fill_disk(product.home.parent, leave_bytes=room_bytes)
    done = product.run("restore", str(file))
    filler.unlink()
    if done.returncode == 0:
        shutil.rmtree(product.home)
        return True
    assert (done.returncode, done.stdout, product.home.exists()) == (5, "", False), done.stderr
    assert f"error: the disk of {product.home}" in done.stderr
    return False
