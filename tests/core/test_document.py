"""YAML as nodes: the 1.2 core schema, positions, and the bounds that a hostile file runs into."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headway.core.diagnostics import (
    KEPT_MAX,
    Diagnostic,
    InvalidFile,
    Problems,
    Spot,
    nearest,
    render_diagnostic,
    shown,
    source_lines,
)
from headway.core.document import FILE_BYTES_MAX, load, read_bytes
from headway.core.errors import UsageError
from headway.core.nodes import Mapping, Node, Scalar, Sequence, boolean_of, integer_of, kind_of


def read(body: bytes | str) -> Node | None:
    """The document; raises what is wrong with it."""
    problems = Problems("file.yml", body.encode() if isinstance(body, str) else body)
    root = load(body.encode() if isinstance(body, str) else body, problems)
    problems.finish()
    return root


def wrong(body: bytes | str) -> list[tuple[str, int, int, str]]:
    """What is wrong with a document: code, line, column and message."""
    with pytest.raises(InvalidFile) as caught:
        read(body)
    return [(one.code, one.line, one.column, one.message) for one in caught.value.diagnostics]


def value(body: str) -> Scalar:
    """The one scalar of a document that is a mapping of one key."""
    root = read(body)
    assert isinstance(root, Mapping)
    node = next(iter(root.entries.values()))[1]
    assert isinstance(node, Scalar)
    return node


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("true", "boolean"),
        ("TRUE", "boolean"),
        ("False", "boolean"),
        ("yes", "text"),
        ("on", "text"),
        ("Off", "text"),
        ("y", "text"),
        ("tRue", "text"),
        ("", "null"),
        ("~", "null"),
        ("null", "null"),
        ("Null", "null"),
        ("nil", "text"),
        ("0", "integer"),
        ("-12", "integer"),
        ("+7", "integer"),
        ("0755", "integer"),
        ("0o17", "integer"),
        ("0xFf", "integer"),
        ("0b11", "text"),
        ("1_000", "text"),
        ("12:30", "text"),
        ("12:30:45", "text"),
        ("3.10", "number"),
        (".5", "number"),
        ("1e3", "number"),
        ("-.inf", "number"),
        (".NaN", "number"),
        ("1.2.3", "text"),
        ("2026-01-02", "text"),
        ("2026-01-02T03:04:05Z", "text"),
        ("'true'", "text"),
        ('"3"', "text"),
        ("! '3'", "text"),
        ("!!str 3", "text"),
        ("!!int '3'", "integer"),
        ("=", "text"),
    ],
)
def test_scalars_are_what_the_core_schema_says(text: str, kind: str) -> None:
    """Only the core schema resolves: no yes and no, no base 60, no binary, no dates."""
    assert kind_of(value(f"key: {text}")) == kind


def test_a_scalar_keeps_its_source_text() -> None:
    """What looks like a number or a boolean is still there as it was written."""
    assert [value(f"key: {text}").text for text in ("3.10", "yes", "0755", "1e3")] == ["3.10", "yes", "0755", "1e3"]


def test_on_is_a_key_like_any_other() -> None:
    """`on` is text, also as a key."""
    root = read("on: push\n")
    assert isinstance(root, Mapping)
    assert list(root.entries) == ["on"]


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("0755", 755),
        ("0o17", 15),
        ("0x1F", 31),
        ("-3", -3),
        ("9" * 5000, 10**18),
        ("-" + "9" * 5000, -(10**18)),
        ("3.0", None),
        ("'3'", None),
        ("1_0", None),
    ],
)
def test_integers_are_read_without_surprises(text: str, number: int | None) -> None:
    """A leading zero is no octal, and thousands of digits are merely too many."""
    assert integer_of(value(f"key: {text}")) == number


def test_only_true_and_false_are_booleans() -> None:
    """`yes` is not true."""
    found = [boolean_of(value(f"key: {text}")) for text in ("true", "False", "yes", "'true'")]
    assert found == [True, False, None, None]


def test_every_node_knows_its_place() -> None:
    """Lines and columns count from 1, in characters, and a byte order mark is not one."""
    root = read("\ufeffkey:\n  - é: [a, 'b']\r\n  - |\n    text\n")
    assert isinstance(root, Mapping)
    items = root.entries["key"][1]
    assert isinstance(items, Sequence)
    first = items.items[0]
    assert isinstance(first, Mapping)
    flow = first.entries["é"][1]
    assert isinstance(flow, Sequence)
    assert [(node.line, node.column) for node in (root, items, first, flow, flow.items[1], items.items[1])] == [
        (1, 1),
        (2, 3),
        (2, 5),
        (2, 8),
        (2, 12),
        (3, 5),
    ]


def test_line_ends_of_windows_do_not_reach_the_text() -> None:
    """A block of text from a file with CRLF has plain line ends."""
    assert value("key: |\r\n  one\r\n  two\r\n").text == "one\ntwo\n"


@pytest.mark.parametrize("body", ["", "\n\n", "# nothing\n", "---\n", "~\n", "\ufeff"])
def test_nothing_is_nothing(body: str) -> None:
    """An empty document is no error of the document's."""
    assert read(body) is None


ODD = "this is not text: it holds the character"


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"a: \xff\n", ("HW101", 1, 4, "this is not text: byte 0xff is not UTF-8")),
        ("a: b".encode("utf-16"), ("HW101", 1, 1, "this is not text: byte 0xff is not UTF-8")),
        (b"a: 1\nb\0: 2", ("HW101", 2, 2, f"{ODD} U+0000, which is not taken as it is")),
        ("a: \u2028", ("HW101", 1, 4, f"{ODD} U+2028, which is not taken as it is")),
        ("a: [1", ("HW102", 1, 6, "this is not YAML: did not find expected ',' or ']', while parsing a flow sequence")),
        ("a: b: c", ("HW102", 1, 5, "this is not YAML: mapping values are not allowed in this context")),
        ("a: 1\n---\nb: 2\n", ("HW104", 2, 1, "a second document begins here")),
        ("a: 1\nb: 2\na: 3\n", ("HW105", 3, 1, "the key `a` is here a second time; the first is in line 1")),
        ("a: 1\n'a': 3\n", ("HW105", 2, 1, "the key `a` is here a second time; the first is in line 1")),
        ("a: !!python/name:os.x x", ("HW106", 1, 4, "the tag `!!python/name:os.x` is not taken: a file is data")),
        ("a: !secret {b: 1}", ("HW106", 1, 4, "the tag `!secret` is not taken: a file is data")),
        ("a: !!timestamp 2026-01-02", ("HW106", 1, 4, "the tag `!!timestamp` is not taken: a file is data")),
        ("[" * 1000, ("HW107", 1, 65, "this is nested deeper than 64 levels")),
        ("- " * 1000, ("HW107", 1, 129, "this is nested deeper than 64 levels")),
        (f"a: &x {'[' * 40}{']' * 40}\nb: {'[' * 40}*x", ("HW107", 2, 44, "this is nested deeper than 64 levels")),
        ("a: &x [*x]", ("HW109", 1, 8, "the alias `*x` is inside what it names")),
        ("anchor: &anchor 1\na: *ancor", ("HW109", 2, 4, "there is no anchor `&ancor` before this")),
        ("[a]: 1", ("HW110", 1, 1, "a key must be text, not a list or a mapping")),
    ],
)  # fmt: skip
def test_what_is_no_document_is_said_with_its_place(body: bytes | str, expected: tuple[str, int, int, str]) -> None:
    """Each way of being no readable document has a code, a place and words."""
    assert wrong(body) == [expected]


def test_a_tab_is_named_as_what_it_is() -> None:
    """The remedy for a tab says spaces."""
    with pytest.raises(InvalidFile) as caught:
        read("a:\n\tb: 1\n")
    assert caught.value.diagnostics[0].suggestion == "indent with spaces: YAML does not take a tab there"


def test_several_problems_are_said_at_once_by_position() -> None:
    """Reading goes on after a key that is there twice or a tag that is not taken."""
    assert [found[:3] for found in wrong("a: !x 1\na: 2\nb: {c: 1, c: 2}\n")] == [
        ("HW106", 1, 4),
        ("HW105", 2, 1),
        ("HW105", 3, 11),
    ]


def test_a_billion_laughs_are_refused() -> None:
    """Aliases of aliases are counted as often as they are used, not expanded."""
    lines = ["a: &a [x, x, x, x, x, x, x, x, x, x]"]
    lines += [
        f"{name}: &{name} [{', '.join(['*' + before] * 10)}]"
        for before, name in zip("abcdefgh", "bcdefghi", strict=True)
    ]
    assert [found[0] for found in wrong("\n".join(lines))] == ["HW108"]


def test_a_long_text_is_not_multiplied_by_aliases() -> None:
    """Aliases may add 16 Mi characters and no more."""
    body = "a: &a " + "x" * 1_000_000 + "\nb: [" + ", ".join(["*a"] * 17) + "]\n"
    assert wrong(body)[0][:2] == ("HW108", 2)


def test_aliases_within_bounds_are_followed() -> None:
    """An alias stands for the very node that its anchor names."""
    root = read("a: &a [x]\nb: *a\nc: &a 2\nd: *a\n")
    assert isinstance(root, Mapping)
    assert root.entries["b"][1] is root.entries["a"][1]
    assert root.entries["d"][1] is root.entries["c"][1]


def test_a_million_values_are_too_many() -> None:
    """A small file of very many values is refused where it becomes too much."""
    assert wrong("[" + "a," * 1_000_001 + "]")[0][0] == "HW108"


def test_only_so_many_problems_are_listed() -> None:
    """A file of nothing but mistakes is refused with the first of them and the count of all."""
    with pytest.raises(InvalidFile, match=r"^file\.yml has 1999 errors, of which 1000 are listed$") as caught:
        read("a: 1\n" * 2000)
    assert len(caught.value.diagnostics) == KEPT_MAX


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200) | st.text("ab:-[]{}&*!|>'\"#%@`,? \n\t0", max_size=60))
def test_any_bytes_are_read_or_refused(body: bytes | str) -> None:
    """Nothing crashes the reader, and each problem has a place in the file."""
    try:
        read(body)
    except InvalidFile as error:
        lines = len(source_lines(body if isinstance(body, bytes) else body.encode()))
        assert all(1 <= one.line <= lines and one.column >= 1 for one in error.diagnostics)  # noqa: PT017


def test_a_file_is_read_whole(tmp_path: Path) -> None:
    """The bytes of an ordinary file come back as they are."""
    (tmp_path / "file.yml").write_bytes(b"a: 1\n" * 300_000)
    assert read_bytes(tmp_path / "file.yml", what="file", missing="") == b"a: 1\n" * 300_000


def test_what_is_no_ordinary_file_is_refused_in_words(tmp_path: Path) -> None:
    """A missing file, a directory, a pipe nobody writes to, a huge file: each at once, with what to do."""
    os.mkfifo(tmp_path / "pipe")
    with (tmp_path / "huge").open("wb") as file:
        file.truncate(FILE_BYTES_MAX + 1)
    (tmp_path / "loop").symlink_to("loop")
    words = {
        tmp_path / "none": f"there is no pipeline file {tmp_path}/none",
        tmp_path: f"{tmp_path} is a directory, not a pipeline file",
        tmp_path / "pipe": f"{tmp_path}/pipe is not an ordinary file",
        tmp_path / "huge": f"{tmp_path}/huge is larger than 16 MiB, the most a pipeline file may be",
        tmp_path / "loop": f"{tmp_path}/loop cannot be read: too many levels of symbolic links",
        tmp_path / "huge" / "x": f"{tmp_path}/huge/x cannot be read: not a directory",
        Path("a\0b"): "a\\x00b cannot be read: not a possible file name",
    }
    for path, message in words.items():
        with pytest.raises(UsageError) as caught:
            read_bytes(path, what="pipeline file", missing="write one")
        assert caught.value.message == message
        assert caught.value.next


def diagnostic(**changes: object) -> Diagnostic:
    """A problem with plain defaults."""
    plain: dict[str, object] = {"code": "HW111", "severity": "error", "file": "a.yml", "line": 1, "column": 1}
    return Diagnostic(**{**plain, "path": "", "message": "no", **changes})  # type: ignore[arg-type]


def test_a_problem_is_shown_with_its_line_and_a_caret() -> None:
    """Place and message, the source line, the caret below the column, and what to write."""
    one = diagnostic(line=2, column=3, message="a step has no key `x`", suggestion="did you mean `y`?")
    assert render_diagnostic(one, ["jobs:", "  x: 1"]).splitlines() == [
        "a.yml:2:3: error HW111: a step has no key `x`",
        "    2 |   x: 1",
        "      |   ^",
        "      = did you mean `y`?",
    ]


def test_the_caret_stays_below_its_place() -> None:
    """Tabs, wide characters and long lines do not move the caret; control characters do not reach the terminal."""
    wide = render_diagnostic(diagnostic(column=4), ["\t日本x\x1b[31m"]).splitlines()
    assert wide[1:] == ["    1 |  日本x?[31m", "      |      ^"]
    long = render_diagnostic(diagnostic(column=501), ["a" * 500 + "b" + "c" * 500]).splitlines()
    assert long[1][long[2].index("^")] == "b"
    assert len(long[1]) < 130


@pytest.mark.parametrize(("line", "column"), [(9, 1), (1, 99), (0, 0)])
def test_a_place_outside_the_file_is_shown_without_a_crash(line: int, column: int) -> None:
    """A problem may lie after the last line, or after the end of one."""
    assert render_diagnostic(diagnostic(line=line, column=column), ["a"]).startswith("a.yml:")


def test_text_from_outside_is_shown_on_one_printable_line() -> None:
    """Control characters are escaped, long text is cut."""
    assert shown("a\x1b[2J\n") == "a\\x1b[2J\\n"
    assert shown("x" * 100, 10) == "x" * 9 + "…"


@pytest.mark.parametrize(
    ("word", "expected"),
    [("buid", "build"), ("Build", "build"), ("unit_test", "unit-test"), ("zzz", ""), ("", ""), ("build", "")],
)
def test_the_nearest_name_is_found(word: str, expected: str) -> None:
    """A typing error, another case or another dash leads to the name; nothing like it leads nowhere."""
    assert nearest(word, ["build", "unit-test", "deploy"]) == expected


def test_the_error_carries_its_diagnostics_as_data() -> None:
    """What `--json` prints names each problem with all of its fields."""
    problems = Problems("a.yml")
    problems.warning("HW151", Spot(5, 1), "odd")
    problems.error("HW111", Spot(2, 3), "no", path="jobs.x", suggestion="yes")
    with pytest.raises(InvalidFile) as caught:
        problems.finish()
    record = caught.value.record()
    assert (record["code"], record["message"]) == ("usage", "a.yml has 1 error")
    assert [one["code"] for one in caught.value.details] == ["HW111", "HW151"]
    assert caught.value.details[0] == {
        "code": "HW111",
        "severity": "error",
        "file": "a.yml",
        "line": 2,
        "column": 3,
        "path": "jobs.x",
        "message": "no",
        "suggestion": "yes",
    }
