"""The table of a bench: every figure beside its yardstick, the floor it must not miss, the target it is meant for."""

from __future__ import annotations

import os
import platform
from typing import Any

import msgspec


class Row(msgspec.Struct, kw_only=True):
    """One figure. `ratio` is what is judged: against `floor` and `target`, more is better unless `less_is_better`."""

    what: str
    yardstick: str
    measured: str
    ratio: float
    unit: str = "x"
    floor: float | None = None
    target: float | None = None
    less_is_better: bool = False

    @property
    def verdict(self) -> str:
        """Where the ratio lies between floor and target; nothing when there is nothing to reach."""
        if self.floor is not None and not self._reaches(self.floor):
            return "BELOW FLOOR"
        if self.target is not None:
            short = "ok" if self.floor is not None else "short of target"
            return "at target" if self._reaches(self.target) else short
        return "-" if self.floor is None else "ok"

    def _reaches(self, limit: float) -> bool:
        return self.ratio <= limit if self.less_is_better else self.ratio >= limit

    def cells(self) -> list[str]:
        """The row as text."""
        sign = "<= " if self.less_is_better else ">= "

        def limit(value: float | None) -> str:
            return "" if value is None else f"{sign}{value:g} {self.unit}"

        ratio = f"{self.ratio:.2f} {self.unit}"
        return [
            self.what,
            self.yardstick,
            self.measured,
            ratio,
            limit(self.floor),
            limit(self.target),
            self.verdict,
        ]

    def record(self) -> dict[str, Any]:
        """The row as plain data."""
        return {**msgspec.structs.asdict(self), "verdict": self.verdict}


HEADINGS = ["what", "yardstick", "measured", "ratio", "floor", "target", ""]


def render(rows: list[Row]) -> str:
    """The table as text, columns aligned."""
    lines = [HEADINGS, *[row.cells() for row in rows]]
    widths = [max(len(line[column]) for line in lines) for column in range(len(HEADINGS))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines
    )


def machine() -> str:
    """What was measured on, in one line."""
    return (
        f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f} before, Linux {platform.release()}, "
        f"Python {platform.python_version()}"
    )
