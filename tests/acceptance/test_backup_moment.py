"""What a backup may not miss while it is made, and what it may not take from the log."""

from __future__ import annotations

import os
import signal
import uuid
from pathlib import Path

from tests.acceptance.product import Product, alive
from tests.acceptance.small_disk import fill_disk, on_its_own_disk
from tests.waiting import freeze, wait_until

ONE = "name: one\njobs:\n  build:\n    steps: [echo hello]\n"
MIB = 1 << 20


def partials(file: Path) -> list[Path]:
    """The backup while it is made."""
    return list(file.parent.glob(f"{file.name}.partial-*"))


def test_what_is_answered_while_the_log_is_copied_is_in_the_backup(product: Product, tmp_path: Path) -> None:
    """A runner's report that waits when the backup begins is in it, though it goes before the log's copy is made."""
    product.write(ONE)
    product.ok("run")
    spooled = product.home / "runners" / "far" / "spool" / str(uuid.UUID(int=7))
    spooled.parent.mkdir(parents=True)
    spooled.write_bytes(b"r" * (3 * MIB))
    file = tmp_path / "b.tar"
    freeze(server := product.server_pid())
    try:
        making = product.start("backup", str(file))
        wait_until(lambda: any(one.stat().st_size > 2 * MIB for one in partials(file)), what="the report is copied")
        spooled.unlink()  # as its runner does when it has the answer, which is on the log then
    finally:
        os.kill(server, signal.SIGCONT)
    out, errors = making.communicate(timeout=60)
    assert making.returncode == 0, out + errors
    second = Product(product.project, home=tmp_path / "second")
    second.ok("restore", str(file))
    assert (second.home / "runners" / "far" / "spool" / spooled.name).read_bytes() == b"r" * (3 * MIB)


def test_a_backup_on_the_logs_disk_leaves_the_log_its_room(tmp_path: Path) -> None:
    """It would fit, but hardly anything else would: it is given up, and the log goes on."""
    on_its_own_disk(backup_on_the_same_disk, tmp_path / "disk", options="size=192m")


def backup_on_the_same_disk(disk: Path) -> None:
    """A backup of 40 MiB where 60 are free, then where 100 are."""
    product = Product(disk.parent, home=disk / "home")
    try:
        product.write(ONE)
        product.ok("run")
        blob = product.home / "blobs" / "sha256" / "ff" / f"{0:062x}"
        blob.parent.mkdir(parents=True, exist_ok=True)
        with blob.open("wb") as hole:
            hole.truncate(40 * MIB)  # nothing on the disk, until it is copied
        filler = fill_disk(disk, leave_bytes=60 * MIB)
        file = disk / "b.tar"
        said = product.fails(5, "backup", str(file))
        assert f"error: the disk of {disk} is full; nothing of the backup was kept; free some space there" in said
        assert (partials(file), file.exists(), alive(product.service_pid())) == ([], False, True)
        product.ok("run")
        filler.unlink()
        fill_disk(disk, leave_bytes=100 * MIB)
        product.ok("backup", str(file))
        assert file.stat().st_size > 40 * MIB
    finally:
        product.close()
