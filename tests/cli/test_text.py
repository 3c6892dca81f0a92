"""Text for people: hostile bytes, widths, durations and times."""

import pytest

from headway.cli.text import (
    ago,
    between,
    clean,
    clean_output,
    duration,
    fit,
    pad,
    parse_duration,
    short,
    size,
    width_of,
)


@pytest.mark.parametrize(
    ("hostile", "harmless"),
    [
        ("plain", "plain"),
        ("a\x1b[2Jb", "ab"),
        ("a\x1b]0;title\x07b", "ab"),
        ("a\x1b]8;;http://x\x1b\\b", "ab"),
        ("a\x1bcb", "ab"),
        ("a\x9b2Jb", "a\ufffd2Jb"),
        ("a\tb", "a    b"),
        ("a\nb\rc", "a b c"),
        ("name\u202egnp.exe", "name\ufffdgnp.exe"),
        ("\x00\x07\x7f", "\ufffd\ufffd\ufffd"),
        ("broken \x1b[", "broken "),
        ("open \x1b]0;title", "open 0;title"),
        ("\udc80", "\ufffd"),
        ("grün 漢字", "grün 漢字"),
    ],
)
def test_no_text_can_command_the_terminal(hostile: str, harmless: str) -> None:
    """Escapes and control characters of other people never reach a terminal."""
    assert clean(hostile) == harmless


def test_output_keeps_colours_and_nothing_else() -> None:
    """A job's colours stay, and end with its line; cursor moves and titles go."""
    line = "\x1b[31mred\x1b[0m \x1b[2J\x1b]0;x\x07end"
    assert clean_output(line, colours=True) == "\x1b[31mred\x1b[0m end\x1b[0m"
    assert clean_output(line, colours=False) == "red end"


def test_a_line_that_rewrote_itself_shows_its_last_state() -> None:
    """A progress bar in a log is the bar as it was left."""
    assert clean_output("10%\r50%\r100%\r", colours=False) == "100%"


def test_wide_and_combining_characters_are_measured() -> None:
    """Columns are what a terminal uses, not characters."""
    assert [width_of(text) for text in ("abc", "漢字", "e\u0301")] == [3, 4, 1]
    assert fit("漢字漢字", 5) == "漢字~"
    assert pad("漢", 4) == "漢  "
    assert fit("abcdef", 0) == ""


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0, "0.0s"),
        (0.449, "0.4s"),
        (59.94, "59.9s"),
        (59.96, "1m 0s"),
        (200, "3m 20s"),
        (7500, "2h 5m"),
        (273600, "3d 4h"),
    ],
)
def test_durations_have_two_units(seconds: float, words: str) -> None:
    """Short ones are exact, long ones are readable."""
    assert duration(seconds) == words


@pytest.mark.parametrize(
    ("text", "seconds"), [("30", 30), ("1.5s", 1.5), ("10m", 600), ("1h30m", 5400), ("2d", 172800)]
)
def test_lengths_of_time_are_read(text: str, seconds: float) -> None:
    """A number is seconds; units may follow each other."""
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "x", "10x", "m", "-5", "1h30", "5 m"])
def test_what_is_no_length_of_time_is_refused(text: str) -> None:
    """No guess is made about it."""
    with pytest.raises(ValueError, match="not a length of time"):
        parse_duration(text)


def test_times_between_and_ago() -> None:
    """Times that are not there are not made up."""
    start, end = "2026-01-31T00:00:00Z", "2026-01-31T00:01:30Z"
    assert between(start, end, now=0) == 90
    assert between(None, end, now=0) is None
    assert ago(start, now=1769817600 + 7200) == "2h ago"
    assert ago("nonsense", now=0) == ""


def test_sizes_and_short_ids() -> None:
    """Sizes in a unit that is read; the end of an id, for its beginning is the time."""
    assert [size(number) for number in (0, 1023, 1536, 8 << 30)] == ["0 B", "1023 B", "1.5 KiB", "8.0 GiB"]
    assert short("0198aaaa-bbbb-7ccc-8ddd-eeeeffff0001") == "eeffff0001"
