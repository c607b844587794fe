"""How builds reach the outside: the network of RUN steps, and the namespace packages come by."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class StepNetwork:
    """Where `RUN` steps of one build live: a network namespace (a path for setns) with NAT to
    the outside and no way to the host, and the resolv.conf that works in it ("": the host's).
    `namespace` None: no network at all, the step gets an empty namespace. Steps must not keep
    CAP_NET_ADMIN: with it they could take the filter away."""

    namespace: Path | None
    resolv_conf: str = ""


# Opened once per build that has RUN steps.
OpenStepNetwork = Callable[[], AbstractAsyncContextManager[StepNetwork]]

_OWN = Path("/proc/self/ns/net")


def host_network(netns: str) -> StepNetwork:
    """The network of whoever runs the daemon, loopback included: for what a user names on the
    command line, never for what a Dockerfile names. `netns` is Settings.outside_netns."""
    if not netns:
        return StepNetwork(namespace=_OWN)
    resolv_conf = Path(netns).parent / "resolv.conf"
    text = resolv_conf.read_text() if resolv_conf.exists() else ""
    return StepNetwork(namespace=Path(netns), resolv_conf=text)


# $1 is the resolv.conf that works in the outer namespace, if there is one.
_WITH_RESOLV_CONF = '[ ! -f "$1" ] || mount --bind "$1" /etc/resolv.conf; shift; exec "$@"'


def outside(netns: str, *command: str) -> tuple[str, ...]:
    """`command`, to be run where packages are fetched (Settings.outside_netns; "" is here).

    A resolv.conf beside the namespace's path is the one that works there: the command sees it
    in a mount namespace of its own.
    """
    if not netns:
        return command
    resolv_conf = str(Path(netns).parent / "resolv.conf")
    shell = ("unshare", "--mount", "sh", "-c", _WITH_RESOLV_CONF, "sh", resolv_conf)
    return ("nsenter", f"--net={netns}", *shell, *command)
