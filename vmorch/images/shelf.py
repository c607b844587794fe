"""What lies in `bases/`: a directory for each base or import, with its kernel. Blocking."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from vmorch.model.image import ImageManifest

_RECORD = "base.json"
IMPORTED = "import-"


@dataclass(frozen=True, slots=True)
class Book:
    """One directory. `name` is IMPORTED for kernels of imported disks, empty for what no
    definition made."""

    directory: Path
    name: str
    created_at: float

    def serves(self, manifests: Iterable[ImageManifest]) -> bool:
        """Whether one of these images boots from here."""
        place = f"{self.directory.parent.name}/{self.directory.name}/"
        return any(manifest.boot.kernel.startswith(place) for manifest in manifests)


class Shelf:
    def __init__(self, images_dir: Path) -> None:
        self._images = images_dir

    def books(self) -> list[Book]:
        return [_book(path) for path in sorted((self._images / "bases").glob("*/"))]

    def stale(self, kept: Sequence[ImageManifest]) -> list[Book]:
        """Those that no kept image boots from, but for the newest of each base (making one takes
        minutes) and for kernels by themselves (which the probe for KVM boots)."""
        books = [book for book in self.books() if book.name]
        made = [book for book in books if book.name != IMPORTED]
        newest = {b.name: b for b in sorted(made, key=lambda book: book.created_at)}
        return [b for b in books if b not in newest.values() and not b.serves(kept)]

    def remove(self, books: Iterable[Book]) -> int:
        """Returns the bytes that this frees: not those of a disk that is a layer as well."""
        freed = 0
        for book in books:
            files = [path.stat() for path in book.directory.iterdir()]
            freed += sum(s.st_blocks * 512 for s in files if s.st_nlink == 1)
            # Under another name first: half of a base must not be found as one.
            going = self._images / "tmp" / f"base-{book.directory.name}"
            book.directory.rename(going)
            shutil.rmtree(going)
        return freed


def _book(path: Path) -> Book:
    try:
        document = json.loads((path / _RECORD).read_text())
        return Book(path, document["name"], document["created_at"])
    except (FileNotFoundError, ValueError, KeyError):
        return Book(path, IMPORTED if path.name.startswith(IMPORTED) else "", 0.0)
