"""cp with the guest's side run by this host's own shell, and archives of a guest that lies."""

from __future__ import annotations

import contextlib
import io
import os
import subprocess
import tarfile
from pathlib import Path
from typing import Any

import pytest

from vmorch.cli.copying import Copying, Place, place
from vmorch.cli.unpacking import Unpacking
from vmorch.errors import GuestError, NotFound, UsageError, VmorchError


class Local(Copying):
    """The guest is this host."""

    def _run(
        self,
        instance: str,
        script: str,
        arguments: list[str],
        *,
        input_from: int,
        output_to: int | None = None,
    ) -> int:
        command = ["/bin/sh", "-c", script, "sh", *arguments]
        return subprocess.run(command, stdin=input_from, stdout=output_to).returncode


@pytest.fixture
def cp() -> Local:
    return Local(None, "demo")  # type: ignore[arg-type]


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    tree = tmp_path / "tree"
    (tree / "deep").mkdir(parents=True)
    (tree / "deep" / "data").write_bytes(os.urandom(500_000))
    (tree / "run").write_text("#!/bin/sh\n")
    (tree / "run").chmod(0o755)
    (tree / "link").symlink_to("run")
    return tree


def same(one: Path, other: Path) -> bool:
    return subprocess.run(["diff", "-r", "--no-dereference", one, other]).returncode == 0


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("orders-1:/etc/hosts", Place("orders-1", "/etc/hosts")),
        ("orders:app.log", Place("orders", "app.log")),
        ("./odd:name", Place(None, "./odd:name")),
        ("/a/b", Place(None, "/a/b")),
        ("file", Place(None, "file")),
    ],
)
def test_places(text: str, found: Place) -> None:
    assert place(text) == found


def test_a_place_without_a_path_is_misuse() -> None:
    with pytest.raises(UsageError):
        place("orders-1:")


def test_onto_a_directory_it_goes_into_it_and_else_it_is_renamed(
    cp: Local, tree: Path, tmp_path: Path
) -> None:
    there = tmp_path / "there"
    there.mkdir()
    cp.to_guest(tree, "g", str(there))
    assert same(there / "tree", tree)
    cp.to_guest(tree, "g", str(there / "other"))
    assert same(there / "other", tree)
    cp.to_guest(tree / "run", "g", str(there / "go"))
    assert os.access(there / "go", os.X_OK)
    cp.to_guest(tree / "deep" / "data", "g", str(there / "go"))  # over a file
    assert (there / "go").stat().st_size == 500_000
    assert sorted(path.name for path in there.iterdir()) == ["go", "other", "tree"]


def test_and_back(cp: Local, tree: Path, tmp_path: Path) -> None:
    here = tmp_path / "here"
    here.mkdir()
    cp.from_guest("g", str(tree), here)
    assert same(here / "tree", tree)
    cp.from_guest("g", str(tree) + "/", here / "other")
    assert same(here / "other", tree)
    cp.from_guest("g", str(tree / "run"), here / "go")
    assert os.access(here / "go", os.X_OK)


def test_what_is_missing_is_said_by_the_side_that_misses_it(
    cp: Local, tree: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(NotFound, match="no /no/such"):
        cp.to_guest(Path("/no/such"), "g", "/tmp")
    with pytest.raises(NotFound, match="no directory /no/such"):
        cp.from_guest("g", str(tree), Path("/no/such/place"))
    with pytest.raises(GuestError):
        cp.from_guest("g", "/no/such", tmp_path)
    with pytest.raises(GuestError):
        cp.to_guest(tree, "g", "/no/such/place")
    err = capfd.readouterr().err
    assert "There is no /no/such." in err
    assert "There is no directory /no/such." in err


def member(name: str, **values: Any) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    for key, value in values.items():
        setattr(info, key, value)
    return info


@pytest.mark.parametrize(
    "members",
    [
        [member("../outside")],
        [member("x/../../outside")],
        [member("x", type=tarfile.SYMTYPE, linkname="/etc"), member("x/outside")],
        [member("x", type=tarfile.SYMTYPE, linkname="../.."), member("x/outside")],
        [member("x", type=tarfile.LNKTYPE, linkname="../../etc/passwd")],
        [member("x", type=tarfile.CHRTYPE, devmajor=1, devminor=3)],
        [member("/tmp/outside")],
        [member("x"), member("x", type=tarfile.SYMTYPE, linkname="/etc/passwd")],
        [
            member("x/b/y", type=tarfile.SYMTYPE, linkname="z/.."),
            member("x/b/z", type=tarfile.SYMTYPE, linkname="../.."),
        ],
        [
            member("x/1", type=tarfile.SYMTYPE, linkname="2"),
            member("x/2", type=tarfile.SYMTYPE, linkname="1"),
        ],
    ],
    ids=lambda members: members[-1].name + members[0].linkname,
)
@pytest.mark.parametrize("name", [None, "renamed"])
def test_a_guest_cannot_write_outside_of_the_target(
    members: list[tarfile.TarInfo], name: str | None, tmp_path: Path
) -> None:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as archive:
        for info in members:
            archive.addfile(info, io.BytesIO())
    content.seek(0)
    root = tmp_path / "a" / "b"
    root.mkdir(parents=True)
    with (
        tarfile.open(fileobj=content, mode="r|") as archive,
        contextlib.suppress(GuestError, OSError),
    ):
        Unpacking(root, name, lambda _: None).run(archive)
    assert [*tmp_path.iterdir(), *(tmp_path / "a").iterdir()] == [tmp_path / "a", root]
    for path in root.rglob("*"):
        assert path.resolve().is_relative_to(root)
        assert path.is_symlink() or path.is_file() or path.is_dir()


def test_a_full_disk_here_is_said_and_not_the_guest_s_fault(
    cp: Local, tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Unpacking, "run", full)
    with pytest.raises(VmorchError, match="No space left on device"):
        cp.from_guest("g", str(tree), tmp_path / "new")


def test_a_hard_link_is_a_copy_and_special_bits_go(cp: Local, tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "one").write_text("text")
    (tree / "one").chmod(0o4755)
    (tree / "two").hardlink_to(tree / "one")
    cp.from_guest("g", str(tree), tmp_path / "new")
    assert (tmp_path / "new" / "two").read_text() == "text"
    assert (tmp_path / "new" / "one").stat().st_mode & 0o7777 == 0o755
