"""Backups of homes whose jobs printed nothing, or whose output has been let go: the log is what counts."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from headway.core.streams import OUTPUT_STREAM, api
from tests.acceptance.product import Product
from tests.core.nats_fixture import NatsServer, wired

SILENT = "jobs:\n  quiet:\n    steps: ['true']\n"
LOUD = "jobs:\n  loud:\n    steps: ['for i in 1 2 3 4 5 6 7 8; do echo line $i; sleep 0.05; done']\n"


@pytest.fixture
def second(product: Product, tmp_path: Path) -> Iterator[Product]:
    """The same project in a home that is not there yet."""
    folder = tmp_path / "second"
    folder.mkdir()
    found = Product(folder)
    found.project.rmdir()
    found.project = product.project
    yield found
    found.close()


@pytest.fixture
def server(product: Product, tmp_path: Path) -> Iterator[NatsServer]:
    """A log server of the product's own, so that a test can take something away from it."""
    found = NatsServer(tmp_path / "nats", sync='"2m"')
    asyncio.run(found.start())
    product.environ |= {
        "HEADWAY_NATS_URL": found.url,
        "HEADWAY_LOG_MAX_BYTES": "64MiB",
        "HEADWAY_OUTPUT_MAX_BYTES": "32MiB",
    }
    yield found
    product.close()
    found.stop()


def ask(server: NatsServer, subject: str, request: dict[str, Any]) -> None:
    """One request to the server's own interface."""

    async def asking() -> None:
        async with wired(server.endpoint) as wire:
            await api(wire, subject, request, dict[str, Any])

    asyncio.run(asking())


def test_a_home_whose_jobs_printed_nothing_comes_back(product: Product, second: Product, tmp_path: Path) -> None:
    """The output is an empty stream, which is restored as one; what is printed there later is kept."""
    product.write(SILENT)
    run = product.submit()
    product.ok("wait", run)
    made = product.json("backup", str(tmp_path / "b.tar"))
    assert made["streams"][OUTPUT_STREAM]["messages"] == 0
    assert second.json("restore", str(tmp_path / "b.tar"))["as_of"] == made["as_of"]
    assert second.events(run) == product.events(run)
    product.write(LOUD)
    second.ok("run")
    assert second.ok("logs", "@", "loud") == product.shell("for i in 1 2 3 4 5 6 7 8; do echo line $i; done").stdout
    again = second.json("backup", str(tmp_path / "again.tar"))
    assert again["streams"][OUTPUT_STREAM]["first_seq"] == 1


def test_a_home_without_any_run_comes_back(product: Product, second: Product, tmp_path: Path) -> None:
    """There is nothing but what the service wrote when it began."""
    product.ok("backup", str(tmp_path / "b.tar"))
    second.ok("restore", str(tmp_path / "b.tar"))
    assert second.json("runs")["runs"] == []
    product.write(SILENT)
    second.ok("run")


@pytest.mark.parametrize("kept", [0, 1])
def test_output_that_was_let_go_stays_gone_and_numbers_go_on(
    product: Product, second: Product, server: NatsServer, tmp_path: Path, kept: int
) -> None:
    """All of it or the oldest is purged: the restored stream has the same last number, and goes on behind it."""
    product.write(LOUD)
    run = product.submit()
    product.ok("wait", run)
    last = product.json("backup", str(tmp_path / "before.tar"))["streams"][OUTPUT_STREAM]["last_seq"]
    assert last > kept
    ask(server, f"STREAM.PURGE.{OUTPUT_STREAM}", {"seq": last + 1 - kept})
    made = product.json("backup", str(tmp_path / "b.tar"))["streams"][OUTPUT_STREAM]
    assert (made["messages"], made["first_seq"], made["last_seq"]) == (kept, last + 1 - kept, last)
    assert second.json("restore", str(tmp_path / "b.tar"))["streams"][OUTPUT_STREAM] == made
    assert second.ok("logs", run) == product.ok("logs", run), "what is stored as a blob is still there"
    second.ok("run")
    after = second.json("backup", str(tmp_path / "after.tar"))["streams"][OUTPUT_STREAM]
    assert (after["first_seq"], after["messages"]) == (last + 1 - kept, after["last_seq"] - last + kept)
    assert after["last_seq"] > last
