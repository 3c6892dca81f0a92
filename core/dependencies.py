"""What jobs wait for: names that exist, no circle, and the part of a graph that one job needs.

Everything here is linear in jobs and dependencies; only the search for the shortest circle may take longer, in a file
that is refused anyway, and it is bounded.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from typing import Final, TypeAlias

from headway.core.diagnostics import Problems, shown
from headway.core.nodes import Scalar

Graph: TypeAlias = Mapping[str, Iterable[str]]
"""Job -> the jobs it waits for."""

SEARCH_MAX: Final = 2_000_000
"""Dependencies looked at for the shortest circle before the shortest one found so far is taken."""

NAMED_MAX: Final = 8
"""Jobs of a circle that a message names."""


def check_dependencies(jobs: Mapping[str, list[tuple[Scalar, str]]], problems: Problems) -> None:
    """`jobs` maps a job to the scalars that name what it waits for, with their paths."""
    graph: dict[str, dict[str, tuple[Scalar, str]]] = {}
    for job, named in jobs.items():
        found = graph.setdefault(job, {})
        for scalar, path in named:
            other = scalar.text
            if other not in jobs:
                suggestion = problems.did_you_mean(other, jobs) or "name a job of this file"
                problems.error("HW130", scalar, f"there is no job `{shown(other)}`", path=path, suggestion=suggestion)
            elif other == job:
                message = f"`{job}` waits for itself"
                problems.error("HW131", scalar, message, path=path, suggestion="remove it from `depends_on`")
            elif other in found:
                message = f"`{job}` waits for `{other}` twice"
                problems.error("HW133", scalar, message, path=path, suggestion="keep one of them")
            else:
                found[other] = (scalar, path)
    for circle in circles(graph):
        scalar, path = graph[circle[0]][circle[1]]
        suggestion = f"remove `{circle[1]}` from `depends_on` of `{circle[0]}`, or another of these"
        problems.error("HW132", scalar, _in_words(circle), path=path, suggestion=suggestion)


def _in_words(circle: list[str]) -> str:
    pairs = list(zip(circle, circle[1:] + circle[:1], strict=True))
    first = f"`{pairs[0][0]}` waits for `{pairs[0][1]}`"
    others = [f"`{job}` for `{other}`" for job, other in pairs[1:]]
    if len(pairs) > NAMED_MAX:
        others = [*others[: NAMED_MAX - 2], f"… {len(pairs) - NAMED_MAX} more …", others[-1]]
    return f"{', '.join([first, *others])}: none of these {len(pairs)} jobs could start"


def circles(graph: Graph) -> list[list[str]]:
    """The shortest circle of each knot of jobs that wait for each other, from its first job in the graph's order."""
    order = {job: index for index, job in enumerate(graph)}
    looked = 0
    found: list[list[str]] = []
    for knot in knots(graph):
        best: list[str] = []
        for start in sorted(knot, key=order.__getitem__):
            circle, cost = _circle_through(start, graph, knot, longest=len(best) - 1)
            looked += cost
            best = circle or best
            if len(best) == 2 or (best and looked > SEARCH_MAX):
                break
        first = best.index(min(best, key=order.__getitem__))
        found.append(best[first:] + best[:first])
    return sorted(found, key=lambda circle: order[circle[0]])


def _circle_through(start: str, graph: Graph, knot: set[str], *, longest: int) -> tuple[list[str], int]:
    """The shortest circle through `start`, of at most `longest` jobs unless that is negative; and what it cost."""
    came_from = {start: ""}
    depth = {start: 1}
    waiting = deque([start])
    looked = 0
    while waiting:
        job = waiting.popleft()
        for other in graph[job]:
            looked += 1
            if other == start:
                circle = [job]
                while circle[-1] != start:
                    circle.append(came_from[circle[-1]])
                return circle[::-1], looked
            if other in knot and other not in came_from and not 0 <= longest <= depth[job]:
                came_from[other] = job
                depth[other] = depth[job] + 1
                waiting.append(other)
    return [], looked


def knots(graph: Graph) -> list[set[str]]:
    """The sets of two or more jobs of which each waits, over others, for every one (Tarjan, without recursion)."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    held: dict[str, None] = {}
    found: list[set[str]] = []
    for root in graph:
        if root in index:
            continue
        index[root] = low[root] = len(index)
        held[root] = None
        path = [(root, iter(graph[root]))]
        while path:
            job, rest = path[-1]
            for other in rest:
                if other not in index:
                    index[other] = low[other] = len(index)
                    held[other] = None
                    path.append((other, iter(graph[other])))
                    break
                if other in held:
                    low[job] = min(low[job], index[other])
            else:
                path.pop()
                if path:
                    low[path[-1][0]] = min(low[path[-1][0]], low[job])
                if low[job] == index[job]:
                    knot = _taken(held, job)
                    if len(knot) > 1:
                        found.append(knot)
    return found


def _taken(held: dict[str, None], job: str) -> set[str]:
    """Removes and returns what has been held since `job`."""
    knot: set[str] = set()
    while job not in knot:
        knot.add(held.popitem()[0])
    return knot


def needed_by(job: str, graph: Graph) -> set[str]:
    """The job, and all that it waits for over any number of others."""
    found = {job}
    waiting = [job]
    while waiting:
        for other in graph[waiting.pop()]:
            if other not in found:
                found.add(other)
                waiting.append(other)
    return found
