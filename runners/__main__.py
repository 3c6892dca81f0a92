"""A runner as a process: `python -m headway.runners --home DIR --name NAME --labels a,b --slots N`."""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import re
import signal
import socket
import sys
from pathlib import Path

from headway.core import config
from headway.core.clock import SystemClock
from headway.core.errors import HeadwayError, UnavailableError, UsageError
from headway.core.link import Link, NatsLink
from headway.core.server_config import load_endpoint, outside_endpoint
from headway.core.wire import Endpoint, Wire
from headway.runners.agent import Agent, RunnerSettings


def main(argv: list[str] | None = None) -> int:
    """Be a runner until a signal ends it; the exit code says how it went."""
    try:
        serve(argv)
    except HeadwayError as error:
        sys.stderr.write(f"headway: {error.message}{'; ' + error.next if error.next else ''}\n")
        return error.exit_code
    return 0


def serve(argv: list[str] | None = None) -> None:
    """The same for who tells errors in a way of their own. Raises HeadwayError."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s", stream=sys.stderr)
    settings, nats_url = settings_of(_parser().parse_args(argv))
    asyncio.run(run_runner(settings, nats_url=nats_url))


async def run_runner(settings: RunnerSettings, *, nats_url: str = "") -> None:
    """Be a runner until SIGTERM or SIGINT. Raises HeadwayError for what a person has to know."""

    async def connect() -> Link:
        return await connect_link(settings.home, nats_url=nats_url, name=f"runner {settings.name}")

    agent = Agent(settings, connect=connect, clock=SystemClock())
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, agent.stop)
    await agent.run()


async def connect_link(home: Path, *, nats_url: str, name: str) -> NatsLink:
    """A link to the log, wherever it is now: the port of an embedded server may have changed since the last one."""
    if nats_url:
        endpoint = outside_endpoint(nats_url)
    else:
        record = load_endpoint(home / "nats")
        if record is None:
            raise UnavailableError(f"there is no log in {home}", next="start the control plane with 'headway up'")
        endpoint = Endpoint(url=record["url"], user=record["runner_user"], password=record["runner_password"])
    return NatsLink(await Wire.connect(endpoint, name=name))


def settings_of(arguments: argparse.Namespace) -> tuple[RunnerSettings, str]:
    """The settings and the outside server's URL; flags win over the configuration."""
    home = Path(os.path.abspath(arguments.home))
    configured = config.load(home, os.environ)
    name = (
        arguments.name
        or re.sub(r"[^A-Za-z0-9_-]", "-", socket.gethostname().split(".")[0])[:64].lstrip("-")
        or "runner"
    )
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_-]{0,63}", name):
        raise UsageError(f"{name[:80]!r} cannot be a runner's name", next="use letters, digits, _ and -, at most 64")
    labels = arguments.labels.split(",") if arguments.labels else configured.labels
    settings = RunnerSettings(
        home=home,
        name=name,
        labels=tuple(dict.fromkeys(label.strip() for label in labels if label.strip())),
        slots=arguments.slots or configured.slots,
        blobs=Path(configured.blobs),
        wait_lock=arguments.wait_lock,
        with_service=arguments.with_service,
        environ=dict(os.environ),
    )
    return settings, configured.nats_url


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="headway.runners", description="Take jobs from the log and run them.")
    parser.add_argument("--home", required=True, help="where state lives ($HEADWAY_HOME)")
    parser.add_argument("--name", default="", help="the runner's name on this machine")
    parser.add_argument("--labels", default="", help="what it offers, separated by commas")
    parser.add_argument("--slots", type=int, default=0, help="jobs at once")
    parser.add_argument("--wait-lock", action="store_true", help="wait for an earlier runner of this name to end")
    parser.add_argument("--with-service", action="store_true", help="end when the control plane stays away")
    return parser


if __name__ == "__main__":
    sys.exit(main())
