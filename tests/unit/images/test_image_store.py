"""The stores: what is damaged is not used, what is there is not replaced, what is half is gone."""

from __future__ import annotations

import hashlib
import itertools
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from vmorch.errors import UsageError
from vmorch.images import qcow2
from vmorch.images.blobs import BlobStore
from vmorch.images.layers import LayerRecord, LayerStore, rebuilt_digest
from vmorch.images.manifests import ManifestStore
from vmorch.images.sweeping import sweep_directory
from vmorch.model.image import BootConfig, ImageManifest, Layer, RunConfig
from vmorch.model.spec import HealthCheck, HealthKind

SIZE = 1 << 30


def digest(text: str) -> str:
    return "sha256:" + hashlib.sha256(text.encode()).hexdigest()


@pytest.fixture
def store(tmp_path: Path) -> LayerStore:
    store = LayerStore(tmp_path)
    store.prepare()
    return store


def record(name: str, parent: str = "") -> LayerRecord:
    return LayerRecord(
        digest=digest(name),
        key=digest(name),
        parent=parent,
        created_by=name,
        size_bytes=0,
        virtual_size_bytes=SIZE,
        created_at=1.0,
    )


@pytest.fixture
def base(store: LayerStore, tmp_path: Path) -> LayerRecord:
    disk = tmp_path / "base.qcow2"
    qcow2.create_overlay(disk, backing="none", size_bytes=SIZE)
    head = bytearray(disk.read_bytes())
    head[8:20] = bytes(12)  # no backing file: a base
    disk.write_bytes(head)
    return store.adopt(disk, replace(record("base"), size_bytes=disk.stat().st_size))


def published(store: LayerStore, name: str, parent: LayerRecord) -> LayerRecord:
    work = store.temporary / name
    work.mkdir()
    disk = store.create_overlay(work, parent)
    return store.publish(disk, record(name, parent.digest))


def test_a_published_layer_is_found_and_read_only(store: LayerStore, base: LayerRecord) -> None:
    layer = published(store, "one", base)
    path = store.path(layer.digest)
    assert store.find(digest("one")) == layer
    assert path.stat().st_mode & 0o777 == 0o444
    header = qcow2.read_header(path)
    assert header == qcow2.Header(SIZE, store.path(base.digest).name)  # relative: a plain name
    assert [r.created_by for r in store.chain(layer.digest)] == ["base", "one"]


def damage_size(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 512)


def damage_magic(path: Path) -> None:
    path.chmod(0o600)
    data = bytearray(path.read_bytes())
    data[0] = 0
    path.write_bytes(data)


def damage_backing(path: Path) -> None:
    path.chmod(0o600)
    data = path.read_bytes()
    at = data.index(b".qcow2")
    path.write_bytes(data[: at - 1] + b"f0"[data[at - 1] == ord("f") :][:1] + data[at:])


@pytest.mark.parametrize("harm", [damage_size, damage_magic, damage_backing, Path.unlink])
def test_a_damaged_layer_is_not_found(store: LayerStore, base: LayerRecord, harm: object) -> None:
    layer = published(store, "one", base)
    assert callable(harm)
    harm(store.path(layer.digest))
    assert store.find(digest("one")) is None
    assert store.damage(layer)


def test_the_whole_content_is_compared_on_request(store: LayerStore, base: LayerRecord) -> None:
    layer = published(store, "one", base)
    path = store.path(layer.digest)
    path.chmod(0o600)
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    assert store.damage(layer) == ""
    assert "content" in store.damage(layer, whole=True)


def test_a_layer_that_is_made_again_gets_a_name_of_its_own(
    store: LayerStore, base: LayerRecord
) -> None:
    old = published(store, "one", base)
    work = store.temporary / "again"
    work.mkdir()
    disk = store.create_overlay(work, base)
    key = digest("one")
    assert store.is_taken(key)
    fresh = replace(record("one", base.digest), digest=rebuilt_digest(key, "salt"))
    new = store.publish(disk, fresh)
    assert new.digest != old.digest
    assert store.path(old.digest).exists()
    assert store.find(key) == new


def test_a_base_made_anew_under_the_same_digest_is_another_layer(
    store: LayerStore, base: LayerRecord, tmp_path: Path
) -> None:
    other = tmp_path / "other.qcow2"
    other.write_bytes(store.path(base.digest).read_bytes())
    again = store.adopt(other, replace(base, created_at=2.0))
    assert again.digest != base.digest
    assert store.path(base.digest).exists()
    assert store.adopt(tmp_path / "base.qcow2", base) == base


def test_sweep_removes_what_has_no_record(store: LayerStore, base: LayerRecord) -> None:
    layer = published(store, "one", base)
    store.path(layer.digest).with_suffix(".json").unlink()
    store.path(base.digest).with_suffix(".json").unlink()
    store.sweep()
    assert not store.path(layer.digest).exists()
    assert store.path(base.digest).exists()  # the bases' own business


def test_a_name_that_is_no_digest_reaches_no_file(store: LayerStore) -> None:
    for name in ("sha256:../../etc/passwd", "md5:0", "", "sha256:" + "G" * 64):
        with pytest.raises(ValueError, match="no digest"):
            store.path(name)


@pytest.fixture
def blobs(tmp_path: Path) -> BlobStore:
    (tmp_path / "tmp").mkdir(exist_ok=True)
    blobs = BlobStore(tmp_path / "blobs", temporary=tmp_path / "tmp")
    blobs.prepare()
    return blobs


def test_blobs_are_moved_in_by_their_digest(blobs: BlobStore, tmp_path: Path) -> None:
    file = tmp_path / "sent"
    file.write_text("content")
    wanted = digest("content")
    assert blobs.missing([wanted, wanted]) == [wanted]
    blobs.put(wanted, file)
    assert not file.exists()
    assert blobs.missing([wanted]) == []
    assert blobs.path(wanted).read_text() == "content"
    assert blobs.has(wanted, 7)


@pytest.mark.parametrize("size", [0, 3])
def test_a_damaged_blob_is_asked_for_again(blobs: BlobStore, size: int) -> None:
    kept = blobs.put_bytes(b"content")
    os.truncate(blobs.path(kept), size)
    assert not blobs.has(kept, 7)
    assert blobs.missing([kept]) == [kept]
    assert blobs.has(blobs.put_bytes(b"content"), 7)
    os.truncate(blobs.path(kept), size)
    assert not blobs.has_whole(kept)
    assert blobs.missing([kept]) == [kept]


def test_a_blob_with_another_content_is_refused(blobs: BlobStore, tmp_path: Path) -> None:
    file = tmp_path / "sent"
    file.write_text("content")
    with pytest.raises(UsageError):
        blobs.put(digest("other"), file)
    with pytest.raises(UsageError):
        blobs.missing(["sha256:../x"])
    assert not file.exists()
    assert blobs.missing([digest("other")])


def test_blobs_are_collected_by_age(blobs: BlobStore) -> None:
    old, new = blobs.put_bytes(b"old"), blobs.put_bytes(b"new")
    os.utime(blobs.path(old), (1, 1))
    assert blobs.collect(unused_since=1000) == 3
    assert blobs.missing([old, new]) == [old]


def test_asking_for_a_blob_keeps_it(blobs: BlobStore) -> None:
    old = blobs.put_bytes(b"old")
    os.utime(blobs.path(old), (1, 1))
    blobs.missing([old])
    assert blobs.collect(unused_since=1000) == 0


def manifest(name: str = "one") -> ImageManifest:
    return ImageManifest(
        digest=digest(name),
        base="debian-12",
        layers=(Layer(digest=digest("l"), created_by="RUN x", size_bytes=1),),
        boot=BootConfig(
            kernel="k", initrd="i", command_line="c", supports=frozenset({"ssh", "agent"})
        ),
        run=RunConfig(
            command=("a",),
            environment={"A": "ä"},
            exposed_ports=(80,),
            healthcheck=HealthCheck(kind=HealthKind.CMD, argument=("x",)),
        ),
        virtual_size_bytes=SIZE,
        created_at=5.0,
    )


def test_manifests_and_tags(tmp_path: Path) -> None:
    store = ManifestStore(tmp_path)
    (tmp_path / "tmp").mkdir()
    store.prepare()
    one = manifest()
    assert store.put(one) == one
    assert store.get(one.digest) == one
    assert store.put(replace(one, created_at=9.0)) == one  # it is there since 5.0
    store.tag("a/b:1", one.digest)
    store.tag("x:latest", one.digest)
    store.tag("../../escape", one.digest)
    assert store.tagged("a/b:1") == one.digest
    assert store.tagged("x") == one.digest
    assert store.tags() == dict.fromkeys(("../../escape", "a/b:1", "x"), one.digest)
    assert list(tmp_path.parent.glob("*escape*")) == []
    assert list((tmp_path / "tmp").iterdir()) == []


def test_a_damaged_manifest_is_no_manifest(tmp_path: Path) -> None:
    store = ManifestStore(tmp_path)
    (tmp_path / "tmp").mkdir()
    store.prepare()
    one = store.put(manifest())
    path = next((tmp_path / "manifests").iterdir())
    path.write_text(path.read_text()[:-20])
    assert store.get(one.digest) is None
    assert store.get("no digest") is None
    assert store.every() == []


# --- killed between two changes


def swept(directory: Path) -> LayerStore:
    """The store as the next start finds it."""
    for prefix in ("layer-", "blob-", "tmp"):
        sweep_directory(directory / "tmp", prefix)
    store = LayerStore(directory)
    store.sweep()
    assert list(store.temporary.iterdir()) == []
    return store


def test_a_layer_is_whole_or_absent_after_any_death(tmp_path: Path, dying: Any) -> None:
    for spared in itertools.count():
        directory = tmp_path / f"{spared}"
        store = LayerStore(directory)
        store.prepare()
        disk = tmp_path / f"{spared}.qcow2"
        qcow2.create_overlay(disk, backing="none", size_bytes=SIZE)
        below = store.adopt(disk, replace(record("base"), size_bytes=disk.stat().st_size))
        with dying(spared) as death:
            published(store, "layer-a", below)
        again = swept(directory)
        found = again.find(digest("layer-a"))
        assert found is None or not again.damage(found, whole=True)
        assert (found is not None) or death.came
        if not death.came:
            break
        made = published(again, "layer-a", below)
        assert again.find(digest("layer-a")) == made
    assert spared > 3


def test_a_manifest_its_name_and_a_blob_are_whole_or_absent_after_any_death(
    tmp_path: Path, dying: Any
) -> None:
    image = manifest("a")
    for spared in itertools.count():
        directory = tmp_path / f"{spared}"
        LayerStore(directory).prepare()
        manifests = ManifestStore(directory)
        manifests.prepare()
        blobs = BlobStore(directory / "blobs", temporary=directory / "tmp")
        blobs.prepare()
        with dying(spared) as death:
            sent = blobs.put_bytes(b"content")
            manifests.put(image)
            manifests.tag("a", image.digest)
            manifests.note_build(image.digest, {"x"})
        swept(directory)
        assert manifests.tagged("a") in {None, image.digest}
        assert manifests.tagged("a") is None or manifests.get(image.digest) == image
        sent = blobs.put_bytes(b"content")
        assert blobs.has_whole(sent)
        if not death.came:
            break
    assert spared > 5
