"""The word for a guest's end, from the events that libvirt was seen to send for each."""

from __future__ import annotations

import pytest

from vmorch.reconciler.endings import (
    HOST_OUT_OF_MEMORY,
    KILLED_OUTSIDE,
    PANICKED,
    POWERED_OFF,
    QEMU_DIED,
    SIGNALLED,
    ending,
)


@pytest.mark.parametrize(
    ("events", "word"),
    [
        (["started", "resumed", "shutdown: guest", "stopped: shutdown"], POWERED_OFF),
        (["crashed: panicked", "destroyed"], PANICKED),
        (["stopped: qemu died"], QEMU_DIED),
        (["stopped: out of memory"], HOST_OUT_OF_MEMORY),
        (["shutdown: host", "stopped: shutdown"], SIGNALLED),
        (["shutdown: host", "destroyed"], KILLED_OUTSIDE),
        (["destroyed"], KILLED_OUTSIDE),
        (["destroyed", "started"], None),
        (["agent connected"], None),
    ],
)
def test_the_first_event_names_the_cause(events: list[str], word: str | None) -> None:
    end: str | None = None
    for event in events:
        end = ending(end, event)
    assert end == word
