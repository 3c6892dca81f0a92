"""Colour decisions, tables and diagnostics."""

import io
from pathlib import Path

import pytest

from headway.cli.render import Paint, colour_wanted, diagnostics, table, to_json
from headway.cli.text import width_of


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("terminal", "environ", "wanted"),
    [
        (True, {"TERM": "xterm"}, True),
        (False, {"TERM": "xterm"}, False),
        (True, {"TERM": "dumb"}, False),
        (True, {"TERM": "xterm", "NO_COLOR": "1"}, False),
        (True, {"TERM": "xterm", "NO_COLOR": ""}, True),
        (False, {"CLICOLOR_FORCE": "1"}, True),
        (False, {"CLICOLOR_FORCE": "1", "NO_COLOR": "1"}, False),
        (False, {"CLICOLOR_FORCE": "0"}, False),
        (True, {"TERM": "xterm", "CLICOLOR": "0"}, False),
    ],
)
def test_colour_follows_the_conventions(terminal: bool, environ: dict[str, str], wanted: bool) -> None:
    """NO_COLOR wins, then CLICOLOR_FORCE, then the terminal and TERM."""
    assert colour_wanted(Terminal() if terminal else io.StringIO(), environ) is wanted


def test_a_table_is_aligned_and_never_wider_than_the_terminal() -> None:
    """The widest column gives way; short ones stay whole."""
    rows = [["a" * 60, "success", "1.0s"], ["b", "failed", "12.0s"]]
    lines = table(("NAME", "STATUS", ">TIME"), rows, paint=Paint(False), columns=40)
    assert max(width_of(line) for line in lines) == 40
    assert lines[0].endswith(" TIME")
    assert lines[2].split() == ["b", "failed", "12.0s"]
    assert lines[1].split()[0].endswith("~")


def test_a_table_of_hostile_cells_stays_a_table() -> None:
    """A name with escapes and line ends is a cell like any other."""
    lines = table(("A", "B"), [["x\x1b[2J\ny", "z"]], paint=Paint(True), columns=80)
    assert lines[1] == "x y  z"


def test_a_problem_is_shown_with_its_line_and_a_caret(tmp_path: Path) -> None:
    """The caret is below the column, tabs included."""
    file = tmp_path / "headway.yml"
    file.write_text("name: x\n\tjobs: 1\n")
    problem = {
        "code": "HW1",
        "severity": "error",
        "file": str(file),
        "line": 2,
        "column": 2,
        "message": "wrong",
        "suggestion": "write `jobs`",
    }
    assert diagnostics([problem], Paint(False)) == [
        f"{file}:2:2: error HW1: wrong; write `jobs`",
        "    2 |     jobs: 1",
        "      |     ^",
    ]


def test_a_problem_without_a_readable_file_is_still_told() -> None:
    """A file that is gone, or a line it does not have, takes nothing from the message."""
    problem = {"severity": "warning", "file": "/nowhere.yml", "line": 9, "column": 9, "message": "odd"}
    assert diagnostics([problem], Paint(False)) == ["/nowhere.yml:9:9: warning: odd"]


def test_json_keeps_keys_in_order_and_can_be_ascii() -> None:
    """A lone surrogate must not break an output that cannot say it."""
    assert to_json({"b": 1, "a": "ü"}) == '{"b":1,"a":"ü"}'
    assert to_json({"a": "\ud800"}, ascii_only=True) == '{"a":"\\ud800"}'
