"""The real host, by psutil and statvfs(3), with what the settings keep of it."""

from __future__ import annotations

import shutil

import psutil

from vmorch.config import Settings
from vmorch.errors import of_the_disk
from vmorch.model.guest import Acceleration
from vmorch.model.host import HostView

DISK_STEP_BYTES = 64 * 1024**2
"""The free disk is told anew when it has changed by so much: every log line moves it, and whoever
waits for it would be told another figure in each look."""
KEPT_PART = 20
"""Of a small disk no more than its twentieth is kept free, or nothing would ever fit there."""


class SystemHost:
    """See `vmorch.host.protocol.Host`."""

    def __init__(self, settings: Settings, acceleration: Acceleration) -> None:
        self._settings = settings
        self._acceleration = acceleration
        self._free_disk_bytes: int | None = None

    def view(self) -> HostView:
        settings = self._settings
        free, total = self._disk()
        return HostView(
            cpus=psutil.cpu_count() or 1,
            cpu_overcommit=settings.cpu_overcommit,
            memory_bytes=psutil.virtual_memory().total,
            kept_memory_bytes=settings.kept_memory_bytes,
            free_disk_bytes=free,
            kept_disk_bytes=min(settings.kept_disk_bytes, total // KEPT_PART),
            acceleration=self._acceleration,
        )

    def _disk(self) -> tuple[int, int]:
        """Free, in steps, and in all."""
        try:
            usage = shutil.disk_usage(self._settings.state_dir)
        except OSError as error:
            raise of_the_disk(error) from error
        told = self._free_disk_bytes
        step = min(DISK_STEP_BYTES, usage.total // KEPT_PART)
        if told is None or abs(usage.free - told) >= step:
            told = self._free_disk_bytes = usage.free
        return told, usage.total
