"""What the processes hold after a run of 1,000 jobs: resident sets, and the proportional ones that share libraries."""

from __future__ import annotations

from bench.product import Headway, independent, resident_mib, whole
from bench.table import Row

SLOTS = 2


def measure(*, quick: bool) -> list[Row]:
    """The control plane alone, and with nats-server, the runner and its supervisors."""
    jobs = 200 if quick else 1000
    with Headway(slots=SLOTS) as headway:
        whole(headway.run(independent(jobs)), jobs)
        sizes = {name: resident_mib(pids) for name, pids in headway.processes().items()}
    plane = sizes["control plane"]
    everything = [sum(size[column] for size in sizes.values()) for column in (0, 1)]
    parts = " + ".join(f"{size[0]:.0f}" for size in sizes.values())
    return [
        _row(f"RSS after {jobs:,} jobs: control plane", plane[0], f"PSS {plane[1]:.0f} MiB", 1),
        _row(
            f"RSS after {jobs:,} jobs: with nats-server and runner",
            everything[0],
            f"PSS {everything[1]:.0f} MiB; RSS {parts}",
            2,
        ),
    ]


def _row(what: str, mib: float, measured: str, processes: int) -> Row:
    floor, target = {1: (160, 100), 2: (300, 200)}[processes]
    return Row(
        what=what,
        yardstick="-",
        measured=measured,
        ratio=mib,
        unit="MiB",
        floor=floor,
        target=target,
        less_is_better=True,
    )
