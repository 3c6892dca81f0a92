"""A pipeline of 1,000 jobs, loaded and validated, beside what the C loader of PyYAML alone takes for the text."""

from __future__ import annotations

import time

import yaml

from bench.figures import in_turn, ratio, span
from bench.table import Row
from headway.core.pipeline import compile_pipeline

JOBS = 1000


def large_pipeline() -> bytes:
    """About sixteen lines a job, as people write them."""
    lines = ["name: large", "global_env:", "  CI_LEVEL: full", "jobs:"]
    for number in range(JOBS):
        before = f"[job-{number - 1}]" if number % 5 else "[]"
        lines += [
            f"  job-{number}:",
            f"    depends_on: {before}",
            "    runs_on: [linux]",
            "    timeout: 10m",
            "    environment:",
            f"      SHARD: {number}",
            "      VERSION: 3.10",
            "    steps:",
            "      - name: prepare",
            "        script: |",
            "          mkdir -p out",
            f"          echo preparing {number}",
            "      - name: build",
            f"        script: make build-{number}",
            "        environment: {LEVEL: '2'}",
            "        timeout: 5m",
        ]
    return ("\n".join(lines) + "\n").encode()


def measure(*, quick: bool) -> list[Row]:
    """In one process, in turn."""
    body = large_pipeline()

    def loaded() -> float:
        began = time.perf_counter()
        yaml.load(body, yaml.CSafeLoader)
        return (time.perf_counter() - began) * 1000

    def compiled() -> float:
        began = time.perf_counter()
        plan, _ = compile_pipeline(body, file="headway.yml")
        milliseconds = (time.perf_counter() - began) * 1000
        assert len(plan.jobs) == JOBS, "every job is in the plan"
        return milliseconds

    bare, ours = in_turn(3 if quick else 9, loaded, compiled)
    return [
        Row(
            what=f"{JOBS:,} jobs ({len(body) // 1024} KiB) loaded and validated",
            yardstick=f"CSafeLoader {span(bare)} ms",
            measured=f"{span(ours)} ms",
            ratio=ratio(ours, bare),
            floor=3,
            target=1.5,
            less_is_better=True,
        )
    ]
