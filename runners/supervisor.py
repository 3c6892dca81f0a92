"""The process between a runner and its jobs: it starts them, and when the runner dies it ends them.

One of these runs for each slot, as `python -I -S supervisor.py SOCKET [LOCK...]`; it imports next to nothing, so that
it is there in a few milliseconds. It speaks with the runner over the socket, in marshalled tuples with a length before:

    asked:     ("spawn", id, argv, environment, folder) with two file descriptors   ("signal", id, number)
               ("clear", id)   ("lease", seconds)
    answered:  ("spawned", id, pid)   ("failed", id, errno)   ("exited", id, status, cpu_ms, memory_bytes, lapsed)
               ("cleared", id)

It adopts whatever its jobs leave behind (it is their subreaper). When the socket closes, because the runner ended in
whatever way, it kills all of it and leaves. The same happens to the jobs, but not to itself, when the lease that the
runner gave runs out: a runner that hangs cannot hold on to work that others believe lost. The lock files it was handed
stay locked until the last of its jobs is gone, and the jobs do not inherit them.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # `signal` and `socket` take longer to import than Python to start
import _socket
import marshal
import os
import select
import sys
import time

IGNORED = (1, 2, 3, 15)
"""SIGHUP, SIGINT, SIGQUIT and SIGTERM are for the runner, which then closes the socket."""
RESET = (*IGNORED, 13, 25)
"""For jobs: also SIGPIPE and SIGXFSZ, which Python ignores, have their usual meaning."""
PR_SET_CHILD_SUBREAPER = 36
MSG_CMSG_CLOEXEC = 0x40000000
FDS_BYTES = _socket.CMSG_SPACE(8 * 4)


class Supervisor:
    """The children of this process, and the socket to the runner."""

    def __init__(self, socket: _socket.socket) -> None:
        self.socket = socket
        self.poll = select.poll()
        self.poll.register(socket.fileno(), select.POLLIN)
        self.inbox = bytearray()
        self.fds: list[int] = []
        self.running: dict[int, int] = {}
        """pid -> the request's id"""
        self.woken, wakes = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self.poll.register(self.woken, select.POLLIN)
        _signal.signal(17, lambda number, frame: None)  # SIGCHLD only makes the pipe readable
        _signal.set_wakeup_fd(wakes, warn_on_full_buffer=False)
        self.stopped: set[int] = set()
        self.lease_end = 0.0
        self.lapsed = 0
        """1 while everything is killed because the lease ran out."""

    def serve(self) -> None:
        """Do what the runner asks until it is gone."""
        while True:
            left = self.lease_end - alive_seconds() if self.lease_end else None
            if left is not None and left <= 0:
                self.lease_end, self.lapsed = 0.0, 1
                self.kill_all()
                self.lapsed = 0
                continue
            ready = self.poll.poll(None if left is None else left * 1000 + 1)
            for fd, _ in ready:
                if fd == self.socket.fileno():
                    if not self.receive():
                        return
                else:
                    os.read(fd, 1 << 16)
                    self.reap()

    def receive(self) -> bool:
        """Take in what the runner sent; False when it is gone."""
        try:
            body, ancillary, _, _ = self.socket.recvmsg(1 << 16, FDS_BYTES, MSG_CMSG_CLOEXEC)
        except OSError:
            return False
        for _, _, data in ancillary:
            self.fds += [int.from_bytes(data[at : at + 4], sys.byteorder) for at in range(0, len(data), 4)]
        self.inbox += body
        while len(self.inbox) >= 4:
            end = 4 + int.from_bytes(self.inbox[:4], "big")
            if len(self.inbox) < end:
                break
            kind, *rest = marshal.loads(self.inbox[4:end])
            del self.inbox[:end]
            getattr(self, "on_" + kind)(*rest)
        return bool(body)

    def answer(self, *message: str | int) -> None:
        """Tell the runner; if it is gone, the next read says so."""
        body = marshal.dumps(message)
        try:
            self.socket.sendall(len(body).to_bytes(4, "big") + body)
        except OSError:
            return

    def on_spawn(self, request: int, argv: list[str], environment: dict[str, str], folder: str) -> None:
        """Start a process as the leader of a session of its own."""
        out, err = self.fds.pop(0), self.fds.pop(0)
        try:
            os.chdir(folder)
            pid = os.posix_spawn(
                argv[0],
                argv,
                environment,
                file_actions=[
                    (os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0),
                    (os.POSIX_SPAWN_DUP2, out, 1),
                    (os.POSIX_SPAWN_DUP2, err, 2),
                ],
                setsid=True,
                setsigmask=(),
                setsigdef=RESET,
            )
        except (OSError, ValueError) as error:
            self.answer("failed", request, getattr(error, "errno", None) or 22)
            return
        finally:
            os.close(out)
            os.close(err)
            os.chdir("/")
        self.running[pid] = request
        self.answer("spawned", request, pid)

    def on_signal(self, request: int, number: int) -> None:
        """Signal a process group; one that has ended is not there to be signalled."""
        for pid, known in self.running.items():
            if known == request:
                self.stopped.add(pid)
                signal_group(pid, number)
                signal_group(pid, 18)  # SIGCONT: what is stopped would not hear it

    def on_clear(self, request: int) -> None:
        """Kill everything, and say when it is gone."""
        self.kill_all()
        self.answer("cleared", request)

    def on_lease(self, seconds: float) -> None:
        """The runner holds its lease for so long; 0 means for ever."""
        self.lease_end = alive_seconds() + seconds if seconds else 0.0

    def reap(self) -> None:
        """Take leave of every child that has ended, also of the adopted ones, which would stay as zombies."""
        while pid := ended_child():
            if pid in self.stopped:
                signal_group(pid, 9)  # before its number is free for others: the rest of what was stopped
            self.reaped(*os.wait4(pid, 0))

    def reaped(self, pid: int, status: int, usage: object) -> None:
        """Answer for one of ours; an adopted one just goes."""
        if pid not in self.running:
            return
        request = self.running.pop(pid)
        self.stopped.discard(pid)
        user, system, memory_kib = usage[:3]  # type: ignore[index]
        self.answer("exited", request, status, int((user + system) * 1000), memory_kib * 1024, self.lapsed)

    def kill_all(self) -> None:
        """Kill every descendant. Those whose parent dies come to us, so it is done when there are no children."""
        try:
            while True:
                for pid in children():
                    kill(pid)
                self.reaped(*os.wait4(-1, 0))
                while (ended := os.wait4(-1, os.WNOHANG))[0]:
                    self.reaped(*ended)
        except ChildProcessError:
            return


def alive_seconds() -> float:
    """Seconds that also pass while the machine sleeps."""
    return time.clock_gettime(7)  # CLOCK_BOOTTIME


def signal_group(leader: int, number: int) -> None:
    """Signal a group, which may be gone or belong to someone else by now."""
    try:
        os.killpg(leader, number)
    except OSError:
        return


def kill(pid: int) -> None:
    """Kill a child and its group; the child has not been waited for, so its number is still its own."""
    try:
        group = os.getpgid(pid)
        if group != os.getpgrp():
            os.killpg(group, 9)
        os.kill(pid, 9)
    except OSError:
        return


def children() -> list[int]:
    """The processes whose parent this is, zombies too."""
    own = str(os.getpid()).encode()
    found = []
    if not any_child():
        return []
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        try:
            with open(f"/proc/{name}/stat", "rb", buffering=0) as stat:
                if stat.read(4096).rpartition(b")")[2].split(None, 2)[1] == own:
                    found.append(int(name))
        except (OSError, IndexError):
            continue
    return found


def any_child() -> bool:
    """Whether there is a child at all, which is quicker to know than which."""
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    return True


def ended_child() -> int:
    """A child that has ended and was not waited for, 0 when there is none; it still has its number afterwards."""
    try:
        found = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return 0
    return found.si_pid if found is not None else 0


def main(arguments: list[str]) -> None:
    """Supervise until the runner at the other end of the socket is gone, then leave nothing behind."""
    for number in IGNORED:
        _signal.signal(number, _signal.SIG_IGN)
    fds = [int(text) for text in arguments]
    for fd in fds:
        os.set_inheritable(fd, False)
    import ctypes

    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    os.chdir("/")
    supervisor = Supervisor(_socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM, 0, fds[0]))
    try:
        supervisor.serve()
    finally:
        supervisor.kill_all()


if __name__ == "__main__":
    main(sys.argv[1:])
