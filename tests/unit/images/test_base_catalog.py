"""Present means done; nothing half-made is ever seen."""

from __future__ import annotations

import asyncio
import itertools
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from vmorch.errors import BuildFailed, NotFound
from vmorch.images import bases
from vmorch.images.base_definition import BaseDefinition
from vmorch.images.base_process import Say
from vmorch.images.bases import BaseCatalog
from vmorch.images.protocol import BuildProgress, StepState
from vmorch.resources import data_dir


class FakeBuilder:
    """Writes what a build leaves. Class variables, as the catalog makes its builder itself."""

    built: list[str]
    packages: dict[str, str]
    failure: BuildFailed | None

    def __init__(self, guest: Path, source: object) -> None:
        del guest, source

    async def build(
        self, definition: BaseDefinition, work: Path, output: Path, say: Say
    ) -> dict[str, str]:
        self.built.append(definition.name)
        (work / "unpacked").mkdir()
        say("working")
        await asyncio.sleep(0)
        if self.failure:
            raise self.failure
        output.mkdir()
        for name in ("disk.qcow2", "vmlinuz", "initrd"):
            (output / name).write_text(f"{name} {self.packages}")
        return dict(self.packages)


@pytest.fixture(autouse=True)
def builder(monkeypatch: pytest.MonkeyPatch) -> type[FakeBuilder]:
    FakeBuilder.built = []
    FakeBuilder.packages = {"busybox-static": "1"}
    FakeBuilder.failure = None
    monkeypatch.setattr(bases, "BaseBuilder", FakeBuilder)
    return FakeBuilder


@pytest.fixture
def catalog(tmp_path: Path) -> BaseCatalog:
    return BaseCatalog(tmp_path, data_dir("images"))


def quiet(progress: BuildProgress) -> None:
    del progress


@pytest.mark.parametrize(
    ("reference", "name"),
    [
        ("debian:12", "debian-12"),
        ("debian:bookworm", "debian-12"),
        ("debian:12-slim", "debian-12"),
        ("debian", "debian-13"),
        ("debian:trixie", "debian-13"),
        ("debian-12", "debian-12"),
        ("tiny:latest", "tiny"),
        ("debian:11", None),
        ("alpine", None),
    ],
)
def test_references_lead_to_definitions(
    catalog: BaseCatalog, reference: str, name: str | None
) -> None:
    assert catalog.resolve(reference) == name


async def _twice(catalog: BaseCatalog) -> tuple[bases.Base, bases.Base]:
    one, two = await asyncio.gather(catalog.ensure("tiny", quiet), catalog.ensure("tiny", quiet))
    return one, two


def test_two_calls_at_once_do_the_work_once(
    catalog: BaseCatalog, builder: type[FakeBuilder], tmp_path: Path
) -> None:
    one, two = asyncio.run(_twice(catalog))
    assert one == two
    assert builder.built == ["tiny"]
    assert one.disk == tmp_path / f"layers/{one.digest.removeprefix('sha256:')}.qcow2"
    assert one.disk.read_text().startswith("disk.qcow2")
    assert (tmp_path / one.boot.kernel).read_text().startswith("vmlinuz")
    assert (tmp_path / one.boot.initrd).read_text().startswith("initrd")
    assert list((tmp_path / "tmp").iterdir()) == []


def test_a_made_base_is_found_by_the_next_daemon_without_a_word(
    catalog: BaseCatalog, builder: type[FakeBuilder], tmp_path: Path
) -> None:
    first = asyncio.run(catalog.ensure("tiny", quiet))
    told: list[BuildProgress] = []
    again = asyncio.run(BaseCatalog(tmp_path, data_dir("images")).ensure("tiny", told.append))
    assert (again, told, builder.built) == (first, [], ["tiny"])


def test_a_layer_that_was_lost_between_the_two_names_comes_back(
    catalog: BaseCatalog, builder: type[FakeBuilder]
) -> None:
    first = asyncio.run(catalog.ensure("tiny", quiet))
    first.disk.unlink()
    assert asyncio.run(catalog.ensure("tiny", quiet)).disk.exists()
    assert builder.built == ["tiny"]


def record(place: Path) -> None:
    os.truncate(place / "base.json", 0)


def disk(place: Path) -> None:
    os.truncate(place / "disk.qcow2", 3)


def kernel(place: Path) -> None:
    (place / "vmlinuz").unlink()


@pytest.mark.parametrize("harm", [record, disk, kernel])
def test_a_base_that_a_power_cut_has_damaged_is_made_again_in_its_place(
    catalog: BaseCatalog,
    builder: type[FakeBuilder],
    tmp_path: Path,
    harm: Callable[[Path], None],
) -> None:
    first = asyncio.run(catalog.ensure("tiny", quiet))
    place = (tmp_path / first.boot.kernel).parent
    whole = {name: (place / name).stat().st_size for name in ("disk.qcow2", "vmlinuz", "initrd")}
    harm(place)
    damaged = first.disk.read_text()
    again = asyncio.run(catalog.ensure("tiny", quiet))
    assert builder.built == ["tiny", "tiny"]
    assert again.boot == first.boot
    assert {name: (place / name).stat().st_size for name in whole} == whole
    assert again.disk.read_text().startswith("disk.qcow2 ")
    assert first.disk.read_text() == damaged  # what layers stand on is never replaced
    assert not again.disk.samefile(first.disk)
    assert asyncio.run(catalog.ensure("tiny", quiet)) == again
    assert list((tmp_path / "tmp").iterdir()) == []


def test_pull_makes_a_base_anew_only_when_the_archive_has_newer_packages(
    catalog: BaseCatalog,
    builder: type[FakeBuilder],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    current = {"busybox-static": "1"}

    async def candidates(self: object, *args: object) -> dict[str, str]:
        return current

    monkeypatch.setattr("vmorch.images.base_packages.PackageSource.candidates", candidates)
    first = asyncio.run(catalog.ensure("tiny", quiet))
    assert asyncio.run(catalog.ensure("tiny", quiet, pull=True)) == first
    builder.packages = current = {"busybox-static": "2"}
    second = asyncio.run(catalog.ensure("tiny", quiet, pull=True))
    assert second.digest != first.digest
    assert second.packages == {"busybox-static": "2"}
    assert asyncio.run(catalog.ensure("tiny", quiet)) == second
    assert first.disk.exists()
    assert len(builder.built) == 2


def test_a_failed_build_leaves_nothing_and_is_told(
    catalog: BaseCatalog, builder: type[FakeBuilder], tmp_path: Path
) -> None:
    builder.failure = BuildFailed("no packages")
    told: list[BuildProgress] = []
    with pytest.raises(BuildFailed):
        asyncio.run(catalog.ensure("tiny", told.append))
    states = [step.state for step in told]
    assert (states[0], states[-1]) == (StepState.STARTED, StepState.FAILED)
    assert told[-1].text == "no packages"
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
    assert list((tmp_path / "tmp").iterdir()) == []
    builder.failure = None
    assert asyncio.run(catalog.ensure("tiny", quiet)).name == "tiny"


def test_sweep_removes_what_a_crash_left_and_nothing_else(
    catalog: BaseCatalog, tmp_path: Path
) -> None:
    base = asyncio.run(catalog.ensure("tiny", quiet))
    (tmp_path / "tmp/base-crashed/unpacked").mkdir(parents=True)
    (tmp_path / "tmp/layer-of-another").mkdir()
    asyncio.run(catalog.sweep())
    assert [path.name for path in (tmp_path / "tmp").iterdir()] == ["layer-of-another"]
    assert base.disk.exists()


def test_an_unknown_base_is_not_found_and_the_known_ones_are_named(catalog: BaseCatalog) -> None:
    with pytest.raises(NotFound) as caught:
        asyncio.run(catalog.ensure("debian-99", quiet))
    assert "debian-12" in caught.value.hint


def test_the_probe_takes_the_kernel_of_a_base_that_is_there(
    catalog: BaseCatalog, tmp_path: Path
) -> None:
    base = asyncio.run(catalog.ensure("tiny", quiet))
    assert asyncio.run(catalog.probe_kernel()) == tmp_path / base.boot.kernel


def whole(directory: Path) -> set[str]:
    """Every file of every base, and that disk and layer are one."""
    for disk in directory.glob("bases/*/disk.qcow2"):
        assert disk.stat().st_nlink == 2
    return {str(path.relative_to(directory)) for path in directory.rglob("*")}


def test_a_base_is_whole_or_absent_after_any_death(tmp_path: Path, dying: Any) -> None:
    expected = None
    for spared in itertools.count():
        directory = tmp_path / f"{spared}"
        # One that is damaged has to give way first.
        damaged = asyncio.run(BaseCatalog(directory, data_dir("images")).ensure("tiny", quiet))
        (directory / damaged.boot.kernel).unlink()
        damaged.disk.unlink()
        with dying(spared) as death:
            asyncio.run(BaseCatalog(directory, data_dir("images")).ensure("tiny", quiet))
        again = BaseCatalog(directory, data_dir("images"))
        asyncio.run(again.sweep())
        assert list((directory / "tmp").iterdir()) == []
        base = asyncio.run(again.ensure("tiny", quiet))
        assert (directory / base.boot.kernel).exists()
        expected = expected or whole(directory)
        assert whole(directory) == expected, spared
        if not death.came:
            break
    assert spared > 5
