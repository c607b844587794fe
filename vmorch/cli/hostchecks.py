"""What `vmorch doctor` can find out by itself, without a daemon."""

from __future__ import annotations

import os
import shutil
import socket
from importlib.util import find_spec
from pathlib import Path

from vmorch.config import Settings
from vmorch.model.view import Check

# program -> the Debian package that has it
PROGRAMS = {
    "qemu-system-x86_64": "qemu-system-x86",
    "qemu-img": "qemu-utils",
    "qemu-storage-daemon": "qemu-system-common",
    "haproxy": "haproxy",
    "dnsmasq": "dnsmasq-base",
    "nft": "nftables",
    "ip": "iproute2",
    "mmdebstrap": "mmdebstrap",
    "mke2fs": "e2fsprogs",
    "unshare": "util-linux",
}
DEVICES = {"/dev/fuse": "fuse", "/dev/loop-control": "loop"}
_LEAST_FREE_BYTES = 5 * 1024**3
_LIBVIRT_SOCKETS = ("libvirt-sock", "virtqemud-sock")
_SBIN = ("/usr/local/sbin", "/usr/sbin", "/sbin")


def host_checks(settings: Settings, *, daemon_runs: bool) -> list[Check]:
    """Each finding about this host. Reads and probes only; changes nothing."""
    checks = [*map(_program, PROGRAMS), _libvirt_binding(), _kvm(settings)]
    checks += [_device(path) for path in DEVICES]
    checks += [_libvirt_socket(settings), _state_dir(settings), _group(settings)]
    if not daemon_runs:
        ports = ("http_port", "https_port")
        checks += [_port(settings, name) for name in ports if getattr(settings, name)]
    return checks


def _program(name: str) -> Check:
    path = os.pathsep.join((os.environ.get("PATH", ""), *_SBIN))
    found = shutil.which(name, path=path)
    hint = "" if found else f"Install it: apt-get install {PROGRAMS[name]}."
    return Check(name=name, ok=bool(found), message=found or "not installed", hint=hint)


def _libvirt_binding() -> Check:
    ok = find_spec("libvirt") is not None
    return Check(
        name="libvirt-python",
        ok=ok,
        message="importable" if ok else "not importable",
        hint="" if ok else "Install it into vmorch's environment: pip install libvirt-python.",
    )


def _kvm(settings: Settings) -> Check:
    usable = os.access("/dev/kvm", os.R_OK | os.W_OK)
    if usable:
        message = "/dev/kvm can be opened; the daemon tries whether it runs a kernel"
        return Check(name="kvm", ok=True, message=message)
    why = "may not be opened" if Path("/dev/kvm").exists() else "is not there"
    return Check(
        name="kvm",
        ok=settings.accel != "kvm",
        message=f"/dev/kvm {why}: guests run under TCG, some ten times slower",
        hint="Enable virtualisation in the firmware (or nested, in a guest); modprobe kvm_intel "
        "or kvm_amd.",
    )


def _device(path: str) -> Check:
    ok = Path(path).exists()
    return Check(
        name=path,
        ok=ok,
        message="there" if ok else "missing: images cannot be built",
        hint="" if ok else f"Load the module: modprobe {DEVICES[path]}.",
    )


def _libvirt_socket(settings: Settings) -> Check:
    if settings.libvirt_uri != "qemu:///system":
        return Check(name="libvirt", ok=True, message=f"{settings.libvirt_uri}: not probed")
    tries = [_connectable(Path("/run/libvirt") / name) for name in _LIBVIRT_SOCKETS]
    best = next((t for t in tries if t is True), tries[0])
    return Check(
        name="libvirt",
        ok=best is True,
        message="answers" if best is True else f"does not answer: {best}",
        hint="" if best is True else "Start it: systemctl start libvirtd (or: libvirtd -d).",
    )


def _connectable(path: Path) -> bool | str:
    """True, or why not."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(3.0)
        try:
            probe.connect(str(path))
        except OSError as error:
            return f"{path}: {error.strerror or error}"
    return True


def _state_dir(settings: Settings) -> Check:
    directory = settings.state_dir
    there = directory
    while not there.exists():
        there = there.parent
    free = shutil.disk_usage(there).free
    writable = os.access(there, os.W_OK | os.X_OK)
    enough = free >= _LEAST_FREE_BYTES
    return Check(
        name="state-directory",
        ok=writable and enough,
        message=f"{directory}: {free / 1024**3:.1f} GiB free"
        + ("" if writable else ", not writable for you"),
        hint=""
        if writable and enough
        else "The daemon needs to write there (run it as root) and some 5 GiB of room; "
        "'state_dir' in the settings moves it.",
    )


def _group(settings: Settings) -> Check:
    import grp

    try:
        grp.getgrnam(settings.group)
    except KeyError:
        return Check(
            name="group",
            ok=True,
            message=f"there is no group '{settings.group}': only root may use the daemon",
            hint=f"To let others: groupadd --system {settings.group}; gpasswd -a USER ….",
        )
    return Check(name="group", ok=True, message=f"members of '{settings.group}' may use the daemon")


def _port(settings: Settings, name: str) -> Check:
    """Whether `name`, one of the settings http_port and https_port, can be listened on."""
    port = getattr(settings, name)
    where = f"{settings.http_address}:{port}"
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((settings.http_address, port))
        except OSError as error:
            return Check(
                name=name.replace("_", "-"),
                ok=False,
                message=f"{where} cannot be used: {error.strerror}",
                hint=f"End what listens there (ss -ltnp), or set another '{name}'.",
            )
    return Check(name=name.replace("_", "-"), ok=True, message=f"{where} is free")
