"""The tree as submitted: what is in the snapshot, what is not, and what comes out of it again."""

from __future__ import annotations

import io
import os
import socket
import subprocess
import tarfile
from pathlib import Path

import pytest

from headway.core.blobs import Blobs
from headway.core.errors import NotFoundError, RefusedError, UnavailableError, UsageError
from headway.runners.source import pack, project_name
from headway.runners.workspace import Workspace, remove_stale, unpack


@pytest.fixture
def blobs(tmp_path: Path) -> Blobs:
    """An empty store."""
    return Blobs(tmp_path / "blobs")


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A small tree with every kind of file that is kept."""
    top = tmp_path / "tree"
    (top / "sub" / "deep").mkdir(parents=True)
    (top / "README").write_text("hello")
    (top / "sub" / "run.sh").write_text("#!/bin/sh\n")
    (top / "sub" / "run.sh").chmod(0o755)
    (top / "sub" / "deep" / ("long-" * 30)).write_bytes(b"\0" * 1000)
    (top / "grüße \udcff").write_text("odd name")
    (top / "link").symlink_to("sub/run.sh")
    (top / "empty").write_text("")
    return top


def git(folder: Path, *arguments: str) -> str:
    """Run git with a name and a mail address."""
    command = ["git", "-c", "user.name=a", "-c", "user.email=a@example.org", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True).stdout


def files(folder: Path) -> dict[str, object]:
    """All files below a folder: bytes and whether they can be run, or where a link leads."""
    found: dict[str, object] = {}
    for at, _, names in os.walk(folder):
        for name in names:
            path = os.path.join(at, name)
            inside = os.path.relpath(path, folder)
            if os.path.islink(path):
                found[inside] = os.readlink(path)
            else:
                found[inside] = (Path(path).read_bytes(), os.access(path, os.X_OK))
    return found


def unpacked(blobs: Blobs, digest: str, folder: Path) -> dict[str, object]:
    """What an attempt would find."""
    workspace = Workspace.make(folder, "run-1")
    workspace.fill(blobs, digest)
    return files(workspace.workspace)


def test_a_folder_comes_back_as_it_was(blobs: Blobs, tree: Path, tmp_path: Path):
    """Files, links, odd names and the right to be run survive; the digest depends on nothing else."""
    first = pack(tree, blobs)
    assert (first.files, first.commit, first.branch, first.dirty) == (6, "", "", False)
    assert unpacked(blobs, first.digest, tmp_path / "work") == files(tree)
    os.utime(tree / "README", (1, 1))
    (tree / "README").chmod(0o600)
    assert pack(tree, blobs) == first
    (tree / "README").write_text("hullo")
    assert pack(tree, blobs).digest != first.digest


def test_what_git_sees_is_what_is_packed(blobs: Blobs, tree: Path, tmp_path: Path):
    """Tracked and untracked files with their changes; not what is ignored or deleted, and not .git."""
    git(tree, "init", "-q", "-b", "trunk")
    (tree / ".gitignore").write_text("*.o\n")
    (tree / "gone").write_text("x")
    git(tree, "add", ".")
    git(tree, "commit", "-qm", "first")
    clean = pack(tree / "sub", blobs)
    assert (clean.commit, clean.branch, clean.dirty) == (git(tree, "rev-parse", "HEAD").strip(), "trunk", False)
    (tree / "README").write_text("changed")
    (tree / "new").write_text("untracked")
    (tree / "junk.o").write_text("ignored")
    (tree / "gone").unlink()
    dirty = pack(tree, blobs)
    assert dirty.dirty
    found = unpacked(blobs, dirty.digest, tmp_path / "work")
    assert found["README"] == (b"changed", False)
    assert "new" in found
    assert not {"junk.o", "gone", ".git/config"} & set(found)


def test_a_repository_without_commits_is_packed(blobs: Blobs, tree: Path):
    """A fresh repository has a branch and no commit."""
    git(tree, "init", "-q", "-b", "trunk")
    found = pack(tree, blobs)
    assert (found.commit, found.branch, found.dirty, found.files) == ("", "trunk", True, 6)


def test_what_is_left_out_is_said(blobs: Blobs, tree: Path):
    """Pipes, sockets and links that lead out are not packed, and each is named."""
    os.mkfifo(tree / "pipe")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(os.path.relpath(tree / "socket"))
        (tree / "out").symlink_to("../../etc/passwd")
        (tree / "absolute").symlink_to("/etc/passwd")
        said: list[str] = []
        assert pack(tree, blobs, progress=said.append).files == 6
    assert sorted(line.split()[0] for line in said) == ["absolute", "out", "pipe", "socket"]


def test_headways_own_state_is_never_packed(tree: Path):
    """A blob store or a whole state folder inside of the tree is left out."""
    home = tree / "state"
    first = pack(tree, Blobs(home / "blobs"))
    assert pack(tree, Blobs(home / "blobs")) == first
    (home / "service.lock").touch()
    (home / "config.yml").touch()
    said: list[str] = []
    assert pack(tree, Blobs(home / "blobs"), progress=said.append) == first
    assert len(said) == 1


@pytest.mark.parametrize("repository", [True, False])
def test_the_state_of_another_headway_is_never_packed(blobs: Blobs, tree: Path, repository: bool):
    """A folder with a service's lock and a server's folder is left out, and said, wherever its blobs are."""
    if repository:
        git(tree, "init", "-q")
        (tree / ".gitignore").write_text("*.lock\n")
    first = pack(tree, blobs)
    home = tree / "sub" / "state"
    (home / "nats").mkdir(parents=True)
    (home / "nats" / "endpoint.json").write_text("a password")
    (home / "service.lock").touch()
    said: list[str] = []
    assert pack(tree, blobs, progress=said.append).digest == first.digest
    assert said == ["sub/state/ holds Headway's own state and is left out"]
    if repository:
        git(home, "init", "-q")
    with pytest.raises(UsageError, match="own state"):
        pack(home, blobs)


def test_links_that_go_astray_over_links_are_left_out(blobs: Blobs, tree: Path, tmp_path: Path):
    """What is packed can be unpacked: links are followed over each other, and over those that are left out."""
    (tree / "s" / "t").mkdir(parents=True)
    (tree / "s" / "up").symlink_to("..")
    (tree / "s" / "t" / "x").symlink_to("../up/..")
    (tree / "s" / "side").symlink_to("../sub")
    (tree / "sub" / "away").symlink_to(tree / "sub" / "deep")
    (tree / "s" / "y").symlink_to("side/away/../../..")
    (tree / "s" / "good").symlink_to("side/deep/../run.sh")
    (tree / "round").symlink_to("round")
    said: list[str] = []
    workspace = Workspace.make(tmp_path / "work", "run-1")
    workspace.fill(blobs, pack(tree, blobs, progress=said.append).digest)
    for kept in ("s/up", "s/side", "s/good", "round", "link"):
        assert (workspace.workspace / kept).is_symlink()
    assert sorted(line.split()[0] for line in said) == ["s/t/x", "s/y", "sub/away"]


@pytest.mark.parametrize("folder", ["/", "~"])
def test_too_much_is_refused(blobs: Blobs, folder: str):
    """The whole machine, or all that a person has, is no source."""
    with pytest.raises(UsageError, match="too much"):
        pack(Path(folder).expanduser(), blobs)


def test_a_missing_folder_is_the_callers_mistake(blobs: Blobs, tmp_path: Path):
    """A folder that is not there is said to be so."""
    with pytest.raises(UsageError, match="no such file"):
        pack(tmp_path / "nowhere", blobs)


def test_an_unreadable_file_is_named(tree: Path, blobs: Blobs):
    """A file that cannot be read stops the packing with its name and what to do."""
    (tree / "README").chmod(0)
    if os.access(tree / "README", os.R_OK):
        pytest.skip("this user may read everything")
    with pytest.raises(UnavailableError, match="README"):
        pack(tree, blobs)


@pytest.mark.parametrize(
    ("remote", "name"),
    [
        ("git@example.org:team/my.shop.git", "my-shop"),
        ("https://example.org/team/shop/", "shop"),
        ("", "tree"),
    ],
)
def test_a_project_is_named_by_its_remote_or_folder(tree: Path, remote: str, name: str):
    """The remote's last part without .git, else the top folder; only plain letters."""
    git(tree, "init", "-q")
    if remote:
        git(tree, "remote", "add", "origin", remote)
    assert project_name(tree / "sub") == name


def test_a_project_without_git_is_its_folder(tmp_path: Path):
    """Outside of git the folder gives the name; one without any letters is still named."""
    (tmp_path / "a b!c").mkdir()
    (tmp_path / "!!!").mkdir()
    assert project_name(tmp_path / "a b!c") == "a-b-c"
    assert project_name(tmp_path / "!!!") == "project"


def tar_of(*members: tuple[tarfile.TarInfo, bytes]) -> io.BytesIO:
    """A tar as an enemy would make it."""
    body = io.BytesIO()
    with tarfile.open(fileobj=body, mode="w") as archive:
        for info, content in members:
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    body.seek(0)
    return body


def member(name: str, kind: bytes = tarfile.REGTYPE, linked: str = "") -> tarfile.TarInfo:
    """One member's header."""
    info = tarfile.TarInfo(name)
    info.type = kind
    info.linkname = linked
    return info


@pytest.mark.parametrize(
    "members",
    [
        [member("/etc/owned")],
        [member("../owned")],
        [member("a/../../owned")],
        [member("device", tarfile.CHRTYPE)],
        [member("pipe", tarfile.FIFOTYPE)],
        [member("hard", tarfile.LNKTYPE, "/etc/passwd")],
        [member("link", tarfile.SYMTYPE, "/etc/passwd")],
        [member("link", tarfile.SYMTYPE, "../x")],
        [member("a/link", tarfile.SYMTYPE, "../../x")],
        [member("link", tarfile.SYMTYPE, "sub"), member("link/file")],
        [member("file"), member("file/below")],
        [member("file"), member("./file")],
        [member("x/y/up", tarfile.SYMTYPE, "../.."), member("a", tarfile.SYMTYPE, "x/y/up/../z")],
    ],
)
def test_a_hostile_snapshot_is_refused(tmp_path: Path, members: list[tarfile.TarInfo]):
    """Nothing is written outside, and what is not a plain tree is refused."""
    target = tmp_path / "outer" / "inner"
    target.mkdir(parents=True)
    with pytest.raises(RefusedError, match="source is refused"):
        unpack(tar_of(*((info, b"") for info in members)), target)
    assert sorted(os.listdir(tmp_path)) == ["outer"]
    assert os.listdir(tmp_path / "outer") == ["inner"]


def test_what_is_no_snapshot_is_refused(blobs: Blobs, tmp_path: Path):
    """A blob that is no tar, or is not there, is an error in words."""
    workspace = Workspace.make(tmp_path / "work", "run-1")
    with pytest.raises(RefusedError, match="not a snapshot"):
        workspace.fill(blobs, blobs.put_bytes(b"junk" * 1000))
    with pytest.raises(NotFoundError):
        workspace.fill(blobs, "sha256:" + "0" * 64)


def test_a_workspace_goes_whatever_its_modes_are(tmp_path: Path):
    """Folders that were made unreadable are removed too, links are not followed, and strangers' files stay."""
    (tmp_path / "precious").write_text("x")
    workspace = Workspace.make(tmp_path / "work", "run-1")
    locked = workspace.workspace / "locked" / "deep"
    locked.mkdir(parents=True)
    (locked / "file").write_text("x")
    (workspace.workspace / "out").symlink_to(tmp_path)
    locked.chmod(0)
    locked.parent.chmod(0)
    workspace.remove()
    assert not workspace.folder.exists()
    assert (tmp_path / "precious").exists()


def test_leftovers_are_removed(tmp_path: Path):
    """What dead incarnations left goes; nothing there is no error."""
    assert remove_stale(tmp_path / "work") == 0
    for _ in range(3):
        Workspace.make(tmp_path / "work", "run-1")
    assert remove_stale(tmp_path / "work") == 3
    assert os.listdir(tmp_path / "work") == []
