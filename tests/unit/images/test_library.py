"""What is taken away, and what never is."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import itertools
import json
import os
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from vmorch.errors import NotFound, Refused, UsageError
from vmorch.images import keys, layers, qcow2
from vmorch.images.bases import BaseCatalog
from vmorch.images.layers import LayerRecord, LayerStore
from vmorch.images.library import RECENT_SECONDS, Library
from vmorch.images.manifests import ManifestStore
from vmorch.images.service import ImageService
from vmorch.images.shelf import IMPORTED
from vmorch.model.image import BootConfig, ImageManifest, Layer, RunConfig
from vmorch.model.stepnet import StepNetwork
from vmorch.resources import data_dir

NOW = 1_000_000.0
OLD = NOW - 10 * RECENT_SECONDS
SIZE = 1 << 30


class Clock:
    def __init__(self) -> None:
        self.time = NOW

    def now(self) -> float:
        return self.time

    def monotonic(self) -> float:
        return self.time

    async def sleep(self, seconds: float) -> None:
        self.time += seconds


def digest(text: str) -> str:
    return "sha256:" + hashlib.sha256(text.encode()).hexdigest()


class Shelf:
    """A store in which everything is old, unless a test says otherwise."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.layers = LayerStore(directory)
        self.layers.prepare()
        self.manifests = ManifestStore(directory)
        self.manifests.prepare()
        self.clock = Clock()
        self.library = Library(directory, self.layers, self.manifests, clock=self.clock)

    def base(self, name: str, created_at: float = 1.0) -> ImageManifest:
        book = self.directory / "bases" / f"{name}-{created_at:.0f}"
        book.mkdir(parents=True)
        record = {"name": name, "created_at": created_at, "digest": digest(book.name)}
        (book / "base.json").write_text(json.dumps(record))
        (book / "vmlinuz").write_bytes(bytes(8192))
        disk = book / "disk.qcow2"
        qcow2.create_overlay(disk, backing="none", size_bytes=SIZE)
        head = bytearray(disk.read_bytes())
        head[8:20] = bytes(12)
        disk.write_bytes(head)
        layer = self._record(book.name, "", created_at)
        layer = replace(layer, size_bytes=disk.stat().st_size)
        self.layers.adopt(disk, layer)
        return self._manifest(name, [book.name], book.name, created_at)

    def layer(self, name: str, parent: str) -> LayerRecord:
        above = self.layers.record(digest(parent))
        assert above is not None
        work = self.layers.temporary / name
        work.mkdir()
        disk = self.layers.create_overlay(work, above)
        made = self.layers.publish(disk, self._record(name, above.digest, 1.0))
        work.rmdir()
        os.utime(self.directory / "layers" / f"{made.digest[7:]}.json", (OLD, OLD))
        return made

    def image(self, *chain: str, tag: str = "") -> ImageManifest:
        """An image of these layers over the base debian-12; the last names it."""
        manifest = self._manifest("debian-12", ["debian-12-1", *chain], "debian-12-1", 1.0)
        if tag:
            self.manifests.tag(tag, manifest.digest)
        return manifest

    def _record(self, name: str, parent: str, created_at: float) -> LayerRecord:
        return LayerRecord(
            digest=digest(name),
            key=digest(name),
            parent=parent,
            created_by=name,
            size_bytes=0,
            virtual_size_bytes=SIZE,
            created_at=created_at,
        )

    def _manifest(self, base: str, chain: list[str], book: str, created_at: float) -> ImageManifest:
        boot = BootConfig(kernel=f"bases/{book}/vmlinuz", initrd="", command_line="")
        layers = tuple(
            Layer(digest=digest(n), created_by=base if n == book else n, size_bytes=10)
            for n in chain
        )
        manifest = ImageManifest(
            digest=keys.image_digest(layers[-1].digest, RunConfig(), boot),
            base=base,
            layers=layers,
            boot=boot,
            run=RunConfig(),
            virtual_size_bytes=SIZE,
            created_at=created_at,
        )
        self.manifests.put(manifest)
        os.utime(self.directory / "manifests" / f"{manifest.digest[7:]}.json", (OLD, OLD))
        for layer in layers:
            os.utime(self.directory / "layers" / f"{layer.digest[7:]}.json", (OLD, OLD))
        return manifest

    def has(self, *names: str) -> list[bool]:
        return [self.layers.path(digest(name)).exists() for name in names]


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    shelf = Shelf(tmp_path)
    shelf.base("debian-12")
    for name, parent in (("a", "debian-12-1"), ("b", "a"), ("c", "a"), ("d", "c")):
        shelf.layer(name, parent)
    return shelf


def test_prune_keeps_names_users_and_what_they_stand_on(shelf: Shelf) -> None:
    shelf.image("a", "b", tag="named")
    used = shelf.image("a", "c")
    gone = shelf.image("a", "c", "d")
    freed = shelf.library.prune({used.digest: "shop/orders"}, everything=False)
    assert freed.images == (gone.digest,)
    assert freed.layers == (digest("d"),)
    assert freed.bytes_freed > 0
    assert shelf.has("debian-12-1", "a", "b", "c", "d") == [True, True, True, True, False]
    freed = shelf.library.prune({}, everything=False)
    assert freed.layers == (digest("c"),)
    assert shelf.manifests.get(used.digest) is None
    assert list(shelf.layers.temporary.iterdir()) == []


def test_a_chain_goes_from_its_top(shelf: Shelf) -> None:
    freed = shelf.library.prune({}, everything=False)
    assert set(freed.layers) == {digest(name) for name in "abcd"}
    assert freed.layers.index(digest("d")) < freed.layers.index(digest("c"))
    assert freed.layers.index(digest("c")) < freed.layers.index(digest("a"))


def test_recent_work_stays_unless_all_is_said(shelf: Shelf) -> None:
    recent = NOW - RECENT_SECONDS / 2
    os.utime(shelf.directory / "layers" / f"{digest('c')[7:]}.json", (recent, recent))
    assert set(shelf.library.prune({}, everything=False).layers) == {digest("d"), digest("b")}
    assert shelf.has("a", "c") == [True, True]
    assert set(shelf.library.prune({}, everything=True).layers) == {digest("a"), digest("c")}


def test_nothing_that_a_running_build_found_is_taken(shelf: Shelf) -> None:
    image = shelf.image("a", "b")
    shelf.clock.time = time.time()  # files that are touched bear the real time
    with shelf.library.building():
        shelf.clock.time += 10 * RECENT_SECONDS
        assert shelf.layers.find(digest("b")) is not None
        shelf.manifests.touch(image.digest)
        assert digest("b") not in shelf.library.prune({}, everything=True).layers
        assert shelf.has("a", "b") == [True, True]
        assert shelf.manifests.get(image.digest) is not None
    for path in shelf.directory.glob("[lm]*s/*.json"):
        os.utime(path, (OLD, OLD))
    assert shelf.has("a", "b") == [True, True]
    shelf.library.prune({}, everything=True)
    assert shelf.has("a", "b") == [False, False]


def test_the_newest_base_stays_and_older_ones_go_when_nothing_boots_from_them(
    shelf: Shelf,
) -> None:
    named = shelf.image("a", "b", tag="named")
    shelf.base("debian-12", created_at=2.0)
    (shelf.directory / "bases/kernel-6.1").mkdir()
    shelf.library.prune({}, everything=True)
    assert shelf.has("debian-12-1", "debian-12-2") == [True, True]
    assert shelf.library.current_bases()["debian-12"] != named.digest
    freed = shelf.library.remove("named", None, {})
    assert freed.bytes_freed >= 8192
    assert shelf.has("debian-12-1", "debian-12-2") == [False, True]
    assert sorted(p.name for p in (shelf.directory / "bases").iterdir()) == [
        "debian-12-2",
        "kernel-6.1",
    ]
    assert list(shelf.layers.temporary.iterdir()) == []


def test_remove_takes_a_name_then_the_image(shelf: Shelf) -> None:
    image = shelf.image("a", "c", "d", tag="one")
    shelf.image("a", "b", tag="other")
    shelf.manifests.tag("two", image.digest)
    freed = shelf.library.remove("one:latest", None, {image.digest: "shop/orders"})
    assert (freed.names, freed.images) == (("one",), ())
    with pytest.raises(Refused, match="shop/orders"):
        shelf.library.remove("two", None, {image.digest: "shop/orders"})
    freed = shelf.library.remove("two", None, {})
    assert freed.images == (image.digest,)
    assert freed.layers == (digest("d"), digest("c"))
    assert shelf.has("a", "b", "c", "d") == [True, True, False, False]


def test_remove_leaves_layers_that_the_cache_builds_upon(shelf: Shelf) -> None:
    shelf.image("a", "c", tag="one")
    assert shelf.library.remove("one", None, {}).layers == ()
    assert shelf.has("a", "c", "d") == [True, True, True]


def test_finding(shelf: Shelf) -> None:
    image = shelf.image("a", "b", tag="orders")
    base = shelf.library.find("debian:12", "debian-12")
    assert shelf.library.find("orders:latest", None) == image
    assert shelf.library.find(image.digest, None) == image
    assert shelf.library.find(image.digest[7:19], None) == image
    assert base.layers[0].digest == digest("debian-12-1")
    with pytest.raises(NotFound, match="did you mean 'orders'"):
        shelf.library.find("order", None)
    with pytest.raises(NotFound):
        shelf.library.find("tiny", "tiny")
    with pytest.raises(NotFound):
        shelf.library.find("../../etc/passwd", None)


def test_an_ambiguous_digest(shelf: Shelf) -> None:
    found = [shelf.image("a"), shelf.image("a", "b")]
    copy = shelf.directory / "manifests" / f"{found[0].digest[7:67]}0000.json"
    text = (shelf.directory / "manifests" / f"{found[0].digest[7:]}.json").read_text()
    copy.write_text(text.replace(found[0].digest, f"{found[0].digest[:67]}0000"))
    with pytest.raises(UsageError, match="2 images"):
        shelf.library.find(found[0].digest[7:27], None)


def test_history_says_what_was_cached(shelf: Shelf) -> None:
    image = shelf.image("a", "b")
    shelf.manifests.note_build(image.digest, {digest("b")})
    rows = shelf.library.history(image)
    assert [(row.created_by, row.cached) for row in rows] == [
        ("debian-12-1", True),
        ("a", True),
        ("b", False),
    ]
    shelf.manifests.note_build(image.digest, set())
    assert all(row.cached for row in shelf.library.history(image))


def test_own_and_shared_sizes(shelf: Shelf) -> None:
    shelf.image("a", "b", tag="one")
    shelf.image("a", "c", tag="two")
    rows = {row.names[0]: row for row in shelf.library.summaries()}
    assert (rows["one"].size_bytes, rows["one"].own_bytes) == (30, 10)
    assert rows["debian-12"].own_bytes == 0


def flip_last_bit(path: Path) -> None:
    path.chmod(0o600)
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


def test_a_layer_with_a_flipped_bit_is_named_with_its_images_and_made_anew(shelf: Shelf) -> None:
    broken = shelf.layers.record(digest("c"))
    assert broken is not None
    shop = shelf.image("a", "c", tag="shop")
    nameless = shelf.image("a", "c", "d")
    sound = shelf.image("a", "b", tag="sound")
    assert shelf.library.verify(None).damaged == ()

    flip_last_bit(shelf.layers.path(broken.digest))
    assert shelf.layers.find(broken.key) == broken  # by its size and header it is sound
    (damaged,) = shelf.library.verify(shop).damaged
    assert (damaged.digest, set(damaged.images)) == (broken.digest, {"shop", nameless.digest})
    assert "content" in damaged.reason
    assert shelf.layers.find(broken.key) is None
    assert shelf.layers.path(broken.digest).exists()  # instances may run on it
    assert shelf.library.verify(sound).damaged == ()
    assert len(shelf.library.verify(None).damaged) == 1


def test_a_layer_that_goes_while_it_is_read_is_not_damaged(
    shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    going = shelf.layer("a", "debian-12-1")
    content = layers._content

    def pruned(path: Path) -> str:
        shelf.layers.remove(going)
        return content(path)

    monkeypatch.setattr(layers, "_content", pruned)
    assert shelf.library.verify(None).damaged == ()


# --- killed between two of its changes


@contextlib.asynccontextmanager
async def no_network() -> AsyncIterator[StepNetwork]:
    yield StepNetwork(namespace=None)


def furnished(directory: Path) -> Shelf:
    """Images with and without names, two bases, an import's kernel, a cache and a blob."""
    shelf = Shelf(directory)
    shelf.base("debian-12", created_at=1.0)
    shelf.base("tiny", created_at=1.0)
    shelf.base("tiny", created_at=2.0)
    for name, parent in (("a", "debian-12-1"), ("b", "a"), ("c", "a"), ("d", "c")):
        shelf.layer(name, parent)
    shelf.image("a", "b", tag="named")
    shelf.image("a", "c", tag="alone")
    shelf.manifests.note_build(shelf.image("a", "c", "d").digest, {digest("d")})
    places = (f"bases/{IMPORTED}1/vmlinuz", "blobs/aa/bb", "cache/one/data/file")
    for place in places:
        (directory / place).parent.mkdir(parents=True, exist_ok=True)
        (directory / place).write_text("x")
    for path in (directory / "blobs/aa/bb", directory / "cache/one"):
        os.utime(path, (OLD, OLD))
    return shelf


def served(shelf: Shelf) -> ImageService:
    catalog = BaseCatalog(shelf.directory, data_dir("images"))
    return ImageService(shelf.directory, catalog, no_network, clock=shelf.clock)


def listing(directory: Path) -> set[str]:
    return {str(path.relative_to(directory)) for path in directory.rglob("*")}


Taking = Callable[[ImageService], Coroutine[Any, Any, object]]


@pytest.mark.parametrize(
    "taking",
    [
        lambda service: service.prune({}, everything=False),
        lambda service: service.remove("alone", {}),
    ],
    ids=["prune", "remove"],
)
def test_what_is_taken_away_is_taken_whole_after_any_death(
    tmp_path: Path, taking: Taking, dying: Any
) -> None:
    async def taken(service: ImageService) -> None:
        with contextlib.suppress(NotFound):  # it was gone already
            await taking(service)

    left = None
    for spared in itertools.count():
        shelf = furnished(tmp_path / f"{spared}")
        with dying(spared) as death:
            asyncio.run(taken(served(shelf)))
        again = served(shelf)
        asyncio.run(again.sweep())
        assert list((shelf.directory / "tmp").iterdir()) == []
        for image in shelf.manifests.every():
            assert shelf.library.verify(image).damaged == ()
            assert (shelf.directory / image.boot.kernel).exists()
        for name in shelf.manifests.tags():
            assert shelf.library.find(name, None)
        asyncio.run(taken(again))
        asyncio.run(again.prune({}, everything=True))
        left = left or listing(shelf.directory)
        assert listing(shelf.directory) == left, spared
        if not death.came:
            break
