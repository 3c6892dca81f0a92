"""`headway why` of a service whose log is on an outside server: what is shared with others, or is away."""

from __future__ import annotations

import re
from pathlib import Path

from headway.core import asks
from headway.core.blobs import Blobs
from headway.core.clock import SystemClock
from headway.core.events import RunAdmitted
from headway.core.plan import Job, Plan, Step, encode_plan
from tests.acceptance.product import Product
from tests.acceptance.whys import submit, waits, why
from tests.core.nats_fixture import NatsServer, nats_server, wired
from tests.waiting import wait_until


def outside(folder: Path, server: NatsServer) -> Product:
    """A home whose log is on that server."""
    (folder / "outside").mkdir()
    product = Product(folder / "outside")
    product.environ |= {"HEADWAY_NATS_URL": server.url, "HEADWAY_LOG_MAX_BYTES": "256MiB"}
    product.environ |= {"HEADWAY_OUTPUT_MAX_BYTES": "64MiB"}
    return product


async def test_a_full_concurrency_group(tmp_path: Path) -> None:
    """The group and its limit; a free slot does not help. Pipelines cannot name groups yet, so the log is asked."""
    script = f'until [ -e "{tmp_path}/gate" ]; do sleep 0.05; done'
    ship = Job(name="ship", steps=(Step(name="hold", script=script),), concurrency_group="production")
    async with nats_server(tmp_path / "nats") as server, wired(server.endpoint) as wire:
        product = outside(tmp_path, server)
        try:
            product.write("jobs:\n  a: {steps: ['true']}\n")
            product.ok("run")
            digest = Blobs(product.home / "blobs").put_bytes(encode_plan(Plan(name="demo", jobs=(ship,))))
            admitted = RunAdmitted(project="project", pipeline="demo", jobs=1, plan_digest=digest)
            one, two = SystemClock().new_id(), SystemClock().new_id()
            for run, expected in ((one, "executing"), (two, "group")):
                ask = asks.encode(asks.AdmitRun(run=run, admitted=admitted))
                await wire.request("headway.ask.user.ada", ask, timeout_seconds=10.0)
                waits(product, run, "ship", expected)
            assert why(product, two, "ship").splitlines() == [
                "RUN  demo of project",
                "  ship  queued for T: its concurrency group production allows 1 at a time, and is taken by ship of "
                "run RUN for T; it is number 1 of 1 in line for it",
                "    → the end of ship",
                "    not known: how long ship will take: it has not run before",
            ]
            (tmp_path / "gate").touch()
            product.ok("wait", one, two)
        finally:
            product.close()


async def test_the_log_cannot_be_reached(tmp_path: Path) -> None:
    """The outside server is gone: the answer comes all the same and at once, and says how old it is."""
    async with nats_server(tmp_path / "nats") as server:
        product = outside(tmp_path, server)
        try:
            run = submit(product, {"train": {"runs_on": ["gpu"], "steps": ["true"]}})
            waits(product, run, "train", "no_label")
            server.kill()

            def unreachable() -> bool:
                service = product.json("why")["service"]
                return bool(service and service["cause"] == "log_unreachable")

            wait_until(unreachable, what="the service notices")
            printed = why(product, run).splitlines()
            assert re.fullmatch(
                r"the log's server cannot be reached: nothing new starts until it can be written to; "
                r"what follows is as of event \d+, T ago",
                printed[0],
            )
            assert printed[1:] == [
                "  → the log's server; headway doctor says more",
                "",
                "run RUN  open for T: 0 of 1 jobs completed; it waits for train (queued for T)",
                "  train  queued for T: no runner has the label gpu",
                "    → start a runner with it: headway runners start --labels gpu, or correct runs_on of the job",
            ]
            await server.start()
        finally:
            product.close()


async def test_the_log_hangs(tmp_path: Path) -> None:
    """The server takes connections and answers nothing: the answer comes soon, from what is known, and says so."""
    async with nats_server(tmp_path / "nats") as server:
        product = outside(tmp_path, server)
        try:
            run = submit(product, {"train": {"runs_on": ["gpu"], "steps": ["true"]}})
            waits(product, run, "train", "no_label")
            server.pause()

            def unanswered() -> bool:
                service = product.json("why")["service"]
                return bool(service and service["words"].startswith("the log does not answer: "))

            wait_until(unanswered, what="the service notices", timeout_seconds=30)
            assert [one["job"] for one in product.json("why")["waiting"]] == ["train"]
            server.resume()
            wait_until(lambda: product.json("why")["service"] is None, what="it is over", timeout_seconds=30)
        finally:
            server.resume()
            product.close()
