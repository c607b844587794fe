"""System calls that Python 3.11 does not offer. Every function raises OSError.

Numbers are those of Linux's generic table, which x86-64 and arm64 share for all of these.
"""

from __future__ import annotations

import ctypes
import os
import struct
from pathlib import Path

CLONE_NEWNS = 0x00020000
CLONE_NEWUTS = 0x04000000
CLONE_NEWIPC = 0x08000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000
CLONE_NEWCGROUP = 0x02000000

MS_RDONLY = 0x1
MS_NOSUID = 0x2
MS_NODEV = 0x4
MS_NOEXEC = 0x8
MS_REMOUNT = 0x20
MS_NOATIME = 0x400
MS_BIND = 0x1000
MS_MOVE = 0x2000
MS_REC = 0x4000
MS_SLAVE = 0x80000
MS_PRIVATE = 0x40000

MNT_DETACH = 2

_PR_SET_PDEATHSIG = 1
_PR_SET_DUMPABLE = 4
_PR_SET_SECCOMP = 22
_SECCOMP_MODE_FILTER = 2
_PR_CAPBSET_READ = 23
_PR_CAPBSET_DROP = 24
_SYS_OPENAT2 = 437
_RESOLVE_NO_MAGICLINKS = 0x02
_RESOLVE_IN_ROOT = 0x10
_CAPABILITY_VERSION_3 = 0x20080522

_libc = ctypes.CDLL(None, use_errno=True)


def _check(result: int, what: str) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
    return result


def unshare(flags: int) -> None:
    _check(_libc.unshare(flags), "unshare")


def join_namespace(path: str) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        _check(_libc.setns(descriptor, 0), f"setns {path}")
    finally:
        os.close(descriptor)


def mount(source: str, target: str, kind: str, flags: int, data: str = "") -> None:
    result = _libc.mount(
        os.fsencode(source),
        os.fsencode(target),
        kind.encode() or None,
        ctypes.c_ulong(flags),
        data.encode() or None,
    )
    _check(result, f"mount {target}")


def unmount(target: str, flags: int = 0) -> None:
    _check(_libc.umount2(os.fsencode(target), flags), f"umount {target}")


def pivot_root(new_root: str, put_old: str) -> None:
    number = {"x86_64": 155, "aarch64": 41}[os.uname().machine]
    result = _libc.syscall(number, os.fsencode(new_root), os.fsencode(put_old))
    _check(result, "pivot_root")


def die_with_parent(parent: int) -> None:
    """SIGKILL when the parent dies; at once when it died before we asked."""
    _check(_libc.prctl(_PR_SET_PDEATHSIG, 9, 0, 0, 0), "prctl PDEATHSIG")
    if os.getppid() != parent:
        os._exit(1)


def close_to_others() -> None:
    """No process without CAP_SYS_PTRACE may trace this one from now on, nor follow the links of
    its directory in /proc (exe, root, cwd, fd). What it executes later is open again."""
    _check(_libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0), "prctl DUMPABLE")


def filter_calls(program: bytes) -> None:
    """From now on every system call of this process and its children passes this BPF program.
    While it has CAP_SYS_ADMIN: it does without "no new privileges", which sudo would notice."""
    code = ctypes.create_string_buffer(program, len(program))
    filters = struct.pack("HxxxxxxP", len(program) // 8, ctypes.addressof(code))
    _check(_libc.prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, filters, 0, 0), "prctl SECCOMP")


def open_in_root(root: int, path: str, flags: int) -> int:
    """Open `path` as if the directory `root` were `/`: no symlink or `..` leads out of it."""
    how = struct.pack("QQQ", flags | os.O_CLOEXEC, 0, _RESOLVE_IN_ROOT | _RESOLVE_NO_MAGICLINKS)
    result = _libc.syscall(_SYS_OPENAT2, root, os.fsencode(path), how, len(how))
    return _check(result, f"open {path}")


def keep_capabilities(keep: frozenset[int]) -> None:
    """Drop every capability but these from the bounding set and from this process."""
    highest = int(Path("/proc/sys/kernel/cap_last_cap").read_text())
    for capability in range(highest + 1):
        if capability in keep or not _libc.prctl(_PR_CAPBSET_READ, capability, 0, 0, 0):
            continue
        _check(_libc.prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0), "drop capability")
    low = sum(1 << capability for capability in keep if capability < 32)
    high = sum(1 << (capability - 32) for capability in keep if capability >= 32)
    have = _own_capabilities()
    low, high = low & have[0], high & have[1]
    header = struct.pack("Ii", _CAPABILITY_VERSION_3, 0)
    data = struct.pack("6I", low, low, 0, high, high, 0)
    _check(_libc.capset(header, data), "capset")


def _own_capabilities() -> tuple[int, int]:
    header = struct.pack("Ii", _CAPABILITY_VERSION_3, 0)
    data = ctypes.create_string_buffer(24)
    _check(_libc.capget(header, data), "capget")
    _, low, _, _, high, _ = struct.unpack("6I", data.raw)
    return low, high


def sync_file_system(descriptor: int) -> None:
    """Write everything back; unlike umount this says when it could not, now or at any time since
    `descriptor` was opened."""
    _check(_libc.syncfs(descriptor), "what the step wrote cannot be written to the layer")


def set_host_name(name: str) -> None:
    encoded = name.encode()
    _check(_libc.sethostname(encoded, len(encoded)), "sethostname")
