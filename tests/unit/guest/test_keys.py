from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from vmorch.effects import SystemEntropy
from vmorch.errors import GuestError
from vmorch.guest.keys import host_key, installation_keys


def test_a_host_key_follows_from_its_seed() -> None:
    assert host_key(bytes(32)).public == host_key(bytes(32)).public
    assert host_key(bytes(32)).public != host_key(bytes([1]) * 32).public


def test_ssh_reads_the_private_key_and_finds_the_same_public_one(tmp_path: Path) -> None:
    key = host_key(bytes(32))
    file = tmp_path / "key"
    file.write_text(key.private)
    file.chmod(0o600)
    done = subprocess.run(["ssh-keygen", "-y", "-f", file], capture_output=True, check=True)
    assert done.stdout.decode().strip() == key.public


def test_the_installations_keys_are_made_once_and_private(tmp_path: Path) -> None:
    first = installation_keys(tmp_path / "keys", SystemEntropy())
    again = installation_keys(tmp_path / "keys", SystemEntropy())
    assert first == again
    assert first.client_public.startswith("ssh-ed25519 ")
    files = sorted(path.name for path in (tmp_path / "keys").iterdir())
    assert files == ["host-secret", "id_ed25519"]
    assert {p.stat().st_mode & 0o777 for p in (tmp_path / "keys").iterdir()} == {0o600}
    assert (tmp_path / "keys").stat().st_mode & 0o777 == 0o700


def test_each_instance_has_its_own_host_key_the_same_each_time(tmp_path: Path) -> None:
    keys = installation_keys(tmp_path / "a", SystemEntropy())
    other = installation_keys(tmp_path / "b", SystemEntropy())
    one = keys.host_key("uuid-1").public
    assert one == installation_keys(tmp_path / "a", SystemEntropy()).host_key("uuid-1").public
    assert len({one, keys.host_key("uuid-2").public, other.host_key("uuid-1").public}) == 3


def test_secrets_are_in_no_representation(tmp_path: Path) -> None:
    keys = installation_keys(tmp_path, SystemEntropy())
    assert "PRIVATE" not in repr(keys.host_key("x"))
    assert repr(keys.secret) not in repr(keys)


@pytest.mark.parametrize("name", ["id_ed25519", "host-secret"])
def test_a_damaged_key_is_named(tmp_path: Path, name: str) -> None:
    installation_keys(tmp_path, SystemEntropy())
    (tmp_path / name).write_text("nonsense")
    with pytest.raises(GuestError, match=name):
        installation_keys(tmp_path, SystemEntropy())
