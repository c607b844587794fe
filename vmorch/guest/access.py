"""The real `Guests`: seeds as files, reports and commands by the guest agent."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

from vmorch.effects import Clock
from vmorch.guest import commands
from vmorch.guest.agent import Agent
from vmorch.guest.protocol import AgentCall, IdentityBundle
from vmorch.guest.seed import write_seed
from vmorch.model.guest import GuestReport


class GuestAccess:
    """Implements `Guests`."""

    def __init__(self, agent: AgentCall, clock: Clock) -> None:
        self._agent = Agent(agent, clock)

    async def write_seed(self, path: Path, bundle: IdentityBundle) -> None:
        await asyncio.to_thread(write_seed, path, bundle)

    async def report(self, domain: str, timeout_seconds: float) -> GuestReport:
        return await self._agent.report(domain, timeout_seconds)

    async def become(
        self, domain: str, *, epoch: float, keep_service: bool, timeout_seconds: float
    ) -> None:
        words = ["keep"] if keep_service else []
        await self._agent.tell(domain, ["apply", "--fork"], epoch, words, timeout_seconds)

    async def wake(self, domain: str, *, epoch: float, timeout_seconds: float) -> None:
        await self._agent.wake(domain, epoch, timeout_seconds)

    async def run(
        self, domain: str, argv: Sequence[str], timeout_seconds: float
    ) -> tuple[int, bytes]:
        return await self._agent.run(domain, argv, timeout_seconds)

    async def run_as_service(
        self, domain: str, argv: Sequence[str], timeout_seconds: float
    ) -> tuple[int, bytes]:
        command = commands.as_service("check", argv)
        return await self._agent.run(domain, command, timeout_seconds)
