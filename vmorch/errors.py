"""Every error that vmorch raises on purpose, and how each leaves the program.

    VmorchError                  exit 1, HTTP 500
    ├── UsageError               exit 2, HTTP 400   the request itself is malformed
    ├── InvalidSpec              exit 3, HTTP 422   a vmorch file or Dockerfile has problems
    ├── NotFound                 exit 4, HTTP 404
    ├── DaemonUnreachable        exit 5             raised by the client only
    ├── TimedOut                 exit 6, HTTP 504
    ├── Refused                  exit 7, HTTP 409   conflict, capacity, unusable KVM
    ├── BuildFailed              exit 1, HTTP 500   a step of an image build failed
    ├── HypervisorError          exit 1, HTTP 502   libvirt or QEMU said no
    ├── NetworkError             exit 1, HTTP 502   ip, nft or dnsmasq said no
    ├── ProxyError               exit 1, HTTP 502   HAProxy said no
    ├── GuestError               exit 1, HTTP 502   a guest's agent or SSH said no
    └── StoreError               exit 1, HTTP 500   the database is damaged or too new

A library's own exceptions are wrapped where that library is called, nowhere else.
`retryable` says whether the same call may succeed later without anybody changing
anything; the reconciler decides on it, and on nothing else, whether to try again.
"""

from __future__ import annotations

import errno
from dataclasses import dataclass
from typing import Any, ClassVar


class VmorchError(Exception):
    """A failure with one line that says what happened and one that says what to do.

    `message` and `hint` are complete sentences without a final newline; `hint` may be empty.
    """

    code: ClassVar[str] = "failed"
    exit_code: ClassVar[int] = 1
    http_status: ClassVar[int] = 500

    def __init__(self, message: str, *, hint: str = "", retryable: bool = False) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.retryable = retryable

    def details(self) -> dict[str, Any]:
        """What a problem+json document carries beside message and hint."""
        return {}


class UsageError(VmorchError):
    code = "usage"
    exit_code = 2
    http_status = 400


@dataclass(frozen=True, slots=True)
class SpecProblem:
    """One mistake in a user's file. `line` and `column` count from 1; 0 when there is no place."""

    file: str
    line: int
    column: int
    path: str
    message: str

    def __str__(self) -> str:
        where = f"{self.file}:{self.line}:{self.column}" if self.line else self.file
        return f"{where}: {self.path}: {self.message}" if self.path else f"{where}: {self.message}"


class InvalidSpec(VmorchError):
    """All mistakes of all files at once, in the order of the files and lines."""

    code = "invalid-spec"
    exit_code = 3
    http_status = 422

    def __init__(self, problems: list[SpecProblem], *, hint: str = "") -> None:
        super().__init__("\n".join(map(str, problems)), hint=hint)
        self.problems = problems

    def details(self) -> dict[str, Any]:
        return {
            "problems": [
                {
                    "file": p.file,
                    "line": p.line,
                    "column": p.column,
                    "path": p.path,
                    "message": p.message,
                }
                for p in self.problems
            ]
        }


class NotFound(VmorchError):
    code = "not-found"
    exit_code = 4
    http_status = 404


class DaemonUnreachable(VmorchError):
    code = "daemon-unreachable"
    exit_code = 5


class TimedOut(VmorchError):
    code = "timed-out"
    exit_code = 6
    http_status = 504


class Refused(VmorchError):
    code = "refused"
    exit_code = 7
    http_status = 409


class BuildFailed(VmorchError):
    """A step failed. `file` and `line` name the instruction, `output` is the tail of its words."""

    code = "build-failed"

    def __init__(
        self, message: str, *, hint: str = "", file: str = "", line: int = 0, output: str = ""
    ) -> None:
        super().__init__(message, hint=hint)
        self.file = file
        self.line = line
        self.output = output

    def details(self) -> dict[str, Any]:
        return {"file": self.file, "line": self.line, "output": self.output}


class HypervisorError(VmorchError):
    code = "hypervisor"
    http_status = 502


class NetworkError(VmorchError):
    code = "network"
    http_status = 502


class ProxyError(VmorchError):
    code = "proxy"
    http_status = 502


class GuestError(VmorchError):
    code = "guest"
    http_status = 502


class StoreError(VmorchError):
    code = "store"


def of_the_disk(error: OSError) -> VmorchError:
    """A full or failing disk, which can show wherever a file is written: as an error that a user
    can act on. `retryable`, as room may come back."""
    where = f"{error.filename}: " if error.filename else ""
    full = error.errno in {errno.ENOSPC, errno.EDQUOT}
    return VmorchError(
        f"A file could not be written: {where}{error.strerror or error}.",
        hint="Make room: 'vmorch image prune' removes what nobody needs."
        if full
        else "Look at the disk of the state directory.",
        retryable=True,
    )
