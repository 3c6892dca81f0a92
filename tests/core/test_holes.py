"""A log on a real server that has lost events is read around its holes, to its end."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from headway.core.jetstream import JetStreamLog
from headway.core.log import Entry, Log
from headway.core.plan import digest_of
from headway.core.server_config import MIB
from headway.core.streams import STREAM, api
from headway.core.wire import Wire
from tests.core.nats_fixture import nats_server, wired

COUNT = 12


async def written(wire: Wire) -> Log:
    """A log with some entries of two runs, from which events can be deleted."""
    config = {"name": STREAM, "subjects": ["headway.run.>", "headway.fleet", "headway.ctl"], "storage": "file"}
    await api(wire, f"STREAM.CREATE.{STREAM}", {**config, "max_bytes": 8 * MIB}, dict[str, Any])
    log = JetStreamLog(wire)
    for seq in range(COUNT):
        body = b"entry %d" % seq
        subject = f"headway.run.shop.r{seq % 2}.ev"
        await log.append(Entry(subject=subject, id=digest_of(body)[7:39], body=body, expect=seq))
    return log


async def sequences(log: Log, **asked: Any) -> list[int]:
    """The sequences that reading gives."""
    return [one.seq async for batch in log.read(**asked) for one in batch]


@pytest.mark.parametrize(
    "missing", [(1,), (5,), (5, 6, 7), (1, 2, 12), (11, 12), tuple(range(1, COUNT + 1))], ids=lambda one: str(one)
)
async def test_holes_are_read_around(tmp_path: Path, missing: tuple[int, ...]) -> None:
    """Deleted events are left out, at the beginning, in the middle and at the end, of all events and of one run's."""
    async with nats_server(tmp_path, sync='"1s"') as server, wired(server.endpoint) as wire:
        log = await written(wire)
        for seq in missing:
            await api(wire, f"STREAM.MSG.DELETE.{STREAM}", {"seq": seq}, dict[str, Any])
        left = [seq for seq in range(1, COUNT + 1) if seq not in missing]
        assert await log.last_seq() == COUNT
        assert await sequences(log) == left
        assert await sequences(log, start=5, end=9) == [seq for seq in left if 5 <= seq <= 9]
        assert await sequences(log, subjects=("headway.run.*.r1.>",)) == [seq for seq in left if seq % 2 == 0]


async def test_what_was_purged_is_read_around(tmp_path: Path) -> None:
    """The events of one run that were purged leave holes, and the other run's are all there."""
    async with nats_server(tmp_path, sync='"1s"') as server, wired(server.endpoint) as wire:
        log = await written(wire)
        request = {"filter": "headway.run.*.r0.>", "seq": 8}
        await api(wire, f"STREAM.PURGE.{STREAM}", request, dict[str, Any])
        assert await sequences(log) == [2, 4, 6, 8, 9, 10, 11, 12]
        assert await sequences(log, subjects=("headway.run.*.r0.>",)) == [9, 11]
