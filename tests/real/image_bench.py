"""What the tests of image builds share: a store of their own, and what may be left of it."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import shutil
import signal
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

from vmorch.context import read_context
from vmorch.images.bases import BaseCatalog
from vmorch.images.protocol import BuildProgress, BuildRequest, StepState
from vmorch.images.service import ImageService
from vmorch.images.stepgroups import Bounds, StepGroups
from vmorch.model.image import ImageManifest
from vmorch.model.stepnet import StepNetwork
from vmorch.resources import data_dir

GONE_SECONDS = 30.0
BOUNDS = Bounds(processes=200, memory_bytes=256 << 20)
CANARY = "a secret of the host"


@contextlib.asynccontextmanager
async def no_network() -> AsyncIterator[StepNetwork]:
    yield StepNetwork(namespace=None)


class DieAt:
    """Faults that end this process as a power cut would. `POINT@N` is the Nth time there."""

    def __init__(self, point: str) -> None:
        self.point, _, times = point.partition("@")
        self._left = int(times or 1)

    def has_come(self, point: str) -> bool:
        self._left -= point == self.point
        return point == self.point and not self._left

    async def at(self, point: str) -> None:
        if self.has_come(point):
            os.kill(os.getpid(), signal.SIGKILL)


class PauseAt(DieAt):
    """Says that the point is reached, and waits there to be killed."""

    async def at(self, point: str) -> None:
        if self.has_come(point):
            os.write(1, b"reached\n")
            await asyncio.sleep(600)


def service(images: Path, faults: Any = None, **more: Any) -> ImageService:
    catalog = BaseCatalog(images, data_dir("images"))
    more.setdefault("step_groups", StepGroups(installation(images), BOUNDS))
    return ImageService(images, catalog, no_network, faults, **more)


def installation(images: Path) -> str:
    """What begins the names of a store's control groups."""
    return hashlib.sha256(str(images).encode()).hexdigest()[:6]


def step_groups(images: Path) -> list[Path]:
    """Control groups of a store's steps, wherever they are."""
    return list(Path("/sys/fs/cgroup").rglob(f"{installation(images)}-step-*"))


class Bench:
    """A store of its own and a context to build from. `told` is all progress of all builds."""

    def __init__(self, images: Path, context: Path) -> None:
        self.images = images
        self.context = context
        self.service = service(images)
        self.told: list[BuildProgress] = []
        self.runner = asyncio.Runner()

    def file(self, path: str, content: str | bytes = "x") -> Path:
        file = self.context / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content.encode() if isinstance(content, str) else content)
        return file

    async def send(self, dockerfile: str, **more: Any) -> BuildRequest:
        context = read_context(self.context)
        for digest in await self.service.missing_blobs(list(context.files)):
            copy = self.images / "tmp" / "blob-sent"
            shutil.copyfile(context.files[digest], copy)
            await self.service.put_blob(digest, copy)
        more.setdefault("name", "app")
        return BuildRequest(
            dockerfile=dockerfile, dockerfile_name="Dockerfile", context=context.entries, **more
        )

    async def build_async(self, dockerfile: str, **more: Any) -> ImageManifest:
        request = await self.send(dockerfile, **more)
        return await self.service.build(request, self.told.append)

    def build(self, dockerfile: str, **more: Any) -> ImageManifest:
        return self.runner.run(self.build_async(dockerfile, **more))

    def output(self, dockerfile: str, **more: Any) -> str:
        """What the steps of a build print."""
        before = len(self.told)
        self.build(dockerfile, **more)
        said = [p.text for p in self.told[before:] if p.state is StepState.OUTPUT]
        return "\n".join(said)

    def states(self) -> dict[str, StepState]:
        return {p.step: p.state for p in self.told if p.state is not StepState.OUTPUT}


def bench_at(images_dir: Path, tmp_path: Path) -> Iterator[Bench]:
    """For a fixture: a bench over the made bases, and that nothing is left of it."""
    images, context = tmp_path / "images", tmp_path / "context"
    linked = subprocess.run(["cp", "-al", images_dir, images], capture_output=True)
    if linked.returncode:
        subprocess.run(["cp", "-a", images_dir, images], check=True)
    context.mkdir()
    bench = Bench(images, context)
    yield bench
    bench.runner.run(bench.service.close())
    bench.runner.close()
    assert leftovers(images) == []
    assert step_groups(images) == []
    assert list((images / "tmp").iterdir()) == []


def leftovers(images: Path) -> list[str]:
    """Processes, mounts and loop devices that have to do with a store."""
    mounts = Path("/proc/self/mountinfo").read_text().splitlines()
    loops = subprocess.run(["losetup", "-l", "-n"], capture_output=True, text=True).stdout
    found = [line for line in mounts if str(images) in line]
    found += [line for line in loops.splitlines() if "layer.raw" in line and str(images) in line]
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            command = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            if str(images) in command and process.name != str(os.getpid()):
                found.append(command)
    return found


def wait_until_gone(images: Path) -> None:
    deadline = time.monotonic() + GONE_SECONDS
    while (found := leftovers(images)) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert found == []
