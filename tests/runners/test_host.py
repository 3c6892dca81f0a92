"""The host executor: the contract with real processes, and what only real processes do."""

from __future__ import annotations

import asyncio
import os
import secrets
import shlex
import signal
from pathlib import Path

import pytest
from executor_contract import ExecutorContract
from waiting import alive, until, wait_until, with_argument

from headway.runners.executor import Chunk, Command, ExecutorBroken, Exited
from headway.runners.host import HostExecutor
from headway.runners.scripted import Act, End, Flood, Hang, Refuse, Say


def shell_of(acts: tuple[Act, ...]) -> str:
    """A shell script that does this."""
    lines = []
    for act in acts:
        match act:
            case Say(body=body, stream=stream):
                octal = "".join(f"\\{byte:03o}" for byte in body)
                lines.append(f"printf {shlex.quote(octal)}" + (" >&2" if stream == "err" else ""))
            case Flood(bytes=size):
                lines.append(f"head -c {size} /dev/zero")
            case Hang(stubborn=stubborn):
                lines += ["trap '' TERM"] * stubborn + ["while :; do sleep 600; done" if stubborn else "exec sleep 600"]
            case End(exit_code=code, signal=name):
                lines.append(f"kill -{name.removeprefix('SIG')} $$" if name else f"exit {code}")
    if any(isinstance(act, Hang) and act.stubborn for act in acts):
        lines.insert(0, "trap '' TERM")
    return "\n".join(lines)


def children_of(parent: int) -> list[int]:
    """The processes a process has to wait for, zombies too."""
    return [int(pid) for pid in Path(f"/proc/{parent}/task/{parent}/children").read_text().split()]


class TestHostExecutor(ExecutorContract):
    """The contract, and the ways of processes."""

    @pytest.fixture(autouse=True)
    async def _executor(self, tmp_path: Path):
        self.folder = tmp_path
        self.marker = f"HEADWAY_ENV={tmp_path}/"
        self.executor = HostExecutor()
        yield
        await self.executor.close()
        wait_until(lambda: not with_argument(str(tmp_path)))

    def command(self, *acts: Act, timeout_seconds: float = 20.0, grace_seconds: float = 5.0) -> Command:
        if acts and isinstance(acts[0], Refuse):
            return self.made(("/nonexistent/program",))
        return self.made(
            ("/bin/sh", "-c", shell_of(acts)), timeout_seconds=timeout_seconds, grace_seconds=grace_seconds
        )

    def made(self, argv: tuple[str, ...], *, timeout_seconds: float = 20.0, grace_seconds: float = 5.0) -> Command:
        """A command of these arguments."""
        return Command(
            argv=argv,
            environment={"PATH": os.environ["PATH"], "HEADWAY_ENV": f"{self.folder}/0.env"},
            folder=self.folder,
            timeout_seconds=timeout_seconds,
            timeout_reason="timed out",
            grace_seconds=grace_seconds,
            marker=self.marker,
        )

    def script(self, text: str, *, timeout_seconds: float = 20.0, grace_seconds: float = 5.0) -> Command:
        """A command of this shell script."""
        return self.made(("/bin/sh", "-c", text), timeout_seconds=timeout_seconds, grace_seconds=grace_seconds)

    async def test_the_environment_is_given_whole(self):
        """A process has the variables it is given and no others, and nothing on its standard input."""
        printed, _ = await self.seen(self.made(("/usr/bin/env",)))
        assert printed["out"].decode().splitlines() == [
            f"PATH={os.environ['PATH']}",
            f"HEADWAY_ENV={self.folder}/0.env",
        ]
        printed, exited = await self.seen(self.script("pwd; cat; ls /proc/self/fd | wc -l"))
        assert printed["out"].decode().split() == [str(self.folder), "4"]  # 0, 1, 2 and what ls reads
        assert exited.exit_code == 0

    async def test_what_a_job_abandons_is_reaped_while_it_runs(self):
        """Orphans that ended do not pile up as zombies, and the job's own end is still told."""
        text = "for i in 1 2 3 4 5 6 7 8; do (sh -c : &) ; done; echo $$; until [ -e go ]; do sleep 0.01; done; exit 7"
        events = self.executor.run(self.script(text))
        job = int((await anext(events)).body)
        await until(lambda: children_of(self.executor.supervisor_pid) == [job])
        (self.folder / "go").touch()
        ended = [event async for event in events][-1]
        assert (ended.exit_code, ended.signal) == (7, "")
        await until(lambda: children_of(self.executor.supervisor_pid) == [])

    async def test_signals_have_their_usual_meaning(self):
        """A broken pipe ends a job's process as it would in a terminal."""
        printed, _ = await self.seen(self.script("grep -E 'Sig(Ign|Blk)' /proc/self/status"))
        _, blocked, _, ignored = printed["out"].split()
        assert (int(blocked, 16), int(ignored, 16) & 0x7FFFFFFF) == (0, 0)  # 32 and 33 are the C library's own

    async def test_a_missing_folder_is_a_value(self):
        """A folder that went away is a reason, not a broken executor."""
        self.folder = self.folder / "gone"
        _, exited = await self.seen(self.script("true"))
        assert "no such file" in exited.reason

    async def test_too_long_an_argument_is_a_value(self):
        """What the kernel refuses is a reason."""
        _, exited = await self.seen(self.made(("/bin/true", "x" * 3_000_000)))
        assert "too long" in exited.reason

    async def test_a_big_environment_gets_through(self):
        """A message larger than the socket's buffer arrives."""
        command = self.made(("/usr/bin/env",))
        command.environment.update({f"V{i}": "x" * 100_000 for i in range(12)})
        printed, _ = await self.seen(command)
        assert len(printed["out"]) > 1_200_000

    async def test_the_whole_group_is_ended(self):
        """A time-out ends the children of the command too, also those that ignore SIGTERM."""
        word = f"{secrets.randbelow(10**8) + 10**8}"
        text = f"(trap '' TERM; sleep {word}) & sleep {word}"
        _, exited = await self.seen(self.script(text, timeout_seconds=0.2))
        assert exited.stopped
        await until(lambda: not with_argument(word))

    async def test_a_stopped_group_hears_the_end(self):
        """A job that stopped itself is continued to be ended."""
        _, exited = await self.seen(self.script("kill -STOP $$", timeout_seconds=0.1))
        assert (exited.signal, exited.stopped) == ("SIGTERM", True)

    async def test_a_daemon_lives_to_the_end_of_the_job_and_no_longer(self):
        """What left the group and the session goes on beside the next command, and is killed by clear."""
        word = f"{secrets.randbelow(10**8) + 10**8}"
        _, exited = await self.seen(self.script(f"setsid sh -c 'sleep {word} & exit' ; true"))
        assert exited.exit_code == 0
        await until(lambda: with_argument(word))
        await self.seen(self.script("true"))
        assert with_argument(word)
        await self.executor.clear()
        assert not with_argument(word)

    async def test_output_held_open_by_a_daemon_does_not_hold_the_job(self):
        """The command has ended when its process has, whoever keeps its pipe."""
        async with asyncio.timeout(5):
            printed, exited = await self.seen(self.script("sleep 600 & echo done"))
        assert (printed["out"], exited.exit_code) == (b"done\n", 0)
        await self.executor.clear()

    async def test_late_output_of_a_pipeline_is_kept(self):
        """What a child prints just after its parent ended belongs to the command."""
        printed, _ = await self.seen(self.script("(sleep 0.05; echo late) & exit 0"))
        assert printed["out"] == b"late\n"

    async def test_closed_output_is_no_end(self):
        """A process that closes its output still runs until it exits."""
        printed, exited = await self.seen(self.script("echo first; exec >&- 2>&-; sleep 0.1; exit 7"))
        assert (printed["out"], exited.exit_code) == (b"first\n", 7)

    async def test_a_flood_that_nobody_wants_does_not_block_the_end(self):
        """A daemon that floods a command's pipe cannot keep the command from ending."""
        async with asyncio.timeout(10):
            _, exited = await self.seen(self.script("cat /dev/zero & exit 0"))
        assert exited.exit_code == 0
        await self.executor.clear()

    async def test_a_killed_supervisor_is_noticed_and_replaced(self):
        """The command counts as broken, its processes are killed, and the next command runs."""
        word = f"{secrets.randbelow(10**8) + 10**8}"
        events = self.executor.run(self.script(f"(setsid sleep {word} &); echo ready; sleep {word}"))
        assert isinstance(await anext(events), Chunk)
        os.kill(self.executor.supervisor_pid, signal.SIGKILL)
        with pytest.raises(ExecutorBroken, match="supervisor died"):
            await anext(events)
        assert not with_argument(word)
        await self.executor.clear()
        _, exited = await self.seen(self.script("exit 5"))
        assert exited.exit_code == 5

    async def test_a_supervisor_killed_between_commands_leaves_nothing(self):
        """What an earlier command left running is found by its marker."""
        word = f"{secrets.randbelow(10**8) + 10**8}"
        await self.seen(self.script(f"setsid sleep {word} > /dev/null 2>&1 &"))
        await until(lambda: with_argument(word))
        killed = self.executor.supervisor_pid
        os.kill(killed, signal.SIGKILL)
        await until(lambda: not alive(killed))
        await self.executor.clear()
        assert not with_argument(word)
        _, exited = await self.seen(self.script("exit 5"))
        assert exited.exit_code == 5

    async def test_the_supervisor_takes_no_signals_meant_for_the_runner(self):
        """Ctrl-C and SIGTERM do not take the supervisor from its job."""
        async for event in self.executor.run(self.script("echo ready; sleep 0.05; exit 4")):
            if isinstance(event, Chunk):
                for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                    os.kill(self.executor.supervisor_pid, number)
            else:
                assert (event.exit_code, event.stopped) == (4, False)

    async def test_a_lease_may_be_given_again(self):
        """After a lease ran out, a new one lets work go on."""
        self.executor.renew(0.05)
        await self.seen(self.script("sleep 600"))
        self.executor.renew(60)
        _, exited = await self.seen(self.script("exit 6"))
        assert exited.exit_code == 6

    async def test_what_it_took_is_told(self):
        """CPU time and memory of the command are known at its end."""
        _, exited = await self.seen(self.script("i=0; while [ $i -lt 30000 ]; do i=$((i+1)); done"))
        assert isinstance(exited, Exited)
        assert exited.cpu_ms > 0
        assert exited.memory_bytes > 0
