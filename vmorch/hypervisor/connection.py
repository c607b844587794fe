"""A connection to libvirtd from asyncio: blocking calls in threads, opened again when lost.

libvirt's own asyncio adapter refuses a second event loop in one process, so libvirt's default
loop runs in one daemon thread, and its callbacks hop over with `call_soon_threadsafe`.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import libvirt

from vmorch.hypervisor.failures import hypervisor_error

Result = TypeVar("Result")

# libvirtd's default max_client_requests: a sixth call on one connection would only wait.
CALLS_AT_ONCE = 5
_KEEPALIVE_SECONDS = 5
_KEEPALIVE_COUNT = 6


@functools.cache
def start_event_loop() -> None:
    """Start libvirt's loop; it must be there before the first connection, and is per process."""
    libvirt.registerErrorHandler(lambda *_: None, None)  # else it prints every error to stderr
    libvirt.virEventRegisterDefaultImpl()
    threading.Thread(target=_run_event_loop, name="libvirt-events", daemon=True).start()


def _run_event_loop() -> None:
    while True:
        with contextlib.suppress(libvirt.libvirtError):
            libvirt.virEventRunDefaultImpl()


class Connection:
    """One connection. `opened` is called, in a thread, with each new libvirt connection."""

    def __init__(
        self, uri: str, opened: Callable[[libvirt.virConnect], None] = lambda _: None
    ) -> None:
        self._uri = uri
        self._opened = opened
        self._connection: libvirt.virConnect | None = None
        self._lock = threading.Lock()
        self._executor = ThreadPoolExecutor(CALLS_AT_ONCE, thread_name_prefix="libvirt")

    async def call(self, doing: str, work: Callable[[libvirt.virConnect], Result]) -> Result:
        """Run `work` in a thread. It may run twice: once more on a new connection when the old
        one was lost under it.

        Raises:
            HypervisorError: libvirt cannot be reached, or `work` let a libvirtError through;
                `doing` completes "libvirt could not …".
        """
        loop = asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(self._executor, self._run, work)
        except libvirt.libvirtError as error:
            raise hypervisor_error(error, doing) from error

    async def close(self) -> None:
        # Not in its own threads: all of them may be waiting for agents that hang.
        await asyncio.to_thread(self._drop)
        self._executor.shutdown(wait=False, cancel_futures=True)

    def _run(self, work: Callable[[libvirt.virConnect], Result]) -> Result:
        connection = self._current()
        try:
            return work(connection)
        except libvirt.libvirtError as error:
            if not _is_lost(connection, error):
                raise
            self._drop(connection)
            return work(self._current())

    def _current(self) -> libvirt.virConnect:
        with self._lock:
            if self._connection is not None and not self._connection.isAlive():
                self._connection = None
            if self._connection is None:
                start_event_loop()
                connection = libvirt.open(self._uri)
                with contextlib.suppress(libvirt.libvirtError):  # not every driver has it
                    connection.setKeepAlive(_KEEPALIVE_SECONDS, _KEEPALIVE_COUNT)
                self._opened(connection)
                self._connection = connection
            return self._connection

    def _drop(self, lost: libvirt.virConnect | None = None) -> None:
        """Forget the connection; if `lost` is given, only if it still is that one."""
        with self._lock:
            connection = self._connection
            if connection is None or (lost is not None and connection is not lost):
                return
            self._connection = None
        with contextlib.suppress(libvirt.libvirtError):
            connection.close()


def _is_lost(connection: libvirt.virConnect, error: libvirt.libvirtError) -> bool:
    if error.get_error_domain() == libvirt.VIR_FROM_RPC:
        return True
    try:
        return not connection.isAlive()
    except libvirt.libvirtError:
        return True
