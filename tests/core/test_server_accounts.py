"""What each role may do on the embedded server, and what it may not."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from headway.core.log import Unknown
from headway.core.wire import Endpoint, Wire
from tests.core.nats_fixture import wired
from tests.core.server_tasks import make_stream, publish, running, stored

PULL = "$JS.API.CONSUMER.MSG.NEXT.HEADWAY.runner-local-1"


async def ask_json(wire: Wire, subject: str, body: object) -> dict[str, object]:
    found: dict[str, object] = json.loads(await wire.request(subject, json.dumps(body).encode()))
    return found


async def test_a_runner_asks_pulls_acknowledges_and_publishes_output(tmp_path: Path) -> None:
    """All that a runner has to do goes through its own account."""
    async with running(tmp_path) as server, wired(server.endpoint) as wire, wired(server.runner_endpoint) as runner:
        await make_stream(server)
        output = {"name": "HEADWAY_OUTPUT", "subjects": ["headway.out.>"], "max_bytes": 1 << 20}
        assert "error" not in await ask_json(wire, "$JS.API.STREAM.CREATE.HEADWAY_OUTPUT", output)
        config = {
            "durable_name": "runner-local-1",
            "ack_policy": "explicit",
            "filter_subject": "headway.run.*.*.to.local-1",
        }
        consumer = {"stream_name": "HEADWAY", "config": config}
        made = await ask_json(wire, "$JS.API.CONSUMER.DURABLE.CREATE.HEADWAY.runner-local-1", consumer)
        assert "error" not in made, made
        await wire.serve("headway.ask.runner.*", lambda subject, body, reply: reply(subject.encode() + b" " + body))

        assert await runner.request("headway.ask.runner.local-1", b"hello") == b"headway.ask.runner.local-1 hello"
        assert (await ask_json(runner, "headway.out.run.job.1", {}))["stream"] == "HEADWAY_OUTPUT"

        arrived: asyncio.Queue[tuple[bytes, str]] = asyncio.Queue()
        inbox = runner.new_inbox()
        await runner.subscribe(inbox, lambda message: arrived.put_nowait((message.data, message.reply)))
        runner.send(PULL, b'{"batch":2,"expires":5000000000}', reply=inbox)
        for number in (b"1", b"2"):
            await wire.request("headway.run.p.r.to.local-1", number)
            body, ack = await asyncio.wait_for(arrived.get(), 5)
            assert body == number
            await runner.request(ack, b"+ACK")
        state = await ask_json(wire, "$JS.API.CONSUMER.INFO.HEADWAY.runner-local-1", {})
        assert (state["num_ack_pending"], state["num_pending"]) == (0, 0)


@pytest.mark.parametrize(
    "subject",
    [
        "headway.run.p.r.ev",
        "headway.fleet",
        "headway.ctl",
        "headway.ask.user.someone",
        "$JS.API.INFO",
        "$JS.API.STREAM.DELETE.HEADWAY",
        "$JS.API.STREAM.MSG.GET.HEADWAY",
        "$JS.API.CONSUMER.CREATE.HEADWAY",
        "$SYS.REQ.SERVER.PING.VARZ",
    ],
)
async def test_a_runner_is_refused_everything_else(tmp_path: Path, subject: str) -> None:
    """Nobody hears what a runner has no business saying."""
    async with running(tmp_path) as server, wired(server.runner_endpoint) as runner:
        await make_stream(server)
        await publish(server)
        with pytest.raises(Unknown, match=r"(?i)permissions violation"):
            await runner.request(subject, b"forged")
        assert await stored(server) == 1


async def test_a_runner_cannot_forge_an_event_through_a_reply_subject(tmp_path: Path) -> None:
    """Where a server answers is no way around what may be published: accounts, not permissions, stop this."""
    async with running(tmp_path) as server, wired(server.endpoint) as wire, wired(server.runner_endpoint) as runner:
        await make_stream(server)
        await ask_json(
            wire,
            "$JS.API.STREAM.CREATE.HEADWAY_OUTPUT",
            {"name": "HEADWAY_OUTPUT", "subjects": ["headway.out.>"], "max_bytes": 1 << 20},
        )
        await wire.serve("headway.ask.runner.*", lambda _subject, _body, reply: reply(b"forged"))
        for subject in ("headway.out.run.job.1", "headway.ask.runner.local-1", PULL):
            runner.send(subject, b"{}", reply="headway.run.p.r.ev")
        assert (await ask_json(runner, "headway.out.run.job.1", {}))["seq"] == 2, "what was sent before has arrived"
        assert await publish(server) == 1, "the log is as empty as it was"


async def test_a_runner_with_a_wrong_password_is_refused_at_once(tmp_path: Path) -> None:
    """The error comes without a time-out."""
    async with running(tmp_path) as server:
        wrong = Endpoint(url=server.runner_endpoint.url, user="runner", password="guess")
        with pytest.raises(Exception, match="refused the user or password"):
            await Wire.connect(wrong, name="test")
