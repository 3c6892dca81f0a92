"""The tables of a stopped product against the same log folded anew."""

from __future__ import annotations

import asyncio
import shutil

from headway.core.jetstream import JetStreamLog
from headway.core.server import Server
from headway.core.wire import Wire
from headway.projections.rebuild import compare, rebuild
from tests.acceptance.product import Product


def rebuilt_differs_from_live(product: Product) -> list[str]:
    """What differs, row by row, between the tables the service wrote and the log folded from its beginning."""
    return asyncio.run(_differences(product))


async def _differences(product: Product) -> list[str]:
    server = await Server.start_or_attach(product.home / "nats")
    try:
        wire = await Wire.connect(server.endpoint, name="test")
        try:
            live = product.home / "projections" / "headway.db"
            copy = product.home / "copy" / "headway.db"
            copy.parent.mkdir()
            for part in live.parent.glob("headway.db*"):
                shutil.copy(part, copy.parent / part.name)
            await rebuild(JetStreamLog(wire), copy)
            return await compare(live, copy)
        finally:
            await wire.close()
    finally:
        await server.stop()
