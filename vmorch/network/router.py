"""Environments' networks made of namespaces: what `Network` promises, in the order that keeps
it safe at each step. Rules are in force before packets can flow, on the host as in the router.
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from vmorch.effects import Clock, Faults
from vmorch.model.instance import EnvironmentNetwork
from vmorch.model.names import Installation
from vmorch.network import dnsmasq, host, links
from vmorch.network.commands import nft
from vmorch.network.host import HostProblem, HostSide
from vmorch.network.links import Names
from vmorch.network.rules import router_rules
from vmorch.network.upstream import RESOLV_FILES, usable_servers


@dataclass(frozen=True, slots=True)
class _Applied:
    """What an environment's network was made to be, and how it looked then."""

    network: EnvironmentNetwork
    services: frozenset[str]
    fingerprint: tuple[object, ...]


class RouterNetwork:
    """`Network` on this host. `run_dir` gets a directory for each environment's dnsmasq; its
    unprivileged user must be able to pass through to it.

    Calls are carried out one after the other. Bridges, namespaces and dnsmasq outlive this
    object, which takes over what it finds.
    """

    def __init__(
        self,
        installation: Installation,
        run_dir: Path,
        *,
        outer_pool: str,
        clock: Clock,
        faults: Faults,
        resolv_files: Sequence[Path] = RESOLV_FILES,
    ) -> None:
        self._installation = installation
        self._run_dir = run_dir
        self._outer_pool = outer_pool
        self._clock = clock
        self._faults = faults
        self._resolv_files = resolv_files
        self._host = HostSide(installation)
        self._lock = asyncio.Lock()
        self._applied: dict[int, _Applied] = {}
        self._dns: dict[int, tuple[int, Path]] = {}

    async def ensure_host(self) -> None:
        async with self._lock:
            await self._mend_host()

    async def _mend_host(self) -> None:
        await asyncio.to_thread(self._host.ensure)
        await self._faults.at("network:host")

    async def ensure(self, network: EnvironmentNetwork, service_addresses: Sequence[str]) -> None:
        async with self._lock:
            # The last environment takes the host's rules along, perhaps since `ensure_host`.
            if not self._host.loaded:
                await self._mend_host()
            names = Names.of(self._installation, network.index)
            services = frozenset(service_addresses)
            wanted = _Applied(network, services, links.fingerprint(names))
            if wanted != self._applied.get(network.index):
                await self._apply(names, network, services)
            await self._ensure_dns(names, network)

    async def _apply(
        self, names: Names, network: EnvironmentNetwork, services: frozenset[str]
    ) -> None:
        self._applied.pop(network.index, None)
        running = await asyncio.to_thread(dnsmasq.running, names.namespace)
        resident = running[0][0] if running else None
        await asyncio.to_thread(links.ensure_namespace, names, resident)
        await self._faults.at("network:namespace")
        rules = router_rules(network, services, self._outer_pool)
        purpose = f"load the rules of {names.namespace}"
        await asyncio.to_thread(nft, rules, namespace=names.namespace, purpose=purpose)
        await self._faults.at("network:rules")
        await asyncio.to_thread(links.ensure_links, names, self._installation.id, network.index)
        await self._faults.at("network:links")
        await asyncio.to_thread(links.bring_up, names, network, services)
        await self._faults.at("network:up")
        self._applied[network.index] = _Applied(network, services, links.fingerprint(names))

    async def _ensure_dns(self, names: Names, network: EnvironmentNetwork) -> None:
        directory = self._run_dir / str(network.index)
        text = dnsmasq.config_text(network, directory)
        config = dnsmasq.config_file(directory, names.namespace, text)
        if not await asyncio.to_thread(self._dns_serves, network, config):
            await self._start_dns(names, network.index, config, text)

    def _dns_serves(self, network: EnvironmentNetwork, config: Path) -> bool:
        """Whether dnsmasq runs with this configuration; then it knows the present servers too.
        Blocking."""
        servers = () if network.internal else usable_servers(self._resolv_files)
        file = self._directory(network.index) / "servers"
        changed = dnsmasq.write_file(file, dnsmasq.servers_text(servers))
        known = self._dns.get(network.index)
        if known is None or known[1] != config or not dnsmasq.runs(*known):
            return False
        if changed:
            dnsmasq.reload(*known)
        return True

    async def _start_dns(self, names: Names, index: int, config: Path, text: str) -> None:
        """Take over a dnsmasq that runs with this configuration, else start one."""
        running = await asyncio.to_thread(dnsmasq.running, names.namespace)
        if [file for _, file in running] == [str(config)]:
            pid = running[0][0]
            # Its last daemon may have died between writing a file and telling it.
            await asyncio.to_thread(dnsmasq.reload, pid, config)
        else:
            await dnsmasq.stop(names.namespace, self._clock)
            await asyncio.to_thread(dnsmasq.write_files, config, text)
            await self._faults.at("network:dns")
            pid = await asyncio.to_thread(dnsmasq.start, names.namespace, config)
        self._dns[index] = pid, config

    def _directory(self, index: int) -> Path:
        directory = self._run_dir / str(index)
        directory.mkdir(parents=True, exist_ok=True)
        directory.chmod(0o755)
        return directory

    async def set_names(
        self, network: EnvironmentNetwork, records: Mapping[str, Sequence[str]]
    ) -> None:
        async with self._lock:
            text = dnsmasq.hosts_text(network.environment, records)
            await asyncio.to_thread(self._tell_names, network.index, text)

    def _tell_names(self, index: int, text: str) -> None:
        """Blocking."""
        changed = dnsmasq.write_file(self._directory(index) / "hosts", text)
        known = self._dns.get(index)
        if changed and known is not None:
            dnsmasq.reload(*known)

    async def remove(self, index: int) -> None:
        async with self._lock:
            names = Names.of(self._installation, index)
            self._applied.pop(index, None)
            self._dns.pop(index, None)
            await dnsmasq.stop(names.namespace, self._clock)
            await self._faults.at("network:dns-stopped")
            await asyncio.to_thread(links.remove, names)
            await self._faults.at("network:links-removed")
            with contextlib.suppress(FileNotFoundError):
                await asyncio.to_thread(shutil.rmtree, self._run_dir / str(index))
            if not await asyncio.to_thread(self._indices):
                await asyncio.to_thread(self._host.remove)

    async def present(self) -> Sequence[int]:
        return await asyncio.to_thread(self._indices)

    def _indices(self) -> list[int]:
        directories = self._run_dir.iterdir() if self._run_dir.is_dir() else ()
        made = {int(d.name) for d in directories if d.name.isdigit()}
        return sorted(made | links.indices(self._installation))

    async def taken_subnets(self) -> Sequence[str]:
        return await asyncio.to_thread(host.taken_subnets, self._installation)

    async def problems(self) -> Sequence[HostProblem]:
        """What on this host hinders environments' networks, for `doctor`. Changes nothing."""
        return await asyncio.to_thread(host.problems, self._installation)
