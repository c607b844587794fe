"""How a guest ended, in the words of `ps` and `events`, from what the hypervisor said.

Source of the details: `vmorch.hypervisor.events`.
"""

from __future__ import annotations

POWERED_OFF = "it powered itself off"
PANICKED = "its kernel panicked"
QEMU_DIED = "QEMU died"
HOST_OUT_OF_MEMORY = "QEMU was killed: the host, or its memory limit, ran out of memory"
SIGNALLED = "QEMU was asked to end by a signal"
KILLED_OUTSIDE = "it was ended from outside vmorch"

_WORDS = {
    "shutdown: guest": POWERED_OFF,
    "shutdown: host": SIGNALLED,
    "crashed: panicked": PANICKED,
    "stopped: crashed": QEMU_DIED,
    "stopped: qemu died": QEMU_DIED,
    "stopped: out of memory": HOST_OUT_OF_MEMORY,
    "destroyed": KILLED_OUTSIDE,
    "suspended: disk error": "its disk failed (is the host's disk full?)",
}

# A life ends in several events; the one that names the cause comes first.
_CONSEQUENCES = frozenset({"stopped: shutdown", "shutdown: finished", "stopped"})


def ending(former: str | None, detail: str) -> str | None:
    """What to remember of a domain's end after one more event; None forgets (it has started)."""
    if detail in {"started", "resumed"}:
        return None
    word = _WORDS.get(detail)
    # libvirt ends a domain by a signal too, and names itself only afterwards.
    if word is not None and (former is None or (former, word) == (SIGNALLED, KILLED_OUTSIDE)):
        return word
    if former is None and detail in _CONSEQUENCES:
        return POWERED_OFF
    return former
