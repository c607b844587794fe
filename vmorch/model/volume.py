"""Named volumes as the store remembers them."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

_LABEL_LIMIT = 16  # of an ext4 file system; a virtio disk's serial may have 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Volume:
    """One disk that outlives instances. `slot` is 0 for a volume that a service has once, else 1,
    2, … for those that each of its instances has. `holder` is the instance that it belongs to,
    until that is removed; None: nobody. `removing`: its file goes once nobody holds it. `made`: it
    has had a file, and with it perhaps data."""

    environment: str
    name: str
    slot: int
    size_bytes: int
    holder: str | None = None
    removing: bool = False
    made: bool = False

    @property
    def label(self) -> str:
        """The file system's label and the disk's serial: the same in every life of the volume."""
        text = f"{self.environment}/{self.file_name}"
        return "v" + hashlib.sha256(text.encode()).hexdigest()[: _LABEL_LIMIT - 1]

    @property
    def file_name(self) -> str:
        """'@' is in no volume's name, so no two volumes share a file."""
        slot = f"@{self.slot}" if self.slot else ""
        return f"{self.name}{slot}.qcow2"
