"""What no command of ours sends: each gets an error that says what is wrong with it, and the service goes on."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any

from tests.acceptance.product import Product

HUGE = 10**400
LIMITS = (0, -1, 1.5, 1e300, -1e300, 2**63, HUGE)
LINES = (b'{"a":' * 100_000, b"[]", b"\xff\xfe", b'{"op":"runs","since":NaN}', b'{"op":"runs","limit":Infinity}')
HOSTILE: list[dict[str, Any]] = [
    *({"op": "runs", "at": {"seq": seq}} for seq in (-1, True, 2**63, HUGE, 1e300, "1")),
    *({"op": "runs", "at": {"time_us": time}} for time in (-1, True, 2**63, HUGE, "x", -62_135_596_800_000_001)),
    *({"op": "runs", "at": at} for at in ("now", [], {}, 5)),
    *(
        {"op": op, "limit": limit}
        for op in ("runs", "jobs", "why")
        for limit in (0, -1, 1.5, 1e300, -1e300, 2**63, HUGE)
    ),
    *({"op": "runs", "since": since} for since in (-1, 1e11, 1e300, -1e300, HUGE)),
    *({"op": "latency", "since": since} for since in (-1, 1e300, HUGE)),
    *({"op": "latency", "by": by} for by in ("state,nothing", "," * 10_000 + "x", "'; drop table runs; --")),
    *({"op": "show", "run": "@", "cwd": folder} for folder in ("/tmp/\0", "/" + "x" * 1_000_000)),
    *({"op": "show", "run": run} for run in ("'", "%", "\0", "x" * 1_000_000)),
    {"op": "why", "run": "@", "job": "x" * 1_000_000, "cwd": "/"},
    {"op": "wait", "runs": ["@"], "cwd": "/", "timeout_seconds": HUGE},
    {"op": "nothing"},
]


def asked(home: Path, line: bytes) -> dict[str, Any]:
    """The first answer to a line on the service's socket."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(20)
        sock.connect(str(home / "control.sock"))
        sock.sendall(line + b"\n")
        with sock.makefile("rb") as answers:
            found = json.loads(answers.readline())
    assert isinstance(found, dict), "an answer is an object"
    return found


def test_hostile_requests_are_refused_one_by_one(product: Product) -> None:
    """None is taken for a mistake of ours, and none is answered with data."""
    product.write("name: one\njobs:\n  build:\n    steps: [echo hello]\n")
    product.ok("run")
    for request in HOSTILE:
        found = asked(product.home, json.dumps({"version": "0.1.0", **request}).encode())
        what = str(request)[:200]
        assert found.get("error", {}).get("code") in ("usage", "not_found"), f"{what}: {str(found)[:300]}"
    for line in (
        b'{"a":' * 100_000,
        b"[]",
        b"\xff\xfe",
        b'{"op":"runs","since":NaN}',
        b'{"op":"runs","limit":Infinity}',
    ):
        assert asked(product.home, line)["error"]["code"] == "usage", line[:50]
    assert product.json("runs")["runs"][0]["outcome"] == "succeeded"
    assert "Traceback" not in (product.home / "service.log").read_text()
