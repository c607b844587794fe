"""`Proxy` by HAProxy: writes what should run, asks what runs, and closes the difference.

Nothing is remembered between calls but an answer's text; whatever was interrupted, by whom and
where, the next `apply` finds out from the worker and converges. Order of a change of structure:
candidate checked by `haproxy -c`, servers of the running worker brought up to date, addresses seen
to be free, file replaced, reload, new worker seen with the new marker. A change of servers only:
file replaced, commands.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import defaultdict
from collections.abc import (
    AsyncIterator,
    Awaitable,
    Callable,
    Collection,
    Iterable,
    Mapping,
    Sequence,
)
from dataclasses import replace
from itertools import chain, groupby
from operator import attrgetter
from typing import TypeVar

from vmorch.effects import Clock, Faults
from vmorch.errors import ProxyError
from vmorch.model.access import Access
from vmorch.model.counters import TrafficReport
from vmorch.proxy.access import RING, read_accesses, read_answer_times
from vmorch.proxy.admin import CommandLine, Unreachable
from vmorch.proxy.calls import calls
from vmorch.proxy.certificates import Certificates
from vmorch.proxy.changes import Command, changes
from vmorch.proxy.configuration import Rendered, render
from vmorch.proxy.counting import read_counters, read_traffic, with_leaving
from vmorch.proxy.endpoints import namespace_inodes, unavailable
from vmorch.proxy.holding import program
from vmorch.proxy.listening import missing, read_frontends, stale_namespaces
from vmorch.proxy.place import Place
from vmorch.proxy.process import Program, ended
from vmorch.proxy.protocol import ProxyConfig, ServerStatus
from vmorch.proxy.running import (
    Processes,
    RunningWorker,
    read_processes,
    read_status,
    read_worker,
)

T = TypeVar("T")

_POLL_SECONDS = 0.02
_RELOAD_SECONDS = 60.0
_ASK_AGAIN_SECONDS = 2.0
_ANSWER_SECONDS = 5.0
_LOOK_SECONDS = 1.0
_ACCESSES = f"show events {RING}"
_ALL_SERVERS = "show stat -1 4 -1"
_TRAFFIC = "show stat -1 6 -1"
_FRONTENDS = "show stat -1 1 -1"


class HAProxy:
    """One installation's HAProxy. Calls of `apply` and `stop` wait for each other."""

    def __init__(
        self, place: Place, *, clock: Clock, faults: Faults, binary: str = "haproxy"
    ) -> None:
        self._place = place
        self._clock = clock
        self._faults = faults
        self._program = Program(place, binary=binary)
        self._certificates = Certificates(place, clock)
        self._admin = CommandLine(place.admin_socket)
        self._master = CommandLine(place.master_socket)
        self._lock = asyncio.Lock()
        self._last: tuple[tuple[ProxyConfig, Mapping[str, int], str], Rendered] | None = None

    async def running(self) -> bool:
        return self._program.master() is not None

    async def apply(self, config: ProxyConfig) -> None:
        async with self._lock:
            wanted = self._render(config)
            worker = await self._worker() if self._program.master() else None
            if worker is None:
                await self._start(config, wanted)
            elif worker.marker != wanted.marker:
                await self._restructure(config, wanted, worker)
            else:
                await self._change_servers(config, wanted, worker)

    async def check(self, config: ProxyConfig) -> None:
        """Without TLS: certificates are not asked about, and to make them would be a change."""
        async with self._lock:
            plain = replace(config, tls=False)
            await self._checked(render(plain, self._place, namespaces=_inodes(plain)))

    async def status(self) -> Mapping[tuple[str, str], ServerStatus]:
        """Sessions of leaving workers count too: a drained server is idle when none has any."""
        async with self._lock:
            if self._program.master() is None:
                return {}
            try:
                found = read_status(await self._admin.told(_ALL_SERVERS))
            except Unreachable:  # it has just ended, or the next `apply` starts it anew
                return {}
            for other in await self._of_leaving(_ALL_SERVERS, read_status):
                for key in other.keys() & found.keys():
                    sessions = found[key].sessions + other[key].sessions
                    found[key] = replace(found[key], sessions=sessions)
            return found

    async def counters(self) -> TrafficReport | None:
        """Beside whatever else goes on: it only looks, and must not wait for a change to end. The
        worker is asked before the master: one that begins to leave in between is known by its id,
        and not counted twice."""
        if self._program.master() is None:
            return None
        try:
            report = read_counters(await self._patiently(self._asked_counters))
            leaving = (await self._patiently(self._processes)).leaving
        except Unreachable:
            if self._program.master() is None:
                return None
            raise
        others = (pid for pid in leaving if pid != report.life)
        return with_leaving(report, await self._asked_of(others, _TRAFFIC, read_traffic))

    async def _asked_counters(self) -> str:
        return await self._admin.told(f"show info;{_TRAFFIC}")

    async def _of_leaving(self, command: str, read: Callable[[str], T]) -> list[T]:
        """What leaving workers say, as far as they can be asked: they end at any moment."""
        with contextlib.suppress(ProxyError):
            return await self._asked_of((await self._processes()).leaving, command, read)
        return []

    async def _asked_of(
        self, workers: Iterable[int], command: str, read: Callable[[str], T]
    ) -> list[T]:
        found = []
        for pid in workers:
            with contextlib.suppress(ProxyError):
                found.append(read(await self._master.ask_worker(pid, command)))
        return found

    async def accesses(self) -> list[Access]:
        found = await self._logged(read_accesses)
        return sorted(chain.from_iterable(found), key=lambda line: line.time)

    async def answer_times(self) -> Mapping[tuple[str, str], Sequence[float]]:
        times: defaultdict[tuple[str, str], list[float]] = defaultdict(list)
        for found in await self._logged(read_answer_times):
            for owner, seconds in found.items():
                times[owner] += seconds
        return times

    async def _logged(self, read: Callable[[str], T]) -> list[T]:
        """What is read of each worker's log, the leaving ones' first."""
        async with self._lock:
            if self._program.master() is None:
                return []
            found = await self._of_leaving(_ACCESSES, read)
            with contextlib.suppress(Unreachable):
                found.append(read(await self._admin.ask(_ACCESSES)))
            return found

    def calls(self) -> AsyncIterator[str]:
        return calls(self._place.call_socket, self._place.user)

    async def wait_gone(self) -> None:
        while (pid := self._program.master()) is None:
            await self._clock.sleep(_LOOK_SECONDS)
        await ended(pid)

    async def stop(self) -> None:
        async with self._lock:
            await asyncio.to_thread(self._program.stop)

    # What should run, and what does

    def _render(self, config: ProxyConfig) -> Rendered:
        inodes = _inodes(config)
        hosts = [route.host for route in config.routes]
        tls = config.tls and self._place.https_port
        digest = self._certificates.ensure(hosts) if tls else ""
        inputs = (config, inodes, digest)
        if self._last is None or self._last[0] != inputs:
            rendered = render(config, self._place, namespaces=inodes, certificates=digest)
            self._last = (inputs, rendered)
        return self._last[1]

    async def _worker(self) -> RunningWorker | None:
        """What the worker runs; None when its command line is gone for good."""
        try:
            return await self._patiently(self._asked_worker)
        except Unreachable:
            return None

    async def _asked_worker(self) -> RunningWorker:
        return read_worker(await self._admin.ask("show info;show servers state"))

    async def _asked_frontends(self) -> str:
        return await self._admin.ask(_FRONTENDS)

    async def _processes(self) -> Processes:
        return read_processes(await self._master.told("show proc"))

    async def _patiently(self, ask: Callable[[], Awaitable[T]]) -> T:
        """Ask again while a master lives, for longer than a reload takes to hand sockets over.

        Raises:
            Unreachable: a socket is gone, or nothing runs.
        """
        deadline = self._clock.now() + _ANSWER_SECONDS
        while True:
            try:
                return await ask()
            except Unreachable:
                if self._program.master() is None or self._clock.now() > deadline:
                    raise
            await self._clock.sleep(_POLL_SECONDS)

    # Three ways to what is wanted

    async def _start(self, config: ProxyConfig, wanted: Rendered) -> None:
        await self._checked(wanted)
        self._write(wanted)
        await self._faults.at("proxy.written")
        try:
            await asyncio.to_thread(self._program.start)
        except ProxyError as error:
            raise await self._blocked(config, wanted) or error from error
        await self._faults.at("proxy.started")
        worker = await self._worker()
        if worker is None or worker.marker != wanted.marker:
            raise ProxyError("HAProxy was started but does not answer.", retryable=True)
        await self._run(changes(wanted.backends, worker.servers))

    async def _change_servers(
        self, config: ProxyConfig, wanted: Rendered, worker: RunningWorker
    ) -> None:
        self._write(wanted)
        commands = changes(wanted.backends, worker.servers)
        if not commands:
            return
        await self._faults.at("proxy.written")
        try:
            await self._run(commands)
        except ProxyError:
            # Whatever HAProxy had against a command, the file says all of it.
            await self._reload(config, wanted, worker)

    async def _restructure(
        self, config: ProxyConfig, wanted: Rendered, worker: RunningWorker
    ) -> None:
        await self._checked(wanted)
        # First what needs no reload: a port that cannot be had must not keep a ready instance
        # of another service from its traffic. Nor may it be tried: a reload that fails has the old
        # worker refuse every connection for about two seconds.
        for backend in wanted.backends:
            with contextlib.suppress(ProxyError):  # the worker may not know the backend yet
                await self._run(changes((backend,), worker.servers))
        held = read_frontends(await self._patiently(self._asked_frontends))
        if blocked := await self._blocked(config, wanted, held):
            raise blocked
        if stale := stale_namespaces(held, wanted.namespaces):
            worker = await self._without(stale, config, worker)
        await self._reload(config, wanted, worker)

    async def _without(
        self, stale: set[str], config: ProxyConfig, worker: RunningWorker
    ) -> RunningWorker:
        """Give up the listeners in `stale`. A new worker takes over every listener that has
        the same address and the same *name* of a namespace; those are in the old ones."""
        kept = tuple(item for item in config.listeners if item.namespace not in stale)
        await self._reload(config, self._render(replace(config, listeners=kept)), worker)
        return await self._worker() or worker

    async def _reload(self, config: ProxyConfig, wanted: Rendered, old: RunningWorker) -> None:
        """Replace worker `old`, and see that the new one runs what is wanted."""
        try:
            count = (await self._patiently(self._processes)).reloads
        except Unreachable:  # somebody removed its socket; only a new master makes it again
            return await self._start(config, wanted)
        before = self._written()
        self._write(wanted)
        await self._faults.at("proxy.written")
        try:
            worker = await self._replaced(count, old, wanted)
        except ProxyError as error:
            if before:
                self._replace_file(before)
            raise await self._blocked(config, wanted) or error from error
        return await self._run(changes(wanted.backends, worker.servers))

    async def _replaced(self, count: int, old: RunningWorker, wanted: Rendered) -> RunningWorker:
        """Have the master replace worker `old`. A master replaces itself at a reload, and once
        more after it; in between its socket comes and goes, and a command may be lost."""
        deadline = self._clock.now() + _RELOAD_SECONDS
        ask_again = 0.0
        while self._clock.now() < deadline:
            with contextlib.suppress(Unreachable):
                processes = await self._processes()
                if processes.reloads == count and self._clock.now() >= ask_again:
                    ask_again = self._clock.now() + _ASK_AGAIN_SECONDS
                    await self._master.ask("reload")
                    await self._faults.at("proxy.reloading")
                if processes.reloads > count and processes.failed:
                    raise ProxyError(
                        "HAProxy could not load the new configuration.",
                        hint="The configuration before it still runs.",
                        retryable=True,
                    )
                worker = await self._asked_worker()
                if worker.pid != old.pid and worker.marker == wanted.marker:
                    return worker
            await self._clock.sleep(_POLL_SECONDS)
        raise ProxyError(
            f"HAProxy's new worker was not there after {_RELOAD_SECONDS:g} s.", retryable=True
        )

    # Steps

    async def _run(self, commands: list[Command]) -> None:
        """Server by server, so that none is taken away after another could not be added. What is
        later goes by itself: a server in maintenance closes its idle connections in a moment."""
        for _, group in groupby(commands, key=attrgetter("server", "later")):
            about_one = list(group)
            answers = await self._admin.ask_each([command.text for command in about_one])
            for command, answer in zip(about_one, answers, strict=True):
                if not command.accepts(answer):
                    raise ProxyError(f"HAProxy refuses '{command.text}': {answer}", retryable=True)
            await self._faults.at("proxy.changed")

    async def _checked(self, wanted: Rendered) -> None:
        self._place.config_dir.mkdir(mode=0o711, parents=True, exist_ok=True)
        self._place.hold_program.write_text(program())
        candidate = self._place.candidate_file
        candidate.write_text(wanted.text)
        try:
            await asyncio.to_thread(self._program.check, candidate)
        finally:
            candidate.unlink(missing_ok=True)

    async def _blocked(
        self, config: ProxyConfig, wanted: Rendered, held: Collection[str] = ()
    ) -> ProxyError | None:
        """Whether an address is the reason why HAProxy does not start or reload, or would be for a
        worker that has the frontends `held`."""
        places = missing(replace(config, tls=wanted.tls), self._place, held, wanted.namespaces)
        own = self._program.processes()
        return await asyncio.to_thread(unavailable, places, own)

    def _written(self) -> str:
        try:
            return self._place.config_file.read_text()
        except FileNotFoundError:
            return ""

    def _write(self, wanted: Rendered) -> None:
        if self._written() != wanted.text:
            self._replace_file(wanted.text)

    def _replace_file(self, text: str) -> None:
        self._place.candidate_file.write_text(text)
        self._place.candidate_file.replace(self._place.config_file)


def _inodes(config: ProxyConfig) -> dict[str, int]:
    return namespace_inodes(item.endpoint for item in config.listeners)
