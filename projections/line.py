"""Who comes when for a slot: the order of `headway.core.queue`, said for everybody in it at once.

The queue gives a slot to the project that holds fewest, and of its jobs to the one queued longest; a job whose group is
full is passed over. The order here is that of slots given one after the other while none is given back.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from headway.core.queue import Waiting

FORESEEN: Final = 100
"""Nobody behind so many others is told a time."""


def in_order(
    waiting: Iterable[Waiting], *, project_held: Mapping[str, int], group_held: Mapping[str, int]
) -> list[Waiting]:
    """The jobs in the order in which they get slots; those whose group is full by then are left out."""
    lines: dict[str, list[Waiting]] = {}
    for one in sorted(waiting):
        lines.setdefault(one.project, []).append(one)
    heap = [(project_held.get(project, 0), line[0], 0) for project, line in lines.items()]
    heapq.heapify(heap)
    groups = dict(group_held)
    order: list[Waiting] = []
    while heap:
        held, first, at = heap[0]
        full = bool(first.group) and groups.get(first.group, 0) >= first.limit
        if not full:
            order.append(first)
            held += 1
            if first.group:
                groups[first.group] = groups.get(first.group, 0) + 1
        line = lines[first.project]
        if at + 1 < len(line):
            heapq.heapreplace(heap, (held, line[at + 1], at + 1))
        else:
            heapq.heappop(heap)
    return order


def expected_wait(held: Sequence[int | None], ahead: Sequence[int | None]) -> int | None:
    """How long until the next slot is free for a job, in milliseconds.

    `held` is how long each slot is still taken, `ahead` how long each job before it takes, None for unknown. What
    cannot be known without one of those is None.
    """
    if not held or None in held or len(ahead) > FORESEEN:
        return None
    free = [left for left in held if left is not None]
    heapq.heapify(free)
    for takes in ahead:
        if takes is None:
            return None
        heapq.heapreplace(free, free[0] + takes)
    return free[0]
