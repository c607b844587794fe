"""QEMU processes of ours that libvirt does not know: it died while it started them.

Such a one holds the guest's disk and tap, so that the guest can never start again, and nobody else
would end it. Blocking.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import libvirt
import psutil
import structlog

from vmorch.hypervisor.failures import is_absent

log = structlog.get_logger("vmorch.hypervisor")

_END_SECONDS = 5.0


def end_strays(connection: libvirt.virConnect, prefix: str) -> None:
    """End QEMU processes of guests whose names begin with `prefix` and that no domain stands for.
    For a new connection: libvirt knows a domain before its process begins, and for as long."""
    for name, process in list(_guests(prefix)):
        if _is_known(connection, name):
            continue
        log.warning("ending a guest that libvirt does not know", name=name, pid=process.pid)
        with contextlib.suppress(psutil.Error):
            process.kill()
            process.wait(_END_SECONDS)


def _guests(prefix: str) -> Iterator[tuple[str, psutil.Process]]:
    for process in psutil.process_iter(["cmdline"]):
        words = process.info["cmdline"] or [""]
        if not Path(words[0]).name.startswith("qemu"):
            continue
        for option, value in pairwise(words):
            if option == "-name" and value.startswith(f"guest={prefix}"):
                yield value.removeprefix("guest=").partition(",")[0], process


def _is_known(connection: libvirt.virConnect, name: str) -> bool:
    """In doubt it is known."""
    try:
        connection.lookupByName(name)
    except libvirt.libvirtError as error:
        return not is_absent(error)
    return True
