"""What handoffs can be told apart by; the command line reads this without loading anything else."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from headway.core.errors import UsageError

DIMENSIONS: Final = ("state", "phase", "job", "pipeline", "project", "branch", "runner", "label")


def dimensions(words: Sequence[str]) -> tuple[str, ...]:
    """These dimensions, each once; the state's when there is none. Raises UsageError for one that does not exist."""
    for word in words:
        if word not in DIMENSIONS:
            from difflib import get_close_matches

            near = get_close_matches(word, DIMENSIONS, 1)
            meant = f"; did you mean '{near[0]}'?" if near else ""
            raise UsageError(
                f"handoffs cannot be told apart by {word!r}{meant}", next=f"use some of {', '.join(DIMENSIONS)}"
            )
    return tuple(dict.fromkeys(words)) or ("state",)
