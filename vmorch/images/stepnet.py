"""The network of one build's RUN steps: opened when the first one needs it, closed with the build.

One task opens and closes it, whichever steps ask: a context manager that was entered in one
task must not be left in another.
"""

from __future__ import annotations

import asyncio
import contextlib

from vmorch.model.stepnet import OpenStepNetwork, StepNetwork


class LazyNetwork:
    def __init__(self, open_network: OpenStepNetwork) -> None:
        self._open = open_network
        self._ready: asyncio.Future[StepNetwork] | None = None
        self._finished = asyncio.Event()
        self._holder: asyncio.Task[None] | None = None

    async def get(self) -> StepNetwork:
        """Raises NetworkError when it cannot be opened."""
        if self._ready is None:
            self._ready = asyncio.get_running_loop().create_future()
            self._holder = asyncio.create_task(self._hold(self._ready), name="step-network")
        return await asyncio.shield(self._ready)

    async def close(self) -> None:
        if self._holder is None:
            return
        self._finished.set()
        assert self._ready is not None
        if not self._ready.done():
            self._holder.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._holder

    async def _hold(self, ready: asyncio.Future[StepNetwork]) -> None:
        try:
            async with self._open() as network:
                ready.set_result(network)
                await self._finished.wait()
        except BaseException as error:
            if ready.done():
                raise
            ready.set_exception(error)
            ready.exception()  # nobody may be waiting any more
