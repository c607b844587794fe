"""How soon a service that sleeps answers the first request.

`wake.seconds`: from the request to its answer (200) through the proxy, of a `tiny` guest whose
memory was saved. `wake.bare_seconds`: the bare resume, from the order to wake it until the daemon
says that it is awake, and it has answered a request of its own, asked without the proxy.
`wake.hold_overhead_seconds`: what a held request takes longer than that; of both without the resume
itself (from the order's being written down to the daemon's word), which is the same work in both
and varies by more than the hold costs. `wake.many_seconds`: until each of
50 requests that came at once was answered, `wake.many_failed` how many of them were not answered
with 200.
"""

from __future__ import annotations

import http.client
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path

from bench.figure import Figure
from bench.lab_daemon import LabDaemon, lab_daemon, made_bases
from vmorch.model.view.instance import InstanceView

ROUNDS = 10
MANY = 50
HOST = "web.nap.localhost"
PORT = 8080
LIMIT_SECONDS = 120.0
_COMPOSE = f"""
name: nap
services:
  web:
    build: .
    expose: [{PORT}]
    route: {{host: {HOST}}}
    healthcheck: {{test: ["HTTP", "/"], interval: 1s}}
    stop_grace_period: 2s
    deploy: {{resources: {{limits: {{cpus: "1", memory: 96M}}}}}}
    autoscale: {{min: 0, max: 1, idle: 1h, concurrency: 100}}
"""
_DOCKERFILE = f"""
FROM tiny
RUN mkdir -p /srv/www && echo awake >/srv/www/index.html
EXPOSE {PORT}
CMD ["httpd", "-f", "-p", "{PORT}", "-h", "/srv/www"]
"""


def run() -> Iterator[Figure]:
    with ExitStack() as stack:
        daemon = stack.enter_context(lab_daemon(made_bases("tiny")))
        project = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        (project / "compose.yaml").write_text(_COMPOSE)
        (project / "Dockerfile").write_text(_DOCKERFILE)
        daemon.cli("up", cwd=project)
        nap = Nap(daemon)
        held, bare = [], []
        for _ in range(ROUNDS):
            held.append(nap.held())
            bare.append(nap.bare())
        yield _seconds("wake.seconds", [wake.seconds for wake in held])
        yield _seconds("wake.bare_seconds", [wake.seconds for wake in bare])
        yield _overhead(held, bare)
        seconds, failed = nap.many()
        yield Figure(name="wake.many_seconds", value=seconds, unit="s")
        yield Figure(name="wake.many_failed", value=failed, unit="requests")


@dataclass(frozen=True, slots=True)
class Wake:
    """`resume_seconds` of `seconds` went by between the order and the daemon's word."""

    seconds: float
    resume_seconds: float

    @property
    def beside_resume_seconds(self) -> float:
        return self.seconds - self.resume_seconds


def _seconds(name: str, samples: list[float]) -> Figure:
    return Figure(name=name, value=statistics.median(samples), unit="s", samples=samples)


def _overhead(held: list[Wake], bare: list[Wake]) -> Figure:
    ours = [wake.beside_resume_seconds for wake in held]
    plain = statistics.median(wake.beside_resume_seconds for wake in bare)
    return Figure(
        name="wake.hold_overhead_seconds",
        value=statistics.median(ours) - plain,
        unit="s",
        samples=[seconds - plain for seconds in ours],
    )


class Nap:
    """A service of one instance, asleep between two measurements."""

    def __init__(self, daemon: LabDaemon) -> None:
        self._daemon = daemon

    def held(self) -> Wake:
        self._put_to_sleep()
        return self._wake(lambda: self._ask("127.0.0.1", self._daemon.settings.http_port))

    def bare(self) -> Wake:
        """Ordered as by hand, and asked at the guest's own address once it is awake."""
        self._put_to_sleep()
        address = self._instance().address

        def order_and_ask() -> None:
            asked = time.time()
            self._daemon.client.scale("nap", {"web": 1})
            self._event("instance-woken", asked)
            self._ask(address, PORT)

        return self._wake(order_and_ask)

    def _wake(self, work: Callable[[], None]) -> Wake:
        asked, began = time.time(), time.perf_counter()
        work()
        seconds = time.perf_counter() - began
        resumed = self._event("instance-woken", asked) - self._event("service-scaled", asked)
        return Wake(seconds, resumed)

    def _event(self, kind: str, since: float) -> float:
        """When it happened; waited for."""
        events = self._daemon.client.events(environment="nap", since=since, follow=True)
        return next(event.time for event in events if event.kind == kind)

    def _ask(self, address: str, port: int) -> None:
        status = _status(address, port, LIMIT_SECONDS)
        if status != 200:
            raise RuntimeError(f"The first request was answered with {status}.")

    def many(self) -> tuple[float, int]:
        self._put_to_sleep()
        port = self._daemon.settings.http_port
        began = time.perf_counter()
        with ThreadPoolExecutor(MANY) as pool:
            found = list(pool.map(lambda _: _status("127.0.0.1", port, LIMIT_SECONDS), range(MANY)))
        return time.perf_counter() - began, sum(status != 200 for status in found)

    def _put_to_sleep(self) -> None:
        _until(lambda: self._instance().state == "ready")
        self._daemon.client.scale("nap", {"web": 0})
        _until(lambda: self._instance().state == "sleeping")

    def _instance(self) -> InstanceView:
        [only] = self._daemon.client.instances("nap")
        return only


def _status(address: str, port: int, seconds: float) -> int:
    with closing(http.client.HTTPConnection(address, port, timeout=seconds)) as connection:
        connection.request("GET", "/", headers={"Host": HOST})
        return connection.getresponse().status


def _until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + LIMIT_SECONDS
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError("It never came true.")
        time.sleep(0.1)
