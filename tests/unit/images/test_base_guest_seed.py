"""`vmorch-guest unpack`, compiled as a base has it, on seeds that our own writer made."""

from __future__ import annotations

import io
import os
import stat
import subprocess
import tarfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tests.unit.guest.conftest import BUNDLE
from vmorch.guest.protocol import GuestFile, GuestMount
from vmorch.guest.seed import seed_files, seed_image
from vmorch.resources import data_dir

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="giving files away needs root")

Unpack = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("guest") / "vmorch-guest"
    sources = sorted((data_dir("images") / "guest/src").glob("*.c"))
    flags = ["-std=c17", "-D_GNU_SOURCE", "-static", "-Os", "-Wall", "-Wextra", "-Werror"]
    flags.append('-DRANDOM="/dev/null"')  # the kernel is the host's own
    subprocess.run(["gcc", *flags, "-o", path, *sources], check=True)
    return path


@pytest.fixture
def unpack(program: Path, tmp_path: Path) -> Unpack:
    """Unpacks `image` into tmp_path / "new", with tmp_path / "root" as the root."""
    (tmp_path / "new").mkdir(mode=0o700)
    (tmp_path / "root/etc").mkdir(parents=True)

    def run(image: bytes) -> subprocess.CompletedProcess[str]:
        seed = tmp_path / "seed.iso"
        seed.write_bytes(image)
        command = [program, "unpack", seed, tmp_path / "new", tmp_path / "root"]
        return subprocess.run(command, capture_output=True, text=True, check=False, umask=0o077)

    return run


def seed(files: dict[str, bytes]) -> bytes:
    return seed_image(files, owner="test")


def tar_of(*members: tuple[str, bytes, bytes], form: int = tarfile.USTAR_FORMAT) -> bytes:
    """(path, type, content) of each."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=form) as tar:
        for path, kind, content in (("version", tarfile.REGTYPE, b"1"), *members):
            info = tarfile.TarInfo(path)
            info.type = kind
            if kind == tarfile.SYMTYPE:
                info.linkname = content.decode()
            info.size = len(content) if kind == tarfile.REGTYPE else 0
            tar.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def test_a_bundle_is_laid_out_with_modes_and_owners(unpack: Unpack, tmp_path: Path) -> None:
    long = "/opt/" + "/".join(["directory" * 6] * 5) + "/file"
    secret = GuestFile(path="/run/secrets/token", content=b"s\0\n", mode=0o400, uid=33, gid=2**22)
    changed = replace(
        BUNDLE,
        files=(secret, GuestFile(path=long, content=b"x" * 5000, mode=0o4755, uid=5)),
        mounts=(GuestMount(label="v", target="/data"),),
    )
    (tmp_path / "root/etc").chmod(0o711)
    (tmp_path / "root/etc/hosts").write_text("of the template")
    (tmp_path / "root/etc/resolv.conf").symlink_to("../run/nowhere")
    done = unpack(seed(seed_files(changed)))
    assert done.returncode == 0
    root, new = tmp_path / "root", tmp_path / "new"
    assert (root / "etc/hostname").read_text() == "orders-3\n"
    assert (root / "etc/hosts").read_text().startswith("127.0.0.1 localhost\n")
    assert not (root / "etc/resolv.conf").is_symlink()
    assert look(root / "etc") == (0o711, 0, 0)
    assert look(root / "root/.ssh") == (0o700, 0, 0)
    assert look(root / "etc/ssh/ssh_host_ed25519_key") == (0o600, 0, 0)
    assert (root / "run/secrets/token").read_bytes() == b"s\0\n"
    assert look(root / "run/secrets/token") == (0o400, 33, 2**22)
    assert look(root / "run/secrets") == (0o755, 0, 0)
    assert (root / long[1:]).read_bytes() == b"x" * 5000
    assert look(root / long[1:]) == (0o4755, 5, 0)
    assert sorted(path.name for path in new.iterdir()) == ["mounts", "service", "settings"]
    assert look(new / "service") == (0o700, 0, 0)
    assert look(new / "service/environment") == (0o600, 0, 0)
    assert (new / "service/argv").read_bytes() == b"python3\0/opt/orders/app.py\0"
    assert not list(root.rglob("*.vmorch-new"))


def test_what_other_writers_put_into_a_tar(unpack: Unpack, tmp_path: Path) -> None:
    (tmp_path / "root/etc/link").write_text("a file is here")
    deep = "root/" + "a" * 60 + "/" + "b" * 60
    bundle = tar_of(
        ("root/etc/link", tarfile.SYMTYPE, b"/target"),
        (deep, tarfile.REGTYPE, b"deep"),
        ("service/argv", tarfile.REGTYPE, b"true\0"),
        ("root/etc/", tarfile.DIRTYPE, b""),
    )
    done = unpack(seed({"vmorch.tar": bundle, "meta-data": b""}))
    assert done.returncode == 0
    assert (tmp_path / "root/etc/link").readlink() == Path("/target")
    assert (tmp_path / deep).read_text() == "deep"
    assert look(tmp_path / "new/service") == (0o700, 0, 0)
    assert look(tmp_path / deep.rsplit("/", 1)[0]) == (0o755, 0, 0)


@pytest.mark.parametrize(
    ("image", "code", "said"),
    [
        (bytes(1 << 20), 3, "no vmorch.tar"),
        (b"too short", 1, "cannot be read"),
        (seed({"vmorch.txt": b""}), 3, "no vmorch.tar"),
        (seed({"vmorch.tar": b""}), 1, "version is unknown"),
        (seed({"vmorch.tar": tar_of(("version", tarfile.REGTYPE, b"2"))[1024:]}), 1, "version"),
        (seed({"vmorch.tar": tar_of(("root/a", tarfile.REGTYPE, bytes(9000)))[:4096]}), 1, "cut"),
        (seed({"vmorch.tar": tar_of(("root/dev", tarfile.CHRTYPE, b""))}), 1, "unknown kind"),
    ],
)
def test_what_is_no_bundle_is_refused(unpack: Unpack, image: bytes, code: int, said: str) -> None:
    done = unpack(image)
    assert done.returncode == code
    assert said in done.stderr.splitlines()[-1]


def test_a_fork_without_fresh_randomness_is_refused(
    program: Path, unpack: Unpack, tmp_path: Path
) -> None:
    unpack(seed({"vmorch.tar": tar_of(("root/etc/a", tarfile.REGTYPE, b"a"))}))
    (tmp_path / "root/etc/a").unlink()
    command = [program, "unpack", tmp_path / "seed.iso", tmp_path / "new", tmp_path / "root"]
    done = subprocess.run([*command, "1", "1"], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "cannot reseed" in done.stderr
    assert not (tmp_path / "root/etc/a").exists()


def look(path: Path) -> tuple[int, int, int]:
    status = path.lstat()
    return stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid
