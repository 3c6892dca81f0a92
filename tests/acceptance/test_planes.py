"""Two control planes on one outside server: one coordinates, the other stands by and takes over."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.acceptance.product import Product
from tests.core.nats_fixture import NatsServer, nats_server
from tests.waiting import until, wait_until

JOBS = 12


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[NatsServer]:
    """An outside server with a store of its own."""
    async with nats_server(tmp_path / "nats") as server:
        yield server


def plane(folder: Path, server: NatsServer) -> Product:
    """A home on that server; blobs are shared, as a team's would be."""
    folder.mkdir()
    product = Product(folder)
    product.environ |= {"HEADWAY_NATS_URL": server.url, "HEADWAY_BLOBS": str(folder.parent / "blobs")}
    product.environ |= {"HEADWAY_LOG_MAX_BYTES": "256MiB", "HEADWAY_OUTPUT_MAX_BYTES": "64MiB"}
    product.write("name: one\njobs:\n  build:\n    steps: [echo hello]\n")
    return product


def coordinates(product: Product) -> bool:
    """Whether this home's service is the one that coordinates; it is started when it is not there."""
    checks = product.json("doctor")["checks"]
    words = next(check["words"] for check in checks if check["name"] == "coordinator")
    return bool(words == "this service coordinates")


async def test_a_run_outlives_the_control_plane_that_took_it(server: NatsServer, tmp_path: Path) -> None:
    """kill -9 of the active one: the one that stood by takes over within seconds, and nothing is missing."""
    first, second = plane(tmp_path / "first", server), plane(tmp_path / "second", server)
    try:
        first.ok("run")
        assert coordinates(first)
        second.ok("run")
        assert not coordinates(second)
        assert {run["run"] for run in first.json("runs")["runs"]} == {run["run"] for run in second.json("runs")["runs"]}
        gate = tmp_path / "gate"
        script = f'touch "{gate}.$HEADWAY_JOB"; until [ -e "{gate}" ]; do sleep 0.05; done'
        first.write(json.dumps({"name": "long", "jobs": {f"j{at}": {"steps": [script]} for at in range(JOBS)}}))
        run = first.submit()
        await until(lambda: len(list(tmp_path.glob("gate.j*"))) >= 3, what="both runners have jobs")
        assert first.kill(first.service_pid())
        gate.touch()
        await until(lambda: coordinates(second), what="the other one coordinates", timeout_seconds=15)
        second.ok("wait", run, "--timeout", "60s")
        events = second.events(run)
        assert [event["n"] for event in events] == list(range(1, len(events) + 1))
        ended = Counter(event["job"] for event in events if event["type"] == "job.completed")
        assert ended == Counter(f"j{at}" for at in range(JOBS))
        assert second.json("show", run)["run"]["outcome"] == "succeeded"
        first.ok("wait", run)  # its service is there again, and so are its tables
        assert first.json("show", run)["run"]["outcome"] == "succeeded"
    finally:
        for product in (first, second):
            product.close()


async def test_an_outside_server_may_go_and_come_back(server: NatsServer, tmp_path: Path) -> None:
    """kill -9 of the server under a run: it goes on when the server is there again."""
    product = plane(tmp_path / "only", server)
    try:
        jobs = {f"j{at}": {"steps": [f'touch "{tmp_path}/mark.{at}"; sleep 0.05']} for at in range(JOBS)}
        product.write(json.dumps({"name": "many", "jobs": jobs}))
        run = product.submit()
        wait_until(lambda: len(list(tmp_path.glob("mark.*"))) >= 3, what="some jobs have run")
        await server.restart()
        product.ok("wait", run, "--timeout", "60s")
        ended = Counter(event["job"] for event in product.events(run) if event["type"] == "job.completed")
        assert ended == Counter(f"j{at}" for at in range(JOBS))
    finally:
        product.close()
