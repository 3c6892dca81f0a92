"""Output: records, what is published, what is kept."""

from __future__ import annotations

import asyncio
from pathlib import Path

import msgspec
import pytest

from headway.core.blobs import Blobs
from headway.core.clock import ManualClock
from headway.core.log import Unknown
from headway.runners import output
from headway.runners.output import OutputWriter, Publisher, Record, text_of, unfinished_bytes


class Output:
    """A writer, and everything it sent."""

    def __init__(self, folder: Path, **more: int) -> None:
        self.blobs = Blobs(folder / "blobs")
        self.sent: dict[str, bytes] = {}
        self.pending: list[asyncio.Future[None]] = []
        self.answer: str = "yes"
        self.clock = ManualClock()
        path = folder / "output.jsonl"
        publisher = Publisher(path, self.publish, name="run:job:1")
        self.writer = OutputWriter(path, clock=self.clock, publisher=publisher, **more)
        self.arrived = asyncio.Event()

    def publish(self, body: bytes, message_id: str) -> asyncio.Future[None]:
        """Answer at once, never, or with a failure."""
        done = asyncio.get_running_loop().create_future()
        if self.answer == "fail":
            done.set_exception(Unknown("no server"))
            return done
        self.sent[message_id] = body
        self.pending.append(done)
        if self.answer == "yes":
            done.set_result(None)
        self.arrived.set()
        return done

    def kept(self) -> list[Record]:
        """The records of the blob."""
        self.writer.close()
        found = self.writer.finish(self.blobs)
        assert found is not None
        body = self.blobs.get(found.digest)
        records = [msgspec.json.decode(line, type=Record) for line in body.splitlines()]
        assert (found.bytes, found.records) == (len(body), len(records))
        assert [record.i for record in records] == [*range(len(records))]
        return records


@pytest.fixture
async def made(tmp_path: Path) -> Output:
    """A writer with an empty store."""
    return Output(tmp_path)


async def test_nothing_printed_is_no_output(made: Output):
    """No bytes: no file, no message, no blob."""
    made.writer.begin_step(0)
    made.writer.add("out", b"")
    made.writer.close()
    assert made.writer.finish(made.blobs) is None
    assert not made.sent


async def test_records_say_where_and_when(made: Output):
    """A record has its number, time, stream, step and text, and a change of stream begins another."""
    made.writer.begin_step(0)
    made.writer.add("out", b"hello ")
    made.clock.advance(1)
    made.writer.add("out", b"world\n")
    made.writer.add("err", b"oops\n")
    made.writer.begin_step(1)
    made.writer.add("out", b"bye")
    start = ManualClock().wall_us()
    assert made.kept() == [
        Record(i=0, t=start, s="out", step=0, d="hello world\n"),
        Record(i=1, t=start + 1_000_000, s="err", step=0, d="oops\n"),
        Record(i=2, t=start + 1_000_000, s="out", step=1, d="bye"),
    ]


async def test_it_is_sent_soon_by_itself(made: Output):
    """What was printed goes out shortly after its first byte, without anybody asking."""
    made.writer.add("out", b"prompt> ")
    async with asyncio.timeout(5):
        await made.arrived.wait()
    assert b"prompt> " in made.sent["run:job:1:o0"]
    made.writer.close()


async def test_what_is_not_text_is_kept_as_bytes(made: Output):
    """Bytes that are no UTF-8 come back as they were."""
    made.writer.add("out", b"\xff\xfe\x00")
    records = made.kept()
    assert (records[0].b, records[0].d) == (b"\xff\xfe\x00", None)


@pytest.mark.parametrize("char", ["é", "€", "😀"])
async def test_a_character_is_not_torn(made: Output, char: str):
    """A character that comes in pieces, or lies across the end of a record, stays whole."""
    text = "x" * (output.RECORD_BYTES_MAX - 1) + char * 20_000
    body = text.encode()
    for at in range(0, len(body), 4093):
        made.writer.add("out", body[at : at + 4093])
        made.writer._flush_late()
    records = made.kept()
    assert all(record.d is not None for record in records)
    assert all(len(record.d.encode()) <= output.RECORD_BYTES_MAX for record in records)
    assert text_of(records) == text


async def test_half_a_character_at_the_end_is_kept(made: Output):
    """A step that ends within a character loses nothing."""
    made.writer.add("out", "é".encode()[:1])
    assert made.kept()[0].b == "é".encode()[:1]


def test_unfinished_characters_are_recognised():
    """Only what may still become a character counts as unfinished."""
    for char in ("a", "é", "€", "😀"):
        body = b"x" + char.encode()
        assert unfinished_bytes(body) == 0
        for cut in range(1, len(char.encode())):
            assert unfinished_bytes(body[:-cut]) == len(char.encode()) - cut
    assert unfinished_bytes(b"") == unfinished_bytes(b"\xff") == unfinished_bytes(b"\x80\x80\x80\x80") == 0


async def test_a_flood_is_kept_and_sent_whole(made: Output):
    """Megabytes arrive in bounded records and messages, the same in both places."""
    for _ in range(200):
        made.writer.add("out", b"0123456789abcdef" * 2000)
    await made.writer.caught_up()
    records = made.kept()
    assert len(text_of(records)) == 6_400_000
    assert max(len(body) for body in made.sent.values()) < 1_000_000
    assert b"".join(made.sent.values()).count(b"\n") == len(records)


async def test_the_limit_is_said_and_the_job_goes_on(tmp_path: Path):
    """Beyond the limit nothing is kept but a last record that says so."""
    made = Output(tmp_path, kept_bytes_max=1000)
    for _ in range(50):
        made.writer.add("out", b"x" * 99)
    made.writer.note("unheard")
    records = made.kept()
    assert text_of(records, "out") == "x" * 1000
    assert text_of(records, "err") == "[headway: output limit of 1000 bytes reached; the rest is not kept]\n"
    assert made.writer.truncated


async def test_a_server_that_is_away_does_not_hold_the_job(made: Output):
    """While nothing can be sent the file goes on, and what was missed is sent later, in order."""
    made.answer = "never"
    for _ in range(100):
        made.writer.add("out", b"y" * output.MESSAGE_BYTES)
    made.writer.flush()
    assert len(made.sent) == output.IN_FLIGHT_MAX
    made.answer = "yes"
    for done in made.pending[: output.IN_FLIGHT_MAX]:
        done.set_result(None)
    async with asyncio.timeout(10):
        while sum(map(len, made.sent.values())) < made.writer._path.stat().st_size:
            made.arrived.clear()
            await made.arrived.wait()
    whole = b"".join(made.sent.values())
    assert whole == made.writer._path.read_bytes()
    assert len(text_of(made.kept())) == 100 * output.MESSAGE_BYTES


async def test_a_failed_message_is_sent_again(made: Output):
    """A message that the server did not take comes again under the same id."""
    made.answer = "fail"
    made.writer.add("out", b"hello")
    made.writer.flush()
    assert not made.sent
    made.answer = "yes"
    async with asyncio.timeout(5):
        await made.arrived.wait()
    assert list(made.sent) == ["run:job:1:o0"]
    made.writer.close()


async def test_a_file_that_cannot_be_written_does_not_end_the_job(tmp_path: Path):
    """With a full disk, or none, output ends and says why to who asks; nothing is raised."""
    made = Output(tmp_path / "gone")
    made.writer.add("out", b"hello")
    made.writer.flush()
    made.writer.add("out", b"world")
    made.writer.close()
    assert "no such file" in made.writer.truncated
    assert made.writer.finish(made.blobs) is None
