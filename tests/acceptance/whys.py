"""What acceptance tests of `headway why` share: its words without what differs each time, and jobs that wait."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.acceptance.product import Product
from tests.waiting import wait_until

LENGTH = r"\d+(?:\.\d+)? ?(?:s|m|h|d)(?: \d+(?:s|m|h))?"


def same(text: str) -> str:
    """The text with what differs from one time to the next left out: ids, lengths of time, moments."""
    text = re.sub(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}", "RUN", text)
    text = re.sub(r"\b(local|extra)-[0-9a-f]{8}\b", r"\1-ID", text)
    text = re.sub(r"\b[0-9a-f]{10}\b", "RUN", text)
    text = re.sub(r"until \d\d:\d\d:\d\d", "until TIME", text)
    text = re.sub(r"paused (\S+(?: \S+)?) by|\b(\w+) (paused|drained|cancelled) ", r"WHO \3 ", text)
    return re.sub(rf"\b{LENGTH}(?![\w-])", "T", text)


def why(product: Product, *words: str) -> str:
    """What `headway why` prints, in short."""
    return same(product.ok("why", *words))


def cause(product: Product, run: str, job: str) -> str:
    """The cause that is answered for a job."""
    return str(product.json("why", run, job)["job"]["cause"])


def submit(product: Product, jobs: Mapping[str, Any]) -> str:
    """A run of these jobs; its id."""
    product.write(json.dumps({"name": "demo", "jobs": jobs}))
    return product.submit()


def waits(product: Product, run: str, job: str, expected: str) -> None:
    """Wait until a job has this cause."""
    wait_until(lambda: cause(product, run, job) == expected, what=f"{job} is {expected}", timeout_seconds=40)


def until(gate: Path) -> dict[str, Any]:
    """A job that goes on until a file is there."""
    return {"steps": [{"name": "hold", "script": f'until [ -e "{gate}" ]; do sleep 0.05; done'}]}


def start_extra(product: Product) -> int:
    """A runner `extra` with the label gpu-large; its process."""
    runner = product.start("runners", "start", "--name", "extra", "--labels", "gpu-large", "--slots", "1")
    wait_until(
        lambda: any(one["name"] == "extra" for one in product.json("runners", "list")["runners"]), what="the runner"
    )
    return runner.pid
