"""The disk of a base: one ext4 without partitions in a sparse qcow2."""

from __future__ import annotations

from pathlib import Path

from vmorch.images.base_process import Say, run

VIRTUAL_SIZE_BYTES = 16 * 1024**3

# Nothing may be left to initialise lazily: every guest would write it into its own overlay.
# Fewer inodes and a small journal for the same reason: this is what a sparse 16 GiB costs.
# `resize` (1 TiB in blocks) bounds the blocks reserved for growth: with mke2fs's own choice one
# step of growing an online file system does not fit into so small a journal (ENOSPC).
_FORMAT = ("-t", "ext4", "-q", "-F", "-L", "vmorch-root", "-m", "1")
_FORMAT_SPARSE = (
    "-E",
    "lazy_itable_init=0,lazy_journal_init=0,nodiscard,root_owner=0:0,resize=268435456",
)
_FORMAT_SIZES = ("-i", "32768", "-J", "size=16")


async def make_disk(root: Path, disk: Path, say: Say) -> None:
    """Write `root` into the new qcow2 `disk`, read-only for everybody (layers never change)."""
    raw = disk.with_suffix(".raw")
    with raw.open("xb") as file:
        file.truncate(VIRTUAL_SIZE_BYTES)
    options = [*_FORMAT, *_FORMAT_SPARSE, *_FORMAT_SIZES]
    await run(
        ["mke2fs", *options, "-d", str(root), str(raw)],
        say=say,
        hint="Install e2fsprogs 1.47 or newer; see that the disk is not full.",
    )
    convert = ["qemu-img", "convert", "-f", "raw", "-O", "qcow2", str(raw), str(disk)]
    await run(convert, say=say, hint="See that the disk is not full.")
    raw.unlink()
    disk.chmod(0o444)
