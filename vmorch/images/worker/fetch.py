"""The process that fetches one URL: its content goes to stdout, what went wrong to stderr.

It runs as nobody, in the network that the job names: for a Dockerfile that of build steps, so
that a URL reaches what a RUN step reaches and nothing of the host. Started as
`main(PARENT_PID)` with the job on stdin.
"""

from __future__ import annotations

import json
import os
import socket
import ssl
import sys
import urllib.error
import urllib.request
from dataclasses import asdict, dataclass
from pathlib import Path

from vmorch.images.worker import kernel

_NOBODY = 65534
_CHUNK = 1 << 20
_IDLE_SECONDS = 60.0
_RESOLV_CONF = Path("/etc/resolv.conf")


@dataclass(frozen=True, slots=True, kw_only=True)
class FetchJob:
    """`namespace` is a path for setns, `resolv_conf` a file that works in it ("": as it is).
    `proxies` are variables such as HTTPS_PROXY. `certificates` is a bundle or "". No more than
    `limit_bytes` are fetched, which are `limit_reason`."""

    url: str
    namespace: str
    resolv_conf: str
    certificates: str
    proxies: dict[str, str]
    limit_bytes: int
    limit_reason: str

    def to_json(self) -> str:
        return json.dumps(asdict(self))


def main(parent: int) -> None:
    kernel.die_with_parent(parent)
    job = FetchJob(**json.loads(sys.stdin.read()))
    try:
        context = ssl.create_default_context(cafile=job.certificates or None)
        _enter(job)
        kernel.die_with_parent(parent)  # becoming nobody made the kernel forget it
        os.environ.update(job.proxies)
        _copy(job, context)
    except urllib.error.HTTPError as error:
        sys.exit(str(error))
    except (OSError, ValueError) as error:
        sys.exit(str(getattr(error, "reason", "") or error))


def _enter(job: FetchJob) -> None:
    if job.resolv_conf and _RESOLV_CONF.exists():
        kernel.unshare(kernel.CLONE_NEWNS)
        kernel.mount("none", "/", "", kernel.MS_REC | kernel.MS_PRIVATE)
        kernel.mount(job.resolv_conf, str(_RESOLV_CONF.resolve()), "", kernel.MS_BIND)
    kernel.join_namespace(job.namespace)
    os.setgroups([])
    os.setresgid(_NOBODY, _NOBODY, _NOBODY)
    os.setresuid(_NOBODY, _NOBODY, _NOBODY)


def _copy(job: FetchJob, context: ssl.SSLContext) -> None:
    # Only these: a redirection must not lead to file: or ftp:.
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(),
        urllib.request.HTTPHandler(),
        urllib.request.HTTPSHandler(context=context),
        urllib.request.HTTPRedirectHandler(),
        urllib.request.HTTPErrorProcessor(),
        urllib.request.HTTPDefaultErrorHandler(),
    ):
        opener.add_handler(handler)
    socket.setdefaulttimeout(_IDLE_SECONDS)
    with opener.open(job.url) as answer:
        expected, received = answer.headers.get("Content-Length"), 0
        _check(int(expected or 0), job)
        while data := answer.read(_CHUNK):
            received += len(data)
            _check(received, job)
            sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()
    if expected is not None and received != int(expected):
        raise OSError(f"the server ended after {received} of {expected} bytes")


def _check(count: int, job: FetchJob) -> None:
    if count > job.limit_bytes:
        raise OSError(f"it has more than {job.limit_bytes} bytes, {job.limit_reason}")
