"""HAProxy without vmorch: a configuration as one writes it by hand, and servers that only answer.

The servers are an HAProxy, too, so that they cost less than what is measured in front of them.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

_MINIMAL = """
global
    user haproxy
    group haproxy

defaults
    mode http
    timeout connect 5s
    timeout client 60s
    timeout server 60s

frontend web
    bind 127.0.0.1:{port}
    use_backend {host} if {{ hdr(host) -i {host} }}

backend {host}
    balance leastconn
    {servers}
"""

_ANSWERING = """
global
    nbthread 1
    user haproxy
    group haproxy

defaults
    mode http
    timeout client 60s

frontend answer
    {binds}
    http-request return status 200 content-type text/plain string "hello from a server\\n"
"""


def minimal(*, port: int, host: str, servers: Sequence[int]) -> str:
    """What leads `host` to servers on these ports of loopback, and does nothing else."""
    lines = (f"server s{number} 127.0.0.1:{number}" for number in servers)
    return _MINIMAL.format(port=port, host=host, servers="\n    ".join(lines))


def answering(ports: Sequence[int]) -> str:
    binds = (f"bind 127.0.0.1:{number}" for number in ports)
    return _ANSWERING.format(binds="\n    ".join(binds))


@contextmanager
def haproxy(text: str, file: Path) -> Iterator[int]:
    """Run HAProxy with this configuration; when it is entered, it listens. Its process id."""
    file.write_text(text)
    pid_file = file.with_suffix(".pid")
    subprocess.run(["haproxy", "-D", "-f", file, "-p", pid_file], check=True)
    try:
        yield int(pid_file.read_text())
    finally:
        subprocess.run(["kill", pid_file.read_text().strip()], check=True)
