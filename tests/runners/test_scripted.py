"""The scripted executor obeys the contract, so that what is tested with it is tested."""

from __future__ import annotations

import pytest
from executor_contract import HERE, ExecutorContract

from headway.runners.executor import Chunk, Command, ExecutorBroken
from headway.runners.scripted import Act, Die, Say, ScriptedExecutor


class TestScriptedExecutor(ExecutorContract):
    """The contract, and breaking on request."""

    @pytest.fixture(autouse=True)
    async def _executor(self):
        self.scripts: dict[str, tuple[Act, ...]] = {}
        self.executor = ScriptedExecutor(lambda command: list(self.scripts[command.argv[0]]))
        yield
        await self.executor.close()

    def command(self, *acts: Act, timeout_seconds: float = 20.0, grace_seconds: float = 5.0) -> Command:
        name = str(len(self.scripts))
        self.scripts[name] = acts
        return Command(
            argv=(name,),
            environment={},
            folder=HERE,
            timeout_seconds=timeout_seconds,
            timeout_reason="timed out",
            grace_seconds=grace_seconds,
        )

    async def test_it_breaks_when_told_to(self):
        """The executor's own failure is an exception, after what was printed."""
        events = self.executor.run(self.command(Say(b"x"), Die("power cut")))
        assert await anext(events) == Chunk("out", b"x")
        with pytest.raises(ExecutorBroken, match="power cut"):
            await anext(events)
