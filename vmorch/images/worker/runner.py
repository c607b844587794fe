"""RUN: the command in its own PID, mount, IPC, UTS, cgroup and network namespaces.

This process becomes PID 1 of the step. It holds nothing of the host by then: no descriptor but
the output, no capability beyond the list, a clean environment; calls that lead out of namespaces
are refused (`calls.py`), and the step cannot reach what it runs. When the command ends it ends,
and the kernel kills whatever the command left running.
"""

from __future__ import annotations

import fcntl
import os
import signal
import socket
import struct
from collections.abc import Sequence
from pathlib import Path

from vmorch.images.worker import calls, kernel, sandbox
from vmorch.images.worker.job import RunAction
from vmorch.images.worker.users import UnknownUser, account

# Docker's default set. Devices can be made (for the guest) and never opened: no mount allows it.
_CAPABILITIES = frozenset(
    {
        0,  # CHOWN
        1,  # DAC_OVERRIDE
        3,  # FOWNER
        4,  # FSETID
        5,  # KILL
        6,  # SETGID
        7,  # SETUID
        8,  # SETPCAP
        10,  # NET_BIND_SERVICE
        13,  # NET_RAW
        18,  # SYS_CHROOT
        27,  # MKNOD
        29,  # AUDIT_WRITE
        31,  # SETFCAP
    }
)
_SIOCGIFFLAGS = 0x8913
_SIOCSIFFLAGS = 0x8914
_IFF_UP = 0x1
# Where nothing bounds the memory of steps, the host's kernel ends one of them before a guest.
_ENDED_FIRST = "500"
_CANNOT_EXECUTE = 126
_NOT_FOUND = 127


def run(action: RunAction, root: Path, work: Path, files: list[str]) -> int:
    """Called in a fresh PID namespace. Returns the command's exit status; 128 + N for signal N."""
    _enter_groups(action.groups)
    kernel.unshare(
        kernel.CLONE_NEWNS | kernel.CLONE_NEWUTS | kernel.CLONE_NEWIPC | kernel.CLONE_NEWCGROUP
    )
    _enter_network(action.namespace)
    kernel.set_host_name("build")
    sandbox.enter(root, work, action, files)
    os.dup2(os.open("/dev/null", os.O_RDONLY), 0)
    os.dup2(1, 2)  # 2 was the way to the daemon
    os.closerange(3, os.sysconf("SC_OPEN_MAX"))
    kernel.filter_calls(calls.program())
    kernel.keep_capabilities(_CAPABILITIES)
    kernel.close_to_others()
    command = os.fork()
    if not command:
        _execute(action)
    return _reap(command)


def _enter_groups(groups: Sequence[str]) -> None:
    for entrance in groups:
        Path(entrance).write_text("0")  # whoever writes
    Path("/proc/self/oom_score_adj").write_text(_ENDED_FIRST)


def _enter_network(namespace: str) -> None:
    if namespace:
        kernel.join_namespace(namespace)
        return
    kernel.unshare(kernel.CLONE_NEWNET)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        request = struct.pack("16sH22x", b"lo", 0)
        flags = struct.unpack("16sH22x", fcntl.ioctl(control, _SIOCGIFFLAGS, request))[1]
        fcntl.ioctl(control, _SIOCSIFFLAGS, struct.pack("16sH22x", b"lo", flags | _IFF_UP))


def _reap(command: int) -> int:
    while True:
        ended, status = os.wait()
        if ended == command:
            code = os.waitstatus_to_exitcode(status)
            return code if code >= 0 else 128 - code


def _execute(action: RunAction) -> None:
    try:
        os.setsid()
        for number in (signal.SIGPIPE, signal.SIGXFSZ):  # Python ignores both
            signal.signal(number, signal.SIG_DFL)
        who = account(action.user or "0")
        os.chdir(action.working_dir)
        os.setgroups(who.groups)
        os.setresgid(who.gid, who.gid, who.gid)
        os.setresuid(who.uid, who.uid, who.uid)
        os.umask(0o022)
        argv = action.argv or (sandbox.SCRIPT,)
        environment = {"HOME": who.home, **_trust(action), **action.environment}
        os.execvpe(argv[0], argv, environment)
    except UnknownUser as error:
        _say(f"{error}\n")
    except FileNotFoundError as error:
        _say(f"{error.filename}: not found in the image\n")
        os._exit(_NOT_FOUND)
    except OSError as error:
        _say(f"cannot execute: {error}\n")
    finally:
        os._exit(_CANNOT_EXECUTE)


def _trust(action: RunAction) -> dict[str, str]:
    if not action.certificates:
        return {}
    return dict.fromkeys(sandbox.CERTIFICATE_VARIABLES, sandbox.CERTIFICATES)


def _say(text: str) -> None:
    os.write(1, text.encode(errors="replace"))
