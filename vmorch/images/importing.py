"""A disk that somebody else made -> a base of layers, and over it what makes it a guest of ours.

The disk is verified, converted into a file of our own (nothing of the given one's header stays),
looked at by a worker, and published as a layer. Then an ordinary build puts the guest's program
over it, which it takes from one of our bases.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from vmorch import durable
from vmorch.effects import Clock, Faults
from vmorch.errors import InvalidSpec, SpecProblem, UsageError
from vmorch.images import actions, keys, qcow2
from vmorch.images.blobs import BlobStore
from vmorch.images.fetching import fetched
from vmorch.images.files import hexadecimal
from vmorch.images.layers import LayerRecord, LayerStore
from vmorch.images.protocol import ImportRequest, Progress
from vmorch.images.shelf import IMPORTED
from vmorch.images.story import Chapter, Story
from vmorch.images.worker.job import Job, Volume
from vmorch.images.workshop import Workers
from vmorch.images.writer import WORK_PREFIX
from vmorch.model.image import BootConfig
from vmorch.model.stepnet import StepNetwork

LIMIT_SECONDS = 3600.0
_COMMAND_LINE = "rw console=ttyS0 panic=-1 oops=panic net.ifnames=0"
_LEAST_MEMORY = 512 << 20

# Network and identity are the guest program's: what the image has of its own must not undo them.
_GUEST = """FROM {disk}
COPY --from=debian:12 /usr/lib/vmorch/ /usr/lib/vmorch/
COPY --from=debian:12 /usr/lib/systemd/system/vmorch-identity.service \\
  /usr/lib/systemd/system/vmorch-service.service \\
  /usr/lib/systemd/system/vmorch-log.service /etc/systemd/system/
COPY --from=debian:12 /usr/lib/udev/rules.d/60-vmorch.rules /etc/udev/rules.d/
COPY --from=debian:12 /etc/cloud/cloud.cfg.d/10_vmorch.cfg /etc/cloud/cloud.cfg.d/99_vmorch.cfg
RUN --network=none <<END
set -e
mkdir -p /etc/systemd/system/sysinit.target.wants /etc/systemd/system/multi-user.target.wants
ln -sf ../vmorch-identity.service /etc/systemd/system/sysinit.target.wants/
ln -sf ../vmorch-service.service /etc/systemd/system/multi-user.target.wants/
mkdir -p /etc/systemd/network
printf '[Match]\\nType=ether\\n[Link]\\nUnmanaged=yes\\n' >/etc/systemd/network/00-vmorch.network
rm -f /etc/ssh/ssh_host_* /var/lib/systemd/random-seed
: >/etc/machine-id
END
"""


def guest_dockerfile(disk: str) -> str:
    """What is put over an imported disk; `disk` is its image's digest."""
    return _GUEST.format(disk=disk)


class Importer:
    def __init__(
        self,
        images_dir: Path,
        store: LayerStore,
        blobs: BlobStore,
        workers: Workers,
        *,
        faults: Faults,
        clock: Clock,
        network: StepNetwork,
    ) -> None:
        self._directory = images_dir
        self._store = store
        self._blobs = blobs
        self._workers = workers
        self._network = network
        self._faults = faults
        self._clock = clock

    async def disk(
        self, request: ImportRequest, progress: Progress
    ) -> tuple[LayerRecord, BootConfig]:
        """The disk as a layer, and how it boots.

        Raises:
            UsageError: it is not what its digest says, or no digest was given.
            InvalidSpec: it is no disk that can be used. NetworkError: it cannot be fetched.
        """
        what = request.url or request.file
        story = Story(progress, self._clock, [1])
        with story.chapter(1, f"import {what}") as chapter:
            async with self._work() as work, self._given(request, chapter) as given:
                content, digest = given
                chapter.say(f"it is {digest}")
                disk = work / "disk.qcow2"
                await asyncio.to_thread(_convert, content, disk)
                await self._faults.at("image.import.converted")
                findings = await self._examined(request, disk, work)
                chapter.say(f"{findings['system']}, root at byte {findings['volume']['offset']}")
                boot = await asyncio.to_thread(self._shelve, findings, digest, work)
                await self._faults.at("image.import.shelved")
                record = self._record(request, digest, disk, findings)
                return await asyncio.to_thread(self._store.publish, disk, record), boot

    @asynccontextmanager
    async def _work(self) -> AsyncIterator[Path]:
        work = Path(tempfile.mkdtemp(prefix=WORK_PREFIX, dir=self._store.temporary))
        try:
            yield work
        finally:
            await asyncio.to_thread(shutil.rmtree, work, ignore_errors=True)

    @asynccontextmanager
    async def _given(
        self, request: ImportRequest, chapter: Chapter
    ) -> AsyncIterator[tuple[Path, str]]:
        """The file and its digest, verified. What a client sent is gone afterwards."""
        if not request.digest and not request.insecure:
            raise UsageError(
                f"Nobody says what {request.url or request.file} should be.",
                hint="Give --sha256 as its publisher states it, or --insecure to take it as it is.",
            )
        async with contextlib.AsyncExitStack() as stack:
            if request.url:
                chapter.say(f"fetching {request.url}")
                source = fetched(
                    request.url,
                    network=self._network,
                    proxies=request.proxies,
                    certificates=actions.host_certificates(),
                    temporary=self._store.temporary,
                    limit_seconds=LIMIT_SECONDS,
                )
                path, digest = await stack.enter_async_context(source)
            else:
                path, digest = self._blobs.path(request.digest), request.digest
                if not await asyncio.to_thread(self._blobs.has_whole, digest):
                    raise UsageError(
                        f"The content of {request.file} is not here whole.",
                        hint="Run the command again: it sends what the store lacks.",
                    )
                stack.callback(path.unlink, missing_ok=True)
            if request.digest and digest != request.digest:
                raise UsageError(
                    f"{request.url} is {digest}, not {request.digest}.",
                    hint="It is damaged, or another version than the one whose digest this is.",
                )
            yield path, digest

    async def _examined(self, request: ImportRequest, disk: Path, work: Path) -> dict[str, Any]:
        job = Job(
            parent=os.getpid(),
            disk=None,
            backing="",
            sources=(Volume(path=str(disk)),),
            work=str(work),
            examine=True,
            partition=request.partition,
        )
        outcome = await self._workers.do(
            job, say=lambda line: None, limit_seconds=LIMIT_SECONDS, faults=self._faults
        )
        message, _ = outcome.failure(LIMIT_SECONDS)
        found = outcome.findings
        if not message and "systemd" not in found["supports"]:
            message = "it has no systemd, which starts the guest's program"
        if not message and not found["root"] and not found["has_loader"]:
            message = "it has no kernel that can be read, and no boot loader for a BIOS"
        if message:
            raise _unusable(request, message)
        return found

    def _shelve(self, findings: dict[str, Any], digest: str, work: Path) -> BootConfig:
        """Kernel and initramfs into a directory of their own, when there are some."""
        supports = frozenset(findings["supports"])
        if not findings["root"]:
            return BootConfig(
                kernel="",
                initrd="",
                command_line="",
                supports=supports,
                least_memory_bytes=_LEAST_MEMORY,
            )
        shelf = f"{IMPORTED}{hexadecimal(digest)[:12]}"
        place = self._directory / "bases" / shelf
        place.parent.mkdir(parents=True, exist_ok=True)
        if not place.exists():
            fresh = work / "shelf"
            fresh.mkdir()
            for name in ("vmlinuz", "initrd"):
                (work / name).rename(fresh / name)
            durable.publish_directory(fresh, place)
        return BootConfig(
            kernel=f"bases/{shelf}/vmlinuz",
            initrd=f"bases/{shelf}/initrd",
            command_line=f"root={findings['root']} {_COMMAND_LINE}",
            supports=supports,
            least_memory_bytes=_LEAST_MEMORY,
        )

    def _record(
        self, request: ImportRequest, digest: str, disk: Path, findings: dict[str, Any]
    ) -> LayerRecord:
        volume = Volume(**findings["volume"])
        header = qcow2.read_header(disk)
        assert header is not None
        place = [volume.offset, volume.length, volume.file_system]
        key = keys.digest_of(["import", keys.BUILDER_VERSION, digest, place])
        return LayerRecord(
            digest=key,
            key=key,
            parent="",
            created_by=f"import {request.url or request.file}",
            size_bytes=0,
            virtual_size_bytes=header.virtual_size_bytes,
            created_at=self._clock.now(),
            offset_bytes=volume.offset,
            length_bytes=volume.length,
            file_system=volume.file_system,
            sector_bytes=volume.sector,
        )


def _convert(content: Path, disk: Path) -> None:
    """Raises UsageError: it stands on other files, or cannot be read."""
    kind = qcow2.kind_of(content)
    qcow2.convert(content, disk, kind=kind)


def _unusable(request: ImportRequest, message: str) -> InvalidSpec:
    what = request.url or request.file
    problem = SpecProblem(what, 0, 0, "", f"it cannot be imported: {message}")
    return InvalidSpec([problem], hint="See 'Imported images' in docs/images.md.")
