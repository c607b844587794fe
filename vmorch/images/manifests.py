"""Manifests and the names that point at them. Blocking; call from a thread."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Collection
from pathlib import Path
from urllib.parse import quote, unquote

from vmorch.errors import InvalidSpec
from vmorch.images import files
from vmorch.images.files import hexadecimal
from vmorch.model.codec import manifest_from_json, manifest_to_json
from vmorch.model.image import ImageManifest


def normal_name(name: str) -> str:
    """`orders:latest` is `orders`."""
    return name.removesuffix(":latest")


class ManifestStore:
    def __init__(self, images_dir: Path) -> None:
        self._manifests = images_dir / "manifests"
        self._tags = images_dir / "tags"
        self._builds = images_dir / "builds"
        self._temporary = images_dir / "tmp"

    def prepare(self) -> None:
        for directory in (self._manifests, self._tags, self._builds):
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)

    def put(self, manifest: ImageManifest) -> ImageManifest:
        """Keep it, or the one of the same digest that is here already (it knows since when)."""
        present = self.get(manifest.digest)
        if present is not None:
            self.touch(present.digest)
            return present
        path = self._path(manifest.digest)
        text = json.dumps(manifest_to_json(manifest), indent=1, sort_keys=True)
        files.write(path, text, temporary=self._temporary)
        return manifest

    def get(self, digest: str) -> ImageManifest | None:
        """None: not here, damaged, or no digest."""
        try:
            return manifest_from_json(json.loads(self._path(digest).read_text()))
        except (FileNotFoundError, ValueError, InvalidSpec):
            return None

    def every(self) -> list[ImageManifest]:
        found = (self.get(f"sha256:{path.stem}") for path in self._manifests.glob("*.json"))
        return [manifest for manifest in found if manifest is not None]

    def tag(self, name: str, digest: str) -> None:
        quoted = quote(normal_name(name), safe="")
        files.write(self._tags / quoted, digest, temporary=self._temporary)

    def tagged(self, name: str) -> str | None:
        try:
            return (self._tags / quote(normal_name(name), safe="")).read_text()
        except FileNotFoundError:
            return None

    def untag(self, name: str) -> None:
        (self._tags / quote(normal_name(name), safe="")).unlink(missing_ok=True)

    def tags(self) -> dict[str, str]:
        """Every name and the digest that it points at."""
        return {unquote(path.name): path.read_text() for path in sorted(self._tags.iterdir())}

    def touch(self, digest: str) -> None:
        """It was built or asked for just now."""
        with contextlib.suppress(FileNotFoundError):
            os.utime(self._path(digest))

    def used_at(self, digest: str) -> float:
        """When it was last built or asked for; 0 when it is not here."""
        try:
            return self._path(digest).stat().st_mtime
        except FileNotFoundError:
            return 0.0

    def remove(self, digest: str) -> None:
        (self._builds / hexadecimal(digest)).unlink(missing_ok=True)
        self._path(digest).unlink(missing_ok=True)  # last: by it the next removal finds the rest

    def note_build(self, digest: str, written: Collection[str]) -> None:
        """Which layers the newest build of this image wrote; the others came from the cache."""
        path, text = self._builds / hexadecimal(digest), json.dumps(sorted(written))
        if written or not path.exists() or path.read_text() != text:
            files.write(path, text, temporary=self._temporary)

    def written(self, digest: str) -> frozenset[str]:
        """What `note_build` was told last; nothing for what was never built here."""
        try:
            return frozenset(json.loads((self._builds / hexadecimal(digest)).read_text()))
        except (FileNotFoundError, ValueError):
            return frozenset()

    def _path(self, digest: str) -> Path:
        return self._manifests / f"{hexadecimal(digest)}.json"
