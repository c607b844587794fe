from __future__ import annotations

import io
import shutil
import subprocess
import tarfile
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vmorch.errors import UsageError
from vmorch.guest import check
from vmorch.guest.bundle import bundle_tar, hosts, own_files, resolv_conf, shell_assignments
from vmorch.guest.protocol import GuestFile, GuestMount, IdentityBundle

Make = Callable[..., IdentityBundle]

text = st.text(st.characters(blacklist_characters="\0", blacklist_categories=["Cs"]))
BUSYBOX = shutil.which("busybox")


def unpacked(value: IdentityBundle) -> dict[str, tarfile.TarInfo]:
    with tarfile.open(fileobj=io.BytesIO(bundle_tar(value))) as archive:
        return {member.name: member for member in archive.getmembers()}


def content(value: IdentityBundle, path: str) -> bytes:
    with tarfile.open(fileobj=io.BytesIO(bundle_tar(value))) as archive:
        file = archive.extractfile(path)
        assert file is not None
        return file.read()


def sourced(assignments: bytes, names: list[str]) -> list[bytes]:
    """What busybox's shell makes of them."""
    assert BUSYBOX is not None
    script = assignments.decode() + "printf '%s\\0' " + " ".join(f'"${n}"' for n in names)
    done = subprocess.run(
        [BUSYBOX, "sh"], input=script.encode(), capture_output=True, check=True, timeout=20
    )
    assert done.stderr == b""
    return done.stdout.split(b"\0")[:-1]


def test_the_layout_is_that_of_version_1(bundle: Make) -> None:
    assert {name: (m.mode, m.isdir()) for name, m in unpacked(bundle()).items()} == {
        "version": (0o644, False),
        "random": (0o600, False),
        "settings": (0o644, False),
        "root": (0o755, True),
        "root/etc": (0o755, True),
        "root/etc/ssh": (0o755, True),
        "root/root": (0o700, True),
        "root/root/.ssh": (0o700, True),
        "root/etc/hostname": (0o644, False),
        "root/etc/hosts": (0o644, False),
        "root/etc/machine-id": (0o444, False),
        "root/etc/resolv.conf": (0o644, False),
        "root/etc/ssh/ssh_host_ed25519_key": (0o600, False),
        "root/etc/ssh/ssh_host_ed25519_key.pub": (0o644, False),
        "root/root/.ssh/authorized_keys": (0o600, False),
        "service": (0o700, True),
        "service/argv": (0o600, False),
        "service/directory": (0o600, False),
        "service/environment": (0o600, False),
        "service/restart": (0o600, False),
        "service/stop-seconds": (0o600, False),
        "service/stop-signal": (0o600, False),
        "service/user": (0o600, False),
    }


def test_equal_bundles_give_equal_bytes_and_sorted_members(bundle: Make) -> None:
    names = list(unpacked(bundle()))
    assert names == sorted(names)
    assert bundle_tar(bundle()) == bundle_tar(bundle())


def test_without_a_command_all_of_the_service_but_that_travels(bundle: Make) -> None:
    assert set(unpacked(bundle())) - set(unpacked(bundle(argv=()))) == {"service/argv"}


def test_owners_are_numbers_and_modes_those_asked_for(bundle: Make) -> None:
    secret = GuestFile(path="/run/secrets/token", content=b"s", mode=0o400, uid=33, gid=2_500_000)
    member = unpacked(bundle(files=(secret,)))["root/run/secrets/token"]
    assert (member.mode, member.uid, member.gid) == (0o400, 33, 2_500_000)
    assert (member.uname, member.gname) == ("", "")


def test_busybox_reads_long_paths(bundle: Make) -> None:
    assert BUSYBOX is not None
    path = "/opt/" + "/".join(["directory" * 6] * 5) + "/file"
    tar = bundle_tar(bundle(files=(GuestFile(path=path, content=b"found"),)))
    done = subprocess.run(
        [BUSYBOX, "tar", "-xOf", "-", f"root{path}"], input=tar, capture_output=True, check=True
    )
    assert done.stdout == b"found"


def test_service_strings_end_in_nul(bundle: Make) -> None:
    value = bundle(argv=("a b", "", "c\n"), environment={"X": "1=2", "Y": ""})
    assert content(value, "service/argv") == b"a b\0\0c\n\0"
    assert content(value, "service/environment") == b"X=1=2\0Y=\0"
    assert content(value, "service/user") == b"www-data"
    assert content(value, "service/restart") == b"any"
    assert content(value, "service/stop-signal") == b"15"
    assert content(value, "service/stop-seconds") == b"10"


def test_hosts_name_the_guest_fully_first_and_the_users_hosts_last(bundle: Make) -> None:
    assert hosts(
        bundle(extra_hosts={"legacy": "192.0.2.7", "six": "2001:db8::1"})
    ).splitlines() == [
        "127.0.0.1 localhost",
        "::1 localhost ip6-localhost ip6-loopback",
        "10.212.0.64 orders-3.shop.internal orders-3",
        "192.0.2.7 legacy",
        "2001:db8::1 six",
    ]
    assert "10.212.0.64 orders-3\n" in hosts(bundle(search_domain=""))


def test_resolv_conf(bundle: Make) -> None:
    value = bundle(name_servers=("10.0.0.1", "10.0.0.2"))
    assert resolv_conf(value) == "search shop.internal\nnameserver 10.0.0.1\nnameserver 10.0.0.2\n"
    assert resolv_conf(bundle(search_domain="", name_servers=())) == ""


@pytest.mark.parametrize(
    "value",
    [
        "",
        "'",
        "''",
        "a'b",
        "$(reboot)",
        "`reboot`",
        "\\",
        "\\'",
        "a\nB=c",
        '"$HOME"',
        "ü €",
        "#",
        "\r",
        "!!",
    ],
)
def test_a_shell_reads_the_same_value(value: str) -> None:
    assert sourced(shell_assignments({"A": value, "B": "b"}), ["A", "B"]) == [value.encode(), b"b"]


@settings(max_examples=25, deadline=None)
@given(st.lists(text, min_size=1, max_size=40))
def test_a_shell_reads_any_values_the_same(values: list[str]) -> None:
    named = {f"V{number}": value for number, value in enumerate(values)}
    assert sourced(shell_assignments(named), list(named)) == [v.encode() for v in values]


@settings(max_examples=50, deadline=None)
@given(
    st.lists(text, min_size=1),
    st.dictionaries(text.filter(lambda t: t and "=" not in t), text),
)
def test_argv_and_environment_come_back_as_they_went(
    bundle: Make, argv: list[str], environment: dict[str, str]
) -> None:
    value = bundle(argv=tuple(argv), environment=environment)
    assert content(value, "service/argv").decode().split("\0")[:-1] == argv
    entries = content(value, "service/environment").decode().split("\0")[:-1]
    assert dict(entry.split("=", 1) for entry in entries) == environment


@pytest.mark.parametrize(
    "changes",
    [
        {"instance_id": "a\nb"},
        {"instance_id": ""},
        {"instance_id": 'x"'},
        {"cloud_instance_id": 'x"'},
        {"host_name": "or_ders"},
        {"host_name": "orders.shop"},
        {"host_name": "orders\n"},
        {"machine_id": "0123"},
        {"machine_id": "0" * 31 + "G"},
        {"mac": "52:54:00:00:00"},
        {"address": "10.212.0"},
        {"gateway": "10.0.0.1\n127.0.0.1 evil"},
        {"name_servers": ("dns.example",)},
        {"prefix_length": 0},
        {"prefix_length": 33},
        {"search_domain": "a b"},
        {"random_seed": b"short"},
        {"ssh_host_public_key": "ssh-ed25519 A\nssh-ed25519 B"},
        {"authorized_keys": ("ssh-ed25519 A\nssh-ed25519 B",)},
        {"authorized_keys": ("",)},
        {"extra_hosts": {"a b": "10.0.0.1"}},
        {"extra_hosts": {"host": "host-gateway"}},
        {"argv": ("a\0b",)},
        {"argv": ("\ud800",)},
        {"environment": {"": "x"}},
        {"environment": {"A=B": "x"}},
        {"environment": {"A": "x\0y"}},
        {"environment": {"A": "\udcff"}},
        {"user": "a b"},
        {"user": "a:b:c"},
        {"user": "root\n"},
        {"working_dir": "opt"},
        {"working_dir": "/a\n"},
        {"stop_signal": "TERM; reboot"},
        {"stop_signal": "SIGRTMIN+31"},
        {"stop_seconds": 0},
        {"files": (GuestFile(path="etc/x", content=b""),)},
        {"files": (GuestFile(path="/", content=b""),)},
        {"files": (GuestFile(path="/a/../b", content=b""),)},
        {"files": (GuestFile(path="//a", content=b""),)},
        {"files": (GuestFile(path="/a/", content=b""),)},
        {"files": (GuestFile(path="/etc/hosts", content=b""),)},
        {"files": (GuestFile(path="/a", content=b"1"), GuestFile(path="/a", content=b"2"))},
    ],
)
def test_what_cannot_be_carried_unharmed_is_refused(
    bundle: Make, changes: dict[str, object]
) -> None:
    with pytest.raises(UsageError):
        bundle_tar(bundle(**changes))


@pytest.mark.parametrize(
    "changes",
    [{"user": "1000:1000"}, {"user": ""}, {"stop_signal": "9"}, {"stop_signal": "SIGRTMIN+3"}],
)
def test_usual_values_are_taken(bundle: Make, changes: dict[str, object]) -> None:
    assert bundle_tar(bundle(**changes))


def test_the_paths_kept_from_users_are_those_of_our_files(bundle: Make) -> None:
    ours = {f"/{member.path.removeprefix('root/')}" for member in own_files(bundle())}
    assert ours == check.OWN_PATHS


def test_a_services_user_can_pass_to_its_secrets(bundle: Make) -> None:
    secret = GuestFile(path="/run/secrets/deep/token", content=b"s", mode=0o400, uid=33)
    members = unpacked(bundle(files=(secret,)))
    for path in ("root/run", "root/run/secrets", "root/run/secrets/deep"):
        assert (members[path].mode, members[path].isdir()) == (0o755, True)


def test_mounts_are_lines_with_the_outer_directory_first(bundle: Make) -> None:
    mounts = (
        GuestMount(label="v2", target="/srv/a b/c"),
        GuestMount(label="v1", target="/srv/a b", read_only=True),
    )
    assert content(bundle(mounts=mounts), "mounts") == b"v1 ro /srv/a b\nv2 rw /srv/a b/c\n"
    assert "mounts" not in unpacked(bundle())


@pytest.mark.parametrize(
    ("label", "target"),
    [("v1", "srv"), ("v1", "/"), ("v1", "/a/../b"), ("v1", "/a\nv2 rw /etc"), ("v 1", "/a")],
)
def test_a_mount_cannot_be_another(bundle: Make, label: str, target: str) -> None:
    with pytest.raises(UsageError):
        bundle_tar(bundle(mounts=(GuestMount(label=label, target=target),)))
