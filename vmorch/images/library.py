"""The life of images: their names, what stands on what, and taking away what nobody needs.

Blocking; call from a thread. Builds may go on meanwhile: what a build finds or writes is marked
as used at that moment, and nothing that was used since the oldest running build began is touched.
"""

from __future__ import annotations

import math
import re
import threading
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from vmorch.effects import Clock
from vmorch.errors import NotFound, Refused, UsageError
from vmorch.images.dockerfile.mistakes import did_you_mean
from vmorch.images.layers import LayerRecord, LayerStore
from vmorch.images.manifests import ManifestStore, normal_name
from vmorch.images.protocol import DamagedLayer, Freed, ImageSummary, LayerHistory, Verified
from vmorch.images.shelf import IMPORTED, Shelf
from vmorch.model.image import ImageManifest

RECENT_SECONDS = 3600.0
_CLOCK_STEP_SECONDS = 1.0  # a file's time may be a little behind the clock
_DIGEST_PART = re.compile(r"(?:sha256:)?([0-9a-f]{4,64})\Z")


class Library:
    def __init__(
        self, images_dir: Path, layers: LayerStore, manifests: ManifestStore, *, clock: Clock
    ) -> None:
        self._layers = layers
        self._manifests = manifests
        self._shelf = Shelf(images_dir)
        self._clock = clock
        self._building: list[float] = []  # when each build that runs began
        self._lock = threading.Lock()

    @contextmanager
    def building(self) -> Iterator[None]:
        """While this is open, nothing goes that was used since it was opened."""
        began = self._clock.now() - _CLOCK_STEP_SECONDS
        self._building.append(began)
        try:
            yield
        finally:
            self._building.remove(began)

    # --- looking

    def find(self, reference: str, base: str | None) -> ImageManifest:
        """`base` is the name of the base that `reference` means, if it means one.

        Raises NotFound, UsageError.
        """
        digest = self._manifests.tagged(reference)
        if digest is None and base is not None:
            digest = self.current_bases().get(base)
        found = self._manifests.get(digest) if digest else self._by_digest(reference)
        if found is None:
            raise self.unknown(reference)
        return found

    def _by_digest(self, reference: str) -> ImageManifest | None:
        match = _DIGEST_PART.match(reference)
        if match is None:
            return None
        begin = f"sha256:{match.group(1)}"
        found = [m for m in self._manifests.every() if m.digest.startswith(begin)]
        if len(found) > 1:
            raise UsageError(
                f"{len(found)} images' digests begin with '{match.group(1)}'.",
                hint="Give more of the digest.",
            )
        return found[0] if found else None

    def unknown(self, reference: str) -> NotFound:
        close = did_you_mean(normal_name(reference), self._manifests.tags())
        return NotFound(
            f"There is no image '{reference}'{close}",
            hint="'vmorch image ls' shows all images; FROM and image: also take bases, "
            "such as debian:12.",
        )

    def history(self, manifest: ImageManifest) -> list[LayerHistory]:
        written = self._manifests.written(manifest.digest)
        return [
            LayerHistory(
                digest=record.digest,
                created_by=record.created_by,
                created_at=record.created_at,
                seconds=record.seconds,
                size_bytes=record.size_bytes,
                cached=record.digest not in written,
                content=record.content,
            )
            for record in self._layers.chain(manifest.layers[-1].digest)
        ]

    def summaries(self) -> list[ImageSummary]:
        manifests = self._manifests.every()
        users = Counter(layer.digest for manifest in manifests for layer in manifest.layers)
        names = self._names()
        for base, digest in self.current_bases().items():
            names.setdefault(digest, []).append(base)
        rows = [
            ImageSummary(
                digest=manifest.digest,
                names=tuple(names.get(manifest.digest, ())),
                base=manifest.base,
                size_bytes=sum(layer.size_bytes for layer in manifest.layers),
                own_bytes=sum(
                    layer.size_bytes for layer in manifest.layers if users[layer.digest] == 1
                ),
                created_at=manifest.created_at,
            )
            for manifest in manifests
        ]
        return sorted(rows, key=lambda row: row.created_at)

    def verify(self, manifest: ImageManifest | None) -> Verified:
        """See `Images.verify`."""
        with self._layers.guard:
            wanted = _layers_of([manifest] if manifest else self._manifests.every())
            records = [r for r in self._layers.every() if manifest is None or r.digest in wanted]
        damaged = [
            DamagedLayer(digest=digest, reason="its record is missing", images=self._users(digest))
            for digest in sorted(wanted - {record.digest for record in records})
        ]
        damaged += filter(None, map(self._distrusted, records))
        read = sum(record.size_bytes for record in records if record.content)
        return Verified(layers=len(records), bytes_read=read, damaged=tuple(damaged))

    def _distrusted(self, record: LayerRecord) -> DamagedLayer | None:
        """The layer if it is damaged; no build finds it then any more."""
        reason = self._layers.damage(record, whole=True)
        if not reason:
            return None
        with self._layers.guard:
            if self._layers.record(record.digest) is None:
                return None  # taken away while it was read
            self._layers.distrust(record)
            users = self._users(record.digest)
            return DamagedLayer(digest=record.digest, reason=reason, images=users)

    def _users(self, layer: str) -> tuple[str, ...]:
        """Names, or else digests, of the images that stand on a layer."""
        names = self._names()
        users = [m.digest for m in self._manifests.every() if layer in _layers_of([m])]
        return tuple(name for digest in users for name in names.get(digest, [digest]))

    def _names(self) -> dict[str, list[str]]:
        names: dict[str, list[str]] = {}
        for name, digest in self._manifests.tags().items():
            names.setdefault(digest, []).append(name)
        return names

    def current_bases(self) -> dict[str, str]:
        """The newest image of each base, by the base's name."""
        tagged = set(self._manifests.tags().values())
        alone = [m for m in self._manifests.every() if len(m.layers) == 1]
        made = [m for m in alone if m.layers[0].created_by == m.base]  # not imported
        bases = [m for m in made if m.digest not in tagged]
        newest = sorted(bases, key=lambda manifest: manifest.created_at)
        return {manifest.base: manifest.digest for manifest in newest}

    # --- taking away

    def remove(self, reference: str, base: str | None, in_use: Mapping[str, str]) -> Freed:
        """See `Images.remove`."""
        with self._lock, self._layers.guard:
            manifest = self.find(reference, base)
            names = self._names().get(manifest.digest, [])
            name = normal_name(reference)
            if name in names and len(names) > 1:
                self._manifests.untag(name)
                return Freed(names=(name,))
            if manifest.digest in in_use:
                raise Refused(
                    f"The image '{reference}' is needed by {in_use[manifest.digest]}.",
                    hint="Take that down first, or roll out another image and prune later.",
                )
            others = [m for m in self._manifests.every() if m.digest != manifest.digest]
            for each in names:
                self._manifests.untag(each)
            self._manifests.remove(manifest.digest)
            books = [b for b in self._shelf.books() if b.serves([manifest])]
            freed = self._shelf.remove(b for b in books if not b.serves(others))
            own = {layer.digest for layer in manifest.layers} - _layers_of(others)
            layers, more = self._remove_layers(own, since=self._oldest_build())
            return Freed(
                names=tuple(names),
                images=(manifest.digest,),
                layers=layers,
                bytes_freed=freed + more,
            )

    def prune(self, in_use: Mapping[str, str], *, everything: bool) -> Freed:
        """See `Images.prune`."""
        now = self._clock.now()
        with self._lock, self._layers.guard:
            since = min(self._oldest_build(), now if everything else now - RECENT_SECONDS)
            bases = set(self.current_bases().values())
            needed = {*self._manifests.tags().values(), *in_use, *bases}
            manifests = self._manifests.every()
            kept = [
                m
                for m in manifests
                if m.digest in needed or self._manifests.used_at(m.digest) >= since
            ]
            gone = [m.digest for m in manifests if m not in kept]
            for digest in gone:
                self._manifests.remove(digest)
            freed = self._shelf.remove(self._shelf.stale(kept))
            unneeded = {record.digest for record in self._layers.every()} - _layers_of(kept)
            layers, more = self._remove_layers(unneeded, since=since)
            return Freed(images=tuple(gone), layers=layers, bytes_freed=freed + more)

    def sweep(self) -> None:
        """Remove kernels of imports that never became an image. Before the first build only."""
        kept = self._manifests.every()
        stale = [book for book in self._shelf.stale(kept) if book.name == IMPORTED]
        self._shelf.remove(stale)

    def _oldest_build(self) -> float:
        return min(tuple(self._building), default=math.inf)

    def _remove_layers(self, candidates: set[str], *, since: float) -> tuple[tuple[str, ...], int]:
        """Those that nothing else stands on and that were last used before `since`, tops first."""
        records = {record.digest: record for record in self._layers.every()}
        above = Counter(record.parent for record in records.values())
        removed, freed = dict[str, None](), 0
        pending = [d for d in sorted(candidates) if d in records]
        while pending:
            record = records[pending.pop()]
            if (
                record.digest in removed
                or above[record.digest]
                or self._layers.used_at(record.digest) >= since
            ):
                continue
            freed += self._layers.remove(record)
            removed[record.digest] = None
            above[record.parent] -= 1
            if record.parent in candidates and record.parent in records:
                pending.append(record.parent)
        return tuple(removed), freed


def _layers_of(manifests: list[ImageManifest]) -> set[str]:
    return {layer.digest for manifest in manifests for layer in manifest.layers}
