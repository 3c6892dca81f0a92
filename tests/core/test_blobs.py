"""The blob store: what is kept, what is refused, what is noticed."""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from headway.core.blobs import Blobs
from headway.core.errors import NotFoundError, RefusedError, UnavailableError
from headway.core.plan import digest_of

ABSENT = "sha256:" + "0" * 64


@pytest.fixture
def blobs(tmp_path: Path) -> Blobs:
    """An empty store."""
    return Blobs(tmp_path / "blobs")


def temporary_files(blobs: Blobs) -> list[str]:
    """What lies in the store's `tmp`."""
    return os.listdir(blobs.folder / "tmp")


def test_bytes_come_back_by_their_digest(blobs: Blobs):
    """What is put is found again, under the digest everything else uses, and only once on disk."""
    digest = blobs.put_bytes(b"hello")
    assert digest == digest_of(b"hello") == blobs.put_bytes(b"hello")
    assert blobs.get(digest) == b"hello"
    with blobs.open(digest) as source:
        assert source.read() == b"hello"
    assert blobs.has(digest)
    assert blobs.verify(digest)
    assert blobs.path(digest).relative_to(blobs.folder).parts[0] == "sha256"
    assert not temporary_files(blobs)


def test_the_empty_blob_is_a_blob(blobs: Blobs):
    """No bytes at all can be kept."""
    assert blobs.get(blobs.put_bytes(b"")) == b""


def test_a_file_is_copied_or_moved(blobs: Blobs, tmp_path: Path):
    """A file can be kept with or without staying where it was."""
    path = tmp_path / "file"
    path.write_bytes(b"x" * 3_000_000)
    assert blobs.put_file(path) == (digest_of(b"x" * 3_000_000), 3_000_000)
    assert path.exists()
    path.write_bytes(b"moved")
    digest, size = blobs.put_file(path, move=True)
    assert (blobs.get(digest), size, path.exists()) == (b"moved", 5, False)
    path.write_bytes(b"moved")
    assert blobs.put_file(path, move=True) == (digest, 5)
    assert not path.exists()


def test_a_blob_is_written_bit_by_bit(blobs: Blobs):
    """A writer keeps the whole when it finishes, and nothing when it does not."""
    with blobs.writer() as writer:
        writer.write(b"one ")
        writer.write(b"two")
        assert writer.finish() == (digest_of(b"one two"), 7)
    with blobs.writer() as writer:
        writer.write(b"dropped")
    assert not blobs.has(digest_of(b"dropped"))
    assert not temporary_files(blobs)


def test_an_absent_blob_is_said_to_be_absent(blobs: Blobs, tmp_path: Path):
    """Asking for what was never put is an error a person can act on, even before the store exists."""
    assert not blobs.has(ABSENT)
    assert not blobs.verify(ABSENT)
    for ask in (blobs.get, blobs.path, lambda digest: blobs.copy_to(digest, tmp_path / "copy")):
        with pytest.raises(NotFoundError, match="no blob"):
            ask(ABSENT)
    assert not (tmp_path / "copy").exists()


@pytest.mark.parametrize(
    "digest",
    [
        "",
        "sha256:",
        "sha256:../../etc/passwd",
        "md5:" + "0" * 64,
        "sha256:" + "A" * 64,
        ABSENT + "\n",
        ABSENT + "/../x",
    ],
)
def test_a_hostile_digest_is_refused(blobs: Blobs, digest: str):
    """A text that is not a digest never becomes a path."""
    for ask in (blobs.get, blobs.path, blobs.has, blobs.verify):
        with pytest.raises(RefusedError, match="not a digest"):
            ask(digest)


def test_a_damaged_blob_is_not_opened(blobs: Blobs):
    """Opening checks the whole blob first."""
    digest = blobs.put_bytes(b"precious")
    blobs.path(digest).chmod(0o600)
    blobs.path(digest).write_bytes(b"damaged!")
    with pytest.raises(UnavailableError, match="damaged"):
        blobs.open(digest)


@pytest.mark.parametrize("damage", [b"damaged!", b""])
def test_damaged_bytes_are_never_handed_out(blobs: Blobs, tmp_path: Path, damage: bytes):
    """A blob whose bytes changed on disk is named, moved aside, and can be put again."""
    digest = blobs.put_bytes(b"precious")
    path = blobs.path(digest)
    path.chmod(0o600)
    path.write_bytes(damage)
    assert not blobs.verify(digest)
    with pytest.raises(UnavailableError, match=digest):
        blobs.copy_to(digest, tmp_path / "copy")
    assert not (tmp_path / "copy").exists()
    assert not blobs.has(digest)
    assert [kept.read_bytes() for kept in (blobs.folder / "corrupt").iterdir()] == [damage]
    assert blobs.get(blobs.put_bytes(b"precious")) == b"precious"


def test_putting_again_heals_a_damaged_blob(blobs: Blobs):
    """Bytes that were damaged on disk are replaced when the right ones come once more."""
    digest = blobs.put_bytes(b"precious")
    blobs.path(digest).chmod(0o600)
    blobs.path(digest).write_bytes(b"Precious")
    assert blobs.put_bytes(b"precious") == digest
    assert blobs.get(digest) == b"precious"


def test_a_copy_is_checked_while_it_is_made(blobs: Blobs, tmp_path: Path):
    """A blob can be written to a file of its own."""
    digest = blobs.put_bytes(b"copy me")
    assert blobs.copy_to(digest, tmp_path / "copy") == 7
    assert (tmp_path / "copy").read_bytes() == b"copy me"


def test_many_writers_of_the_same_bytes_do_no_harm(blobs: Blobs):
    """Sixteen writers racing for one blob all get its digest, and it is whole."""
    body = os.urandom(200_000)
    with ThreadPoolExecutor(16) as pool:
        assert {*pool.map(blobs.put_bytes, [body] * 16)} == {digest_of(body)}
    assert blobs.verify(digest_of(body))
    assert not temporary_files(blobs)


def test_a_store_has_one_identity(blobs: Blobs, tmp_path: Path):
    """Whoever asks first makes it, everybody reads the same, and another folder has another."""
    with ThreadPoolExecutor(8) as pool:
        found = {*pool.map(lambda _: Blobs(blobs.folder).identity(), range(8))}
    assert len(found) == 1
    assert len(found.pop()) == 32
    assert Blobs(tmp_path / "other").identity() != blobs.identity()


@pytest.mark.parametrize("moved", [True, False])
def test_a_store_is_for_its_user_alone(tmp_path: Path, moved: bool):
    """Nobody else may look into it, also where the folder above was there and is open to all."""
    home = tmp_path / "home"
    home.mkdir()
    home.chmod(0o755)
    (home / "file").write_text("x")
    Blobs(home / "blobs").put_file(home / "file", move=moved)
    assert (home / "blobs").stat().st_mode & 0o777 == 0o700


def test_leftovers_of_dead_writers_are_removed(blobs: Blobs):
    """A temporary file of long ago goes; one that is being written stays."""
    with blobs.writer() as writer:
        writer.write(b"in the making")
        (blobs.folder / "tmp" / "old").write_bytes(b"left behind")
        os.utime(blobs.folder / "tmp" / "old", (0, 0))
        assert blobs.remove_stale() == 1
        assert writer.finish()[1] == 13


def test_a_store_that_cannot_be_written_says_so(tmp_path: Path):
    """A file where the folder should be is a clear error, not a trace."""
    (tmp_path / "blobs").write_text("not a folder")
    with pytest.raises(UnavailableError, match="not a directory"):
        Blobs(tmp_path / "blobs").put_bytes(b"x")


def test_a_full_disk_leaves_nothing_half_written(tmp_path: Path):
    """When no byte more can be written, the error says what to do and no blob appears."""
    code = (
        "import resource, signal, sys; from pathlib import Path; from headway.core.blobs import Blobs\n"
        "from headway.core.errors import UnavailableError\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN); resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "try: Blobs(Path(sys.argv[1])).put_bytes(b'x' * 5000)\n"
        "except UnavailableError as error: sys.exit(f'{error.message} / {error.next}')\n"
    )
    done = subprocess.run([sys.executable, "-c", code, tmp_path], capture_output=True, text=True, check=False)
    assert "could not be written" in done.stderr
    assert done.returncode == 1
    assert not temporary_files(Blobs(tmp_path))
    assert not (tmp_path / "sha256").exists()
