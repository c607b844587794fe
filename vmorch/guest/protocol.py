"""What the daemon asks about the inside of a guest, and how a guest's identity looks.

The agent's calls come in through `AgentCall`, which the hypervisor gives.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from vmorch.model.guest import GuestReport
from vmorch.model.spec import RestartCondition

# (domain name, command, arguments, timeout_seconds) -> the agent's "return"
AgentCall = Callable[[str, str, dict[str, Any], float], Awaitable[Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class GuestFile:
    """A file to lay into the guest: secrets, configs. `path` is absolute."""

    path: str
    content: bytes
    mode: int = 0o444
    uid: int = 0
    gid: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class GuestMount:
    """A volume's disk to mount before the service starts: the one with this serial, which is
    also its file system's label, at the directory `target`."""

    label: str
    target: str
    read_only: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class IdentityBundle:
    """All that makes a guest this instance and no other (design.md, "Decided now", 4).

    `instance_id` changes with every bundle that should be applied anew, `cloud_instance_id` only
    where cloud-init should do its work for an instance anew. `argv` empty: the guest's own units
    are the service. `user` is name or number with optional `:group`.
    `random_seed` is 64 bytes for the kernel's generator. `prefix_length` goes with `address`.
    `restart` says when the guest itself starts a service again that ended; `stop_seconds`, at
    least 1, how long it lets the service end after `stop_signal`.
    """

    instance_id: str
    cloud_instance_id: str
    host_name: str
    machine_id: str
    mac: str
    address: str
    prefix_length: int
    gateway: str
    name_servers: tuple[str, ...]
    search_domain: str
    ssh_host_key: str
    ssh_host_public_key: str
    authorized_keys: tuple[str, ...]
    random_seed: bytes
    argv: tuple[str, ...] = ()
    environment: dict[str, str] = field(default_factory=dict)
    user: str = ""
    working_dir: str = "/"
    stop_signal: str = "SIGTERM"
    stop_seconds: int = 10
    restart: RestartCondition = RestartCondition.ANY
    extra_hosts: dict[str, str] = field(default_factory=dict)
    files: tuple[GuestFile, ...] = ()
    mounts: tuple[GuestMount, ...] = ()
    user_data: str | None = None


class Guests(Protocol):
    async def write_seed(self, path: Path, bundle: IdentityBundle) -> None:
        """Write the seed disk (1 MiB, mode 0600) by atomic rename."""
        ...

    async def report(self, domain: str, timeout_seconds: float) -> GuestReport:
        """Raises GuestError: the agent or the program does not answer."""
        ...

    async def become(
        self, domain: str, *, epoch: float, keep_service: bool, timeout_seconds: float
    ) -> None:
        """Make a fork, whose seed disk was exchanged, the instance that its seed describes: one
        call of its agent, which may come after a moment only. `epoch` is the time of this call;
        the guest's clock is set to it and what has passed since. Its service is restarted, or,
        with `keep_service`, goes on; one that the template did not run is started. Repeatable.

        Raises:
            GuestError: the agent does not come, or the guest could not become it, with its words.
        """
        ...

    async def wake(self, domain: str, *, epoch: float, timeout_seconds: float) -> None:
        """Tell a guest whose own RAM was resumed what time it is, in the same way.

        Raises:
            GuestError: the agent does not come, or the guest could not set its clock.
        """
        ...

    async def run(
        self, domain: str, argv: Sequence[str], timeout_seconds: float
    ) -> tuple[int, bytes]:
        """Run a command by the agent as root; its exit code and its output (both streams).

        Raises:
            GuestError: no agent, or no end in time.
        """
        ...

    async def run_as_service(
        self, domain: str, argv: Sequence[str], timeout_seconds: float
    ) -> tuple[int, bytes]:
        """Like `run`, with the service's user, directory and environment: for its checks."""
        ...
