"""How soon the command line answers: its help, and the first command of a run while the service is up."""

from __future__ import annotations

import sys
import time
from functools import partial

from bench.figures import in_turn, ratio, span, timed
from bench.product import HEADWAY, Headway
from bench.table import Row


def first_command_seconds(headway: Headway) -> float:
    """From the start of the process `headway run` to the first command of its job, which writes down the time."""
    stamp = headway.folder / "stamp"
    headway.write(f'jobs: {{first: {{steps: [{{script: "echo $EPOCHREALTIME > {stamp}"}}]}}}}\n')
    began = time.time()
    headway.headway("run", str(headway.pipeline))
    return float(stamp.read_text()) - began


def measure(*, quick: bool) -> list[Row]:
    """Medians in turn with the smallest program that Python can run."""
    rounds = 5 if quick else 15
    nothing = partial(timed, [sys.executable, "-c", "pass"])
    with Headway(slots=2) as headway:
        bare, shown, first = in_turn(
            rounds, nothing, partial(timed, [HEADWAY, "--help"]), partial(first_command_seconds, headway)
        )
    yardstick = f"python -c pass {_ms(bare)}"
    return [
        Row(
            what="headway --help",
            yardstick=yardstick,
            measured=_ms(shown),
            ratio=ratio(shown, bare),
            floor=5,
            target=4,
            less_is_better=True,
        ),
        Row(
            what="headway run to its first command, service up",
            yardstick=yardstick,
            measured=_ms(first),
            ratio=ratio(first, bare),
            floor=25,
            target=12,
            less_is_better=True,
        ),
    ]


def _ms(samples: list[float]) -> str:
    return span([one * 1000 for one in samples], 1) + " ms"
