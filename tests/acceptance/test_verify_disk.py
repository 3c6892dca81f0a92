"""Verification on a disk with little room: what was not checked is not said to be well, and the log keeps its room."""

from __future__ import annotations

import json
from pathlib import Path

from tests.acceptance.product import Product
from tests.acceptance.small_disk import fill_disk, on_its_own_disk


def test_what_a_full_disk_keeps_from_being_checked_is_not_well(tmp_path: Path) -> None:
    """With too little room for second tables the rows are not checked: the line and the exit code say so."""
    on_its_own_disk(verify_on_a_full_disk, tmp_path / "disk")


def verify_on_a_full_disk(disk: Path) -> None:
    """Leave the log its room and no more; verify, make again, and make room."""
    product = Product(disk.parent, home=disk / "home")
    product.write("name: one\njobs:\n  build:\n    steps:\n      - script: echo hello\n")
    product.ok("run")
    filler = fill_disk(disk, leave_bytes=24 << 20)
    for words in (("verify", "--all"), ("projections", "verify")):
        done = product.run(*words)
        assert done.returncode == 5, done.stdout + done.stderr
        [line] = [line for line in done.stdout.splitlines() if line.startswith("tables")]
        assert line.endswith("  not checked")
        assert "not checked: the rows: no space is left" in done.stdout
        assert json.loads(product.run(*words, "--json").stdout)["incomplete"] == ["tables"]
    assert "no space is left" in product.fails(5, "projections", "rebuild")
    assert [one.name for one in (product.home / "projections").iterdir() if "ing" in one.name] == []
    filler.unlink()
    assert product.json("verify", "--all")["ok"]
    product.close()
