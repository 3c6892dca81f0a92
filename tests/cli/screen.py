"""A terminal for tests: the part of one that our output uses, and anything else is an error."""

from __future__ import annotations

import re

_TOKEN = re.compile(r"\x1b\[(\d*)([A-Za-z])|\x1b\[([0-9;]*)m|(\r)|(\n)|([^\x00-\x1f\x7f]+)")


class Screen:
    """Rows of text with a cursor, scrolling into `history`; remembers every write."""

    def __init__(self, columns: int = 80, rows: int = 24) -> None:
        self.columns = columns
        self.height = rows
        self.history: list[str] = []
        self.rows: list[str] = [""] * rows
        self.row = self.column = 0
        self.writes: list[str] = []

    def size(self) -> tuple[int, int]:
        """Columns and rows."""
        return self.columns, self.height

    def write(self, text: str) -> None:
        """What a program writes to the terminal."""
        self.writes.append(text)
        at = 0
        while at < len(text):
            found = _TOKEN.match(text, at)
            assert found, f"the terminal does not know {text[at : at + 12]!r}"
            at = found.end()
            count, command, _, back, feed, words = found.groups()
            if command and command != "m":
                self._command(command, int(count or 0))
            elif back:
                self.column = 0
            elif feed:
                self._feed()
            elif words:
                self._put(words)

    def text(self) -> list[str]:
        """What is visible, without empty rows at the end."""
        shown = [row.rstrip() for row in self.rows]
        while shown and not shown[-1]:
            shown.pop()
        return shown

    def everything(self) -> list[str]:
        """What scrolled away, then what is visible."""
        return [*self.history, *self.text()]

    def _command(self, command: str, count: int) -> None:
        if command == "A":
            self.row = max(0, self.row - max(1, count))
        elif command == "K":
            self.rows[self.row] = self.rows[self.row][: self.column]
        elif command == "J":
            self.rows[self.row] = self.rows[self.row][: self.column]
            self.rows[self.row + 1 :] = [""] * (self.height - self.row - 1)
        else:
            raise AssertionError(f"the terminal does not know command {command}")

    def _feed(self) -> None:
        self.column = 0
        if self.row == self.height - 1:
            self.history.append(self.rows.pop(0).rstrip())
            self.rows.append("")
        else:
            self.row += 1

    def _put(self, words: str) -> None:
        for one in words:
            if self.column == self.columns:
                self._feed()
            line = self.rows[self.row].ljust(self.column)
            self.rows[self.row] = line[: self.column] + one + line[self.column + 1 :]
            self.column += 1
