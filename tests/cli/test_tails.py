"""Chunks of output become lines."""

from hypothesis import given
from hypothesis import strategies as st

from headway.cli import tails
from headway.cli.tails import Lines, last_lines


def record(message: str, *, stream: str = "stdout", job: str = "a", timestamp: str = "") -> dict[str, object]:
    """A record of output."""
    return {"job": job, "attempt": 1, "step": 0, "stream": stream, "timestamp": timestamp, "message": message}


@given(st.lists(st.text(alphabet="ab\n", max_size=6), max_size=8))
def test_however_it_is_cut_the_lines_are_the_same(chunks: list[str]) -> None:
    """What is printed does not depend on how it was sent."""
    lines = Lines()
    found = [line for chunk in chunks for line in lines.add(record(chunk))] + lines.rest()
    whole = "".join(chunks).split("\n")
    expected = whole[:-1] if whole[-1] == "" else whole
    assert [line.text() for line in found] == expected


def test_jobs_and_streams_do_not_mix() -> None:
    """A line that one leaves open is not finished by another; its time is that of its beginning."""
    lines = Lines()
    assert lines.add(record("be", timestamp="1")) == []
    assert [line.text() for line in lines.add(record("warn\n", stream="stderr"))] == ["warn"]
    assert lines.add(record("x", job="b")) == []
    (line,) = lines.add(record("gin\n", timestamp="2"))
    assert (line.text(), line.timestamp, line.stream) == ("begin", "1", "stdout")


def test_a_line_without_an_end_is_cut() -> None:
    """The memory does not grow with it."""
    lines = Lines()
    (line,) = lines.add(record("x" * (tails.LINE_BYTES_MAX + 1)))
    assert len(line.body) == tails.LINE_BYTES_MAX
    assert lines.rest()[0].body == b"x"


def test_bytes_that_are_no_text_are_kept() -> None:
    """A character in two chunks, bytes in base64, and base64 that is none."""
    lines = Lines()
    first, second = "w6k=", "w6kK"
    assert lines.add({**record(""), "message_base64": first}) == []
    assert lines.add({**record(""), "message_base64": second})[0].body == b"\xc3\xa9\xc3\xa9"
    assert lines.add({**record(""), "message_base64": "?"}) == []


def test_the_last_lines_of_much() -> None:
    """Only so many are kept."""
    assert last_lines((record(f"{number}\n") for number in range(1000)), 2) == ["998", "999"]
