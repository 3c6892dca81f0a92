"""The file of a backup: what was written is read, and whatever else a file may hold is refused by name."""

import io
import re
import tarfile
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from headway.cli.archive import (
    CHECKSUMS,
    CONFIG,
    FORMAT,
    HELD,
    MANIFEST,
    STREAMS,
    ArchiveWriter,
    Checksums,
    Held,
    Kept,
    Manifest,
    snapshot_name,
)
from headway.cli.claiming import open_backup
from headway.core.errors import HeadwayError, RefusedError, UsageError
from headway.core.streams import StreamState

BLOB = f"blobs/sha256/ab/{'c' * 62}"
SPOOL = f"runners/{'r' * 64}/spool/{'0' * 36}"
Members = list[tuple[tarfile.TarInfo, bytes]]


def written(path: Path, *, manifest: Manifest | None = None) -> Path:
    """A backup with a little of everything; its snapshots are of no server."""
    manifest = manifest or Manifest(format=FORMAT, headway_version="0.1.0", created="2026-01-31T12:00:00.000000Z")
    with path.open("wb") as file:
        archive = ArchiveWriter(file)
        archive.add(MANIFEST, msgspec.json.encode(manifest))
        for stream in STREAMS:
            archive.begin(snapshot_name(stream))
            archive.write(b"?" * 3000)
            archive.drop()  # as when the server breaks off
            archive.drop()
            archive.begin(snapshot_name(stream))
            archive.write(stream.encode())
            archive.write(b"!" * 2000)
            archive.end()
        state = StreamState(messages=3, bytes=30, first_seq=1, last_seq=3)
        kept = {stream: Kept(config={"name": stream}, state=state) for stream in STREAMS}
        archive.add(HELD, msgspec.json.encode(Held(as_of=3, streams=kept)))
        archive.add(CONFIG, b"slots: 3\n")
        archive.add(SPOOL, b"")
        archive.add("blobs/identity", b"0123\n")
        archive.add(BLOB, bytes(512))
        assert archive.finish() == path.stat().st_size
    return path


def read(path: Path) -> tuple[dict[str, bytes], Held]:
    """Every member but the first and the last, and what the streams held."""
    found = {}
    with open_backup(path) as reader:
        reader.manifest()
        for name, size in reader.rest():
            found[name] = b"".join(reader.content(name, size))
        reader.check(found.pop(CHECKSUMS))
        return found, reader.held(found[HELD])


def rewritten(path: Path, change: Callable[[Members], None]) -> Path:
    """The same file with other members, as a program made for that would write it."""
    with tarfile.open(path) as tar:
        members = [(info, file.read() if (file := tar.extractfile(info)) else b"") for info in tar]
    change(members)
    with path.open("wb") as file:
        for info, body in members:
            kind = tarfile.USTAR_FORMAT if len(info.name) < 160 else tarfile.GNU_FORMAT
            file.write(info.tobuf(kind) + body + bytes(-len(body) % 512))
        file.write(bytes(1024))
    return path


def member(name: str, body: bytes = b"", **fields: object) -> tuple[tarfile.TarInfo, bytes]:
    """A member as a tar has it."""
    info = tarfile.TarInfo(name)
    info.size = len(body)
    for key, value in fields.items():
        setattr(info, key, value)
    return info, body


def test_what_was_written_is_read(tmp_path: Path) -> None:
    """Every member has its name, bytes and checksum, and any tar can list the file."""
    path = written(tmp_path / "b.tar")
    found, held = read(path)
    assert found[snapshot_name("HEADWAY")] == b"HEADWAY" + b"!" * 2000
    assert (found[CONFIG], found[SPOOL], found[BLOB]) == (b"slots: 3\n", b"", bytes(512))
    assert (held.as_of, set(held.streams)) == (3, set(STREAMS))
    with tarfile.open(path) as tar:
        assert tar.getnames() == [MANIFEST, *found, CHECKSUMS]
        assert {(info.type, info.mode) for info in tar} == {(tarfile.REGTYPE, 0o600)}


def test_a_member_of_more_than_eight_gibibytes_has_room_in_its_header(tmp_path: Path) -> None:
    """The size is written where it belongs when it is known, however large it is."""
    large = 9 << 30
    path = tmp_path / "b.tar"
    with path.open("wb") as file:
        archive = ArchiveWriter(file)
        archive.begin(snapshot_name("HEADWAY"))
        file.seek(large, io.SEEK_CUR)  # a hole: as many zeros, for nothing
        assert archive.end().bytes == large
    with path.open("rb") as file:
        assert tarfile.TarInfo.frombuf(file.read(512), "utf-8", "strict").size == large


def test_a_file_cut_short_anywhere_is_refused(tmp_path: Path) -> None:
    """Wherever the end is missing, no backup comes out of it."""
    path = written(tmp_path / "b.tar")
    whole = path.read_bytes()
    with tarfile.open(path) as tar:
        end = tar.getmember(CHECKSUMS).offset_data + tar.getmember(CHECKSUMS).size
    for length in [*range(0, end, 256), end - 1]:
        path.write_bytes(whole[:length])
        with pytest.raises(HeadwayError, match=r"cut short (in|after) |is not a backup of Headway"):
            read(path)


def test_a_changed_byte_is_named_by_its_member(tmp_path: Path) -> None:
    """One bit in any member is enough, and the message says in which."""
    path = written(tmp_path / "b.tar")
    whole = path.read_bytes()
    with tarfile.open(path) as tar:
        places = {info.name: info.offset_data for info in tar if info.size and info.name not in (MANIFEST, CHECKSUMS)}
    assert len(places) == 6
    for name, offset in places.items():
        path.write_bytes(whole[:offset] + bytes([whole[offset] ^ 1]) + whole[offset + 1 :])
        with pytest.raises(RefusedError, match=re.escape(f"{name} is damaged")):
            read(path)


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("/etc/passwd", {}),
        ("../outside", {}),
        ("blobs/../../outside", {}),
        ("nats/endpoint.json", {}),
        ("runners/local/lock", {}),
        ("runners/../incarnations", {}),
        (f"{BLOB}/more", {}),
        (f"{BLOB}\n", {}),
        ("blobs/identity", {"type": tarfile.SYMTYPE, "linkname": "../../outside"}),
        (CONFIG, {"type": tarfile.LNKTYPE, "linkname": "nats/endpoint.json"}),
        (CONFIG, {"type": tarfile.CHRTYPE}),
        (CONFIG, {"type": tarfile.FIFOTYPE}),
        ("blobs", {"type": tarfile.DIRTYPE}),
        (CONFIG, {"type": tarfile.XHDTYPE}),
        (f"runners/{'r' * 200}/incarnations", {}),
    ],
)
def test_a_member_that_no_backup_has_is_refused(tmp_path: Path, name: str, fields: dict[str, object]) -> None:
    """Whatever its kind and wherever it points: it is named, and nothing of it is read."""
    path = rewritten(written(tmp_path / "b.tar"), lambda members: members.insert(1, member(name, **fields)))
    with pytest.raises(RefusedError, match=r"it holds '.*', which no backup has"):
        read(path)


def test_a_name_that_comes_twice_is_refused(tmp_path: Path) -> None:
    """The second one could take the place of what was checked."""
    path = rewritten(written(tmp_path / "b.tar"), lambda members: members.insert(5, member(CONFIG, b"slots: 3\n")))
    with pytest.raises(RefusedError, match=r"it holds config\.yml twice"):
        read(path)


@pytest.mark.parametrize("size", [1 << 60, 1 << 20, -1, -512, -(1 << 60)])
def test_a_size_that_cannot_be_is_refused(tmp_path: Path, size: int) -> None:
    """More than the file has, or less than nothing: it is not believed, and nothing is read for it."""
    path = written(tmp_path / "b.tar")
    with tarfile.open(path) as tar:
        info = tar.getmember(BLOB)
    info.size = size
    body = bytearray(path.read_bytes())
    body[info.offset : info.offset + 512] = info.tobuf(tarfile.GNU_FORMAT)
    path.write_bytes(body)
    with pytest.raises(RefusedError, match=f"cut short in {BLOB}"):
        read(path)


def test_a_member_that_is_gone_or_was_added_is_named(tmp_path: Path) -> None:
    """The last member says what there has to be, no less and no more."""
    path = written(tmp_path / "b.tar")
    rewritten(path, lambda members: members.remove(next(one for one in members if one[0].name == BLOB)))
    with pytest.raises(RefusedError, match=f"'{BLOB}' is missing"):
        read(path)
    other = BLOB.replace("ab", "cd")
    rewritten(written(path), lambda members: members.insert(4, member(other, b"x")))
    with pytest.raises(RefusedError, match=f"{other} was added to it"):
        read(path)


def test_a_backup_without_its_log_is_refused(tmp_path: Path) -> None:
    """Also when its checksums agree with that."""

    def change(members: Members) -> None:
        name = snapshot_name("HEADWAY")
        members.remove(next(one for one in members if one[0].name == name))
        said = msgspec.json.decode(members.pop()[1], type=Checksums)
        rest = [one for one in said.members if one.name != name]
        members.append(member(CHECKSUMS, msgspec.json.encode(Checksums(members=rest))))

    path = rewritten(written(tmp_path / "b.tar"), change)
    with pytest.raises(RefusedError, match="does not hold the log"):
        read(path)


@pytest.mark.parametrize("body", [b"", b"slots: 3\n", bytes(2048), b"\x1f\x8b" + bytes(600), b"{" * 600])
def test_what_is_no_backup_is_said_to_be_none(tmp_path: Path, body: bytes) -> None:
    """An empty file, a text, zeros, another archive: one sentence."""
    path = tmp_path / "b.tar"
    path.write_bytes(body)
    with pytest.raises(UsageError, match=r"b\.tar is not a backup of Headway"):
        read(path)


def test_a_newer_format_is_refused_with_its_version(tmp_path: Path) -> None:
    """It says who wrote it, for that one can read it."""
    path = written(tmp_path / "b.tar", manifest=Manifest(format=FORMAT + 1, headway_version="7.0.0"))
    with pytest.raises(RefusedError, match=r"was written by Headway 7\.0\.0, in format 2; this one knows"):
        read(path)


def test_what_cannot_be_read_is_said(tmp_path: Path) -> None:
    """No such file, and a folder."""
    for path, words in ((tmp_path / "none.tar", "no such file or directory"), (tmp_path, "it is not a file")):
        with pytest.raises(UsageError, match=f"cannot read {path}: {words}"):
            read(path)
