"""Makes a base from its definition in a directory of the caller's; publishes nothing."""

from __future__ import annotations

import asyncio
import shutil
from dataclasses import dataclass
from pathlib import Path

from vmorch.errors import BuildFailed
from vmorch.images import base_root
from vmorch.images.base_definition import BaseDefinition
from vmorch.images.base_disk import make_disk
from vmorch.images.base_packages import PackageSource
from vmorch.images.base_process import Say, run
from vmorch.images.initramfs import Modules, build_initramfs

DISK = "disk.qcow2"
KERNEL = "vmlinuz"
INITRD = "initrd"


@dataclass(frozen=True, slots=True)
class BaseBuilder:
    """`guest` is the directory `images/guest`."""

    guest: Path
    source: PackageSource

    async def build(
        self, definition: BaseDefinition, work: Path, output: Path, say: Say
    ) -> dict[str, str]:
        """Leave disk, kernel and initrd in `output`; `work` is the caller's to remove. Returns
        the versions of all packages by name.

        Raises:
            BuildFailed: a package could not be had, or a step failed.
        """
        unpacked, debs, kernel = work / "unpacked", work / "debs", work / "kernel"
        say(f"fetching the packages of {definition.name}")
        versions = await self.source.unpack(definition, unpacked, debs, say)
        version = await unpack_kernel(debs, kernel)
        say("shaping the root file system")
        root = await self._root(definition, unpacked, work / "root", say)
        await base_root.add_modules(kernel, root, definition.guest_modules, version)
        await asyncio.to_thread(base_root.remove, root, definition.removed)
        output.mkdir()
        shutil.copyfile(kernel / "boot" / f"vmlinuz-{version}", output / KERNEL)
        await self._initramfs(definition, root, kernel, version, output / INITRD)
        say("writing the disk")
        await make_disk(root, output / DISK, say)
        return versions

    async def _root(
        self, definition: BaseDefinition, unpacked: Path, fresh: Path, say: Say
    ) -> Path:
        if definition.method == "install":
            root = unpacked
        else:
            root = fresh
            root.mkdir()
        await asyncio.to_thread(base_root.lay_out, definition, root, self.guest)
        await base_root.add_helpers(root, self.guest, unpacked, say)
        await base_root.add_programs(definition.programs, unpacked, root)
        if definition.busybox_applets:
            await base_root.add_applets(root)
        return root

    async def _initramfs(
        self, definition: BaseDefinition, root: Path, kernel: Path, version: str, place: Path
    ) -> None:
        await run(["depmod", "--basedir", kernel, version], say=lambda line: None)
        image = build_initramfs(
            busybox=(root / "usr/lib/vmorch/busybox").read_bytes(),
            init=(self.guest / "initramfs-init").read_bytes(),
            modules=Modules(kernel / "lib/modules" / version),
            names=definition.modules,
        )
        place.write_bytes(image)


async def unpack_kernel(debs: Path, target: Path) -> str:
    """Extract the kernel's package out of `debs`; returns the kernel's version. Its modules are in
    `lib/modules` of the target, wherever the release's packages have them."""
    for deb in sorted(debs.glob("linux-image-*.deb")):
        await run(["dpkg-deb", "--extract", deb, target], say=lambda line: None)
    if not (target / "lib").exists():
        (target / "lib").symlink_to("usr/lib")
    kernels = sorted((target / "boot").glob("vmlinuz-*"))
    if not kernels:
        raise BuildFailed(
            "The kernel's package has no kernel in it.",
            hint="Correct 'kernel' of the base's definition.",
        )
    return kernels[-1].name.removeprefix("vmlinuz-")
