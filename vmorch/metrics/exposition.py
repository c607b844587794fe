"""The history as Prometheus reads it: text format 0.0.4, by prometheus-client.

Names and labels are a promise to dashboards and alerts (docs/metrics.md lists them). Labels are
names that the user declared, and instances: nothing that a guest or a request could make up, so
that nobody else decides how many series there are. What is not known is not written.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from vmorch.metrics.history import History, ServiceTrack, Track
from vmorch.model.use import HostUse

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

Gauge = tuple[str, str, Callable[[Track], float | None]]

_GAUGES: tuple[Gauge, ...] = (
    ("ready", "1 while it gets traffic.", lambda t: float(t.subject.ready)),
    ("cpu_limit_cores", "Its CPU cap.", lambda t: t.subject.cpus),
    ("memory_limit_bytes", "The RAM that it has.", lambda t: t.subject.memory_bytes),
    ("memory_used_bytes", "Used, as the guest sees it.", lambda t: t.latest.used_bytes),
    (
        "memory_usable_bytes",
        "All that it could use, as it sees it.",
        lambda t: t.latest.usable_bytes,
    ),
    ("memory_resident_bytes", "RSS of its QEMU on the host.", lambda t: t.latest.rss_bytes),
    ("memory_proportional_bytes", "PSS of its QEMU on the host.", lambda t: t.latest.pss_bytes),
    ("memory_shared_bytes", "Pages that others hold, too.", lambda t: t.latest.shared_bytes),
    ("sessions", "Requests and connections in flight.", lambda t: t.latest.sessions),
    (
        "response_seconds",
        "Mean time of its last 1024 answers to their first byte.",
        lambda t: t.latest.response_seconds,
    ),
    (
        "response_slowest_seconds",
        "Its slowest first byte of an answer since the proxy was last reloaded.",
        lambda t: t.latest.slowest_seconds,
    ),
)

_COUNTERS: tuple[tuple[str, str, Callable[[Track], float]], ...] = (
    ("cpu_seconds", "Processor time used.", lambda t: t.totals.cpu_seconds),
    (
        "cpu_throttled_seconds",
        "Time for which the cap held threads back, over all processors.",
        lambda t: t.totals.throttled_seconds,
    ),
    ("storage_read_bytes", "Read from the host's storage.", lambda t: t.totals.read_bytes),
    ("storage_written_bytes", "Written to it.", lambda t: t.totals.written_bytes),
    ("network_received_bytes", "Received by the guest.", lambda t: t.totals.received_bytes),
    ("network_sent_bytes", "Sent by the guest.", lambda t: t.totals.sent_bytes),
    ("requests", "HTTP requests answered.", lambda t: t.totals.requests),
    ("errors", "Answers of 5xx, failed and broken connections.", lambda t: t.totals.errors),
)

_SERVICE_GAUGES: tuple[tuple[str, str, Callable[[ServiceTrack], float | None]], ...] = (
    ("desired_instances", "Instances that should be ready.", lambda s: float(s.desired)),
    ("instances", "Instances of any state.", lambda s: s.latest.instances),
    ("ready_instances", "Instances that get traffic.", lambda s: s.latest.ready),
    ("sessions", "Requests and connections in flight.", lambda s: s.latest.sessions),
    ("queued", "Requests that wait for an instance.", lambda s: s.latest.queued),
    (
        "response_seconds",
        "Mean time of the last 1024 answers to their first byte.",
        lambda s: s.latest.response_seconds,
    ),
)

_SERVICE_COUNTERS: tuple[tuple[str, str, Callable[[ServiceTrack], float]], ...] = (
    ("requests", "HTTP requests answered.", lambda s: s.totals.requests),
    ("errors", "Answers of 5xx, those of the proxy too.", lambda s: s.totals.errors),
    ("connections", "Connections and requests begun.", lambda s: s.totals.connections),
    ("cpu_seconds", "Processor time used.", lambda s: s.totals.cpu_seconds),
    (
        "memory_held_byte_seconds",
        "Memory really held (PSS, else RSS), times its time.",
        lambda s: s.totals.held_byte_seconds,
    ),
    (
        "memory_declared_byte_seconds",
        "Memory that the file asks for, times the time guests had it.",
        lambda s: s.totals.declared_byte_seconds,
    ),
)


def exposition(history: History, version: str) -> bytes:
    registry = CollectorRegistry()
    registry.register(_Collector(history, version))
    return generate_latest(registry)


class _Collector(Collector):
    def __init__(self, history: History, version: str) -> None:
        self._history = history
        self._version = version

    def describe(self) -> Iterable[Metric]:
        return ()

    def collect(self) -> Iterator[Metric]:
        history = self._history
        build = GaugeMetricFamily("vmorch_build_info", "The daemon's version.", labels=["version"])
        build.add_metric([self._version], 1.0)
        yield build
        yield from _sampling(history)
        if history.host is not None:
            yield from _host(history.host)
        yield from _services(history)
        yield from _instances(history)


def _sampling(history: History) -> Iterator[Metric]:
    yield CounterMetricFamily("vmorch_samples", "Looks at all measures.", value=history.ticks)
    failures = CounterMetricFamily(
        "vmorch_sample_failures", "Sources that a look could not ask.", labels=["source"]
    )
    for source in ("hypervisor", "proxy", "host"):
        failures.add_metric([source], history.failures.get(source, 0))
    yield failures
    if history.looked_at is not None:
        yield GaugeMetricFamily(
            "vmorch_last_sample_timestamp_seconds", "The last look.", value=history.looked_at
        )


def _host(host: HostUse) -> Iterator[Metric]:
    yield GaugeMetricFamily("vmorch_host_cpus", "Logical processors.", value=host.cpus)
    if host.busy_cpus is not None:
        yield GaugeMetricFamily(
            "vmorch_host_busy_cpus", "Processors in use by anybody.", value=host.busy_cpus
        )
    yield GaugeMetricFamily("vmorch_host_memory_bytes", "RAM.", value=host.memory_bytes)
    yield GaugeMetricFamily(
        "vmorch_host_memory_available_bytes",
        "RAM that new programs could have.",
        value=host.available_bytes,
    )
    yield GaugeMetricFamily(
        "vmorch_host_memory_merged_bytes",
        "RAM that the kernel saves by merging equal pages (KSM).",
        value=host.merged_bytes,
    )


def _services(history: History) -> Iterator[Metric]:
    labels = ["environment", "service"]
    for name, text, read in _SERVICE_GAUGES:
        gauge = GaugeMetricFamily(f"vmorch_service_{name}", text, labels=labels)
        for key, service in history.services.items():
            if (value := read(service)) is not None:
                gauge.add_metric(key, value)
        yield gauge
    for name, text, count in _SERVICE_COUNTERS:
        counter = CounterMetricFamily(f"vmorch_service_{name}", text, labels=labels)
        for key, service in history.services.items():
            counter.add_metric(key, count(service))
        yield counter


def _instances(history: History) -> Iterator[Metric]:
    labels = ["environment", "service", "instance"]
    tracks = history.instances.values()
    rows = [((t.subject.environment, t.subject.service, t.subject.name), t) for t in tracks]
    for name, text, read in _GAUGES:
        gauge = GaugeMetricFamily(f"vmorch_instance_{name}", text, labels=labels)
        for key, track in rows:
            if (value := read(track)) is not None:
                gauge.add_metric(key, value)
        yield gauge
    for name, text, count in _COUNTERS:
        counter = CounterMetricFamily(f"vmorch_instance_{name}", text, labels=labels)
        for key, track in rows:
            counter.add_metric(key, count(track))
        yield counter
