"""What is wrong with the place Headway is to work in: its configuration, folder, disk, port, log, shell."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import socket
import subprocess
from contextlib import suppress
from pathlib import Path

import msgspec
import pytest

from headway.core.jetstream import JetStreamLog
from headway.core.log import Entry
from headway.core.server import Server
from headway.core.wire import Wire
from tests.acceptance.product import HEADWAY, Product
from tests.acceptance.small_disk import fill_disk, on_its_own_disk

ONE = "name: one\njobs:\n  build:\n    steps: [echo hello]\n"
STARTING = [["run"], ["run", "--detach"], ["status"], ["runs"], ["tail", "--from", "start", "--no-follow"]]

CONFIG_SAID = """\
{path}:2:1: error HW111: the configuration has no key `slot`; did you mean `slots`?
    2 | slot: 3
      | ^
error: {path} has 1 error; correct the file; each error says where it is and what to write
"""


def test_a_wrong_configuration_is_said_with_its_place(product: Product) -> None:
    """Whatever needs the service or the configuration ends with 2 and the same words; the rest works."""
    product.write(ONE)
    product.home.mkdir()
    path = product.home / "config.yml"
    path.write_text("labels: [a]\nslot: 3\n")
    said = CONFIG_SAID.format(path=path)
    for words in [*STARTING, ["up"], ["runners", "start"], ["config", "show"], ["config", "check"]]:
        assert product.fails(2, *words) == said
    for words in [["runs", "--json"], ["config", "check", "--json"]]:
        done = product.run(*words)
        error = json.loads(done.stdout)["error"]
        assert (done.returncode, done.stderr) == (2, "")
        assert [(one["line"], one["suggestion"]) for one in error["diagnostics"]] == [(2, "did you mean `slots`?")]
    assert product.ok("config", "path") == f"{path}\n"
    assert product.ok("down") == "the service is not running\n"
    doctor = product.run("doctor")
    assert doctor.returncode == 1
    assert f"error    service  {path} has 1 error; correct the file" in doctor.stdout


def test_a_running_service_keeps_the_configuration_it_started_with(product: Product) -> None:
    """A file that becomes wrong stops nobody who works; the next start refuses it."""
    product.write(ONE)
    product.ok("run")
    (product.home / "config.yml").write_text("slot: 3\n")
    product.ok("run")
    product.fails(2, "config", "check")
    product.ok("down")
    product.fails(2, "run")


def test_a_wrong_variable_is_said_by_its_name(product: Product) -> None:
    """What is wrong in the environment is not looked for in the file; exit code 2."""
    product.write(ONE)
    environ = {"HEADWAY_SLOTS": "many"}
    words = (
        "error: HEADWAY_SLOTS: `slots` must be a whole number, not the text `many`; give HEADWAY_SLOTS another value\n"
    )
    for command in ["run", "status"]:
        assert product.fails(2, command, environ=environ) == words
    assert product.fails(2, "config", "check", environ=environ) == words


def test_a_home_that_cannot_be_a_folder_is_unavailable(product: Product, tmp_path: Path) -> None:
    """Where a file is, or below one: exit code 5, and the way out."""
    product.write(ONE)
    file = tmp_path / "file"
    file.touch()
    for home in (file, file / "home"):
        environ = {"HEADWAY_HOME": str(home)}
        said = f"error: the state folder {home} is not a folder; set HEADWAY_HOME to a folder of your own\n"
        for words in [*STARTING, ["down"]]:
            assert product.fails(5, *words, environ=environ) == said
        up = product.fails(5, "up", environ=environ)
        assert up.startswith(f"error: cannot use the state folder {home}: ")
        assert up.endswith("set HEADWAY_HOME to a folder you may write to\n")
        doctor = product.run("doctor", environ=environ)
        assert doctor.returncode == 1
        assert (
            f"error    state    {home} cannot be written to; set HEADWAY_HOME to a folder of your own" in doctor.stdout
        )


def test_a_home_without_write_permission_is_unavailable(tmp_path: Path) -> None:
    """A folder that may only be read, and one that cannot be made: exit code 5, and the way out."""
    on_its_own_disk(read_only_home, tmp_path / "disk", options="ro,size=1m")


def read_only_home(disk: Path) -> None:
    """Every command on a file system that cannot be written, whoever asks."""
    product = Product(disk.parent, home=disk)
    product.write(ONE)
    for home, why in ((disk, "permission denied"), (disk / "home", "read-only file system")):
        environ = {"HEADWAY_HOME": str(home)}
        said = f"error: cannot use the state folder {home}: {why}; set HEADWAY_HOME to a folder you may write to\n"
        for words in STARTING:
            assert product.fails(5, *words, environ=environ) == said
        assert product.fails(5, "up", environ=environ).startswith(
            f"error: cannot use the state folder {home}: read-only"
        )
        assert product.run("doctor", environ=environ).returncode == 1


def test_a_home_on_a_full_disk_is_unavailable(tmp_path: Path) -> None:
    """Where nothing can be written, not even why, it is said all the same: exit code 5."""
    on_its_own_disk(full_home, tmp_path / "disk", options="size=32m")


def full_home(disk: Path) -> None:
    """A first start without room, and one with room again."""
    product = Product(disk.parent, home=disk / "home")
    product.write(ONE)
    product.home.mkdir()
    filler = fill_disk(disk)
    said = f"error: the disk of {product.home} is full; free some space and try again\n"
    for words in STARTING:
        assert product.fails(5, *words) == said
    assert "no space left on device; free some space" in product.fails(5, "up")
    doctor = product.run("doctor")
    assert doctor.returncode == 1
    assert said.replace("error: ", "error    service  ") in doctor.stdout
    filler.unlink()
    product.ok("run")
    product.close()


def test_a_home_of_any_length_works(product: Product, tmp_path: Path) -> None:
    """A socket's path may have 107 bytes; a home may be longer, and have blanks and letters of any alphabet."""
    product.write(ONE)
    product.home = tmp_path / ("x" * 90 + " ä") / ("y" * 90)
    product.environ["HEADWAY_HOME"] = str(product.home)
    product.ok("run")
    assert product.ok("logs", "@", "build") == "hello\n"


def test_a_port_that_is_taken_is_replaced(product: Product) -> None:
    """Somebody else on the kept port: the log moves to another, and everything is still there."""
    product.write(ONE)
    product.ok("run")
    product.ok("down")
    endpoint = product.home / "nats" / "endpoint.json"
    before = json.loads(endpoint.read_text())["url"]
    with socket.socket() as other:
        other.bind(("127.0.0.1", int(before.rpartition(":")[2])))
        other.listen()
        product.ok("run")
    assert json.loads(endpoint.read_text())["url"] != before
    assert [run["status"] for run in product.json("runs")["runs"]] == ["success", "success"]


def test_an_outside_server_that_is_not_there_is_said_at_once(product: Product) -> None:
    """A dead port and an address that is none: exit codes 5 and 2, the password never repeated."""
    product.write(ONE)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environ = {"HEADWAY_NATS_URL": f"nats://ada:secret@127.0.0.1:{port}"}
    said = f"the log's server at 127.0.0.1:{port} cannot be reached: connection refused; "
    for words in STARTING:
        assert product.fails(5, *words, environ=environ).startswith(f"error: the service could not start: {said}")
    assert product.fails(5, "up", environ=environ).startswith(f"error: {said}")
    assert said in (runner := first_word(product, environ))
    doctor = product.run("doctor", environ=environ)
    assert doctor.returncode == 1
    assert said in doctor.stdout
    assert "secret" not in runner + doctor.stdout + (product.home / "service.log").read_text()
    environ = {"HEADWAY_NATS_URL": "http://ada:secret@host"}
    said = "error: HEADWAY_NATS_URL: `nats_url` must be the address of a NATS server; write it as `nats://host:4222`\n"
    assert product.fails(2, "run", environ=environ) == said


def first_word(product: Product, environ: dict[str, str]) -> str:
    """What a runner without a server says before it tries again; it ends when it is told to."""
    product.environ |= environ
    runner = product.start("runners", "start")
    assert runner.stderr
    said = runner.stderr.readline()
    runner.terminate()
    runner.communicate(timeout=30)
    assert runner.returncode == 0
    return said


def test_a_log_of_a_newer_headway_is_left_alone(product: Product) -> None:
    """An event this version does not know: exit code 5 and what to install, and not a byte is written."""
    product.write(ONE)
    product.ok("run")
    product.ok("down")
    before = asyncio.run(stored(product))
    event = {"v": 1, "id": "x:1", "at": 1, "actor": "coordinator", "data": {"type": "fleet.blessed", "how": "newly"}}
    after = asyncio.run(stored(product, add=msgspec.json.encode(event)))
    said = "the log holds the event type 'fleet.blessed', which this version of Headway does not know; install the"
    for words in STARTING:
        assert said in product.fails(5, *words)
    doctor = product.run("doctor")
    assert doctor.returncode == 1
    assert said in doctor.stdout
    product.ok("down")
    assert asyncio.run(stored(product)) == after
    assert after[:-1] == before


async def stored(product: Product, *, add: bytes = b"") -> list[bytes]:
    """All that is on the log of a product that is down; first `add` to its end."""
    server = await Server.start_or_attach(product.home / "nats")
    wire = await Wire.connect(server.endpoint, name="test")
    log = JetStreamLog(wire)
    try:
        if add:
            entry = Entry(subject="headway.fleet", id="newer", body=add, expect=await log.last_seq())
            await log.append(entry)
        return [one.body async for batch in log.read() for one in batch]
    finally:
        await wire.close()
        await server.stop()


def test_without_bash_steps_run_with_sh_and_say_so(product: Product, tmp_path: Path) -> None:
    """Where nothing was asked: sh and a warning in the output; where bash was: the job fails with what to do."""
    shell = shutil.which("sh")
    assert shell
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "sh").symlink_to(shell)
    product.environ["PATH"] = str(tmp_path / "bin")
    product.write("jobs:\n  any:\n    steps: [echo hello]\n  bash:\n    steps: [{script: echo hello, shell: bash}]\n")
    done = product.run("run")
    assert done.returncode == 1
    warning = "bash was not found, so this step runs with 'sh -e': no pipefail, no arrays, no [[ ]]"
    assert product.ok("logs", "@", "any") == f"[headway: {warning}]\nhello\n"
    started = {event["job"]: event["data"]["shell"] for event in product.events("@") if event["type"] == "step.started"}
    assert started == {"any": "sh", "bash": "bash"}
    shown = product.json("show", "@")
    steps = {step["job"]: (step["outcome"], step["reason"]) for step in shown["steps"]}
    assert steps["any"] == ("succeeded", "")
    assert steps["bash"] == ("failed", "bash was not found on PATH; install it, or say 'shell: sh'")
    assert "no bash; steps run with" in product.run("doctor").stdout


@pytest.mark.parametrize("follow", [True, False])
def test_what_jobs_print_does_not_reach_the_terminal_raw(product: Product, follow: bool) -> None:
    """Escapes and bytes that are no text: harmless in progress and in JSON, exact in a pipe."""
    product.write("jobs:\n  evil:\n    steps:\n      - printf '\\033]0;owned\\007\\377\\376 end\\n'; exit 3\n")
    done = product.run("run") if follow else product.run("wait", product.submit())
    assert done.returncode == 1
    assert "\x1b" not in done.stdout + done.stderr
    assert "\x07" not in done.stdout + done.stderr
    assert "end" in done.stderr or not follow
    raw = product.shell('exec "$1" logs @ evil', text=False).stdout
    assert raw == b"\x1b]0;owned\x07\xff\xfe end\n"
    shown = on_terminal(product, "logs", "@", "evil")
    assert "end" in shown
    assert "\x1b]" not in shown
    record = json.loads(product.ok("logs", "@", "evil", "--json"))
    assert "\x1b" not in json.dumps(record, ensure_ascii=False)
    assert "\x1b" not in product.ok("show", "@") + product.ok("tail", "@", "--from", "start")


def on_terminal(product: Product, *words: str) -> str:
    """What a command writes to a terminal."""
    leader, follower = os.openpty()
    command = subprocess.Popen(
        [str(HEADWAY), *words], env=product.environ, cwd=product.project, stdin=follower, stdout=follower
    )
    os.close(follower)
    shown = b""
    with suppress(OSError):  # the end of a terminal is an error
        while part := os.read(leader, 4096):
            shown += part
    os.close(leader)
    assert command.wait(30) == 0
    return shown.decode(errors="replace")
