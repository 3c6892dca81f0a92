"""The jobs that wait for a slot, in an order that costs little to keep: who is next is looked up, not searched.

The next job is, among those whose labels a free runner offers, one of the project that holds fewest slots; of that
project the one queued longest. Jobs of a concurrency group that is full are set aside (parked). Whenever a group has
room, each kind of job parked behind it (same labels, project and limit) has one of its own back in line, so none
waits for another that cannot start.

Lines are sorted lists: adding and removing move pointers, which for any length that occurs is cheaper than cleverness.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Callable, Iterator
from typing import NamedTuple

Key = tuple[str, str]
"""A job: its run's id and its name."""

Labels = tuple[str, ...]


class Waiting(NamedTuple):
    """A job in the queue; `seq` is where it was queued on the log."""

    seq: int
    run: str
    job: str
    labels: Labels
    project: str
    group: str
    limit: int


class Rank(NamedTuple):
    """How a project's first job stands among those with the same labels; the least is next."""

    held: int
    first: Waiting


class Queue:
    """See the module. `project_held` and `group_held` count the slots held; they are told by `hold` and `release`."""

    def __init__(self) -> None:
        self.project_held: dict[str, int] = {}
        self.group_held: dict[str, int] = {}
        self._waiting: dict[Key, Waiting] = {}
        self._lines: dict[tuple[Labels, str], list[Waiting]] = {}
        self._parked: dict[str, dict[tuple[Labels, str, int], list[Waiting]]] = {}
        self._ranks: dict[Labels, list[Rank]] = {}
        self._rank_of: dict[tuple[Labels, str], Rank] = {}
        self._labels_of: dict[str, dict[Labels, None]] = {}

    def __len__(self) -> int:
        return len(self._waiting)

    def __iter__(self) -> Iterator[Key]:
        """The jobs that wait, parked ones among them."""
        return iter(self._waiting)

    @property
    def labels(self) -> list[Labels]:
        """The sets of labels for which a job is in line."""
        return list(self._ranks)

    def add(self, waiting: Waiting) -> None:
        """Put a job in its place; one that is there stays where it is."""
        key = (waiting.run, waiting.job)
        if key in self._waiting:
            return
        self._waiting[key] = waiting
        if self._is_full(waiting):
            self._park(waiting)
        else:
            self._line_up(waiting)

    def remove(self, key: Key) -> None:
        """Take a job out, wherever it is. Another of its group may come forward in its place."""
        waiting = self._waiting.pop(key, None)
        if waiting is None:
            return
        if not self._unpark(waiting):
            self._step_out(waiting)
            self._wake(waiting.group)

    def hold(self, project: str, group: str) -> None:
        """A job of this project and group got a slot."""
        self.project_held[project] = self.project_held.get(project, 0) + 1
        if group:
            self.group_held[group] = self.group_held.get(group, 0) + 1
        self._rerank(project)

    def release(self, project: str, group: str) -> None:
        """Its slot is free again."""
        _count_down(self.project_held, project)
        if group:
            _count_down(self.group_held, group)
            self._wake(group)
        self._rerank(project)

    def next(self, offered: Callable[[Labels], bool]) -> Key | None:
        """Who gets a slot next, of those whose labels are offered; None when nobody can."""
        best: Rank | None = None
        for labels in list(self._ranks):
            if not offered(labels):
                continue
            while (ranks := self._ranks.get(labels)) and self._is_full(ranks[0].first):
                behind = ranks[0].first
                self._step_out(behind)
                self._park(behind)
            if ranks and (best is None or ranks[0] < best):
                best = ranks[0]
        return (best.first.run, best.first.job) if best else None

    def _is_full(self, waiting: Waiting) -> bool:
        return bool(waiting.group) and self.group_held.get(waiting.group, 0) >= waiting.limit

    def _line_up(self, waiting: Waiting) -> None:
        line = self._lines.setdefault((waiting.labels, waiting.project), [])
        insort(line, waiting)
        if line[0] is waiting:
            self._rank(waiting.labels, waiting.project)

    def _step_out(self, waiting: Waiting) -> None:
        line = self._lines[(waiting.labels, waiting.project)]
        at = bisect_left(line, waiting)
        del line[at]
        if not line:
            del self._lines[(waiting.labels, waiting.project)]
        if at == 0:
            self._rank(waiting.labels, waiting.project)

    def _rank(self, labels: Labels, project: str) -> None:
        """Bring a project's rank among its labels up to date."""
        line = self._lines.get((labels, project))
        now = Rank(self.project_held.get(project, 0), line[0]) if line else None
        was = self._rank_of.pop((labels, project), None)
        ranks = self._ranks.setdefault(labels, [])
        if was is not None:
            del ranks[bisect_left(ranks, was)]
        if now is not None:
            self._rank_of[(labels, project)] = now
            self._labels_of.setdefault(project, {})[labels] = None
            insort(ranks, now)
        else:
            _discard(self._labels_of, project, labels)
        if not ranks:
            del self._ranks[labels]

    def _rerank(self, project: str) -> None:
        for labels in list(self._labels_of.get(project, ())):
            self._rank(labels, project)

    def _park(self, waiting: Waiting) -> None:
        kinds = self._parked.setdefault(waiting.group, {})
        insort(kinds.setdefault((waiting.labels, waiting.project, waiting.limit), []), waiting)

    def _unpark(self, waiting: Waiting) -> bool:
        """Take a job out from behind its group; False when it is not there."""
        kinds = self._parked.get(waiting.group, {})
        kind = (waiting.labels, waiting.project, waiting.limit)
        parked = kinds.get(kind, [])
        at = bisect_left(parked, waiting)
        if at == len(parked) or parked[at] != waiting:
            return False
        del parked[at]
        if not parked:
            del kinds[kind]
            if not kinds:
                del self._parked[waiting.group]
        return True

    def _wake(self, group: str) -> None:
        """Where the group has room, bring forward the first of each kind behind it."""
        for kind in list(self._parked.get(group, ())):
            waiting = self._parked[group][kind][0]
            if not self._is_full(waiting):
                self._unpark(waiting)
                self._line_up(waiting)


def _count_down(counts: dict[str, int], key: str) -> None:
    counts[key] -= 1
    if not counts[key]:
        del counts[key]


def _discard(index: dict[str, dict[Labels, None]], project: str, labels: Labels) -> None:
    known = index.get(project)
    if known is not None:
        known.pop(labels, None)
        if not known:
            del index[project]
