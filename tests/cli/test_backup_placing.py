"""The last step of a restore: everything gets to its place, or nothing does."""

from pathlib import Path

import pytest

from headway.cli.claiming import claimed
from headway.cli.placing import Place
from headway.core.errors import RefusedError


def unpacked(home: Path) -> Place:
    """Two files on their way into a home."""
    home.mkdir()
    place = Place(home)
    place.make()
    for name in ("blobs/sha256/ab/c", "nats/store"):
        assert sum(place.write(name, iter([b"12", b"345"]))) == 5
    return place


def test_everything_gets_to_its_place(tmp_path: Path) -> None:
    """What there is is moved, also over an empty folder; what there is not is passed over; nothing else is left."""
    home = tmp_path / "home"
    place = unpacked(home)
    (home / "nats").mkdir()
    place.sync()
    place.settle([("blobs", tmp_path / "far" / "blobs"), ("runners", home / "runners"), ("nats", home / "nats")])
    place.clear()
    assert (tmp_path / "far" / "blobs" / "sha256" / "ab" / "c").read_bytes() == b"12345"
    assert [path.name for path in home.rglob("*")] == ["nats", "store"]


def test_a_part_that_has_no_place_takes_the_others_back(tmp_path: Path) -> None:
    """The first one was moved already; the home is as it was."""
    home = tmp_path / "home"
    place = unpacked(home)
    (home / "nats").mkdir()
    (home / "nats" / "taken").touch()
    with pytest.raises(OSError, match="not empty"):
        place.settle([("blobs", home / "blobs"), ("nats", home / "nats")])
    place.clear()
    assert sorted(str(path.relative_to(home)) for path in home.rglob("*")) == ["nats", "nats/taken"]


def test_a_file_is_written_once(tmp_path: Path) -> None:
    """A second one of that name, or one through a link, is an error: nothing is ever overwritten."""
    place = unpacked(tmp_path / "home")
    (place.folder / "config.yml").symlink_to(tmp_path / "outside")
    for name in ("nats/store", "config.yml"):
        with pytest.raises(FileExistsError):
            list(place.write(name, iter([b"x"])))
    assert not (tmp_path / "outside").exists()
    assert (place.folder / "blobs/sha256/ab/c").stat().st_mode & 0o777 == 0o400


def test_a_restore_that_was_killed_at_its_very_end_is_told_from_one_cut_off_before(tmp_path: Path) -> None:
    """With everything in its place the home is restored; while the last part is missing it is not."""
    home = tmp_path / "home"
    place = unpacked(home)
    parts = [("blobs", home / "blobs"), ("runners", home / "runners"), ("nats", home / "nats")]
    place.settle(parts)  # and no `clear`
    words = rf"{home} is restored already: the restore was cut off when everything was in its place"
    with pytest.raises(RefusedError, match=words) as refused, claimed(home):
        pass
    assert refused.value.next.startswith("use it as it is; for another restore, set HEADWAY_HOME")
    (home / "nats").rename(place.folder / "nats")
    words = f"was cut off when it was almost done, and left {home / 'blobs'}"
    with pytest.raises(RefusedError, match=words), claimed(home):
        pass


def test_a_restore_that_was_taken_back_is_not_said_to_be_whole(tmp_path: Path) -> None:
    """The last part had no place; whatever is left of that restore claims nothing."""
    home = tmp_path / "home"
    place = unpacked(home)
    (home / "nats").mkdir()
    (home / "nats" / "taken").touch()
    with pytest.raises(OSError, match="not empty"):
        place.settle([("blobs", home / "blobs"), ("nats", home / "nats")])
    with pytest.raises(RefusedError, match=f"there is state already: {home / 'nats'}"), claimed(home):
        pass
    place.clear()
