"""The tree as submitted, packed into one blob: what git would see, uncommitted changes included, or the whole folder.

The same tree gives the same bytes: members are sorted, times and owners are left out, modes are 644 or 755.
"""

from __future__ import annotations

import os
import re
import stat
import subprocess
import tarfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import msgspec

from headway.core.blobs import Blobs, BlobWriter
from headway.core.errors import UnavailableError, UsageError
from headway.core.events import Source
from headway.runners.workspace import leads_out

READ_BYTES: Final = 1 << 20
PROGRESS_SECONDS: Final = 1.0
NOTES_MAX: Final = 10
GIT_SECONDS: Final = 120
_FIELD: Final = "surrogateescape"


class _Tree(msgspec.Struct, kw_only=True):
    """What is to be packed: paths relative to `top`, and what git knows."""

    top: Path
    paths: list[str]
    git: bool = False
    commit: str = ""
    branch: str = ""
    dirty: bool = False


def pack(folder: Path, blobs: Blobs, *, progress: Callable[[str], None] = lambda text: None) -> Source:
    """Keep the tree that `folder` belongs to. Blocks.

    `progress` is told, in words, how far it is when it takes long, and what is not in the snapshot and why.
    """
    tree = _git_tree(folder) or _plain_tree(folder)
    _leave_out_state(tree, blobs, progress=progress)
    packer = _Packer(tree, progress)
    with blobs.writer() as writer:
        packer.write(writer)
        digest, size = writer.finish()
    packer.tell_notes()
    return Source(
        digest=digest, bytes=size, files=packer.files, commit=tree.commit, branch=tree.branch, dirty=tree.dirty
    )


def project_name(folder: Path) -> str:
    """The name of the git remote `origin`, else the folder's; with only letters, digits, _ and -."""
    url = _git(folder, "config", "--get", "remote.origin.url") or b""
    name = os.fsdecode(url).strip().rstrip("/").removesuffix(".git")
    name = re.split(r"[/:\\]", name)[-1]
    if not name:
        top = _git(folder, "rev-parse", "--show-toplevel")
        name = Path(os.fsdecode(top).rstrip("\n")).name if top else folder.resolve().name
    return re.sub(r"[^A-Za-z0-9_-]+", "-", name).strip("-")[:64] or "project"


class _Packer:
    """Writes the members of a tree, one after the other."""

    def __init__(self, tree: _Tree, progress: Callable[[str], None]) -> None:
        self._tree = tree
        self._top = os.fspath(tree.top)
        self._progress = progress
        self._next_words = time.monotonic() + PROGRESS_SECONDS
        self._notes: list[str] = []
        self._links: dict[str, str] = {}
        self.files = 0
        self.bytes = 0

    def write(self, writer: BlobWriter) -> None:
        """All files, all links, then the end of the archive."""
        held = bytearray()
        for path in sorted(self._tree.paths, key=os.fsencode):
            for block in self._member(path):
                held += block
                if len(held) >= READ_BYTES:
                    writer.write(bytes(held))
                    held.clear()
            if time.monotonic() > self._next_words:
                self._next_words += PROGRESS_SECONDS
                self._progress(f"packing the source: {self.files:,} files, {self.bytes >> 20:,} MiB")
        for header in self._linked():
            held += header
        held += b"\0" * 1024
        writer.write(bytes(held))

    def tell_notes(self) -> None:
        """Say what was left out, though not more than a person reads."""
        for note in self._notes[:NOTES_MAX]:
            self._progress(note)
        if len(self._notes) > NOTES_MAX:
            self._progress(f"and {len(self._notes) - NOTES_MAX:,} more were left out")

    def _member(self, path: str) -> Iterator[bytes]:
        full = f"{self._top}/{path}"
        try:
            found = os.lstat(full)
            if stat.S_ISREG(found.st_mode):
                yield from self._file(path, full)
            elif stat.S_ISLNK(found.st_mode):
                self._links[path] = os.readlink(full)
            elif stat.S_ISDIR(found.st_mode):
                self._note(path, "is a repository of its own, or an empty folder, and is left out")
            else:
                self._note(path, "is not a file and is left out")
        except (FileNotFoundError, NotADirectoryError):
            if not self._tree.git:  # git also lists what was deleted and not committed
                self._note(path, "went away while it was packed and is left out")
        except OSError as error:
            raise UnavailableError(
                f"{full} cannot be read: {(error.strerror or str(error)).lower()}",
                next="make it readable, or have .gitignore leave it out",
            ) from error

    def _file(self, path: str, full: str) -> Iterator[bytes]:
        fd = os.open(full, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            found = os.fstat(fd)
            yield _header(path, size=found.st_size, executable=bool(found.st_mode & 0o100))
            left = found.st_size
            while left and (chunk := os.read(fd, min(left, READ_BYTES))):
                left -= len(chunk)
                yield chunk
            if left:
                raise UnavailableError(
                    f"{full} became shorter while it was packed", next="submit again when nothing writes to the tree"
                )
            yield b"\0" * (-found.st_size % 512)
        finally:
            os.close(fd)
        self.files += 1
        self.bytes += found.st_size

    def _linked(self) -> Iterator[bytes]:
        """The links that unpacking will not refuse. One that is left out may change where others lead."""
        while out := [path for path in self._links if leads_out(path, self._links)]:
            for path in out:
                target = self._links.pop(path)
                self._note(path, f"is a link that leads out of the tree, to {target}, and is left out")
        for path, target in self._links.items():
            yield _header(path, linked=target)
            self.files += 1

    def _note(self, path: str, what: str) -> None:
        self._notes.append(f"{path} {what}")


def _header(path: str, *, size: int = 0, executable: bool = False, linked: str = "") -> bytes:
    """A member's header; the usual kind by hand, as tarfile takes ten times as long."""
    name = os.fsencode(path)
    target = os.fsencode(linked)
    if len(name) <= 100 and len(target) <= 100 and name.isascii() and target.isascii() and size < 8 << 30:
        mode = b"0000755" if executable or linked else b"0000644"
        return _ustar(name, mode=mode, size=size, target=target)
    info = tarfile.TarInfo(path)
    info.size = size
    info.mode = 0o755 if executable or linked else 0o644
    if linked:
        info.type = tarfile.SYMTYPE
        info.linkname = linked
    return info.tobuf(tarfile.PAX_FORMAT, "utf-8", _FIELD)


def _ustar(name: bytes, *, mode: bytes, size: int, target: bytes) -> bytes:
    kind = b"2" if target else b"0"
    block = b"%b%b\x000000000\x000000000\x00%011o\x0000000000000\x00        %b%bustar\x0000" % (
        name.ljust(100, b"\0"),
        mode,
        size,
        kind,
        target.ljust(100, b"\0"),
    )
    checksum = b"%06o\0 " % sum(block)
    return (block[:148] + checksum + block[156:]).ljust(512, b"\0")


def _leave_out_state(tree: _Tree, blobs: Blobs, *, progress: Callable[[str], None]) -> None:
    """Headway's own state may lie in the tree it packs; it changes meanwhile, and the snapshot would hold itself."""
    top = os.path.realpath(tree.top)
    store = os.path.realpath(blobs.folder)
    home = os.path.dirname(store)
    state = home if os.path.exists(os.path.join(home, "service.lock")) else store
    if _is_home(top):
        raise UsageError(
            f"{top} holds Headway's own state and its passwords, so it cannot be submitted",
            next="go to the folder of your project, or set HEADWAY_HOME to another folder",
        )
    states = _other_homes(tree)
    if state.startswith(top + "/"):
        states.add(state[len(top) + 1 :])
    for inside in sorted(f"{path}/" for path in states):
        found = len(tree.paths)
        tree.paths = [path for path in tree.paths if not path.startswith(inside)]
        if len(tree.paths) < found:
            progress(f"{inside} holds Headway's own state and is left out")


def _other_homes(tree: _Tree) -> set[str]:
    """The folders below the top that are the state of some Headway, whose passwords would be packed."""
    seen = {""}
    found = set()
    for path in tree.paths:
        while (path := os.path.dirname(path)) not in seen:
            seen.add(path)
            if _is_home(os.path.join(tree.top, path)):
                found.add(path)
    return found


def _is_home(folder: str) -> bool:
    return os.path.lexists(os.path.join(folder, "service.lock")) and os.path.isdir(os.path.join(folder, "nats"))


def _git_tree(folder: Path) -> _Tree | None:
    """What git would see of the work tree the folder is in; None if it is in none."""
    status = _git(folder, "status", "--porcelain=v2", "--branch", "-z", "--untracked-files=normal", "--no-renames")
    if status is None:
        return None
    top = _git(folder, "rev-parse", "--show-toplevel")
    if not top:
        return None
    tree = _Tree(top=Path(os.fsdecode(top.rstrip(b"\n"))), paths=[], git=True)
    for line in status.split(b"\0"):
        if line.startswith(b"# branch.oid ") and line != b"# branch.oid (initial)":
            tree.commit = line[13:].decode()
        elif line.startswith(b"# branch.head ") and line != b"# branch.head (detached)":
            tree.branch = os.fsdecode(line[14:])
        elif line and not line.startswith(b"#"):
            tree.dirty = True
    listed = _git(tree.top, "ls-files", "-co", "--exclude-standard", "-z", "--deduplicate")
    if listed is None:
        raise UnavailableError(f"git cannot list the files of {tree.top}", next="run 'git status' there and repair it")
    tree.paths = [os.fsdecode(path).rstrip("/") for path in listed.split(b"\0") if path]
    return tree


def _git(folder: Path, *arguments: str) -> bytes | None:
    """What git prints; None where there is no git or no repository, or git will not."""
    command = ["git", "-C", os.fspath(folder), "-c", "core.quotepath=off", "-c", "core.fsmonitor=false", *arguments]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    environment |= {"GIT_OPTIONAL_LOCKS": "0", "LC_ALL": "C"}
    try:
        done = subprocess.run(command, capture_output=True, timeout=GIT_SECONDS, env=environment, check=False)
    except FileNotFoundError:
        return None
    except subprocess.TimeoutExpired as error:
        raise UnavailableError(f"git in {folder} takes too long", next="run 'git status' there and see why") from error
    if b"dubious ownership" in done.stderr:
        raise UsageError(
            f"git does not trust {folder}, which belongs to someone else",
            next=f"run 'git config --global --add safe.directory {folder}' if you do",
        )
    return done.stdout if done.returncode == 0 else None


def _plain_tree(folder: Path) -> _Tree:
    """Everything in a folder that is not in a git work tree."""
    try:
        top = folder.resolve(strict=True)
    except OSError as error:
        raise UsageError(f"{folder} cannot be used: {(error.strerror or '').lower()}", next="name a folder") from error
    if top in (Path("/"), Path.home().resolve()):
        raise UsageError(
            f"{top} is too much to submit as the source of a run",
            next="go to the folder of your project, or run 'git init' there",
        )
    tree = _Tree(top=top, paths=[])
    _walk(os.fspath(top), tree.paths)
    return tree


def _walk(top: str, paths: list[str]) -> None:
    folders = [""]
    while folders:
        at = folders.pop()
        try:
            with os.scandir(os.path.join(top, at)) as entries:
                for entry in entries:
                    path = f"{at}/{entry.name}" if at else entry.name
                    if not entry.is_dir(follow_symlinks=False):
                        paths.append(path)
                    elif entry.name != ".git":
                        folders.append(path)
        except FileNotFoundError:
            continue
        except OSError as error:
            raise UnavailableError(
                f"{top}/{at} cannot be read: {(error.strerror or str(error)).lower()}",
                next="make it readable, or use git and .gitignore to leave it out",
            ) from error
