"""Seeds read back by isoinfo, which knows nothing of how they were written, and compared with
golden files. What the parts say is checked by cloud-init itself in tests/real/test_guest_seed.py,
on these same golden files."""

from __future__ import annotations

import os
import subprocess
import tarfile
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import pytest

from vmorch.errors import GuestError, UsageError
from vmorch.guest.bundle import bundle_tar
from vmorch.guest.protocol import GuestFile, IdentityBundle
from vmorch.guest.seed import SEED_SIZE_BYTES, seed_files, write_seed

GOLDEN = Path(__file__).parent / "golden/seed"
USER_DATA = """\
#cloud-config
packages: [nginx]
write_files:
  - path: /etc/motd
    content: "It's böse\\n"
runcmd:
  - [systemctl, enable, nginx]
"""
BUNDLE = IdentityBundle(
    instance_id="0d5c0a3e-1b52-4a52-9a36-8f6ff1e7ad11-1",
    cloud_instance_id="0d5c0a3e-1b52-4a52-9a36-8f6ff1e7ad11",
    host_name="orders-3",
    machine_id="0123456789abcdef0123456789abcdef",
    mac="52:54:00:00:00:40",
    address="10.212.0.64",
    prefix_length=24,
    gateway="10.212.0.1",
    name_servers=("10.212.0.1",),
    search_domain="shop.internal",
    ssh_host_key="-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n-----END OPENSSH PRIVATE KEY-----\n",
    ssh_host_public_key="ssh-ed25519 AAAAhost",
    authorized_keys=("ssh-ed25519 AAAAclient vmorch",),
    random_seed=bytes(range(64)),
    argv=("python3", "/opt/orders/app.py", ""),
    environment={"DB_HOST": "db", "GREETING": "it's\nus"},
    user="www-data",
    working_dir="/opt/orders",
    extra_hosts={"legacy": "192.0.2.7"},
    files=(GuestFile(path="/run/secrets/token", content=b"s3cret", mode=0o400, uid=33, gid=33),),
    user_data=USER_DATA,
)


def read_back(seed: Path, name: str, *, extension: str = "-R") -> bytes:
    command = ["isoinfo", extension, "-x", f"/{name}", "-i", seed]
    return subprocess.run(command, capture_output=True, check=True).stdout


def listing(tar: bytes) -> str:
    """Each member with its mode, owner, time and content, for people to compare."""
    lines = []
    with tarfile.open(fileobj=BytesIO(tar)) as archive:
        for member in archive:
            file = archive.extractfile(member)
            content = "" if file is None else f" {file.read()!r}"
            owner = f"{member.uid}:{member.gid}"
            lines.append(f"{member.mode:04o} {owner} {member.mtime} {member.name}{content}")
    return "\n".join(lines) + "\n"


@pytest.fixture
def seed(tmp_path: Path) -> Path:
    path = tmp_path / "seed.iso"
    write_seed(path, BUNDLE)
    return path


@pytest.mark.parametrize("extension", ["-R", "-J"], ids=["rock ridge", "joliet"])
def test_every_file_comes_back_byte_for_byte(seed: Path, extension: str) -> None:
    for name, content in seed_files(BUNDLE).items():
        assert read_back(seed, name, extension=extension) == content
    names = subprocess.run(
        ["isoinfo", extension, "-f", "-i", seed], capture_output=True, check=True, text=True
    ).stdout.split()
    assert sorted(names) == ["/meta-data", "/user-data", "/vendor-data", "/vmorch.tar"]


def test_the_disk_has_the_label_the_size_and_the_mode(seed: Path) -> None:
    description = subprocess.run(
        ["isoinfo", "-d", "-i", seed], capture_output=True, check=True, text=True
    ).stdout
    assert "Volume id: cidata\n" in description
    assert seed.stat().st_size == SEED_SIZE_BYTES == 1048576
    assert seed.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("name", ["user-data", "meta-data"])
def test_cloud_inits_files_are_the_golden_ones(seed: Path, name: str) -> None:
    assert read_back(seed, name) == (GOLDEN / name).read_bytes()


def test_the_bundle_is_the_golden_one(seed: Path) -> None:
    assert listing(read_back(seed, "vmorch.tar")) == (GOLDEN / "vmorch.tar.txt").read_text()


def test_what_does_not_fit_is_refused_with_numbers(tmp_path: Path) -> None:
    large = GuestFile(path="/large", content=os.urandom(SEED_SIZE_BYTES))
    path = tmp_path / "seed.iso"
    with pytest.raises(UsageError) as caught:
        write_seed(path, replace(BUNDLE, files=(large,)))
    assert f"there is room for {SEED_SIZE_BYTES}" in caught.value.message
    assert "orders-3" in caught.value.message
    assert list(tmp_path.iterdir()) == []


def test_nearly_full_still_fits(tmp_path: Path) -> None:
    room = SEED_SIZE_BYTES - 120_000
    path = tmp_path / "seed.iso"
    write_seed(path, replace(BUNDLE, files=(GuestFile(path="/large", content=b"x" * room),)))
    assert path.stat().st_size == SEED_SIZE_BYTES


def test_a_seed_is_replaced_whole(seed: Path) -> None:
    with seed.open("rb") as held:
        write_seed(seed, replace(BUNDLE, cloud_instance_id="other"))
        assert b"0d5c0a3e" in held.read()
    assert b"other" in read_back(seed, "meta-data")
    assert [path.name for path in seed.parent.iterdir()] == ["seed.iso"]


def test_what_a_killed_writer_left_is_in_nobodys_way(seed: Path) -> None:
    (seed.parent / ".seed.iso.new").write_bytes(b"half")
    write_seed(seed, BUNDLE)
    assert [path.name for path in seed.parent.iterdir()] == ["seed.iso"]


def test_no_place_is_an_error_of_ours(tmp_path: Path) -> None:
    with pytest.raises(GuestError, match="cannot be written"):
        write_seed(tmp_path / "missing/seed.iso", BUNDLE)


def test_the_bundle_does_not_depend_on_the_clock(seed: Path) -> None:
    assert read_back(seed, "vmorch.tar") == bundle_tar(BUNDLE)
