"""What Prometheus reads: parsed again by its own client, and hostile names."""

from __future__ import annotations

from prometheus_client.parser import text_string_to_metric_families

from tests.unit.metrics.looks import guest, look, subject, traffic
from vmorch.metrics.exposition import exposition
from vmorch.metrics.history import History
from vmorch.model.counters import TrafficCounters
from vmorch.model.use import HostUse

HOST = HostUse(at=12, cpus=4, busy_cpus=1.5, memory_bytes=8, available_bytes=4, merged_bytes=0)


def samples(history: History) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    text = exposition(history, "1.2").decode()
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def two_looks() -> History:
    history = History()
    history.take(look(10, guest(1.0), traffic=traffic(http=TrafficCounters(requests=5))))
    history.take(look(12, guest(2.0), traffic=traffic(http=TrafficCounters(requests=9)), host=HOST))
    return history


SERVICE = (("environment", "shop"), ("service", "web"))
INSTANCE = (("environment", "shop"), ("instance", "web-1"), ("service", "web"))


def test_counters_gauges_and_the_host() -> None:
    found = samples(two_looks())
    assert found["vmorch_instance_cpu_seconds_total", INSTANCE] == 1.0
    assert found["vmorch_instance_requests_total", INSTANCE] == 4.0
    assert found["vmorch_service_requests_total", SERVICE] == 4.0
    assert found["vmorch_service_ready_instances", SERVICE] == 1.0
    assert found["vmorch_service_desired_instances", SERVICE] == 3.0
    assert found["vmorch_host_busy_cpus", ()] == 1.5
    assert found["vmorch_last_sample_timestamp_seconds", ()] == 12.0
    assert found["vmorch_build_info", (("version", "1.2"),)] == 1.0


def test_every_source_that_can_fail_is_told_before_it_does() -> None:
    """A rate can only be had of a series that was there before."""
    history = History()
    history.take(look(10, guests=None, failed=["hypervisor"]))
    found = samples(history)
    failures = {
        dict(labels)["source"]: value
        for (name, labels), value in found.items()
        if name == "vmorch_sample_failures_total"
    }
    assert failures == {"hypervisor": 1.0, "proxy": 0.0, "host": 0.0}


def test_memory_is_used_of_what_the_guest_could_use() -> None:
    history = History()
    history.take(look(10, guest(1.0, used_bytes=60, usable_bytes=80)))
    found = samples(history)
    assert found["vmorch_instance_memory_used_bytes", INSTANCE] == 60.0
    assert found["vmorch_instance_memory_usable_bytes", INSTANCE] == 80.0


def test_what_is_unknown_is_not_written() -> None:
    found = samples(two_looks())
    assert ("vmorch_instance_memory_used_bytes", INSTANCE) not in found


def test_before_the_first_look() -> None:
    assert samples(History())["vmorch_samples_total", ()] == 0.0


def test_every_label_is_a_declared_name() -> None:
    """What a request or a guest says must not become a series."""
    labels = {name for _, pairs in samples(two_looks()) for name, _ in pairs}
    assert labels == {"environment", "service", "instance", "source", "version"}


def test_a_name_with_quotes_and_lines_stays_one_label() -> None:
    odd = 'a"b\\c\nd'
    history = History()
    history.take(look(10, subjects=[subject(environment=odd)], services={}))
    assert ("vmorch_service_instances", (("environment", odd), ("service", "web"))) in samples(
        history
    )
