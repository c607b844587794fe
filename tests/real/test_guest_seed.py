"""Seeds as cloud-init itself takes them: validated against its own schema and merged by its own
code, both from the debian-12 base, so that nothing of cloud-init has to be on the host. No guest
boots."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from vmorch.guest.protocol import IdentityBundle
from vmorch.guest.seed import write_seed

GOLDEN = Path(__file__).parent.parent / "contract/golden/seed"
BUNDLE = IdentityBundle(
    instance_id="i-1-1",
    cloud_instance_id="i-1",
    host_name="orders-3",
    machine_id="0" * 32,
    mac="52:54:00:00:00:40",
    address="10.212.0.64",
    prefix_length=24,
    gateway="10.212.0.1",
    name_servers=("10.212.0.1",),
    search_domain="shop.internal",
    ssh_host_key="KEY\n",
    ssh_host_public_key="ssh-ed25519 AAAA",
    authorized_keys=("ssh-ed25519 BBBB vmorch",),
    random_seed=bytes(64),
)
FILES = ("user-data", "meta-data", "vendor-data")
# Runs in the base's root with its own Python. Reads /tmp/seed as the NoCloud data source does, and
# prints what cloud-init would work with.
READER = """
import json
from cloudinit import handlers, helpers, util
from cloudinit.config.schema import get_schema, validate_cloudconfig_schema
from cloudinit.handlers.cloud_config import CloudConfigPartHandler
from cloudinit.user_data import UserDataProcessor

optional = ["vendor-data", "network-config"]
files = util.pathprefix2dict("/tmp/seed/", ["user-data", "meta-data"], optional)
paths = helpers.Paths({"cloud_dir": "/tmp/cloud", "run_dir": "/tmp/run"})
handler = CloudConfigPartHandler(paths)
handler.cloud_fn = "/tmp/merged"
message = UserDataProcessor(paths).process(files["user-data"])
handler.handle_part(None, handlers.CONTENT_START, None, None, None, {})
others = []
for part in message.walk():
    if part.is_multipart():
        continue
    kind, payload = part.get_content_type(), util.fully_decoded_payload(part)
    if kind == "text/cloud-config":
        validate_cloudconfig_schema(util.load_yaml(payload), get_schema(), strict=True)
        handler.handle_part(None, kind, "part", payload, None, dict(part.items()))
    else:
        others.append([kind, payload])
handler.handle_part(None, handlers.CONTENT_END, None, None, None, {})
print(json.dumps({
    "meta": util.load_yaml(files["meta-data"]),
    "vendor": files["vendor-data"].decode(),
    "merged": util.load_yaml(util.load_file("/tmp/merged")),
    "others": others,
}))
"""


@pytest.fixture(scope="module")
def root(images_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The debian-12 base's files, read-only, with an empty /tmp."""
    directory = tmp_path_factory.mktemp("base")
    disks = images_dir.glob("bases/debian-12-*/disk.qcow2")
    disk = max(disks, key=lambda path: path.stat().st_mtime)
    raw, place = directory / "disk.raw", directory / "root"
    place.mkdir()
    subprocess.run(["qemu-img", "convert", "-O", "raw", disk, raw], check=True)
    subprocess.run(["mount", "-o", "loop,ro,noload", raw, place], check=True)
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", place / "tmp"], check=True)
    try:
        yield place
    finally:
        subprocess.run(["umount", "-R", place], check=True)
        raw.unlink()


@pytest.fixture
def taken(root: Path, tmp_path: Path) -> Any:
    """What the base's cloud-init makes of a seed with this user data."""

    def take(user_data: str | None) -> dict[str, Any]:
        seed = tmp_path / "seed.iso"
        write_seed(seed, replace(BUNDLE, user_data=user_data))
        return _read(root, {name: _file_of(seed, name) for name in FILES})

    return take


def test_without_user_data(taken: Any) -> None:
    assert taken(None) == {
        "meta": {"instance-id": "i-1", "local-hostname": "orders-3"},
        "vendor": "",
        "merged": {"ssh_deletekeys": False, "ssh_genkeytypes": ["ed25519"]},
        "others": [],
    }


def test_the_users_lists_are_kept_and_ours_stay(taken: Any) -> None:
    user = (
        "#cloud-config\nruncmd: [[ls]]\nwrite_files: [{path: /a, content: é}]\n"
        "ssh_deletekeys: true\nssh_genkeytypes: [rsa]\npackages: [nginx]\n"
    )
    assert taken(user)["merged"] == {
        "ssh_deletekeys": False,
        "ssh_genkeytypes": ["ed25519", "rsa"],
        "runcmd": [["ls"]],
        "write_files": [{"path": "/a", "content": "é"}],
        "packages": ["nginx"],
    }


def test_scripts_arrive_as_they_are(taken: Any) -> None:
    script = "#!/bin/sh\necho 'it''s é'\r\n"
    assert taken(script)["others"] == [["text/x-shellscript", script]]


def test_the_parts_of_a_users_message_keep_their_meaning_among_themselves(taken: Any) -> None:
    user = (
        "MIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=B\n\n"
        "--B\nContent-Type: text/cloud-config\n\nruncmd: [a]\npackages: [x]\n"
        "--B\nContent-Type: text/plain\n\n#cloud-config\nruncmd: [b]\n"
        "--B\nContent-Type: text/x-shellscript\n\n#!/bin/sh\ntrue\n--B--\n"
    )
    result = taken(user)
    assert result["merged"]["runcmd"] == ["b"]
    assert result["merged"]["packages"] == ["x"]
    assert result["merged"]["ssh_deletekeys"] is False
    assert result["others"] == [["text/x-shellscript", "#!/bin/sh\ntrue"]]


def test_the_golden_user_data_is_valid(root: Path) -> None:
    golden = {name: (GOLDEN / name).read_bytes() for name in ("user-data", "meta-data")}
    result = _read(root, {**golden, "vendor-data": b""})
    assert result["merged"]["runcmd"] == [["systemctl", "enable", "nginx"]]


def _file_of(seed: Path, name: str) -> bytes:
    """Not every host's kernel can mount ISO 9660; that guests' can is seen when they boot."""
    command = ["isoinfo", "-R", "-x", f"/{name}", "-i", seed]
    return subprocess.run(command, capture_output=True, check=True).stdout


def _read(root: Path, files: dict[str, bytes]) -> dict[str, Any]:
    place = root / "tmp/seed"
    place.mkdir(exist_ok=True)
    for name, content in files.items():
        (place / name).write_bytes(content)
    done = subprocess.run(
        ["chroot", root, "python3", "-"], input=READER, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    result: dict[str, Any] = json.loads(done.stdout)
    return result
