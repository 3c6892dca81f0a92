"""The history of a run, on the real binary: exactly these events, in this order, with everything a reader needs."""

from __future__ import annotations

import hashlib
import json

from tests.acceptance.product import Product

ONE_JOB = """\
name: one
jobs:
  build:
    steps:
      - name: say
        script: echo hello
"""

HISTORY = [
    "run.admitted",
    "job.admitted",
    "job.queued",
    "job.assigned",
    "job.preparing",
    "job.executing",
    "step.started",
    "step.finished",
    "job.uploading",
    "job.completed",
    "run.completed",
]

KEYS = ["seq", "n", "type", "run", "job", "attempt", "logged", "at", "actor", "id", "because", "prev", "data"]


def test_one_job_of_one_step_has_exactly_this_history(product: Product) -> None:
    """Eleven events, numbered, each with the keys that are promised, the last one sealing the run."""
    product.write(ONE_JOB)
    done = product.run("run")
    assert done.returncode == 0, done.stderr
    printed = product.ok("tail", "@", "--from", "start", "--no-follow", "--json").splitlines()
    events = [json.loads(line) for line in printed]
    assert [event["type"] for event in events] == HISTORY
    assert [event["n"] for event in events] == list(range(1, 12))
    assert [event["seq"] for event in events] == sorted(event["seq"] for event in events)
    assert all(list(event) == KEYS for event in events)
    assert len({event["run"] for event in events}) == 1
    assert [event["job"] for event in events] == ["", *["build"] * 9, ""]
    assert [event["attempt"] for event in events] == [0, 0, *[1] * 8, 0]
    first, last = events[0], events[-1]
    assert first["actor"].startswith("user:")
    assert events[4]["actor"].startswith("runner:local-")
    assert last["actor"] == "coordinator"
    assert (last["data"]["n"], last["data"]["prev"]) == (last["n"], last["prev"])
    assert last["data"]["outcome"] == "succeeded"


def test_what_went_in_and_what_came_out_is_named_by_digest(product: Product) -> None:
    """The pipeline, the plan, the source and the output are blobs whose content has the digest in the event."""
    product.write(ONE_JOB)
    product.ok("run")
    events = {event["type"]: event["data"] for event in product.events("@")}
    admitted, completed = events["run.admitted"], events["job.completed"]
    digests = [admitted["pipeline_digest"], admitted["plan_digest"], admitted["source"]["digest"]]
    for digest in [*digests, completed["output"]["digest"]]:
        kind, _, name = digest.partition(":")
        body = (product.home / "blobs" / kind / name[:2] / name[2:]).read_bytes()
        assert hashlib.sha256(body).hexdigest() == name
    assert product.ok("logs", "@", "build") == "hello\n"


def test_each_event_says_because_of_what(product: Product) -> None:
    """From the end of a job the chain of causes leads back to the run's admission."""
    product.write(ONE_JOB)
    product.ok("run")
    events = {event["id"]: event for event in product.events("@")}
    event = next(one for one in events.values() if one["type"] == "job.completed")
    chain = []
    while event["because"] in events:
        event = events[event["because"]]
        chain.append(event["type"])
    assert chain == list(reversed(HISTORY[:9]))
