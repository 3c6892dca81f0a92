"""The client's end of control.sock, against a small service on a real socket."""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from headway.cli.client import Client, Connection, Gone, answers
from headway.cli.starting import LOG_BYTES_KEPT, start
from headway.core.errors import BrokenError, NotFoundError, RefusedError, TimedOutError, UnavailableError, UsageError
from tests.cli.conftest import COMMAND, Headway
from tests.cli.fake_service import DIE, END, FakeService, data, error

FAKE = (sys.executable, str(Path(__file__).with_name("fake_service.py")))


def test_one_answer(service: FakeService, home: Path) -> None:
    """A request carries op, version and arguments; its data comes back."""
    service.on("show", [data(as_of=3, run={"run": "r1"}), END])
    assert Client(str(home)).call("show", run="@", cwd="/x") == {"as_of": 3, "run": {"run": "r1"}}
    assert [service.requests[0][key] for key in ("op", "run", "cwd")] == ["show", "@", "/x"]
    assert service.requests[0]["version"]


def test_progress_goes_to_stderr(service: FakeService, home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What the service is doing is shown, made harmless, and is no data."""
    service.on("runs", [{"progress": "packing\x1b[2J"}, data(as_of=1, runs=[]), END])
    Client(str(home)).call("runs")
    assert capsys.readouterr() == ("", "packing\n")


@pytest.mark.parametrize(
    ("code", "kind"),
    [("not_found", NotFoundError), ("refused", RefusedError), ("timed_out", TimedOutError), ("from_mars", BrokenError)],
)
def test_an_error_becomes_its_exception(service: FakeService, home: Path, code: str, kind: type[Exception]) -> None:
    """The code decides, and what is not known is a bug somewhere."""
    service.on("show", [error(code, "no run zz", "see 'headway runs'")])
    with pytest.raises(kind, match="no run zz"):
        Client(str(home)).call("show", run="zz")


def test_a_service_that_dies_before_it_answers_is_asked_again(service: FakeService, home: Path) -> None:
    """Every op may be sent twice, so nobody has to know."""
    service.on("runs", [DIE], [{"progress": "x"}, DIE], [data(as_of=1, runs=[]), END])
    assert Client(str(home)).call("runs")["as_of"] == 1
    assert len(service.asked("runs")) == 3


def test_a_service_that_dies_again_and_again_is_an_error(service: FakeService, home: Path) -> None:
    """It is said what to do, and it ends."""
    service.on("runs", [DIE])
    with pytest.raises(UnavailableError, match="went away"):
        Client(str(home)).call("runs")
    assert len(service.asked("runs")) == 3


@pytest.mark.parametrize("junk", [b"\xff\xfe\n", b"[1]\n", b"{\n"])
def test_an_answer_that_is_none_is_named(service: FakeService, home: Path, junk: bytes) -> None:
    """Bytes that are not of the protocol are a bug, not a traceback."""
    service.on("runs", [junk])
    with pytest.raises(BrokenError, match="not an answer"):
        Client(str(home)).call("runs")


def test_an_answer_in_pieces_is_put_together(service: FakeService, home: Path) -> None:
    """Lines may come in any pieces, and many in one."""
    whole = json.dumps(data(text="ü" * 300_000)).encode() + b"\n" + json.dumps(END).encode() + b"\n"
    service.on("runs", [whole[:7], whole[7:300_001], whole[300_001:]])
    assert Client(str(home)).call("runs") == {"text": "ü" * 300_000}


def test_an_argument_that_is_no_text_is_refused(service: FakeService, home: Path) -> None:
    """A file name that is not UTF-8 cannot be said in JSON."""
    with pytest.raises(UsageError, match="not valid UTF-8"):
        Client(str(home)).call("submit", path=os.fsdecode(b"caf\xe9"))


def test_a_home_with_a_long_path_works(tmp_path: Path) -> None:
    """A socket's path may have 107 bytes; a home may have more."""
    home = tmp_path / ("x" * 120) / ("y" * 120)
    service = FakeService(home)
    service.on("runs", [data(as_of=1, runs=[]), END])
    assert Client(str(home)).call("runs")["as_of"] == 1
    service.close()


def test_receiving_can_be_woken_and_limited(home: Path, service: FakeService) -> None:
    """A follower waits for answers, for its next frame and for signals at once."""
    service.on("runs", [lambda _: held.recv(1) and None, DIE])
    held, lets_go = socket.socketpair()
    reads, writes = os.pipe()
    with held, lets_go:
        connection = Connection.open(str(home))
        connection.ask("runs", {})
        assert connection.receive(timeout_seconds=0) is None
        os.write(writes, b"x")
        assert connection.receive(wake=reads) is None
        lets_go.send(b"x")
        with pytest.raises(Gone):
            connection.receive(timeout_seconds=30)
        connection.close()
    os.close(reads)
    os.close(writes)


def test_a_home_that_cannot_be_one_is_named(tmp_path: Path) -> None:
    """A file in the place of the home is no reason to start a service."""
    (tmp_path / "file").write_text("")
    with pytest.raises(UnavailableError, match="not a folder"):
        Client(str(tmp_path / "file")).call("runs")


@pytest.fixture
def started_home(tmp_path: Path) -> Iterator[Path]:
    """A home that does not exist yet; a service process that was started in it is stopped."""
    home = tmp_path / "new" / "home"
    yield home
    connection = Client(str(home)).connect_if_running()
    if connection:
        connection.ask("down", {"mode": "refuse"})
        assert list(answers(connection)) == [{"stopped": True}]
        connection.close()


def test_a_service_is_started_when_there_is_none(started_home: Path) -> None:
    """The command that needs it makes the home, starts it and is answered."""
    assert Client(str(started_home), command=FAKE).call("runs") == {"as_of": 7, "runs": []}
    assert started_home.stat().st_mode & 0o777 == 0o700


def test_eight_commands_at_once_start_one_service(started_home: Path) -> None:
    """The losers leave quietly and every command is answered by the winner."""
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: Client(str(started_home), command=FAKE).call("runs")["as_of"], range(8)))
    assert found == [7] * 8
    assert len((started_home / "starts").read_text().split()) == 1


def test_a_service_that_cannot_start_says_why(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Its last line is the error, the lines before are shown, and lines of earlier starts are not."""
    (home / "service.log").write_text("error: an old story\n")
    script = "import sys; print('first'); print('error: the port is in use; free it'); sys.exit(5)"
    with pytest.raises(UnavailableError, match="could not start: the port is in use; free it") as caught:
        start(str(home), command=(sys.executable, "-c", script))
    assert caught.value.next == f"see {home}/service.log"
    assert capsys.readouterr().err == "  first\n"


def test_a_large_service_log_is_set_aside(home: Path) -> None:
    """The next start begins a new one; the one before is kept, in the place of an older one."""
    (home / "service.log").write_bytes(b"new\n" * (LOG_BYTES_KEPT // 4 + 1))
    (home / "service.log.1").write_text("old\n")
    for said in ("one", "two"):
        with pytest.raises(UnavailableError, match=f"could not start: {said}"):
            start(str(home), command=(sys.executable, "-c", f"print({said!r}); raise SystemExit(5)"))
    assert (home / "service.log").read_text() == "one\ntwo\n"
    assert (home / "service.log.1").stat().st_size > LOG_BYTES_KEPT


def test_a_service_with_a_wrong_configuration_is_a_usage_error(home: Path) -> None:
    """The file has to be corrected, so the exit code is that of an invalid file."""
    with pytest.raises(UsageError, match="said nothing"):
        start(str(home), command=(sys.executable, "-c", "raise SystemExit(2)"))


def test_waiting_for_a_start_can_be_given_up(home: Path) -> None:
    """Ctrl-C works while a service does not come up."""

    def pulse() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        start(str(home), command=(sys.executable, "-c", ""), pulse=pulse)


def test_an_idle_older_service_is_replaced(started_home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The person sees it, and the command is answered by ours."""
    home = started_home
    home.mkdir(parents=True)
    old = subprocess.Popen(FAKE, env={**os.environ, "HEADWAY_HOME": str(home), "FAKE_VERSION": "0.0.9"})
    while True:  # until it listens; the test's own time limit ends this
        try:
            Connection.open(str(home)).close()
            break
        except OSError:
            assert old.poll() is None
    assert Client(str(home), command=FAKE).call("hello")["version"] != "0.0.9"
    assert old.wait(30) == 0
    assert "replacing the service (Headway 0.0.9)" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("version", "unfinished", "words"),
    [("0.0.9", 3, "has 3 unfinished runs; this command is"), ("99.0", 0, "newer than this command")],
)
def test_a_service_that_must_stay_is_named(home: Path, version: str, unfinished: int, words: str) -> None:
    """A busy older service and a newer one are not touched; it is said what to type."""
    service = FakeService(home, version=version)
    service.on("hello", [data(version=version, unfinished=unfinished, pid=1), END])
    with pytest.raises(RefusedError, match=words) as caught:
        Client(str(home)).call("runs")
    assert "headway down" in caught.value.next
    service.close()


def test_help_and_a_query_import_nothing_heavy(headway: Headway, service: FakeService) -> None:
    """What makes a command fast is what it does not import."""
    service.on("runs", [data(as_of=1, runs=[]), END])
    heavy = ("nats", "yaml", "asyncio", "msgspec", "aiosqlite", "dataclasses", "subprocess", "sqlite3", "logging")
    script = COMMAND[2].replace("sys.exit(main())", "code = main(); print([m for m in sys.modules if m in HEAVY])")
    for words in (["--help"], ["runs"], ["run", "--help"]):
        done = subprocess.run(
            [sys.executable, "-c", f"HEAVY = {heavy!r}; {script}", *words],
            env=headway.environ,
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
        assert done.stdout.splitlines()[-1] == "[]", words
    with_socket = subprocess.run(
        [sys.executable, "-c", f"HEAVY = ('socket', 'argparse', 'json'); {script}", "--help"],
        env=headway.environ,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert with_socket.stdout.splitlines()[-1] == "[]"
