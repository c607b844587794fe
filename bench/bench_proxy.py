"""What vmorch's HAProxy configuration costs, and whether its changes at run time are noticed.

`proxy.rps_ratio`, `proxy.p99_ratio`: requests per second and the 99th percentile of the latency
through vmorch's proxy, against a hand-written minimal configuration in front of the same servers
under the same load, alternating. `proxy.cpu_ratio`: HAProxy's CPU time per request of the same
loads, which depends less on what else the machine does. `proxy.failed`: requests that failed while
100 changes of servers (drained, taken away, added) were made under load; `proxy.change_seconds`:
how long the commands of a change took at HAProxy's socket, the median;
`proxy.slowest_change_seconds` of all.
"""

from __future__ import annotations

import asyncio
import statistics
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from itertools import cycle, islice
from pathlib import Path

import psutil

from bench import http_load, plain_proxy
from bench.figure import Figure
from bench.http_load import Load
from vmorch.effects import NoFaults, SystemClock
from vmorch.proxy.haproxy import HAProxy
from vmorch.proxy.place import Place
from vmorch.proxy.protocol import Backend, HttpRoute, Mode, ProxyConfig, Server

HOST = "web.shop.localhost"
BACKEND = "shop.web.80.http"
SERVERS = (18901, 18902, 18903, 18904)
PLAIN_PORT = 18910
OUR_PORT = 18911
CONNECTIONS = 32
SECONDS = 2
LIVES = 10
ROUNDS = 2
CHANGES = 100
CHANGES_SECONDS = 12


def run() -> Iterator[Figure]:
    with ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        stack.enter_context(
            plain_proxy.haproxy(plain_proxy.answering(SERVERS), scratch / "servers.cfg")
        )
        place = Place(config_dir=scratch / "c", run_dir=scratch / "r", http_port=OUR_PORT)
        yield from compared_loads(place, scratch / "plain.cfg")
        with ours(place):
            yield from changes_under_load(place)


@contextmanager
def ours(place: Place) -> Iterator[psutil.Process]:
    """Run vmorch's HAProxy; its worker."""
    proxy = HAProxy(place, clock=SystemClock(), faults=NoFaults())
    try:
        asyncio.run(proxy.apply(config(SERVERS)))
        [worker] = psutil.Process(int(place.pid_file.read_text())).children()
        yield worker
    finally:
        asyncio.run(proxy.stop())


@contextmanager
def plain(file: Path) -> Iterator[psutil.Process]:
    text = plain_proxy.minimal(port=PLAIN_PORT, host=HOST, servers=SERVERS)
    with plain_proxy.haproxy(text, file) as pid:
        yield psutil.Process(pid)


def config(admitted: Sequence[int], drained: Sequence[int] = ()) -> ProxyConfig:
    """One service behind one route, as a small environment has it."""
    servers = tuple(
        Server(
            name=f"web-{port}", id=port, address="127.0.0.1", port=port, admitted=port in admitted
        )
        for port in (*admitted, *drained)
    )
    return ProxyConfig(
        backends=(Backend(name=BACKEND, mode=Mode.HTTP, servers=servers, check=None),),
        routes=(HttpRoute(host=HOST, path="/", backend=BACKEND),),
    )


@dataclass(slots=True)
class Side:
    """One of the two proxies that are compared, and what each load of it came to."""

    port: int
    loads: list[Load] = field(default_factory=list)
    cpu_microseconds: list[float] = field(default_factory=list)

    def measure(self, process: psutil.Process) -> None:
        before = _cpu_seconds(process)
        load = http_load.result(_load(self.port, SECONDS))
        self.loads.append(load)
        used = _cpu_seconds(process) - before
        self.cpu_microseconds.append(1e6 * used / load.requests)

    @property
    def rates(self) -> list[float]:
        return [load.per_second for load in self.loads]

    @property
    def p99s(self) -> list[float]:
        return [load.p99_seconds for load in self.loads]


def compared_loads(place: Place, plain_file: Path) -> Iterator[Figure]:
    """Both in turn, each pair turned around, so that what else the machine does hits both. And
    with new processes every few rounds: two of one configuration differ by up to a tenth for as
    long as they live, by where their memory happens to lie."""
    mine, other = Side(OUR_PORT), Side(PLAIN_PORT)
    for _ in range(LIVES):
        with ours(place) as our_worker, plain(plain_file) as plain_one:
            pairs = [(mine, our_worker), (other, plain_one)]
            for number in range(ROUNDS):
                for side, process in pairs if number % 2 == 0 else reversed(pairs):
                    side.measure(process)
    yield _ratio("proxy.rps_ratio", "1/s", mine.rates, other.rates)
    yield _ratio("proxy.p99_ratio", "s", mine.p99s, other.p99s)
    yield _ratio("proxy.cpu_ratio", "us", mine.cpu_microseconds, other.cpu_microseconds)


def _cpu_seconds(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def _ratio(name: str, unit: str, ours: list[float], plain: list[float]) -> Figure:
    """The ratio is the median of the pairs': a machine that is slow for a while is so for both
    of a pair, but not for all rounds of one side."""
    ratios = [mine / other for mine, other in zip(ours, plain, strict=True)]
    return Figure(
        name=name,
        value=statistics.median(ours),
        unit=unit,
        baseline=statistics.median(plain),
        ratio=statistics.median(ratios),
        samples=ours,
    )


def changes_under_load(place: Place) -> Iterator[Figure]:
    watch = Stopwatch()
    proxy = HAProxy(place, clock=SystemClock(), faults=watch)
    load = _load(OUR_PORT, CHANGES_SECONDS)
    asyncio.run(_change(proxy, watch))
    failed = http_load.result(load).failed
    yield Figure(name="proxy.failed", value=failed, unit="requests")
    for name, of in (("change", statistics.median), ("slowest_change", max)):
        figure = f"proxy.{name}_seconds"
        yield Figure(name=figure, value=of(watch.seconds), unit="s", samples=watch.seconds)


async def _change(proxy: HAProxy, watch: Stopwatch) -> None:
    """Each server in turn is drained, taken away and added again. Spread over the load."""
    for config in islice(_changed_configs(), CHANGES):
        await proxy.apply(config)
        watch.stop()
        await asyncio.sleep(CHANGES_SECONDS / 2 / CHANGES)


def _changed_configs() -> Iterator[ProxyConfig]:
    for port in cycle(SERVERS):
        others = [other for other in SERVERS if other != port]
        yield config(others, drained=[port])
        yield config(others)
        yield config(SERVERS)


@dataclass(slots=True)
class Stopwatch:
    """Knows from the adapter's fault points when a change's first command is sent and when its
    last one has been answered: `seconds` of each change."""

    seconds: list[float] = field(default_factory=list)
    _began: float = 0.0
    _answered: float = 0.0

    async def at(self, point: str) -> None:
        if point == "proxy.written":
            self._began = time.perf_counter()
        self._answered = time.perf_counter()

    def stop(self) -> None:
        self.seconds.append(self._answered - self._began)


def _load(port: int, seconds: int) -> subprocess.Popen[str]:
    return http_load.start(
        f"http://127.0.0.1:{port}/", host=HOST, connections=CONNECTIONS, seconds=seconds
    )
