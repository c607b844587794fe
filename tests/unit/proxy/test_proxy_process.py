"""The end of a process, told by the kernel at once."""

from __future__ import annotations

import asyncio
import subprocess

from vmorch.proxy.process import ended


def test_the_end_of_a_process_is_seen_when_it_comes() -> None:
    async def story() -> None:
        process = subprocess.Popen(["sleep", "60"])
        waiting = asyncio.create_task(ended(process.pid))
        await asyncio.sleep(0.05)
        assert not waiting.done()
        process.kill()
        await asyncio.wait_for(waiting, 5)
        process.wait()
        await asyncio.wait_for(ended(process.pid), 5)

    asyncio.run(story())
