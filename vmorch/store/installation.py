"""The state directory's identity, and the lock that keeps it to one daemon."""

from __future__ import annotations

import fcntl
import os
import re
from pathlib import Path
from typing import IO

from vmorch import durable
from vmorch.effects import Entropy
from vmorch.errors import Refused, StoreError
from vmorch.model.names import Installation

_ID = re.compile(r"[0-9a-f]{32}\Z")


def lock_state_dir(state_dir: Path) -> IO[str]:
    """Take the directory for this process until the returned file is closed or the process ends.

    The directory and its parents are made 0711, as QEMU's user passes through them.

    Raises:
        Refused: another daemon has it.
    """
    state_dir.mkdir(mode=0o711, parents=True, exist_ok=True)
    lock = (state_dir / "lock").open("a+")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        lock.seek(0)
        holder = lock.read().strip() or "?"
        lock.close()
        raise Refused(
            f"Another daemon (process {holder}) uses the state directory {state_dir}.",
            hint="Stop it with 'vmorch daemon stop', or choose another 'state_dir'.",
        ) from error
    lock.truncate(0)
    lock.write(str(os.getpid()))
    lock.flush()
    return lock


def installation_of(state_dir: Path, entropy: Entropy) -> Installation:
    """Read the installation's id, or make it: once, and whole or not at all.

    Raises:
        StoreError: the file does not hold an id.
    """
    path = state_dir / "installation"
    if not path.exists():
        fresh = path.with_suffix(".tmp")
        fresh.write_text(entropy.random_bytes(16).hex() + "\n")
        durable.publish(fresh, path)
    text = path.read_text().strip()
    if not _ID.match(text):
        raise StoreError(
            f"{path} does not hold an installation id.",
            hint="Restore it: the names of running domains begin with its first six digits.",
        )
    return Installation(text)
