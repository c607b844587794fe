"""The identity bundle as bytes: `vmorch.tar`, version 1. Purely computational, no side effects;
`seed.py` puts the result on the seed disk and `vmorch-identity` applies it in the guest.

Equal bundles give equal bytes. Nothing that a value contains can become another file, another
setting or another line: what cannot be carried unharmed is refused. Every directory on the
way to a file is listed, so that none is made with the mode of whoever unpacks it: a service's
user must be able to pass to its secrets. A guest keeps the modes of those that it has.
"""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath

from vmorch.guest import check
from vmorch.guest.protocol import GuestFile, IdentityBundle
from vmorch.model.signals import signal_number

VERSION = "1"
# Not zero: zip archives, which some guests make of their files, cannot hold times before 1980.
_MTIME = 315_532_800
_OWN_DIRECTORIES = {"root/root": 0o700, "root/root/.ssh": 0o700}


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """One entry of the tar. `content` None is a directory."""

    path: str
    content: bytes | None
    mode: int = 0o644
    uid: int = 0
    gid: int = 0


def bundle_tar(bundle: IdentityBundle) -> bytes:
    """The bundle as a tar file.

    Raises:
        UsageError: a value is malformed or cannot be carried; the text names it.
    """
    check.bundle(bundle)
    members = [
        Member(path="version", content=f"{VERSION}\n".encode()),
        Member(path="random", content=bundle.random_seed, mode=0o600),
        Member(path="settings", content=settings(bundle)),
        *_root_members(bundle),
        *_mount_members(bundle),
        *_service_members(bundle),
    ]
    return _tar(members)


def shell_assignments(values: Mapping[str, str]) -> bytes:
    """Lines that a POSIX shell can source to have exactly these values."""
    lines = (f"{name}={_quoted(value)}\n" for name, value in values.items())
    return "".join(lines).encode()


def settings(bundle: IdentityBundle) -> bytes:
    """What `vmorch-identity` sources."""
    return shell_assignments(
        {
            "INSTANCE_ID": bundle.instance_id,
            "CLOUD_INSTANCE_ID": bundle.cloud_instance_id,
            "HOST_NAME": bundle.host_name,
            "MACHINE_ID": bundle.machine_id,
            "MAC": bundle.mac,
            "ADDRESS": bundle.address,
            "PREFIX": str(bundle.prefix_length),
            "GATEWAY": bundle.gateway,
            "NAME_SERVERS": " ".join(bundle.name_servers),
            "SEARCH": bundle.search_domain,
        }
    )


def hosts(bundle: IdentityBundle) -> str:
    """/etc/hosts. The full name comes first, so that getfqdn() needs no DNS."""
    names = [bundle.host_name]
    if bundle.search_domain:
        names.insert(0, f"{bundle.host_name}.{bundle.search_domain}")
    lines = [
        "127.0.0.1 localhost",
        "::1 localhost ip6-localhost ip6-loopback",
        f"{bundle.address} {' '.join(names)}",
        *(f"{address} {name}" for name, address in bundle.extra_hosts.items()),
    ]
    return "".join(f"{line}\n" for line in lines)


def resolv_conf(bundle: IdentityBundle) -> str:
    search = [f"search {bundle.search_domain}"] if bundle.search_domain else []
    servers = [f"nameserver {address}" for address in bundle.name_servers]
    return "".join(f"{line}\n" for line in (*search, *servers))


def own_files(bundle: IdentityBundle) -> tuple[Member, ...]:
    """The files of ours under root/, by the modes that their readers insist on: sshd takes no
    host key that others may read."""
    keys = "".join(f"{key}\n" for key in bundle.authorized_keys)
    return (
        Member(path="root/etc/hostname", content=f"{bundle.host_name}\n".encode()),
        Member(path="root/etc/hosts", content=hosts(bundle).encode()),
        Member(path="root/etc/machine-id", content=f"{bundle.machine_id}\n".encode(), mode=0o444),
        Member(path="root/etc/resolv.conf", content=resolv_conf(bundle).encode()),
        Member(
            path="root/etc/ssh/ssh_host_ed25519_key",
            content=bundle.ssh_host_key.encode(),
            mode=0o600,
        ),
        Member(
            path="root/etc/ssh/ssh_host_ed25519_key.pub",
            content=bundle.ssh_host_public_key.strip().encode() + b"\n",
        ),
        Member(path="root/root/.ssh/authorized_keys", content=keys.encode(), mode=0o600),
    )


def _root_members(bundle: IdentityBundle) -> Iterable[Member]:
    files = [*own_files(bundle), *map(_user_file, bundle.files)]
    parents = {str(parent) for file in files for parent in PurePosixPath(file.path).parents}
    for path in parents - {"."}:
        yield Member(path=path, content=None, mode=_OWN_DIRECTORIES.get(path, 0o755))
    yield from files


def _user_file(file: GuestFile) -> Member:
    return Member(
        path=f"root{file.path}",
        content=file.content,
        mode=file.mode,
        uid=file.uid,
        gid=file.gid,
    )


def _mount_members(bundle: IdentityBundle) -> Iterable[Member]:
    """`mounts`: a line "LABEL ro|rw TARGET" for each, the outer directory before the inner."""
    lines = [
        f"{mount.label} {'ro' if mount.read_only else 'rw'} {mount.target}\n"
        for mount in sorted(bundle.mounts, key=lambda mount: mount.target)
    ]
    if lines:
        yield Member(path="mounts", content="".join(lines).encode())


def _service_members(bundle: IdentityBundle) -> Iterable[Member]:
    """`service/`, for the guest's root only: the environment may hold secrets. Without a command
    all but `argv`: what a template's bundle says of stop signal and restarts holds for the forks
    of its guest, and a check runs as the image's user."""
    environment = (f"{name}={value}" for name, value in bundle.environment.items())
    contents = {
        "environment": _nul_terminated(environment),
        "user": bundle.user.encode(),
        "directory": bundle.working_dir.encode(),
        "stop-signal": str(signal_number(bundle.stop_signal)).encode(),
        "stop-seconds": str(bundle.stop_seconds).encode(),
        "restart": bundle.restart.encode(),
    }
    if bundle.argv:
        contents["argv"] = _nul_terminated(bundle.argv)
    yield Member(path="service", content=None, mode=0o700)
    for name, content in contents.items():
        yield Member(path=f"service/{name}", content=content, mode=0o600)


def _quoted(value: str) -> str:
    """Single quotes keep everything but themselves, line ends and backslashes included."""
    return "'" + value.replace("'", "'\\''") + "'"


def _nul_terminated(values: Iterable[str]) -> bytes:
    return b"".join(value.encode() + b"\0" for value in values)


def _tar(members: Iterable[Member]) -> bytes:
    """GNU form: busybox reads its long names, but not those of pax."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.GNU_FORMAT) as archive:
        for member in sorted(members, key=lambda m: m.path):
            archive.addfile(_header(member), io.BytesIO(member.content or b""))
    return buffer.getvalue()


def _header(member: Member) -> tarfile.TarInfo:
    info = tarfile.TarInfo(member.path)
    info.type = tarfile.DIRTYPE if member.content is None else tarfile.REGTYPE
    info.size = len(member.content or b"")
    info.mode = member.mode
    info.uid, info.gid = member.uid, member.gid
    info.mtime = _MTIME
    return info
