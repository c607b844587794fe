"""The difference between the servers that should be and those that run, as commands. Pure.

`haproxy.py` sends them. Facts that forced the order: a dynamic server begins in maintenance with
its checks off, and only one in maintenance and without connections can be deleted. Additions go
before removals, so that there is always somewhere to go.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from vmorch.proxy.configuration import added_server
from vmorch.proxy.protocol import Backend, Server
from vmorch.proxy.running import RunningServer


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """One line about one `server` (BACKEND/NAME). `expected` is what a successful answer begins
    with; empty: it is empty. What is `later` may fail while connections remain, and is tried again
    by the next apply."""

    server: str
    text: str
    expected: str = ""
    later: bool = False

    def accepts(self, answer: str) -> bool:
        good = answer.startswith(self.expected) if self.expected else not answer
        return good or self.later


def changes(
    desired: tuple[Backend, ...], running: Mapping[str, Mapping[str, RunningServer]]
) -> list[Command]:
    """What makes `running` like `desired`. Backends that only one of them has are left alone."""
    found: list[Command] = []
    for backend in desired:
        found += _backend_changes(backend, running.get(backend.name, {}))
    return found


def _backend_changes(backend: Backend, running: Mapping[str, RunningServer]) -> list[Command]:
    wanted = {server.name: server for server in backend.servers}
    found: list[Command] = []
    for name, server in wanted.items():
        if server.closed:
            found += _closing(f"{backend.name}/{name}", running.get(name))
        elif name in running:
            found += _updates(backend, server, running[name])
        else:
            found += _additions(backend, server)
    for name, old in running.items():
        if name not in wanted:
            found += _removals(f"{backend.name}/{name}", old)
    return found


def _additions(backend: Backend, server: Server) -> Iterator[Command]:
    target = f"{backend.name}/{server.name}"
    words = added_server(server, backend)
    yield Command(
        server=target, text=f"add server {target} {words}", expected="New server registered"
    )
    if backend.check:
        yield Command(server=target, text=f"enable health {target}")
    yield _state(target, server)


def _updates(backend: Backend, server: Server, old: RunningServer) -> Iterator[Command]:
    target = f"{backend.name}/{server.name}"
    if (old.address, old.port) != (server.address, server.port):
        yield Command(
            server=target,
            text=f"set server {target} addr {server.address} port {server.port}",
            expected="IP changed" if old.address != server.address else "no need to change",
        )
    if old.weight != server.weight:
        yield Command(server=target, text=f"set weight {target} {server.weight}")
    if backend.check and not old.checked:
        yield Command(server=target, text=f"enable health {target}")
    if server.admitted != old.admitted or old.maintenance:
        yield _state(target, server)


def _closing(target: str, old: RunningServer | None) -> Iterator[Command]:
    """Maintenance comes last: it says that the sessions have been ended."""
    if old is not None and not old.maintenance:
        yield Command(server=target, text=f"set server {target} state drain")
        yield Command(server=target, text=f"shutdown sessions server {target}")
        yield Command(server=target, text=f"set server {target} state maint")


def _removals(target: str, old: RunningServer) -> Iterator[Command]:
    if not old.maintenance:
        yield Command(server=target, text=f"set server {target} state maint")
    yield Command(server=target, text=f"del server {target}", expected="Server deleted", later=True)


def _state(target: str, server: Server) -> Command:
    state = "ready" if server.admitted else "drain"
    return Command(server=target, text=f"set server {target} state {state}")
