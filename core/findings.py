"""What is wrong with what is kept, found by looking: records that name the event, row or blob."""

from __future__ import annotations

from typing import Final

import msgspec

ALIKE_MAX: Final = 100
"""How many findings of one kind are kept; of more of them only the number."""

ERROR: Final = "error"
WARNING: Final = "warning"


class Finding(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One thing that is wrong. `code` says what, `words` say it to people, `next` what it means or what to do.

    It is about the event `seq` (the `n`th of its run), or the row `key` of `table` (where `column` should be `right`
    and is `wrong`), or the blob `digest`. A warning says what can be made again.
    """

    code: str
    words: str
    next: str = ""
    level: str = ERROR
    run: str = ""
    seq: int = 0
    n: int = 0
    table: str = ""
    key: str = ""
    column: str = ""
    right: str = ""
    wrong: str = ""
    digest: str = ""


class Findings:
    """What was found so far; of findings that are alike only the first are kept, so that no damage fills the memory."""

    def __init__(self) -> None:
        self.kept: list[Finding] = []
        self.left_out = 0
        self.failed = False
        self._count: dict[tuple[str, str, str], int] = {}

    def add(self, found: list[Finding]) -> None:
        """Keep these, or count them."""
        for one in found:
            self.failed = self.failed or one.level == ERROR
            alike = (one.code, one.table, one.level)
            number = self._count[alike] = self._count.get(alike, 0) + 1
            if number <= ALIKE_MAX:
                self.kept.append(one)
            else:
                self.left_out += 1
