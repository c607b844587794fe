"""The fake keeps the protocol's promises, so that what stands on it can trust it."""

from __future__ import annotations

import asyncio
import hashlib
from pathlib import Path

import pytest

from vmorch.errors import BuildFailed, InvalidSpec, NotFound, Refused, UsageError
from vmorch.images.fake import VIRTUAL_SIZE_BYTES, FakeImages
from vmorch.images.protocol import BuildProgress, BuildRequest, Images


class Clock:
    def __init__(self) -> None:
        self.time = 100.0

    def now(self) -> float:
        return self.time

    def monotonic(self) -> float:
        return self.time

    async def sleep(self, seconds: float) -> None:
        self.time += seconds


def request(text: str, name: str = "app") -> BuildRequest:
    return BuildRequest(name=name, dockerfile=text, dockerfile_name="Dockerfile", context=())


def test_a_life(tmp_path: Path) -> None:
    async def run() -> None:
        clock = Clock()
        fake = FakeImages(clock)
        images: Images = fake
        told: list[BuildProgress] = []
        built = await images.build(request("FROM debian:12\nUSER a\nCMD x"), told.append)
        assert built.run.user == "a"
        assert [p.step for p in told] == ["USER a", "CMD x"]
        assert clock.time > 160
        again = await images.build(request("FROM debian:12\nUSER a\nCMD x"), told.append)
        assert again.digest == built.digest
        other = await images.build(request("FROM app\nUSER b", "b"), told.append)
        assert other.digest != built.digest
        assert other.run.command == built.run.command
        assert await images.ensure("app:latest", told.append) == built
        assert await images.manifest(built.digest) == built
        assert {name for row in await images.images() for name in row.names} >= {"app", "b"}
        await images.create_disk(built.digest, tmp_path / "d", None)
        await images.create_disk(other.digest, tmp_path / "d", None)
        assert fake.disks == {tmp_path / "d": (built.digest, VIRTUAL_SIZE_BYTES)}
        with pytest.raises(Refused):
            await images.create_disk(built.digest, tmp_path / "e", 1)
        with pytest.raises(NotFound):
            await images.ensure("none", told.append)
        with pytest.raises(InvalidSpec):
            await images.build(request("FROM"), told.append)
        with pytest.raises(InvalidSpec):
            await images.build(request("FROM tiny\nEXPOSE x"), told.append)

    asyncio.run(run())


def test_blobs(tmp_path: Path) -> None:
    async def run() -> None:
        images = FakeImages(Clock())
        digest = "sha256:" + hashlib.sha256(b"x").hexdigest()
        assert await images.missing_blobs([digest]) == [digest]
        (tmp_path / "x").write_text("y")
        with pytest.raises(UsageError):
            await images.put_blob(digest, tmp_path / "x")
        (tmp_path / "x").write_text("x")
        await images.put_blob(digest, tmp_path / "x")
        assert await images.missing_blobs([digest]) == []

    asyncio.run(run())


def test_faults() -> None:
    async def run() -> None:
        images = FakeImages(Clock())
        images.fail("build")
        with pytest.raises(BuildFailed):
            await images.build(request("FROM tiny"), lambda p: None)
        built = await images.build(request("FROM tiny"), lambda p: None)
        images.hang("ensure")
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(images.ensure("app", lambda p: None), 0.01)
        images.forget(built.digest)
        with pytest.raises(NotFound):
            await images.manifest(built.digest)

    asyncio.run(run())
