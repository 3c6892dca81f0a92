"""Counts, sums and exact percentiles of columns. The only file that imports numpy, and nobody imports it before asked.

A percentile is by nearest rank: the smallest handoff that at least so many percent of all are not longer than.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple

import msgspec

_THREADS: Final = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")
_SET = [name for name in _THREADS if name not in os.environ]
os.environ.update(dict.fromkeys(_SET, "1"))  # read once, at import: no threads for algebra that nobody asks for
import numpy as np  # noqa: E402 - the lines above must come before
from numpy.typing import NDArray  # noqa: E402

from headway.projections.pieces import ASKED, EARLIER, Bounds, Piece  # noqa: E402

for _name in _SET:
    os.environ.pop(_name, None)  # jobs would inherit it

PERIODS: Final = 2
PERCENTS: Final = (50, 95, 99)
_KEYS_MAX: Final = 1 << 20
"""How large a table of groups may be; where more could be, they are numbered by sorting."""

_Numbers = NDArray[np.int64]
_Codes = NDArray[np.uint8]


class Group(NamedTuple):
    """Handoffs that are alike: by the numbers of their names; counts and rough sums in each period."""

    names: tuple[int, ...]
    counts: tuple[int, int]
    sums: tuple[float, float]


class Figures(msgspec.Struct, frozen=True):
    """Exact figures in microseconds; `percentiles` has those of `PERCENTS` and then the longest."""

    count: int
    percentiles: tuple[int, ...]
    sum: int


class Handoffs:
    """The rows of all pieces that lie in one of the periods, column by column."""

    def __init__(self, pieces: Sequence[Piece], columns: Sequence[str], bounds: Bounds) -> None:
        loaded = [_loaded(one, columns, bounds) for one in pieces]
        self._duration: _Numbers = _together([found["duration"] for found, _ in loaded])
        names = [name for name in columns if name != "duration"]
        self._columns = {name: _together([found[name] for found, _ in loaded]) for name in names}
        self._period: _Codes | None = None  # all rows are in the asked one
        if any(not isinstance(period, int) or period != ASKED for _, period in loaded):
            self._period = _together([np.full(len(found["duration"]), period, np.uint8) for found, period in loaded])
        self._key: _Numbers = np.zeros(0, np.int64)
        self._found: _Numbers = np.zeros(0, np.int64)
        self._counts: _Numbers = np.zeros((0, 1), np.int64)

    def distinct(self, column: str) -> list[int]:
        """The numbers that a column has."""
        return [int(one) for one in np.flatnonzero(_present(self._columns[column]))]

    def only(self, column: str, number: int) -> None:
        """Forget all rows but those with this number."""
        self._keep(self._columns[column] == number)

    def settle(self, whole: Sequence[int], *, phases: bool) -> tuple[tuple[int, int], tuple[int, int]]:
        """Forget the rows whose state ended in no handoff, and unless they are wanted, those of phases.

        `whole` has the numbers of states that are no phases. Says how many of those stay and how many do not, in both
        periods.
        """
        over, states = self._duration >= 0, self._columns["state"]
        table = np.zeros(max([int(states.max(initial=0)), *whole]) + 1, np.bool_)
        table[list(whole)] = True
        counted = over & table[states]
        handoffs = self._in_periods(counted)
        left_out = self._in_periods(~over)
        self._keep(over if phases else counted)
        return handoffs, left_out

    def spread(self, column: str, into: Mapping[int, Sequence[int]]) -> None:
        """Put one row for each of several numbers in the place of a row with the number that stands for them all."""
        values = self._columns[column]
        lengths = np.zeros(int(values.max(initial=0)) + 1, np.int64)
        starts, flat = np.zeros_like(lengths), [0]
        for number, several in into.items():
            lengths[number], starts[number] = len(several), len(flat)
            flat += several
        numbers = np.array(flat, np.uint32)
        spread = [numbers[starts][values]]
        rows = [np.flatnonzero(lengths[values] > more) for more in range(1, int(lengths.max()))]
        if rows:  # most rows stay where they are
            spread += [numbers[starts[values[some]] + more] for more, some in enumerate(rows, 1)]
            self._append(np.concatenate(rows))
        self._columns[column] = np.concatenate(spread)

    def groups(self, by: Sequence[str]) -> list[Group]:
        """The groups that differ in these columns. A group's place in the list is its number for `figures`."""
        self._key, names = _keyed([self._columns[name] for name in by])
        periods, size = self._periods(), int(self._key.max(initial=-1)) + 1
        if self._period is not None:
            self._key *= PERIODS
            self._key += self._period
        counts = np.bincount(self._key, minlength=size * periods).reshape(size, periods)
        sums = np.bincount(self._key, self._duration, size * periods).reshape(size, periods)
        self._found = np.flatnonzero(counts.any(axis=1))
        self._counts = counts[self._found]
        told = zip(*(one.tolist() for one in names(self._found)), strict=True)
        counted, summed = ([*map(tuple, _both(one).tolist())] for one in (self._counts, sums[self._found]))
        return list(map(Group._make, zip(told, counted, summed, strict=True)))

    def figures(self, chosen: Sequence[int]) -> list[tuple[Figures, Figures]]:
        """Exact figures of these groups, in their order, in both periods."""
        periods = self._periods()
        wanted = self._found[list(chosen)]
        places = np.full((int(self._found.max(initial=0)) + 1) * periods, -1, np.int64)
        for period in range(periods):
            places[wanted * periods + period] = np.arange(len(chosen)) * periods + period
        key, duration = places[self._key], self._duration
        if len(chosen) < len(self._found):
            among = np.flatnonzero(key >= 0)
            key, duration = key[among], duration[among]
        ordered = _sorted_within(key, duration)
        counts = self._counts[list(chosen), :periods].ravel()
        ends = np.cumsum(counts)
        found = [
            _figures(ordered[end - count : end]) for end, count in zip(ends.tolist(), counts.tolist(), strict=True)
        ]
        earlier = found[EARLIER::PERIODS] if periods == PERIODS else [_figures(ordered[:0])] * len(found)
        return list(zip(found[ASKED::periods], earlier, strict=True))

    def _periods(self) -> int:
        return 1 if self._period is None else PERIODS

    def _in_periods(self, rows: NDArray[np.bool_]) -> tuple[int, int]:
        count = int(np.count_nonzero(rows))
        earlier = 0 if self._period is None else int(np.count_nonzero(rows & (self._period == EARLIER)))
        return count - earlier, earlier

    def _keep(self, rows: NDArray[np.bool_]) -> None:
        if not rows.all():
            self._take(np.flatnonzero(rows))

    def _append(self, rows: _Numbers) -> None:
        """The same rows once more."""
        if self._period is not None:
            self._period = np.concatenate((self._period, self._period[rows]))
        self._duration = np.concatenate((self._duration, self._duration[rows]))
        self._columns = {name: np.concatenate((values, values[rows])) for name, values in self._columns.items()}

    def _take(self, rows: _Numbers) -> None:
        self._period = None if self._period is None else self._period[rows]
        self._duration = self._duration[rows]
        self._columns = {name: values[rows] for name, values in self._columns.items()}


def _loaded(piece: Piece, columns: Sequence[str], bounds: Bounds) -> tuple[dict[str, Any], int | _Codes]:
    """The columns of a piece, and its period or that of each row. Rows outside of the periods are not there."""
    rows = len(piece.columns["duration"]) // 8
    found = {name: _array(name, piece.columns[name], rows) for name in columns}
    if piece.period is not None:
        return found, piece.period
    left = np.frombuffer(piece.columns["left"], np.int64)
    asked = (left >= bounds.start) & (left <= bounds.end)
    inside = asked | ((left >= bounds.earlier) & (left < bounds.start))
    periods = np.where(asked, ASKED, EARLIER).astype(np.uint8)[inside]
    alike = ASKED if not (periods == EARLIER).any() else periods
    return {name: values[inside] for name, values in found.items()}, alike


def _array(column: str, body: bytes, rows: int) -> NDArray[Any]:
    if column == "duration":
        return np.frombuffer(body, np.int64)
    return np.frombuffer(body, {1: np.uint8, 2: np.uint16, 4: np.uint32}[len(body) // rows if rows else 1])


def _together(arrays: Sequence[NDArray[Any]]) -> NDArray[Any]:
    return np.concatenate(arrays) if arrays else np.zeros(0, np.int64)


def _both(figures: NDArray[Any]) -> NDArray[Any]:
    """A column for each period; the earlier one has nothing where all rows are in the other."""
    return np.pad(figures, ((0, 0), (0, PERIODS - figures.shape[1])))


def _present(values: NDArray[Any]) -> NDArray[np.bool_]:
    """Which numbers from 0 on occur."""
    table = np.zeros(int(values.max(initial=0)) + 1, np.bool_)
    table[values] = True
    return table


def _keyed(columns: Sequence[NDArray[Any]]) -> tuple[_Numbers, Callable[[_Numbers], list[_Numbers]]]:
    """For each row one number that stands for its numbers in all columns, and how to tell those from such numbers.

    The numbers are small: they are to be places in a table.
    """
    sizes = [int(values.max(initial=0)) + 1 for values in columns]
    if math.prod(sizes) <= _KEYS_MAX:
        return _radix(columns, sizes), lambda found: _apart(found, sizes)
    own = [np.flatnonzero(_present(values)) for values in columns]
    dense = [_places(numbers)[values] for numbers, values in zip(own, columns, strict=True)]
    sizes = [len(numbers) for numbers in own]
    if math.prod(sizes) <= _KEYS_MAX:
        return _radix(dense, sizes), lambda found: [
            numbers[one] for numbers, one in zip(own, _apart(found, sizes), strict=True)
        ]
    key, known = np.zeros(len(columns[0]), np.int64), list[_Numbers]()
    for values, numbers in zip(dense, own, strict=True):
        different, key = np.unique(key * len(numbers) + values, return_inverse=True)
        before, last = np.divmod(different, len(numbers))
        known = [*(one[before] for one in known), numbers[last]]
    return key, lambda found: [one[found] for one in known]


def _places(numbers: _Numbers) -> _Numbers:
    """A table of the place that each of these numbers has among them."""
    table = np.zeros(int(numbers.max(initial=0)) + 1, np.int64)
    table[numbers] = np.arange(len(numbers))
    return table


def _radix(columns: Sequence[NDArray[Any]], sizes: Sequence[int]) -> _Numbers:
    key = columns[0].astype(np.int64)
    for values, size in zip(columns[1:], sizes[1:], strict=True):
        key *= size
        key += values
    return key


def _apart(keys: _Numbers, sizes: Sequence[int]) -> list[_Numbers]:
    """The numbers in each column that keys of `_radix` were made of."""
    found: list[_Numbers] = []
    for size in reversed(sizes):
        keys, own = np.divmod(keys, size)
        found.insert(0, own)
    return found


def _sorted_within(key: _Numbers, duration: _Numbers) -> _Numbers:
    """The durations in order within each key, the keys in order."""
    bits = int(duration.max(initial=0)).bit_length()
    if bits + int(key.max(initial=0)).bit_length() <= 63:
        both = key << bits  # one sort of plain numbers is many times faster than one by two columns
        both |= duration
        both.sort()
        both &= (1 << bits) - 1
        return both
    return duration[np.lexsort((duration, key))]


def _figures(ordered: _Numbers) -> Figures:
    count = len(ordered)
    if not count:
        return Figures(0, (), 0)
    places = [(percent * count + 99) // 100 - 1 for percent in PERCENTS]
    return Figures(count, tuple(ordered[[*places, count - 1]].tolist()), int(ordered.sum()))
