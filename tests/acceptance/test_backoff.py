"""Back-off on the real binary: a failed job rests before it is tried again, and the log says until when."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

from tests.acceptance.product import Product

FLAKY = {"jobs": {"flaky": {"steps": ['[ "$HEADWAY_ATTEMPT" = 2 ]'], "retry_count": 1}}}
LONG = {"jobs": {"flaky": {"steps": ["false"], "retry_count": 1}}}


def us(text: str) -> int:
    """A time of an event, in microseconds since 1970 UTC."""
    moment = datetime.fromisoformat(text)
    return int(moment.timestamp()) * 1_000_000 + moment.microsecond


def second_attempt(product: Product, kind: str) -> dict[str, Any]:
    """The event of this type of the second attempt of the latest run."""
    (found,) = (one for one in product.events("@") if (one["type"], one["attempt"]) == (kind, 2))
    return found


def test_a_failed_attempt_is_not_tried_again_before_its_time(product: Product) -> None:
    """The run knows its base, the queued event says until when, and the assignment is logged after that."""
    product.environ["HEADWAY_RETRY_BACKOFF_SECONDS"] = "0.3"
    product.write(json.dumps(FLAKY))
    product.ok("run")
    assert product.events("@")[0]["data"]["retry_backoff_ms"] == 300
    queued, assigned = second_attempt(product, "job.queued"), second_attempt(product, "job.assigned")
    assert queued["data"]["reason"] == "failed"
    assert 225_000 <= queued["data"]["start_after"] - us(queued["at"]) <= 375_000
    assert us(assigned["logged"]) >= queued["data"]["start_after"]


def test_without_a_back_off_the_next_attempt_follows_at_once(product: Product) -> None:
    """0 turns it off, and the log says nothing of it."""
    product.environ["HEADWAY_RETRY_BACKOFF_SECONDS"] = "0"
    product.write(json.dumps(FLAKY))
    product.ok("run")
    assert "retry_backoff_ms" not in product.events("@")[0]["data"]
    assert "start_after" not in second_attempt(product, "job.queued")["data"]


def test_the_back_off_begins_with_five_seconds_unless_somebody_says_otherwise(product: Product) -> None:
    """Without a word in the configuration a run is admitted with the default."""
    del product.environ["HEADWAY_RETRY_BACKOFF_SECONDS"]
    product.write(json.dumps({"jobs": {"a": {"steps": ["true"]}}}))
    product.ok("run")
    assert product.events("@")[0]["data"]["retry_backoff_ms"] == 5_000


def test_a_job_that_rests_goes_on_after_a_restart_and_can_be_cancelled(product: Product) -> None:
    """A service that is killed meanwhile comes back to a job that still rests, and cancelling does not wait for it."""
    product.environ["HEADWAY_RETRY_BACKOFF_SECONDS"] = "120"
    product.write(json.dumps(LONG))
    run = product.submit()
    rests(product, run)
    assert product.kill(product.service_pid())
    product.ok("cancel", run)
    assert product.run("wait", run).returncode != 0
    assert [one["type"] for one in product.events(run)][-2:] == ["job.completed", "run.completed"]
    assert "job.assigned" not in [one["type"] for one in product.events(run) if one["attempt"] == 2]


def rests(product: Product, run: str) -> None:
    """Follow the run until its job rests."""
    tail = product.start("tail", run, "--from", "start", "--json")
    assert tail.stdout is not None
    assert any("start_after" in json.loads(line)["data"] for line in tail.stdout)
