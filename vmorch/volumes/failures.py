"""What is wrong with a volume's file, and the way out."""

from __future__ import annotations

from pathlib import Path

from vmorch.errors import VmorchError

_WAY_OUT = (
    "Put it back from a copy; without one, 'vmorch down -v' gives up the environment's volumes, "
    "and 'vmorch up' then begins with empty ones."
)


def lost(path: Path) -> VmorchError:
    return VmorchError(f"The file of a volume is gone: {path}.", hint=_WAY_OUT)


def no_disk(path: Path) -> VmorchError:
    return VmorchError(f"{path} is no disk of a volume.", hint=_WAY_OUT)
