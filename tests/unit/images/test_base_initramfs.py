"""The archive that a kernel unpacks, and the order in which its modules load."""

from __future__ import annotations

import lzma
import stat
from pathlib import Path

import pytest

from vmorch.errors import BuildFailed
from vmorch.images.initramfs import Entry, Modules, archive, build_initramfs


def members(data: bytes) -> dict[str, tuple[int, bytes, tuple[int, int]]]:
    """What the kernel reads from a "new ASCII" archive: 13 fields of 8 digits after the magic."""
    found, at = {}, 0
    while True:
        assert data[at : at + 6] == b"070701"
        assert at % 4 == 0
        fields = [int(data[at + 6 + 8 * n : at + 14 + 8 * n], 16) for n in range(13)]
        size, name_size = fields[6], fields[11]
        name = data[at + 110 : at + 110 + name_size - 1].decode()
        start = -(-(at + 110 + name_size) // 4) * 4
        if name == "TRAILER!!!":
            return found
        found[name] = (fields[1], data[start : start + size], (fields[9], fields[10]))
        at = -(-(start + size) // 4) * 4


@pytest.fixture
def modules(tmp_path: Path) -> Modules:
    (tmp_path / "modules.dep").write_text(
        "kernel/drivers/virtio/virtio_pci.ko: kernel/drivers/virtio/virtio.ko "
        "kernel/drivers/virtio/virtio_ring.ko\n"
        "kernel/drivers/virtio/virtio.ko: kernel/drivers/virtio/virtio_ring.ko\n"
        "kernel/drivers/virtio/virtio_ring.ko:\n"
        "kernel/fs/iso-fs.ko.xz: kernel/drivers/virtio/virtio_ring.ko\n"
    )
    (tmp_path / "modules.builtin").write_text("kernel/fs/ext4/ext4.ko\n")
    for name in ("virtio_pci", "virtio", "virtio_ring"):
        path = tmp_path / f"kernel/drivers/virtio/{name}.ko"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode())
    (tmp_path / "kernel/fs").mkdir()
    (tmp_path / "kernel/fs/iso-fs.ko.xz").write_bytes(lzma.compress(b"iso"))
    return Modules(tmp_path)


def test_members_of_every_length_are_found_again() -> None:
    entries = [Entry("a" * n, stat.S_IFREG | 0o644, b"x" * n) for n in range(1, 9)]
    entries.append(Entry("dev/console", stat.S_IFCHR | 0o600, device=(5, 1)))
    found = members(archive(entries))
    assert [found["a" * n][1] for n in range(1, 9)] == [b"x" * n for n in range(1, 9)]
    assert found["dev/console"] == (stat.S_IFCHR | 0o600, b"", (5, 1))


def test_what_a_module_needs_loads_before_it_and_once(modules: Modules) -> None:
    paths = modules.in_order(["virtio-pci", "iso_fs", "virtio_ring", "ext4"])
    names = [Path(path).name for path in paths]
    assert names == ["virtio_ring.ko", "virtio.ko", "virtio_pci.ko", "iso-fs.ko.xz"]


def test_a_module_that_the_kernel_lacks_is_named(modules: Modules) -> None:
    with pytest.raises(BuildFailed, match="no module virtio_blk"):
        modules.in_order(["virtio_blk"])


def test_the_initramfs_has_init_busybox_and_plain_modules(modules: Modules) -> None:
    found = members(build_initramfs(busybox=b"box", init=b"#!", modules=modules, names=["iso-fs"]))
    assert found["init"][:2] == (stat.S_IFREG | 0o755, b"#!")
    assert found["bin/busybox"][1] == b"box"
    assert found["modules/order"][1] == b"virtio_ring.ko\niso-fs.ko\n"
    assert found["modules/iso-fs.ko"][1] == b"iso"
    assert found["proc"][0] == stat.S_IFDIR | 0o755
