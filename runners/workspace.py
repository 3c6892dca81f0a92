"""The private folder of one attempt: made, filled with the source, removed.

    <work>/<unique>/workspace    the tree as submitted; steps start here
    <work>/<unique>/tmp          TMPDIR
    <work>/<unique>/step         scripts, and the files behind $HEADWAY_ENV and $HEADWAY_PATH

The name is short on purpose: a socket's path in TMPDIR may have 107 bytes. The snapshot may come from anybody: members
that would lead out of the workspace, and anything that is not a file, a folder or a link, are refused.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import stat
import tarfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Final

from headway.core.blobs import Blobs
from headway.core.errors import RefusedError, UnavailableError

COPY_BYTES: Final = 1 << 20
FILES_MAX: Final = 2_000_000
FOLLOWED_MAX: Final = 40
"""The kernel follows no more links than this on one way."""


class Workspace:
    """One attempt's folder. Everything in it is the attempt's; nothing of it is left after `remove`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.workspace = folder / "workspace"
        self.tmp = folder / "tmp"
        self.step = folder / "step"

    @classmethod
    def make(cls, work: Path, run: str) -> Workspace:
        """A new one; its name has the end of the run's id, for people who look."""
        tail = "".join(letter for letter in run[-6:] if letter.isalnum()) or "run"
        made = cls(work / f"{tail}-{secrets.token_hex(3)}")
        try:
            try:
                made.folder.mkdir(mode=0o700)
            except FileNotFoundError:
                made.folder.mkdir(mode=0o700, parents=True)
            for folder in (made.workspace, made.tmp, made.step):
                folder.mkdir(mode=0o700)
        except OSError as error:
            raise _unusable(made.folder, error) from error
        return made

    def fill(self, blobs: Blobs, digest: str, *, cancelled: Callable[[], bool] = lambda: False) -> int:
        """Unpack a snapshot, checked, into the workspace; return its size. `cancelled` is asked between files."""
        with blobs.open(digest) as snapshot:
            size = os.fstat(snapshot.fileno()).st_size
            try:
                unpack(snapshot, self.workspace, cancelled=cancelled)
            except tarfile.TarError as error:
                raise RefusedError(
                    f"the source {digest} is not a snapshot: {error}", next="submit the run again"
                ) from error
            except OSError as error:
                raise _unusable(self.workspace, error) from error
        return size

    def remove(self) -> None:
        """Remove all of it, whatever its modes are."""
        remove_tree(self.folder)


def fresh_file(path: Path, *, flags: int = 0, mode: int = 0o600) -> int:
    """A new file, open for writing, in a place a job can reach: a pipe, link or folder it left there is moved aside.

    Opening such a thing instead could wait for ever, or write to somewhere else.
    """
    flags |= os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        return os.open(path, flags, mode)
    except FileExistsError:
        path.rename(path.with_name(f"aside-{secrets.token_hex(8)}"))
        return os.open(path, flags, mode)


def unpack(snapshot: IO[bytes], target: Path, *, cancelled: Callable[[], bool] = lambda: False) -> None:
    """Write a tar's files, folders and links below `target`, a new folder. Raises RefusedError for hostile members."""
    folders = {""}
    links: list[tuple[str, str]] = []
    names: set[str] = set()
    with tarfile.open(fileobj=snapshot, mode="r:") as archive:
        for member in archive:
            if cancelled():
                return
            name = _inside(member.name)
            if len(names) >= FILES_MAX:
                raise RefusedError(f"the source has more than {FILES_MAX} files", next="submit a smaller tree")
            if member.isdir():
                _folder(target, name, folders)
                continue
            if not name or name in names or name in folders:
                raise _hostile(member.name, "is there twice")
            names.add(name)
            _folder(target, os.path.dirname(name), folders)
            if member.issym():
                links.append((name, member.linkname))
            elif member.isreg():
                body = archive.extractfile(member)
                assert body is not None, "a regular member has a body"
                _write(target / name, body, member)
            else:
                raise _hostile(member.name, "is neither a file, a folder nor a symbolic link")
            archive.members.clear()  # type: ignore[attr-defined]  # or it remembers them all
    every = dict(links)
    for name, linked in links:
        if name in folders:
            raise _hostile(name, "is both a link and a folder")
        if leads_out(name, every):
            raise _hostile(name, f"is a link that leads out of the tree, to {linked[:200]!r}")
    for name, linked in links:
        os.symlink(linked, target / name)


def leads_out(name: str, links: Mapping[str, str]) -> bool:
    """Whether a link of a tree leads out of it: by its own words, or on its way over other links of the tree."""
    linked = links[name]
    way = os.path.normpath(os.path.join(os.path.dirname(name), linked))
    if not linked or os.path.isabs(linked) or way == ".." or way.startswith("../"):
        return True
    at = name.split("/")[:-1]
    left = linked.split("/")[::-1]
    followed = 0
    while left:
        part = left.pop()
        if part == "..":
            if not at:
                return True
            at.pop()
        elif part not in ("", "."):
            at.append(part)
            if (further := links.get("/".join(at))) is None:
                continue
            followed += 1
            if followed >= FOLLOWED_MAX:
                return False  # a circle, or as good as one: nobody gets anywhere over it
            if os.path.isabs(further):
                return True
            at.pop()
            left += further.split("/")[::-1]
    return False


def _write(path: Path, body: IO[bytes], member: tarfile.TarInfo) -> None:
    mode = 0o755 if member.mode & 0o100 else 0o644
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, mode)
    try:
        while chunk := body.read(COPY_BYTES):
            left = memoryview(chunk)
            while left:
                left = left[os.write(fd, left) :]
    finally:
        os.close(fd)


def _folder(target: Path, name: str, folders: set[str]) -> None:
    """Make a folder and those above it. Links are made last, so no part of the way can be one."""
    if name in folders:
        return
    _folder(target, os.path.dirname(name), folders)
    try:
        os.mkdir(os.path.join(target, name), 0o755)
    except FileExistsError:
        raise _hostile(name, "is both a file and a folder") from None
    folders.add(name)


def _inside(name: str) -> str:
    """The member's name as a clean relative path, "" for the tree itself."""
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if name.startswith("/") or ".." in parts or "\0" in name:
        raise _hostile(name, "would be written outside of the workspace")
    return "/".join(parts)


def _hostile(name: str, what: str) -> RefusedError:
    return RefusedError(
        f"the source is refused: its member {name[:200]!r} {what}", next="submit the run again, from a clean tree"
    )


def _unusable(folder: Path, error: OSError) -> UnavailableError:
    return UnavailableError(
        f"the workspace {folder} cannot be made: {(error.strerror or str(error)).lower()}",
        next="check the free space and the rights of the folder it is in",
    )


def remove_tree(folder: Path) -> None:
    """Remove a folder although parts of it may have been made unreadable; what cannot be removed stays."""

    def force(function: Callable[..., object], path: str, _: object) -> None:
        with contextlib.suppress(OSError):
            os.chmod(os.path.dirname(path), stat.S_IRWXU)
            if not os.path.islink(path):
                os.chmod(path, stat.S_IRWXU)
        with contextlib.suppress(OSError):
            if function in (os.scandir, os.listdir, os.open):
                shutil.rmtree(path, ignore_errors=True)
            else:
                function(path)

    shutil.rmtree(folder, onerror=force)
    if folder.exists():  # a folder that could not be listed at first has been emptied since
        shutil.rmtree(folder, ignore_errors=True)


def remove_stale(work: Path) -> int:
    """Remove the folders that dead incarnations left; return how many. Only for who holds the runner's lock."""
    try:
        left = [*work.iterdir()]
    except FileNotFoundError:
        return 0
    for folder in left:
        remove_tree(folder)
    return len(left)
