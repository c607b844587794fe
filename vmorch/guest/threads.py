"""A thread for work that may last as long as its user likes. `asyncio.to_thread` has a handful of
threads for the whole daemon, which a few open terminals would use up."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future


async def in_thread(work: Callable[[], None]) -> None:
    """Cancelling the wait does not end the work: whoever cancels must make it end."""
    done: Future[None] = Future()

    def body() -> None:
        try:
            work()
        except BaseException as error:
            done.set_exception(error)
        else:
            done.set_result(None)

    done.set_running_or_notify_cancel()
    threading.Thread(target=body, name="vmorch-work", daemon=True).start()
    await asyncio.wrap_future(done)
