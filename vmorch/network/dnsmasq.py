"""One dnsmasq per environment: its files as text, its process by its arguments.

The files: `NAMESPACE.DIGEST.conf`, which only a restart changes; `hosts` and `servers`, which
dnsmasq reads anew on SIGHUP. The configuration's digest is part of its name, so that a process's
arguments tell whose it is and whether it runs with what we want now, whichever daemon started
it. The name begins with the installation's id: a lab's dnsmasq has the same paths as ours.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import signal
from collections.abc import Mapping, Sequence
from ipaddress import IPv4Address
from pathlib import Path

from vmorch.effects import Clock
from vmorch.errors import NetworkError
from vmorch.model.addresses import gateway, search_domain
from vmorch.model.instance import EnvironmentNetwork
from vmorch.network.commands import entering, run

_OPTION = "--conf-file="
_POLL_SECONDS = 0.01
_PATIENCE = 200


def config_text(network: EnvironmentNetwork, directory: Path) -> str:
    """The configuration: no DHCP, nothing of the host's files, our names and nobody else's.

    A query that names no domain, or one of our domain or subnet, is answered here at once and
    never forwarded: services ask for their own name and address when they start, and each of
    them would wait for seconds.
    """
    reverse = ".".join(reversed(network.inner.split(".")[:3])) + ".in-addr.arpa"
    return "\n".join(
        [
            "user=nobody",
            "group=nogroup",
            "pid-file=",
            f"listen-address={gateway(network)}",
            "bind-interfaces",
            "no-hosts",
            "no-resolv",
            f"addn-hosts={directory / 'hosts'}",
            f"servers-file={directory / 'servers'}",
            "bogus-priv",
            "local=//",
            f"local=/{search_domain(network.environment)}/",
            f"local=/{reverse}/",
            "local-ttl=1",
            "max-cache-ttl=60",
            "",
        ]
    )


def hosts_text(environment: str, records: Mapping[str, Sequence[str]]) -> str:
    """A hosts file. A name without a dot gets the environment's domain too, and that form
    first: the reverse of an address is its full name."""
    lines = []
    for name, addresses in sorted(records.items()):
        full = name if "." in name else f"{name}.{search_domain(environment)} {name}"
        lines += [f"{a} {full}" for a in sorted(addresses, key=IPv4Address)]
    return "".join(f"{line}\n" for line in lines)


def servers_text(servers: Sequence[str]) -> str:
    """Whom to forward to. With nobody, every other name is denied: left alone, dnsmasq would
    refuse, even the IPv6 address of a name it has an IPv4 one for, and resolvers try again."""
    if not servers:
        return "server=/#/\n"
    return "".join(f"server={server}\n" for server in servers)


def config_file(directory: Path, namespace: str, text: str) -> Path:
    digest = hashlib.sha256(text.encode()).hexdigest()[:12]
    return directory / f"{namespace}.{digest}.conf"


def runs(pid: int, config: Path) -> bool:
    """Whether this process is dnsmasq with exactly this configuration."""
    return _configuration_of(pid) == str(config)


def running(namespace: str) -> list[tuple[int, str]]:
    """(process, configuration file) of each dnsmasq that was started for a namespace of ours."""
    found = []
    for entry in os.listdir("/proc"):  # noqa: PTH208 - Path.iterdir takes ten times longer
        file = _configuration_of(int(entry)) if entry.isdigit() else None
        if file and Path(file).name.startswith(f"{namespace}."):
            found.append((int(entry), file))
    return found


def _configuration_of(pid: int) -> str | None:
    """Empty arguments are those of a zombie: it has ended."""
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")
    except OSError:
        return None
    if not words[0].endswith("dnsmasq"):
        return None
    return next((w[len(_OPTION) :] for w in words if w.startswith(_OPTION)), None)


def start(namespace: str, config: Path) -> int:
    """Start dnsmasq in the namespace; it detaches and outlives us. Returns its process id.

    Raises:
        NetworkError: it refused, or ended at once.
    """
    words = [*entering(namespace), "dnsmasq", f"{_OPTION}{config}"]
    run(words, purpose=f"start the name server of {namespace}")
    for pid, file in running(namespace):
        if file == str(config):
            return pid
    raise NetworkError(f"The name server of {namespace} ended at once.", retryable=True)


def reload(pid: int, config: Path) -> None:
    """Let dnsmasq read its names and servers anew. Gone: the next start reads them."""
    if runs(pid, config):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGHUP)


async def stop(namespace: str, clock: Clock) -> None:
    """End every dnsmasq of the namespace, and return when they have ended.

    Raises:
        NetworkError: one of them does not end.
    """
    for number in (signal.SIGTERM, signal.SIGKILL):
        for pid, _ in await asyncio.to_thread(running, namespace):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
        for _ in range(_PATIENCE):
            if not await asyncio.to_thread(running, namespace):
                return
            await clock.sleep(_POLL_SECONDS)
    raise NetworkError(f"The name server of {namespace} does not end.", retryable=True)


def write_files(config: Path, text: str) -> None:
    """Write the configuration in the place of older ones, and names if there are none yet."""
    for old in config.parent.glob("*.conf"):
        old.unlink()
    write_file(config, text)
    if not (config.parent / "hosts").exists():
        write_file(config.parent / "hosts", "")


def write_file(path: Path, text: str) -> bool:
    """Write by rename, readable for dnsmasq's user; whether that changed anything."""
    with contextlib.suppress(FileNotFoundError):
        if path.read_text() == text:
            return False
    fresh = path.with_name(f".{path.name}.new")
    fresh.write_text(text)
    fresh.chmod(0o644)
    fresh.rename(path)
    return True
