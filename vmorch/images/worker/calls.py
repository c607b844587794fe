"""What the kernel does not do for a RUN step, whatever its user: system calls that lead out of
namespaces, as they know none, or into new ones, where a step would be root again.

A user namespace would give back every capability: with it a step mounts the cgroup that the
daemon is in, and freezes or kills it. Keyrings belong to the host's users, vsock reaches the
host and its guests, the kernel's log is the host's. The others are doors that builds do not need.

Flushes succeed and do nothing: a layer counts for nothing before the daemon has synced it whole,
and package managers flush each file.

A classic BPF program (Linux, Documentation/userspace-api/seccomp_filter.rst). Programs for the
processor's 32-bit mode have tables of their own. What stays open there: sockets of any family by
i386's `socketcall`, whose arguments lie in memory.
"""

from __future__ import annotations

import errno
import struct

_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_NUMBER, _ARCHITECTURE, _FIRST_ARGUMENT = 0, 4, 16
_ALLOW = 0x7FFF0000
_SUCCEED = 0x00050000
_DENY = 0x00050000 | errno.EPERM
_UNKNOWN = 0x00050000 | errno.ENOSYS
_X32 = 0x40000000
_NEW_USER = 0x10000000
_VSOCK = 40

_RING = (425, 426, 427)  # io_uring, by one number everywhere, as is
_CLONE3 = 435  # whose flags lie in memory: told that it is not there, libc takes clone

# AUDIT_ARCH -> syslog, add_key, request_key, keyctl, perf_event_open, bpf, userfaultfd;
# sync, fsync, fdatasync, syncfs; then unshare, clone and socket.
_TABLES = {
    0xC000003E: ((103, 248, 249, 250, 298, 321, 323), (162, 74, 75, 306), 272, 56, 41),  # x86-64
    0x40000003: ((103, 286, 287, 288, 336, 357, 374), (36, 118, 148, 344), 310, 120, 359),  # i386
    0xC00000B7: ((116, 217, 218, 219, 241, 280, 282), (81, 82, 83, 267), 97, 220, 198),  # arm64
    0x40000028: ((103, 309, 310, 311, 364, 386, 388), (36, 118, 148, 373), 337, 120, 281),  # arm
}


def program() -> bytes:
    """An array of struct sock_filter."""
    code = [_line(_LOAD, _ARCHITECTURE)]
    for architecture, (denied, flushes, unshare, clone, socket) in _TABLES.items():
        block = [_line(_LOAD, _NUMBER)]
        block += [_line(_AT_LEAST, _X32, no=1), _line(_RETURN, _UNKNOWN)]
        block += [_line(_EQUAL, _CLONE3, no=1), _line(_RETURN, _UNKNOWN)]
        for number in (*denied, *_RING):
            block += [_line(_EQUAL, number, no=1), _line(_RETURN, _DENY)]
        for number in flushes:
            block += [_line(_EQUAL, number, no=1), _line(_RETURN, _SUCCEED)]
        for number, test, value in (
            (unshare, _ANY_BIT, _NEW_USER),
            (clone, _ANY_BIT, _NEW_USER),
            (socket, _EQUAL, _VSOCK),
        ):
            block += [
                _line(_EQUAL, number, no=4),
                _line(_LOAD, _FIRST_ARGUMENT),
                _line(test, value, no=1),
                _line(_RETURN, _DENY),
                _line(_RETURN, _ALLOW),
            ]
        block.append(_line(_RETURN, _ALLOW))
        code += [_line(_EQUAL, architecture, no=len(block)), *block]
    return b"".join([*code, _line(_RETURN, _DENY)])


def _line(operation: int, value: int, *, no: int = 0) -> bytes:
    """`no`: how many lines a test that fails skips."""
    return struct.pack("=HBBI", operation, 0, no, value)
